//! Time from publish to finish, measured on some messages.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Mono, Wall};
use crate::message::Offset;

/// Upper bounds of the histogram's buckets but the last, in microseconds; the last has none.
pub const BUCKETS_US: [u64; BUCKETS - 1] = [
    250,
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    1_000_000,
    5_000_000,
    30_000_000,
    300_000_000,
    3_600_000_000,
];
/// Buckets of a histogram.
pub(crate) const BUCKETS: usize = 16;

/// A histogram over [`BUCKETS_US`].
///
/// ```
/// # use mq_core::{Histogram};
/// # use std::time::Duration;
/// let mut histogram = Histogram::default();
/// histogram.add(Duration::from_micros(300), 2);
/// assert_eq!(histogram.count(), 2);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Values in each bucket.
    pub counts: [u64; BUCKETS],
    /// The sum of all values.
    pub sum: Duration,
}

impl Histogram {
    /// Adds `n` values of `value`.
    pub fn add(&mut self, value: Duration, n: u64) {
        let us = u64::try_from(value.as_nanos().div_ceil(1000)).unwrap_or(u64::MAX);
        self.counts[BUCKETS_US.partition_point(|bound| *bound < us)] += n;
        self.sum = self.sum.saturating_add(value.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX)));
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(to, from)| *to += from);
        self.sum = self.sum.saturating_add(other.sum);
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// Values of a recent time, for quantiles. What it gives is at most 1/32 too large.
///
/// ```
/// # use mq_core::{Broker, Options, SubscribeOptions};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// # use std::time::Duration;
/// broker.measure_latency(Some(Duration::from_secs(600)));
/// let (topic, channel) = ("orders".parse()?, "billing".parse()?);
/// let mut billing = broker.subscribe(&topic, &channel, SubscribeOptions::default())?;
/// broker.topic(&topic)?.publish_one(b"one pizza")?.wait(&broker)?;
/// billing.recv(Duration::from_secs(1))?.expect("a message").finish()?;
/// let recent = &broker.topic(&topic)?.stats().channels[0].recent_latency;
/// // Some of the messages are measured; without any, each quantile is 0.
/// assert!(recent.count() > 0 || recent.get(0.99) == 0);
/// # drop(billing);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Values in each class that has any; the classes of [`class`].
    counts: BTreeMap<u16, u64>,
    count: u64,
}

/// Classes a power of two is divided into.
const CLASSES: u64 = 32;

/// The class of a value: below [`CLASSES`] the value itself, above by its leading six bits.
fn class(ns: u64) -> u16 {
    let shift = (u64::BITS - ns.leading_zeros()).saturating_sub(CLASSES.trailing_zeros() + 1);
    (u64::from(shift) * CLASSES + (ns >> shift)) as u16
}

/// The largest value of a class.
fn largest(class: u16) -> u64 {
    let shift = (u64::from(class) / CLASSES).saturating_sub(1);
    let leading = u64::from(class) - shift * CLASSES;
    u64::try_from(((u128::from(leading) + 1) << shift) - 1).unwrap_or(u64::MAX)
}

impl Quantiles {
    fn add(&mut self, ns: u64) {
        *self.counts.entry(class(ns)).or_default() += 1;
        self.count += 1;
    }

    /// Adds the values of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (class, count) in &other.counts {
            *self.counts.entry(*class).or_default() += count;
        }
        self.count += other.count;
    }

    /// Number of values.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value that the part `quantile` (above 0, up to 1) of all values does not exceed, in nanoseconds; 0
    /// if there are none.
    pub fn get(&self, quantile: f64) -> u64 {
        let rank = (quantile * self.count as f64).ceil() as u64;
        let mut seen = 0;
        for (class, count) in &self.counts {
            seen += count;
            if seen >= rank {
                return largest(*class);
            }
        }
        0
    }
}

/// The measurement that all channels of a broker take part in.
#[derive(Debug, Default)]
pub(crate) struct Measuring {
    on: AtomicBool,
    /// Length of the window of quantiles, in nanoseconds; 0 without quantiles.
    window: AtomicU64,
}

impl Measuring {
    pub(crate) fn start(&self, window: Option<Duration>) {
        if let Some(window) = window {
            let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
            self.window.store(window.max(2), Ordering::Relaxed);
        }
        self.on.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    fn window(&self) -> u64 {
        self.window.load(Ordering::Relaxed)
    }
}

/// A channel's latencies.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    histogram: Histogram,
    /// Quantiles of half a window each, the newest last, with their beginning.
    recent: VecDeque<(Mono, Quantiles)>,
}

impl Latency {
    pub(crate) fn add(&mut self, took: u64, now: Mono, measuring: &Measuring) {
        self.histogram.add(Duration::from_nanos(took), 1);
        let half = measuring.window() / 2;
        if half == 0 {
            return;
        }
        self.rotate(now, half);
        match self.recent.back_mut() {
            Some((_, newest)) => newest.add(took),
            None => {
                let mut first = Quantiles::default();
                first.add(took);
                self.recent.push_back((now, first));
            }
        }
    }

    fn rotate(&mut self, now: Mono, half: u64) {
        self.recent.retain(|(start, _)| now.since(*start) < 2 * half);
        if self.recent.back().is_some_and(|(start, _)| now.since(*start) >= half) {
            self.recent.push_back((now, Quantiles::default()));
        }
    }

