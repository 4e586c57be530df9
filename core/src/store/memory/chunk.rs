//! Memory for frames: one pool of recycled chunks under one budget.
//!
//! A batch is encoded into the free tail of a chunk that nobody else holds, and split off as `Bytes` when it
//! is published: the one copy of each body. A chunk is free again when all the frames in it were dropped,
//! which the chunk's own tail handle can find out (`try_reclaim`), so no count is kept per message.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::format::numbers::TopicNo;
use crate::sync::Mutex;
use bytes::BytesMut;

use crate::store::memory::batch::Batch;
use crate::store::memory::free_list::{FreeList, class};
use crate::store::memory::prefault;

/// A frame larger than this part of a chunk gets a chunk of its own, so that no chunk wastes more.
const SHARE_OF_CHUNK: usize = 4;

/// Chunks in use that are passed over while one is looked for that isn't: they are freed about in order. Now
/// and then all are looked at ([`Pool::release_idle`]).
const BUSY_MAX: usize = 16;

/// Written frames are kept up to this, or a quarter of the budget if that is less: the system's page cache
/// has them too, and memory that is used again costs less than more of it.
const WRITTEN_BYTES_MAX: u64 = 256 << 20;

/// Frames that a chunk holds, by where else they are. Chunks of logged frames are evicted first: dropping
/// them costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Residency {
    /// Also in the log: frames of topics whose level writes each frame.
    Logged = 0,
    /// Nowhere else: frames of topics at level `memory`.
    MemoryOnly = 1,
}

/// In the order of their numbers.
const RESIDENCIES: [Residency; 2] = [Residency::Logged, Residency::MemoryOnly];

/// The pool.
pub(crate) struct Pool {
    /// Bytes that may be held; a publish that finds more is refused.
    limit: u64,
    /// Bytes from which on frames are evicted, and sessions stop reading while that takes its time.
    soft_limit: u64,
    /// Bytes of written frames' chunks from which on the oldest are evicted.
    written_limit: u64,
    chunk_bytes: usize,
    /// Bytes of written frames' chunks that take no more frames and were not evicted.
    written: AtomicU64,
    /// Bytes of all chunks that exist, and of what else is counted.
    used: AtomicU64,
    /// The part of it that channels have read ahead from disk.
    read_ahead: AtomicU64,
    /// The part of it that topics remember of ids.
    ids: AtomicU64,
    /// The part of it that topics remember of where single records stand.
    indexes: AtomicU64,
    /// Highest id of a chunk of written frames that was to be evicted.
    evicted_to: AtomicU64,
    state: Mutex<PoolState>,
}

#[derive(Default)]
struct PoolState {
    free: FreeList,
    open: [Vec<Chunk>; 2],
    /// Chunks that take no more frames, oldest first.
    sealed: [VecDeque<Chunk>; 2],
    last_id: u64,
}

/// Memory that frames are encoded into.
pub(super) struct Chunk {
    pub(super) id: u64,
    /// The free tail; what was split off is in the topics' rings.
    pub(super) tail: BytesMut,
    /// All of it; a [`class`].
    bytes: usize,
    /// Numbers of the topics with frames here, repeated when they take turns.
    topics: Vec<TopicNo>,
    /// Whether the topics were already asked to evict their frames.
    evicted: bool,
    /// Highest chunk id there was when it was sealed: frames in chunks of higher ids are younger than all in
    /// it.
    sealed_at: u64,
}

/// Chunks whose frames are to be evicted.
pub(crate) struct Victims {
    pub(crate) chunks: Vec<u64>,
    /// Numbers of the topics with frames there; may repeat.
    pub(crate) topics: Vec<TopicNo>,
    /// No frame in a chunk of a higher id is older than any in the victims.
    pub(crate) until: u64,
}

impl Pool {
    pub(crate) fn new(limit: u64, chunk_bytes: usize) -> Arc<Self> {
        let soft_limit = limit - limit / 8;
        Arc::new(Self {
            limit,
            soft_limit,
            written_limit: WRITTEN_BYTES_MAX.min(limit / 4),
            chunk_bytes,
            written: AtomicU64::new(0),
            used: AtomicU64::new(0),
            evicted_to: AtomicU64::new(0),
            read_ahead: AtomicU64::new(0),
            ids: AtomicU64::new(0),
            indexes: AtomicU64::new(0),
            state: Mutex::default(),
        })
    }

