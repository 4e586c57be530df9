//! `mq pub`: stdin's lines as messages.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mq_core::TopicName;
use mq_nsq::client::{Connection, Identify};
use tokio::sync::mpsc;

use crate::Outcome;
use crate::line_batches::LineBatches;
use mq_server::config::units;
use mq_server::config::value::{Size, Value};
use mq_server::startup_banner::DEFAULT_ADDRESS;

/// Batches read ahead of the one being sent.
const READ_AHEAD: usize = 4;
/// How often the progress line is written.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);
/// How long an interrupted run waits for answers to what it has sent.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Flags of `mq pub`.
#[derive(clap::Args)]
pub(crate) struct Pub {
    /// Topic to publish to; made if there is none
    #[arg(long, value_name = "TOPIC", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Broker to publish to: host:port, or the path of a unix socket
    #[arg(long, value_name = "ADDRESS", env = "MQ_TCP_ADDRESS", default_value = DEFAULT_ADDRESS)]
    tcp_address: String,
    /// The longest line to send: the broker's --max-msg-size
    #[arg(long, value_name = "SIZE", env = "MQ_MAX_MSG_SIZE", default_value = "1MiB", value_parser = size)]
    max_msg_size: Size,
}

fn size(text: &str) -> Result<Size, String> {
    Size::parse(text).ok_or_else(|| format!("it must be {}", Size::FORM))
}

/// Sends until stdin ends. Success only if the broker acknowledged every line.
pub(crate) fn run(options: Pub) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| format!("cannot start: {e}"))?;
    runtime.block_on(publish(options))
}

async fn publish(options: Pub) -> Outcome {
    let address = &options.tcp_address;
    let mut connection = Connection::connect(address, Identify::default())
        .await
        .map_err(|e| format!("{address}: {e}: is a broker running there? `mq serve` starts one"))?;
    let mut progress = Progress::new(&options.topic);
    let sent = tokio::select! {
        sent = send_all(&mut connection, &options, &mut progress) => sent,
        _ = tokio::signal::ctrl_c() => {
            Err("interrupted".to_owned())
        }
    };
    // Also after a failure: what is under way may still be acknowledged, and the summary shall be true.
    if sent.is_err() && connection.unanswered() > 0 {
        let _ = tokio::time::timeout(LAST_ANSWERS, connection.flush()).await;
    }
    progress.finish(connection.acknowledged());
    match sent {
        Ok(()) => Ok(0),
        Err(error) => Err(format!(
            "{error}: {} of {} messages read were acknowledged",
            connection.acknowledged(),
            progress.messages_read
        )),
    }
}

async fn send_all(connection: &mut Connection, options: &Pub, progress: &mut Progress) -> Result<(), String> {
    let mut batches = read_stdin(options.max_msg_size);
    loop {
        let batch = tokio::select! {
            batch = batches.recv() => batch,
            error = connection.drive() => return Err(error.to_string()),
        };
        let Some(batch) = batch else { break };
        let batch = batch?;
        progress.read(&batch);
        connection.publish_batch(&options.topic, &batch).await.map_err(|e| e.to_string())?;
        progress.show(connection.acknowledged());
    }
    connection.flush().await.map_err(|e| e.to_string())
}

/// Reads on a thread of its own, which nobody waits for: a read of stdin cannot be cut short.
fn read_stdin(line_max: Size) -> mpsc::Receiver<Result<Vec<Bytes>, String>> {
    let (sender, receiver) = mpsc::channel(READ_AHEAD);
    let line_bytes_max = usize::try_from(line_max.0).unwrap_or(usize::MAX);
    std::thread::spawn(move || {
        let mut lines = LineBatches::new(std::io::stdin().lock(), line_bytes_max);
        loop {
            let batch = lines.next_batch().map_err(|error| error.to_string());
            let last = batch.as_ref().map_or(true, Vec::is_empty);
            let ended = batch.as_ref().is_ok_and(Vec::is_empty);
            if ended || sender.blocking_send(batch).is_err() || last {
                return;
            }
        }
    });
    receiver
}

/// The line on stderr that tells how far it is: rewritten in place on a terminal, else only the last one.
struct Progress {
    topic: TopicName,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
    messages_read: u64,
    bytes_read: u64,
}

impl Progress {
    fn new(topic: &TopicName) -> Self {
        Self {
            topic: topic.clone(),
            started: Instant::now(),
            shown: None,
            terminal: std::io::stderr().is_terminal(),
            messages_read: 0,
            bytes_read: 0,
        }
    }

    fn read(&mut self, batch: &[Bytes]) {
        self.messages_read += batch.len() as u64;
        self.bytes_read += batch.iter().map(|body| body.len() as u64).sum::<u64>();
    }

    fn show(&mut self, acknowledged: u64) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= PROGRESS_EVERY) {
            self.shown = Some(Instant::now());
            // A closed stderr is no reason to stop publishing.
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", self.line(acknowledged));
        }
    }

    fn finish(&mut self, acknowledged: u64) {
        let (start, end) = if self.shown.is_some() { ("\r", "\x1b[K") } else { ("", "") };
        let _ = writeln!(std::io::stderr(), "{start}{}{end}", self.line(acknowledged));
    }

    fn line(&self, acknowledged: u64) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = acknowledged as f64 / seconds.max(1e-3);
        format!(
            "{acknowledged} messages acknowledged by {}, {} read, {seconds:.1} s, {rate:.0}/s",
            self.topic,
            units::show_size(self.bytes_read)
        )
    }
}
