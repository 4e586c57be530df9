//! Names that a broker has to announce.

use std::cmp::Ordering;

use mq_core::{ChannelName, TopicName, TopicNames, TopicNo};

/// Topics and channels, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names(pub(super) Vec<TopicNames>);

/// Something that became true or ceased to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Register(TopicName, Option<ChannelName>),
    Unregister(TopicName, Option<ChannelName>),
}

impl Names {
    /// Names as the core sorts them.
    pub fn new(names: Vec<TopicNames>) -> Self {
        Self(names)
    }

    /// Whether the topic of that number is among them.
    pub(super) fn has(&self, topic: &TopicName, no: TopicNo) -> bool {
        self.topic(topic, no).is_some()
    }

    /// The channels of the topic of that number.
    pub(super) fn channels(&self, topic: &TopicName, no: TopicNo) -> &[ChannelName] {
        self.topic(topic, no).map_or(&[], |known| &known.channels)
    }

    fn topic(&self, topic: &TopicName, no: TopicNo) -> Option<&TopicNames> {
        let at = self.0.binary_search_by(|known| known.name.cmp(topic)).ok()?;
        Some(&self.0[at]).filter(|known| known.no == no)
    }

    /// Changes that lead from `old` to `self`, in an order in which they can be sent: what was deleted and
    /// created again is first one, then the other.
    pub(super) fn changes_since(&self, old: &Self) -> Vec<Change> {
        let mut changes = Vec::new();
        let (mut before, mut after) = (old.0.iter().peekable(), self.0.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => return changes,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(old), Some(new)) => old.name.cmp(&new.name),
            };
            let old = if order.is_le() { before.next() } else { None };
            let new = if order.is_ge() { after.next() } else { None };
            match (old, new) {
                (Some(old), Some(new)) if old.no == new.no => channels(old, new, &mut changes),
                (old, new) => {
                    if let Some(old) = old {
                        changes.push(Change::Unregister(old.name.clone(), None));
                    }
                    if let Some(new) = new {
                        whole(new, &mut changes);
                    }
                }
            }
        }
    }

    /// Changes that announce all names to a server without any of this broker, after deletions of names that
    /// only `announced` has: the server may remember that from before.
    pub(super) fn announcement(&self, announced: &Self) -> Vec<Change> {
        let changes = self.changes_since(announced);
        let mut all: Vec<_> =
            changes.into_iter().filter(|change| matches!(change, Change::Unregister(..))).collect();
        self.0.iter().for_each(|topic| whole(topic, &mut all));
        all
    }
}

/// A channel's REGISTER is its topic's too.
fn whole(topic: &TopicNames, changes: &mut Vec<Change>) {
    if topic.channels.is_empty() {
        changes.push(Change::Register(topic.name.clone(), None));
    }
    let channels = topic.channels.iter();
    changes.extend(channels.map(|channel| Change::Register(topic.name.clone(), Some(channel.clone()))));
}

fn channels(old: &TopicNames, new: &TopicNames, changes: &mut Vec<Change>) {
    let gone = old.channels.iter().filter(|channel| new.channels.binary_search(channel).is_err());
    changes.extend(gone.map(|channel| Change::Unregister(old.name.clone(), Some(channel.clone()))));
    let come = new.channels.iter().filter(|channel| old.channels.binary_search(channel).is_err());
    changes.extend(come.map(|channel| Change::Register(new.name.clone(), Some(channel.clone()))));
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// `t1:a,b u2:`: topics with their numbers and channels.
    pub(in crate::announcer) fn names(text: &str) -> Names {
        let topic = |word: &str| {
            let (topic, channels) = word.split_once(':').unwrap();
            let (name, no) = topic.split_at(1);
            let channels = channels.split(',').filter(|c| !c.is_empty());
            TopicNames {
                no: TopicNo(no.parse().unwrap()),
                name: TopicName::parse(name).unwrap(),
                channels: channels.map(|c| ChannelName::parse(c).unwrap()).collect(),
                is_held: false,
                is_unannounced: false,
            }
        };
        Names(text.split_whitespace().map(topic).collect())
    }

    pub(in crate::announcer) fn words(changes: &[Change]) -> Vec<String> {
        let word = |sign: char, topic: &TopicName, channel: &Option<ChannelName>| match channel {
            Some(channel) => format!("{sign}{topic}:{channel}"),
            None => format!("{sign}{topic}"),
        };
        let words = changes.iter().map(|change| match change {
            Change::Register(topic, channel) => word('+', topic, channel),
            Change::Unregister(topic, channel) => word('-', topic, channel),
        });
        words.collect()
    }

    #[test]
    fn only_what_changed_is_told() {
        for (old, new, expected) in [
            ("", "t1: u2:a,b", "+t +u:a +u:b"),
            ("t1: u2:a,b", "t1:c u2:b", "+t:c -u:a"),
            ("t1:a u2:b", "u2:b", "-t"),
            ("t1:a", "t2:a", "-t +t:a"),
            ("t1:a", "t2:", "-t +t"),
            ("t1:a", "t1:a", ""),
        ] {
            let changes = names(new).changes_since(&names(old));
            assert_eq!(words(&changes).join(" "), expected, "{old} to {new}");
        }
    }

    #[test]
    fn a_new_server_is_told_all_and_what_went_meanwhile() {
        let announced = names("s1:x t2:a,b u3:c");
        let now = names("t2:b u4:");
        assert_eq!(words(&now.announcement(&announced)), ["-s", "-t:a", "-u", "+t:b", "+u"]);
    }

    fn some() -> impl Strategy<Value = Names> {
        let topic = (0..3_u32, prop::collection::btree_set("[ab]", 0..3));
        prop::collection::btree_map("[tuv]", topic, 0..4).prop_map(|topics| {
            let topic = |(name, (no, channels)): (String, (u32, BTreeSet<String>))| TopicNames {
                no: TopicNo(no),
                name: TopicName::parse(&name).unwrap(),
                channels: channels.iter().map(|c| ChannelName::parse(c).unwrap()).collect(),
                is_held: false,
                is_unannounced: false,
            };
            Names(topics.into_iter().map(topic).collect())
        })
    }

    /// Names of a broker that a server has.
    type Known = BTreeSet<(TopicName, Option<ChannelName>)>;

    fn apply(known: &mut Known, changes: &[Change]) {
        for change in changes {
            match change {
                Change::Register(topic, channel) => {
                    known.insert((topic.clone(), None));
                    known.insert((topic.clone(), channel.clone()));
                }
                Change::Unregister(topic, None) => known.retain(|(name, _)| name != topic),
                Change::Unregister(topic, channel) => _ = known.remove(&(topic.clone(), channel.clone())),
            }
        }
    }

    fn known(names: &Names) -> Known {
        let mut known = Known::new();
        apply(&mut known, &names.announcement(&Names::default()));
        known
    }

    proptest! {
        #[test]
        fn who_is_told_the_changes_knows_the_names(old in some(), new in some()) {
            let mut server = known(&old);
            apply(&mut server, &new.changes_since(&old));
            prop_assert_eq!(&server, &known(&new));
            apply(&mut server, &new.announcement(&old));
            prop_assert_eq!(server, known(&new));
        }
    }
}