    /// Bytes of all chunks.
    pub(crate) fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether another chunk would pass the limit from which on frames are evicted.
    pub(crate) fn is_full(&self) -> bool {
        let used = self.used();
        let chunk = self.chunk_bytes as u64;
        used + chunk > self.soft_limit && {
            if used > self.limit {
                self.give_back();
            }
            let used = self.used();
            let free = self.state.lock().free.bytes();
            used.saturating_sub(free) + chunk > self.soft_limit
        }
    }

    /// Whether more written frames are kept than pays.
    pub(crate) fn is_full_of_written(&self) -> bool {
        self.written.load(Ordering::Relaxed) > self.written_limit
    }

    /// Whether the budget is passed, though free chunks were given back.
    pub(crate) fn is_over(&self) -> bool {
        self.used() > self.limit && {
            self.give_back();
            self.used() > self.limit
        }
    }

    /// Gives as many free bytes back to the system as the budget is passed by: what else is counted needs
    /// their place.
    fn give_back(&self) {
        let mut state = self.state.lock();
        let over = self.used().saturating_sub(self.limit);
        let released = state.free.release(over);
        drop(state);
        self.used.fetch_sub(released, Ordering::Relaxed);
    }

    /// An empty batch for frames of `residency`.
    pub(crate) fn batch(self: &Arc<Self>, residency: Residency) -> Batch {
        Batch::new(self.clone(), residency)
    }

    /// A chunk with room for a frame of `bytes`; if it gets one of its own, then with room for `growth` too.
    pub(super) fn open(&self, residency: Residency, bytes: usize, growth: usize) -> Chunk {
        if bytes > self.chunk_bytes / SHARE_OF_CHUNK {
            return self.take(class(bytes.max(growth)));
        }
        loop {
            let open = self.state.lock().open[residency as usize].pop();
            let chunk = open.unwrap_or_else(|| self.take(self.chunk_bytes));
            if chunk.tail.capacity() >= bytes {
                return chunk;
            }
            self.seal(residency, chunk);
        }
    }

    /// An empty chunk of `bytes`.
    fn take(&self, bytes: usize) -> Chunk {
        let mut state = self.state.lock();
        let mut tail = state.free.take(bytes);
        if tail.is_none() {
            self.reclaim_locked(&mut state, BUSY_MAX);
            tail = state.free.take(bytes);
        }
        state.last_id += 1;
        let id = state.last_id;
        drop(state);
        let tail = tail.unwrap_or_else(|| {
            self.used.fetch_add(bytes as u64, Ordering::Relaxed);
            prefault::buffer(bytes)
        });
        Chunk { id, tail, bytes, topics: Vec::new(), evicted: false, sealed_at: 0 }
    }

    /// Takes back a chunk whose tail is free. `topic` is the number of the topic it has a frame of since.
    pub(super) fn put_back(&self, residency: Residency, mut chunk: Chunk, topic: Option<TopicNo>) {
        if let Some(topic) = topic.filter(|topic| chunk.topics.last() != Some(topic)) {
            chunk.topics.push(topic);
        }
        if chunk.bytes == self.chunk_bytes {
            self.state.lock().open[residency as usize].push(chunk);
        } else {
            self.seal(residency, chunk);
        }
    }

    /// Takes back a chunk that gets no more frames.
    pub(super) fn seal(&self, residency: Residency, mut chunk: Chunk) {
        chunk.tail.clear();
        let mut state = self.state.lock();
        chunk.sealed_at = state.last_id;
        self.count(residency, &chunk, AtomicU64::fetch_add);
        state.sealed[residency as usize].push_back(chunk);
    }

    /// Counts a sealed chunk among those of written frames, or no longer.
    fn count(&self, residency: Residency, chunk: &Chunk, change: impl Fn(&AtomicU64, u64, Ordering) -> u64) {
        if residency == Residency::Logged && !chunk.evicted {
            change(&self.written, chunk.bytes as u64, Ordering::Relaxed);
        }
    }

    /// Takes back the oldest chunks whose frames are all gone.
    pub(crate) fn reclaim(&self) {
        self.reclaim_locked(&mut self.state.lock(), BUSY_MAX);
    }

