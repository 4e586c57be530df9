//! Messages to brokers through the crate `libmq`, many on the way at a time.

use std::collections::VecDeque;
use std::time::Duration;

use libmq::{Client, Error, NewMessage, Pending};
use tokio::time::{Instant, timeout, timeout_at};

/// Messages on the way: enough to keep a broker busy.
const UNDER_WAY_MAX: usize = 4096;

/// Sends each message to all of its clients, and counts those that all have acknowledged.
pub(super) struct Sender {
    clients: Vec<Client>,
    /// Messages on the way, oldest first: a publish for each client.
    under_way: VecDeque<Vec<Pending>>,
    acknowledged: u64,
}

impl Sender {
    pub(super) fn new(clients: Vec<Client>) -> Self {
        Self { clients, under_way: VecDeque::new(), acknowledged: 0 }
    }

    /// Messages that all brokers have acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged
    }

    /// Sends a message. Waits for the oldest if there are too many on the way.
    ///
    /// # Errors
    /// The first failure of a message.
    pub(super) async fn send(&mut self, topic: &str, message: NewMessage) -> Result<(), Error> {
        while self.under_way.len() >= UNDER_WAY_MAX {
            self.oldest_answer().await?;
        }
        let mut publishes = Vec::with_capacity(self.clients.len());
        for at in 0..self.clients.len() {
            let pending = loop {
                match self.clients[at].send(topic, message.clone()) {
                    Ok(pending) => break pending,
                    // Those before it make room.
                    Err(Error::BufferFull) if !self.under_way.is_empty() => self.oldest_answer().await?,
                    Err(error) => return Err(error),
                }
            };
            publishes.push(pending);
        }
        self.under_way.push_back(publishes);
        Ok(())
    }

    /// Waits until all that was sent is acknowledged.
    ///
    /// # Errors
    /// The first failure of a message.
    pub(super) async fn finish(&mut self) -> Result<(), Error> {
        while !self.under_way.is_empty() {
            self.oldest_answer().await?;
        }
        Ok(())
    }

    /// Counts what is acknowledged within `time`, whatever failed.
    pub(super) async fn wait_answers(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Some(publishes) = self.under_way.pop_front() {
            let mut is_acknowledged = true;
            for pending in publishes {
                is_acknowledged &= matches!(timeout_at(deadline, pending.wait_async()).await, Ok(Ok(_)));
            }
            self.acknowledged += u64::from(is_acknowledged);
        }
    }

    /// Whether messages are on the way.
    pub(super) fn is_busy(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Waits for the outcome of the oldest message on the way. Cancel safe.
    pub(super) async fn oldest_answer(&mut self) -> Result<(), Error> {
        let Some(publishes) = self.under_way.front() else { return Ok(()) };
        for (pending, client) in publishes.iter().zip(&self.clients) {
            let longest = client.publish_timeout()?;
            let Ok(outcome) = timeout(longest, pending.wait_async()).await else {
                return Err(Error::Timeout(format!("no broker took a message within {longest:?}")));
            };
            outcome?;
        }
        self.under_way.pop_front();
        self.acknowledged += 1;
        Ok(())
    }
}
