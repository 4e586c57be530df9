//! Topics whose lookups somebody wants to hear of when they change.

use std::collections::HashSet;

use crate::clock::Mono;
use crate::discovery::{ProducerId, Registry};
use crate::name::TopicName;

/// The watched topics, and those of them that may have changed.
#[derive(Default)]
pub(super) struct Watched {
    topics: HashSet<TopicName>,
    /// Those of `topics` that may have changed.
    changed: HashSet<TopicName>,
}

impl Watched {
    pub(super) fn touch(&mut self, topic: &TopicName) {
        if self.topics.contains(topic) {
            self.changed.insert(topic.clone());
        }
    }
}

impl Registry {
    /// From now on events that may change what a lookup of `topic` answers are noted.
    pub fn watch(&mut self, topic: &TopicName) {
        self.watched.topics.insert(topic.clone());
    }

    /// Ends it.
    pub fn unwatch(&mut self, topic: &TopicName) {
        self.watched.topics.remove(topic);
        self.watched.changed.remove(topic);
    }

    /// Watched topics of which a lookup may answer something else since this was asked last, time aside.
    pub fn take_changed(&mut self) -> HashSet<TopicName> {
        std::mem::take(&mut self.watched.changed)
    }

    /// The time from which a lookup of `topic` may answer something else though nothing happens until then: a
    /// producer falls silent, or what is hidden shows again.
    pub fn changes_at(&self, topic: &TopicName, now: Mono) -> Option<Mono> {
        let entry = self.topics.get(topic)?;
        let connections = entry.producers.iter().filter_map(|id| self.producers.get(id));
        let times = connections.flat_map(|connection| {
            let silent = connection.last_update.plus(self.settings.inactive_after).plus(1);
            let shown = self.tombstones.since(topic, &connection.node, now).map(|at| self.tombstones.end(at));
            [Some(silent), shown]
        });
        times.chain([entry.hidden_until]).flatten().filter(|at| now < *at).min()
    }

    /// Notes all topics of a producer.
    pub(super) fn touch_all(&mut self, id: ProducerId) {
        if self.watched.topics.is_empty() {
            return;
        }
        if let Some(connection) = self.producers.get(&id) {
            connection.topics.iter().for_each(|topic| self.watched.touch(topic));
        }
    }
}
