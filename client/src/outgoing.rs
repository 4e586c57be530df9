//! Messages to publish in the form in which they are sent: encoded once, on the thread that publishes them.

use std::time::Duration;

use bytes::Bytes;
use mq_nsq::wire::extension::{Record, Records, put_plain_record, put_record};

use crate::error::{Error, Result};
use crate::message::NewMessage;
use crate::scratch::Scratch;

/// Bytes that are reserved at most for messages that are not seen yet.
const RESERVED_MAX: usize = 1 << 20;

/// Messages that are published together, encoded as libmq's extension has them.
#[derive(Debug, Default)]
pub struct OutgoingBatch {
    records: Vec<u8>,
    facts: Facts,
    /// Messages that are expected at least, which need not come.
    expected: usize,
}

/// The same once all are encoded: what the packages of other languages publish, which have the bodies only
/// while a call of theirs runs.
#[derive(Debug)]
pub struct Outgoing {
    records: Bytes,
    facts: Facts,
}

/// Facts about messages that are asked for while they wait.
#[derive(Clone, Copy, Debug, Default)]
struct Facts {
    count: u32,
    /// Bytes that they take in the client's buffer.
    bytes: usize,
    /// The delay of the first, in milliseconds.
    delay_ms: u64,
    has_delays: bool,
    has_headers: bool,
    /// Messages that have an id.
    ids: u32,
}

/// A message that can be published: a [`NewMessage`], or the bytes or the text of a body. It is encoded where
/// it stands, so that nothing is allocated for each message of a batch.
///
/// ```
/// let client = libmq::connect("mq:memory")?;
/// client.publish("orders", "one pizza")?;
/// client.publish_many("orders", [&b"two pizzas"[..], b"three pizzas"])?;
/// client.publish("orders", libmq::NewMessage::new("four pizzas").header("colour", "red"))?;
/// # Ok::<(), libmq::Error>(())
/// ```
pub trait IntoMessage {
    /// Appends the message to those that are published with it.
    ///
    /// # Errors
    /// `Invalid` for what no broker takes.
    fn append_to(self, batch: &mut OutgoingBatch) -> Result<()>;
}

impl OutgoingBatch {
    /// Appends a message that is a body alone.
    fn push_body(&mut self, body: &[u8]) -> Result<()> {
        check(body)?;
        self.facts.count += 1;
        self.facts.bytes += body.len();
        put_plain_record(&mut self.records, body);
        self.reserve();
        Ok(())
    }

    /// Reserves memory for the messages behind the first, which shows how long they are about; it may be the
    /// only long one.
    fn reserve(&mut self) {
        if self.facts.count == 1 && self.expected > 1 {
            let more = self.records.len().saturating_mul(self.expected - 1);
            self.records.reserve(more.min(RESERVED_MAX));
        }
    }

    /// Appends a body with an id and with the other attributes of `like`.
    fn push(&mut self, body: &[u8], id: Option<&[u8]>, like: &NewMessage) -> Result<()> {
        check(body)?;
        like.check_delay()?;
        // Not earlier than asked for.
        let delay_ms = u64::try_from(like.delay.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        let delay = Duration::from_millis(delay_ms);
        let facts = &mut self.facts;
        if facts.count == 0 {
            facts.delay_ms = delay_ms;
        }
        facts.count += 1;
        facts.bytes += body.len() + id.map_or(0, <[u8]>::len) + like.header_bytes();
        facts.has_delays |= !delay.is_zero();
        facts.has_headers |= !like.headers.is_empty();
        facts.ids += u32::from(id.is_some());
        let headers = like.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
        put_record(&mut self.records, delay, id, headers, body);
        self.reserve();
        Ok(())
    }
}

impl Outgoing {
    /// The messages, encoded.
    pub(crate) fn encode<M: IntoMessage>(messages: impl IntoIterator<Item = M>) -> Result<Self> {
        let mut messages = messages.into_iter();
        Self::fill(messages.size_hint().0, |batch| messages.try_for_each(|message| message.append_to(batch)))
    }

