//! Messages to stdout from a thread of its own: a reader that pauses must not keep heartbeats unanswered.

use std::io::{self, BufWriter, Write};

use mq_core::MessageId;
use mq_nsq::client::Message;
use tokio::sync::mpsc;

/// Messages on their way to stdout.
pub(crate) const QUEUE_MAX: usize = 512;
/// Output is written in pieces of this size while more is there to print.
const OUT_BYTES: usize = 64 << 10;

/// Writes bodies to stdout, a newline after each, and tells what has left the process.
pub(crate) struct Printer {
    queue: mpsc::Sender<Message>,
    // Unbounded in form only: it never holds more ids than the queue has held messages.
    printed: mpsc::UnboundedReceiver<io::Result<Vec<MessageId>>>,
    /// Queued and not yet told to be printed.
    waiting: usize,
    /// Messages still to take; `None` = without end.
    left: Option<u64>,
}

impl Printer {
    /// A printer of `max` messages at most.
    pub(crate) fn start(max: Option<u64>) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE_MAX);
        let (report, printed) = mpsc::unbounded_channel();
        std::thread::spawn(move || print(messages, &report));
        Self { queue, printed, waiting: 0, left: max }
    }

    /// Queues a message, or drops it when as many as were asked for are queued. Waits if the queue is full.
    pub(crate) async fn put(&mut self, message: Message) {
        if self.left == Some(0) {
            return;
        }
        self.left = self.left.map(|left| left - 1);
        self.waiting += 1;
        // A printer that has failed says so in `printed`.
        let _ = self.queue.send(message).await;
    }

    /// Whether `put` would not wait.
    pub(crate) fn has_room(&self) -> bool {
        self.queue.capacity() > 0
    }

    /// Waits for what was printed since the last call. Cancel safe. Pends while nothing is on its way.
    pub(crate) async fn printed(&mut self) -> io::Result<Vec<MessageId>> {
        match self.printed.recv().await {
            Some(printed) => {
                self.waiting -= printed.as_ref().map_or(0, Vec::len);
                printed
            }
            None => std::future::pending().await,
        }
    }

    /// Waits until all that was queued is printed. Cancel safe.
    pub(crate) async fn drain(&mut self) -> io::Result<()> {
        while self.waiting > 0 {
            self.printed().await?;
        }
        Ok(())
    }

    /// Whether as many as were asked for are printed.
    pub(crate) fn is_done(&self) -> bool {
        self.left == Some(0) && self.waiting == 0
    }

    /// How many messages there may be with us, those that wait to be printed included: at most `limit`.
    pub(crate) fn credit(&self, limit: u32) -> u32 {
        let Some(left) = self.left else { return limit };
        u32::try_from(left.saturating_add(self.waiting as u64)).map_or(limit, |credit| credit.min(limit))
    }
}

fn print(mut messages: mpsc::Receiver<Message>, report: &mpsc::UnboundedSender<io::Result<Vec<MessageId>>>) {
    let mut out = BufWriter::with_capacity(OUT_BYTES, io::stdout().lock());
    while let Some(message) = messages.blocking_recv() {
        let mut ids = Vec::new();
        let mut next = Some(message);
        let written = loop {
            let Some(message) = next else { break out.flush() };
            if let Err(error) = out.write_all(&message.body).and_then(|()| out.write_all(b"\n")) {
                break Err(error);
            }
            ids.push(message.id);
            // As many as a queue holds, then they are told: a fast broker must not put that off for ever.
            next = if ids.len() < QUEUE_MAX { messages.try_recv().ok() } else { None };
        };
        let failed = written.is_err();
        if report.send(written.map(|()| ids)).is_err() || failed {
            return;
        }
    }
}
