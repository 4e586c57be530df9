//! The budget itself: its limit, and what is reserved of it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use mq_core::Wake;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::account::Account;
use super::beginnings::{Beginning, Beginnings};
use super::ledger::Ledger;
use super::owners::{Closing, Owner};
use crate::signal::Signal;

/// Part of the memory for messages that is the limit for what is held for peers.
const PART_OF_MEMORY: u64 = 4;

/// The smallest limit, 16 MiB: three of the largest batches, or a thousand commands of usual size.
const LIMIT_MIN: u64 = 16 << 20;

/// The largest limit that is derived, 64 MiB: with it, and with what else a process needs, the whole stays
/// under the memory for messages and 128 MiB.
const LIMIT_MAX: u64 = 64 << 20;

/// Large answers that are made up at a time: each is counted once it is there.
const ANSWERS_MAX: usize = 2;

/// Id under which the ledger has the bytes of all beginnings.
const BEGINNINGS_ID: u64 = u64::MAX - 1;

/// A budget. A handle: clones share it.
#[derive(Clone, Debug)]
pub struct Budget(pub(super) Arc<Shared>);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) limit: usize,
    pub(super) began: Instant,
    pub(super) ledger: Mutex<Ledger>,
    /// Whether the ledger is at its limit: what most look at, without its lock.
    pub(super) is_spent: AtomicBool,
    /// Whether a task looks for accounts to close.
    pub(super) sweeps: AtomicBool,
    pub(super) next: AtomicU64,
    /// Milliseconds at which room was made last for a reservation that was refused.
    pub(super) last_room: AtomicU64,
    pub(super) owners: Mutex<HashMap<u64, Owner>>,
    /// Streams, and each codec as the number of streams that take as much.
    pub(super) streams: AtomicUsize,
    /// Streams that the ledger has a reservation for.
    pub(super) counted_streams: AtomicUsize,
    pub(super) beginnings: Mutex<Beginnings<Arc<Closing>>>,
    /// Bytes of beginnings that the ledger has a reservation for.
    pub(super) counted_beginnings: AtomicUsize,
    pub(super) answers: Arc<Semaphore>,
    /// The turn of answers with bodies of messages.
    pub(super) bodies: Arc<Semaphore>,
}

