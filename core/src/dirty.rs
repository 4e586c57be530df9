//! Channels and topics with something for the log.

use std::sync::{Arc, Weak};

use crate::sync::Mutex;

use crate::channel::Channel;
use crate::parker::Parker;
use crate::topic::Topic;

/// Channels and topics whose changes are not in the log yet; the log's thread writes them at most 100 ms
/// later.
pub(crate) struct Dirty {
    channels: Mutex<Vec<Weak<Channel>>>,
    topics: Mutex<Vec<Weak<Topic>>>,
    /// Wakes the log's thread.
    log_thread: Arc<Parker>,
}

impl Dirty {
    /// An empty list; `log_thread` is unparked when it gets its first entry.
    pub(crate) fn new(log_thread: Arc<Parker>) -> Self {
        Self { channels: Mutex::default(), topics: Mutex::default(), log_thread }
    }

    /// Adds a channel, which makes sure that it is added once.
    pub(crate) fn channel(&self, channel: &Weak<Channel>) {
        let mut channels = self.channels.lock();
        channels.push(channel.clone());
        let first = channels.len() == 1;
        drop(channels);
        if first {
            self.log_thread.unpark();
        }
    }

    /// Adds a topic whose pump position moved without a lasting channel.
    pub(crate) fn topic(&self, topic: &Weak<Topic>) {
        let mut topics = self.topics.lock();
        if topics.iter().any(|t| t.ptr_eq(topic)) {
            return;
        }
        topics.push(topic.clone());
        drop(topics);
        self.log_thread.unpark();
    }

    /// Takes all.
    pub(crate) fn take(&self) -> (Vec<Weak<Channel>>, Vec<Weak<Topic>>) {
        (std::mem::take(&mut self.channels.lock()), std::mem::take(&mut self.topics.lock()))
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        !self.channels.lock().is_empty() || !self.topics.lock().is_empty()
    }
}
