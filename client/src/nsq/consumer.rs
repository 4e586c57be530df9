//! Consumers.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::address;
use super::config::NsqConfig;
use super::engine::Engine;
use super::handler::Handler;
use crate::config::in_range;
use crate::error::{Error, Result};
use crate::publish::deadline;
use crate::remote;
use crate::subscription::{Failure, Source};

/// Threads that handlers are run by at most.
const HANDLERS_MAX: usize = 10_000;

/// A consumer of a channel: calls its handlers with the messages of all brokers that it is connected to. A
/// handle, cheap to clone and to share between threads; when the last one is dropped, the consumer stops, as
/// by [`Consumer::stop`].
///
/// Its handlers may take any time: what they work on, and what waits for them, is touched before it times
/// out.
///
/// ```no_run
/// use std::time::Duration;
/// use libmq::nsq::{Config, Consumer, Message};
///
/// let config = Config { max_in_flight: 200, ..Config::default() };
/// let consumer = Consumer::new("orders", "billing", &config)?;
/// consumer.add_concurrent_handlers(
///     |message: &Message| {
///         let order = std::str::from_utf8(message.body())?;
///         println!("{order}");
///         Ok(())
///     },
///     8,
/// )?;
/// consumer.connect_to_nsqlookupd("127.0.0.1:4161")?;
///
/// std::thread::sleep(Duration::from_secs(60));
/// consumer.stop();
/// consumer.wait(Duration::MAX)?;
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone)]
pub struct Consumer {
    handle: Arc<Handle>,
}

struct Handle {
    engine: Arc<Engine>,
    topic: String,
    channel: String,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.engine.stop();
    }
}

/// Numbers of a consumer since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Messages that came.
    pub messages_received: u64,
    /// Messages finished, those given up among them.
    pub messages_finished: u64,
    /// Messages requeued.
    pub messages_requeued: u64,
    /// Connections to brokers now.
    pub connections: usize,
}

impl Consumer {
    /// A consumer that is connected to nothing yet. It keeps a copy of the settings.
    ///
    /// # Errors
    /// `Invalid` for a name that is none, a setting out of its range, or a file of TLS that can't be read.
    pub fn new(topic: &str, channel: &str, config: &NsqConfig) -> Result<Self> {
        config.validate()?;
        let names = (topic.parse().map_err(Error::invalid)?, channel.parse().map_err(Error::invalid)?);
        let (client, tuning) = (config.client(), config.tuning());
        let source = remote::consume(config.tls_v1, &client, tuning, names, config.subscription())?;
        let engine = Arc::new(Engine::new(source, config));
        Ok(Self { handle: Arc::new(Handle { engine, topic: topic.to_owned(), channel: channel.to_owned() }) })
    }

    fn engine(&self) -> &Arc<Engine> {
        &self.handle.engine
    }

    /// Adds a handler, which is called by one thread.
    ///
    /// # Errors
    /// As [`Consumer::add_concurrent_handlers`].
    pub fn add_handler(&self, handler: impl Handler) -> Result<()> {
        self.add_concurrent_handlers(handler, 1)
    }

    /// Adds a handler, which is called by `count` threads, so that as many messages are handled at once:
    /// `max_in_flight` should be as large. Each message goes to one of the consumer's handlers.
    ///
    /// # Errors
    /// `Invalid` if a `connect_to` was called before, or for a count that is not 1 to 10,000; `Refused` if
    /// the system has no threads left; `Closed`, `Forked`.
    pub fn add_concurrent_handlers(&self, handler: impl Handler, count: usize) -> Result<()> {
        in_range("the number of concurrent handlers", &count, &1, &HANDLERS_MAX)?;
        let handler: Arc<dyn Handler> = Arc::new(handler);
        self.engine().add(&handler, count)
    }

    /// Connects to a broker, `host:port`, in the background: until it works, and again when it is lost. See
    /// [`Consumer::failures`].
    ///
    /// # Errors
    /// `Invalid` for an address that is none, a broker that is connected to already, or without a handler;
    /// `Closed` once the consumer was stopped; `Forked`.
    pub fn connect_to_nsqd(&self, address: &str) -> Result<()> {
        let address = address::broker(address)?;
        if self.engine().start()?.connect_broker(&address) {
            return Ok(());
        }
        Err(Error::Invalid(format!("{address} is connected to already")))
    }

    /// Connects to brokers, one after the other.
    ///
    /// # Errors
    /// As [`Consumer::connect_to_nsqd`], of the first that fails; those after it are left out.
    pub fn connect_to_nsqds<A: AsRef<str>>(&self, addresses: impl IntoIterator<Item = A>) -> Result<()> {
        addresses.into_iter().try_for_each(|address| self.connect_to_nsqd(address.as_ref()))
    }

    /// Connects to the brokers that a lookup server names, `host:port` or its URL: asks it at once, and again
    /// and again. It is no error to name one twice.
    ///
    /// # Errors
    /// As [`Consumer::connect_to_nsqd`].
    pub fn connect_to_nsqlookupd(&self, address: &str) -> Result<()> {
        let address = address::lookup(address)?;
        self.engine().start()?.add_lookup(&address);
        Ok(())
    }

