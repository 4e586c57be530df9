//! The next batch of a subscription, fetched before it is asked for, so that a descriptor can say whether one
//! is there.

use std::future::Future;
use std::os::fd::RawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use libmq::sync::{Condvar, Mutex};
use libmq::{Batch, Subscription};

use crate::driver::{Driver, Entry, Task};
use crate::readiness::Readiness;
use crate::status::{Failure, Outcome, mq_status};

type Next = Pin<Box<dyn Future<Output = libmq::Result<Batch>> + Send>>;

/// A subscription whose next batch is fetched by itself.
pub(crate) struct Prefetch {
    subscription: Subscription,
    max_batch: usize,
    /// Longest time that a batch may wait here: beyond it, its messages are delivered again elsewhere.
    msg_timeout: Duration,
    /// Whether the slot is full, to be read without the lock.
    is_there: AtomicBool,
    state: Mutex<State>,
    filled: Condvar,
}

struct State {
    slot: Option<(Instant, libmq::Result<Batch>)>,
    /// The wait for what comes into the slot next. One at a time, so that messages keep their order.
    next: Option<Next>,
    entry: Option<Arc<Entry>>,
    readiness: Readiness,
}

impl Prefetch {
    pub(crate) fn start(
        subscription: &Subscription,
        max_batch: usize,
        msg_timeout: Duration,
        driver: &Driver,
    ) -> Outcome<Arc<Self>> {
        let failed = |error: std::io::Error| Failure {
            retry: true,
            ..Failure::new(mq_status::Refused, format!("the system gives no descriptor: {error}"))
        };
        let readiness = Readiness::new().map_err(failed)?;
        let prefetch = Arc::new(Self {
            subscription: subscription.clone(),
            max_batch,
            msg_timeout,
            is_there: AtomicBool::new(false),
            state: Mutex::new(State { slot: None, next: None, entry: None, readiness }),
            filled: Condvar::default(),
        });
        let entry = driver.spawn(Arc::<Self>::clone(&prefetch))?;
        let mut state = prefetch.state.lock();
        state.entry = Some(entry);
        prefetch.fill(&mut state);
        drop(state);
        Ok(prefetch)
    }

    /// The descriptor that is readable while there is something to take.
    pub(crate) fn fd(&self) -> RawFd {
        self.state.lock().readiness.fd()
    }

    /// Takes what is there.
    pub(crate) fn try_take(&self) -> Option<libmq::Result<Batch>> {
        if !self.is_there.load(Ordering::Acquire) {
            return None;
        }
        self.take(&mut self.state.lock())
    }

    /// Takes what is there, or comes before `deadline`.
    pub(crate) fn take_until(&self, deadline: Option<Instant>) -> Option<libmq::Result<Batch>> {
        let mut state = self.state.lock();
        loop {
            if let Some(taken) = self.take(&mut state) {
                return Some(taken);
            }
            state = match deadline {
                None => self.filled.wait(state),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    self.filled.wait_for(state, left)
                }
            };
        }
    }

    /// Ends it: the batch in the slot goes back, and the descriptor is closed with the last handle.
    pub(crate) fn end(&self) {
        let mut state = self.state.lock();
        let entry = state.entry.take();
        let (slot, next) = (state.slot.take(), state.next.take());
        drop(state);
        drop((slot, next));
        entry.into_iter().for_each(|entry| entry.end());
    }

    fn take(&self, state: &mut State) -> Option<libmq::Result<Batch>> {
        loop {
            let (since, taken) = state.slot.take()?;
            if let Err(error @ libmq::Error::Closed) = &taken {
                // It is the answer from now on, for all who wait: each wakes the next.
                state.slot = Some((since, Err(error.clone())));
                self.filled.notify_one();
                return Some(taken);
            }
            self.fill(state);
            if taken.is_err() || since.elapsed() < self.msg_timeout {
                return Some(taken);
            }
        }
    }

    /// Fills the slot if it is empty and something is there, and sets the descriptor accordingly.
    fn fill(&self, state: &mut State) {
        if let (None, Some(entry)) = (&state.slot, &state.entry) {
            let waker = Waker::from(Arc::clone(entry));
            let (subscription, max_batch) = (&self.subscription, self.max_batch);
            let next = state.next.get_or_insert_with(|| {
                let subscription = subscription.clone();
                Box::pin(async move { subscription.next_batch_async(max_batch).await })
            });
            if let Poll::Ready(result) = next.as_mut().poll(&mut Context::from_waker(&waker)) {
                state.next = None;
                state.slot = Some((Instant::now(), result));
                self.filled.notify_one();
            }
        }
        // In an order in which nobody finds the descriptor readable and the slot empty.
        if state.slot.is_some() {
            self.is_there.store(true, Ordering::Release);
            state.readiness.set(true);
        } else {
            state.readiness.set(false);
            self.is_there.store(false, Ordering::Release);
        }
    }
}

impl Task for Prefetch {
    fn run(&self, _: &Waker) -> bool {
        self.fill(&mut self.state.lock());
        false
    }
}
