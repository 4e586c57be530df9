//! A topic's frames in memory, in offset order, and the dense runs its offsets come in.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::{Offset, Pos};
use crate::store::memory::chunk::{Pool, Victims};
use crate::store::memory::frame::Frame;

/// A frame in memory.
pub(crate) struct CachedFrame {
    pub(crate) frame: Frame,
    /// The chunk whose memory it uses.
    pub(crate) chunk: u64,
    /// Whether a log file holds it too, so that it can be dropped at any time.
    pub(crate) on_disk: bool,
    /// Runs of it that are on their way to the log.
    pub(crate) spilling: u32,
}

/// The frames in memory. There may be gaps between them: what is on disk only, or finished.
pub(crate) struct RingFrames {
    cached: VecDeque<CachedFrame>,
    /// Messages in them.
    messages: u64,
    /// Counts what the list itself takes; the frames are in its chunks.
    pool: Arc<Pool>,
}

impl CachedFrame {
    /// Bytes that it takes of the list, with the frame's marks: small messages published one by one are not
    /// for free.
    fn list_bytes(&self) -> usize {
        size_of::<Self>() + self.frame.marks.bytes()
    }
}

impl RingFrames {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { cached: VecDeque::new(), messages: 0, pool }
    }

    pub(crate) fn push(&mut self, cached: CachedFrame) {
        debug_assert!(self.cached.back().is_none_or(|h| h.frame.last() < cached.frame.first));
        self.messages += u64::from(cached.frame.count);
        self.pool.charge(cached.list_bytes());
        self.cached.push_back(cached);
    }

    fn pop(&mut self) -> Option<CachedFrame> {
        let cached = self.cached.pop_front()?;
        self.messages -= u64::from(cached.frame.count);
        self.pool.discharge(cached.list_bytes());
        Some(cached)
    }

    /// The frame that holds `offset`.
    pub(crate) fn find(&self, offset: Offset) -> Option<&Frame> {
        let frame = &self.cached.get(self.position(offset))?.frame;
        (frame.first <= offset).then_some(frame)
    }

    /// The first frame at or after `offset`.
    pub(crate) fn after(&self, offset: Offset) -> Option<&Frame> {
        self.cached.get(self.position(offset)).map(|h| &h.frame)
    }

    /// Index of the first frame that does not end before `offset`.
    fn position(&self, offset: Offset) -> usize {
        self.cached.partition_point(|h| h.frame.last() < offset)
    }

    /// Drops the frames that end before `low`.
    pub(crate) fn trim(&mut self, low: Offset) {
        while self.cached.front().is_some_and(|h| h.frame.last() < low && h.spilling == 0) {
            self.pop();
        }
        if self.cached.is_empty() && self.cached.capacity() > 64 {
            self.cached = VecDeque::new();
        }
    }

    /// Last offset of the first frame.
    pub(crate) fn first_last(&self) -> Option<Offset> {
        self.cached.front().map(|h| h.frame.last())
    }

    /// The first offset there is.
    pub(crate) fn first(&self) -> Option<Offset> {
        self.cached.front().map(|h| h.frame.first)
    }

    pub(crate) fn frames(&self) -> impl Iterator<Item = &Frame> {
        self.cached.iter().map(|h| &h.frame)
    }

    /// First and last offsets of the frames that are only in memory and not on their way to the log.
    pub(crate) fn only_in_memory(&self) -> impl Iterator<Item = (Offset, Offset)> + '_ {
        let cached = self.cached.iter().filter(|h| !h.on_disk && h.spilling == 0);
        cached.map(|h| (h.frame.first, h.frame.last()))
    }

    /// The frames that no log file holds, those on their way there included.
    pub(crate) fn not_on_disk(&self) -> impl Iterator<Item = &Frame> {
        self.cached.iter().filter(|h| !h.on_disk).map(|h| &h.frame)
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut CachedFrame> {
        self.cached.iter_mut()
    }

    /// Drops the frames in the victims' chunks for which `droppable` is true. Returns the first offset of the
    /// last frame there that has to be spilled first.
    pub(crate) fn evict(
        &mut self,
        victims: &Victims,
        droppable: impl Fn(&CachedFrame) -> bool,
    ) -> Option<Offset> {
        let mut until = None;
        let mut kept = Vec::new();
        while self.cached.front().is_some_and(|h| h.chunk <= victims.until) {
            let Some(cached) = self.pop() else { break };
            let in_victims = victims.chunks.contains(&cached.chunk);
            if in_victims && droppable(&cached) {
                continue;
            }
            if in_victims && cached.spilling == 0 {
                until = Some(cached.frame.first);
            }
            kept.push(cached);
        }
        self.pool.charge(kept.iter().map(CachedFrame::list_bytes).sum());
        for cached in kept.into_iter().rev() {
            self.messages += u64::from(cached.frame.count);
            self.cached.push_front(cached);
        }
        until
    }

    /// Drops the frames at the front that are on disk.
    pub(crate) fn drop_on_disk(&mut self) {
        while self.cached.front().is_some_and(|h| h.on_disk) {
            self.pop();
        }
    }

    pub(crate) fn clear(&mut self) {
        while self.pop().is_some() {}
        self.cached = VecDeque::new();
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.cached.is_empty()
    }

    /// The frame in memory that holds `offset`, to change.
    pub(crate) fn find_mut(&mut self, offset: Offset) -> Option<&mut CachedFrame> {
        let at = self.position(offset);
        self.cached.get_mut(at).filter(|h| h.frame.first <= offset)
    }
}

