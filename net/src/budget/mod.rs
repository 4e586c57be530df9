//! The budget of a process for bytes held for its peers, in and out, whatever the protocol: half-read
//! commands and bodies, answers and messages that a socket does not take. `ledger`: its figures;
//! `beginnings`: what layers hold before anybody sees it.
//!
//! Each connection has an [`Account`] and sets it to what it holds once it is known that this stays: after a
//! read that ended in the middle of a command, after a write that the socket did not take. At the limit it
//! takes in nothing larger than [`FREE_BYTES`] and waits. While anybody waits, the accounts that held most
//! for longest are closed.

mod beginnings;
mod ledger;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use mq_core::Wake;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep};

use crate::signal::Signal;
use beginnings::Beginnings;
use ledger::{Ledger, reserved};

pub use beginnings::Beginning;
pub use ledger::{FREE_BYTES, STEP_BYTES};

/// Part of the memory for messages that is the limit for what is held for peers.
const PART_OF_MEMORY: u64 = 4;

/// The smallest limit, 16 MiB: three of the largest batches, or a thousand commands of usual size.
const LIMIT_MIN: u64 = 16 << 20;

/// The largest limit that is derived, 64 MiB: with it, and with what else a process needs, the whole stays
/// under the memory for messages and 128 MiB.
const LIMIT_MAX: u64 = 64 << 20;

/// Time without progress after which an account is closed while others wait.
const GRACE: Duration = Duration::from_secs(2);

/// Interval between two looks for such accounts, while anybody waits.
const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// Large answers that are made up at a time: each is counted once it is there.
const ANSWERS_MAX: usize = 2;

/// Bytes that a gRPC stream takes for its state, half-read headers included.
pub const STREAM_BYTES: usize = 16 * 1024;

/// Bytes that deflate takes of a connection for as long as it lasts, busy or not.
pub const DEFLATE_BYTES: usize = 320 * 1024;

/// A connection with fewer streams has a place where others have none left.
const FEW_STREAMS: usize = 4;

/// Places of streams that are reserved for at a time.
const STREAM_RUN: usize = 16;

/// Id under which the ledger has the bytes of all streams and codecs.
const STREAMS_ID: u64 = u64::MAX;

/// Id under which the ledger has the bytes of all beginnings.
const BEGINNINGS_ID: u64 = u64::MAX - 1;

/// A budget. A handle: clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limit: usize,
    began: Instant,
    ledger: Mutex<Ledger>,
    /// Whether the ledger is at its limit: what most look at, without its lock.
    is_spent: AtomicBool,
    /// Whether a task looks for accounts to close.
    sweeps: AtomicBool,
    next: AtomicU64,
    /// Milliseconds at which room was made last for a reservation that was refused.
    last_room: AtomicU64,
    owners: Mutex<HashMap<u64, Owner>>,
    /// Streams, and codecs as so many streams as would take as much.
    streams: AtomicUsize,
    /// Streams that the ledger has a reservation for.
    counted_streams: AtomicUsize,
    beginnings: Mutex<Beginnings<Arc<Closing>>>,
    /// Bytes of beginnings that the ledger has a reservation for.
    counted_beginnings: AtomicUsize,
    answers: Arc<Semaphore>,
    /// The turn of answers with bodies of messages.
    bodies: Arc<Semaphore>,
}

/// The connection that an account belongs to.
#[derive(Debug)]
struct Owner {
    closing: Arc<Closing>,
    /// Whether it may be closed for others.
    may_close: bool,
}

struct Closing {
    is_closed: AtomicBool,
    wake: Arc<dyn Wake>,
}

impl Closing {
    fn new(wake: Arc<dyn Wake>) -> Self {
        Self { is_closed: AtomicBool::new(false), wake }
    }

    fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake.wake();
    }
}

