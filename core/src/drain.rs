//! Emptying a broker before it stops.

use std::sync::atomic::Ordering;

use crate::broker::Broker;
use crate::error::{Error, ErrorKind, Result};
use crate::shared::Shared;

impl Broker {
    /// Refuses publishes and new topics from now on, until the broker is opened again. What is there is
    /// delivered.
    pub fn drain(&self) {
        self.shared().draining.store(true, Ordering::Release);
    }

    /// Whether [`Broker::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.shared().draining.load(Ordering::Acquire)
    }

    /// Messages that wait in a topic, or that a channel has not finished: one for each such channel.
    pub fn pending(&self) -> u64 {
        let of_channel = |channel: &crate::Channel| {
            let stats = channel.stats();
            stats.depth + stats.in_flight + stats.deferred
        };
        let topics = self.shared().topics();
        let of_topic = |topic: &crate::Topic| {
            topic.depth() + topic.channels().iter().map(|channel| of_channel(channel)).sum::<u64>()
        };
        topics.iter().map(|topic| of_topic(topic)).sum()
    }

    /// Pending messages of topics that are written to disk, which are only in memory yet: what a kill would
    /// lose.
    pub fn only_in_memory(&self) -> u64 {
        self.shared().topics().iter().map(|topic| topic.only_in_memory()).sum()
    }
}

impl Shared {
    /// # Errors
    /// `Draining`.
    pub(crate) fn check_draining(&self) -> Result<()> {
        match self.draining.load(Ordering::Acquire) {
            true => Err(Error::new(
                ErrorKind::Draining,
                "the broker is being drained and takes no more messages: publish to another",
            )),
            false => Ok(()),
        }
    }
}
