//! Numbers of a topic, a channel or a node, on one node or summed over several.

use serde::Serialize;

use crate::upstream::answers::{Channel, Percentile, Series, Topic};

/// The numbers that every view shows. Rates are per second over the last minute; `None` is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Numbers {
    pub(crate) depth: u64,
    pub(crate) memory_depth: u64,
    pub(crate) disk_depth: u64,
    pub(crate) in_flight: u64,
    pub(crate) deferred: u64,
    pub(crate) messages: u64,
    pub(crate) requeued: u64,
    pub(crate) timed_out: u64,
    pub(crate) paused: bool,
    pub(crate) published_rate: Option<f64>,
    pub(crate) finished_rate: Option<f64>,
    pub(crate) requeued_rate: Option<f64>,
    pub(crate) timed_out_rate: Option<f64>,
    pub(crate) growth: Option<f64>,
    pub(crate) drain_seconds: Option<f64>,
    pub(crate) oldest_seconds: Option<f64>,
    /// Time since which messages wait without a pause, in seconds since 1970.
    #[serde(skip)]
    pub(crate) behind_since: Option<u64>,
    /// Whether they may have waited before that: the history begins there, with the broker's start.
    #[serde(skip)]
    pub(crate) is_behind_longer: bool,
    /// Clients of a channel, or of all channels of a topic.
    #[serde(skip)]
    pub(crate) clients: u64,
}

/// Seconds after a broker's start within which its history begins.
const HISTORY_BEGINS: u64 = 20;

/// A broker's history of a topic or a channel.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Known<'a> {
    /// It keeps one.
    Series(&'a Series<'a>),
    /// It keeps one, and nothing happened there.
    Quiet,
    /// It keeps none, or not of this.
    Nothing,
}

impl Numbers {
    /// A channel's on one node, at `now` in seconds since 1970.
    pub(crate) fn of_channel(channel: &Channel, known: Known<'_>, now: f64) -> Self {
        Self {
            depth: channel.depth,
            memory_depth: channel.depth.saturating_sub(channel.backend_depth),
            disk_depth: channel.backend_depth.min(channel.depth),
            in_flight: channel.in_flight_count,
            deferred: channel.deferred_count,
            messages: channel.message_count,
            requeued: channel.requeue_count,
            timed_out: channel.timeout_count,
            paused: channel.paused,
            clients: channel.client_count,
            ..Self::default()
        }
        .with(known, now)
    }

    /// A topic's on one node, its channels' included.
    pub(crate) fn of_topic(topic: &Topic, known: Known<'_>, now: f64) -> Self {
        let mut numbers = Self {
            depth: topic.depth,
            memory_depth: topic.depth.saturating_sub(topic.backend_depth),
            disk_depth: topic.backend_depth.min(topic.depth),
            messages: topic.message_count,
            paused: topic.paused,
            ..Self::default()
        };
        for channel in &topic.channels {
            numbers.depth += channel.depth;
            numbers.memory_depth += channel.depth.saturating_sub(channel.backend_depth);
            numbers.disk_depth += channel.backend_depth.min(channel.depth);
            numbers.in_flight += channel.in_flight_count;
            numbers.deferred += channel.deferred_count;
            numbers.requeued += channel.requeue_count;
            numbers.timed_out += channel.timeout_count;
            numbers.clients += channel.client_count;
        }
        numbers.with(known, now)
    }

    fn with(mut self, known: Known<'_>, now: f64) -> Self {
        let quiet = Series { growth: Some(0.0), ..Series::default() };
        let series = match known {
            Known::Series(series) => series,
            Known::Quiet => &quiet,
            Known::Nothing => return self,
        };
        self.published_rate = Some(series.published_rate);
        self.finished_rate = Some(series.finished_rate);
        self.requeued_rate = Some(series.requeued_rate);
        self.timed_out_rate = Some(series.timed_out_rate);
        self.growth = series.growth;
        self.behind_since = series.behind_since;
        self.oldest_seconds = series.oldest.map(|oldest| (now - oldest as f64).max(0.0).round());
        self.with_drain_seconds()
    }

    /// The same of a broker that started then, in seconds since 1970; 0 is not known.
    pub(crate) fn started_at(mut self, start: u64) -> Self {
        self.is_behind_longer =
            start > 0 && self.behind_since.is_some_and(|since| since <= start + HISTORY_BEGINS);
        self
    }

