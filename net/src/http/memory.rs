//! A connection's part of the budget: the body it is reading, the answer it is writing, and what
//! TLS holds of that.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use mq_core::Wake;
use parking_lot::Mutex;

use crate::budget::{Account, Budget, Closed, FREE_BYTES};
use crate::signal::Signal;

/// Bytes of an answer by which a peer has to go on for it to count as slow, not as stuck.
const MOVED_BYTES: usize = 16 * 1024;

/// Bytes that a connection holds. Its task is woken when it may hold more, or is to close.
pub(super) struct ConnectionMemory {
    held: Mutex<Held>,
    signal: Arc<Signal>,
}

struct Held {
    account: Account,
    body: usize,
    answer: usize,
    /// Bytes that TLS holds until the socket takes them.
    unsent: usize,
    /// Bytes written since the last that counted as progress.
    moved: usize,
}

impl ConnectionMemory {
    pub(super) fn new(budget: &Budget) -> Arc<Self> {
        let signal = Arc::new(Signal::default());
        let account = budget.account(Arc::clone(&signal) as Arc<dyn Wake>);
        Arc::new(Self { held: Mutex::new(Held { account, body: 0, answer: 0, unsent: 0, moved: 0 }), signal })
    }

    /// Registers the connection's task to be woken. Called before the task checks anything.
    pub(super) fn register(&self, cx: &Context<'_>) {
        self.signal.register(cx.waker());
    }

    /// The budget.
    pub(super) fn budget(&self) -> Budget {
        self.held.lock().account.budget().clone()
    }

    /// Whether the connection is to close with its answer half sent.
    pub(super) fn cuts_answer(&self) -> bool {
        let held = self.held.lock();
        held.answer + held.unsent > 0 && held.account.is_closed()
    }

    /// Waits until there is room for more than what is free.
    pub(super) async fn room(&self) -> Result<(), Closed> {
        std::future::poll_fn(|cx| {
            self.register(cx);
            let mut held = self.held.lock();
            match (held.account.is_closed(), held.account.may_grow()) {
                (true, _) => Poll::Ready(Err(Closed)),
                (_, true) => Poll::Ready(Ok(())),
                _ => Poll::Pending,
            }
        })
        .await
    }

    /// The outcome of `step`, unless the connection is to close first.
    pub(super) async fn unless_closed<T>(&self, step: impl Future<Output = T>) -> Result<T, Closed> {
        let mut step = pin!(step);
        std::future::poll_fn(|cx| {
            self.register(cx);
            if self.held.lock().account.is_closed() {
                return Poll::Ready(Err(Closed));
            }
            step.as_mut().poll(cx).map(Ok)
        })
        .await
    }

    /// The request's body takes `bytes` now.
    pub(super) fn set_body(&self, bytes: usize) {
        self.held.lock().set(|held| held.body = bytes);
    }

    /// TLS holds `bytes` now until the socket takes them.
    pub(super) fn set_unsent(&self, bytes: usize) {
        self.held.lock().set(|held| held.unsent = bytes);
    }

    /// Counts an answer's body until it is written, or given up.
    pub(super) fn count_answer(self: &Arc<Self>, body: Bytes) -> Bytes {
        let bytes = body.len();
        if bytes <= FREE_BYTES {
            return body;
        }
        self.held.lock().set(|held| held.answer += bytes);
        Bytes::from_owner(CountedAnswer { body, memory: Arc::clone(self) })
    }

    /// The peer took `bytes`.
    pub(super) fn moved(&self, bytes: usize) {
        let mut held = self.held.lock();
        held.moved += bytes;
        if held.moved >= MOVED_BYTES {
            held.moved = 0;
            held.account.progress();
        }
    }
}

impl Held {
    fn set(&mut self, change: impl FnOnce(&mut Self)) {
        change(self);
        self.account.set(self.body + self.answer + self.unsent);
    }
}

/// An answer's body, counted while it is there.
struct CountedAnswer {
    body: Bytes,
    memory: Arc<ConnectionMemory>,
}

impl AsRef<[u8]> for CountedAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.body
    }
}

impl Drop for CountedAnswer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.body).len();
        self.memory.held.lock().set(|held| held.answer -= bytes);
    }
}