impl Drop for RingFrames {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The first offset of each dense run of a topic's offsets, and its rank. The last run ends where the topic
/// does.
#[derive(Default)]
pub(crate) struct Extents {
    starts: VecDeque<Pos>,
}

impl Extents {
    /// Notes that the next message in rank is at `at`.
    pub(crate) fn note(&mut self, at: Pos) {
        let goes_on = |last: &Pos| last.offset.plus(at.rank - last.rank) == at.offset;
        if !self.starts.back().is_some_and(goes_on) {
            self.starts.push_back(at);
        }
    }

    /// The first message at or after `offset`, as a position; `end` if there is none.
    pub(crate) fn seek(&self, offset: Offset, end: Pos) -> Pos {
        let later = self.starts.partition_point(|p| p.offset <= offset);
        if let Some(start) = later.checked_sub(1).and_then(|i| self.starts.get(i)) {
            let next_rank = self.starts.get(later).map_or(end.rank, |p| p.rank);
            let rank = start.rank + (offset.0 - start.offset.0);
            if rank < next_rank {
                return Pos { offset, rank };
            }
        }
        self.starts.get(later).copied().unwrap_or(end)
    }

    /// The message of `rank`, as a position; `end` if there is none yet.
    pub(crate) fn at_rank(&self, rank: u64, end: Pos) -> Pos {
        if rank >= end.rank {
            return end;
        }
        let later = self.starts.partition_point(|p| p.rank <= rank);
        match later.checked_sub(1).and_then(|i| self.starts.get(i)) {
            Some(start) => Pos { offset: start.offset.plus(rank - start.rank), rank },
            None => self.starts.front().copied().unwrap_or(end),
        }
    }

    /// Forgets the runs that lie wholly below `low`.
    pub(crate) fn trim(&mut self, low: Offset) {
        while self.starts.get(1).is_some_and(|second| second.offset <= low) {
            self.starts.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extents_find_messages_by_offset_and_by_rank() {
        let mut extents = Extents::default();
        let mut end = Pos { offset: Offset(0), rank: 0 };
        for (first, count) in [(100, 5), (105, 5), (200, 3)] {
            let first = Offset(first);
            extents.note(Pos { offset: first, rank: end.rank });
            end = Pos { offset: first.plus(count), rank: end.rank + count };
        }
        assert_eq!(extents.starts.len(), 2);
        let pos = |offset, rank| Pos { offset: Offset(offset), rank };
        assert_eq!(extents.seek(Offset(0), end), pos(100, 0));
        assert_eq!(extents.seek(Offset(107), end), pos(107, 7));
        assert_eq!(extents.seek(Offset(110), end), pos(200, 10));
        assert_eq!(extents.seek(Offset(203), end), end);
        assert_eq!(extents.at_rank(9, end), pos(109, 9));
        assert_eq!(extents.at_rank(10, end), pos(200, 10));
        assert_eq!(extents.at_rank(13, end), end);
        extents.trim(Offset(200));
        assert_eq!(extents.seek(Offset(150), end), pos(200, 10));
    }
}
