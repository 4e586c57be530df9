//! `GetStats` and `WatchStats`: the broker's numbers.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mq_core::{Broker, ChannelReport, Durability, Topic, TopicName};
use mq_net::access::Caller;
use tokio::task::JoinHandle;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_stream::Stream;
use tonic::Status;

use super::Core;
use super::ending::Ending;
use crate::status::Refusal;
use crate::v1;
use crate::v1::{BrokerStats, ChannelStats, GetStatsResponse, TopicStats, WatchStatsResponse};

/// How often `WatchStats` may tell.
pub(super) const INTERVAL_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;
pub(super) const INTERVAL_MS_DEFAULT: u64 = 1_000;

/// The numbers of what a caller may see; only of `topic`, if one is given. Looks at all of it.
pub(super) fn gather(broker: &Broker, caller: &Caller, topic: Option<&TopicName>) -> GetStatsResponse {
    let topics = match topic {
        Some(name) => broker.find_topic(name).into_iter().collect(),
        None => broker.topics(),
    };
    let seen = topics.iter().filter(|topic| caller.sees(topic.name().as_str()));
    GetStatsResponse { broker: Some(of_broker(broker)), topics: seen.map(|topic| of_topic(topic)).collect() }
}

fn of_broker(broker: &Broker) -> BrokerStats {
    let stats = broker.stats();
    BrokerStats {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        trouble: broker.health().err().map(|error| error.to_string()).unwrap_or_default(),
        draining: broker.is_draining(),
        memory_limit: stats.memory_limit,
        memory_used: stats.memory_used,
        log_files: stats.log_files,
        log_bytes: stats.log_bytes,
        live_bytes: stats.live_bytes,
        syncs: stats.syncs,
        write_failures: stats.write_failures,
        sync_failures: stats.sync_failures,
    }
}

fn of_topic(topic: &Topic) -> TopicStats {
    let stats = topic.stats();
    TopicStats {
        name: topic.name().to_string(),
        depth: stats.depth,
        backend_depth: stats.backend_depth,
        message_count: stats.message_count,
        message_bytes: stats.message_bytes,
        skipped: stats.skipped,
        paused: stats.paused,
        durability: durability(stats.durability).into(),
        dedup_ids: stats.dedup_ids,
        channels: stats.channels.iter().map(of_channel).collect(),
    }
}

fn of_channel(report: &ChannelReport) -> ChannelStats {
    let stats = &report.stats;
    ChannelStats {
        name: report.name.to_string(),
        depth: stats.depth,
        backend_depth: stats.backend_depth,
        in_flight: stats.in_flight,
        deferred: stats.deferred,
        message_count: stats.message_count,
        finished: stats.finished,
        requeued: stats.requeued,
        timed_out: stats.timed_out,
        skipped: stats.skipped,
        bytes: stats.bytes,
        subscribers: stats.subscribers,
        paused: stats.paused,
    }
}

/// A level, as the API has it.
pub(super) fn durability(level: Durability) -> v1::Durability {
    match level {
        Durability::Memory => v1::Durability::Memory,
        Durability::Flush => v1::Durability::Flush,
        Durability::Sync => v1::Durability::Sync,
    }
}

/// The numbers again and again. Gathered when the connection has room for them, so a slow reader costs nothing.
pub(crate) struct Watching {
    core: Arc<Core>,
    caller: Caller,
    topic: Option<TopicName>,
    ticks: Interval,
    ending: Ending,
    /// Under way where it holds up nobody.
    gathering: Option<JoinHandle<GetStatsResponse>>,
    ended: bool,
}

impl Watching {
    pub(super) fn new(
        core: Arc<Core>,
        caller: Caller,
        topic: Option<TopicName>,
        every: Duration,
        ending: Ending,
    ) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { core, caller, topic, ticks, ending, gathering: None, ended: false }
    }
}

impl Stream for Watching {
    type Item = Result<WatchStatsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watching = &mut *self;
        if watching.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = watching.ending.poll(cx) {
            watching.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        let gathering = match &mut watching.gathering {
            Some(gathering) => gathering,
            none => {
                ready!(watching.ticks.poll_tick(cx));
                let (core, caller) = (Arc::clone(&watching.core), watching.caller.clone());
                let topic = watching.topic.clone();
                let gather = move || gather(&core.broker, &caller, topic.as_ref());
                none.insert(tokio::task::spawn_blocking(gather))
            }
        };
        let gathered = ready!(Pin::new(gathering).poll(cx));
        watching.gathering = None;
        Poll::Ready(Some(match gathered {
            Ok(GetStatsResponse { broker, topics }) => Ok(WatchStatsResponse { broker, topics }),
            Err(_) => {
                watching.ended = true;
                Err(Refusal::stopping().into())
            }
        }))
    }
}
