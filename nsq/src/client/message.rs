//! Messages as a client gets them.

use bytes::Bytes;
use mq_core::{DeliveryToken, MessageId};
use serde::Deserialize;

use super::error::Error;
use crate::wire::extension::{Delivered, Malformed, Run, Runs};
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
    /// Names this delivery; there with the extension.
    pub token: Option<DeliveryToken>,
    /// Its place in its topic; there with the extension.
    pub offset: Option<u64>,
    /// Its headers, in order; only the extension has them.
    pub headers: Vec<(String, Bytes)>,
}

impl Message {
    /// Decodes the data of a message frame, which is a part of `frames`.
    pub(super) fn decode(frames: &Bytes, data: &[u8]) -> Result<Self, Error> {
        let message = frame::Message::decode(data)?;
        Ok(Self {
            id: id_of(message.id)?,
            timestamp: message.timestamp,
            attempts: message.attempts,
            body: frames.slice_ref(message.body),
            token: None,
            offset: None,
            headers: Vec::new(),
        })
    }

    /// Decodes the data of a delivery of the extension, which is a part of `frames`.
    pub(super) fn decode_delivery(frames: &Bytes, data: &[u8]) -> Result<Self, Error> {
        let malformed = |why: Malformed| Error::Protocol(format!("a delivery is malformed: {why}"));
        let delivered = Delivered::decode(data).map_err(malformed)?;
        let headers = delivered.headers.iter().map(|header| {
            let (name, value) = header.map_err(malformed)?;
            Ok((name.to_owned(), frames.slice_ref(value)))
        });
        let token = DeliveryToken::from_bytes(delivered.token);
        Ok(Self {
            id: token.map(|token| token.id).ok_or_else(|| malformed(Malformed::Length))?,
            timestamp: delivered.timestamp,
            attempts: delivered.attempts,
            body: frames.slice_ref(delivered.body),
            token,
            offset: Some(delivered.offset),
            headers: headers.collect::<Result<_, Error>>()?,
        })
    }
}

/// Results for the messages of one [`Connection::put_records`](super::Connection::put_records).
#[derive(Clone, Debug)]
pub struct Results(Bytes);

impl Results {
    /// Checks the data of a frame.
    pub(super) fn decode(data: Bytes) -> Result<Self, Error> {
        let malformed = |why: Malformed| Error::Protocol(format!("results are malformed: {why}"));
        Runs::new(&data).try_for_each(|run| run.map(drop)).map_err(malformed)?;
        Ok(Self(data))
    }

    /// Messages with the same outcome, in the order in which they were published.
    pub fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        Runs::new(&self.0).map_while(Result::ok)
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
    /// Decodes an answer to PEEK, which is of deliveries where the extension is on.
    pub(super) fn decode(data: &Bytes, is_extended: bool) -> Result<Self, Error> {
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
            let message = rest.split_to(end);
            messages.push(match is_extended {
                true => Message { token: None, ..Message::decode_delivery(&message, &message[4..])? },
                false => Message::decode(&message, &message[4..])?,
            });
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
        let message = Message {
            id: MessageId(7),
            timestamp: 9,
            attempts: 3,
            body: Bytes::from_static(b"x"),
            token: None,
            offset: None,
            headers: Vec::new(),
        };
        let want = Peeked { channels: 2, next: Some(MessageId(255)), messages: vec![message] };
        assert_eq!(Peeked::decode(&Bytes::from(data.clone()), false).unwrap(), want);
        for end in 0..data.len() {
            assert!(Peeked::decode(&Bytes::copy_from_slice(&data[..end]), false).is_err());
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_an_answer_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let head = br#"{"channels":2,"next":"00000000000000ff","count":18446744073709551615}"#;
            for is_extended in [false, true] {
                let _ = Peeked::decode(&Bytes::from(bytes.clone()), is_extended);
                let _ = Peeked::decode(&Bytes::from([&head[..], b"\n", &bytes].concat()), is_extended);
            }
        }
    }
}
