//! Topics and channels, seen and changed by a client.

use std::time::Duration;

use crate::client::{Backend, Client};
use crate::embedded::{Change, Embedded};
use crate::error::{Error, Result};
use crate::stats::Stats;
#[cfg(feature = "serve")]
use mq_server::Addresses;

/// # Topics and channels
///
/// Of a broker in this process; over the network they are changed through the broker's HTTP address.
///
/// ```
/// let client = libmq::connect("mq:memory")?;
/// client.create_channel("orders", "billing")?;
/// client.pause_channel("orders", "billing")?;
/// client.publish("orders", "one pizza")?;
/// assert_eq!(client.stats()?.topics[0].channels[0].depth, 1);
/// client.empty_channel("orders", "billing")?;
/// client.unpause_channel("orders", "billing")?;
/// client.delete_topic("orders")?;
/// # Ok::<(), libmq::Error>(())
/// ```
///
/// # Errors
/// All of them: `Unsupported` with brokers over the network; `Invalid` for a name that is not valid;
/// `Refused` for a topic or channel that is missing, but for those that create it; `Closed`, `Forked`.
impl Client {
    /// Creates a topic, if it is missing.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn create_topic(&self, topic: &str) -> Result<()> {
        self.change_topic(topic, Change::Create)
    }

    /// Deletes a topic, its channels and their messages.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        self.change_topic(topic, Change::Delete)
    }

    /// Drops the messages of a topic that no channel has.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn empty_topic(&self, topic: &str) -> Result<()> {
        self.change_topic(topic, Change::Empty)
    }

    /// Keeps what is published to a topic from its channels, until it is unpaused.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn pause_topic(&self, topic: &str) -> Result<()> {
        self.change_topic(topic, Change::Pause)
    }

    /// Undoes [`Client::pause_topic`].
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn unpause_topic(&self, topic: &str) -> Result<()> {
        self.change_topic(topic, Change::Unpause)
    }

    /// Creates a channel and its topic, where they are missing.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn create_channel(&self, topic: &str, channel: &str) -> Result<()> {
        self.change_channel(topic, channel, Change::Create)
    }

    /// Deletes a channel and its messages. Its subscriptions end.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn delete_channel(&self, topic: &str, channel: &str) -> Result<()> {
        self.change_channel(topic, channel, Change::Delete)
    }

    /// Drops the messages of a channel.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn empty_channel(&self, topic: &str, channel: &str) -> Result<()> {
        self.change_channel(topic, channel, Change::Empty)
    }

    /// Stops delivery to the subscriptions of a channel, until it is unpaused.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn pause_channel(&self, topic: &str, channel: &str) -> Result<()> {
        self.change_channel(topic, channel, Change::Pause)
    }

    /// Undoes [`Client::pause_channel`].
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn unpause_channel(&self, topic: &str, channel: &str) -> Result<()> {
        self.change_channel(topic, channel, Change::Unpause)
    }

    fn change_topic(&self, topic: &str, change: Change) -> Result<()> {
        let topic = topic.parse().map_err(Error::invalid)?;
        self.embedded("to change a topic")?.change_topic(&topic, change)
    }

    fn change_channel(&self, topic: &str, channel: &str, change: Change) -> Result<()> {
        let topic = topic.parse().map_err(Error::invalid)?;
        let channel = channel.parse().map_err(Error::invalid)?;
        self.embedded("to change a channel")?.change_channel(&topic, &channel, change)
    }

    /// The numbers of all topics and channels, each topic's of one moment.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn stats(&self) -> Result<Stats> {
        Ok(self.embedded("statistics")?.stats())
    }

    /// Moves the time of a broker with a test clock on: deferred messages come due, messages in flight time
    /// out. It stands still otherwise. What is due has happened when this returns, and nothing sleeps.
    ///
    /// ```
    /// use std::time::Duration;
    /// use libmq::NewMessage;
    ///
    /// let client = libmq::connect("mq:memory?test_clock=true")?;
    /// let billing = client.subscribe("orders", "billing", Default::default())?;
    /// client.publish("orders", NewMessage::new("later").delay(Duration::from_secs(3600)))?;
    /// assert!(billing.next(Duration::ZERO)?.is_none());
    /// client.advance(Duration::from_secs(3600))?;
    /// billing.next(Duration::ZERO)?.expect("it is due").finish();
    /// # Ok::<(), libmq::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Unsupported` of any other broker; `Closed`, `Forked`.
    pub fn advance(&self, by: Duration) -> Result<()> {
        self.embedded("advance")?.advance(by)
    }

    /// Serves a broker in this process to others, until the client is closed: over NSQ's TCP protocol, HTTP
    /// and gRPC, as `flags`, those of `mq serve`, say. Without flags these are its default addresses, all
    /// of this machine alone. Returns once it listens.
    ///
    /// ```
    /// let client = libmq::connect("mq:memory")?;
    /// let served = client.serve(["--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address="])?;
    /// let other = libmq::connect(&format!("mq://{}", served.tcp))?;
    /// other.publish("orders", "one pizza")?;
    /// assert_eq!(client.stats()?.topics[0].depth, 1);
    /// # Ok::<(), libmq::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` for flags that are none, or about the broker itself, which is open already, and where it
    /// can't listen; else see [above](#topics-and-channels).
    #[cfg(feature = "serve")]
    pub fn serve<F: Into<String>>(&self, flags: impl IntoIterator<Item = F>) -> Result<Addresses> {
        let flags: Vec<String> = flags.into_iter().map(Into::into).collect();
        self.embedded("to serve it")?.serve(&flags)
    }

    fn embedded(&self, what: &str) -> Result<&Embedded> {
        let inner = self.open()?;
        match &inner.backend {
            Backend::Embedded(embedded) => Ok(embedded),
            Backend::Remote(remote) => {
                Err(Error::Unsupported { what: what.to_owned(), broker: remote.name().to_owned() })
            }
        }
    }
}
