//! Replays events into the state they describe. Pure: used on a checkpoint's events, then on the log's.

use std::collections::{BTreeMap, HashMap};

use crate::clock::Wall;
use crate::config::{ChannelSettings, Dedup, Durability, Limits};
use crate::message::Offset;
use crate::store::format::event::{Event, Unfinished};
use crate::store::format::ids::{Ids, StoredId};
use crate::store::format::numbers::{ChannelNo, TopicNo};
use crate::store::format::range_set::RangeSet;

/// Topics, channels and counters as the log has them.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) topics: BTreeMap<TopicNo, TopicState>,
    pub(crate) channels: BTreeMap<ChannelNo, ChannelState>,
    /// Ids of messages of the topics, and of others.
    pub(crate) ids: Ids,
    /// Next numbers to hand out.
    pub(crate) next_topic: TopicNo,
    pub(crate) next_channel: ChannelNo,
    /// Blocks below are reserved: none of them may be handed out again.
    pub(crate) next_block: u64,
}

#[derive(Debug)]
pub(crate) struct TopicState {
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) pump: Offset,
    pub(crate) end: Offset,
    /// From which offset on each level was in force, in order. Never empty.
    pub(crate) levels: Vec<(Offset, Durability)>,
    pub(crate) limits: Limits,
    pub(crate) dedup: Dedup,
    /// Offsets known to be gone: emptied, or lost and given up by a repair. Nobody waits for them.
    pub(crate) holes: RangeSet,
}

impl TopicState {
    pub(crate) fn new(name: String, paused: bool, pump: Offset, end: Offset, level: Durability) -> Self {
        Self {
            name,
            paused,
            pump,
            end,
            levels: vec![(Offset(0), level)],
            limits: Limits::default(),
            dedup: Dedup::default(),
            holes: RangeSet::default(),
        }
    }

    /// The level in force now.
    pub(crate) fn level(&self) -> Durability {
        self.levels.last().map_or(Durability::Flush, |(_, level)| *level)
    }

    /// The level in force when `offset` was published, as far back as the log goes.
    pub(crate) fn level_at(&self, offset: Offset) -> Durability {
        let later = self.levels.partition_point(|(from, _)| *from <= offset);
        self.levels[later.saturating_sub(1)].1
    }
}

#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) topic: TopicNo,
    pub(crate) name: String,
    pub(crate) paused: bool,
    pub(crate) settings: ChannelSettings,
    pub(crate) finished: RangeSet,
    /// Attempts and due time of messages that were handed out before, or wait.
    pub(crate) requeued: HashMap<Offset, (u16, Wall)>,
}

impl Replay {
    /// Applies one event. Events of topics and channels that are gone are passed over.
    pub(crate) fn apply(&mut self, event: Event) {
        match event {
            Event::Counters { topic, channel, block } => {
                self.next_topic = self.next_topic.max(topic);
                self.next_channel = self.next_channel.max(channel);
                self.next_block = self.next_block.max(block);
            }
            Event::Topic { topic, name, level, paused, pump, end } => {
                self.next_topic = self.next_topic.max(topic.next());
                let new = || TopicState::new(name, paused, pump, end, level);
                let state = self.topics.entry(topic).or_insert_with(new);
                if state.level() != level {
                    state.levels.push((end, level));
                }
                (state.paused, state.pump) = (paused, pump);
                state.end = state.end.max(end);
            }
            Event::Limits { topic, limits } => self.of_topic(topic, |state| state.limits = limits),
            Event::Dedup { topic, dedup } => self.of_topic(topic, |state| state.dedup = dedup),
            Event::Ids { topic, ids } => self.ids.note(topic, ids),
            Event::TopicDeleted { topic } => {
                self.ids.forget(topic);
                self.topics.remove(&topic);
                self.channels.retain(|_, c| c.topic != topic);
            }
            Event::Channel { channel, topic, name, paused, start } => {
                self.next_channel = self.next_channel.max(channel.next());
                let new = || ChannelState::new(topic, name, below(start));
                self.channels.entry(channel).or_insert_with(new).paused = paused;
            }
            Event::ChannelDeleted { channel } => {
                self.channels.remove(&channel);
            }
            Event::ChannelSettings { channel, settings } => {
                self.of_channel(channel, |state| state.settings = settings);
            }
            Event::Cursor { channel, next, unfinished } => {
                self.of_channel(channel, |state| state.set_cursor(next, &unfinished));
            }
            Event::Finished { channel, ranges } => self.of_channel(channel, |state| {
                ranges.into_iter().for_each(|(first, last)| state.finish(first, last));
            }),
            Event::Requeued { channel, messages } => {
                self.of_channel(channel, |state| state.requeue(&messages));
            }
            Event::Hole { topic, first, last } => {
                self.of_topic(topic, |state| state.holes.insert(first, last));
                for state in self.channels.values_mut().filter(|c| c.topic == topic) {
                    state.finish(first, last);
                }
            }
        }
    }

