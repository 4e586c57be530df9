//! A message: its place in a topic, its id, its attributes.

use std::fmt;

use crate::clock::Wall;

/// Bits of an offset that count within a block.
pub(crate) const SEQ_BITS: u32 = 16;
/// Bits of an offset: `block:38 | seq:16`.
pub(crate) const OFFSET_BITS: u32 = 54;

/// A message's place in its topic: `block:38 | seq:16`. Offsets of a topic rise, are never used again (not
/// even by a topic re-created under the same name), and are ordered but not dense.
///
/// ```
/// # use mq_core::{Broker, Offset, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let first = orders.publish_one(b"one pizza")?.offsets().next().unwrap().0;
/// let second = orders.publish_one(b"two salads")?.offsets().next().unwrap().0;
/// assert!(Offset(0) < first && first < second);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Offset(pub u64);

impl Offset {
    /// First offset of `block`.
    pub(crate) fn of_block(block: u64) -> Self {
        Self(block << SEQ_BITS)
    }

    /// The offset `n` messages on, within one dense run.
    pub(crate) fn plus(self, n: u64) -> Self {
        Self(self.0 + n)
    }
}

/// A position between two messages of a topic: the next offset to come, and how many messages came before.
///
/// `rank` is dense and lives only as long as the process: differences of ranks are counts of messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pos {
    /// Everything below this offset lies before the position.
    pub offset: Offset,
    /// Messages of the topic before the position, counted from an arbitrary start.
    pub rank: u64,
}

/// A message's id, unique across topics, restarts and brokers of different node ids: `node:10 | offset:54`.
///
/// ```
/// # use mq_core::{MessageId, Offset};
/// let id = MessageId::new(3, Offset(0xab));
/// assert_eq!(id.to_hex(), *b"00c00000000000ab");
/// assert_eq!(MessageId::from_hex(b"00c00000000000ab"), Some(id));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u64);

impl MessageId {
    /// The id of the message at `offset` of a broker with `node` (0 to 1023).
    pub fn new(node: u16, offset: Offset) -> Self {
        Self(u64::from(node) << OFFSET_BITS | offset.0)
    }

    /// The offset in the id, whatever its node.
    pub fn offset(self) -> Offset {
        Offset(self.0 & ((1 << OFFSET_BITS) - 1))
    }

    /// The node in the id.
    pub fn node(self) -> u16 {
        (self.0 >> OFFSET_BITS) as u16
    }

    /// Sixteen lowercase hexadecimal digits, the id's form on NSQ's wire.
    pub fn to_hex(self) -> [u8; 16] {
        const DIGITS: [u8; 16] = *b"0123456789abcdef";
        let mut hex = [0; 16];
        for (i, byte) in self.0.to_be_bytes().into_iter().enumerate() {
            hex[2 * i] = DIGITS[usize::from(byte >> 4)];
            hex[2 * i + 1] = DIGITS[usize::from(byte & 15)];
        }
        hex
    }

    /// Reads what [`MessageId::to_hex`] wrote. `None` for anything but sixteen hexadecimal digits.
    pub fn from_hex(hex: &[u8]) -> Option<Self> {
        if hex.len() != 16 {
            return None;
        }
        let mut id = 0;
        for &digit in hex {
            let value = match digit {
                b'0'..=b'9' => digit - b'0',
                b'a'..=b'f' => digit - b'a' + 10,
                _ => return None,
            };
            id = id << 4 | u64::from(value);
        }
        Some(Self(id))
    }
}

/// The form of [`MessageId::to_hex`].
impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// One delivery of a message: at one subscriber, in one attempt. No other delivery has the same, before or
/// after a restart; so an acknowledgement that names it can't be taken for one of a later delivery. (What a
/// subscriber releases and gets again is the same attempt, and has the same.)
///
/// ```
/// # use mq_core::{DeliveryToken, MessageId};
/// let hex = "0123456789abcdef0000000000010002";
/// # let bytes: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
/// let token = DeliveryToken::from_bytes(&bytes).unwrap();
/// assert_eq!(token.to_bytes()[..], bytes);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeliveryToken {
    /// The message.
    pub id: MessageId,
    /// `random:48 | attempts:16`; the random number is the subscription's.
    pub(crate) tag: u64,
}

