//! `Peek`: messages of a topic or a channel, read without consuming.

use mq_core::{Channel, Delivery, Offset, PendingMessage, Topic};

use crate::status::Refusal;
use crate::v1::{Header, PeekResponse, PeekedMessage, PeekedState, ReceivedMessage};

const MESSAGES_DEFAULT: usize = 100;
const MESSAGES_MAX: usize = 1_000;

/// Bytes of bodies and headers in a response, but for a single message.
const BYTES_MAX: usize = 1 << 20;

/// The field `max_messages` of a request.
pub(super) fn max_messages(max: u32) -> Result<usize, Refusal> {
    match usize::try_from(max).unwrap_or(usize::MAX) {
        0 => Ok(MESSAGES_DEFAULT),
        max if max <= MESSAGES_MAX => Ok(max),
        max => Err(Refusal::invalid("max_messages", format!("{max} is more than {MESSAGES_MAX}, the most"))),
    }
}

/// Messages of a topic. May wait for a disk.
pub(super) fn topic(topic: &Topic, from: Option<u64>, max: usize) -> Result<PeekResponse, Refusal> {
    let mut messages = Vec::new();
    let next = topic.peek(from.map(Offset), max, BYTES_MAX, &mut |message| {
        messages.push(PeekedMessage { message: Some(peeked(&message)), ..PeekedMessage::default() });
    })?;
    Ok(PeekResponse { messages, next_offset: next.0 })
}

/// Messages that a channel holds; `now` is the time. May wait for a disk.
pub(super) fn channel(
    channel: &Channel,
    from: Option<u64>,
    max: usize,
    now: u64,
) -> Result<PeekResponse, Refusal> {
    let mut messages = Vec::new();
    let next = channel.peek(Offset(from.unwrap_or_default()), max, BYTES_MAX, &mut |message, pending| {
        let PendingMessage { in_flight, due, .. } = pending;
        let state = match due {
            Some(_) => PeekedState::Deferred,
            None if in_flight => PeekedState::InFlight,
            None => PeekedState::Waiting,
        };
        let due_ns =
            due.map_or(0, |due| now.saturating_add(u64::try_from(due.as_nanos()).unwrap_or(u64::MAX)));
        messages.push(PeekedMessage { message: Some(peeked(&message)), state: state.into(), due_ns });
    })?;
    Ok(PeekResponse { messages, next_offset: next.0 })
}

fn peeked(message: &Delivery<'_>) -> ReceivedMessage {
    let header =
        |(name, value): (&str, &[u8])| Header { name: name.to_owned(), value: value.to_vec().into() };
    ReceivedMessage {
        body: message.body.to_vec().into(),
        id: message.id.0,
        offset: message.id.offset().0,
        timestamp_ns: message.time.0,
        attempts: message.attempts.into(),
        headers: mq_core::Headers::new(message.attributes.headers).map(header).collect(),
        ..ReceivedMessage::default()
    }
}
