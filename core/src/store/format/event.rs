//! Entries of state frames and checkpoints: what happened to topics and channels, as absolute values, so that
//! replaying one twice is harmless.
//!
//! ```text
//! entry (little-endian):  u8 tag, then the fields in the order of the enum's variant
//!   integers as they are; a name as u8 length and bytes; a list as u32 count and its items
//! ```

use std::time::Duration;

use crate::clock::Wall;
use crate::config::{ChannelSettings, Dedup, Durability, Limits, Overflow};
use crate::message::Offset;
use crate::name::TopicName;
use crate::store::format::ids::{IdHash, StoredId};

/// One change of state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Numbers below these may be in use or were: never hand them out again.
    Counters {
        /// Next topic number.
        topic: u32,
        /// Next channel number.
        channel: u32,
        /// Blocks below this one are reserved.
        block: u64,
    },
    /// A topic exists and is in this state.
    Topic {
        /// Its number.
        topic: u32,
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
        topic: u32,
    },
    /// A channel exists and is in this state.
    Channel {
        /// Its number.
        channel: u32,
        /// Its topic's number.
        topic: u32,
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
        channel: u32,
    },
    /// A channel's whole cursor: below `next` all is finished but for the `unfinished`.
    Cursor {
        /// The channel's number.
        channel: u32,
        /// Its read position.
        next: Offset,
        /// Messages below `next` that are not finished, sorted.
        unfinished: Vec<Unfinished>,
    },
    /// A channel finished these; first and last offset of each range.
    Finished {
        /// The channel's number.
        channel: u32,
        /// Inclusive ranges.
        ranges: Vec<(Offset, Offset)>,
    },
    /// A channel holds these for another delivery.
    Requeued {
        /// The channel's number.
        channel: u32,
        /// The messages.
        messages: Vec<Unfinished>,
    },
    /// These offsets of a topic are finished for all channels it has now: the topic was emptied.
    Hole {
        /// The topic's number.
        topic: u32,
        /// First offset.
        first: Offset,
        /// Last offset.
        last: Offset,
    },
    /// A topic's limits, in force from here on.
    Limits {
        /// The topic's number.
        topic: u32,
        /// The limits.
        limits: Limits,
    },
    /// Time and number for which a topic remembers its messages' ids, in force from here on.
    Dedup {
        /// The topic's number.
        topic: u32,
        /// Settings of its own.
        dedup: Dedup,
    },
    /// A channel's settings, in force from here on.
    ChannelSettings {
        /// The channel's number.
        channel: u32,
        /// The settings.
        settings: ChannelSettings,
    },
    /// Messages of a topic that were stored with an id.
    Ids {
        /// The topic's number.
        topic: u32,
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

impl Event {
    /// Appends the entry to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Counters { topic, channel, block } => {
                out.push(1);
                put_u32(out, *topic);
                put_u32(out, *channel);
                put_u64(out, *block);
            }
            Self::Topic { topic, name, level, paused, pump, end } => {
                out.push(2);
                put_u32(out, *topic);
                put_name(out, name);
                out.push(*level as u8);
                out.push(u8::from(*paused));
                put_u64(out, pump.0);
                put_u64(out, end.0);
            }
            Self::TopicDeleted { topic } => {
                out.push(3);
                put_u32(out, *topic);
            }
            Self::Channel { channel, topic, name, paused, start } => {
                out.push(4);
                put_u32(out, *channel);
                put_u32(out, *topic);
                put_name(out, name);
                out.push(u8::from(*paused));
                put_u64(out, start.0);
            }
            Self::ChannelDeleted { channel } => {
                out.push(5);
                put_u32(out, *channel);
            }
            Self::Cursor { channel, next, unfinished } => {
                out.push(6);
                put_u32(out, *channel);
                put_u64(out, next.0);
                put_unfinished(out, unfinished);
            }
            Self::Finished { channel, ranges } => {
                out.push(7);
                put_u32(out, *channel);
                put_u32(out, ranges.len() as u32);
                for (first, last) in ranges {
                    put_u64(out, first.0);
                    put_u64(out, last.0);
                }
            }
            Self::Requeued { channel, messages } => {
                out.push(8);
                put_u32(out, *channel);
                put_unfinished(out, messages);
            }
            Self::Hole { topic, first, last } => {
                out.push(9);
                put_u32(out, *topic);
                put_u64(out, first.0);
                put_u64(out, last.0);
            }
            Self::Limits { topic, limits } => {
                out.push(10);
                put_u32(out, *topic);
                put_u64(out, limits.max_messages);
                put_u64(out, limits.max_bytes);
                put_u64(out, u64::try_from(limits.max_age.as_nanos()).unwrap_or(u64::MAX));
                out.push(u8::from(limits.overflow == Overflow::DropOldest));
            }
            Self::Dedup { topic, dedup } => {
                out.push(11);
                put_u32(out, *topic);
                let nanos = |window: Duration| u64::try_from(window.as_nanos()).unwrap_or(u64::MAX - 1);
                put_u64(out, dedup.window.map_or(UNSET, nanos));
                put_u64(out, dedup.max_ids.unwrap_or(UNSET));
            }
            Self::Ids { topic, ids } => {
                out.push(12);
                put_u32(out, *topic);
                put_u32(out, ids.len() as u32);
                ids.iter().for_each(|id| put_id(out, id));
            }
            Self::ChannelSettings { channel, settings } => {
                out.push(13);
                put_u32(out, *channel);
                put_settings(out, settings);
            }
        }
    }

    /// Reads one entry and moves `bytes` past it. `None` if it is cut short or unknown.
    pub fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let event = match get_u8(bytes)? {
            1 => Self::Counters { topic: get_u32(bytes)?, channel: get_u32(bytes)?, block: get_u64(bytes)? },
            2 => Self::Topic {
                topic: get_u32(bytes)?,
                name: get_name(bytes)?,
                level: *Durability::ALL.get(usize::from(get_u8(bytes)?))?,
                paused: get_u8(bytes)? != 0,
                pump: Offset(get_u64(bytes)?),
                end: Offset(get_u64(bytes)?),
            },
            3 => Self::TopicDeleted { topic: get_u32(bytes)? },
            4 => Self::Channel {
                channel: get_u32(bytes)?,
                topic: get_u32(bytes)?,
                name: get_name(bytes)?,
                paused: get_u8(bytes)? != 0,
                start: Offset(get_u64(bytes)?),
            },
            5 => Self::ChannelDeleted { channel: get_u32(bytes)? },
            6 => Self::Cursor {
                channel: get_u32(bytes)?,
                next: Offset(get_u64(bytes)?),
                unfinished: get_unfinished(bytes)?,
            },
            7 => {
                let channel = get_u32(bytes)?;
                let count = get_count(bytes, 16)?;
                let mut ranges = Vec::with_capacity(count);
                for _ in 0..count {
                    ranges.push((Offset(get_u64(bytes)?), Offset(get_u64(bytes)?)));
                }
                Self::Finished { channel, ranges }
            }
            8 => Self::Requeued { channel: get_u32(bytes)?, messages: get_unfinished(bytes)? },
            9 => Self::Hole {
                topic: get_u32(bytes)?,
                first: Offset(get_u64(bytes)?),
                last: Offset(get_u64(bytes)?),
            },
            10 => Self::Limits {
                topic: get_u32(bytes)?,
                limits: Limits {
                    max_messages: get_u64(bytes)?,
                    max_bytes: get_u64(bytes)?,
                    max_age: Duration::from_nanos(get_u64(bytes)?),
                    overflow: if get_u8(bytes)? == 0 { Overflow::Refuse } else { Overflow::DropOldest },
                },
            },
            11 => Self::Dedup {
                topic: get_u32(bytes)?,
                dedup: Dedup {
                    window: Some(get_u64(bytes)?).filter(|ns| *ns != UNSET).map(Duration::from_nanos),
                    max_ids: Some(get_u64(bytes)?).filter(|max| *max != UNSET),
                },
            },
            12 => {
                let topic = get_u32(bytes)?;
                let count = get_count(bytes, ID_BYTES)?;
                let mut ids = Vec::with_capacity(count);
                for _ in 0..count {
                    let hash = IdHash([get_u64(bytes)?, get_u64(bytes)?]);
                    ids.push(StoredId { hash, offset: Offset(get_u64(bytes)?), time: Wall(get_u64(bytes)?) });
                }
                Self::Ids { topic, ids }
            }
            13 => Self::ChannelSettings { channel: get_u32(bytes)?, settings: get_settings(bytes)? },
            _ => return None,
        };
        Some(event)
    }

    /// Reads all entries of a payload. `None` if any is malformed.
    pub fn decode_all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut events = Vec::new();
        while !bytes.is_empty() {
            events.push(Self::decode(&mut bytes)?);
        }
        Some(events)
    }
}

