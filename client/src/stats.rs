//! Numbers of a broker's topics and channels.

use serde::Serialize;

/// Numbers of a broker in this process.
///
/// ```
/// let client = libmq::connect("mq:memory")?;
/// client.publish("orders", "one pizza")?;
/// let stats = client.stats()?;
/// assert_eq!((&*stats.topics[0].name, stats.topics[0].depth), ("orders", 1));
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// Its topics, sorted by name.
    pub topics: Vec<TopicStats>,
}

/// Numbers of a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct TopicStats {
    /// Its name.
    pub name: String,
    /// Messages that wait for a first channel, or for the topic to be unpaused.
    pub depth: u64,
    /// Messages published.
    pub message_count: u64,
    /// Bytes of their bodies.
    pub message_bytes: u64,
    /// Messages that were not stored because one with their id was.
    pub duplicates: u64,
    /// Whether its messages do not go on to channels.
    pub paused: bool,
    /// Its channels, sorted by name.
    pub channels: Vec<ChannelStats>,
}

/// Numbers of a channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Its name.
    pub name: String,
    /// Messages that wait for a subscriber.
    pub depth: u64,
    /// Messages at subscribers, without an answer.
    pub in_flight: u64,
    /// Messages that wait for their time.
    pub deferred: u64,
    /// Messages that arrived in the channel.
    pub message_count: u64,
    /// Messages that subscribers finished.
    pub finished: u64,
    /// Requeues.
    pub requeued: u64,
    /// Timeouts of messages in flight.
    pub timed_out: u64,
    /// Messages moved to the dead letter topic.
    pub dead_lettered: u64,
    /// Subscribers.
    pub subscribers: u64,
    /// Whether delivery is stopped.
    pub paused: bool,
}
