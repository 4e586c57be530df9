//! Memory that a thread uses again from publish to publish: so nothing is allocated for each.

use std::cell::Cell;

use bytes::{Bytes, BytesMut};
use mq_core::TopicName;

use crate::error::{Error, Result};
use crate::publish::{Slot, SlotRef};

/// Bytes of the largest publish that shares its memory with others, which lives as long as any of them.
const SHARED_MAX: usize = 4 << 10;
/// Bytes of memory that publishes share.
const CHUNK_BYTES: usize = 64 << 10;
/// Slots of a block, which lives as long as any of them. A thread's first block has one, and each has twice
/// as many as the last.
const BLOCK_SLOTS: usize = 64;

/// Memory of one thread that publishes.
#[derive(Default)]
pub(crate) struct Scratch {
    topic: Option<TopicName>,
    records: Vec<u8>,
    chunk: BytesMut,
    /// The newest slot that was made and not used: those before it in its block are free too.
    slots: Option<SlotRef>,
    block_slots: usize,
}

thread_local! {
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

impl Scratch {
    /// Calls `run` with this thread's. Within `run`, and at the end of a thread, there is another one.
    pub(crate) fn with<R>(run: impl FnOnce(&mut Self) -> R) -> R {
        let mut scratch = SCRATCH.try_with(Cell::take).ok().flatten().unwrap_or_default();
        let result = run(&mut scratch);
        // A thread that ends keeps nothing.
        let _ = SCRATCH.try_with(|kept| kept.set(Some(scratch)));
        result
    }

    /// A topic's name; the one asked for last is not parsed again.
    pub(crate) fn topic(&mut self, name: &str) -> Result<TopicName> {
        match &self.topic {
            Some(topic) if topic.as_str() == name => Ok(topic.clone()),
            _ => Ok(self.topic.insert(name.parse().map_err(Error::invalid)?).clone()),
        }
    }

    /// An empty buffer for records.
    pub(crate) fn open(&mut self) -> Vec<u8> {
        let mut records = std::mem::take(&mut self.records);
        records.clear();
        records
    }

    /// The same bytes as they are kept.
    pub(crate) fn seal(&mut self, records: Vec<u8>) -> Bytes {
        if records.len() > SHARED_MAX {
            return records.into();
        }
        if self.chunk.capacity() < records.len() {
            self.chunk = BytesMut::with_capacity(CHUNK_BYTES);
        }
        self.chunk.extend_from_slice(&records);
        if records.capacity() <= 2 * SHARED_MAX {
            self.records = records;
        }
        self.chunk.split().freeze()
    }

    /// The slot of a publish that takes so many bytes.
    pub(crate) fn slot(&mut self, bytes: usize) -> SlotRef {
        let slot = self.slots.take().unwrap_or_else(|| {
            self.block_slots = (2 * self.block_slots).clamp(1, BLOCK_SLOTS);
            SlotRef::last_of((0..self.block_slots).map(|_| Slot::default()).collect())
        });
        self.slots = slot.before();
        slot.queue(bytes);
        slot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishes_share_memory_and_nothing_else() {
        let mut scratch = Scratch::default();
        let sealed: Vec<_> = (0..2000_usize)
            .map(|n| {
                let mut records = scratch.open();
                assert!(records.is_empty());
                records.resize(n % 300 + 1, n.to_le_bytes()[0]);
                scratch.seal(records)
            })
            .collect();
        for (n, records) in sealed.iter().enumerate() {
            assert_eq!(records.len(), n % 300 + 1);
            assert!(records.iter().all(|byte| *byte == n.to_le_bytes()[0]), "{n}");
        }
        // One behind the other, but for where a piece of memory ends.
        let follow = |pair: &&[Bytes]| pair[0].as_ptr_range().end == pair[1].as_ptr();
        let pieces = sealed.iter().map(Bytes::len).sum::<usize>().div_ceil(CHUNK_BYTES - 300);
        assert!(sealed.windows(2).filter(follow).count() >= sealed.len() - 1 - pieces);
        let large = vec![7; SHARED_MAX + 1];
        let at = large.as_ptr();
        assert_eq!(scratch.seal(large).as_ptr(), at, "it is not copied");
    }

    #[test]
    fn a_buffer_is_used_again_unless_it_became_large() {
        let mut scratch = Scratch::default();
        let mut records = scratch.open();
        records.extend([1; 100]);
        let at = records.as_ptr();
        scratch.seal(records);
        let again = scratch.open();
        assert!(again.as_ptr() == at && again.capacity() >= 100);
        // A small batch in a large buffer, reserved for more.
        scratch.seal(Vec::with_capacity(2 * SHARED_MAX + 1));
        assert_eq!(scratch.open().capacity(), 0, "a thread that sleeps keeps little");
    }

    #[test]
    fn the_last_topic_is_kept_and_another_is_another() {
        let mut scratch = Scratch::default();
        for name in ["a", "a", "b", "a"] {
            assert_eq!(scratch.topic(name).unwrap().as_str(), name);
        }
        assert!(scratch.topic("no spaces").is_err());
        assert_eq!(scratch.topic("a").unwrap().as_str(), "a");
        Scratch::with(|scratch| drop(scratch.topic("kept").unwrap()));
        let kept = Scratch::with(|scratch| scratch.topic.clone());
        assert_eq!(kept.map(|topic| topic.to_string()).as_deref(), Some("kept"));
    }

    #[test]
    fn each_publish_has_a_slot_of_its_own() {
        let mut scratch = Scratch::default();
        let mut largest = Vec::new();
        let slots: Vec<_> = (0..1000)
            .map(|bytes| {
                let slot = scratch.slot(bytes);
                largest.push(scratch.block_slots);
                slot
            })
            .collect();
        assert_eq!((largest[0], largest[1], largest.iter().max()), (1, 2, Some(&BLOCK_SLOTS)));
        let places: std::collections::BTreeSet<_> = slots.iter().map(|slot| &raw const **slot).collect();
        assert_eq!(places.len(), slots.len());
    }

    #[test]
    fn a_publish_within_a_publish_has_a_scratch_of_its_own() {
        let inner = Scratch::with(|outer| {
            outer.topic("outer").unwrap();
            Scratch::with(|inner| inner.topic.clone())
        });
        assert_eq!(inner, None);
    }
}