fn put_id(out: &mut Vec<u8>, StoredId { hash, offset, time }: &StoredId) {
    hash.0.iter().for_each(|half| put_u64(out, *half));
    put_u64(out, offset.0);
    put_u64(out, time.0);
}

fn put_settings(out: &mut Vec<u8>, settings: &ChannelSettings) {
    let ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay } = settings;
    out.extend_from_slice(&max_attempts.to_le_bytes());
    put_u64(out, u64::try_from(redelivery_delay.as_nanos()).unwrap_or(u64::MAX));
    put_name(out, dead_letter_topic.as_ref().map_or("", TopicName::as_str));
}

fn get_settings(bytes: &mut &[u8]) -> Option<ChannelSettings> {
    let max_attempts = get_u16(bytes)?;
    let redelivery_delay = Duration::from_nanos(get_u64(bytes)?);
    let dead_letter_topic = match get_name(bytes)?.as_str() {
        "" => None,
        name => Some(TopicName::parse(name).ok()?),
    };
    Some(ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay })
}

/// A setting that a topic does not have.
const UNSET: u64 = u64::MAX;
/// Bytes of one [`StoredId`].
const ID_BYTES: usize = 32;
/// Bytes of one [`Unfinished`].
const UNFINISHED_BYTES: usize = 18;

