//! Entries of state frames and checkpoints: what happened to topics and channels, as absolute values, so that
//! replaying one twice is harmless.
//!
//! ```text
//! entry:  u8 tag, then the fields in the order of the table below, each as `fields` has it
//! ```

use crate::clock::Wall;
use crate::config::{ChannelSettings, Dedup, Durability, Limits};
use crate::message::Offset;
use crate::store::format::fields::Field;
use crate::store::format::ids::StoredId;
use crate::store::format::numbers::{ChannelNo, TopicNo};

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Numbers below these may be in use or were: never hand them out again.
    Counters {
        /// Next topic number.
        topic: TopicNo,
        /// Next channel number.
        channel: ChannelNo,
        /// Blocks below this one are reserved.
        block: u64,
    },
    /// A topic exists and is in this state.
    Topic {
        /// Its number.
        topic: TopicNo,
        /// Its name.
        name: String,
        /// Its level, in force for publishes from here on.
        level: Durability,
        /// Whether its pump is stopped.
        paused: bool,
        /// The pump position. Where it moves (channels and no pause) the log's end counts instead.
        pump: Offset,
        /// Offsets below were handed out; where the last stop was clean, this one is the next.
        end: Offset,
    },
    /// A topic and its channels are gone.
    TopicDeleted {
        /// Its number.
        topic: TopicNo,
    },
    /// A channel exists and is in this state.
    Channel {
        /// Its number.
        channel: ChannelNo,
        /// Its topic's number.
        topic: TopicNo,
        /// Its name.
        name: String,
        /// Whether delivery is stopped.
        paused: bool,
        /// Position at which its cursor started; everything below is not its own.
        start: Offset,
    },
    /// A channel is gone.
    ChannelDeleted {
        /// Its number.
        channel: ChannelNo,
    },
    /// A channel's whole cursor: below `next` all is finished but for the `unfinished`.
    Cursor {
        /// The channel's number.
        channel: ChannelNo,
        /// Its read position.
        next: Offset,
        /// Messages below `next` that are not finished, sorted.
        unfinished: Vec<Unfinished>,
    },
    /// A channel finished these; first and last offset of each range.
    Finished {
        /// The channel's number.
        channel: ChannelNo,
        /// Inclusive ranges.
        ranges: Vec<(Offset, Offset)>,
    },
    /// A channel holds these for another delivery.
    Requeued {
        /// The channel's number.
        channel: ChannelNo,
        /// The messages.
        messages: Vec<Unfinished>,
    },
    /// These offsets of a topic are finished for all channels it has now: the topic was emptied.
    Hole {
        /// The topic's number.
        topic: TopicNo,
        /// First offset.
        first: Offset,
        /// Last offset.
        last: Offset,
    },
    /// A topic's limits, in force from here on.
    Limits {
        /// The topic's number.
        topic: TopicNo,
        /// The limits.
        limits: Limits,
    },
    /// Time and number for which a topic remembers its messages' ids, in force from here on.
    Dedup {
        /// The topic's number.
        topic: TopicNo,
        /// Settings of its own.
        dedup: Dedup,
    },
    /// A channel's settings, in force from here on.
    ChannelSettings {
        /// The channel's number.
        channel: ChannelNo,
        /// The settings.
        settings: ChannelSettings,
    },
    /// Messages of a topic that were stored with an id.
    Ids {
        /// The topic's number.
        topic: TopicNo,
        /// The messages.
        ids: Vec<StoredId>,
    },
}

/// A message a channel has read but not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unfinished {
    /// The message.
    pub offset: Offset,
    /// Deliveries so far.
    pub attempts: u16,
    /// Time before which it is not delivered; 0 for at once.
    pub due: Wall,
}

