//! Messages to publish.

use std::time::Duration;

use bytes::Bytes;

use crate::error::{Error, Result};

/// Longest id in bytes.
const ID_BYTES_MAX: usize = 255;

/// Longest delay of a publish or requeue, a year: what is longer is a mistake of units.
pub(crate) const DELAY_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

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

    /// The same, delivered no earlier than `delay` after the publish, in whole milliseconds, rounded up: a
    /// year at most, and brokers over the network have a lower bound of their own. nsqd takes a delay only
    /// with a message that is published by itself.
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

    /// Checks the delay.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check_delay(&self) -> Result<()> {
        if self.delay <= DELAY_MAX {
            return Ok(());
        }
        let text = format!("the delay of a message is {:?}: at most a year, {DELAY_MAX:?}", self.delay);
        Err(Error::Invalid(text))
    }

    /// Checks the length of an id.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check_id(id: Option<&[u8]>) -> Result<()> {
        match id.map_or(1, <[u8]>::len) {
            0 => Err(Error::Invalid("the id of a message can't be empty: leave it out".to_owned())),
            1..=ID_BYTES_MAX => Ok(()),
            len => {
                let text = format!("a message's id takes {len} bytes: 1 to {ID_BYTES_MAX} are allowed");
                Err(Error::Invalid(text))
            }
        }
    }

    /// Checks headers that no broker takes.
    ///
    /// # Errors
    /// `Invalid`.
    pub(crate) fn check_headers(&self) -> Result<()> {
        let mut headers = mq_core::HeadersBuf::new();
        let mut added = self.headers.iter().map(|(name, value)| headers.push(name, value));
        added.try_for_each(|added| added.map_err(Error::invalid))
    }

    /// Bytes that its headers take in the client's buffer.
    pub(crate) fn header_bytes(&self) -> usize {
        self.headers.iter().map(|(name, value)| name.len() + value.len()).sum()
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
