//! The messages that a look at a topic shows.

use mq_core::MessageId;

use crate::delivery::Delivery;

/// Messages that a look at a topic shows: see [`Client::peek`](crate::Client::peek).
///
/// ```
/// let client = libmq::connect("mq:memory")?;
/// client.publish("orders", "one pizza")?;
/// let peeked = client.peek("orders", None, 10)?;
/// assert_eq!(peeked.messages[0].body(), "one pizza");
/// assert_eq!(peeked.channels, 0);
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Debug)]
pub struct Peeked {
    /// The messages, oldest first. They are in nobody's flight.
    pub messages: Vec<Delivery>,
    /// The first id of the next look, if this one came to any.
    pub next: Option<MessageId>,
    /// Channels of the topic. What all of them have finished may be gone.
    pub channels: usize,
}
