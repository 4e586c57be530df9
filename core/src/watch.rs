//! The names that discovery follows: the topics and channels of a broker, and their changes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::Mutex;

use crate::broker::Broker;
use crate::name::{ChannelName, TopicName};
use crate::store::log::Wake;
use crate::topic::Topic;

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

/// Whether discovery knows of a topic, and the publishers that wait for that.
pub(crate) struct Announcement {
    is_due: AtomicBool,
    waiting: Mutex<Vec<Arc<dyn Wake>>>,
}

impl Announcement {
    /// `is_due`: an announcer will say when discovery knows of the topic.
    pub(crate) fn new(is_due: bool) -> Self {
        Self { is_due: AtomicBool::new(is_due), waiting: Mutex::default() }
    }

    pub(crate) fn is_due(&self) -> bool {
        self.is_due.load(Ordering::Acquire)
    }
}

impl Topic {
    /// Whether discovery knows of the topic, or nobody announces it. If not, `wake` is called when that
    /// changes. A publisher of a new topic waits for it, within a bound of its own: consumers then find
    /// the topic at once.
    pub fn is_announced(&self, wake: &Arc<dyn Wake>) -> bool {
        if !self.announcement.is_due() {
            return true;
        }
        let mut waiting = self.announcement.waiting.lock();
        // Read again under the lock: what was set before it was taken wakes nobody.
        if !self.announcement.is_due() {
            return true;
        }
        if !waiting.iter().any(|known| Arc::ptr_eq(known, wake)) {
            waiting.push(wake.clone());
        }
        false
    }

    /// Whether [`Topic::set_announced`] is due.
    pub fn is_unannounced(&self) -> bool {
        self.announcement.is_due()
    }

    /// Discovery knows of the topic, or nobody is to wait for that any longer.
    pub fn set_announced(&self) {
        let waiting = {
            let mut waiting = self.announcement.waiting.lock();
            self.announcement.is_due.store(false, Ordering::Release);
            std::mem::take(&mut *waiting)
        };
        waiting.iter().for_each(|wake| wake.wake());
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
    /// Whether it waits for [`Topic::release`].
    pub is_held: bool,
    /// Whether [`Topic::set_announced`] is due.
    pub is_unannounced: bool,
}

impl Broker {
    /// Wakes `watcher` whenever a topic or channel is created or deleted. There is one watcher; `None` ends
    /// it.
    pub fn watch(&self, watcher: Option<Arc<dyn Wake>>) {
        *self.shared().watch.watcher.lock() = watcher;
    }

    /// All topics and channels by name, sorted.
    pub fn names(&self) -> Vec<TopicNames> {
        self.topics().iter().map(|topic| topic.names()).collect()
    }

    /// Whether topics created from now on stand still until [`Topic::release`]: what is published waits in
    /// them. So channels can be created before the first message passes. They also count as unknown to
    /// discovery until [`Topic::set_announced`]. Switching it off releases all, and counts them as
    /// announced.
    pub fn hold_new_topics(&self, hold: bool) {
        let shared = self.shared();
        shared.set_holds_new_topics(hold);
        if !hold {
            for topic in shared.topics() {
                topic.release();
                topic.set_announced();
            }
        }
    }
}
