//! A topic's numbers, with those of its channels, all of one moment.

use std::ops::Range;

use crate::channel::{ChannelStats, InMemory};
use crate::clock::Wall;
use crate::config::Durability;
use crate::latency::{Histogram, Quantiles};
use crate::name::ChannelName;
use crate::topic::{Topic, TopicDamage, TopicState};

/// A topic's numbers. Counts are since the start.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// let stats = orders.stats();
/// assert_eq!((stats.message_count, stats.channels.len()), (1, 0));
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicStats {
    /// Messages that wait for a first channel, or for the topic to be unpaused.
    pub depth: u64,
    /// The waiting messages that are only on disk.
    pub backend_depth: u64,
    /// Bytes of the messages that wait, as they are stored; to the nearest message of average size.
    pub bytes: u64,
    /// Publish time of the oldest message that waits, to about a second.
    pub oldest: Option<Wall>,
    /// Messages dropped at the topic's limits before any channel had them.
    pub skipped: u64,
    /// Messages published.
    pub message_count: u64,
    /// Bytes of their bodies.
    pub message_bytes: u64,
    /// Messages that were not stored because one with their id was.
    pub duplicates: u64,
    /// Ids that are remembered now.
    pub dedup_ids: u64,
    /// Ids forgotten before their time, because there were too many or no memory for more.
    pub dedup_evicted: u64,
    /// Whether its messages do not go on to channels.
    pub paused: bool,
    /// Its level.
    pub durability: Durability,
    /// The damage the topic is stopped for, if it is.
    pub damage: Option<TopicDamage>,
    /// Its channels, sorted by name.
    pub channels: Vec<ChannelReport>,
}

/// A channel in [`TopicStats`].
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let _ = orders.channel(&"billing".parse()?, None)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// let reports = orders.stats().channels;
/// assert_eq!((reports[0].name.as_str(), reports[0].stats.depth), ("billing", 1));
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelReport {
    /// Its name.
    pub name: ChannelName,
    /// Its numbers.
    pub stats: ChannelStats,
    /// Time from publish to finish of some messages, since
    /// [`Broker::measure_latency`](crate::Broker::measure_latency).
    pub latency: Histogram,
    /// Times of the last window, for quantiles.
    pub recent_latency: Quantiles,
}

impl Topic {
    /// The topic's numbers, and those of its channels: of one moment.
    pub fn stats(&self) -> TopicStats {
        let state = self.state.lock();
        let in_memory = state.in_memory();
        let depth = state.end.rank - state.pump.rank;
        let mut channels: Vec<_> =
            state.channels.iter().map(|channel| channel.report(&state, &in_memory)).collect();
        let stats = TopicStats {
            depth,
            backend_depth: in_memory.missing(state.pump.rank..state.end.rank),
            bytes: state.volume.bytes_from(state.pump.rank, state.end.rank),
            oldest: state.volume.time_at(state.pump.rank).filter(|_| depth > 0),
            skipped: state.skipped,
            message_count: state.message_count,
            message_bytes: state.message_bytes,
            duplicates: state.duplicates,
            dedup_ids: state.ids_len(),
            dedup_evicted: state.ids_evicted,
            paused: state.paused,
            durability: state.level,
            damage: state.damage.clone(),
            channels: Vec::new(),
        };
        drop(state);
        channels.sort_by(|a, b| a.name.cmp(&b.name));
        TopicStats { channels, ..stats }
    }
}

impl TopicState {
    /// The messages that are in memory.
    pub(crate) fn in_memory(&self) -> InMemory<'_> {
        InMemory { ring: &self.ring, ranks: self.cached_ranks() }
    }

    /// The ranks of the messages in memory, as rising ranges.
    fn cached_ranks(&self) -> Vec<Range<u64>> {
        let Some(first) = self.ring.first() else { return Vec::new() };
        let rank = |offset| self.extents.seek(offset, self.end).rank;
        let start = rank(first);
        // Most often nothing is missing, and no frame need be looked at.
        if start + self.ring.messages() == self.end.rank {
            return std::iter::once(start..self.end.rank).collect();
        }
        let mut ranks: Vec<Range<u64>> = Vec::new();
        let mut next = None;
        for frame in self.ring.frames() {
            let goes_on = next == Some(frame.first);
            next = Some(frame.last().plus(1));
            match ranks.last_mut().filter(|_| goes_on) {
                Some(last) => last.end += u64::from(frame.count),
                None => {
                    let start = rank(frame.first);
                    ranks.push(start..start + u64::from(frame.count));
                }
            }
        }
        ranks
    }
}
