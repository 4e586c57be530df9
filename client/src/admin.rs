//! Topics and channels, seen and changed by a client.

use std::time::Duration;

use mq_core::{ChannelSettings, TopicSettings};

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

    /// The settings of a topic: its level, its limits, how long it remembers ids.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn topic_settings(&self, topic: &str) -> Result<TopicSettings> {
        let topic = topic.parse().map_err(Error::invalid)?;
        self.embedded("to show a topic's settings; `mq settings` does, or GET /topic/config over HTTP")?
            .topic_settings(&topic)
    }

    /// Changes the settings of a topic, all at once, for every publish from now on and over restarts.
    ///
    /// ```
    /// let client = libmq::connect("mq:memory")?;
    /// client.create_topic("orders")?;
    /// let mut settings = client.topic_settings("orders")?;
    /// settings.limits.max_messages = 1;
    /// client.set_topic_settings("orders", settings)?;
    /// client.create_channel("orders", "billing")?;
    /// client.publish("orders", "one pizza")?;
    /// assert!(client.publish("orders", "one too many").is_err());
    /// # Ok::<(), libmq::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` or `Refused` for settings that the topic can't have; else see
    /// [above](#topics-and-channels).
    pub fn set_topic_settings(&self, topic: &str, settings: TopicSettings) -> Result<()> {
        let topic = topic.parse().map_err(Error::invalid)?;
        self.embedded("to change a topic's settings; `mq settings` does, or PUT /topic/config over HTTP")?
            .set_topic_settings(&topic, settings)
    }

    /// The settings of a channel: its limit of attempts, its dead letter topic.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn channel_settings(&self, topic: &str, channel: &str) -> Result<ChannelSettings> {
        let topic = topic.parse().map_err(Error::invalid)?;
        let channel = channel.parse().map_err(Error::invalid)?;
        self.embedded("to show a channel's settings; `mq settings` does, or GET /channel/config over HTTP")?
            .channel_settings(&topic, &channel)
    }

    /// Changes the settings of a channel, all at once, for every message that comes back from now on and over
    /// restarts.
    ///
    /// ```
    /// let client = libmq::connect("mq:memory")?;
    /// client.create_topic("orders")?;
    /// client.create_channel("orders", "billing")?;
    /// let mut settings = client.channel_settings("orders", "billing")?;
    /// settings.max_attempts = 1;
    /// settings.dead_letter_topic = Some("orders.dead".parse()?);
    /// client.set_channel_settings("orders", "billing", settings)?;
    /// client.publish("orders", "one pizza")?;
    ///
    /// let minute = std::time::Duration::from_secs(60);
    /// let billing = client.subscribe("orders", "billing", libmq::SubscribeOptions::default())?;
    /// billing.next(minute)?.expect("a message").requeue(std::time::Duration::ZERO);
    /// let dead = client.subscribe("orders.dead", "kitchen", libmq::SubscribeOptions::default())?;
    /// assert_eq!(dead.next(minute)?.expect("a dead letter").body(), "one pizza");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// `Invalid` or `Refused` for settings that the channel can't have; else see
    /// [above](#topics-and-channels).
    pub fn set_channel_settings(&self, topic: &str, channel: &str, settings: ChannelSettings) -> Result<()> {
        let topic = topic.parse().map_err(Error::invalid)?;
        let channel = channel.parse().map_err(Error::invalid)?;
        self.embedded("to change a channel's settings; `mq settings` does, or PUT /channel/config over HTTP")?
            .set_channel_settings(&topic, &channel, settings)
    }

    fn change_topic(&self, topic: &str, change: Change) -> Result<()> {
        let topic = topic.parse().map_err(Error::invalid)?;
        self.embedded("to change a topic; `mq topics` does")?.change_topic(&topic, change)
    }

    fn change_channel(&self, topic: &str, channel: &str, change: Change) -> Result<()> {
        let topic = topic.parse().map_err(Error::invalid)?;
        let channel = channel.parse().map_err(Error::invalid)?;
        self.embedded("to change a channel; `mq topics` does")?.change_channel(&topic, &channel, change)
    }

    /// The numbers of all topics and channels, each topic's of one moment.
    ///
    /// # Errors
    /// See [above](#topics-and-channels).
    pub fn stats(&self) -> Result<Stats> {
        Ok(self.embedded("statistics; `mq stat` shows them, or GET /stats over HTTP")?.stats())
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
        let embedded = self.embedded("advance")?;
        self.open()?.give_back();
        embedded.advance(by)
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
