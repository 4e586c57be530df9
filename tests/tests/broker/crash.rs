//! `kill -9` under load, held against a ledger of what was acknowledged.

use std::collections::{BTreeSet, HashSet};

use mq_core::MessageId;
use mq_nsq::client::{Connection, Message};
use mq_tests::{Broker, PATIENCE};
use tokio::sync::watch;

use crate::clients::{connect, create_channel, subscribe, topic};

/// More by `MQ_KILL_ROUNDS`.
const ROUNDS: usize = 3;
const BATCH: u64 = 5;
/// Messages unanswered at once.
const UNANSWERED: u64 = 20;
/// Most acknowledged messages of a round before its kill.
const KILL_AFTER_MAX: u64 = 10_000;

/// Publishes rising numbers in batches until the broker dies, and shows in `progress` how many were
/// acknowledged. Returns the acknowledged numbers, and the first number that was not sent.
async fn publish(
    mut connection: Connection,
    first: u64,
    progress: watch::Sender<u64>,
) -> (BTreeSet<u64>, u64) {
    let mut next = first;
    loop {
        let bodies: Vec<String> = (next..next + BATCH).map(|n| n.to_string()).collect();
        next += BATCH;
        if connection.publish_batch(&topic("load"), &bodies).await.is_err() {
            break;
        }
        if connection.unanswered() >= UNANSWERED && connection.flush().await.is_err() {
            break;
        }
        progress.send_replace(connection.acknowledged());
    }
    // Until the connection ends: takes in the answers that are still to come.
    connection.drive().await;
    // Answers come in the order of the commands.
    ((first..first + connection.acknowledged()).collect(), next)
}

/// Messages that one channel has delivered, over all rounds.
#[derive(Default)]
struct Channel {
    ids: HashSet<MessageId>,
    /// Numbers in the order of their first delivery.
    numbers: Vec<u64>,
}

impl Channel {
    fn take(&mut self, connection: &mut Connection, message: &Message) {
        connection.finish(message.id);
        if self.ids.insert(message.id) {
            self.numbers.push(std::str::from_utf8(&message.body).unwrap().parse().unwrap());
        }
    }

    /// Consumes until the broker dies.
    async fn consume(&mut self, mut connection: Connection) {
        while let Ok(Some(message)) = connection.next().await {
            self.take(&mut connection, &message);
        }
    }

    /// Consumes until it has seen all of `expected`, and gives what did not come.
    async fn drain(&mut self, mut connection: Connection, expected: &BTreeSet<u64>) -> Vec<u64> {
        let mut missing: BTreeSet<u64> = expected.clone();
        missing.retain(|number| self.numbers.binary_search(number).is_err());
        while !missing.is_empty() {
            let Ok(next) = tokio::time::timeout(PATIENCE, connection.next()).await else { break };
            let message = next.unwrap().expect("not closed");
            let known = self.numbers.len();
            self.take(&mut connection, &message);
            self.numbers.get(known).map(|number| missing.remove(number));
        }
        missing.into_iter().collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_in_kills_under_load_at_flush() {
    kill_under_load("flush").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_in_kills_under_load_at_sync() {
    kill_under_load("sync").await;
}

async fn kill_under_load(level: &str) {
    let rounds = std::env::var("MQ_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("a number"));
    let mut broker = Broker::start_with(&["--durability", level]);
    for channel in ["fast", "slow"] {
        create_channel(&broker, "load", channel).await;
    }
    let mut acknowledged = BTreeSet::new();
    let mut number = 0;
    let mut cut_off = 0;
    let (mut fast, mut slow) = (Channel::default(), Channel::default());
    for _ in 0..rounds {
        let (progress, mut acknowledging) = watch::channel(0);
        let publisher = tokio::spawn(publish(connect(&broker).await, number, progress));
        let consumer = subscribe(&broker, "load", "fast", 200).await;
        let mut consuming = fast;
        let consumer = tokio::spawn(async move {
            consuming.consume(consumer).await;
            consuming
        });
        let count = fastrand::u64(1..=KILL_AFTER_MAX);
        let reached =
            tokio::time::timeout(PATIENCE, acknowledging.wait_for(|acknowledged| *acknowledged >= count));
        reached.await.expect("answers in time").expect("a publisher");
        broker.kill();
        fast = consumer.await.unwrap();
        let (answered, next) = publisher.await.unwrap();
        assert!(!answered.is_empty(), "nothing was acknowledged in this round");
        cut_off += u32::from((answered.len() as u64) < next - number);
        acknowledged.extend(answered);
        number = next;
        broker.restart();
    }
    println!(
        "{level}: {} acknowledged, publishes cut off in {cut_off} of {rounds} rounds",
        acknowledged.len()
    );
    assert!(cut_off > 0, "every kill came when nothing was published any more");
    for (name, channel) in [("fast", &mut fast), ("slow", &mut slow)] {
        let consumer = subscribe(&broker, "load", name, 200).await;
        let lost = channel.drain(consumer, &acknowledged).await;
        assert!(lost.is_empty(), "{name} lost {} of {}: {:?}", lost.len(), acknowledged.len(), lost.first());
        assert!(channel.numbers.is_sorted(), "{name} is out of order");
        let unique: HashSet<_> = channel.numbers.iter().collect();
        assert_eq!(unique.len(), channel.numbers.len(), "{name}: one message under two ids");
    }
}
