//! PEEK, libmq's own: reads a topic and moves nothing. See [`wire::command`](crate::wire::command) for its
//! form.

use mq_core::{Broker, Delivery, MessageId, Offset, TopicName};

use crate::wire::error::{Code, WireError};
use crate::wire::frame::{MESSAGE_HEADER_BYTES, put_message_data, put_response_before};

/// An answer ends early when it holds this much.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Messages asked of the core at once: what is read beyond [`ANSWER_BYTES`] is read in vain.
const STEP: usize = 64;

/// Reads up to `max` messages of `topic` from the id `from` on, and gives the answer's frame. May block on a
/// disk.
///
/// # Errors
/// The error to answer with if the topic can't be read.
pub(super) fn peek(
    broker: &Broker,
    topic: &TopicName,
    from: Option<u64>,
    max: usize,
) -> Result<Vec<u8>, WireError> {
    let mut messages = Vec::new();
    let mut count = 0;
    let mut channels = 0;
    let mut next = from.map(|id| MessageId(id).offset());
    if let Some(topic) = broker.find_topic(topic) {
        channels = topic.channels().len();
        let mut full = false;
        while count < max && !full {
            let before = count;
            let mut cut = None;
            let mut sink = |delivery: Delivery<'_>| {
                let bytes = MESSAGE_HEADER_BYTES + delivery.body.len();
                full |= count > 0 && messages.len() + bytes > ANSWER_BYTES;
                if full {
                    cut.get_or_insert(delivery.id.offset());
                    return;
                }
                messages.extend_from_slice(&u32::try_from(bytes).unwrap_or(u32::MAX).to_be_bytes());
                put_message_data(
                    &mut messages,
                    delivery.id,
                    delivery.time.0,
                    delivery.attempts,
                    delivery.body,
                );
                count += 1;
            };
            let end = topic
                .peek(next, STEP.min(max - before), ANSWER_BYTES, &mut sink)
                .map_err(|error| WireError::refused(Code::PeekFailed, "PEEK", &error))?;
            next = Some(cut.unwrap_or(end));
            if count == before {
                break;
            }
        }
    }
    let next = MessageId(next.unwrap_or(Offset(0)).0).to_hex();
    let next = next.escape_ascii();
    let head = format!("{{\"channels\":{channels},\"next\":\"{next}\",\"count\":{count}}}\n");
    put_response_before(&mut messages, head.as_bytes());
    Ok(messages)
}