fn put_unfinished(out: &mut Vec<u8>, list: &[Unfinished]) {
    put_u32(out, list.len() as u32);
    for message in list {
        put_u64(out, message.offset.0);
        out.extend_from_slice(&message.attempts.to_le_bytes());
        put_u64(out, message.due.0);
    }
}

fn get_unfinished(bytes: &mut &[u8]) -> Option<Vec<Unfinished>> {
    let count = get_count(bytes, UNFINISHED_BYTES)?;
    let mut list = Vec::with_capacity(count);
    for _ in 0..count {
        let offset = Offset(get_u64(bytes)?);
        let attempts = get_u16(bytes)?;
        list.push(Unfinished { offset, attempts, due: Wall(get_u64(bytes)?) });
    }
    Some(list)
}

pub(super) fn put_u32(out: &mut Vec<u8>, value: u32) {
    out.extend_from_slice(&value.to_le_bytes());
}

pub(super) fn put_u64(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(&value.to_le_bytes());
}

/// Names are at most 64 bytes, so their length fits a byte.
fn put_name(out: &mut Vec<u8>, name: &str) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

pub(super) fn get_u8(bytes: &mut &[u8]) -> Option<u8> {
    bytes.split_off_first().copied()
}

fn get_u16(bytes: &mut &[u8]) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.split_off(..2)?.first_chunk()?))
}

pub(super) fn get_u32(bytes: &mut &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?))
}

pub(super) fn get_u64(bytes: &mut &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?))
}

/// A list's count, refused if the bytes left can't hold that many items: bounds the allocation.
pub(super) fn get_count(bytes: &mut &[u8], item_bytes: usize) -> Option<usize> {
    let count = get_u32(bytes)? as usize;
    (count.checked_mul(item_bytes)? <= bytes.len()).then_some(count)
}

fn get_name(bytes: &mut &[u8]) -> Option<String> {
    let len = usize::from(get_u8(bytes)?);
    String::from_utf8(bytes.split_off(..len)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn events_come_back_as_they_were_written() {
        let some = vec![Unfinished { offset: Offset(9), attempts: 3, due: Wall(77) }];
        let events = vec![
            Event::Counters { topic: 1, channel: 2, block: 3 },
            Event::Topic {
                topic: 4,
                name: "t".into(),
                level: Durability::Memory,
                paused: true,
                pump: Offset(5),
                end: Offset(6),
            },
            Event::TopicDeleted { topic: 4 },
            Event::Channel { channel: 1, topic: 4, name: "c".into(), paused: false, start: Offset(8) },
            Event::ChannelDeleted { channel: 1 },
            Event::Cursor { channel: 1, next: Offset(10), unfinished: some.clone() },
            Event::Finished { channel: 1, ranges: vec![(Offset(1), Offset(2)), (Offset(4), Offset(4))] },
            Event::Requeued { channel: 1, messages: some },
            Event::Hole { topic: 4, first: Offset(1), last: Offset(3) },
            Event::Limits {
                topic: 4,
                limits: Limits {
                    max_messages: 5,
                    max_bytes: 6,
                    max_age: Duration::from_nanos(7),
                    overflow: Overflow::DropOldest,
                },
            },
            Event::ChannelSettings { channel: 1, settings: ChannelSettings::default() },
            Event::ChannelSettings {
                channel: 1,
                settings: ChannelSettings {
                    max_attempts: 300,
                    dead_letter_topic: Some(TopicName::parse("dead").unwrap()),
                    redelivery_delay: Duration::from_nanos(8),
                },
            },
            Event::Dedup { topic: 4, dedup: Dedup { window: None, max_ids: Some(7) } },
            Event::Dedup { topic: 4, dedup: Dedup { window: Some(Duration::ZERO), max_ids: None } },
            Event::Ids {
                topic: 4,
                ids: vec![StoredId { hash: IdHash([1, 2]), offset: Offset(3), time: Wall(4) }],
            },
        ];
        let mut bytes = Vec::new();
        events.iter().for_each(|e| e.encode(&mut bytes));
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
