//! The ids of the newest messages of a topic, bounded in time and in number. Pure: ids and times are
//! arguments.

use std::collections::VecDeque;

use crate::clock::Wall;
use crate::message::Offset;
use crate::store::format::ids::{IdHash, StoredId};

/// The window. Takes at most 56 bytes an id, and some 1 KiB.
pub(crate) struct DedupWindow {
    /// In the order of their offsets, and so of their times. One whose message was not stored after all is
    /// [`GONE`].
    entries: VecDeque<StoredId>,
    /// Numbers of the entries by their hashes: open addressing, linear probing. A power of two long, at most
    /// half full.
    index: Vec<u32>,
    /// Number of the first entry; those after it count on.
    first: u32,
    /// Entries that are not gone.
    live: usize,
    /// Number of last entries that are not stored yet: their offsets count from the first message of their
    /// batch.
    staged: usize,
    /// Makes places in the index unknown to who chooses ids.
    seeds: [u64; 2],
}

/// The window's entry for an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Known {
    /// The message at this offset has it.
    Stored(Offset),
    /// The message is staged, at this index of its batch.
    Staged(u32),
}

const EMPTY: u32 = u32::MAX;
const GONE: Offset = Offset(u64::MAX);
const INDEX_MIN: usize = 64;

impl DedupWindow {
    /// A window that knows `ids`, each once, in the order of their offsets.
    pub(crate) fn new(ids: Vec<StoredId>) -> Self {
        let live = ids.len();
        let mut window = Self {
            entries: ids.into(),
            index: Vec::new(),
            first: 0,
            live,
            staged: 0,
            seeds: [fastrand::u64(..) | 1, fastrand::u64(..) | 1],
        };
        window.index_anew();
        window
    }

    /// The entry for `hash`.
    pub(crate) fn find(&self, hash: IdHash) -> Option<Known> {
        let at = self.number(self.index[self.slot(hash)])?;
        let entry = &self.entries[at];
        Some(match at < self.entries.len() - self.staged {
            true => Known::Stored(entry.offset),
            false => Known::Staged(entry.offset.0 as u32),
        })
    }

    /// Adds an id that is not known, of the message that will be stored as number `at` of its batch.
    pub(crate) fn stage(&mut self, hash: IdHash, at: u32) {
        if self.entries.len() == self.entries.capacity() {
            self.entries.reserve_exact((self.entries.len() / 4).max(16));
        }
        self.entries.push_back(StoredId { hash, offset: Offset(at.into()), time: Wall(0) });
        self.live += 1;
        self.staged += 1;
        let number = u64::from(self.first) + self.entries.len() as u64 - 1;
        if 2 * self.entries.len() > self.index.len() || number >= u64::from(EMPTY) {
            self.index_anew();
            return;
        }
        let slot = self.slot(hash);
        self.index[slot] = number as u32;
    }

    /// The batch was stored at `time` from the offset `first` on.
    pub(crate) fn commit(&mut self, first: Offset, time: Wall) {
        let staged = std::mem::take(&mut self.staged);
        for entry in self.entries.iter_mut().rev().take(staged) {
            entry.offset = first.plus(entry.offset.0);
            entry.time = time;
        }
    }

    /// The batch was not stored.
    pub(crate) fn roll_back(&mut self) {
        for _ in 0..std::mem::take(&mut self.staged) {
            if let Some(entry) = self.entries.back().copied() {
                self.unlink(entry.hash);
                self.entries.pop_back();
                self.live -= 1;
            }
        }
    }

    /// The message with this id and offset was not stored after all.
    pub(crate) fn remove(&mut self, hash: IdHash, offset: Offset) {
        if self.find(hash) != Some(Known::Stored(offset)) {
            return;
        }
        if let Some(at) = self.number(self.index[self.slot(hash)]) {
            self.unlink(hash);
            self.entries[at].offset = GONE;
            self.live -= 1;
        }
        if self.staged == 0 {
            while self.entries.back().is_some_and(|entry| entry.offset == GONE) {
                self.entries.pop_back();
            }
        }
    }

    /// Forgets what was published by `until`. Not while something is staged.
    pub(crate) fn expire(&mut self, until: Wall) {
        while self.entries.front().is_some_and(|entry| entry.time <= until || entry.offset == GONE) {
            self.pop_front();
        }
    }

    /// Forgets all but the newest `max`. Gives how many that were.
    pub(crate) fn trim(&mut self, max: usize) -> usize {
        let before = self.live;
        while self.live > max {
            self.pop_front();
        }
        before - self.live
    }

    /// Ids that are known.
    pub(crate) fn len(&self) -> usize {
        self.live
    }

