//! Answers of `GET /history`.

use serde::Serialize;

use super::series::{Lately, Series, Span, Step};
use super::store::{History, Tick};

/// The last minute of everything: rates are per second, times seconds since 1970.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Overview {
    /// Version of libmq that the broker is of: `/info` has NSQ's.
    version: &'static str,
    /// Seconds of a step.
    step: u64,
    /// Topics and channels without a history, for want of room: those that were quiet for longest.
    missing: usize,
    /// Bytes that the history takes.
    bytes: usize,
    node: Rates,
    /// Topics and channels where messages are or move.
    series: Vec<Named>,
}

#[derive(Debug, Serialize)]
struct Named {
    topic: String,
    /// `None`: the topic with all its channels.
    channel: Option<String>,
    #[serde(flatten)]
    rates: Rates,
}

/// A series over the last minute.
#[derive(Debug, Default, Serialize)]
struct Rates {
    published_rate: f64,
    finished_rate: f64,
    requeued_rate: f64,
    timed_out_rate: f64,
    /// Change of the depth per second; `None` until there are two readings.
    growth: Option<f64>,
    /// Time since which messages wait without a pause; `None` if none do.
    behind_since: Option<u64>,
    /// Publish time of the oldest unfinished message; `None` without one.
    oldest: Option<u64>,
}

/// The curves of one series, oldest step first. `null`: before its beginning.
#[derive(Debug, Serialize)]
pub(in crate::server) struct Curve {
    /// Seconds of a step.
    step: u64,
    /// Ends of the steps, in seconds since 1970.
    times: Vec<u64>,
    depth: Vec<Option<u32>>,
    in_flight: Vec<Option<u32>>,
    /// Messages per second, as those below.
    published: Vec<Option<f64>>,
    finished: Vec<Option<f64>>,
    requeued: Vec<Option<f64>>,
    timed_out: Vec<Option<f64>>,
}

/// Two digits after the point say all that a rate of whole messages can.
fn per_second(count: u32, seconds: f64) -> f64 {
    if seconds > 0.0 { (f64::from(count) / seconds * 100.0).round() / 100.0 } else { 0.0 }
}

impl Overview {
    /// The part of `history` about the topics that are `visible`.
    pub(in crate::server) fn new(history: &History, visible: impl Fn(&str) -> bool) -> Self {
        let lively = |lately: &Lately| {
            lately.reading.depth > 0
                || lately.reading.in_flight > 0
                || lately.reading.oldest > 0
                || Step { depth: 0, in_flight: 0, ..lately.step } != Step::default()
                || lately.depth_before.is_some_and(|depth| depth > 0)
        };
        let series = history.all().filter(|(topic, ..)| visible(topic)).filter_map(|(topic, channel, s)| {
            let lately = s.lately();
            lively(&lately).then(|| Named {
                topic: topic.to_owned(),
                channel: channel.map(str::to_owned),
                rates: Rates::new(history, &lately),
            })
        });
        Self {
            version: env!("CARGO_PKG_VERSION"),
            step: 10,
            missing: history.missing(),
            bytes: history.bytes(),
            node: Rates::new(history, &history.node().lately()),
            series: series.collect(),
        }
    }
}

impl Rates {
    fn new(history: &History, lately: &Lately) -> Self {
        let newest = || history.ticks(Span::Minutes).iter().rev();
        let seconds: f64 = newest().take(lately.steps).map(|tick| tick.lasted.as_secs_f64()).sum();
        let Lately { reading, step, .. } = lately;
        let growth = lately.depth_before.filter(|_| seconds > 0.0).map(|before| {
            let change = f64::from(step.depth) - f64::from(before);
            (change / seconds * 100.0).round() / 100.0
        });
        let (fine, coarse) = lately.waiting;
        let begin = |ticks: &mut dyn Iterator<Item = &Tick>, steps: usize| {
            ticks.nth(steps.checked_sub(1)?).map(|tick| tick.at)
        };
        let fine = begin(&mut newest(), fine);
        // Fine steps and coarse ones end together: whichever goes back further.
        let coarse = begin(&mut history.ticks(Span::Day).iter().rev(), coarse);
        Self {
            published_rate: per_second(step.published, seconds),
            finished_rate: per_second(step.finished, seconds),
            requeued_rate: per_second(step.requeued, seconds),
            timed_out_rate: per_second(step.timed_out, seconds),
            growth,
            behind_since: fine.map(|fine| coarse.map_or(fine, |coarse| coarse.min(fine))),
            oldest: Some(reading.oldest).filter(|oldest| *oldest > 0),
        }
    }
}

impl Curve {
    /// The curves of a topic or a channel; of the whole node without a topic. `None` if it has no history.
    pub(in crate::server) fn new(
        history: &History,
        place: Option<(&str, Option<&str>)>,
        span: Span,
    ) -> Option<Self> {
        let series = match place {
            Some((topic, channel)) => history.find(topic, channel)?,
            None => history.node(),
        };
        Some(Self::of(history, Some(series), span))
    }

    /// Curves with times and nothing else.
    pub(in crate::server) fn empty(history: &History, span: Span) -> Self {
        Self::of(history, None, span)
    }

    fn of(history: &History, series: Option<&Series>, span: Span) -> Self {
        let ticks = history.ticks(span);
        let mut steps: Vec<Option<Step>> =
            series.into_iter().flat_map(|series| series.steps(span).newest()).map(Some).collect();
        steps.resize(ticks.len(), None);
        steps.reverse();
        let gauge = |of: fn(&Step) -> u32| steps.iter().map(|step| step.as_ref().map(of)).collect();
        let rate = |of: fn(&Step) -> u32| {
            let rates = steps.iter().zip(ticks).map(|(step, tick)| {
                step.as_ref().map(|step| per_second(of(step), tick.lasted.as_secs_f64()))
            });
            rates.collect()
        };
        Self {
            step: match span {
                Span::Minutes => 10,
                Span::Day => 60,
            },
            times: ticks.iter().map(|tick| tick.at).collect(),
            depth: gauge(|step| step.depth),
            in_flight: gauge(|step| step.in_flight),
            published: rate(|step| step.published),
            finished: rate(|step| step.finished),
            requeued: rate(|step| step.requeued),
            timed_out: rate(|step| step.timed_out),
        }
    }
}

/// Samples for the test of the API's description.
#[cfg(test)]
pub(in crate::server) mod samples {
    use std::time::Duration;

    use serde_json::Value;

    use super::super::series::Reading;
    use super::*;

    fn history() -> History {
        let mut history = History::default();
        for at in 1..=12 {
            let mut round = history.begin(at * 10, Duration::from_secs(10));
            let reading = Reading { depth: 3, oldest: 9, published: at * 25, ..Reading::default() };
            round.add("t", Some("c"), reading);
            round.end(reading);
        }
        history
    }

    pub(in crate::server) fn overview() -> Value {
        serde_json::to_value(Overview::new(&history(), |_| true)).unwrap()
    }

    pub(in crate::server) fn curve() -> Value {
        serde_json::to_value(Curve::new(&history(), Some(("t", Some("c"))), Span::Minutes)).unwrap()
    }
}
