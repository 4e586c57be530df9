//! Messages of one publish, with their room in the buffer.

use std::sync::Arc;
use std::time::Instant;

use mq_core::TopicName;

use super::{Buffer, SlotRef};
use crate::error::{Error, Result};
use crate::outgoing::Outgoing;
use crate::scratch::Scratch;

/// Messages of one publish.
pub(crate) struct Publication {
    pub(crate) topic: TopicName,
    pub(crate) messages: Outgoing,
    pub(crate) slot: SlotRef,
    /// Whether it is sent by itself: it was among some that were refused together.
    pub(crate) alone: bool,
    /// There once it was sent and not answered, and may be sent again.
    pub(crate) resend: Option<Box<Resend>>,
}

/// A publication that its broker may have stored, and knows by its ids.
#[derive(Clone, Debug)]
pub(crate) struct Resend {
    /// The one broker that it may be sent to.
    pub(crate) broker: Arc<str>,
    /// Until then the broker remembers the ids: it may have stored them when they were first sent.
    pub(crate) until: Instant,
}

impl Publication {
    /// A publication that the buffer has room for.
    fn new(topic: TopicName, messages: Outgoing) -> Self {
        let slot = Scratch::with(|scratch| scratch.slot(messages.bytes()));
        Self { topic, messages, slot, alone: false, resend: None }
    }

    /// A publication with room in the buffer, if there is some.
    pub(crate) fn try_new(topic: TopicName, messages: Outgoing, buffer: &Buffer) -> Result<Self> {
        buffer.try_take(messages.bytes()).ok_or(Error::BufferFull)?;
        Ok(Self::new(topic, messages))
    }

    /// The same, waiting for room until `deadline` or until it is interrupted.
    pub(crate) fn within(
        topic: TopicName,
        messages: Outgoing,
        buffer: &Buffer,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Self> {
        buffer.take_by(messages.bytes(), deadline, interrupted).ok_or(Error::BufferFull)?;
        Ok(Self::new(topic, messages))
    }

    /// The same as a future.
    pub(crate) async fn with_room(topic: TopicName, messages: Outgoing, buffer: &Buffer) -> Self {
        buffer.take(messages.bytes()).await;
        Self::new(topic, messages)
    }

    /// Whether it is one message that may be sent with others.
    pub(crate) fn is_single(&self) -> bool {
        !self.alone && self.messages.len() == 1
    }

    /// Whether it is to be sent again, and its broker may not remember its ids any more. It is unknown then.
    pub(crate) fn is_forgotten(&self, buffer: &Buffer, now: impl FnOnce() -> Instant) -> bool {
        let Some(resend) = &self.resend else { return false };
        if resend.until > now() {
            return false;
        }
        let (why, broker) =
            ("no answer for as long as it remembers ids".to_owned(), resend.broker.to_string());
        self.slot.settle(buffer, Err(Error::Unknown { why, broker }));
        true
    }
}

/// A publication of one message, for tests.
#[cfg(test)]
pub(super) fn publication(buffer: &Buffer, body: &'static str) -> Publication {
    let messages = Outgoing::encode([body]).unwrap();
    Publication::try_new("t".parse().unwrap(), messages, buffer).unwrap()
}
