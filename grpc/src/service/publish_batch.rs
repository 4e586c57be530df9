//! Messages of a publish: checked against the limits, encoded into a batch, and the offsets they got.

use std::time::Duration;

use mq_core::{Attributes, Batch, HeadersBuf, Published};

use super::Core;
use crate::status::Refusal;
use crate::v1::{OffsetRange, OutgoingMessage};

/// Longest `dedup_id` in bytes.
const DEDUP_ID_BYTES_MAX: usize = 255;

/// Checks the messages of one request against the limits. Returns the bytes of their bodies and headers.
pub(super) fn check(core: &Core, messages: &[OutgoingMessage]) -> Result<usize, Refusal> {
    if messages.is_empty() {
        return Err(Refusal::invalid("messages", "a batch must have at least one message"));
    }
    let config = &core.config;
    let mut total = 0_usize;
    let mut headers = HeadersBuf::new();
    for (at, message) in messages.iter().enumerate() {
        let wrong =
            |field: &str, text: String| Err(Refusal::invalid(format!("messages[{at}].{field}"), text));
        let len = message.body.len();
        if len == 0 {
            return wrong("body", "a message must have at least one byte".to_owned());
        }
        if len > config.max_message_bytes {
            let max = config.max_message_bytes;
            let text = format!("the message takes {len} bytes, at most {max} are allowed (--max-msg-size)");
            return wrong("body", text);
        }
        if message.delay_ms > 0 && Duration::from_millis(message.delay_ms) > config.max_delay {
            let max = config.max_delay.as_millis();
            return wrong(
                "delay_ms",
                format!(
                    "{} ms is more than {max} ms, the longest delay (--max-req-timeout)",
                    message.delay_ms
                ),
            );
        }
        let id = message.dedup_id.len();
        if id > DEDUP_ID_BYTES_MAX {
            return wrong(
                "dedup_id",
                format!("it takes {id} bytes, at most {DEDUP_ID_BYTES_MAX} are allowed"),
            );
        }
        headers.clear();
        for (number, header) in message.headers.iter().enumerate() {
            let field = || format!("messages[{at}].headers[{number}]");
            headers.push(&header.name, &header.value).map_err(|error| Refusal::from(error).of(&field()))?;
        }
        total += len + headers.as_attribute().map_or(0, <[u8]>::len);
    }
    if total > config.max_batch_bytes {
        let max = config.max_batch_bytes;
        let text = format!(
            "the batch takes {total} bytes, at most {max} are allowed (--max-body-size): send fewer at once"
        );
        return Err(Refusal::invalid("messages", text));
    }
    Ok(total)
}

/// Adds checked messages to a batch. After an error some of them may be in it.
pub(super) fn encode(core: &Core, batch: &mut Batch, messages: &[OutgoingMessage]) -> Result<(), Refusal> {
    let mut headers = HeadersBuf::new();
    for message in messages {
        headers.clear();
        for header in &message.headers {
            headers.push(&header.name, &header.value)?;
        }
        let not_before = core.broker.wall_after(Duration::from_millis(message.delay_ms));
        let dedup_id = (!message.dedup_id.is_empty()).then_some(message.dedup_id.as_bytes());
        let attributes = Attributes { not_before, dedup_id, headers: headers.as_attribute() };
        batch.push(&attributes, &message.body)?;
    }
    Ok(())
}

/// The offsets of some messages of a batch, of which `skip` come before and `count` are these.
pub(super) fn offsets(published: &Published, skip: usize, count: usize) -> Vec<OffsetRange> {
    let mut ranges: Vec<OffsetRange> = Vec::with_capacity(1);
    for (offset, duplicate) in published.offsets().skip(skip).take(count) {
        match ranges.last_mut() {
            Some(last) if last.duplicate == duplicate && last.first + u64::from(last.count) == offset.0 => {
                last.count += 1;
            }
            _ => ranges.push(OffsetRange { first: offset.0, count: 1, duplicate }),
        }
    }
    ranges
}
