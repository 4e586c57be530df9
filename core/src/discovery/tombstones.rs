//! Nodes hidden from the lookups of a topic, each since a time.

use std::collections::{HashMap, VecDeque};

use crate::clock::Mono;
use crate::discovery::Node;
use crate::name::TopicName;

/// Tombstones, all with the same lifetime.
pub(super) struct Tombstones {
    lifetime: u64,
    max: usize,
    by_topic: HashMap<TopicName, Vec<(Node, Mono)>>,
    /// Oldest first. One that was set again or removed is here still, and found to be so when it comes to
    /// the front.
    by_age: VecDeque<(Mono, TopicName, Node)>,
}

impl Tombstones {
    /// At most `max`: beyond that the oldest goes.
    pub(super) fn new(lifetime: u64, max: usize) -> Self {
        Self { lifetime, max, by_topic: HashMap::new(), by_age: VecDeque::new() }
    }

    /// Hides `node` from now on.
    pub(super) fn set(&mut self, topic: &TopicName, node: Node, now: Mono) {
        while self.by_age.len() >= self.max.max(1) {
            self.pop();
        }
        let nodes = self.by_topic.entry(topic.clone()).or_default();
        nodes.retain(|(have, _)| *have != node);
        nodes.push((node.clone(), now));
        self.by_age.push_back((now, topic.clone(), node));
    }

    /// Since when `node` is hidden, if it still is.
    pub(super) fn since(&self, topic: &TopicName, node: &Node, now: Mono) -> Option<Mono> {
        let (_, at) = self.by_topic.get(topic)?.iter().find(|(have, _)| have == node)?;
        (now < self.end(*at)).then_some(*at)
    }

    /// Whether any node may be hidden from the topic.
    pub(super) fn any(&self, topic: &TopicName) -> bool {
        self.by_topic.contains_key(topic)
    }

    /// Shows `node` again.
    pub(super) fn remove(&mut self, topic: &TopicName, node: &Node) {
        if let Some(nodes) = self.by_topic.get_mut(topic) {
            nodes.retain(|(have, _)| have != node);
            if nodes.is_empty() {
                self.by_topic.remove(topic);
            }
        }
    }

    /// Forgets up to `max` that have ended, and says when the next one ends.
    pub(super) fn expire(&mut self, now: Mono, max: usize) -> Option<Mono> {
        for _ in 0..max {
            if self.by_age.front().is_none_or(|(at, ..)| now < self.end(*at)) {
                break;
            }
            self.pop();
        }
        self.by_age.front().map(|(at, ..)| self.end(*at))
    }

    /// The end of a tombstone set at `at`.
    pub(super) fn end(&self, at: Mono) -> Mono {
        at.plus(self.lifetime)
    }

    fn pop(&mut self) {
        let Some((at, topic, node)) = self.by_age.pop_front() else { return };
        let Some(nodes) = self.by_topic.get_mut(&topic) else { return };
        nodes.retain(|(have, since)| *have != node || *since != at);
        if nodes.is_empty() {
            self.by_topic.remove(&topic);
        }
    }
}