    /// With the time until it is empty, which follows from the rest.
    fn with_drain_seconds(mut self) -> Self {
        self.drain_seconds = match self.growth {
            Some(growth) if growth < 0.0 && self.depth > 0 => Some((self.depth as f64 / -growth).round()),
            _ => None,
        };
        self
    }

    /// The sum over nodes. A rate that one does not know is not known.
    pub(crate) fn sum<'n>(all: impl IntoIterator<Item = &'n Self>) -> Self {
        let and = |a: Option<f64>, b: Option<f64>| Some(((a? + b?) * 100.0).round() / 100.0);
        let mut all = all.into_iter();
        let first = all.next().cloned().unwrap_or_default();
        let sum = all.fold(first, |a, b| Self {
            depth: a.depth + b.depth,
            memory_depth: a.memory_depth + b.memory_depth,
            disk_depth: a.disk_depth + b.disk_depth,
            in_flight: a.in_flight + b.in_flight,
            deferred: a.deferred + b.deferred,
            messages: a.messages + b.messages,
            requeued: a.requeued + b.requeued,
            timed_out: a.timed_out + b.timed_out,
            paused: a.paused || b.paused,
            published_rate: and(a.published_rate, b.published_rate),
            finished_rate: and(a.finished_rate, b.finished_rate),
            requeued_rate: and(a.requeued_rate, b.requeued_rate),
            timed_out_rate: and(a.timed_out_rate, b.timed_out_rate),
            growth: and(a.growth, b.growth),
            drain_seconds: None,
            oldest_seconds: a.oldest_seconds.into_iter().chain(b.oldest_seconds).reduce(f64::max),
            behind_since: a.behind_since.into_iter().chain(b.behind_since).min(),
            is_behind_longer: a.is_behind_longer || b.is_behind_longer,
            clients: a.clients + b.clients,
        });
        sum.with_drain_seconds()
    }
}

/// The largest of each percentile over nodes: what nobody's messages exceed.
pub(crate) fn worst_latency<'a>(all: impl IntoIterator<Item = &'a [Percentile]>) -> Vec<Percentile> {
    let mut out: Vec<Percentile> = Vec::new();
    for percentile in all.into_iter().flatten() {
        match out.iter_mut().find(|have| have.quantile == percentile.quantile) {
            Some(have) => have.value = have.value.max(percentile.value),
            None => out.push(*percentile),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_keeps_the_oldest_and_knows_no_rate_that_one_node_does_not() {
        let series = |growth: f64, oldest: u64, since: u64| Series {
            published_rate: 1.5,
            growth: Some(growth),
            oldest: Some(oldest),
            behind_since: Some(since),
            ..Series::default()
        };
        let channel = Channel { depth: 10, backend_depth: 4, ..Channel::default() };
        let (a, b) = (series(-1.0, 90, 70), series(-1.5, 40, 80));
        let a = Numbers::of_channel(&channel, Known::Series(&a), 100.0);
        let b = Numbers::of_channel(&channel, Known::Series(&b), 100.0);
        assert_eq!((a.drain_seconds, a.oldest_seconds, a.memory_depth), (Some(10.0), Some(10.0), 6));
        let sum = Numbers::sum([&a, &b]);
        assert_eq!((sum.depth, sum.published_rate, sum.drain_seconds), (20, Some(3.0), Some(8.0)));
        assert_eq!((sum.oldest_seconds, sum.behind_since), (Some(60.0), Some(70)));
        let restarted = Numbers { behind_since: Some(70), ..Numbers::default() }.started_at(60);
        assert!(restarted.is_behind_longer && !a.clone().started_at(20).is_behind_longer);
        let unknown = Numbers::of_channel(&channel, Known::Nothing, 100.0);
        let sum = Numbers::sum([&a, &unknown]);
        assert_eq!((sum.published_rate, sum.growth, sum.drain_seconds), (None, None, None));
        let quiet = Numbers::of_channel(&Channel::default(), Known::Quiet, 100.0);
        assert_eq!((quiet.published_rate, quiet.growth), (Some(0.0), Some(0.0)));
        assert_eq!(Numbers::sum([]), Numbers::default());
    }
}
