//! Topics and channels of a broker in this process: made, changed, counted.

use std::sync::Arc;

use mq_core::{Channel, ChannelName, ChannelSettings, Topic, TopicName, TopicSettings};

use super::{Embedded, failed};
use crate::error::{Error, Result};
use crate::stats::{ChannelStats, Stats, TopicStats};

/// A change of a topic or channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Made, if it is missing.
    Create,
    Delete,
    /// All its messages are dropped; a topic's only as far as no channel has them.
    Empty,
    Pause,
    Unpause,
}

impl Embedded {
    /// Changes a topic. Returns once the change is in the log.
    pub(crate) fn change_topic(&self, topic: &TopicName, change: Change) -> Result<()> {
        let broker = &self.place.broker;
        let failed = |error| failed(&error, &self.place.name);
        let ticket = match change {
            Change::Create => broker.topic(topic).map(|topic| topic.created()),
            Change::Delete => {
                self.find_topic(topic)?;
                broker.delete_topic(topic)
            }
            Change::Empty => self.find_topic(topic)?.empty(),
            Change::Pause => self.find_topic(topic)?.pause(),
            Change::Unpause => self.find_topic(topic)?.unpause(),
        };
        ticket.map_err(failed)?.wait(broker).map_err(failed)
    }

    /// Changes a channel. Returns once the change is in the log.
    pub(crate) fn change_channel(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
        change: Change,
    ) -> Result<()> {
        let broker = &self.place.broker;
        let failed = |error| failed(&error, &self.place.name);
        if change == Change::Create {
            let topic = broker.topic(topic).map_err(failed)?;
            let (_, ticket) = topic.channel(channel, None).map_err(failed)?;
            return ticket.wait(broker).map_err(failed);
        }
        let topic = self.find_topic(topic)?;
        let found = self.find_channel(&topic, channel)?;
        let ticket = match change {
            Change::Create => return Ok(()),
            Change::Delete => topic.delete_channel(channel),
            Change::Empty => found.empty(),
            Change::Pause => found.pause(),
            Change::Unpause => found.unpause(),
        };
        ticket.map_err(failed)?.wait(broker).map_err(failed)
    }

    pub(crate) fn topic_settings(&self, topic: &TopicName) -> Result<TopicSettings> {
        Ok(self.find_topic(topic)?.settings())
    }

    /// Changes a topic's settings. Returns once the change is in the log.
    pub(crate) fn set_topic_settings(&self, topic: &TopicName, settings: TopicSettings) -> Result<()> {
        let failed = |error| failed(&error, &self.place.name);
        let ticket = self.find_topic(topic)?.update(|own| *own = settings).map_err(failed)?;
        ticket.wait(&self.place.broker).map_err(failed)
    }

    pub(crate) fn channel_settings(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
    ) -> Result<ChannelSettings> {
        let topic = self.find_topic(topic)?;
        Ok(self.find_channel(&topic, channel)?.settings())
    }

    /// Changes a channel's settings. Returns once the change is in the log.
    pub(crate) fn set_channel_settings(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
        settings: ChannelSettings,
    ) -> Result<()> {
        let failed = |error| failed(&error, &self.place.name);
        let topic = self.find_topic(topic)?;
        let channel = self.find_channel(&topic, channel)?;
        let ticket = channel.update(|own| *own = settings).map_err(failed)?;
        ticket.wait(&self.place.broker).map_err(failed)
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut topics: Vec<_> = self.place.broker.topics().iter().map(|topic| topic_stats(topic)).collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Stats { topics }
    }

    fn find_topic(&self, topic: &TopicName) -> Result<Arc<Topic>> {
        self.place.broker.find_topic(topic).ok_or_else(|| self.missing(format!("there is no topic {topic}")))
    }

    fn find_channel(&self, topic: &Topic, channel: &ChannelName) -> Result<Arc<Channel>> {
        let missing = || self.missing(format!("topic {} has no channel {channel}", topic.name()));
        topic.find_channel(channel).ok_or_else(missing)
    }

    fn missing(&self, why: String) -> Error {
        Error::Refused { why, broker: self.name().to_owned(), retry: false }
    }
}

fn topic_stats(topic: &Topic) -> TopicStats {
    let stats = topic.stats();
    let channel = |report: &mq_core::ChannelReport| ChannelStats {
        name: report.name.to_string(),
        depth: report.stats.depth,
        in_flight: report.stats.in_flight,
        deferred: report.stats.deferred,
        message_count: report.stats.message_count,
        finished: report.stats.finished,
        requeued: report.stats.requeued,
        timed_out: report.stats.timed_out,
        dead_lettered: report.stats.dead_lettered,
        subscribers: report.stats.subscribers,
        paused: report.stats.paused,
    };
    TopicStats {
        name: topic.name().to_string(),
        depth: stats.depth,
        message_count: stats.message_count,
        message_bytes: stats.message_bytes,
        duplicates: stats.duplicates,
        paused: stats.paused,
        channels: stats.channels.iter().map(channel).collect(),
    }
}
