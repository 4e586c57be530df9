//! The one way to wait here: for threads, and for futures of any runtime or none.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mq_core::sync::{Condvar, Mutex};

/// Interval at which a blocking call asks whether it is interrupted: a person who pressed a key waits no
/// longer.
pub(crate) const INTERRUPT_EVERY: Duration = Duration::from_millis(50);

/// A count of changes that threads and futures wait on. Its lock is taken last and held over no call, so that
/// anybody may notify, whatever they hold.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    state: Mutex<Waiting>,
    condvar: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    changes: u64,
    next_key: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Signal {
    /// Wakes all that wait.
    pub(crate) fn notify(&self) {
        let mut state = self.state.lock();
        state.changes += 1;
        let wakers = std::mem::take(&mut state.wakers);
        drop(state);
        self.condvar.notify_all();
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// The changes so far, to be read before the condition that is waited for is looked at.
    pub(crate) fn seen(&self) -> u64 {
        self.state.lock().changes
    }

    /// Waits until there are more changes than `seen`. `false` if it is `deadline` before.
    fn wait(&self, seen: u64, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        while state.changes == seen {
            state = match deadline {
                None => self.condvar.wait(state),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    self.condvar.wait_for(state, left)
                }
            };
        }
        true
    }

    /// The same as a future.
    pub(crate) fn changed(&self, seen: u64) -> Changed<'_> {
        Changed { signal: self, seen, key: None }
    }

    /// Blocks until `condition` gives something. `None` if it gives nothing until `deadline`.
    pub(crate) fn block_until<R>(
        &self,
        deadline: Option<Instant>,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        loop {
            let seen = self.seen();
            if let Some(result) = condition() {
                return Some(result);
            }
            if !self.wait(seen, deadline) {
                return None;
            }
        }
    }

    /// The same. Also `None` once `interrupted` says so, which is asked about every [`INTERRUPT_EVERY`].
    pub(crate) fn block_until_interrupted<R>(
        &self,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
        mut condition: impl FnMut() -> Option<R>,
    ) -> Option<R> {
        loop {
            let turn = Instant::now() + INTERRUPT_EVERY;
            let last = deadline.is_some_and(|deadline| deadline <= turn);
            let until = deadline.map_or(turn, |deadline| deadline.min(turn));
            if let Some(result) = self.block_until(Some(until), &mut condition) {
                return Some(result);
            }
            if last || interrupted() {
                return None;
            }
        }
    }

    /// The same as a future without a deadline. Dropping it drops nothing that `condition` gave.
    pub(crate) async fn until<R>(&self, mut condition: impl FnMut() -> Option<R>) -> R {
        loop {
            let seen = self.seen();
            if let Some(result) = condition() {
                return result;
            }
            self.changed(seen).await;
        }
    }
}

/// A wait for a change.
pub(crate) struct Changed<'a> {
    signal: &'a Signal,
    seen: u64,
    key: Option<u64>,
}

impl Future for Changed<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let signal = self.signal;
        let mut state = signal.state.lock();
        if state.changes != self.seen {
            return Poll::Ready(());
        }
        let key = *self.key.get_or_insert_with(|| {
            state.next_key += 1;
            state.next_key
        });
        state.wakers.retain(|(other, _)| *other != key);
        state.wakers.push((key, cx.waker().clone()));
        Poll::Pending
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.signal.state.lock().wakers.retain(|(other, _)| *other != key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;

    #[test]
    fn a_dropped_wait_leaves_no_waker_behind() {
        let signal = Signal::default();
        {
            let mut changed = pin!(signal.changed(0));
            let mut cx = Context::from_waker(Waker::noop());
            assert!(changed.as_mut().poll(&mut cx).is_pending());
            assert!(changed.as_mut().poll(&mut cx).is_pending());
            assert_eq!(signal.state.lock().wakers.len(), 1);
        }
        assert!(signal.state.lock().wakers.is_empty());
    }
}
