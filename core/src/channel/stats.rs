//! A channel's numbers.

use std::ops::Range;

use crate::channel::{Channel, SubId};
use crate::clock::Wall;
use crate::message::Offset;
use crate::topic::cache::RingFrames;
use crate::topic::{ChannelReport, TopicState};

/// A channel's numbers. Counts are since the start.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let (billing, _) = orders.channel(&"billing".parse()?, None)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// let stats = billing.stats();
/// assert_eq!((stats.depth, stats.in_flight, stats.subscribers), (1, 0, 0));
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Messages waiting for a subscriber.
    pub depth: u64,
    /// The waiting messages that are only on disk.
    pub backend_depth: u64,
    /// Messages at subscribers, unfinished.
    pub in_flight: u64,
    /// Messages waiting for their time, or to be moved to the dead letter topic.
    pub deferred: u64,
    /// Messages that arrived in the channel.
    pub message_count: u64,
    /// Messages that subscribers finished.
    pub finished: u64,
    /// Requeues.
    pub requeued: u64,
    /// Timeouts of messages in flight.
    pub timed_out: u64,
    /// Number of times that a message was put aside because it was larger than its subscriber could take.
    pub oversized: u64,
    /// Messages moved to the dead letter topic.
    pub dead_lettered: u64,
    /// Messages dropped because too many waited: of ephemeral channels, and at a topic's limits.
    pub skipped: u64,
    /// Bytes of the messages that wait, are in flight or deferred, as they are stored; to the nearest
    /// message of average size.
    pub bytes: u64,
    /// Publish time of the oldest message that waits, is in flight or deferred, to about a second.
    pub oldest: Option<Wall>,
    /// Subscribers.
    pub subscribers: u64,
    /// Whether delivery is stopped.
    pub paused: bool,
    /// Bytes of memory held for messages in flight, waiting again or deferred: some 32 for each.
    pub memory: u64,
}

/// The messages of a topic that are in memory.
pub(crate) struct InMemory<'a> {
    pub(crate) ring: &'a RingFrames,
    /// Their ranks, as rising ranges.
    pub(crate) ranks: Vec<Range<u64>>,
}

impl InMemory<'_> {
    /// Counts the messages of these ranks that are not in memory.
    pub(crate) fn missing(&self, ranks: Range<u64>) -> u64 {
        let within = |cached: &Range<u64>| {
            let (start, end) = (cached.start.max(ranks.start), cached.end.min(ranks.end));
            end.saturating_sub(start)
        };
        let cached: u64 = self.ranks.iter().map(within).sum();
        ranks.end.saturating_sub(ranks.start).saturating_sub(cached)
    }

    fn has(&self, offset: Offset) -> bool {
        self.ring.find(offset).is_some()
    }
}

impl Channel {
    /// The channel's numbers.
    pub fn stats(&self) -> ChannelStats {
        match self.topic() {
            Some(topic) => {
                let state = topic.state.lock();
                self.report(&state, &state.in_memory()).stats
            }
            None => ChannelStats::default(),
        }
    }

    /// Messages waiting for a subscriber.
    pub fn depth(&self) -> u64 {
        let inner = self.inner.lock();
        inner.state.depth(inner.end)
    }

    /// The channel's numbers, by who holds the topic's lock.
    pub(crate) fn report(&self, topic: &TopicState, in_memory: &InMemory<'_>) -> ChannelReport {
        let backlog = self.backlog(topic);
        let mut inner = self.inner.lock();
        let oldest = topic.extents.seek(inner.state.oldest(), topic.end).rank;
        let oldest = topic.volume.time_at(oldest).filter(|_| backlog.messages > 0);
        let state = &inner.state;
        let depth = state.depth(inner.end);
        let new_on_disk = in_memory.missing(state.next().rank..inner.end.rank);
        let redeliveries_on_disk = state.ready().filter(|offset| !in_memory.has(*offset)).count() as u64;
        let stats = ChannelStats {
            depth,
            // Messages in gaps are not delivered, though they may be on disk.
            backend_depth: (new_on_disk + redeliveries_on_disk).min(depth),
            in_flight: state.in_flight(),
            deferred: state.deferred(),
            message_count: inner.end.rank.saturating_sub(inner.uncounted),
            finished: state.finish_count(),
            requeued: state.requeue_count(),
            timed_out: state.timeout_count(),
            oversized: state.oversized_count(),
            dead_lettered: state.dead_letter_count(),
            skipped: inner.skipped,
            bytes: backlog.bytes,
            oldest,
            subscribers: state.subscribers() as u64,
            paused: state.is_paused(),
            memory: state.bytes() as u64,
        };
        let mut report = ChannelReport {
            name: self.name().clone(),
            stats,
            latency: Default::default(),
            recent_latency: Default::default(),
        };
        if let Some(latency) = &mut inner.latency {
            report.latency = latency.histogram();
            report.recent_latency = latency.recent(self.shared.clock.mono(), &self.shared.measuring);
        }
        report
    }
}

/// A view of one subscriber's numbers from outside. It keeps neither the subscriber nor the channel alive.
///
/// ```
/// # use mq_core::{Broker, Options, Parker, SubscribeOptions};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// # use std::sync::Arc;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let (billing, _) = orders.channel(&"billing".parse()?, None)?;
/// let mut subscription = billing.subscribe(SubscribeOptions::default(), Arc::new(Parker::default()))?;
/// let view = subscription.view();
/// subscription.acks().set_credit(10);
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// subscription.pull(1 << 20, &mut |_| {});
/// assert_eq!(view.in_flight(), 1);
/// drop(subscription);
/// assert_eq!(view.in_flight(), 0);
/// # broker.close()
/// # }
/// ```
#[derive(Clone)]
pub struct SubscriberView {
    pub(super) channel: std::sync::Weak<Channel>,
    pub(super) id: SubId,
}

impl SubscriberView {
    /// Messages in flight there; 0 once it has ended.
    pub fn in_flight(&self) -> u64 {
        let Some(channel) = self.channel.upgrade() else { return 0 };
        let inner = channel.inner.lock();
        inner.state.subscriber_stats(self.id).map_or(0, |stats| u64::from(stats.in_flight))
    }
}

impl std::fmt::Debug for SubscriberView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubscriberView").finish_non_exhaustive()
    }
}
