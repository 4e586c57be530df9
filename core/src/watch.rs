//! The names that discovery follows: the topics and channels of a broker, and their changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;

use crate::broker::Broker;
use crate::name::{ChannelName, TopicName};
use crate::store::log::Wake;

/// The watcher of created and deleted topics and channels, and whether new topics are held.
#[derive(Default)]
pub(crate) struct Watch {
    watcher: Mutex<Option<Arc<dyn Wake>>>,
    /// Read and written under the lock of the broker's registry.
    holds: AtomicBool,
}

impl Watch {
    /// A topic or channel came or went.
    pub(crate) fn changed(&self) {
        let watcher = self.watcher.lock().clone();
        if let Some(watcher) = watcher {
            watcher.wake();
        }
    }

    pub(crate) fn holds(&self) -> bool {
        self.holds.load(Ordering::Relaxed)
    }

    pub(crate) fn set_holds(&self, holds: bool) {
        self.holds.store(holds, Ordering::Relaxed);
    }
}

/// A topic by its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TopicNames {
    /// Another one when the topic was deleted and created again.
    pub no: u32,
    /// Its name.
    pub name: TopicName,
    /// Its channels, sorted.
    pub channels: Vec<ChannelName>,
    /// Whether it waits for [`Topic::release`](crate::Topic::release).
    pub is_held: bool,
}

impl Broker {
    /// Wakes `watcher` whenever a topic or channel is created or deleted. There is one watcher; `None` ends it.
    pub fn watch(&self, watcher: Option<Arc<dyn Wake>>) {
        *self.shared().watch.watcher.lock() = watcher;
    }

    /// All topics and channels by name, sorted.
    pub fn names(&self) -> Vec<TopicNames> {
        self.topics().iter().map(|topic| topic.names()).collect()
    }

    /// Whether topics created from now on stand still until [`Topic::release`](crate::Topic::release): what is published
    /// waits in them, and publishers wait for nothing. So channels can be created before the first message passes.
    /// Switching it off releases all.
    pub fn hold_new_topics(&self, hold: bool) {
        let shared = self.shared();
        shared.set_holds_new_topics(hold);
        if !hold {
            shared.topics().iter().for_each(|topic| topic.release());
        }
    }
}