/// Makes `encode` and `decode` from one table: the tag and the fields of each entry, in the order of their
/// bytes.
macro_rules! entries {
    ($($tag:literal => $entry:ident { $($field:ident),* })*) => {
        impl Event {
            /// Appends the entry to `out`.
            pub fn encode(&self, out: &mut Vec<u8>) {
                match self {
                    $(Self::$entry { $($field),* } => {
                        out.push($tag);
                        $($field.put(out);)*
                    })*
                }
            }

            /// Reads one entry and moves `bytes` past it. `None` if it is cut short or unknown.
            pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
                Some(match u8::get(bytes)? {
                    $($tag => Self::$entry { $($field: Field::get(bytes)?),* },)*
                    _ => return None,
                })
            }
        }
    };
}

entries! {
    1 => Counters { topic, channel, block }
    2 => Topic { topic, name, level, paused, pump, end }
    3 => TopicDeleted { topic }
    4 => Channel { channel, topic, name, paused, start }
    5 => ChannelDeleted { channel }
    6 => Cursor { channel, next, unfinished }
    7 => Finished { channel, ranges }
    8 => Requeued { channel, messages }
    9 => Hole { topic, first, last }
    10 => Limits { topic, limits }
    11 => Dedup { topic, dedup }
    12 => Ids { topic, ids }
    13 => ChannelSettings { channel, settings }
}

impl Event {
    /// Reads all entries of a payload. `None` if any is malformed.
    pub fn decode_all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            events.push(Self::decode(&mut bytes)?);
        }
        Some(events)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::Overflow;
    use crate::name::TopicName;
    use crate::store::format::ids::IdHash;

    #[test]
    fn events_come_back_as_they_were_written() {
        let some = vec![Unfinished { offset: Offset(9), attempts: 3, due: Wall(77) }];
        let events = vec![
            Event::Counters { topic: TopicNo(1), channel: ChannelNo(2), block: 3 },
            Event::Topic {
                topic: TopicNo(4),
                name: "t".into(),
                level: Durability::Memory,
                paused: true,
                pump: Offset(5),
                end: Offset(6),
            },
            Event::TopicDeleted { topic: TopicNo(4) },
            Event::Channel {
                channel: ChannelNo(1),
                topic: TopicNo(4),
                name: "c".into(),
                paused: false,
                start: Offset(8),
            },
            Event::ChannelDeleted { channel: ChannelNo(1) },
            Event::Cursor { channel: ChannelNo(1), next: Offset(10), unfinished: some.clone() },
            Event::Finished {
                channel: ChannelNo(1),
                ranges: vec![(Offset(1), Offset(2)), (Offset(4), Offset(4))],
            },
            Event::Requeued { channel: ChannelNo(1), messages: some },
            Event::Hole { topic: TopicNo(4), first: Offset(1), last: Offset(3) },
            Event::Limits {
                topic: TopicNo(4),
                limits: Limits {
                    max_messages: 5,
                    max_bytes: 6,
                    max_age: Duration::from_nanos(7),
                    overflow: Overflow::DropOldest,
                },
            },
            Event::ChannelSettings { channel: ChannelNo(1), settings: ChannelSettings::default() },
            Event::ChannelSettings {
                channel: ChannelNo(1),
                settings: ChannelSettings {
                    max_attempts: 300,
                    dead_letter_topic: Some(TopicName::parse("dead").unwrap()),
                    redelivery_delay: Duration::from_nanos(8),
                },
            },
            Event::Dedup { topic: TopicNo(4), dedup: Dedup { window: None, max_ids: Some(7) } },
            Event::Dedup { topic: TopicNo(4), dedup: Dedup { window: Some(Duration::ZERO), max_ids: None } },
            Event::Ids {
                topic: TopicNo(4),
                ids: vec![StoredId { hash: IdHash([1, 2]), offset: Offset(3), time: Wall(4) }],
            },
        ];
        let mut bytes = Vec::new();
        events.iter().for_each(|e| e.encode(&mut bytes));
        assert_eq!(crc32c::crc32c(&bytes), 0xbd48c5b3, "docs/format.md has other bytes");
        assert_eq!(Event::decode_all(&bytes), Some(events));
    }

    proptest! {
        /// I8: any bytes are read or refused, with no allocation beyond them.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = Event::decode_all(&bytes);
        }
    }
}
