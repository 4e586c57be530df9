//! The task that feeds the history.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mq_core::{Broker, Topic};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::series::Reading;
use super::store::History;
use mq_core::clock::Wall;

/// Interval between readings.
const STEP: Duration = Duration::from_secs(10);

/// Reads all numbers every [`STEP`] until `stop` is true.
pub(in crate::server) async fn record(
    history: Arc<Mutex<History>>,
    broker: Broker,
    mut stop: watch::Receiver<bool>,
) {
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = Instant::now();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let now = Instant::now();
        let lasted = now.duration_since(last);
        last = now;
        let (history, broker) = (Arc::clone(&history), broker.clone());
        // Thousands of topics take some milliseconds, which no session waits for.
        let read = tokio::task::spawn_blocking(move || {
            let readings: Vec<_> =
                broker.topics().into_iter().map(|topic| (readings(&topic), topic)).collect();
            add(&mut history.lock(), lasted, &readings);
        });
        if read.await.is_err() {
            return;
        }
    }
}

/// A topic's readings: its own with its channels', and each channel's.
type Readings = (Reading, Vec<(String, Reading)>);

fn readings(topic: &Topic) -> Readings {
    let stats = topic.stats();
    let seconds = |wall: Option<Wall>| wall.map_or(0, |wall| wall.0 / 1_000_000_000);
    let mut all = Reading {
        depth: stats.depth,
        oldest: seconds(stats.oldest),
        published: stats.message_count,
        ..Reading::default()
    };
    let channels = stats.channels.iter().map(|report| {
        let channel = &report.stats;
        let reading = Reading {
            depth: channel.depth,
            in_flight: channel.in_flight,
            oldest: seconds(channel.oldest),
            published: channel.message_count,
            finished: channel.finished,
            requeued: channel.requeued,
            timed_out: channel.timed_out,
        };
        sum(&mut all, &Reading { published: 0, ..reading });
        (report.name.to_string(), reading)
    });
    let channels = channels.collect();
    (all, channels)
}

fn sum(all: &mut Reading, one: &Reading) {
    all.depth += one.depth;
    all.in_flight += one.in_flight;
    all.published += one.published;
    all.finished += one.finished;
    all.requeued += one.requeued;
    all.timed_out += one.timed_out;
    all.oldest = match (all.oldest, one.oldest) {
        (0, oldest) | (oldest, 0) => oldest,
        (a, b) => a.min(b),
    };
}

fn add(history: &mut History, lasted: Duration, readings: &[(Readings, Arc<Topic>)]) {
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut node = Reading::default();
    let mut round = history.begin(at, lasted);
    for ((all, channels), topic) in readings {
        round.add(topic.name().as_str(), None, *all);
        for (name, reading) in channels {
            round.add(topic.name().as_str(), Some(name), *reading);
        }
        sum(&mut node, all);
    }
    round.end(node);
}