    /// Takes back chunks whose frames are all gone, passing over `busy_max` others in a row.
    fn reclaim_locked(&self, state: &mut PoolState, busy_max: usize) {
        let PoolState { free, sealed, .. } = state;
        for (residency, sealed) in RESIDENCIES.into_iter().zip(sealed) {
            let (mut at, mut busy) = (0, 0);
            while busy < busy_max
                && let Some(chunk) = sealed.get_mut(at)
            {
                if !chunk.tail.try_reclaim(chunk.bytes) {
                    (at, busy) = (at + 1, busy + 1);
                    continue;
                }
                busy = 0;
                let Some(mut chunk) = sealed.remove(at) else { break };
                self.count(residency, &chunk, AtomicU64::fetch_sub);
                if self.used() <= self.soft_limit {
                    free.put(chunk.bytes, std::mem::take(&mut chunk.tail));
                } else {
                    self.used.fetch_sub(chunk.bytes as u64, Ordering::Relaxed);
                }
            }
        }
    }

    /// Gives the free chunks that were not needed since the last call back to the system.
    pub(crate) fn release_idle(&self) {
        let mut state = self.state.lock();
        self.reclaim_locked(&mut state, usize::MAX);
        let released = state.free.release_idle();
        drop(state);
        self.used.fetch_sub(released, Ordering::Relaxed);
    }

    /// The oldest up to `max` chunks of `residency` that were not named before: the caller makes the topics
    /// evict their frames there. `None` if there are none.
    pub(crate) fn victims(&self, residency: Residency, max: usize) -> Option<Victims> {
        let mut state = self.state.lock();
        let mut victims = Victims { chunks: Vec::new(), topics: Vec::new(), until: 0 };
        for chunk in state.sealed[residency as usize].iter_mut().filter(|c| !c.evicted).take(max) {
            self.count(residency, chunk, AtomicU64::fetch_sub);
            chunk.evicted = true;
            victims.chunks.push(chunk.id);
            victims.topics.append(&mut chunk.topics);
            victims.until = victims.until.max(chunk.sealed_at);
            if residency == Residency::Logged {
                self.evicted_to.fetch_max(chunk.id, Ordering::Relaxed);
            }
        }
        (!victims.chunks.is_empty()).then_some(victims)
    }

    /// Names a chunk among the victims again: `topic` could not evict its frames there.
    pub(crate) fn name_again(&self, id: u64, topic: TopicNo) {
        let mut state = self.state.lock();
        for (residency, sealed) in RESIDENCIES.into_iter().zip(&mut state.sealed) {
            let Some(chunk) = sealed.iter_mut().find(|c| c.id == id) else { continue };
            if std::mem::take(&mut chunk.evicted) {
                self.count(residency, chunk, AtomicU64::fetch_add);
            }
            if chunk.topics.last() != Some(&topic) {
                chunk.topics.push(topic);
            }
        }
    }

    /// Whether a frame in that chunk, written just now, is not to be kept in memory: its chunk was to be
    /// evicted while it was on its way (or, which costs only a read, an older one is still open).
    pub(crate) fn was_evicted(&self, chunk: u64) -> bool {
        chunk <= self.evicted_to.load(Ordering::Relaxed)
    }

