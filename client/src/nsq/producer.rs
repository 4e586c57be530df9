//! Producers.

use std::fmt;
use std::time::Duration;

use super::address;
use super::config::NsqConfig;
use crate::client::{Client, connect_to};
use crate::error::Result;
use crate::message::NewMessage;
use crate::outgoing::IntoMessage;
use crate::publish::{Pending, Receipt};
use crate::url::Place;

/// A publisher to a broker, or to several, of which it uses one at a time and goes on with another when that
/// one is lost. A handle, cheap to clone and to share between threads.
///
/// It connects when there is something to publish, and again when a connection is lost. Each publish has an
/// outcome: see [`Client`].
///
/// ```no_run
/// use std::time::Duration;
/// use libmq::nsq::{Config, Producer};
///
/// let producer = Producer::new("127.0.0.1:4150", &Config::default())?;
/// producer.publish("orders", "one pizza")?;
/// producer.multi_publish("orders", ["two pizzas", "three pizzas"])?;
/// producer.deferred_publish("orders", Duration::from_secs(60), "later")?;
///
/// let pending = producer.publish_async("orders", "four pizzas")?;
/// pending.wait(Duration::from_secs(1))?;
/// producer.stop()?;
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone)]
pub struct Producer {
    client: Client,
    addresses: String,
    publish_timeout: Duration,
}

impl Producer {
    /// A producer to the broker at `host:port`, or to those at `host:port,host:port...`. Nothing is connected
    /// to yet.
    ///
    /// # Errors
    /// `Invalid` for an address that is none, a setting out of its range, or a file of TLS that can't be
    /// read.
    pub fn new(addresses: &str, config: &NsqConfig) -> Result<Self> {
        config.validate()?;
        let place = Place::Brokers { addresses: address::brokers(addresses)?, tls: config.tls_v1 };
        let client = connect_to(place, &config.client(), config.tuning())?;
        Ok(Self { client, addresses: addresses.to_owned(), publish_timeout: config.publish_timeout })
    }

    /// Publishes a message, and waits until a broker has stored it: at most
    /// [`publish_timeout`](NsqConfig::publish_timeout).
    ///
    /// # Errors
    /// As [`Client::publish`]; `Closed` after [`Producer::stop`].
    pub fn publish(&self, topic: &str, body: impl IntoMessage) -> Result<Receipt> {
        self.client.publish(topic, body)
    }

    /// Publishes messages as one batch, all or nothing; else as [`Producer::publish`].
    ///
    /// # Errors
    /// As [`Producer::publish`].
    pub fn multi_publish<M: IntoMessage>(
        &self,
        topic: &str,
        bodies: impl IntoIterator<Item = M>,
    ) -> Result<Vec<Receipt>> {
        self.client.publish_many(topic, bodies)
    }

    /// Publishes a message that is delivered after `delay`, in whole milliseconds; else as
    /// [`Producer::publish`].
    ///
    /// # Errors
    /// As [`Producer::publish`].
    pub fn deferred_publish(
        &self,
        topic: &str,
        delay: Duration,
        body: impl Into<NewMessage>,
    ) -> Result<Receipt> {
        self.client.publish(topic, body.into().delay(delay))
    }

    /// Publishes a message in the background: the [`Pending`], in place of go-nsq's channel, says how far it
    /// is and can be waited for.
    ///
    /// # Errors
    /// As [`Client::send`]; `Closed` after [`Producer::stop`].
    pub fn publish_async(&self, topic: &str, body: impl IntoMessage) -> Result<Pending> {
        self.client.send(topic, body)
    }

    /// Publishes messages as one batch in the background, all or nothing.
    ///
    /// # Errors
    /// As [`Producer::publish_async`]; `Invalid` for no message at all.
    pub fn multi_publish_async<M: IntoMessage>(
        &self,
        topic: &str,
        bodies: impl IntoIterator<Item = M>,
    ) -> Result<Pending> {
        self.client.send_many(topic, bodies)
    }

    /// Publishes a message in the background that is delivered after `delay`.
    ///
    /// # Errors
    /// As [`Producer::publish_async`].
    pub fn deferred_publish_async(
        &self,
        topic: &str,
        delay: Duration,
        body: impl Into<NewMessage>,
    ) -> Result<Pending> {
        self.client.send(topic, body.into().delay(delay))
    }

    /// Asks whether a broker is there, by a connection of its own: with the settings, and so with TLS and
    /// AUTH.
    ///
    /// # Errors
    /// `Unreachable`, of the last broker, if none is there; `Closed` after [`Producer::stop`]; `Forked`.
    pub fn ping(&self) -> Result<()> {
        self.client.ping()
    }

    /// Stops for good: refuses what comes from now on, and waits up to
    /// [`publish_timeout`](NsqConfig::publish_timeout) for the outcome of every publish.
    ///
    /// # Errors
    /// `Timeout` if publishes have no outcome yet; `Forked`.
    pub fn stop(&self) -> Result<()> {
        self.client.close(self.publish_timeout)
    }
}

/// The addresses, as go-nsq's `String()`.
impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.addresses)
    }
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Producer").field("client", &self.client).finish_non_exhaustive()
    }
}
