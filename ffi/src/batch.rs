//! Batches of messages, and their answers.

use std::ops::Range;
use std::time::Duration;

use libmq::Batch;

use crate::boundary::{self, Handle, guard, guard_or, handle, put, required};
use crate::fork::Generation;
use crate::status::{Failure, Outcome, mq_status};
use crate::values::{MQ_OFFSET_UNKNOWN, mq_header, mq_message, mq_span};

/// Messages of a subscription, in flight until they are answered or their timeout is over. A batch outlives
/// its subscription and client; its answers do nothing then.
pub struct mq_batch {
    inner: Batch,
    /// The headers of each message; empty if no message has one.
    headers: Vec<Vec<mq_header>>,
    generation: Generation,
}

impl Handle for mq_batch {
    fn generation(&self) -> Generation {
        self.generation
    }
}

impl mq_batch {
    pub(crate) fn new(inner: Batch) -> Self {
        let mut headers = Vec::new();
        if inner.iter().any(|message| !message.headers().is_empty()) {
            let header = |(name, value): &(String, bytes::Bytes)| mq_header {
                name: mq_span::of(name.as_bytes()),
                value: mq_span::of(value),
            };
            headers = inner.iter().map(|message| message.headers().iter().map(header).collect()).collect();
        }
        Self { inner, headers, generation: Generation::now() }
    }

    fn message(&self, i: usize) -> Option<mq_message> {
        let message = self.inner.get(i)?;
        let headers = self.headers.get(i).map_or(&[][..], Vec::as_slice);
        Some(mq_message {
            body: mq_span::of(message.body()),
            attempts: message.attempts(),
            timestamp_ns: message.timestamp(),
            id: message.id().0,
            offset: message.offset().unwrap_or(MQ_OFFSET_UNKNOWN),
            headers: headers.as_ptr(),
            headers_len: headers.len(),
            broker: mq_span::of(message.broker().as_bytes()),
        })
    }

    fn range(&self, from: usize, to: usize) -> Outcome<Range<usize>> {
        let len = self.inner.len();
        if from > to || to > len {
            return Err(Failure::invalid(format!("{from} to {to} is no range of a batch of {len}")));
        }
        Ok(from..to)
    }
}

/// The number of messages of a batch; 0 of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_batch_len(batch: *const mq_batch) -> usize {
    // SAFETY: the header's conventions.
    guard_or(0, || Ok(unsafe { handle(batch, "batch") }?.inner.len()))
}

/// Writes the message at i, from 0 on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_batch_message(
    batch: *const mq_batch,
    i: usize,
    message: *mut mq_message,
) -> mq_status {
    // SAFETY: a message is an array of one.
    unsafe { mq_batch_messages(batch, i, i.saturating_add(1), message) }
}

/// Writes the messages from `from` up to, not including, `to`: to - from of them.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_batch_messages(
    batch: *const mq_batch,
    from: usize,
    to: usize,
    messages: *mut mq_message,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let batch = unsafe { handle(batch, "batch") }?;
        let range = batch.range(from, to)?;
        required(messages, "messages")?;
        for (place, i) in range.enumerate() {
            if let Some(message) = batch.message(i) {
                // SAFETY: the header's conventions: there is a place for each.
                unsafe { put(messages.add(place), message) };
            }
        }
        Ok(())
    })
}

/// Finishes the messages from `from` up to, not including, `to`: the channel is done with them. Messages
/// answered before are left out. What becomes of an answer later is in mq_subscription_failures.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_batch_finish(batch: *mut mq_batch, from: usize, to: usize) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let batch = unsafe { handle(batch, "batch") }?;
        batch.inner.finish(batch.range(from, to)?);
        Ok(())
    })
}

/// Returns the messages from `from` up to, not including, `to` to the channel, to be delivered again after
/// delay_ms. Messages answered before are left out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_batch_requeue(
    batch: *mut mq_batch,
    from: usize,
    to: usize,
    delay_ms: u64,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let batch = unsafe { handle(batch, "batch") }?;
        let delay = Duration::from_millis(delay_ms);
        batch.inner.requeue(batch.range(from, to)?, delay);
        Ok(())
    })
}

/// Returns the messages from `from` up to, not including, `to` to the channel as ones that nobody looked
/// at: they are delivered again at once, before others, and this delivery does not count as an attempt. For
/// nsqd it is a requeue without a delay. Messages answered before are left out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_batch_release(batch: *mut mq_batch, from: usize, to: usize) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let batch = unsafe { handle(batch, "batch") }?;
        batch.inner.release(batch.range(from, to)?);
        Ok(())
    })
}

/// Starts the timeout of the messages from `from` up to, not including, `to` anew. Messages answered before
/// are left out.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_batch_touch(batch: *mut mq_batch, from: usize, to: usize) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let batch = unsafe { handle(batch, "batch") }?;
        batch.inner.touch(batch.range(from, to)?);
        Ok(())
    })
}

/// Frees a batch: its messages without an answer go back to their channel. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_batch_free(batch: *mut mq_batch) {
    // SAFETY: the header's conventions.
    unsafe { boundary::free(batch) };
}