impl DeliveryToken {
    /// Bytes of a token.
    pub const BYTES: usize = 16;

    pub(crate) fn new(id: MessageId, mark: u64, attempts: u16) -> Self {
        Self { id, tag: mark | u64::from(attempts) }
    }

    /// The token as clients keep it.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.id.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.tag.to_be_bytes());
        bytes
    }

    /// Reads what [`DeliveryToken::to_bytes`] wrote; `None` for anything of another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (id, tag) = bytes.split_first_chunk::<8>()?;
        let tag = tag.try_into().ok()?;
        Some(Self { id: MessageId(u64::from_be_bytes(*id)), tag: u64::from_be_bytes(tag) })
    }
}

/// Properties of a message, stored with its body.
///
/// ```
/// # use std::time::Duration;
/// # use mq_core::{Attributes, Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let topic = broker.topic(&"reminders".parse()?)?;
/// let in_an_hour = broker.wall_after(Duration::from_secs(3600));
/// let mut batch = topic.batch();
/// batch.push(&Attributes { not_before: in_an_hour, ..Attributes::NONE }, b"call back")?;
/// topic.publish(batch, None)?.wait(&broker)?;
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    /// Deliver no earlier than this wall time: a deferral counts from the publish.
    pub not_before: Option<Wall>,
    /// A publisher's id for this message, at most 64 KiB.
    pub dedup_id: Option<&'a [u8]>,
    /// Named values, encoded: see [`HeadersBuf`](crate::HeadersBuf) and [`Headers`](crate::Headers).
    pub headers: Option<&'a [u8]>,
}

impl Attributes<'_> {
    /// No attribute at all: the common case on NSQ's wire.
    pub const NONE: Self = Self { not_before: None, dedup_id: None, headers: None };
}

/// One message as it is handed to a subscriber. Borrowed from memory that lasts as long as the call.
///
/// ```
/// # use mq_core::{Broker, Offset, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// let mut seen = Vec::new();
/// orders.peek(None, 10, 1 << 20, &mut |delivery| seen.push((delivery.attempts, delivery.body.to_vec())))?;
/// assert_eq!(seen, [(0, b"one pizza".to_vec())]);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Its id.
    pub id: MessageId,
    /// Names this delivery; `None` if the message is only looked at.
    pub token: Option<DeliveryToken>,
    /// Wall time of its publish.
    pub time: Wall,
    /// 1 on the first delivery to this channel. Saturates.
    pub attempts: u16,
    /// Its attributes.
    pub attributes: Attributes<'a>,
    /// Its body.
    pub body: &'a [u8],
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_hex_and_keep_node_and_offset() {
        let id = MessageId::new(1023, Offset((1 << OFFSET_BITS) - 2));
        assert_eq!(MessageId::from_hex(&id.to_hex()), Some(id));
        assert_eq!((id.node(), id.offset()), (1023, Offset((1 << OFFSET_BITS) - 2)));
        assert_eq!(MessageId::new(1, Offset(0xab)).to_hex(), *b"00400000000000ab");
        assert_eq!(MessageId::from_hex(b"00400000000000AB"), None);
        assert_eq!(MessageId::from_hex(b"00400000000000a"), None);
    }

    #[test]
    fn tokens_survive_bytes_and_other_lengths_are_none() {
        let token = DeliveryToken::new(MessageId::new(7, Offset(99)), 0xabcd_ef01_2345_0000, 3);
        assert_eq!(DeliveryToken::from_bytes(&token.to_bytes()), Some(token));
        for len in (0..40).filter(|len| *len != DeliveryToken::BYTES) {
            assert_eq!(DeliveryToken::from_bytes(&vec![1; len]), None, "{len}");
        }
    }
}
