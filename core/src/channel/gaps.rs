//! Ranges ahead of the cursor that it must skip: the topic was emptied while its pump stood still.

use std::collections::VecDeque;

use crate::message::Pos;

/// Disjoint, rising, never touching, all ahead of the cursor. Compared by rank: offsets are not dense, so a
/// cursor can stand at a gap with a lower offset than the gap's first.
///
/// One gap for each time an administrator empties a topic that went on in between: a handful.
pub(super) struct Gaps(VecDeque<(Pos, Pos)>);

impl Gaps {
    pub(super) fn new() -> Self {
        Self(VecDeque::new())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds `from..to`, which must not begin before the last gap does. A range that touches the last one
    /// joins it.
    pub(super) fn push(&mut self, from: Pos, to: Pos) {
        match self.0.back_mut() {
            _ if from.rank >= to.rank => {}
            Some((_, end)) if to.rank <= end.rank => {}
            Some((_, end)) if from.rank <= end.rank => *end = to,
            _ => self.0.push_back((from, to)),
        }
    }

    /// Messages in gaps below `end`.
    pub(super) fn below(&self, end: Pos) -> u64 {
        let within = |&(from, to): &(Pos, Pos)| to.rank.min(end.rank).saturating_sub(from.rank);
        self.0.iter().map(within).sum()
    }

    /// The position at which a cursor that came to `next` goes on; forgets the gaps behind it. `None` if it
    /// stays.
    pub(super) fn jump(&mut self, next: Pos) -> Option<Pos> {
        let mut target = None;
        let mut rank = next.rank;
        while let Some(&(from, to)) = self.0.front()
            && from.rank <= rank
        {
            self.0.pop_front();
            if to.rank > rank {
                rank = to.rank;
                target = Some(to);
            }
        }
        target
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Pos, Pos)> + '_ {
        self.0.iter().copied()
    }
}
