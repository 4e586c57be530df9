//! `Peek`: messages of a topic, read without consuming.

use mq_core::{Offset, Topic};

use crate::status::Refusal;
use crate::v1::{Header, PeekRequest, PeekResponse, ReceivedMessage};

const MESSAGES_DEFAULT: usize = 100;
const MESSAGES_MAX: usize = 1_000;

/// Bytes of bodies and headers in a response, but for a single message.
const BYTES_MAX: usize = 1 << 20;

/// May wait for a disk.
pub(super) fn read(topic: &Topic, request: &PeekRequest) -> Result<PeekResponse, Refusal> {
    let max = match usize::try_from(request.max_messages).unwrap_or(usize::MAX) {
        0 => MESSAGES_DEFAULT,
        max if max <= MESSAGES_MAX => max,
        max => {
            let text = format!("{max} is more than {MESSAGES_MAX}");
            return Err(Refusal::invalid("max_messages", text));
        }
    };
    let mut messages = Vec::new();
    let next = topic.peek(request.from_offset.map(Offset), max, BYTES_MAX, &mut |message| {
        let header =
            |(name, value): (&str, &[u8])| Header { name: name.to_owned(), value: value.to_vec().into() };
        messages.push(ReceivedMessage {
            body: message.body.to_vec().into(),
            id: message.id.0,
            offset: message.id.offset().0,
            timestamp_ns: message.time,
            attempts: message.attempts.into(),
            headers: mq_core::Headers::new(message.attributes.headers).map(header).collect(),
        });
    })?;
    Ok(PeekResponse { messages, next_offset: next.0 })
}
