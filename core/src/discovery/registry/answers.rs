//! Questions to the registry. Long lists come in pieces, so that nobody has to wait for a whole one.

use std::ops::Bound;
use std::sync::Arc;

use crate::clock::Mono;
use crate::discovery::registry::{Connection, Topic};
use crate::discovery::{Producer, ProducerId, Registry};
use crate::name::{ChannelName, TopicName};

/// The answer to a lookup.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// The topic's channels, sorted.
    pub channels: Vec<ChannelName>,
    /// Producers that are active and not under a tombstone, one for each address; in the order they
    /// connected.
    pub producers: Vec<Arc<Producer>>,
}

/// A producer in the list of nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The id of its producer; a list goes on after it.
    pub id: ProducerId,
    /// The producer.
    pub producer: Arc<Producer>,
    /// Its topics, sorted, and whether it is hidden from their lookups.
    pub topics: Vec<(TopicName, bool)>,
}

/// A topic or channel with everything that is known of its producers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The topic.
    pub topic: TopicName,
    /// The channel; `None`: the topic itself.
    pub channel: Option<ChannelName>,
    /// Its producers.
    pub producers: Vec<Registered>,
}

/// A producer as the registry knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// The producer.
    pub producer: Arc<Producer>,
    /// Time of its last sign of life.
    pub last_update: Mono,
    /// Since when it is hidden from the topic's lookups, if it is.
    pub tombstoned_at: Option<Mono>,
}

/// The names that an answer includes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// Names that exist: a producer has them, an administrator created them, or a producer that had them may
    /// come back.
    Existing,
    /// All names that exist, and lasting ones that their last producer deleted, until the idle lifetime ends:
    /// nsqlookupd's answers.
    All,
}

impl Registry {
    /// The producers of a topic, and its channels. `None` if there is no such topic.
    pub fn lookup(&self, topic: &TopicName, view: View, now: Mono) -> Option<Found> {
        let entry = self.visible(topic, view, now)?;
        let tombstones = self.tombstones.any(topic);
        let known = entry.producers.iter().filter_map(|id| Some((id, self.producers.get(id)?)));
        let shown = known.filter(|(id, connection)| {
            let hidden = tombstones && self.tombstones.since(topic, &connection.node, now).is_some();
            let newer = self.newer(**id, connection, now);
            let is_superseded = newer.is_some_and(|newer| entry.producers.binary_search(&newer).is_ok());
            !hidden && self.is_active(connection, now) && !is_superseded
        });
        let producers = shown.map(|(_, connection)| connection.producer.clone()).collect();
        Some(Found { channels: entry.channel_names(view), producers })
    }

    /// A topic's channels, sorted; none if there is no such topic.
    pub fn channels(&self, topic: &TopicName, view: View, now: Mono) -> Vec<ChannelName> {
        self.visible(topic, view, now).map_or_else(Vec::new, |entry| entry.channel_names(view))
    }

    /// Up to `max` topics, sorted, that come after `after`.
    pub fn topics(&self, after: Option<&TopicName>, max: usize, view: View, now: Mono) -> Vec<TopicName> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let topics = self.topics.range::<TopicName, _>((from, Bound::Unbounded));
        topics.filter(|(_, t)| t.is_visible(view, now)).take(max).map(|(name, _)| name.clone()).collect()
    }

    /// Up to `max` active producers that connected after the one with the id `after`.
    pub fn nodes(&self, after: Option<ProducerId>, max: usize, now: Mono) -> Vec<Listed> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let producers = self.producers.range((from, Bound::Unbounded));
        let active = producers.filter(|(id, connection)| {
            self.is_active(connection, now) && self.newer(**id, connection, now).is_none()
        });
        let listed = active.take(max).map(|(&id, connection)| {
            let is_hidden = |topic: &TopicName| self.tombstones.since(topic, &connection.node, now).is_some();
            let topics = connection.topics.iter().map(|topic| (topic.clone(), is_hidden(topic)));
            Listed { id, producer: connection.producer.clone(), topics: topics.collect() }
        });
        listed.collect()
    }

    /// Up to `max` topics that come after `after`, hidden ones too, each followed by its channels. Only what
    /// has a producer is in it.
    pub fn entries(&self, after: Option<&TopicName>, max: usize, now: Mono) -> Vec<Entry> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let topics = self.topics.range::<TopicName, _>((from, Bound::Unbounded));
        let mut entries = Vec::new();
        for (name, topic) in topics.filter(|(_, topic)| !topic.producers.is_empty()).take(max) {
            let registered = |ids: &[ProducerId]| {
                let known = ids.iter().filter_map(|id| self.producers.get(id));
                known.map(|connection| self.registered(name, connection, now)).collect()
            };
            entries.push(Entry {
                topic: name.clone(),
                channel: None,
                producers: registered(&topic.producers),
            });
            let channels = topic.channels.iter().filter(|channel| !channel.producers.is_empty());
            entries.extend(channels.map(|channel| Entry {
                topic: name.clone(),
                channel: Some(channel.name.clone()),
                producers: registered(&channel.producers),
            }));
        }
        entries
    }

    /// All producers, also inactive ones, in the order they connected, and when each was heard of last.
    pub fn producers(&self) -> impl Iterator<Item = (&Arc<Producer>, Mono)> {
        self.producers.values().map(|connection| (&connection.producer, connection.last_update))
    }

    /// Numbers of producers, of topics and channels, and of registrations of them.
    pub fn sizes(&self) -> (usize, usize, usize) {
        (self.producers.len(), self.keys, self.registrations)
    }

    fn registered(&self, topic: &TopicName, connection: &Connection, now: Mono) -> Registered {
        Registered {
            producer: connection.producer.clone(),
            last_update: connection.last_update,
            tombstoned_at: self.tombstones.since(topic, &connection.node, now),
        }
    }

    fn visible(&self, topic: &TopicName, view: View, now: Mono) -> Option<&Topic> {
        self.topics.get(topic).filter(|entry| entry.is_visible(view, now))
    }

    fn is_active(&self, connection: &Connection, now: Mono) -> bool {
        now.since(connection.last_update) <= self.settings.inactive_after
    }

    /// The newest connection of the same broker, if that is another one and active.
    fn newer(&self, id: ProducerId, connection: &Connection, now: Mono) -> Option<ProducerId> {
        let newest = *self.newest.get(&connection.address)?;
        let is_newer = newest != id && self.is_active(self.producers.get(&newest)?, now);
        is_newer.then_some(newest)
    }
}

impl Topic {
    fn is_visible(&self, view: View, now: Mono) -> bool {
        let shown = !self.is_deleted || view == View::All;
        shown && self.hidden_until.is_none_or(|until| now >= until)
    }

    fn channel_names(&self, view: View) -> Vec<ChannelName> {
        let shown = self.channels.iter().filter(|channel| !channel.is_deleted || view == View::All);
        shown.map(|channel| channel.name.clone()).collect()
    }
}
