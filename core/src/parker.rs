//! A thread's place to sleep: an event that resets itself.

use std::time::Duration;

use crate::sync::{Condvar, Mutex};

use crate::wake::Wake;

/// Lets one thread sleep until another wakes it. A wake-up that comes while nobody sleeps is kept for the
/// next [`Parker::park`], so none is lost; several count as one.
///
/// It is the [`Wake`] of a caller that blocks: check, park, check again.
///
/// ```
/// use std::sync::Arc;
/// use mq_core::{Parker, Wake};
///
/// let parker = Arc::new(Parker::default());
/// let waker = Arc::clone(&parker);
/// let thread = std::thread::spawn(move || waker.wake());
/// parker.park(None);
/// # thread.join().unwrap();
/// ```
#[derive(Debug, Default)]
pub struct Parker {
    woken: Mutex<bool>,
    condvar: Condvar,
}

impl Parker {
    /// Wakes the thread, now or at its next [`park`](Self::park).
    pub fn unpark(&self) {
        let mut woken = self.woken.lock();
        if !*woken {
            *woken = true;
            self.condvar.notify_one();
        }
    }

    /// Sleeps until woken or until `timeout` has passed; `None` sleeps without end.
    pub fn park(&self, timeout: Option<Duration>) {
        let mut woken = self.woken.lock();
        if !*woken {
            woken = match timeout {
                Some(timeout) => self.condvar.wait_for(woken, timeout),
                None => self.condvar.wait(woken),
            };
        }
        *woken = false;
    }
}

impl Wake for Parker {
    fn wake(&self) {
        self.unpark();
    }
}
