//! All series of a broker.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use super::series::{COARSE_STEPS, FINE_IN_COARSE, FINE_STEPS, Reading, Series, Span};

/// Bytes that a broker's history takes at most.
pub(in crate::server) const BYTES_MAX: usize = 8 * 1024 * 1024;

/// Bytes of an entry beside its name and its series: pointers, lengths, and the map's own.
const ENTRY_BYTES: usize = 64;

/// The time of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick {
    /// Its end, in seconds since 1970.
    pub(super) at: u64,
    /// Its length.
    pub(super) lasted: Duration,
}

/// The series of a broker's topics and channels, and one of the whole node. Where they would take more than
/// the bound, those that were quiet for longest go first, and come back only where there is room.
#[derive(Debug)]
pub(in crate::server) struct History {
    bytes_max: usize,
    bytes: usize,
    /// Rounds of readings so far.
    round: u64,
    fine: VecDeque<Tick>,
    coarse: VecDeque<Tick>,
    /// The length of the coarse step that is not complete.
    partial: Duration,
    node: Series,
    /// Series of topics and channels, by `topic` or `topic:channel`: no name has a colon.
    series: BTreeMap<Box<str>, Series>,
    /// Topics and channels of the last round without a series, for want of room.
    missing: usize,
    /// Whether any series was ever dropped.
    has_dropped: bool,
    key: String,
}

impl Default for History {
    fn default() -> Self {
        Self::new(BYTES_MAX)
    }
}

impl History {
    /// An empty one that takes at most `bytes_max` bytes.
    pub(in crate::server) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            bytes: 0,
            round: 0,
            fine: VecDeque::with_capacity(FINE_STEPS + 1),
            coarse: VecDeque::with_capacity(COARSE_STEPS + 1),
            partial: Duration::ZERO,
            node: Series::new(Reading::default()),
            series: BTreeMap::new(),
            missing: 0,
            has_dropped: false,
            key: String::new(),
        }
    }

    /// Begins a round of readings, which `at` seconds after 1970 follow the last round after `lasted`.
    pub(in crate::server) fn begin(&mut self, at: u64, lasted: Duration) -> Round<'_> {
        self.round += 1;
        self.missing = 0;
        push(&mut self.fine, Tick { at, lasted }, FINE_STEPS);
        self.partial += lasted;
        if self.round.is_multiple_of(FINE_IN_COARSE) {
            push(&mut self.coarse, Tick { at, lasted: self.partial }, COARSE_STEPS);
            self.partial = Duration::ZERO;
        }
        Round { history: self }
    }

    /// The times of the steps, oldest first.
    pub(super) fn ticks(&self, span: Span) -> &VecDeque<Tick> {
        match span {
            Span::Minutes => &self.fine,
            Span::Day => &self.coarse,
        }
    }

    pub(super) fn node(&self) -> &Series {
        &self.node
    }

    /// The series of a topic, or of one of its channels.
    pub(super) fn find(&self, topic: &str, channel: Option<&str>) -> Option<&Series> {
        match channel {
            Some(channel) => self.series.get(format!("{topic}:{channel}").as_str()),
            None => self.series.get(topic),
        }
    }

    /// All series with their topics and channels, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&str, Option<&str>, &Series)> {
        self.series.iter().map(|(key, series)| match key.split_once(':') {
            Some((topic, channel)) => (topic, Some(channel), series),
            None => (&**key, None, series),
        })
    }

    /// Topics and channels without a series, for want of room.
    pub(super) fn missing(&self) -> usize {
        self.missing
    }

    /// Bytes that all of it takes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn admit(&mut self, reading: Reading) {
        // Beyond this there is room only for what is there already.
        if self.bytes + size_of::<Series>() > self.bytes_max / 8 * 7 {
            self.missing += 1;
            return;
        }
        // All counters begin at 0 with the broker; of what was dropped nobody knows where it stood.
        let before = if self.has_dropped { reading } else { Reading::default() };
        let mut series = Series::new(before);
        series.push(reading, self.round);
        self.bytes += self.key.len() + ENTRY_BYTES + series.bytes();
        self.series.insert(self.key.as_str().into(), series);
    }

    fn end(&mut self, node: Reading) {
        let round = self.round;
        self.node.push(node, round);
        self.series.retain(|_, series| series.seen == round);
        let ticks = size_of::<Tick>() * (self.fine.capacity() + self.coarse.capacity());
        let own = ticks + self.node.bytes();
        let entries = self.series.iter().map(|(key, series)| key.len() + ENTRY_BYTES + series.bytes());
        self.bytes = own + entries.sum::<usize>();
        if self.bytes > self.bytes_max {
            self.drop_quiet();
        }
    }

    /// Drops the series that were quiet for longest, until a quarter of the bound is free.
    fn drop_quiet(&mut self) {
        let mut all: Vec<_> =
            self.series.iter().map(|(key, series)| (series.active, series.moved, key.clone())).collect();
        all.sort();
        for (_, _, key) in all {
            if self.bytes <= self.bytes_max / 4 * 3 {
                break;
            }
            if let Some(series) = self.series.remove(&key) {
                self.bytes = self.bytes.saturating_sub(key.len() + ENTRY_BYTES + series.bytes());
                self.missing += 1;
                self.has_dropped = true;
            }
        }
    }
}

fn push(ticks: &mut VecDeque<Tick>, tick: Tick, max: usize) {
    if ticks.len() == max {
        ticks.pop_front();
    }
    ticks.push_back(tick);
}

/// A round of readings. Topics and channels without one are forgotten at its end.
pub(in crate::server) struct Round<'h> {
    history: &'h mut History,
}

impl Round<'_> {
    /// Takes in a topic's reading, or a channel's.
    pub(in crate::server) fn add(&mut self, topic: &str, channel: Option<&str>, reading: Reading) {
        let history = &mut *self.history;
        history.key.clear();
        history.key.push_str(topic);
        if let Some(channel) = channel {
            history.key.push(':');
            history.key.push_str(channel);
        }
        match history.series.get_mut(history.key.as_str()) {
            Some(series) => series.push(reading, history.round),
            // What nothing ever happened to has no history.
            None if reading == Reading::default() => {}
            None => history.admit(reading),
        }
    }

    /// Ends the round, with the broker's own reading.
    pub(in crate::server) fn end(self, node: Reading) {
        self.history.end(node);
    }
}
