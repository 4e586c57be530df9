//! One connection's part of the budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Budget;
use super::ledger::reserved;
use super::owners::{Closing, Owner};
use crate::signal::Signal;

/// One connection's part of a budget; given back when it is dropped.
#[derive(Debug)]
pub struct Account {
    budget: Budget,
    id: u64,
    /// Bytes reserved.
    bytes: usize,
    may_close: bool,
    /// Whether the budget knows its owner: from its first bytes or its first wait on.
    is_listed: bool,
    closing: Arc<Closing>,
}

impl Account {
    /// An empty account. One that `may_close` is closed for others.
    pub(super) fn new(budget: Budget, id: u64, may_close: bool, closing: Arc<Closing>) -> Self {
        Self { budget, id, bytes: 0, may_close, is_listed: false, closing }
    }

    /// The budget that it is part of.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Bytes reserved: what is held, in steps.
    pub fn reserved(&self) -> usize {
        self.bytes
    }

    /// The connection holds `bytes` now, in and out.
    pub fn set(&mut self, bytes: usize) {
        let bytes = reserved(bytes);
        if bytes != self.bytes {
            self.list();
            let id = self.id;
            self.bytes = bytes;
            self.budget.change(|ledger, now| ledger.set(id, bytes, now));
        }
    }

    /// Reserves `bytes` for an account that holds nothing, if there is room for them.
    pub fn take(&mut self, bytes: usize) -> bool {
        let bytes = reserved(bytes);
        if bytes == 0 {
            return true;
        }
        self.list();
        let id = self.id;
        let taken = self.budget.change(|ledger, now| ledger.take(id, bytes, now));
        match taken {
            true => self.bytes = bytes,
            false => self.budget.make_room(bytes),
        }
        taken
    }

    /// Some of what is held was taken by the peer, and as much took its place.
    pub fn progress(&self) {
        if self.bytes > 0 {
            let id = self.id;
            self.budget.change(|ledger, now| ledger.progress(id, now));
        }
    }

    /// Whether the connection may hold more than [`FREE_BYTES`](super::FREE_BYTES), or more than it does. If
    /// not, it is woken to ask again.
    pub fn may_grow(&mut self) -> bool {
        if !self.budget.is_spent() {
            return true;
        }
        self.list();
        let id = self.id;
        let may = self.budget.change(|ledger, _| ledger.may_grow(id));
        if !may {
            self.budget.begin_to_sweep();
        }
        may
    }

    /// Waits until it may grow; `signal` is what the account wakes. An error if it is to close meanwhile.
    pub async fn room(&mut self, signal: &Signal) -> Result<(), Closed> {
        std::future::poll_fn(|cx| {
            signal.register(cx.waker());
            match (self.is_closed(), self.may_grow()) {
                (true, _) => std::task::Poll::Ready(Err(Closed)),
                (_, true) => std::task::Poll::Ready(Ok(())),
                _ => std::task::Poll::Pending,
            }
        })
        .await
    }

    /// Waits until the budget is not spent; `signal` is what the account wakes.
    pub(super) async fn may_begin(&mut self, signal: &Signal) {
        std::future::poll_fn(|cx| {
            signal.register(cx.waker());
            if !self.budget.is_spent() {
                return std::task::Poll::Ready(());
            }
            self.list();
            let id = self.id;
            if self.budget.change(|ledger, _| ledger.may_begin(id)) {
                return std::task::Poll::Ready(());
            }
            self.budget.begin_to_sweep();
            std::task::Poll::Pending
        })
        .await;
    }

    /// Resolves once the connection is to close; `signal` is what the account wakes.
    pub async fn closed(&self, signal: &Signal) {
        std::future::poll_fn(|cx| {
            signal.register(cx.waker());
            if self.is_closed() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
    }

    /// Whether the connection is to close, since others need what it holds.
    pub fn is_closed(&self) -> bool {
        self.closing.is_closed.load(Ordering::Acquire)
    }

    fn list(&mut self) {
        if !self.is_listed {
            self.is_listed = true;
            let owner = Owner { closing: Arc::clone(&self.closing), may_close: self.may_close };
            self.budget.0.owners.lock().insert(self.id, owner);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if self.is_listed {
            self.budget.0.owners.lock().remove(&self.id);
            let id = self.id;
            self.budget.change(|ledger, now| ledger.remove(id, now));
        }
    }
}

/// The account of a connection that is closed for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("memory for peers is spent, and this one held much of it for long")
    }
}

impl std::error::Error for Closed {}
