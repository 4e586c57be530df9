//! Messages as a client gets them.

use bytes::Bytes;
use mq_core::MessageId;
use serde::Deserialize;

use super::error::Error;
use crate::wire::frame;

/// A message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its id, unique at its server.
    pub id: MessageId,
    /// Time of publishing, in nanoseconds since 1970.
    pub timestamp: u64,
    /// 1 on the first delivery.
    pub attempts: u16,
    /// Its body.
    pub body: Bytes,
}

impl Message {
    /// Decodes the data of a message frame, which `data` holds.
    pub(super) fn decode(data: &Bytes) -> Result<Self, Error> {
        let message = frame::Message::decode(data)?;
        Ok(Self {
            id: id_of(message.id)?,
            timestamp: message.timestamp,
            attempts: message.attempts,
            body: data.slice_ref(message.body),
        })
    }
}

/// A look at a topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peeked {
    /// Number of the topic's channels; messages that all of them got may not be seen.
    pub channels: u32,
    /// First id of the next peek.
    pub next: Option<MessageId>,
    /// The messages, oldest first.
    pub messages: Vec<Message>,
}

/// The first line of an answer to PEEK.
#[derive(Deserialize)]
struct Head<'a> {
    channels: u32,
    next: &'a str,
    count: usize,
}

impl Peeked {
    /// Decodes an answer to PEEK.
    pub(super) fn decode(data: &Bytes) -> Result<Self, Error> {
        let broken = |what: &str| Error::Protocol(format!("an answer to PEEK has {what}"));
        let end = data.iter().position(|&b| b == b'\n').ok_or_else(|| broken("no head"))?;
        let head: Head<'_> =
            serde_json::from_slice(&data[..end]).map_err(|e| broken(&format!("a bad head: {e}")))?;
        let mut rest = data.slice(end + 1..);
        let mut messages = Vec::new();
        for _ in 0..head.count {
            let length = rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes) as usize);
            let end = length.and_then(|length| length.checked_add(4)).filter(|&end| end <= rest.len());
            let end = end.ok_or_else(|| broken("less than it says"))?;
            messages.push(Message::decode(&rest.split_to(end).slice(4..))?);
        }
        Ok(Self { channels: head.channels, next: Some(id_of(head.next.as_bytes())?), messages })
    }
}

fn id_of(hex: &[u8]) -> Result<MessageId, Error> {
    MessageId::from_hex(hex)
        .ok_or_else(|| Error::Protocol(format!("{} is no message id", hex.escape_ascii())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_to_peek_is_decoded() {
        let mut data = br#"{"channels":2,"next":"00000000000000ff","count":1}"#.to_vec();
        data.extend_from_slice(b"\n\0\0\0\x1b");
        frame::put_message_data(&mut data, MessageId(7), 9, 3, b"x");
        let message = Message { id: MessageId(7), timestamp: 9, attempts: 3, body: Bytes::from_static(b"x") };
        let want = Peeked { channels: 2, next: Some(MessageId(255)), messages: vec![message] };
        assert_eq!(Peeked::decode(&Bytes::from(data.clone())).unwrap(), want);
        for end in 0..data.len() {
            assert!(Peeked::decode(&Bytes::copy_from_slice(&data[..end])).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let head = br#"{"channels":2,"next":"00000000000000ff","count":18446744073709551615}"#;
            let _ = Peeked::decode(&Bytes::from(bytes.clone()));
            let _ = Peeked::decode(&Bytes::from([&head[..], b"\n", &bytes].concat()));
        }
    }
}
