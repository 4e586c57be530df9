//! `GetStats` and `WatchStats`: the broker's numbers.

use std::collections::VecDeque;
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

use super::pages::{Page, parts};
use super::stream_end::StreamEnd;
use super::{Core, topic_name};
use crate::status::Refusal;
use crate::v1;
use crate::v1::{BrokerStats, ChannelStats, GetStatsResponse, TopicStats, WatchStatsResponse};

/// Intervals between the answers of `WatchStats`, in ms.
pub(super) const INTERVAL_MS: std::ops::RangeInclusive<u64> = 100..=3_600_000;
pub(super) const INTERVAL_MS_DEFAULT: u64 = 1_000;

/// The topics that a request asks for.
#[derive(Clone)]
pub(super) struct Filter {
    /// Only this one, if it is given.
    topic: Option<TopicName>,
    /// Only those whose names begin with this.
    prefix: String,
}

impl Filter {
    /// Checks the fields `topic` and `prefix`.
    pub(super) fn new(topic: &str, prefix: String) -> Result<Self, Refusal> {
        let topic = if topic.is_empty() { None } else { Some(topic_name(topic, "topic")?) };
        Ok(Self { topic, prefix })
    }

    /// The topics that a caller may see, by name.
    fn topics(&self, broker: &Broker, caller: &Caller) -> Vec<Arc<Topic>> {
        let mut topics = match &self.topic {
            Some(name) => broker.find_topic(name).into_iter().collect(),
            None => broker.topics(),
        };
        topics.retain(|topic| {
            let name = topic.name().as_str();
            name.starts_with(&self.prefix) && caller.sees(name)
        });
        topics
    }
}

/// A page of the numbers of what a caller may see.
pub(super) fn page(core: &Core, caller: &Caller, filter: &Filter, page: &Page) -> GetStatsResponse {
    let topics = filter.topics(&core.broker, caller);
    let rest = topics.iter().filter(|topic| page.goes_on_at(topic.name().as_str()));
    let (topics, next_page_token) = page.fill(rest.map(|topic| (topic.name().to_string(), of_topic(topic))));
    GetStatsResponse { broker: Some(of_broker(core)), topics, next_page_token }
}

/// All numbers of what a caller may see, in parts.
fn collect(core: &Core, caller: &Caller, filter: &Filter) -> VecDeque<WatchStatsResponse> {
    let topics = filter.topics(&core.broker, caller).iter().map(|topic| of_topic(topic)).collect();
    let mut parts: VecDeque<_> = parts(topics)
        .into_iter()
        .map(|topics| WatchStatsResponse { broker: None, topics, more: true })
        .collect();
    if let Some(first) = parts.front_mut() {
        first.broker = Some(of_broker(core));
    }
    if let Some(last) = parts.back_mut() {
        last.more = false;
    }
    parts
}

fn of_broker(core: &Core) -> BrokerStats {
    let broker = &core.broker;
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
        start_time_ns: core.started,
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
        oldest_message_ns: stats.oldest.unwrap_or_default().0,
        damage: stats.damage.as_ref().map(|damage| damage.text.clone()).unwrap_or_default(),
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
        oldest_message_ns: stats.oldest.unwrap_or_default().0,
        oversized: stats.oversized,
        dead_lettered: stats.dead_lettered,
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

/// The answers of `WatchStats`: the numbers at each tick. They are collected only when the connection has
/// room for them, so a slow reader costs nothing.
pub(crate) struct StatsWatch {
    core: Arc<Core>,
    caller: Caller,
    filter: Filter,
    ticks: Interval,
    stream_end: StreamEnd,
    /// The collection of the numbers, on a thread of the blocking pool.
    collecting: Option<JoinHandle<VecDeque<WatchStatsResponse>>>,
    /// Responses of the last collection that are not sent yet.
    parts: VecDeque<WatchStatsResponse>,
    ended: bool,
}

impl StatsWatch {
    pub(super) fn new(
        core: Arc<Core>,
        caller: Caller,
        filter: Filter,
        every: Duration,
        stream_end: StreamEnd,
    ) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            core,
            caller,
            filter,
            ticks,
            stream_end,
            collecting: None,
            parts: VecDeque::new(),
            ended: false,
        }
    }
}

impl Stream for StatsWatch {
    type Item = Result<WatchStatsResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watch = &mut *self;
        if watch.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = watch.stream_end.poll(cx) {
            watch.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        if let Some(part) = watch.parts.pop_front() {
            return Poll::Ready(Some(Ok(part)));
        }
        let collecting = match &mut watch.collecting {
            Some(collecting) => collecting,
            none => {
                ready!(watch.ticks.poll_tick(cx));
                let (core, caller) = (Arc::clone(&watch.core), watch.caller.clone());
                let filter = watch.filter.clone();
                let collect = move || collect(&core, &caller, &filter);
                none.insert(tokio::task::spawn_blocking(collect))
            }
        };
        let collected = ready!(Pin::new(collecting).poll(cx));
        watch.collecting = None;
        Poll::Ready(Some(match collected {
            Ok(mut parts) => {
                let first = parts.pop_front().unwrap_or_default();
                watch.parts = parts;
                Ok(first)
            }
            Err(_) => {
                watch.ended = true;
                Err(Refusal::stopping().into())
            }
        }))
    }
}