impl Default for Budget {
    fn default() -> Self {
        Self::new(LIMIT_MAX as usize)
    }
}

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self(Arc::new(Shared {
            limit,
            began: Instant::now(),
            ledger: Mutex::new(Ledger::new(limit)),
            is_spent: AtomicBool::new(limit == 0),
            sweeps: AtomicBool::new(false),
            next: AtomicU64::new(0),
            last_room: AtomicU64::new(0),
            owners: Mutex::default(),
            streams: AtomicUsize::new(0),
            counted_streams: AtomicUsize::new(0),
            beginnings: Mutex::new(Beginnings::new(limit)),
            counted_beginnings: AtomicUsize::new(0),
            answers: Arc::new(Semaphore::new(ANSWERS_MAX)),
            bodies: Arc::new(Semaphore::new(1)),
        }))
    }

    /// The budget beside `memory_limit` bytes for messages: a quarter of it, at least 16 and at most 64 MiB.
    pub fn beside(memory_limit: u64) -> Self {
        let limit = (memory_limit / PART_OF_MEMORY).clamp(LIMIT_MIN, LIMIT_MAX);
        Self::new(usize::try_from(limit).unwrap_or(usize::MAX))
    }

    /// Its limit in bytes.
    pub fn limit(&self) -> usize {
        self.0.limit
    }

    /// Bytes reserved at the moment.
    pub fn used(&self) -> usize {
        self.0.ledger.lock().used()
    }

    /// The most bytes there were reserved at a time.
    pub fn peak(&self) -> usize {
        self.0.ledger.lock().peak()
    }

    /// Whether the limit is reached.
    pub fn is_spent(&self) -> bool {
        self.0.is_spent.load(Ordering::Acquire)
    }

    /// An empty account of a connection, which `wake` wakes when it may grow again or is to close.
    pub fn account(&self, wake: Arc<dyn Wake>) -> Account {
        self.open(wake, true)
    }

    /// An empty account that is never closed for others: its bytes are no peer's fault.
    pub fn standing_account(&self) -> Account {
        self.open(Arc::new(Signal::default()), false)
    }

    fn open(&self, wake: Arc<dyn Wake>, may_close: bool) -> Account {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let closing = Arc::new(Closing::new(wake));
        Account::new(self.clone(), id, may_close, closing)
    }

    /// A new count of the input that a peer has begun to send on one layer of its connection.
    pub fn beginning(&self) -> Beginning {
        Beginning::new(self.clone())
    }

    /// Applies a change, counts what there is after it, and closes the owners that it returns.
    pub(super) fn change_beginnings(
        &self,
        change: impl FnOnce(&mut Beginnings<Arc<Closing>>) -> Vec<Arc<Closing>>,
    ) {
        let mut beginnings = self.0.beginnings.lock();
        let gone = change(&mut beginnings);
        let is_counted = beginnings.counted() == self.0.counted_beginnings.load(Ordering::Acquire);
        drop(beginnings);
        if !is_counted {
            self.change(|ledger, now| {
                let bytes = self.0.beginnings.lock().counted();
                self.0.counted_beginnings.store(bytes, Ordering::Release);
                ledger.set(BEGINNINGS_ID, bytes, now);
            });
        }
        if !gone.is_empty() {
            tracing::warn!(
                connections = gone.len(),
                "half-sent handshakes, records, frames and heads have their part of the memory for clients: the \
                 oldest are closed"
            );
        }
        gone.iter().for_each(|closing| closing.close());
    }

    /// A turn to make up an answer that may be large, to be kept until the answer is counted.
    pub async fn turn(&self) -> Option<Turn> {
        // It is never closed.
        Arc::clone(&self.0.answers).acquire_owned().await.ok().map(Turn::new)
    }

    /// A turn for an answer with bodies of messages, to be kept until the answer is counted. The answer may
    /// be larger than all of the budget: nobody else makes up one of its kind meanwhile, and it is made up
    /// only while the budget is not spent, so that no two of them are there beyond it.
    pub async fn sole_turn(&self) -> Option<Turn> {
        // It is never closed.
        let turn = Arc::clone(&self.0.bodies).acquire_owned().await.ok().map(Turn::new)?;
        let signal = Arc::new(Signal::default());
        let mut account = self.account(Arc::clone(&signal) as Arc<dyn Wake>);
        account.may_begin(&signal).await;
        Some(turn)
    }

    pub(super) fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Applies a change to the ledger, and wakes who may go on after it.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Ledger, u64) -> T) -> T {
        let now = self.now();
        let mut ledger = self.0.ledger.lock();
        let changed = change(&mut ledger, now);
        self.0.is_spent.store(ledger.is_spent(), Ordering::Release);
        let next = if ledger.any_waiting() { ledger.next(now) } else { Vec::new() };
        drop(ledger);
        self.wake(&next);
        changed
    }

    pub(super) fn wake(&self, ids: &[u64]) {
        if ids.is_empty() {
            return;
        }
        let owners = self.0.owners.lock();
        let woken: Vec<_> =
            ids.iter().filter_map(|id| owners.get(id)).map(|owner| Arc::clone(&owner.closing)).collect();
        drop(owners);
        woken.iter().for_each(|closing| closing.wake.wake());
    }
}

/// A turn to make up a large answer. It ends with its last clone: the work that makes the answer up has one,
/// and whoever counts it.
#[derive(Clone, Debug)]
pub struct Turn(#[allow(dead_code, reason = "held, not looked at")] Arc<OwnedSemaphorePermit>);

impl Turn {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(permit))
    }
}