    /// Changes a topic, if there is one of that number.
    fn of_topic(&mut self, topic: TopicNo, change: impl FnOnce(&mut TopicState)) {
        self.topics.get_mut(&topic).map(change);
    }

    /// Changes a channel, if there is one of that number.
    fn of_channel(&mut self, channel: ChannelNo, change: impl FnOnce(&mut ChannelState)) {
        self.channels.get_mut(&channel).map(change);
    }

    /// The events that record this state, for a checkpoint.
    pub(crate) fn events(&self) -> Vec<Event> {
        let Self { topics, channels, ids, next_topic, next_channel, next_block } = self;
        let mut events =
            vec![Event::Counters { topic: *next_topic, channel: *next_channel, block: *next_block }];
        for (&topic, state) in topics {
            // Named one by one: what is added to a topic must be recorded here too.
            let TopicState { name, paused, pump, end, levels: _, limits, dedup, holes: _ } = state;
            let (level, paused, pump, end) = (state.level(), *paused, *pump, *end);
            events.push(Event::Topic { topic, name: name.clone(), level, paused, pump, end });
            events.push(Event::Limits { topic, limits: *limits });
            events.push(Event::Dedup { topic, dedup: *dedup });
            events.extend(ids_events(topic, &ids.of(topic)));
        }
        for (&channel, state) in channels {
            let ChannelState { topic, name, paused, settings, finished, requeued } = state;
            let (topic, paused) = (*topic, *paused);
            events.push(Event::Channel { channel, topic, name: name.clone(), paused, start: Offset(0) });
            events.push(Event::ChannelSettings { channel, settings: settings.clone() });
            events.push(Event::Finished { channel, ranges: finished.iter().collect() });
            let mut messages: Vec<Unfinished> = requeued
                .iter()
                .map(|(&offset, &(attempts, due))| Unfinished { offset, attempts, due })
                .collect();
            messages.sort_unstable_by_key(|m| m.offset);
            events.push(Event::Requeued { channel, messages });
        }
        // After the channels, which they are finished for.
        for (&topic, state) in topics {
            events.extend(state.holes.iter().map(|(first, last)| Event::Hole { topic, first, last }));
        }
        events
    }
}

impl ChannelState {
    fn new(topic: TopicNo, name: String, finished: RangeSet) -> Self {
        let settings = ChannelSettings::default();
        Self { topic, name, paused: false, settings, finished, requeued: HashMap::new() }
    }

    /// Takes in a whole cursor.
    fn set_cursor(&mut self, next: Offset, unfinished: &[Unfinished]) {
        if next.0 > 0 {
            self.finished.insert(Offset(0), Offset(next.0 - 1));
        }
        for message in unfinished {
            self.finished.remove(message.offset);
        }
        self.requeued.clear();
        self.requeue(unfinished);
    }

    fn finish(&mut self, first: Offset, last: Offset) {
        self.finished.insert(first, last);
        let few = last.0.saturating_sub(first.0) < self.requeued.len() as u64;
        if few {
            for offset in first.0..=last.0 {
                self.requeued.remove(&Offset(offset));
            }
        } else {
            self.requeued.retain(|offset, _| *offset < first || *offset > last);
        }
    }

    /// A message that is finished stays so: an old requeue may be replayed over a newer cursor.
    fn requeue(&mut self, messages: &[Unfinished]) {
        for message in messages {
            if !self.finished.contains(message.offset) {
                self.requeued.insert(message.offset, (message.attempts, message.due));
            }
        }
    }
}

/// All offsets below one.
fn below(end: Offset) -> RangeSet {
    let mut all = RangeSet::default();
    if end.0 > 0 {
        all.insert(Offset(0), Offset(end.0 - 1));
    }
    all
}

/// Ids in one entry at most.
const IDS_AT_ONCE: usize = 4096;