    pub(crate) fn histogram(&self) -> Histogram {
        self.histogram
    }

    /// The values of the last window.
    pub(crate) fn recent(&mut self, now: Mono, measuring: &Measuring) -> Quantiles {
        self.rotate(now, measuring.window() / 2);
        let mut all = Quantiles::default();
        self.recent.iter().for_each(|(_, quantiles)| all.merge(quantiles));
        all
    }
}

/// Messages of a channel that were chosen to be measured and are not finished. A message costs one test of a
/// bit when it is finished; only one that may have been chosen is looked for.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    /// Has the bit of each offset's last six.
    filter: u64,
    chosen: Vec<Sample>,
}

#[derive(Debug)]
struct Sample {
    offset: Offset,
    published: Wall,
    chosen_at: Mono,
}

/// Most messages chosen at a time. At this number others are not chosen until some of these are finished: if
/// they took their place, messages that take long would be counted too seldom.
const SAMPLES_MAX: usize = 32;

/// Age at which a chosen message counts as gone, an hour: its channel was emptied, say.
const FORGET_AFTER: u64 = 3600 * 1_000_000_000;

impl Samples {
    /// Chooses the message at `offset`, if there is room.
    pub(crate) fn choose(&mut self, offset: Offset, published: Wall, now: Mono) {
        if self.chosen.len() == SAMPLES_MAX {
            self.chosen.retain(|sample| now.since(sample.chosen_at) < FORGET_AFTER);
            self.filter_again();
        }
        let known = self.filter & bit(offset) != 0 && self.chosen.iter().any(|s| s.offset == offset);
        if self.chosen.len() < SAMPLES_MAX && !known {
            self.chosen.push(Sample { offset, published, chosen_at: now });
            self.filter |= bit(offset);
        }
    }

    /// Removes a chosen message and gives the time of its publish.
    pub(crate) fn take(&mut self, offset: Offset) -> Option<Wall> {
        if self.filter & bit(offset) == 0 {
            return None;
        }
        let at = self.chosen.iter().position(|sample| sample.offset == offset)?;
        let published = self.chosen.swap_remove(at).published;
        self.filter_again();
        Some(published)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn filter_again(&mut self) {
        self.filter = self.chosen.iter().fold(0, |filter, sample| filter | bit(sample.offset));
    }
}

fn bit(offset: Offset) -> u64 {
    1 << (offset.0 % 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_what_does_not_exceed_their_bound() {
        let mut histogram = Histogram::default();
        for (us, bucket) in [(0, 0), (250, 0), (251, 1), (3_600_000_000, 14), (3_600_000_001, 15)] {
            histogram.add(Duration::from_micros(us), 1);
            assert!(histogram.counts[bucket] > 0, "{us}");
        }
        histogram.add(Duration::from_nanos(250_001), 3);
        assert_eq!((histogram.counts[0], histogram.counts[1], histogram.count()), (2, 4, 8));
    }

    #[test]
    fn quantiles_are_at_most_a_32nd_too_large() {
        for ns in (0..10_000).chain([1 << 40, u64::MAX - 1, u64::MAX]) {
            let top = largest(class(ns));
            assert!(top >= ns && top - ns <= ns / CLASSES, "{ns} {top}");
            assert!(top == u64::MAX || class(top + 1) == class(top) + 1, "{ns}");
        }
        let mut quantiles = Quantiles::default();
        assert_eq!(quantiles.get(0.5), 0);
        (1..=100_000).for_each(|ns| quantiles.add(ns));
        for (quantile, want) in [(1.0, 100_000), (0.99, 99_000), (0.5, 50_000), (0.00001, 1)] {
            let have = quantiles.get(quantile);
            assert!(have >= want && have - want <= want / 32, "{quantile} {have}");
        }
    }

    #[test]
    fn values_are_forgotten_after_the_window() {
        let measuring = Measuring::default();
        measuring.start(Some(Duration::from_nanos(100)));
        let mut latency = Latency::default();
        latency.add(7, Mono(1000), &measuring);
        latency.add(9, Mono(1060), &measuring);
        assert_eq!(latency.recent(Mono(1099), &measuring).count(), 2);
        assert_eq!(latency.recent(Mono(1100), &measuring).get(0.1), 9, "the older half is gone");
        assert_eq!(latency.recent(Mono(1160), &measuring).count(), 0);
        assert_eq!(latency.histogram().count(), 2);
    }

    #[test]
    fn samples_are_few_and_found_again() {
        let mut samples = Samples::default();
        for n in 0..100 {
            samples.choose(Offset(n), Wall(n + 5), Mono(0));
        }
        assert_eq!(samples.take(Offset(3)), Some(Wall(8)));
        assert_eq!(
            (samples.take(Offset(3)), samples.take(Offset(3 + 64)), samples.take(Offset(99))),
            (None, None, None)
        );
        samples.choose(Offset(200), Wall(1), Mono(0));
        samples.choose(Offset(201), Wall(1), Mono(0));
        assert_eq!((samples.take(Offset(200)), samples.take(Offset(201))), (Some(Wall(1)), None));
        samples.choose(Offset(202), Wall(2), Mono(0));
        samples.choose(Offset(203), Wall(2), Mono(FORGET_AFTER));
        assert_eq!(samples.take(Offset(203)), Some(Wall(2)), "the others are taken for gone");
    }
}