impl std::fmt::Debug for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Closing").field(&self.is_closed).finish()
    }
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
        Account { budget: self.clone(), id, bytes: 0, may_close, is_listed: false, closing }
    }

    /// A place for one more gRPC stream of a connection that has `others`. `None` once streams and codecs
    /// have half of the budget. The last quarter of that is for connections with few.
    pub fn stream(&self, others: usize) -> Option<StatePlace> {
        self.place(1, others < FEW_STREAMS)
    }

    /// A place for a connection's deflate. `None` once streams and codecs have three eighths of the budget:
    /// what is left of their half is for streams.
    pub fn deflate(&self) -> Option<StatePlace> {
        self.place(DEFLATE_BYTES.div_ceil(STREAM_BYTES), false)
    }

    /// A place as large as so many streams, of the last quarter too if it `may_take_last`.
    fn place(&self, streams: usize, may_take_last: bool) -> Option<StatePlace> {
        let all = self.0.limit / 2 / STREAM_BYTES;
        let max = if may_take_last { all } else { all - all / 4 };
        let taken = self.0.streams.try_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            (taken + streams <= max).then_some(taken + streams)
        });
        let place = taken.is_ok().then(|| StatePlace { budget: self.clone(), streams })?;
        self.count_streams();
        Some(place)
    }

    /// Reserves what streams take, a run of streams at a time, and gives back what is two runs too many.
    fn count_streams(&self) {
        let wanted =
            |shared: &Shared| shared.streams.load(Ordering::Acquire).div_ceil(STREAM_RUN) * STREAM_RUN;
        let has_changed = |counted: usize, wanted: usize| wanted > counted || wanted + STREAM_RUN < counted;
        let counted = &self.0.counted_streams;
        if has_changed(counted.load(Ordering::Acquire), wanted(&self.0)) {
            self.change(|ledger, now| {
                let streams = wanted(&self.0);
                counted.store(streams, Ordering::Release);
                ledger.set(STREAMS_ID, streams * STREAM_BYTES, now);
            });
        }
    }

    /// A new count of the input that a peer has begun to send on one layer of its connection.
    pub fn beginning(&self) -> Beginning {
        Beginning::new(self.clone())
    }

    /// Applies a change, counts what there is after it, and closes the owners that it returns.
    fn change_beginnings(&self, change: impl FnOnce(&mut Beginnings<Arc<Closing>>) -> Vec<Arc<Closing>>) {
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
    /// be larger than all of the budget: nobody else makes up one of its kind meanwhile, and it is made up only
    /// while the budget is not spent, so that no two of them are there beyond it.
    pub async fn sole_turn(&self) -> Option<Turn> {
        // It is never closed.
        let turn = Arc::clone(&self.0.bodies).acquire_owned().await.ok().map(Turn::new)?;
        let signal = Arc::new(Signal::default());
        let mut account = self.account(Arc::clone(&signal) as Arc<dyn Wake>);
        account.may_begin(&signal).await;
        Some(turn)
    }

    fn now(&self) -> u64 {
        u64::try_from(self.0.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Applies a change to the ledger, and wakes who may go on after it.
    fn change<T>(&self, change: impl FnOnce(&mut Ledger, u64) -> T) -> T {
        let now = self.now();
        let mut ledger = self.0.ledger.lock();
        let changed = change(&mut ledger, now);
        self.0.is_spent.store(ledger.is_spent(), Ordering::Release);
        let next = if ledger.any_waiting() { ledger.next(now) } else { Vec::new() };
        drop(ledger);
        self.wake(&next);
        changed
    }

    fn wake(&self, ids: &[u64]) {
        if ids.is_empty() {
            return;
        }
        let owners = self.0.owners.lock();
        let woken: Vec<_> =
            ids.iter().filter_map(|id| owners.get(id)).map(|owner| Arc::clone(&owner.closing)).collect();
        drop(owners);
        woken.iter().for_each(|closing| closing.wake.wake());
    }

    /// Closes accounts for those that wait, as long as there are any.
    fn begin_to_sweep(&self) {
        if self.0.sweeps.load(Ordering::Acquire) || self.0.sweeps.swap(true, Ordering::AcqRel) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            self.0.sweeps.store(false, Ordering::Release);
            return;
        };
        let budget = self.clone();
        runtime.spawn(async move {
            loop {
                sleep(SWEEP_EVERY).await;
                if !budget.sweep() {
                    return;
                }
            }
        });
    }

    /// Returns whether anybody waits still.
    fn sweep(&self) -> bool {
        let mut ledger = self.0.ledger.lock();
        if !ledger.any_waiting() {
            self.0.sweeps.store(false, Ordering::Release);
            return false;
        }
        ledger.release_finisher();
        let wanted = ledger.wanted();
        let next = ledger.next(self.now());
        drop(ledger);
        self.close_for(wanted);
        self.wake(&next);
        true
    }

    /// Closes what held most for longest, so that there will be room for `wanted` bytes.
    fn close_for(&self, wanted: usize) {
        let owners = self.0.owners.lock();
        let may_close = |id| {
            owners.get(&id).is_some_and(|owner: &Owner| {
                owner.may_close && !owner.closing.is_closed.load(Ordering::Acquire)
            })
        };
        let (now, grace) = (self.now(), GRACE.as_millis() as u64);
        let victims = self.0.ledger.lock().victims(wanted, now, grace, may_close);
        let closed: Vec<_> =
            victims.iter().filter_map(|id| owners.get(id)).map(|owner| Arc::clone(&owner.closing)).collect();
        drop(owners);
        if !closed.is_empty() {
            let limit = self.0.limit;
            tracing::warn!(
                connections = closed.len(),
                limit,
                "memory for clients is spent: those that held most for longest are closed"
            );
        }
        closed.iter().for_each(|closing| closing.close());
    }

    /// Has room made for `wanted` bytes that were refused, so that they find some when they come again.
    fn make_room(&self, wanted: usize) {
        let now = self.now();
        let last = self.0.last_room.load(Ordering::Acquire);
        // Not for each of a flood, but again and again while it lasts.
        let is_due = now.saturating_sub(last) >= SWEEP_EVERY.as_millis() as u64;
        if is_due && self.0.last_room.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            self.close_for(wanted);
        }
    }
}

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

    /// Whether the connection may hold more than [`FREE_BYTES`], or more than it does. If not, it is woken to
    /// ask again.
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
    async fn may_begin(&mut self, signal: &Signal) {
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

/// A turn to make up a large answer. It ends with its last clone: the work that makes the answer up has one,
/// and whoever counts it.
#[derive(Clone, Debug)]
pub struct Turn(#[allow(dead_code, reason = "held, not looked at")] Arc<OwnedSemaphorePermit>);

impl Turn {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self(Arc::new(permit))
    }
}

/// The place of a gRPC stream or a codec, given up when it is dropped.
#[derive(Debug)]
pub struct StatePlace {
    budget: Budget,
    /// Streams that would take as much.
    streams: usize,
}

impl Drop for StatePlace {
    fn drop(&mut self) {
        self.budget.0.streams.fetch_sub(self.streams, Ordering::AcqRel);
        self.budget.count_streams();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl std::task::Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn streams_have_half_of_it_and_give_it_back() {
        let budget = Budget::new(4 << 20);
        let mut places = Vec::new();
        places.extend(std::iter::from_fn(|| budget.stream(FEW_STREAMS)));
        assert_eq!((places.len(), budget.used()), (96, 96 * STREAM_BYTES));
        places.extend(std::iter::from_fn(|| budget.stream(0)));
        assert_eq!((places.len(), budget.used()), (128, 2 << 20));
        places.truncate(1);
        assert!(budget.used() <= 2 * STREAM_RUN * STREAM_BYTES, "{}", budget.used());
        assert!(budget.stream(FEW_STREAMS).is_some());
    }

    #[test]
    fn deflate_takes_what_it_holds_and_leaves_streams_their_last_quarter() {
        let budget = Budget::new(4 << 20);
        let mut places: Vec<_> = std::iter::from_fn(|| budget.deflate()).collect();
        assert_eq!(places.len(), (3 << 19) / DEFLATE_BYTES);
        assert!(budget.used() >= places.len() * DEFLATE_BYTES, "{}", budget.used());
        assert!((0..32).all(|_| budget.stream(0).map(|place| places.push(place)).is_some()));
        places.clear();
        assert!(budget.used() <= 2 * STREAM_RUN * STREAM_BYTES, "{}", budget.used());
        assert!(budget.deflate().is_some());
    }

    #[test]
    fn a_quarter_of_the_memory_for_messages_between_a_least_and_a_most() {
        for (memory, limit) in [(4, 16), (64, 16), (128, 32), (256, 64), (4096, 64)] {
            assert_eq!(Budget::beside(memory << 20).limit(), limit << 20, "{memory} MiB");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn repeated_refusals_close_the_stalled_account() {
        let budget = Budget::new(STREAM_BYTES);
        let mut stuck = budget.account(Arc::new(Signal::default()));
        assert!(stuck.take(STREAM_BYTES));
        let mut asking = budget.standing_account();
        let began = Instant::now();
        while !stuck.is_closed() {
            assert!(!asking.take(STREAM_BYTES));
            assert!(began.elapsed() < 2 * GRACE, "it is never closed");
            sleep(SWEEP_EVERY / 10).await;
        }
        drop(stuck);
        assert!(asking.take(STREAM_BYTES));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sole_turn_waits_without_spinning_until_a_stalled_account_has_made_room() {
        let budget = Budget::new(STREAM_BYTES);
        let mut stuck = budget.account(Arc::new(Signal::default()));
        stuck.set(1 << 20);
        let woken = Arc::new(Woken::default());
        let waker = std::task::Waker::from(Arc::clone(&woken));
        let mut cx = std::task::Context::from_waker(&waker);
        let mut turn = std::pin::pin!(budget.sole_turn());
        assert!(turn.as_mut().poll(&mut cx).is_pending());
        assert!(!woken.0.load(Ordering::Relaxed), "there is no room");
        // It does not take the place of the one that may go on beyond the limit.
        let mut finisher = budget.account(Arc::new(Signal::default()));
        assert!(finisher.may_grow());
        while !stuck.is_closed() {
            sleep(SWEEP_EVERY).await;
            assert!(budget.0.began.elapsed() < 2 * GRACE, "it is never closed");
        }
        drop(stuck);
        assert!(woken.0.load(Ordering::Relaxed));
        let first = turn.await;
        assert!(first.is_some());
        let mut second = std::pin::pin!(budget.sole_turn());
        assert!(second.as_mut().poll(&mut cx).is_pending(), "one at a time");
        drop(first);
        assert!(second.await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_account_grows_once_a_stalled_one_is_closed() {
        let budget = Budget::new(STREAM_BYTES);
        let account = || {
            let signal = Arc::new(Signal::default());
            (budget.account(Arc::clone(&signal) as Arc<dyn Wake>), signal)
        };
        let (mut stuck, stuck_signal) = account();
        stuck.set(1 << 20);
        let (mut finisher, _) = account();
        assert!(finisher.may_grow());
        finisher.set(FREE_BYTES + 1);
        let (mut waits, signal) = account();
        assert!(!waits.may_grow());
        let giving_way = async {
            std::future::poll_fn(|cx| {
                stuck_signal.register(cx.waker());
                if stuck.is_closed() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
            })
            .await;
            drop(stuck);
            // The finisher is at its end.
            finisher.set(0);
        };
        let (_, room) = tokio::join!(giving_way, waits.room(&signal));
        assert_eq!(room, Ok(()));
        assert_eq!(budget.used(), 0);
    }
}
