//! A look at a topic, which moves nothing.

use mq_core::MessageId;

use crate::client::{Backend, Client};
use crate::error::{Error, Result};
use crate::peeked::Peeked;

/// Most messages of one look.
const PEEK_MAX: usize = 1000;

impl Client {
    /// Looks at up to `max` messages of a topic, 1 to 1,000, from the id `from` on, or from the oldest
    /// that no channel has got. Nothing is moved, finished or created. Fewer come where they are large, and
    /// none at the topic's end. Of several brokers the first that is reached shows what it has. Waits for a
    /// disk or a broker.
    ///
    /// ```
    /// let client = libmq::connect("mq:memory")?;
    /// client.publish_many("orders", ["one pizza", "two pizzas"])?;
    /// let first = client.peek("orders", None, 1)?;
    /// assert_eq!(first.messages[0].body(), "one pizza");
    /// assert_eq!(client.peek("orders", first.next, 10)?.messages[0].body(), "two pizzas");
    /// # Ok::<(), libmq::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unsupported` of nsqd, which shows nothing; `Unreachable` if no broker is; `Refused` if the topic
    /// can't be read; `Invalid` for a name that is none; `Closed`, `Forked`.
    pub fn peek(&self, topic: &str, from: Option<MessageId>, max: usize) -> Result<Peeked> {
        let (topic, max) = (topic.parse().map_err(Error::invalid)?, max.clamp(1, PEEK_MAX));
        match &self.open()?.backend {
            #[cfg(feature = "embedded")]
            Backend::Embedded(embedded) => embedded.peek(&topic, from, max),
            Backend::Remote(remote) => remote.wait(remote.peek(topic, from, max)),
        }
    }

    /// The same as a future, which waits for a disk on another thread.
    ///
    /// # Errors
    /// As [`Client::peek`].
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn peek_async(&self, topic: &str, from: Option<MessageId>, max: usize) -> Result<Peeked> {
        let (topic, max) = (topic.parse().map_err(Error::invalid)?, max.clamp(1, PEEK_MAX));
        let looking = match &self.open()?.backend {
            #[cfg(feature = "embedded")]
            Backend::Embedded(embedded) => embedded.peek_on_thread(topic, from, max)?,
            Backend::Remote(remote) => remote.spawn(remote.peek(topic, from, max)),
        };
        // It panicked: its thread said so.
        looking.await.map_err(|_| Error::Closed)?
    }
}
