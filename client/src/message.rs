//! Messages to publish.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Result};

/// Longest id in bytes.
const ID_BYTES_MAX: usize = 255;

/// A message to publish: its body, and what else is wanted of it. Bytes and strings become one by themselves.
///
/// ```
/// use std::time::Duration;
/// use libmq::NewMessage;
///
/// let client = libmq::connect("mq:memory")?;
/// client.publish("orders", "one pizza")?;
/// let message = NewMessage::new("two pizzas").id("order-2").header("colour", "red");
/// assert!(!client.publish("orders", message.clone())?.duplicate);
/// assert!(client.publish("orders", message)?.duplicate);
/// client.publish("orders", NewMessage::new("later").delay(Duration::from_secs(60)))?;
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewMessage {
    pub(crate) body: Bytes,
    pub(crate) delay: Duration,
    pub(crate) id: Option<Bytes>,
    pub(crate) headers: Vec<(String, Bytes)>,
}

impl NewMessage {
    /// A message with this body.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// The same, delivered no earlier than `delay` after the publish. Brokers over the network take whole
    /// milliseconds, and nsqd a delay only with a message that is published by itself.
    pub fn delay(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }

    /// The same with an id of 1 to 255 bytes: another message with that id is not stored again while the
    /// topic remembers it. Over the network a message with an id is sent again by itself when its broker
    /// was lost before it answered. nsqd takes none.
    pub fn id(self, id: impl Into<Bytes>) -> Self {
        Self { id: Some(id.into()), ..self }
    }

    /// The same with one more header: a name of 1 to 255 bytes, and at most 64 KiB with all others. nsqd
    /// takes none.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Checks what no broker takes.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(id) = &self.id
            && !(1..=ID_BYTES_MAX).contains(&id.len())
        {
            let text = format!("a message's id takes {} bytes: 1 to {ID_BYTES_MAX} are allowed", id.len());
            return Err(Error::Invalid(text));
        }
        let mut headers = mq_core::HeadersBuf::new();
        let mut added = self.headers.iter().map(|(name, value)| headers.push(name, value));
        added.try_for_each(|added| added.map_err(Error::invalid))
    }

    /// Bytes that it takes in the client's buffer.
    pub(crate) fn bytes(&self) -> usize {
        let headers = self.headers.iter().map(|(name, value)| name.len() + value.len());
        self.body.len() + self.id.as_ref().map_or(0, Bytes::len) + headers.sum::<usize>()
    }
}

impl From<Bytes> for NewMessage {
    fn from(body: Bytes) -> Self {
        Self::new(body)
    }
}

impl From<Vec<u8>> for NewMessage {
    fn from(body: Vec<u8>) -> Self {
        Self::new(body)
    }
}

impl From<String> for NewMessage {
    fn from(body: String) -> Self {
        Self::new(body)
    }
}

impl From<&[u8]> for NewMessage {
    fn from(body: &[u8]) -> Self {
        Self::new(Bytes::copy_from_slice(body))
    }
}

impl From<&str> for NewMessage {
    fn from(body: &str) -> Self {
        body.as_bytes().into()
    }
}
