//! Data frames in memory: those that wait for the log, those that it has written, and those read from it.

use bytes::Bytes;

use crate::clock::Wall;
use crate::message::Offset;
use crate::store::memory::marks::Marks;

/// The messages of a data frame in memory.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) first: Offset,
    pub(crate) count: u32,
    pub(crate) time: Wall,
    /// Whether any message may have a not-before time.
    pub(crate) deferred: bool,
    /// Whether any message may have a publisher's id.
    pub(crate) has_ids: bool,
    /// Its records.
    pub(crate) payload: Bytes,
    /// Positions of some of them.
    pub(crate) marks: Marks,
}

impl Frame {
    pub(crate) fn last(&self) -> Offset {
        self.first.plus(u64::from(self.count) - 1)
    }

    /// A record at or before that of `offset`, as near as the marks get: its place in the payload, and its
    /// offset.
    pub(crate) fn near(&self, offset: Offset) -> (usize, Offset) {
        let (index, at) = self.marks.before(offset.0 - self.first.0);
        (at, self.first.plus(index))
    }
}
