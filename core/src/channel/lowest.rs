//! The lowest offset of an unordered set, without keeping the set in order.

use crate::message::Offset;

/// The lowest offset of a set that reports its insertions and removals, or a lower bound of it.
///
/// Once the lowest offset has left, the next one can only be found by a search of the whole set.
/// [`Lowest::bound`] searches a set of more than [`SEARCHED_ALWAYS`] members only after a quarter of them has
/// left since the last search: four steps for each removal, however the members leave. Until then the old
/// bound stands, which is below every member.
pub(super) struct Lowest {
    /// A lower bound of every offset in the set; exact unless `stale`. [`Lowest::NONE`] if the set is empty.
    bound: Offset,
    /// Whether the lowest offset has left since the last search.
    stale: bool,
    /// Removals since the last search.
    removed: usize,
}

/// Sets up to this size are searched whenever their lowest offset has left.
const SEARCHED_ALWAYS: usize = 64;

impl Lowest {
    const NONE: Offset = Offset(u64::MAX);

    pub(super) fn new() -> Self {
        Self { bound: Self::NONE, stale: false, removed: 0 }
    }

    pub(super) fn inserted(&mut self, offset: Offset) {
        self.bound = self.bound.min(offset);
    }

    pub(super) fn removed(&mut self, offset: Offset) {
        self.stale |= offset == self.bound;
        self.removed += 1;
    }

    /// A lower bound of the `len` offsets in `set`: exact for small sets, else at most a quarter of them
    /// behind. `None` if there are none.
    pub(super) fn bound(&mut self, len: usize, set: impl Iterator<Item = Offset>) -> Option<Offset> {
        if len <= SEARCHED_ALWAYS || 4 * self.removed >= len {
            return self.exact(set);
        }
        Some(self.bound)
    }

    /// The lowest offset in `set`, found by a search if the lowest has left since the last one.
    pub(super) fn exact(&mut self, set: impl Iterator<Item = Offset>) -> Option<Offset> {
        if self.stale {
            self.bound = set.min().unwrap_or(Self::NONE);
            (self.stale, self.removed) = (false, 0);
        }
        (self.bound != Self::NONE).then_some(self.bound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::VecDeque;

    /// Removes `count` offsets one by one, `order` saying which is next, and returns the members visited by
    /// searches.
    fn steps(offsets: impl Iterator<Item = u64>) -> usize {
        let mut set: VecDeque<Offset> = offsets.map(Offset).collect();
        let mut lowest = Lowest::new();
        set.iter().for_each(|offset| lowest.inserted(*offset));
        let visited = Cell::new(0);
        while let Some(offset) = set.pop_front() {
            lowest.removed(offset);
            let members = set.iter().copied().inspect(|_| visited.set(visited.get() + 1));
            let bound = lowest.bound(set.len(), members);
            assert_eq!(bound.is_none(), set.is_empty());
            if set.len() <= SEARCHED_ALWAYS {
                assert_eq!(bound, set.iter().min().copied());
            }
        }
        visited.get()
    }

    #[test]
    fn the_search_costs_a_few_steps_a_removal_in_any_order() {
        for count in [1_000, 100_000, 800_000] {
            let shuffled = (0..count).map(|i| i * 7_919 % count);
            for (order, steps) in [("rising", steps(0..count)), ("shuffled", steps(shuffled))] {
                assert!(steps as u64 <= 4 * count + 10_000, "{steps} steps for {count} in {order} order");
            }
        }
    }

    #[test]
    fn the_bound_is_below_every_member_and_at_most_a_quarter_behind() {
        let mut lowest = Lowest::new();
        (0..1_000).for_each(|offset| lowest.inserted(Offset(offset)));
        for gone in 0..900 {
            lowest.removed(Offset(gone));
            let left = gone + 1..1_000;
            let bound = lowest.bound(left.clone().count(), left.clone().map(Offset)).unwrap().0;
            assert!(bound <= left.start && left.start - bound <= left.count() as u64 / 4, "{bound}");
        }
        lowest.removed(Offset(900));
        assert_eq!(lowest.exact((901..1_000).map(Offset)), Some(Offset(901)));
        assert_eq!(
            lowest.bound(100, std::iter::once(Offset(0))),
            Some(Offset(901)),
            "known, so not searched again"
        );
    }
}