    /// Connects to the brokers that lookup servers name.
    ///
    /// # Errors
    /// As [`Consumer::connect_to_nsqlookupd`], of the first that fails; those after it are left out.
    pub fn connect_to_nsqlookupds<A: AsRef<str>>(
        &self,
        addresses: impl IntoIterator<Item = A>,
    ) -> Result<()> {
        addresses.into_iter().try_for_each(|address| self.connect_to_nsqlookupd(address.as_ref()))
    }

    /// Disconnects from a broker: it sends no more, and its connection ends once what it sent is answered. A
    /// lookup server that names it connects it again.
    ///
    /// # Errors
    /// `Invalid` for a broker that is not connected to; `Forked`.
    pub fn disconnect_from_nsqd(&self, address: &str) -> Result<()> {
        let address = address::broker(address)?;
        if self.engine().source()?.disconnect_broker(&address) {
            return Ok(());
        }
        Err(Error::Invalid(format!("{address} is not connected to")))
    }

    /// Asks a lookup server no more. The brokers that it named stay.
    ///
    /// # Errors
    /// `Invalid` for a server that is not asked; `Forked`.
    pub fn disconnect_from_nsqlookupd(&self, address: &str) -> Result<()> {
        let address = address::lookup(address)?;
        if self.engine().source()?.remove_lookup(&address) {
            return Ok(());
        }
        Err(Error::Invalid(format!("{address} is not connected to")))
    }

    /// Changes [`max_in_flight`](NsqConfig::max_in_flight) from now on. 0 pauses: no more messages are sent
    /// here, those that are here are still handled.
    ///
    /// # Errors
    /// `Invalid` for more than 1,000,000; `Forked`.
    pub fn change_max_in_flight(&self, max: u32) -> Result<()> {
        in_range("max_in_flight", &max, &0, &1_000_000)?;
        self.engine().change_max_in_flight(max)
    }

    /// Passes the addresses that lookup servers name through a filter: those it returns are connected to.
    /// From now on: best set before connecting. A filter that panics returned none.
    ///
    /// ```
    /// # use libmq::nsq::{Config, Consumer};
    /// # let consumer = Consumer::new("orders", "billing", &Config::default())?;
    /// consumer.set_discovery_filter(|mut brokers| {
    ///     brokers.retain(|address| address.starts_with("10.1."));
    ///     brokers
    /// })?;
    /// # Ok::<(), libmq::Error>(())
    /// ```
    ///
    /// # Errors
    /// `Forked`.
    pub fn set_discovery_filter(
        &self,
        filter: impl Fn(Vec<String>) -> Vec<String> + Send + Sync + 'static,
    ) -> Result<()> {
        let filter = move |found| catch_unwind(AssertUnwindSafe(|| filter(found))).unwrap_or_default();
        self.engine().source()?.set_filter(Arc::new(filter));
        Ok(())
    }

    /// Numbers since the consumer began. All zero in a child of `fork`.
    pub fn stats(&self) -> ConsumerStats {
        let (engine, Ok(source)) = (self.engine(), self.engine().source()) else {
            return ConsumerStats::default();
        };
        let counts = &engine.counts;
        ConsumerStats {
            messages_received: counts.received.load(Ordering::Relaxed),
            messages_finished: counts.finished.load(Ordering::Relaxed),
            messages_requeued: counts.requeued.load(Ordering::Relaxed),
            connections: source.connections(),
        }
    }

    /// Whether some broker has 85 % of what it may send in flight: with a larger `max_in_flight` more would
    /// come.
    pub fn is_starved(&self) -> bool {
        self.engine().source().is_ok_and(|source| source.is_starved())
    }

    /// The failures since they were asked for last, the newest 1,000: answers that came too late or were lost
    /// with their connection, brokers and lookup servers that can't be reached. None in a child of `fork`.
    pub fn failures(&self) -> Vec<Failure> {
        self.engine().source().map_or_else(|_| Vec::new(), |source| source.failures().take())
    }

    /// Stops for good, without waiting: no more messages come, and those that are here are still handled, for
    /// [`stop_timeout`](NsqConfig::stop_timeout) at most. What has no answer then is given back. Does nothing
    /// in a child of `fork`.
    pub fn stop(&self) {
        self.engine().stop();
    }

    /// Waits up to `timeout` until the consumer is stopped and its connections are closed. Returns whether
    /// that was enough. A handler that never returns is not waited for beyond
    /// [`stop_timeout`](NsqConfig::stop_timeout).
    ///
    /// # Errors
    /// `Forked`.
    pub fn wait(&self, timeout: Duration) -> Result<bool> {
        self.engine().wait(deadline(timeout))
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Handle { topic, channel, .. } = &*self.handle;
        f.debug_struct("Consumer").field("topic", topic).field("channel", channel).finish_non_exhaustive()
    }
}
