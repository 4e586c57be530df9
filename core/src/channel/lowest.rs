//! The lowest offset of an unordered set, known without a search most of the time.

use crate::message::Offset;

/// Told of each insertion and removal; searches again only if the lowest itself left since it was last asked.
pub(super) struct Lowest {
    /// A lower bound of every offset in the set; exact unless `stale`. Above every offset when the set is empty.
    bound: Offset,
    stale: bool,
}

impl Lowest {
    const NONE: Offset = Offset(u64::MAX);

    pub(super) fn new() -> Self {
        Self { bound: Self::NONE, stale: false }
    }

    pub(super) fn inserted(&mut self, offset: Offset) {
        self.bound = self.bound.min(offset);
    }

    pub(super) fn removed(&mut self, offset: Offset) {
        self.stale |= offset == self.bound;
    }

    pub(super) fn get(&mut self, set: impl Iterator<Item = Offset>) -> Option<Offset> {
        if self.stale {
            self.bound = set.min().unwrap_or(Self::NONE);
            self.stale = false;
        }
        (self.bound != Self::NONE).then_some(self.bound)
    }
}
