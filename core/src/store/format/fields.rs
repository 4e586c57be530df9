//! Fields of entries and of the other files, as bytes.
//!
//! ```text
//! little-endian: integers as they are, bool and level as u8, a name as u8 length and bytes, nanoseconds of a
//!                duration as u64, a list as u32 count and its items
//! limits:        u64 messages, u64 bytes, u64 nanoseconds of age, u8 1 where the oldest are dropped
//! dedup:         u64 nanoseconds of the window, u64 ids; all ones where the topic has none of its own
//! settings:      u16 attempts, u64 nanoseconds of delay, name of the dead letter topic, empty for none
//! unfinished:    u64 offset, u16 attempts, u64 due
//! id:            16 bytes of hash, u64 offset, u64 time
//! ```

use std::time::Duration;

use crate::clock::Wall;
use crate::config::{ChannelSettings, Dedup, Durability, Limits, Overflow};
use crate::message::Offset;
use crate::name::TopicName;
use crate::store::format::event::Unfinished;
use crate::store::format::ids::{IdHash, StoredId};
use crate::store::format::numbers::{ChannelNo, TopicNo};

/// A value with one form as bytes.
pub(super) trait Field: Sized {
    /// Appends it.
    fn put(&self, out: &mut Vec<u8>);

    /// Reads it and moves `bytes` past it. `None` where they are cut short or stand for no value.
    fn get(bytes: &mut &[u8]) -> Option<Self>;
}

/// An item of lists.
trait Item: Field {
    /// Bytes of one, in each of its values.
    const BYTES: usize;
}

impl Field for u8 {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(*self);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        bytes.split_off_first().copied()
    }
}

impl Field for u16 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self::from_le_bytes(*bytes.split_off(..2)?.first_chunk()?))
    }
}

impl Field for u32 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?))
    }
}

impl Field for u64 {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_le_bytes());
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?))
    }
}

/// Types with one number inside.
macro_rules! numbers {
    ($($of:ident)*) => {
        $(impl Field for $of {
            fn put(&self, out: &mut Vec<u8>) {
                self.0.put(out);
            }

            fn get(bytes: &mut &[u8]) -> Option<Self> {
                Field::get(bytes).map(Self)
            }
        })*
    };
}

numbers! { TopicNo ChannelNo Offset Wall }

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Some(u8::get(bytes)? != 0)
    }
}

impl Field for Durability {
    fn put(&self, out: &mut Vec<u8>) {
        (*self as u8).put(out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Self::ALL.get(usize::from(u8::get(bytes)?)).copied()
    }
}

impl Field for Duration {
    fn put(&self, out: &mut Vec<u8>) {
        u64::try_from(self.as_nanos()).unwrap_or(u64::MAX).put(out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        u64::get(bytes).map(Self::from_nanos)
    }
}

/// A name. Names are at most 64 bytes, so their length fits a byte.
impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_name(self, out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        let len = usize::from(u8::get(bytes)?);
        Self::from_utf8(bytes.split_off(..len)?.to_vec()).ok()
    }
}

fn put_name(name: &str, out: &mut Vec<u8>) {
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

impl Field for Limits {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { max_messages, max_bytes, max_age, overflow } = self;
        max_messages.put(out);
        max_bytes.put(out);
        max_age.put(out);
        (*overflow == Overflow::DropOldest).put(out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            max_messages: Field::get(bytes)?,
            max_bytes: Field::get(bytes)?,
            max_age: Field::get(bytes)?,
            overflow: if bool::get(bytes)? { Overflow::DropOldest } else { Overflow::Refuse },
        })
    }
}

/// A setting that a topic does not have.
const UNSET: u64 = u64::MAX;

impl Field for Dedup {
    fn put(&self, out: &mut Vec<u8>) {
        let nanos = |window: Duration| u64::try_from(window.as_nanos()).unwrap_or(UNSET).min(UNSET - 1);
        self.window.map_or(UNSET, nanos).put(out);
        self.max_ids.unwrap_or(UNSET).put(out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self {
            window: Some(u64::get(bytes)?).filter(|ns| *ns != UNSET).map(Duration::from_nanos),
            max_ids: Some(u64::get(bytes)?).filter(|max| *max != UNSET),
        })
    }
}

impl Field for ChannelSettings {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { max_attempts, dead_letter_topic, redelivery_delay } = self;
        max_attempts.put(out);
        redelivery_delay.put(out);
        put_name(dead_letter_topic.as_ref().map_or("", TopicName::as_str), out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        let max_attempts = Field::get(bytes)?;
        let redelivery_delay = Field::get(bytes)?;
        let dead_letter_topic = match String::get(bytes)?.as_str() {
            "" => None,
            name => Some(TopicName::parse(name).ok()?),
        };
        Some(Self { max_attempts, dead_letter_topic, redelivery_delay })
    }
}

impl Field for Unfinished {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { offset, attempts, due } = self;
        offset.put(out);
        attempts.put(out);
        due.put(out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self { offset: Field::get(bytes)?, attempts: Field::get(bytes)?, due: Field::get(bytes)? })
    }
}

impl Item for Unfinished {
    const BYTES: usize = 18;
}

impl Field for StoredId {
    fn put(&self, out: &mut Vec<u8>) {
        let Self { hash: IdHash([low, high]), offset, time } = self;
        low.put(out);
        high.put(out);
        offset.put(out);
        time.put(out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        let hash = IdHash([Field::get(bytes)?, Field::get(bytes)?]);
        Some(Self { hash, offset: Field::get(bytes)?, time: Field::get(bytes)? })
    }
}

impl Item for StoredId {
    const BYTES: usize = 32;
}

/// First and last offset of a range.
impl Field for (Offset, Offset) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        Some((Field::get(bytes)?, Field::get(bytes)?))
    }
}

impl Item for (Offset, Offset) {
    const BYTES: usize = 16;
}

impl<T: Item> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u32).put(out);
        self.iter().for_each(|item| item.put(out));
    }

    fn get(bytes: &mut &[u8]) -> Option<Self> {
        let count = get_count(bytes, T::BYTES)?;
        let mut list = Self::with_capacity(count);
        for _ in 0..count {
            list.push(T::get(bytes)?);
        }
        Some(list)
    }
}

/// A list's count, refused if the bytes left can't hold that many items: bounds the allocation.
pub(super) fn get_count(bytes: &mut &[u8], item_bytes: usize) -> Option<usize> {
    let count = u32::get(bytes)? as usize;
    (count.checked_mul(item_bytes)? <= bytes.len()).then_some(count)
}