    /// The messages that `fill` appends: about as many as expected.
    ///
    /// # Errors
    /// Those of `fill`.
    pub fn fill<E>(
        expected: usize,
        fill: impl FnOnce(&mut OutgoingBatch) -> Result<(), E>,
    ) -> Result<Self, E> {
        Scratch::with(|scratch| {
            let mut batch = OutgoingBatch { records: scratch.open(), facts: Facts::default(), expected };
            fill(&mut batch)?;
            Ok(Self { records: scratch.seal(batch.records), facts: batch.facts })
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.facts.count == 0
    }

    /// The number of messages.
    pub(crate) fn len(&self) -> usize {
        self.facts.count as usize
    }

    /// Bytes that the messages take in the client's buffer.
    pub(crate) fn bytes(&self) -> usize {
        self.facts.bytes
    }

    /// The messages as they are sent.
    pub(crate) fn encoded(&self) -> &[u8] {
        &self.records
    }

    /// The messages, in order.
    pub(crate) fn records(&self) -> impl Iterator<Item = Record<'_>> {
        Records::decode(&self.records).into_iter().flatten()
    }

    /// The delay of the first message.
    pub(crate) fn delay(&self) -> Duration {
        Duration::from_millis(self.facts.delay_ms)
    }

    /// Whether each message has an id.
    pub(crate) fn has_ids(&self) -> bool {
        self.facts.ids == self.facts.count
    }

    /// The part of the messages that NSQ's protocol has no words for.
    pub(crate) fn beyond_nsq(&self) -> Option<&'static str> {
        let Facts { count, has_delays, has_headers, ids, .. } = self.facts;
        if ids > 0 {
            Some("an id with a message")
        } else if has_headers {
            Some("headers")
        } else if has_delays && count > 1 {
            Some("a delay in a batch")
        } else {
            None
        }
    }
}

fn check(body: &[u8]) -> Result<()> {
    if body.is_empty() {
        return Err(Error::Invalid("a message can't be empty".to_owned()));
    }
    if u32::try_from(body.len()).is_err() {
        return Err(Error::Invalid(format!("{} bytes are too many for a message", body.len())));
    }
    Ok(())
}

impl IntoMessage for NewMessage {
    fn append_to(self, batch: &mut OutgoingBatch) -> Result<()> {
        Borrowed { body: &self.body, id: self.id.as_deref(), like: &self }.append_to(batch)
    }
}

/// A message that is copied from where its parts lie, once.
#[derive(Clone, Copy, Debug)]
pub struct Borrowed<'a> {
    /// Its body.
    pub body: &'a [u8],
    /// Its id.
    pub id: Option<&'a [u8]>,
    /// Its delay and headers: those of this message.
    pub like: &'a NewMessage,
}

impl IntoMessage for Borrowed<'_> {
    fn append_to(self, batch: &mut OutgoingBatch) -> Result<()> {
        let Self { body, id, like } = self;
        if id.is_none() && like.delay.is_zero() && like.headers.is_empty() {
            return batch.push_body(body);
        }
        NewMessage::check_id(id)?;
        like.check_headers()?;
        batch.push(body, id, like)
    }
}

impl IntoMessage for Bytes {
    fn append_to(self, batch: &mut OutgoingBatch) -> Result<()> {
        batch.push_body(&self)
    }
}

impl IntoMessage for Vec<u8> {
    fn append_to(self, batch: &mut OutgoingBatch) -> Result<()> {
        batch.push_body(&self)
    }
}

impl IntoMessage for String {
    fn append_to(self, batch: &mut OutgoingBatch) -> Result<()> {
        batch.push_body(self.as_bytes())
    }
}

impl IntoMessage for &[u8] {
    fn append_to(self, batch: &mut OutgoingBatch) -> Result<()> {
        batch.push_body(self)
    }
}

