//! Blocking until the log has decided.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::broker::Broker;
use crate::clock::Wall;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Attributes;
use crate::parker::Parker;
use crate::store::log::{Outcome, Ticket};
use crate::topic::{Published, Topic};
use crate::wake::Wake;

impl Ticket {
    /// Writes what is queued, and blocks until what the ticket was given for is stored as its topic's
    /// durability level wants it.
    ///
    /// # Errors
    /// `Full`, `Io` if it was not stored and never will be; `Closed` if the broker stopped before that was
    /// known.
    pub fn wait(self, broker: &Broker) -> Result<()> {
        loop {
            if let Some(result) = self.wait_for(broker, Duration::MAX) {
                return result;
            }
        }
    }

    /// [`Ticket::wait`] for at most `timeout`; `None` if nothing is decided by then: a disk that fails may
    /// work again.
    pub fn wait_for(self, broker: &Broker, timeout: Duration) -> Option<Result<()>> {
        broker.commit();
        let decided = || match broker.outcome(self) {
            Outcome::Pending => None,
            Outcome::Done => Some(Ok(())),
            Outcome::Failed(error) => Some(Err(error)),
        };
        if let Some(result) = decided() {
            return Some(result);
        }
        let deadline = Instant::now().checked_add(timeout);
        let parker = Arc::new(Parker::default());
        let wake: Arc<dyn Wake> = parker.clone();
        loop {
            // Both before the outcome: what is decided after that look wakes the thread.
            broker.shared().log.wait_for_room(&wake);
            let is_stopped = broker.shared().is_stopped();
            if let Some(result) = decided() {
                return Some(result);
            }
            if is_stopped {
                let why = "the broker stopped before this was stored";
                return Some(Err(Error::new(ErrorKind::Closed, why)));
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return None;
            }
            parker.park(left);
        }
    }
}

impl Published {
    /// Blocks until all messages of the batch are stored as the topic's durability level wants it:
    /// [`Ticket::wait`].
    ///
    /// # Errors
    /// As [`Ticket::wait`].
    pub fn wait(&self, broker: &Broker) -> Result<()> {
        self.ticket.wait(broker)
    }

    /// [`Published::wait`] for at most `timeout`, as [`Ticket::wait_for`].
    pub fn wait_for(&self, broker: &Broker, timeout: Duration) -> Option<Result<()>> {
        self.ticket.wait_for(broker, timeout)
    }
}

impl Topic {
    /// Publishes one message without attributes. Many messages go faster as a [`batch`](Topic::batch), which
    /// is stored as one.
    ///
    /// # Errors
    /// As [`Topic::publish`]; `TooBig` above 1 GiB.
    pub fn publish_one(&self, body: &[u8]) -> Result<Published> {
        let mut batch = self.batch();
        batch.push(&Attributes::NONE, body)?;
        self.publish(batch, None)
    }
}

impl Broker {
    /// Writes what is queued, and blocks until publishers may go on, at most for `timeout`: see
    /// [`Broker::is_congested`]. `false` if they may not by then. A broker that has stopped keeps nobody
    /// waiting.
    pub fn wait_for_room(&self, timeout: Duration) -> bool {
        let shared = self.shared();
        if !shared.is_congested() {
            return true;
        }
        self.commit();
        let deadline = Instant::now().checked_add(timeout);
        let parker = Arc::new(Parker::default());
        let wake: Arc<dyn Wake> = parker.clone();
        loop {
            if !self.is_congested(&wake) || shared.is_stopped() {
                return true;
            }
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return false;
            }
            parker.park(left);
        }
    }

    /// The wall time that is `delay` from now, for [`Attributes::not_before`]; `None` for
    /// no delay.
    pub fn wall_after(&self, delay: Duration) -> Option<Wall> {
        let delay = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        (delay > 0).then(|| self.wall().plus(delay))
    }
}
