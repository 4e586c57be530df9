//! How the core and the server wake a session.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Waker;

use mq_core::Wake;
use parking_lot::Mutex;

/// Wakes the task that registered last.
#[derive(Debug, Default)]
pub struct Signal {
    waker: Mutex<Option<Waker>>,
    stop: AtomicBool,
}

impl Signal {
    /// To be called before looking at what others may change: what changes later wakes `waker`.
    pub fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock();
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
    }

    /// Asks the session to end.
    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the session was asked to end.
    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl Wake for Signal {
    fn wake(&self) {
        let slot = self.waker.lock();
        if let Some(waker) = &*slot {
            waker.wake_by_ref();
        }
    }
}
