//! Real text through the real commands: the project's own sources.

use std::collections::HashSet;
use std::path::Path;
use std::time::{Duration, Instant};

use mq_core::MessageId;
use mq_nsq::client::Connection;
use mq_tests::{Broker, mq_with_input, root, until};

use crate::clients::{create_channel, next, subscribe};

/// The oldest finish that a `kill -9` may take back is 100 ms old; the rest is the machine's slack.
const FINISHES_ARE_KEPT_AFTER: Duration = Duration::from_millis(500);

/// Every line of every source file and page, those without a character left out, as `mq pub` does.
fn own_lines() -> Vec<String> {
    let mut files = Vec::new();
    collect(&root(), &mut files);
    files.sort();
    let texts = files.iter().map(|file| std::fs::read_to_string(file).unwrap());
    texts
        .flat_map(|text| text.split('\n').map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| !line.is_empty())
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            if !name.starts_with('.') && name != "target" && name != "node_modules" {
                collect(&entry.path(), files);
            }
        } else if name.ends_with(".rs") || name.ends_with(".md") {
            files.push(entry.path());
        }
    }
}

fn publish(broker: &Broker, lines: &[String]) {
    let mut input = lines.join("\n").into_bytes();
    // Half of the runs end without a newline: the last line counts all the same.
    if lines.len().is_multiple_of(2) {
        input.push(b'\n');
    }
    let run = mq_with_input(&["pub", "--topic", "sources", "--tcp-address", broker.address()], &input);
    assert!(run.stderr.contains(&format!("{} messages acknowledged", lines.len())), "{}", run.stderr);
    run.ok();
}

/// Output of a channel: bodies in order of their first delivery.
#[derive(Default)]
struct Output {
    lines: Vec<String>,
    seen: HashSet<MessageId>,
    /// Finished so long before the kill that they must not come again.
    settled: HashSet<MessageId>,
    again: usize,
}

impl Output {
    async fn take(&mut self, consumer: &mut Connection, lines: usize) {
        while self.lines.len() < lines {
            let message = next(consumer).await;
            consumer.finish(message.id);
            assert!(!self.settled.contains(&message.id), "a finished message came again");
            if self.seen.insert(message.id) {
                self.lines.push(String::from_utf8(message.body.to_vec()).unwrap());
            } else {
                self.again += 1;
            }
        }
    }
}

#[tokio::test]
async fn both_channels_get_every_line_in_order_through_a_kill() {
    let input = own_lines();
    assert!(input.len() > 2_000, "only {} lines", input.len());
    let (first, second) = input.split_at(input.len() / 2);
    let mut broker = Broker::start();
    for channel in ["a", "b"] {
        create_channel(&broker, "sources", channel).await;
    }
    publish(&broker, first);

    // Channel a is in the middle when the broker dies, b has not begun.
    let (mut a, mut b) = (Output::default(), Output::default());
    let mut consumer = subscribe(&broker, "sources", "a", 100).await;
    a.take(&mut consumer, first.len() / 2).await;
    consumer.flush().await.unwrap();
    a.settled = a.seen.clone();
    let settled = Instant::now();
    until("finishes to be a while old", || (settled.elapsed() > FINISHES_ARE_KEPT_AFTER).then_some(()));
    a.take(&mut consumer, first.len() * 3 / 4).await;
    consumer.flush().await.unwrap();
    let late = a.seen.len() - a.settled.len();
    broker.kill();
    broker.restart();

    publish(&broker, second);
    for (channel, output) in [("a", &mut a), ("b", &mut b)] {
        let mut consumer = subscribe(&broker, "sources", channel, 100).await;
        output.take(&mut consumer, input.len()).await;
        assert!(crate::clients::is_quiet(&mut consumer).await, "channel {channel} has more than the input");
        assert_eq!(output.lines, input, "channel {channel}");
    }
    // What was in flight is not counted: it was not finished.
    assert!(a.again <= late, "{} came again, {late} were finished last", a.again);
    assert_eq!(b.again, 0);
}
