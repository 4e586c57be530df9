//! Figures of all rounds.

use std::collections::BTreeMap;

use super::rows::{Bar, Limit};
use super::server::Kind;
use super::trial::Figures;

/// Figures of each workload, server and metric, one a round; what was run; what is plotted.
#[derive(Default)]
pub(super) struct Results {
    figures: BTreeMap<(&'static str, Kind, &'static str), Vec<f64>>,
    pub(super) curves: BTreeMap<(&'static str, Kind), Vec<(f64, f64)>>,
    /// The servers' commands and the load's, by workload.
    pub(super) commands: BTreeMap<&'static str, Vec<String>>,
    /// Failures, by workload.
    pub(super) failures: Vec<(&'static str, Kind, String)>,
}

/// Several measurements of one thing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    pub(super) median: f64,
    pub(super) low: f64,
    pub(super) high: f64,
}

/// Comparison of a figure with its bar.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) measured: f64,
    pub(super) limit: f64,
    pub(super) at_most: bool,
    pub(super) is_met: bool,
}

impl Results {
    pub(super) fn note(&mut self, row: &'static str, kind: Kind, figures: Figures) {
        for (metric, value) in figures {
            self.figures.entry((row, kind, metric)).or_default().push(value);
        }
    }

    pub(super) fn spread(&self, row: &'static str, kind: Kind, metric: &'static str) -> Option<Spread> {
        Spread::of(self.figures.get(&(row, kind, metric))?)
    }

    fn median(&self, row: &'static str, kind: Kind, metric: &'static str) -> Option<f64> {
        self.spread(row, kind, metric).map(|spread| spread.median)
    }

    /// `None` where what it needs was not measured.
    pub(super) fn verdict(&self, row: &'static str, bar: Bar) -> Option<Verdict> {
        let ours = self.median(row, bar.kind, bar.metric)?;
        let to = |row, kind| Some(ours / self.median(row, kind, bar.metric).filter(|theirs| *theirs > 0.0)?);
        let (of, of_row) = (|kind| to(row, kind), |other| to(other, bar.kind));
        let (measured, limit, at_most) = match bar.limit {
            Limit::OfNsqd(limit) => (of(Kind::Nsqd)?, limit, true),
            Limit::TimesNsqd(limit) => (of(Kind::Nsqd)?, limit, false),
            Limit::OfNull(limit) => (of(Kind::Null)?, limit, true),
            Limit::OfRow(other, limit) => (of_row(other)?, limit, true),
            Limit::TimesRow(other, limit) => (of_row(other)?, limit, false),
            Limit::AtMost(limit) => (ours, limit, true),
            Limit::AtLeast(limit) => (ours, limit, false),
        };
        let is_met = if at_most { measured <= limit } else { measured >= limit };
        Some(Verdict { measured, limit, at_most, is_met })
    }
}

impl Spread {
    /// `None` of nothing.
    fn of(values: &[f64]) -> Option<Self> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let (low, high) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let median = match values.len() % 2 {
            0 => (upper + *values.get(middle - 1)?) / 2.0,
            _ => upper,
        };
        Some(Self { median, low, high })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_middle_and_the_ends() {
        assert_eq!(Spread::of(&[]), None);
        assert_eq!(Spread::of(&[3.0, 1.0, 2.0]), Some(Spread { median: 2.0, low: 1.0, high: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 1.0]), Some(Spread { median: 2.5, low: 1.0, high: 4.0 }));
    }

    #[test]
    fn bars_compare_with_what_they_name() {
        let mut results = Results::default();
        for (kind, cpu) in [(Kind::Nsqd, 4.0), (Kind::Memory, 1.0), (Kind::Flush, 5.0)] {
            results.note("row", kind, Figures::from([("cpu", cpu)]));
        }
        results.note("other", Kind::Memory, Figures::from([("cpu", 2.0)]));
        let verdict = |kind, limit| {
            let verdict = results.verdict("row", Bar { kind, metric: "cpu", limit });
            verdict.map(|verdict| (verdict.measured, verdict.is_met))
        };
        assert_eq!(verdict(Kind::Memory, Limit::OfNsqd(0.25)), Some((0.25, true)));
        assert_eq!(verdict(Kind::Flush, Limit::OfNsqd(1.0)), Some((1.25, false)));
        assert_eq!(verdict(Kind::Flush, Limit::TimesNsqd(1.2)), Some((1.25, true)));
        assert_eq!(verdict(Kind::Memory, Limit::AtLeast(1.5)), Some((1.0, false)));
        assert_eq!(verdict(Kind::Memory, Limit::OfNull(1.3)), None);
        assert_eq!(verdict(Kind::Memory, Limit::OfRow("other", 0.5)), Some((0.5, true)));
        assert_eq!(verdict(Kind::Memory, Limit::TimesRow("other", 0.6)), Some((0.5, false)));
        assert_eq!(verdict(Kind::Flush, Limit::OfRow("other", 1.0)), None);
    }
}
