//! Whether discovery knows of a topic, so that publishers of a new one can wait for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::Mutex;

use crate::topic::Topic;
use crate::wake::Wake;

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
