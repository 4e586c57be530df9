//! Forks: a child process has the handles of its parent, without the threads behind them.

use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

/// Forks between the start of the first process and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// A process, distinct from its parents and children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u32);

impl Generation {
    /// This process. From the first call on, forks are counted.
    pub(crate) fn now() -> Self {
        static REGISTER: Once = Once::new();
        REGISTER.call_once(|| {
            // SAFETY: the handler adds to an atomic, which is allowed between fork and exec; the library is
            // never unloaded.
            unsafe { libc::pthread_atfork(None, None, Some(forked)) };
        });
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether this process is a child of that one.
    pub(crate) fn is_forked(self) -> bool {
        self.0 != FORKS.load(Ordering::Relaxed)
    }
}

extern "C" fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}
