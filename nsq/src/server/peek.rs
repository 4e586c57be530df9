//! PEEK, libmq's own: reads a topic and moves nothing. See [`wire::command`](crate::wire::command) for its
//! form.

use mq_core::{Broker, Delivery, DeliveryToken, MessageId, Offset, TopicName};

use crate::wire::error::{Code, WireError};
use crate::wire::extension::{DELIVERED_HEADER_BYTES, TOKEN_BYTES, put_delivered};
use crate::wire::frame::{MESSAGE_HEADER_BYTES, put_message_data, put_response_before};

/// An answer ends early when it holds this much.
const ANSWER_BYTES: usize = 1024 * 1024;

/// Messages asked of the core at once: what is read beyond [`ANSWER_BYTES`] is read in vain.
const STEP: usize = 64;

/// Reads up to `max` messages of `topic` from the id `from` on, and gives the answer's frame: of deliveries
/// where the extension is on. May block on a disk.
///
/// # Errors
/// The error to answer with if the topic can't be read.
pub(super) fn peek(
    broker: &Broker,
    topic: &TopicName,
    from: Option<u64>,
    max: usize,
    extended: bool,
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
                let bytes = bytes(&delivery, extended);
                full |= count > 0 && messages.len() + bytes > ANSWER_BYTES;
                if full {
                    cut.get_or_insert(delivery.id.offset());
                    return;
                }
                put(&mut messages, &delivery, extended);
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

/// Bytes that a message takes in the answer, or a few less.
fn bytes(delivery: &Delivery<'_>, extended: bool) -> usize {
    let header = if extended { DELIVERED_HEADER_BYTES } else { MESSAGE_HEADER_BYTES };
    header + delivery.attributes.headers.filter(|_| extended).map_or(0, <[u8]>::len) + delivery.body.len()
}

/// Appends a message behind its length.
fn put(out: &mut Vec<u8>, delivery: &Delivery<'_>, extended: bool) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    // It is not in flight: the tag is that of no delivery.
    let mut token = [0; TOKEN_BYTES];
    token[..8].copy_from_slice(&delivery.id.0.to_be_bytes());
    match DeliveryToken::from_bytes(&token).filter(|_| extended) {
        Some(token) => put_delivered(out, delivery, token),
        None => put_message_data(out, delivery.id, delivery.time.0, delivery.attempts, delivery.body),
    }
    let length = u32::try_from(out.len() - start - 4).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&length.to_be_bytes());
}
