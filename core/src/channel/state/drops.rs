//! Messages that a channel drops: emptied by administrators, beyond a limit, or dropped by the topic.

use crate::channel::state::State;
use crate::message::{Offset, Pos};

impl<W: Clone> State<W> {
    /// Drops everything below `end`, in flight, ready and deferred too.
    pub(crate) fn empty(&mut self, end: Pos) {
        let first = self.floor();
        self.in_flight.clear();
        self.ready.clear();
        self.deferred.clear();
        self.dead_letters.clear();
        self.subscribers.released_all();
        self.delta.forget_requeues();
        if end.rank > self.next.rank {
            self.next = end;
        }
        self.finish_range(first, self.next.offset);
        self.leap();
    }

    /// Skips new messages below `to`, and gives how many. What is in flight, ready or deferred stays.
    pub(crate) fn jump(&mut self, to: Pos) -> u64 {
        let skipped = self.new_waiting(to);
        if to.rank > self.next.rank {
            self.finish_range(self.next.offset, to.offset);
            self.next = to;
            self.leap();
        }
        skipped
    }

    /// Finishes the oldest messages that are not in flight, `count` of them or all there are before `end`.
    /// `at_rank` gives the topic's positions. Gives how many.
    pub(crate) fn drop_oldest(&mut self, count: u64, end: Pos, at_rank: impl Fn(u64) -> Pos) -> u64 {
        let mut waiting: Vec<Offset> = self.ready.iter().map(|(offset, _)| offset).collect();
        waiting.extend(self.deferred.iter().map(|due| due.offset));
        waiting.extend(self.dead_letters.iter().map(|dead| dead.offset));
        waiting.sort_unstable();
        waiting.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        // All of these are older than what is new.
        let mut dropped = waiting.last().map_or(0, |last| self.drop_waiting(Offset(last.0 + 1)));
        // More than once where there are gaps between.
        while dropped < count && self.next.rank < end.rank {
            dropped += self.jump(at_rank((self.next.rank + count - dropped).min(end.rank)));
        }
        dropped
    }

    /// Finishes all messages below `to` that are not in flight. Gives how many.
    pub(crate) fn drop_below(&mut self, to: Pos) -> u64 {
        self.drop_waiting(to.offset) + self.jump(to)
    }

    fn drop_waiting(&mut self, to: Offset) -> u64 {
        let mut dropped = self.ready.drop_below(to);
        dropped.extend(self.deferred.drop_below(to));
        dropped.extend(self.dead_letters.drop_below(to));
        dropped.iter().for_each(|offset| self.delta.finish(*offset));
        dropped.len() as u64
    }

    /// The topic dropped `from..to` while the cursor could not read that far: it will skip what it has not
    /// read yet. Ranges must rise.
    pub(crate) fn add_gap(&mut self, from: Pos, to: Pos) {
        if to.rank > self.next.rank {
            self.gaps.push(from, to);
            self.leap();
        }
    }

    /// Moves the cursor over the gap it stands at.
    pub(super) fn leap(&mut self) {
        if let Some(target) = self.gaps.jump(self.next) {
            self.finish_range(self.next.offset, target.offset);
            self.next = target;
        }
    }

    fn finish_range(&mut self, first: Offset, end: Offset) {
        if first < end {
            self.delta.finish_range(first, Offset(end.0 - 1));
        }
    }
}