/// The events that record ids of `topic`.
pub(crate) fn ids_events(topic: TopicNo, ids: &[StoredId]) -> impl Iterator<Item = Event> + '_ {
    ids.chunks(IDS_AT_ONCE).map(move |ids| Event::Ids { topic, ids: ids.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(replay: &Replay) -> &ChannelState {
        &replay.channels[&ChannelNo(1)]
    }

    #[test]
    fn replaying_twice_changes_nothing() {
        let events = [
            Event::Topic {
                topic: TopicNo(1),
                name: "t".into(),
                level: Durability::Flush,
                paused: false,
                pump: Offset(0),
                end: Offset(0),
            },
            Event::Channel {
                channel: ChannelNo(1),
                topic: TopicNo(1),
                name: "c".into(),
                paused: false,
                start: Offset(5),
            },
            Event::Requeued {
                channel: ChannelNo(1),
                messages: vec![Unfinished { offset: Offset(7), attempts: 2, due: Wall(9) }],
            },
            Event::Finished {
                channel: ChannelNo(1),
                ranges: vec![(Offset(5), Offset(6)), (Offset(8), Offset(9))],
            },
        ];
        let mut replay = Replay::default();
        for event in events.iter().chain(&events) {
            replay.apply(event.clone());
        }
        let state = channel(&replay);
        assert_eq!(
            state.finished.missing(Offset(0), Offset(12)),
            [(Offset(7), Offset(7)), (Offset(10), Offset(12))]
        );
        assert_eq!(state.requeued[&Offset(7)], (2, Wall(9)));
        assert_eq!((replay.next_topic, replay.next_channel), (TopicNo(2), ChannelNo(2)));
    }

    #[test]
    fn a_state_told_by_its_events_comes_back() {
        let topic = |end| Event::Topic {
            topic: TopicNo(4),
            name: "t".into(),
            level: Durability::Memory,
            paused: true,
            pump: Offset(3),
            end: Offset(end),
        };
        let mut replay = Replay::default();
        for event in [
            Event::Counters { topic: TopicNo(9), channel: ChannelNo(8), block: 7 },
            topic(20),
            Event::Channel {
                channel: ChannelNo(2),
                topic: TopicNo(4),
                name: "c".into(),
                paused: true,
                start: Offset(5),
            },
            Event::Finished { channel: ChannelNo(2), ranges: vec![(Offset(8), Offset(9))] },
            Event::Requeued {
                channel: ChannelNo(2),
                messages: vec![Unfinished { offset: Offset(11), attempts: 2, due: Wall(9) }],
            },
            Event::Hole { topic: TopicNo(4), first: Offset(14), last: Offset(15) },
            Event::Dedup { topic: TopicNo(4), dedup: Dedup { window: None, max_ids: Some(3) } },
            Event::Ids {
                topic: TopicNo(4),
                ids: vec![StoredId {
                    hash: crate::store::format::ids::IdHash([1, 2]),
                    offset: Offset(3),
                    time: Wall(4),
                }],
            },
        ] {
            replay.apply(event);
        }
        let mut again = Replay::default();
        replay.events().into_iter().for_each(|event| again.apply(event));
        assert_eq!(format!("{replay:?}"), format!("{again:?}"));
        assert_eq!(again.topics[&TopicNo(4)].holes.iter().collect::<Vec<_>>(), [(Offset(14), Offset(15))]);
    }

    #[test]
    fn a_cursor_replaces_what_was_known_below_its_position() {
        let mut replay = Replay::default();
        replay.apply(Event::Channel {
            channel: ChannelNo(1),
            topic: TopicNo(1),
            name: "c".into(),
            paused: false,
            start: Offset(0),
        });
        let unfinished = vec![Unfinished { offset: Offset(3), attempts: 1, due: Wall(0) }];
        replay.apply(Event::Cursor { channel: ChannelNo(1), next: Offset(10), unfinished });
        replay.apply(Event::Hole { topic: TopicNo(1), first: Offset(12), last: Offset(13) });
        let state = channel(&replay);
        assert_eq!(
            state.finished.missing(Offset(0), Offset(14)),
            [(Offset(3), Offset(3)), (Offset(10), Offset(11)), (Offset(14), Offset(14))]
        );
        replay.apply(Event::Finished { channel: ChannelNo(1), ranges: vec![(Offset(3), Offset(3))] });
        assert!(channel(&replay).requeued.is_empty());
    }
}
