//! A set of offsets kept as inclusive ranges: messages that a channel finished, as the log has them.

use std::collections::BTreeMap;

use crate::message::Offset;

/// Disjoint inclusive ranges, none touching the next.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RangeSet {
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds `first..=last`.
    pub(crate) fn insert(&mut self, first: Offset, last: Offset) {
        let (mut first, mut last) = (first.0, last.0);
        if first > last {
            return;
        }
        let touching = self.ranges.range(..=last.saturating_add(1)).rev();
        let absorbed: Vec<(u64, u64)> =
            touching.map(|(f, l)| (*f, *l)).take_while(|(_, l)| l.saturating_add(1) >= first).collect();
        for (f, l) in absorbed {
            self.ranges.remove(&f);
            first = first.min(f);
            last = last.max(l);
        }
        self.ranges.insert(first, last);
    }

    /// Takes out one offset.
    pub(crate) fn remove(&mut self, offset: Offset) {
        let Some((&first, &last)) = self.ranges.range(..=offset.0).next_back() else { return };
        if last < offset.0 {
            return;
        }
        self.ranges.remove(&first);
        if first < offset.0 {
            self.ranges.insert(first, offset.0 - 1);
        }
        if offset.0 < last {
            self.ranges.insert(offset.0 + 1, last);
        }
    }

    /// Whether `offset` is in the set.
    pub(crate) fn contains(&self, offset: Offset) -> bool {
        self.ranges.range(..=offset.0).next_back().is_some_and(|(_, last)| *last >= offset.0)
    }

    /// The parts of `first..=last` that are not in the set, in order.
    pub(crate) fn missing(&self, first: Offset, last: Offset) -> Vec<(Offset, Offset)> {
        let mut out = Vec::new();
        let mut from = first.0;
        let start = self.ranges.range(..=first.0).next_back().map_or(first.0, |(f, _)| *f);
        for (&f, &l) in self.ranges.range(start..=last.0) {
            if f > from {
                out.push((Offset(from), Offset(f - 1)));
            }
            from = from.max(l.saturating_add(1));
        }
        if from <= last.0 {
            out.push((Offset(from), last));
        }
        out
    }

    /// All ranges, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Offset, Offset)> {
        self.ranges.iter().map(|(first, last)| (Offset(*first), Offset(*last)))
    }

    /// Number of offsets of `first..=last` that are in the set.
    pub(crate) fn count(&self, first: Offset, last: Offset) -> u64 {
        let start = self.ranges.range(..=first.0).next_back().map_or(first.0, |(f, _)| *f);
        let parts = self.ranges.range(start..=last.0);
        parts.map(|(f, l)| ((*l).min(last.0) + 1).saturating_sub((*f).max(first.0))).sum()
    }

    /// Forgets all above `last`.
    pub(crate) fn truncate(&mut self, last: Offset) {
        self.ranges.retain(|first, _| *first <= last.0);
        if let Some(mut end) = self.ranges.last_entry() {
            let cut = (*end.get()).min(last.0);
            end.insert(cut);
        }
    }

    /// The greatest offset within `first..=last` that is in the set.
    pub(crate) fn last_within(&self, first: Offset, last: Offset) -> Option<Offset> {
        let (_, end) = self.ranges.range(..=last.0).next_back()?;
        Some(Offset((*end).min(last.0))).filter(|end| *end >= first)
    }

    /// The last range.
    pub(crate) fn last(&self) -> Option<(Offset, Offset)> {
        self.ranges.last_key_value().map(|(f, l)| (Offset(*f), Offset(*l)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn it_is_the_set_of_its_offsets(ops in proptest::collection::vec((0u64..60, 0u64..10, any::<bool>()), 0..40), from in 0u64..60, len in 0u64..30) {
            let (mut set, mut model) = (RangeSet::default(), BTreeSet::new());
            for (first, len, add) in ops {
                if add {
                    set.insert(Offset(first), Offset(first + len));
                    model.extend(first..=first + len);
                } else {
                    set.remove(Offset(first));
                    model.remove(&first);
                }
            }
            for offset in 0..80 {
                prop_assert_eq!(set.contains(Offset(offset)), model.contains(&offset));
            }
            let missing: Vec<u64> = set.missing(Offset(from), Offset(from + len)).iter().flat_map(|(f, l)| f.0..=l.0).collect();
            let expected: Vec<u64> = (from..=from + len).filter(|o| !model.contains(o)).collect();
            prop_assert_eq!(&missing, &expected);
            prop_assert_eq!(set.count(Offset(from), Offset(from + len)), len + 1 - expected.len() as u64);
            let within = model.range(from..=from + len).next_back().map(|o| Offset(*o));
            prop_assert_eq!(set.last_within(Offset(from), Offset(from + len)), within);
            let mut cut = set.clone();
            cut.truncate(Offset(from));
            let kept: Vec<u64> = cut.iter().flat_map(|(f, l)| f.0..=l.0).collect();
            prop_assert_eq!(kept, model.range(..=from).copied().collect::<Vec<_>>());
            let flat: Vec<(u64, u64)> = set.ranges.into_iter().collect();
            prop_assert!(flat.windows(2).all(|w| w[0].1 + 1 < w[1].0));
        }
    }
}