    /// Counts `bytes` that live outside of chunks under the budget.
    pub(crate) fn charge(&self, bytes: usize) {
        self.used.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts what a channel has read ahead.
    pub(crate) fn charge_read_ahead(&self, bytes: usize) {
        self.charge(bytes);
        self.read_ahead.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes back a [`Pool::charge_read_ahead`].
    pub(crate) fn discharge_read_ahead(&self, bytes: usize) {
        self.discharge(bytes);
        self.read_ahead.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Counts what topics remember of ids.
    pub(crate) fn charge_ids(&self, bytes: usize) {
        self.charge(bytes);
        self.ids.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes back a [`Pool::charge_ids`].
    pub(crate) fn discharge_ids(&self, bytes: usize) {
        self.discharge(bytes);
        self.ids.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Whether ids take as much as they may.
    pub(crate) fn is_full_of_ids(&self) -> bool {
        self.ids.load(Ordering::Relaxed) > self.limit / 4
    }

    /// Counts what topics remember of where single records stand.
    pub(crate) fn charge_indexes(&self, bytes: usize) {
        self.charge(bytes);
        self.indexes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Takes back a [`Pool::charge_indexes`].
    pub(crate) fn discharge_indexes(&self, bytes: usize) {
        self.discharge(bytes);
        self.indexes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Whether indexes of records take as much as they may.
    pub(crate) fn is_full_of_indexes(&self) -> bool {
        self.indexes.load(Ordering::Relaxed) > self.limit / 8
    }

    /// Bytes that channels have read ahead.
    pub(crate) fn read_ahead(&self) -> u64 {
        self.read_ahead.load(Ordering::Relaxed)
    }

    /// Takes back a [`Pool::charge`].
    pub(crate) fn discharge(&self, bytes: usize) {
        self.used.fetch_sub(bytes as u64, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Attributes;
    use crate::store::format::frame;
    use crate::store::memory::batch::Payload;

    fn payload(pool: &Arc<Pool>, topic: TopicNo, bodies: &[&[u8]]) -> Payload {
        let mut batch = pool.batch(Residency::MemoryOnly);
        for body in bodies {
            batch.push(&Attributes::NONE, body).unwrap();
        }
        batch.finish(topic)
    }

    #[test]
    fn a_chunk_is_used_again_once_its_frames_are_gone() {
        let pool = Pool::new(1 << 20, 1 << 10);
        let frames: Vec<_> = (0..40).map(|i| payload(&pool, TopicNo(i), &[&[7; 100]])).collect();
        let full = pool.used();
        assert!(full >= 5 << 10, "{full}");
        drop(frames);
        pool.reclaim();
        let again: Vec<_> = (0..40).map(|i| payload(&pool, TopicNo(i), &[&[8; 100]])).collect();
        assert_eq!(pool.used(), full);
        assert!(again.iter().all(|p| p.bytes.len() == 112));
        drop(again);
        pool.release_idle();
        pool.release_idle();
        assert!(pool.used() <= 1 << 10, "only the open chunk is left: {}", pool.used());
    }

    /// Free chunks are room: nothing is refused for them.
    #[test]
    fn free_chunks_make_way_for_what_else_is_counted() {
        let pool = Pool::new(1 << 20, 4 << 10);
        let frames: Vec<_> =
            (0..200).map(|i| payload(&pool, TopicNo(i), &[&[7; 1000], &[7; 1000], &[7; 1000]])).collect();
        drop(frames);
        pool.reclaim();
        pool.release_idle();
        let kept = pool.used();
        let more = (1 << 20) - kept as usize / 2;
        pool.charge(more);
        assert!(pool.used() > 1 << 20, "{} are kept", kept);
        assert!(!pool.is_over());
        assert!(pool.used() <= 1 << 20);
        pool.discharge(more);
        pool.charge(1 << 21);
        assert!(pool.is_over());
    }

    #[test]
    fn a_large_batch_gets_a_chunk_of_its_own_size_that_is_used_again() {
        let pool = Pool::new(1 << 20, 1 << 10);
        for bytes in [5_000, 5_020, 4_990] {
            let large = payload(&pool, TopicNo(1), &[&vec![1; bytes], &[2; 10]]);
            assert_eq!((large.count, large.crc), (2, frame::records_crc(&large.bytes)));
            assert!((5_000..7_000).contains(&pool.used()), "{}", pool.used());
        }
        pool.release_idle();
        pool.release_idle();
        assert!(pool.used() <= 2 << 10);
    }

    #[test]
    fn chunks_of_written_frames_count_until_they_are_given_up_or_free() {
        let pool = Pool::new(64 << 10, 1 << 10);
        let frames: Vec<_> = (0..200)
            .map(|i| {
                let mut batch = pool.batch(Residency::Logged);
                batch.push(&Attributes::NONE, &[7; 100]).unwrap();
                batch.finish(TopicNo(i))
            })
            .collect();
        assert!(pool.is_full_of_written());
        let mut evicted = Vec::new();
        while pool.is_full_of_written() {
            evicted.extend(pool.victims(Residency::Logged, 1).unwrap().chunks);
        }
        assert_eq!(evicted.len(), 200_usize.div_ceil(9) - 1 - 16);
        pool.name_again(evicted[0], TopicNo(0));
        assert!(pool.is_full_of_written());
        pool.name_again(evicted[0], TopicNo(1));
        assert_eq!(pool.victims(Residency::Logged, 1).unwrap().chunks, evicted[..1]);
        assert!(!pool.is_full_of_written());
        drop(frames);
        pool.release_idle();
        assert_eq!(pool.written.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn victims_are_the_oldest_and_name_their_topics() {
        let pool = Pool::new(1 << 20, 1 << 10);
        let _frames: Vec<_> = (0..12).map(|i| payload(&pool, TopicNo(i), &[&[7; 200]])).collect();
        assert_eq!(pool.victims(Residency::MemoryOnly, 1).unwrap().topics, [0, 1, 2, 3].map(TopicNo));
        assert_eq!(pool.victims(Residency::MemoryOnly, 1).unwrap().topics, [4, 5, 6, 7].map(TopicNo));
        assert!(pool.victims(Residency::Logged, 9).is_none());
    }
}
