//! Names that were deleted lately. Lookup servers and other brokers may not have heard of it: what they say
//! must not bring them back.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use mq_core::{ChannelName, TopicName};
use tokio::time::Instant;

use super::names::{Change, Names};

/// Names remembered at most; beyond that the oldest is forgotten.
const MAX: usize = 100_000;

/// A topic, or a channel of it.
type Key = (TopicName, Option<ChannelName>);

/// Topics and channels that were deleted.
pub(super) struct Deleted {
    lifetime: Duration,
    at: HashMap<Key, Instant>,
    /// Oldest first. One that was deleted again is here twice.
    order: VecDeque<(Instant, Key)>,
}

impl Deleted {
    /// Each is remembered for `lifetime`.
    pub(super) fn new(lifetime: Duration) -> Self {
        Self { lifetime, at: HashMap::new(), order: VecDeque::new() }
    }

    /// Records the topics and channels that `old` has and `new` lacks as deleted at `now`.
    pub(super) fn note(&mut self, old: &Names, new: &Names, now: Instant) {
        for change in new.changes_since(old) {
            if let Change::Unregister(topic, channel) = change {
                self.add((topic, channel), now);
            }
        }
        self.forget(now);
    }

    /// Whether the channel was deleted lately, by itself or with its topic.
    pub(super) fn has(&self, topic: &TopicName, channel: &ChannelName, now: Instant) -> bool {
        let is = |key: Key| self.at.get(&key).is_some_and(|at| now < *at + self.lifetime);
        is((topic.clone(), None)) || is((topic.clone(), Some(channel.clone())))
    }

    fn add(&mut self, key: Key, now: Instant) {
        if self.order.len() >= MAX {
            self.pop();
        }
        self.at.insert(key.clone(), now);
        self.order.push_back((now, key));
    }

    fn forget(&mut self, now: Instant) {
        while self.order.front().is_some_and(|(at, ..)| now >= *at + self.lifetime) {
            self.pop();
        }
    }

    fn pop(&mut self) {
        let Some((at, key)) = self.order.pop_front() else { return };
        if self.at.get(&key) == Some(&at) {
            self.at.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::announcer::names::tests::names;

    #[test]
    fn what_was_deleted_is_remembered_for_its_time() {
        let lifetime = Duration::from_secs(45);
        let (mut deleted, start) = (Deleted::new(lifetime), Instant::now());
        let has = |deleted: &Deleted, topic: &str, channel: &str, now: Instant| {
            deleted.has(&TopicName::parse(topic).unwrap(), &ChannelName::parse(channel).unwrap(), now)
        };
        deleted.note(&names("t1:a,b u2:c v3:d"), &names("t1:b u4:c v3:d"), start);
        let seen = |deleted: &Deleted, now| {
            [("t", "a"), ("t", "b"), ("u", "c"), ("v", "d")].map(|(t, c)| has(deleted, t, c, now))
        };
        assert_eq!(seen(&deleted, start), [true, false, true, false]);
        assert_eq!(seen(&deleted, start + lifetime), [false; 4]);
        deleted.note(&names("u4:c"), &names(""), start + lifetime / 2);
        deleted.note(&names(""), &names(""), start + lifetime);
        assert_eq!(seen(&deleted, start + lifetime), [false, false, true, false], "deleted again since");
        assert_eq!((deleted.at.len(), deleted.order.len()), (1, 1));
    }
}
