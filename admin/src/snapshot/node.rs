//! A broker at one moment.

use std::collections::{BTreeMap, HashMap};
use std::ops::Deref;
use std::sync::Arc;

use super::numbers::{Known, Numbers};
use crate::upstream::answers::{self, History, Info, Metrics, Registered, Series};
use crate::upstream::{Failure, Upstream};

/// Settings of a broker; those that it does not show are left out.
pub(crate) type Values = Arc<BTreeMap<&'static str, String>>;

/// A broker.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) upstream: Upstream,
    /// The reason why it has no numbers.
    pub(crate) error: Option<Failure>,
    pub(crate) info: Info,
    /// Version of libmq, if it is an `mq`; `info` has NSQ's.
    pub(crate) own_version: Option<String>,
    pub(crate) health: String,
    /// Sorted by name.
    pub(crate) topics: BTreeMap<String, TopicHere>,
    /// The sum over its topics.
    pub(crate) numbers: Numbers,
    pub(crate) channels: usize,
    /// Whether it keeps a history, as an `mq` does.
    pub(crate) keeps_history: bool,
    /// Topics and channels that the history lacks for want of room.
    pub(crate) history_missing: u64,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) is_draining: Option<bool>,
    /// Bytes a second by which its log grows; `None` until it was seen for a while.
    pub(crate) log_growth: Option<f64>,
    /// Settings that ought to be the same on all.
    pub(crate) options: Option<Values>,
    /// The lookup servers that know it, and what they know.
    pub(crate) registered: Vec<(String, Registered)>,
}

/// A topic on one broker: what that answers, and the numbers that every view shows.
#[derive(Debug)]
pub(crate) struct TopicHere {
    found: answers::Topic,
    pub(crate) numbers: Numbers,
    /// In the order of the answer's channels.
    channel_numbers: Vec<Numbers>,
}

impl Node {
    /// A broker that nothing is known of.
    pub(crate) fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            error: None,
            info: Info::default(),
            own_version: None,
            health: String::new(),
            topics: BTreeMap::new(),
            numbers: Numbers::default(),
            channels: 0,
            keeps_history: false,
            history_missing: 0,
            metrics: None,
            is_draining: None,
            log_growth: None,
            options: None,
            registered: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.upstream.id
    }

    /// A figure of its own about itself.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        self.metrics.as_ref()?.get(name).filter(|value| value.is_finite())
    }

    /// Bytes of its log, and its budget (0: none).
    pub(crate) fn disk(&self) -> Option<(f64, f64)> {
        let used = self.metric("mq_log_live_bytes")? + self.metric("mq_log_dead_bytes")?;
        Some((used, self.metric("mq_log_limit_bytes").unwrap_or_default()))
    }

    /// The time that an fsync takes, as the mean since its start.
    pub(crate) fn fsync_mean_seconds(&self) -> Option<f64> {
        let syncs = self.metric("mq_log_syncs_total").filter(|syncs| *syncs > 0.0)?;
        Some(self.metric("mq_log_sync_seconds_total")? / syncs)
    }

    /// Seconds until its budget or its disk is full, as its log grows now.
    pub(crate) fn disk_full_seconds(&self) -> Option<f64> {
        let growth = self.log_growth.filter(|growth| *growth > 0.0)?;
        let budget = self.disk().filter(|(_, limit)| *limit > 0.0).map(|(used, limit)| limit - used);
        let left = budget.into_iter().chain(self.metric("mq_disk_free_bytes")).reduce(f64::min)?;
        Some((left.max(0.0) / growth).round())
    }

    /// The program that it runs: nobody but an `mq` keeps a history.
    pub(crate) fn program(&self) -> &'static str {
        if self.keeps_history { "mq" } else { "nsqd" }
    }

    /// The version of its program.
    pub(crate) fn version(&self) -> &str {
        self.own_version.as_deref().unwrap_or(&self.info.version)
    }

    /// Whether lookup servers hide it from those who look for `topic`.
    pub(crate) fn is_tombstoned(&self, topic: &str) -> bool {
        self.registered.iter().any(|(_, at)| {
            at.topics.iter().zip(&at.tombstones).any(|(name, hidden)| *hidden && name == topic)
        })
    }

    /// Takes in its topics with the last minute of each, read at `now` in seconds since 1970.
    pub(crate) fn fill(&mut self, topics: Vec<answers::Topic>, history: Option<&History<'_>>, now: f64) {
        let series: HashMap<(&str, Option<&str>), &Series<'_>> =
            history.iter().flat_map(|history| &history.series).map(|one| (one.place(), one)).collect();
        // With two readings, silence means that nothing happens.
        let has_all = history.is_some_and(|history| history.has_rates() && history.missing == 0);
        let known = |topic: &str, channel: Option<&str>| match series.get(&(topic, channel)) {
            Some(series) => Known::Series(series),
            None if has_all => Known::Quiet,
            None => Known::Nothing,
        };
        let start = self.info.start_time;
        let here = |found: answers::Topic| {
            let name = found.topic_name.as_str();
            let of_channel = |channel: &answers::Channel| {
                let known = known(name, Some(&channel.channel_name));
                Numbers::of_channel(channel, known, now).started_at(start)
            };
            let numbers = Numbers::of_topic(&found, known(name, None), now).started_at(start);
            let channel_numbers = found.channels.iter().map(of_channel).collect();
            (found.topic_name.clone(), TopicHere { found, numbers, channel_numbers })
        };
        self.topics = topics.into_iter().map(here).collect();
        self.numbers = Numbers::sum(self.topics.values().map(|topic| &topic.numbers));
        self.channels = self.topics.values().map(|topic| topic.channels.len()).sum();
        self.keeps_history = history.is_some();
        self.history_missing = history.map_or(0, |history| history.missing);
    }
}

impl TopicHere {
    /// Its channels with their numbers.
    pub(crate) fn all_channels(&self) -> impl Iterator<Item = (&answers::Channel, &Numbers)> {
        self.found.channels.iter().zip(&self.channel_numbers)
    }

    /// The channel of that name.
    pub(crate) fn channel(&self, name: &str) -> Option<(&answers::Channel, &Numbers)> {
        self.all_channels().find(|(channel, _)| channel.channel_name == name)
    }
}

impl Deref for TopicHere {
    type Target = answers::Topic;

    fn deref(&self) -> &answers::Topic {
        &self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_no_rate_where_the_history_has_no_room_for_all_or_one_reading() {
        let topic = || answers::Topic { topic_name: "t".to_owned(), ..answers::Topic::default() };
        let history = |missing, growth| History {
            missing,
            node: Some(Series { growth, ..Series::default() }),
            ..History::default()
        };
        let rate = |history: Option<&History<'_>>| {
            let mut node = Node::new(Upstream::configured("a:1", None));
            node.fill(vec![topic()], history, 100.0);
            (node.numbers.published_rate, node.keeps_history, node.history_missing)
        };
        assert_eq!(rate(Some(&history(0, Some(0.0)))), (Some(0.0), true, 0));
        assert_eq!(rate(Some(&history(3, Some(0.0)))), (None, true, 3));
        assert_eq!(rate(Some(&history(0, None))), (None, true, 0));
        assert_eq!(rate(None), (None, false, 0));
    }
}
