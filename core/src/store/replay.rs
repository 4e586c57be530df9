//! Replays events into the state they describe. Pure: used on a checkpoint's events, then on the log's.

use std::collections::{BTreeMap, HashMap};

use crate::clock::Wall;
use crate::config::Limits;
use crate::message::Offset;
use crate::store::event::{Durability, Event, Unfinished};
use crate::store::range_set::RangeSet;

/// Topics, channels and counters as the log tells them.
#[derive(Debug, Default)]
pub(crate) struct Replay {
    pub(crate) topics: BTreeMap<u32, TopicState>,
    pub(crate) channels: BTreeMap<u32, ChannelState>,
    /// Next numbers to hand out.
    pub(crate) next_topic: u32,
    pub(crate) next_channel: u32,
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
}

impl TopicState {
    /// The level in force now.
    pub(crate) fn level(&self) -> Durability {
        self.levels.last().map_or(Durability::Flush, |(_, level)| *level)
    }

    /// The level in force when `offset` was published, as far back as the log tells.
    pub(crate) fn level_at(&self, offset: Offset) -> Durability {
        let later = self.levels.partition_point(|(from, _)| *from <= offset);
        self.levels[later.saturating_sub(1)].1
    }
}

#[derive(Debug)]
pub(crate) struct ChannelState {
    pub(crate) topic: u32,
    pub(crate) name: String,
    pub(crate) paused: bool,
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
                self.next_topic = self.next_topic.max(topic + 1);
                let state = self.topics.entry(topic).or_insert_with(|| TopicState {
                    name,
                    paused,
                    pump,
                    end,
                    levels: vec![(Offset(0), level)],
                    limits: Limits::default(),
                });
                if state.level() != level {
                    state.levels.push((end, level));
                }
                (state.paused, state.pump) = (paused, pump);
                state.end = state.end.max(end);
            }
            Event::Limits { topic, limits } => {
                if let Some(state) = self.topics.get_mut(&topic) {
                    state.limits = limits;
                }
            }
            Event::TopicDeleted { topic } => {
                self.topics.remove(&topic);
                self.channels.retain(|_, c| c.topic != topic);
            }
            Event::Channel { channel, topic, name, paused, start } => {
                self.next_channel = self.next_channel.max(channel + 1);
                let state = self.channels.entry(channel).or_insert_with(|| {
                    let mut finished = RangeSet::default();
                    if start.0 > 0 {
                        finished.insert(Offset(0), Offset(start.0 - 1));
                    }
                    ChannelState { topic, name, paused, finished, requeued: HashMap::new() }
                });
                state.paused = paused;
            }
            Event::ChannelDeleted { channel } => {
                self.channels.remove(&channel);
            }
            Event::Cursor { channel, next, unfinished } => {
                let Some(state) = self.channels.get_mut(&channel) else { return };
                if next.0 > 0 {
                    state.finished.insert(Offset(0), Offset(next.0 - 1));
                }
                for message in &unfinished {
                    state.finished.remove(message.offset);
                }
                state.requeued.clear();
                state.requeue(&unfinished);
            }
            Event::Finished { channel, ranges } => {
                let Some(state) = self.channels.get_mut(&channel) else { return };
                for (first, last) in ranges {
                    state.finish(first, last);
                }
            }
            Event::Requeued { channel, messages } => {
                if let Some(state) = self.channels.get_mut(&channel) {
                    state.requeue(&messages);
                }
            }
            Event::Hole { topic, first, last } => {
                for state in self.channels.values_mut().filter(|c| c.topic == topic) {
                    state.finish(first, last);
                }
            }
        }
    }
}

impl ChannelState {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn channel(replay: &Replay) -> &ChannelState {
        &replay.channels[&1]
    }

    #[test]
    fn replaying_twice_changes_nothing() {
        let events = [
            Event::Topic {
                topic: 1,
                name: "t".into(),
                level: Durability::Flush,
                paused: false,
                pump: Offset(0),
                end: Offset(0),
            },
            Event::Channel { channel: 1, topic: 1, name: "c".into(), paused: false, start: Offset(5) },
            Event::Requeued {
                channel: 1,
                messages: vec![Unfinished { offset: Offset(7), attempts: 2, due: 9 }],
            },
            Event::Finished { channel: 1, ranges: vec![(Offset(5), Offset(6)), (Offset(8), Offset(9))] },
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
        assert_eq!(state.requeued[&Offset(7)], (2, 9));
        assert_eq!((replay.next_topic, replay.next_channel), (2, 2));
    }

    #[test]
    fn a_cursor_replaces_what_was_known_below_its_position() {
        let mut replay = Replay::default();
        replay.apply(Event::Channel {
            channel: 1,
            topic: 1,
            name: "c".into(),
            paused: false,
            start: Offset(0),
        });
        let unfinished = vec![Unfinished { offset: Offset(3), attempts: 1, due: 0 }];
        replay.apply(Event::Cursor { channel: 1, next: Offset(10), unfinished });
        replay.apply(Event::Hole { topic: 1, first: Offset(12), last: Offset(13) });
        let state = channel(&replay);
        assert_eq!(
            state.finished.missing(Offset(0), Offset(14)),
            [(Offset(3), Offset(3)), (Offset(10), Offset(11)), (Offset(14), Offset(14))]
        );
        replay.apply(Event::Finished { channel: 1, ranges: vec![(Offset(3), Offset(3))] });
        assert!(channel(&replay).requeued.is_empty());
    }
}
