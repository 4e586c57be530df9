//! The one way to wait here: for threads, and for futures of any runtime or none.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use mq_core::sync::{Condvar, Mutex};

/// Interval at which a blocking call asks whether it is interrupted: a person who pressed a key waits no
/// longer.
pub(crate) const INTERRUPT_EVERY: Duration = Duration::from_millis(50);

/// A count of changes that threads and futures wait on. Its lock is taken last and held over no call, so that
/// anybody may notify, whatever they hold. Notifying takes no lock and no system call while nobody waits.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    changes: AtomicU64,
    /// Threads and futures that wait. Whoever waits raises it first and reads `changes` then; whoever
    /// notifies raises `changes` first and reads this then: one of the two sees the other.
    waiting: AtomicUsize,
    state: Mutex<Waiting>,
    condvar: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    threads: usize,
    next_key: u64,
    wakers: Vec<(u64, Waker)>,
}

impl Signal {
    /// Wakes all that wait.
    pub(crate) fn notify(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let mut state = self.state.lock();
        self.waiting.fetch_sub(state.wakers.len(), Ordering::SeqCst);
        let wakers = std::mem::take(&mut state.wakers);
        let has_threads = state.threads > 0;
        drop(state);
        if has_threads {
            self.condvar.notify_all();
        }
        wakers.into_iter().for_each(|(_, waker)| waker.wake());
    }

    /// The changes so far, to be read before the condition that is waited for is looked at.
    pub(crate) fn seen(&self) -> u64 {
        self.changes.load(Ordering::SeqCst)
    }

    /// Waits until there are more changes than `seen`. `false` if it is `deadline` before.
    fn wait(&self, seen: u64, deadline: Option<Instant>) -> bool {
        let mut state = self.state.lock();
        state.threads += 1;
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let is_changed = loop {
            if self.seen() != seen {
                break true;
            }
            state = match deadline {
                None => self.condvar.wait(state),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break false;
                    }
                    self.condvar.wait_for(state, left)
                }
            };
        };
        state.threads -= 1;
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        is_changed
    }

    /// Removes the waker of a future, if it was not woken yet.
    fn forget(&self, state: &mut Waiting, key: u64) {
        let before = state.wakers.len();
        state.wakers.retain(|(other, _)| *other != key);
        self.waiting.fetch_sub(before - state.wakers.len(), Ordering::SeqCst);
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
        if signal.seen() != self.seen {
            return Poll::Ready(());
        }
        let mut state = signal.state.lock();
        let key = *self.key.get_or_insert_with(|| {
            state.next_key += 1;
            state.next_key
        });
        signal.forget(&mut state, key);
        state.wakers.push((key, cx.waker().clone()));
        signal.waiting.fetch_add(1, Ordering::SeqCst);
        if signal.seen() == self.seen {
            return Poll::Pending;
        }
        signal.forget(&mut state, key);
        Poll::Ready(())
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            self.signal.forget(&mut self.signal.state.lock(), key);
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
        assert_eq!(signal.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn a_change_wakes_all_threads_and_futures_that_wait() {
        const THREADS: usize = 3;
        let (signal, is_done) = (Signal::default(), AtomicU64::new(0));
        let done = || (is_done.load(Ordering::SeqCst) > 0).then_some(());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| signal.block_until(None, done).unwrap());
            }
            // The last of them that waits is the future that makes the change.
            runtime.block_on(async {
                let change = async {
                    while signal.waiting.load(Ordering::SeqCst) < THREADS + 2 {
                        tokio::task::yield_now().await;
                    }
                    is_done.store(1, Ordering::SeqCst);
                    signal.notify();
                };
                tokio::join!(signal.until(done), signal.until(done), change);
            });
        });
        assert_eq!(signal.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn the_waker_of_the_last_poll_is_the_one_that_is_woken() {
        struct Count(AtomicUsize);
        impl std::task::Wake for Count {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let signal = Signal::default();
        let mut changed = pin!(signal.changed(0));
        let wakers = [(); 2].map(|()| std::sync::Arc::new(Count(AtomicUsize::new(0))));
        for waker in &wakers {
            let waker = Waker::from(std::sync::Arc::clone(waker));
            assert!(changed.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        }
        signal.notify();
        assert_eq!(wakers.map(|waker| waker.0.load(Ordering::SeqCst)), [0, 1]);
        assert!(changed.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
    }

    #[test]
    fn a_wait_ends_at_its_deadline_or_when_it_is_interrupted() {
        let signal = Signal::default();
        let nothing = || None::<()>;
        let over = Some(Instant::now());
        assert_eq!(signal.block_until(over, nothing), None);
        assert_eq!(signal.block_until_interrupted(over, &mut || false, nothing), None);
        assert_eq!(signal.block_until(over, || Some(1)), Some(1), "what is there is given all the same");
        let mut asked = 0;
        let mut interrupted = || {
            asked += 1;
            asked == 2
        };
        assert_eq!(signal.block_until_interrupted(None, &mut interrupted, nothing), None);
        assert_eq!(asked, 2);
        assert_eq!(signal.waiting.load(Ordering::SeqCst), 0);
    }

    #[test]
    fn no_change_is_missed_by_a_thread_or_a_future_that_begins_to_wait() {
        const CHANGES: u64 = 20_000;
        let (signal, made) = (Signal::default(), AtomicU64::new(0));
        let seen = AtomicU64::new(0);
        let next = |last: u64| (made.load(Ordering::SeqCst) > last).then_some(());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for change in 1..=CHANGES {
                    // Each change comes about when the last one is waited for.
                    while seen.load(Ordering::SeqCst) + 1 < change {
                        std::hint::spin_loop();
                    }
                    made.store(change, Ordering::SeqCst);
                    signal.notify();
                }
            });
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            for last in 0..CHANGES {
                if last % 2 == 0 {
                    let deadline = Instant::now() + Duration::from_secs(60);
                    signal.block_until(Some(deadline), || next(last)).expect("it was notified");
                } else {
                    runtime.block_on(signal.until(|| next(last)));
                }
                seen.store(last + 1, Ordering::SeqCst);
            }
        });
        assert_eq!(signal.waiting.load(Ordering::SeqCst), 0);
    }
}