impl IntoMessage for &str {
    fn append_to(self, batch: &mut OutgoingBatch) -> Result<()> {
        batch.push_body(self.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_keeps_what_its_messages_have() {
        let rich = NewMessage::new("one").id("1").header("k", "v").delay(Duration::from_micros(1));
        let batch = Outgoing::encode([rich, NewMessage::new("two").id("2")]).unwrap();
        assert_eq!((batch.len(), batch.bytes(), batch.has_ids()), (2, 10, true));
        assert_eq!(batch.delay(), Duration::from_millis(1), "not earlier than asked for");
        let records: Vec<_> = batch.records().collect();
        let attributes = records[0].attributes.unwrap();
        assert_eq!((attributes.id, attributes.delay), (Some(&b"1"[..]), batch.delay()));
        assert_eq!(attributes.headers.iter().next(), Some(Ok(("k", &b"v"[..]))));
        assert_eq!((records[0].body, records[1].body), (&b"one"[..], &b"two"[..]));
    }

    #[test]
    fn messages_announced_in_any_number_reserve_little_memory() {
        struct Many(std::vec::IntoIter<&'static str>);
        impl Iterator for Many {
            type Item = &'static str;
            fn next(&mut self) -> Option<Self::Item> {
                self.0.next()
            }
            fn size_hint(&self) -> (usize, Option<usize>) {
                (usize::MAX, None)
            }
        }
        let batch = Outgoing::encode(Many(vec!["one", "two"].into_iter())).unwrap();
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn a_borrowed_message_is_encoded_as_one_that_owns_its_parts() {
        let like = NewMessage::default().header("k", "v").delay(Duration::from_micros(1));
        let plain = NewMessage::default();
        let borrowed = Outgoing::fill(2, |batch| {
            Borrowed { body: b"one", id: Some(b"1"), like: &like }.append_to(batch)?;
            Borrowed { body: b"two", id: None, like: &plain }.append_to(batch)
        });
        let owned = like.clone().id("1");
        let owned = Outgoing::encode([NewMessage { body: "one".into(), ..owned }, "two".into()]);
        let (borrowed, owned) = (borrowed.unwrap(), owned.unwrap());
        assert_eq!(borrowed.encoded(), owned.encoded());
        assert_eq!((borrowed.len(), borrowed.bytes()), (owned.len(), owned.bytes()));
        assert_eq!((borrowed.delay(), borrowed.beyond_nsq()), (owned.delay(), owned.beyond_nsq()));
    }

    #[test]
    fn a_batch_that_fails_leaves_nothing_for_the_next() {
        let failed = Outgoing::fill(2, |batch| {
            "left over".append_to(batch).unwrap();
            Err("no")
        });
        assert_eq!(failed.unwrap_err(), "no");
        let next = Outgoing::encode(["x"]).unwrap();
        assert_eq!((next.len(), next.encoded()), (1, &b"\0\0\0\x01\0\0\0\0x"[..]));
    }

    #[test]
    fn attributes_beyond_nsqs_protocol_are_named() {
        let beyond = |messages: Vec<NewMessage>| Outgoing::encode(messages).unwrap().beyond_nsq();
        let (plain, later) = (NewMessage::new("x"), NewMessage::new("x").delay(Duration::from_secs(1)));
        assert_eq!(beyond(vec![plain.clone(), plain.clone()]), None);
        assert_eq!(beyond(vec![later.clone()]), None);
        // Wherever in the batch.
        for (some, what) in [
            (later, "a delay in a batch"),
            (plain.clone().header("k", "v"), "headers"),
            (plain.clone().id("1"), "an id with a message"),
        ] {
            assert_eq!(beyond(vec![plain.clone(), some.clone()]), Some(what));
            assert_eq!(beyond(vec![some, plain.clone()]), Some(what));
        }
    }

    #[test]
    fn a_batch_has_ids_if_every_message_has_one() {
        let has_ids = |messages: Vec<NewMessage>| Outgoing::encode(messages).unwrap().has_ids();
        let (plain, known) = (NewMessage::new("x"), NewMessage::new("x").id("1"));
        assert!(has_ids(vec![known.clone(), known.clone()]));
        assert!(!has_ids(vec![known.clone(), plain.clone()]) && !has_ids(vec![plain, known]));
    }

    #[test]
    fn a_body_in_any_form_is_the_same_message() {
        fn encoded(message: impl IntoMessage) -> Vec<u8> {
            let batch = Outgoing::encode([message]).unwrap();
            assert_eq!((batch.len(), batch.bytes(), batch.is_empty()), (1, 4, false));
            batch.encoded().to_vec()
        }
        let want = encoded(NewMessage::new("body"));
        assert_eq!(encoded("body"), want);
        assert_eq!(encoded("body".to_owned()), want);
        assert_eq!(encoded(&b"body"[..]), want);
        assert_eq!(encoded(b"body".to_vec()), want);
        assert_eq!(encoded(Bytes::from_static(b"body")), want);
    }

    #[test]
    fn empty_bodies_and_ids_out_of_range_are_refused() {
        let refused = |message: NewMessage| Outgoing::encode([message]).unwrap_err().to_string();
        assert!(refused(NewMessage::new("")).contains("empty"));
        assert!(refused(NewMessage::new("x").id("")).contains("empty"));
        assert!(refused(NewMessage::new("x").id(vec![0; 256])).contains("256 bytes"));
        assert!(Outgoing::encode(["x", ""]).is_err());
    }
}