    /// Ids of stored messages, oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = StoredId> + '_ {
        let stored = self.entries.len() - self.staged;
        self.entries.iter().take(stored).filter(|entry| entry.offset != GONE).copied()
    }

    /// Bytes it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<StoredId>() + self.index.capacity() * size_of::<u32>()
    }

    /// Gives back memory that a past burst needed.
    pub(crate) fn tidy(&mut self) {
        let len = self.entries.len();
        if self.entries.capacity() > 2 * len + 32 {
            self.entries.shrink_to(len + len / 4);
            self.index_anew();
        }
    }

    fn pop_front(&mut self) {
        let Some(entry) = self.entries.front().copied() else { return };
        if entry.offset != GONE {
            self.unlink(entry.hash);
            self.live -= 1;
        }
        self.entries.pop_front();
        self.first += 1;
    }

    /// The place of the entry with that number.
    fn number(&self, number: u32) -> Option<usize> {
        (number != EMPTY).then(|| (number - self.first) as usize)
    }

    fn home(&self, hash: IdHash) -> usize {
        let [low, high] = hash.0;
        let mixed = low.wrapping_mul(self.seeds[0]) ^ high.wrapping_mul(self.seeds[1]).rotate_left(32);
        (mixed >> 20) as usize & (self.index.len() - 1)
    }

    /// The place of `hash` in the index: where it is, or would be put.
    fn slot(&self, hash: IdHash) -> usize {
        let mut slot = self.home(hash);
        while let Some(at) = self.number(self.index[slot])
            && self.entries[at].hash != hash
        {
            slot = (slot + 1) & (self.index.len() - 1);
        }
        slot
    }

    /// Takes `hash` out of the index, and moves those up that it stood in the way of.
    fn unlink(&mut self, hash: IdHash) {
        let mask = self.index.len() - 1;
        let mut hole = self.slot(hash);
        let mut slot = (hole + 1) & mask;
        while let Some(at) = self.number(self.index[slot]) {
            let home = self.home(self.entries[at].hash);
            if slot.wrapping_sub(home) & mask >= slot.wrapping_sub(hole) & mask {
                self.index[hole] = self.index[slot];
                hole = slot;
            }
            slot = (slot + 1) & mask;
        }
        self.index[hole] = EMPTY;
    }

    fn index_anew(&mut self) {
        let len = (2 * self.entries.len()).next_power_of_two().max(INDEX_MIN);
        self.index = vec![EMPTY; len];
        self.first = 0;
        for at in 0..self.entries.len() {
            if self.entries[at].offset != GONE {
                let slot = self.slot(self.entries[at].hash);
                self.index[slot] = at as u32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        /// Ids of a batch, and whether it is stored.
        Publish(Vec<u8>, bool),
        Expire(u64),
        Trim(usize),
        Remove(u8),
        Tidy,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            6 => (proptest::collection::vec(any::<u8>(), 1..20), any::<bool>()).prop_map(|(ids, ok)| Op::Publish(ids, ok)),
            2 => (0..200u64).prop_map(Op::Expire),
            1 => (0..100usize).prop_map(Op::Trim),
            3 => any::<u8>().prop_map(Op::Remove),
            1 => Just(Op::Tidy),
        ]
    }

    fn hash(id: u8) -> IdHash {
        IdHash::of(&[id])
    }

    proptest! {
        /// The window knows what a list knows that is searched from front to back.
        #[test]
        fn it_is_a_list_that_is_searched_quickly(ops in proptest::collection::vec(op(), 1..200)) {
            let mut window = DedupWindow::new(Vec::new());
            let mut list: Vec<StoredId> = Vec::new();
            let (mut offset, mut time) = (1000u64, 0u64);
            for op in ops {
                match op {
                    Op::Publish(ids, stored) => {
                        time += 3;
                        let mut staged: Vec<u8> = Vec::new();
                        for id in ids {
                            let known = list.iter().find(|entry| entry.hash == hash(id));
                            let earlier = staged.iter().position(|other| *other == id);
                            let expected = known.map(|entry| Known::Stored(entry.offset));
                            let expected = expected.or(earlier.map(|at| Known::Staged(at as u32)));
                            prop_assert_eq!(window.find(hash(id)), expected);
                            if expected.is_none() {
                                window.stage(hash(id), staged.len() as u32);
                                staged.push(id);
                            }
                        }
                        if stored {
                            window.commit(Offset(offset), Wall(time));
                            for id in staged {
                                list.push(StoredId { hash: hash(id), offset: Offset(offset), time: Wall(time) });
                                offset += 1;
                            }
                        } else {
                            window.roll_back();
                        }
                    }
                    Op::Expire(age) => {
                        let until = time.saturating_sub(age);
                        window.expire(Wall(until));
                        list.retain(|entry| entry.time > Wall(until));
                    }
                    Op::Trim(max) => {
                        let dropped = list.len().saturating_sub(max);
                        prop_assert_eq!(window.trim(max), dropped);
                        list.drain(..dropped);
                    }
                    Op::Remove(id) => {
                        let at = list.iter().find(|entry| entry.hash == hash(id)).map(|entry| entry.offset);
                        window.remove(hash(id), Offset(at.map_or(7, |at| at.0 + 1)));
                        window.remove(hash(id), at.unwrap_or(Offset(7)));
                        list.retain(|entry| entry.hash != hash(id));
                    }
                    Op::Tidy => window.tidy(),
                }
                prop_assert_eq!(window.iter().collect::<Vec<_>>(), list.clone());
                prop_assert_eq!(window.len(), list.len());
                for id in 0..=255 {
                    let known = list.iter().find(|entry| entry.hash == hash(id));
                    prop_assert_eq!(window.find(hash(id)), known.map(|entry| Known::Stored(entry.offset)));
                }
            }
            let again = DedupWindow::new(window.iter().collect());
            prop_assert_eq!(again.iter().collect::<Vec<_>>(), list);
        }
    }

    #[test]
    fn an_id_takes_less_than_64_bytes_and_all_is_given_back() {
        let mut window = DedupWindow::new(Vec::new());
        for n in 0..300_000u32 {
            window.stage(IdHash::of(&n.to_le_bytes()), 0);
            window.commit(Offset(n.into()), Wall(n.into()));
            assert!(window.bytes() <= 64 * window.len() + 1024, "{} for {}", window.bytes(), window.len());
        }
        assert_eq!(window.find(IdHash::of(&7u32.to_le_bytes())), Some(Known::Stored(Offset(7))));
        window.expire(Wall(299_999));
        window.tidy();
        assert!(window.bytes() < 1024 && window.len() == 0);
    }
}
