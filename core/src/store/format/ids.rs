//! Ids that publishers give their messages, so that one sent again is stored once: their hashes, and what of
//! them is read back from the log and its checkpoint.

use std::collections::BTreeMap;

use crate::clock::Wall;
use crate::message::Offset;
use crate::store::format::frame::Record;
use crate::store::format::numbers::TopicNo;

/// The most ids a window holds, by its setting. Bounds what is kept of a log on the way to a window.
pub(crate) const IDS_MAX: u64 = 10_000_000;

/// FNV-1a of an id, 128 bits: low half, high half. Part of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IdHash(pub [u64; 2]);

impl IdHash {
    /// The hash of `id`.
    pub fn of(id: &[u8]) -> Self {
        const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
        const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
        let hash = id.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME));
        Self([hash as u64, (hash >> 64) as u64])
    }
}

/// A message that was stored with an id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredId {
    /// Hash of its id.
    pub hash: IdHash,
    /// The message's offset, or the one it had.
    pub offset: Offset,
    /// Publish time.
    pub time: Wall,
}

/// The ids in the records of a frame whose first is at `first`.
pub(crate) fn in_records(records: &[u8], first: Offset, time: Wall) -> impl Iterator<Item = StoredId> + '_ {
    let (mut rest, mut next) = (records, first);
    std::iter::from_fn(move || {
        while let Some(record) = Record::parse(rest) {
            let offset = next;
            (rest, next) = (&rest[record.len..], next.plus(1));
            let id = if record.is_plain() { None } else { record.attributes().dedup_id };
            if let Some(id) = id {
                return Some(StoredId { hash: IdHash::of(id), offset, time });
            }
        }
        None
    })
}

/// Ids of each topic, by its number, in any order and any number of times.
#[derive(Debug, Default)]
pub(crate) struct Ids {
    topics: BTreeMap<TopicNo, Vec<StoredId>>,
}

impl Ids {
    /// Notes ids of `topic`.
    pub(crate) fn note(&mut self, topic: TopicNo, ids: impl IntoIterator<Item = StoredId>) {
        let known = self.topics.entry(topic).or_default();
        for id in ids {
            if known.len() as u64 >= 2 * IDS_MAX {
                keep_latest(known);
            }
            known.push(id);
        }
    }

    /// Forgets a topic's.
    pub(crate) fn forget(&mut self, topic: TopicNo) {
        self.topics.remove(&topic);
    }

    /// The ids of a topic: each once, as of the last message that was stored with it, in the order of their
    /// offsets.
    pub(crate) fn of(&self, topic: TopicNo) -> Vec<StoredId> {
        let mut ids = self.topics.get(&topic).cloned().unwrap_or_default();
        keep_latest(&mut ids);
        ids
    }
}

/// Keeps each id once, as of its last message, and the latest [`IDS_MAX`] of them, in order of their offsets.
fn keep_latest(ids: &mut Vec<StoredId>) {
    ids.sort_unstable_by(|a, b| (a.hash, b.offset).cmp(&(b.hash, a.offset)));
    ids.dedup_by_key(|id| id.hash);
    ids.sort_unstable_by_key(|id| id.offset);
    let too_many = (ids.len() as u64).saturating_sub(IDS_MAX) as usize;
    ids.drain(..too_many);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers of the hash: it is written to disk.
    #[test]
    fn the_hash_is_what_it_always_was() {
        let hex = |id: &[u8]| format!("{:016x}{:016x}", IdHash::of(id).0[1], IdHash::of(id).0[0]);
        assert_eq!(hex(b""), "6c62272e07bb014262b821756295c58d");
        assert_eq!(hex(b"a"), "d228cb696f1a8caf78912b704e4a8964");
        assert_eq!(hex(b"foobar"), "343e1662793c64bf6f0d3597ba446f18");
    }

    #[test]
    fn each_id_counts_as_of_its_last_message() {
        let id =
            |id: u8, offset| StoredId { hash: IdHash::of(&[id]), offset: Offset(offset), time: Wall(offset) };
        let mut ids = Ids::default();
        ids.note(TopicNo(1), [id(2, 20), id(1, 10), id(2, 30), id(3, 5)]);
        ids.note(TopicNo(2), [id(1, 1)]);
        ids.note(TopicNo(1), [id(1, 10)]);
        assert_eq!(ids.of(TopicNo(1)), [id(3, 5), id(1, 10), id(2, 30)]);
        ids.forget(TopicNo(1));
        assert_eq!((ids.of(TopicNo(1)).len(), ids.of(TopicNo(2)).len()), (0, 1));
    }
}
