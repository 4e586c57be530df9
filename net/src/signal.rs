//! The signal by which the core and the server wake a session.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::Waker;

use mq_core::Wake;
use parking_lot::Mutex;

/// Wakes the task that registered last.
///
/// A task that marks when it looks at what others may change, and when it rests, is not woken by what changes
/// while it looks: much of that is its own doing.
#[derive(Debug, Default)]
pub struct Signal {
    waker: Mutex<Option<Waker>>,
    /// [`RESTS`], [`LOOKS`] or [`WOKEN`]. Changed by swaps alone, so that of a change and a look one sees
    /// the other.
    stance: AtomicU8,
    stop: AtomicBool,
}

/// The task sleeps: the next change wakes it.
const RESTS: u8 = 0;
/// The task is checking everything that it may wait for.
const LOOKS: u8 = 1;
/// Something changed since it last looked, and it knows or will.
const WOKEN: u8 = 2;

impl Signal {
    /// To be called before looking at what others may change: what changes later wakes `waker`.
    pub fn register(&self, waker: &Waker) {
        let mut slot = self.waker.lock();
        if !slot.as_ref().is_some_and(|old| old.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        drop(slot);
        self.stance.swap(RESTS, Ordering::AcqRel);
    }

    /// To be called before looking at what others may change: until it rests, changes are only noted.
    pub fn look(&self) {
        self.stance.swap(LOOKS, Ordering::AcqRel);
    }

    /// Has the next change wake the task. `false`, and nothing done, if something changed since it last
    /// looked.
    pub fn rest(&self) -> bool {
        self.stance.compare_exchange(LOOKS, RESTS, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Asks the session to end.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }

    /// Whether the session was asked to end.
    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

impl Wake for Signal {
    fn wake(&self) {
        if self.stance.swap(WOKEN, Ordering::AcqRel) != RESTS {
            return;
        }
        let slot = self.waker.lock();
        if let Some(waker) = &*slot {
            waker.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake as TaskWake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl TaskWake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_changes_during_a_look_is_noted_and_what_changes_later_wakes() {
        let count = Arc::new(Count::default());
        let woken = || count.0.load(Ordering::Relaxed);
        let signal = Signal::default();
        signal.register(&Waker::from(Arc::clone(&count)));
        signal.look();
        signal.wake();
        assert!(!signal.rest(), "it has to look again");
        signal.look();
        assert!(signal.rest());
        assert_eq!(woken(), 0);
        signal.wake();
        signal.wake();
        assert_eq!(woken(), 1, "once is enough");
        signal.register(&Waker::from(Arc::clone(&count)));
        signal.wake();
        assert_eq!(woken(), 2, "it looked before, and did not say that it looks");
    }
}
