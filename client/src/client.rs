//! The client: one API, whatever is behind it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mq_core::TopicName;
use mq_core::sync::Mutex;

use crate::config::Config;
#[cfg(feature = "embedded")]
use crate::embedded::Embedded;
use crate::error::{Error, Result};
use crate::events::ConnectionEvent;
use crate::fork::OwnProcess;
use crate::message::NewMessage;
use crate::publish::{Buffer, Pending, Publication, Receipt, deadline, first};
use crate::remote::{Remote, Tuning};
use crate::subscription::{self, Source, SubscribeOptions, Subscription};
use crate::url::{self, Place};

/// Connects to brokers, or opens one in this process. Brokers over the network are only connected to when
/// there is something to publish, or a subscription.
///
/// | URL | broker |
/// |---|---|
/// | `/path`, `./path`, `../path`, `mq:PATH` | in this process, on that folder |
/// | `mq:memory` | in this process, without a folder: gone with the client; see [`Client::advance`] |
/// | `mq://host:4150[,host:4150...]` | these: `mq` or nsqd |
/// | `mqs://host:4150[,...]` | the same over TLS |
/// | `mq+lookup://host:4161[,...]` | those that lookup servers name |
///
/// Settings are parameters: `mq://broker:4150?publish_timeout=5s`. See [`Config`].
///
/// # Errors
/// `Invalid` for a URL that is none of these; `Locked` for a folder that is open elsewhere; `Refused` for one
/// that can't be opened.
pub fn connect(url: &str) -> Result<Client> {
    connect_with(url, Config::default())
}

/// The same with settings. Those in the URL win.
///
/// # Errors
/// As [`connect`]; `Invalid` for a setting out of its range.
pub fn connect_with(url: &str, config: Config) -> Result<Client> {
    let (place, config) = url::parse(url, config)?;
    connect_to(place, &config, Tuning::default())
}

pub(crate) fn connect_to(place: Place, config: &Config, tuning: Tuning) -> Result<Client> {
    let buffer = Buffer::new(config.max_buffered_bytes);
    let backend = match place {
        #[cfg(feature = "embedded")]
        Place::Folder(folder) => Backend::Embedded(Embedded::open(Some(folder), config)?),
        #[cfg(feature = "embedded")]
        Place::Memory => Backend::Embedded(Embedded::open(None, config)?),
        #[cfg(not(feature = "embedded"))]
        Place::Folder(_) | Place::Memory => {
            let what = "a broker in this process needs the feature \"embedded\"".to_owned();
            return Err(Error::Unsupported { what, broker: "this build of libmq".to_owned() });
        }
        Place::Brokers { .. } | Place::Lookup(_) => Backend::Remote(Remote::start(place, config, tuning)?),
    };
    let inner = Inner {
        backend,
        buffer,
        publish_timeout: config.publish_timeout,
        subscriptions: Mutex::default(),
        is_closed: AtomicBool::new(false),
    };
    Ok(Client { inner: Arc::new(OwnProcess::new(inner)) })
}

/// A client of brokers, or of one in this process. A handle, cheap to clone and to share between threads.
///
/// A child of `fork` can't use the handles of its parent, and harms nothing by dropping them or by ending:
/// its calls fail as `Forked`. It connects anew.
///
/// When the last handle is dropped, what waits to be sent to a connected broker is still sent, without
/// waiting for it: [`Client::flush`] waits. A broker in this process stops cleanly, once its subscriptions
/// are dropped too.
///
/// ```
/// use std::time::Duration;
///
/// let client = libmq::connect("mq:memory")?;
/// let receipt = client.publish("orders", "one pizza")?;
/// let more = client.publish_many("orders", ["two pizzas", "three pizzas"])?;
/// assert!(more[0].offset > receipt.offset);
///
/// let pending = client.send("orders", "four pizzas")?;
/// assert_eq!(client.flush(Duration::from_secs(10))?, 0);
/// println!("{:?}", pending.wait(Duration::ZERO)?);
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone)]
pub struct Client {
    inner: Arc<OwnProcess<Inner>>,
}

pub(crate) struct Inner {
    pub(crate) backend: Backend,
    buffer: Arc<Buffer>,
    publish_timeout: Duration,
    /// Open ones, and some that are not any more.
    subscriptions: Mutex<Vec<Weak<dyn Source>>>,
    is_closed: AtomicBool,
}

pub(crate) enum Backend {
    #[cfg(feature = "embedded")]
    Embedded(Embedded),
    Remote(Remote),
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(inner) = self.inner.get() else { return f.write_str("Client(Forked)") };
        let (broker, unfinished) = (inner.backend.name(), inner.buffer.unfinished());
        f.debug_struct("Client").field("broker", &broker).field("unfinished", &unfinished).finish()
    }
}

impl Backend {
    fn name(&self) -> &str {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(embedded) => embedded.name(),
            Self::Remote(remote) => remote.name(),
        }
    }

    fn push(&self, publication: Publication) {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(embedded) => embedded.push(publication),
            Self::Remote(remote) => remote.push(publication),
        }
    }

    /// Takes no more, and stops a broker in this process.
    fn close(&self) -> Result<()> {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(embedded) => embedded.close(),
            Self::Remote(remote) => {
                remote.close();
                Ok(())
            }
        }
    }

    /// The reason why something was not sent.
    fn obstacle(&self) -> String {
        match self {
            #[cfg(feature = "embedded")]
            Self::Embedded(embedded) => format!("{} is busy", embedded.name()),
            Self::Remote(remote) => remote.obstacle(),
        }
    }
}

impl Client {
    /// Publishes a message, and waits until a broker has stored it: at most
    /// [`publish_timeout`](Config::publish_timeout).
    ///
    /// # Errors
    /// `Unknown` if it was sent and not answered. After any other the message is not stored: `Invalid`,
    /// `Unsupported`, `Refused`, `BufferFull`, `Closed`, `Forked`, or `Timeout` if no broker was reached.
    pub fn publish(&self, topic: &str, message: impl Into<NewMessage>) -> Result<Receipt> {
        first(self.publish_all(topic, vec![message.into()], &mut || false)?)
    }

    /// Publishes messages as one batch, all or nothing; else as [`Client::publish`].
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub fn publish_many<M: Into<NewMessage>>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<Receipt>> {
        self.publish_all(topic, messages.into_iter().map(Into::into).collect(), &mut || false)
    }

    /// The same for programs whose users interrupt a call: while it waits for a broker over the network,
    /// `interrupted` is asked every 50 ms whether to end as at the timeout.
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub fn publish_unless(
        &self,
        topic: &str,
        messages: Vec<NewMessage>,
        mut interrupted: impl FnMut() -> bool,
    ) -> Result<Vec<Receipt>> {
        self.publish_all(topic, messages, &mut interrupted)
    }

    fn publish_all(
        &self,
        topic: &str,
        messages: Vec<NewMessage>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Receipt>> {
        let inner = self.open()?;
        let topic = inner.prepare(topic, &messages)?;
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        #[cfg(feature = "embedded")]
        if let Backend::Embedded(embedded) = &inner.backend
            && inner.buffer.unfinished() == 0
        {
            return embedded.publish(&topic, &messages, deadline(inner.publish_timeout), interrupted);
        }
        let until = deadline(inner.publish_timeout);
        let publication = Publication::within(topic, messages, &inner.buffer, until, interrupted)?;
        let slot = Arc::clone(&publication.slot);
        inner.backend.push(publication);
        slot.finish_by(until, interrupted, || inner.backend.obstacle())
    }

    /// Publishes a message in the background: the [`Pending`] says how far it is. It waits for a broker as
    /// long as none is reached.
    ///
    /// # Errors
    /// `BufferFull` if too much waits already; `Invalid`, `Unsupported`, `Closed`, `Forked`.
    pub fn send(&self, topic: &str, message: impl Into<NewMessage>) -> Result<Pending> {
        self.send_all(topic, vec![message.into()])
    }

    /// Publishes messages as one batch, all or nothing; else as [`Client::send`].
    ///
    /// # Errors
    /// As [`Client::send`]; `Invalid` for no message at all.
    pub fn send_many<M: Into<NewMessage>>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Pending> {
        self.send_all(topic, messages.into_iter().map(Into::into).collect())
    }

    fn send_all(&self, topic: &str, messages: Vec<NewMessage>) -> Result<Pending> {
        let inner = self.open()?;
        let topic = inner.prepare(topic, &messages)?;
        if messages.is_empty() {
            return Err(Error::Invalid("there is no message to send".to_owned()));
        }
        let publication = Publication::try_new(topic, messages, &inner.buffer)?;
        let slot = Arc::clone(&publication.slot);
        inner.backend.push(publication);
        Ok(Pending(OwnProcess::new(slot)))
    }

    /// Publishes messages in the background once there is room for them: [`Client::send_many`] as a future,
    /// which needs no runtime.
    ///
    /// # Errors
    /// As [`Client::send_many`], without `BufferFull`.
    ///
    /// # Cancel safety
    /// If the future is dropped before it is ready, no message was sent.
    pub async fn send_many_async<M: Into<NewMessage>>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Pending> {
        let inner = self.open()?;
        let messages: Vec<_> = messages.into_iter().map(Into::into).collect();
        let topic = inner.prepare(topic, &messages)?;
        if messages.is_empty() {
            return Err(Error::Invalid("there is no message to send".to_owned()));
        }
        let publication = Publication::with_room(topic, messages, &inner.buffer).await;
        let slot = Arc::clone(&publication.slot);
        // It may have been closed while there was no room.
        self.open()?.backend.push(publication);
        Ok(Pending(OwnProcess::new(slot)))
    }

    /// Publishes a message: [`Client::publish`] as a future, which needs no runtime and has no timeout.
    ///
    /// # Errors
    /// As [`Client::publish`], without `Timeout` and `BufferFull`: it waits for room.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the message, unless it was sent: then it may be stored.
    pub async fn publish_async(&self, topic: &str, message: impl Into<NewMessage>) -> Result<Receipt> {
        first(self.publish_all_async(topic, vec![message.into()]).await?)
    }

    /// Publishes messages as one batch, all or nothing; else as [`Client::publish_async`].
    ///
    /// # Errors
    /// As [`Client::publish_async`].
    ///
    /// # Cancel safety
    /// As [`Client::publish_async`].
    pub async fn publish_many_async<M: Into<NewMessage>>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<Receipt>> {
        let messages = messages.into_iter().map(Into::into).collect();
        self.publish_all_async(topic, messages).await
    }

    async fn publish_all_async(&self, topic: &str, messages: Vec<NewMessage>) -> Result<Vec<Receipt>> {
        let inner = self.open()?;
        let topic = inner.prepare(topic, &messages)?;
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let publication = Publication::with_room(topic, messages, &inner.buffer).await;
        let slot = Arc::clone(&publication.slot);
        // It may have been closed while there was no room.
        self.open()?.backend.push(publication);
        slot.finished().await
    }

    /// Ends the wait for what was published by [`Client::send`]: what was not sent never is, and of what was
    /// and has no answer nobody knows any more.
    ///
    /// # Errors
    /// `Timeout` if it was never sent, `Unknown` if it was and there is no answer; else as
    /// [`Pending::wait_all`].
    pub fn give_up(&self, pending: &Pending) -> Result<Vec<Receipt>> {
        let inner = self.inner.get()?;
        pending.0.get()?.finish_by(Some(Instant::now()), &mut || false, || inner.backend.obstacle())
    }

    /// Longest time that a publish which waits takes: [`Config::publish_timeout`], or the URL's.
    ///
    /// # Errors
    /// `Forked`.
    pub fn publish_timeout(&self) -> Result<Duration> {
        Ok(self.inner.get()?.publish_timeout)
    }

    /// Connects to a broker before there is anything to publish, and again whenever that connection is lost.
    ///
    /// # Errors
    /// `Closed`, `Forked`.
    pub fn stay_connected(&self) -> Result<()> {
        match &self.open()?.backend {
            #[cfg(feature = "embedded")]
            Backend::Embedded(_) => {}
            Backend::Remote(remote) => remote.stay_connected(),
        }
        Ok(())
    }

    /// Waits for what happens to the connection that publishes, and gives the newest 1,000 events since they
    /// were asked for last. None ever comes of a broker in this process.
    ///
    /// # Errors
    /// `Forked`.
    ///
    /// # Cancel safety
    /// Dropping the future takes no event with it.
    pub async fn events_async(&self) -> Result<Vec<ConnectionEvent>> {
        match &self.inner.get()?.backend {
            #[cfg(feature = "embedded")]
            Backend::Embedded(_) => std::future::pending().await,
            Backend::Remote(remote) => Ok(remote.events().take().await),
        }
    }

    /// Waits until every publish has its outcome, at most `timeout`. Returns how many have none.
    ///
    /// # Errors
    /// `Forked`.
    pub fn flush(&self, timeout: Duration) -> Result<usize> {
        Ok(self.inner.get()?.buffer.flush(deadline(timeout)))
    }

    /// Waits until every publish has its outcome.
    ///
    /// # Errors
    /// `Forked`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn flush_async(&self) -> Result<()> {
        self.inner.get()?.buffer.flushed().await;
        Ok(())
    }

    /// Closes the client for all its handles: refuses what comes from now on, ends its subscriptions, waits
    /// up to `timeout` for the outcome of every publish, and stops a broker in this process. A second call
    /// waits for what the first left.
    ///
    /// # Errors
    /// `Timeout` if publishes have no outcome yet: to a broker over the network they still go on, as long as
    /// one is reached. `Refused` if the broker in this process could not store everything; `Forked`.
    pub fn close(&self, timeout: Duration) -> Result<()> {
        let inner = self.inner.get()?;
        let until = deadline(timeout);
        inner.is_closed.store(true, Ordering::Release);
        let open: Vec<_> = inner.subscriptions.lock().iter().filter_map(Weak::upgrade).collect();
        open.iter().for_each(|source| source.close());
        for source in open {
            subscription::close(&*source, until);
        }
        let unfinished = inner.buffer.flush(until);
        inner.backend.close()?;
        match unfinished {
            0 => Ok(()),
            one_or_more => {
                let why = inner.backend.obstacle();
                Err(Error::Timeout(format!("{one_or_more} publishes have no outcome yet: {why}")))
            }
        }
    }

    /// Subscribes to a channel, and creates it and its topic where they are missing. Brokers over the network
    /// are subscribed to in the background: see [`Subscription::failures`].
    ///
    /// # Errors
    /// `Invalid` for names and options that are not valid; of a broker in this process, what keeps the
    /// channel from being created.
    pub fn subscribe(&self, topic: &str, channel: &str, options: SubscribeOptions) -> Result<Subscription> {
        let topic = topic.parse().map_err(Error::invalid)?;
        let channel = channel.parse().map_err(Error::invalid)?;
        options.validate()?;
        let inner = self.open()?;
        let source = match &inner.backend {
            #[cfg(feature = "embedded")]
            Backend::Embedded(embedded) => embedded.subscribe(&topic, &channel, options)?,
            Backend::Remote(remote) => remote.subscribe(topic, channel, options)?,
        };
        let mut subscriptions = inner.subscriptions.lock();
        subscriptions.retain(|other| other.strong_count() > 0);
        subscriptions.push(Arc::downgrade(&source));
        drop(subscriptions);
        if inner.is_closed.load(Ordering::Acquire) {
            source.close();
        }
        Ok(Subscription::new(source))
    }

    /// Asks whether a broker can be reached.
    pub(crate) fn ping(&self) -> Result<()> {
        match &self.open()?.backend {
            #[cfg(feature = "embedded")]
            Backend::Embedded(_) => Ok(()),
            Backend::Remote(remote) => remote.ping(),
        }
    }

    /// The client behind the handle, unless it is closed or another process's.
    pub(crate) fn open(&self) -> Result<&Inner> {
        let inner = self.inner.get()?;
        if inner.is_closed.load(Ordering::Acquire) { Err(Error::Closed) } else { Ok(inner) }
    }
}

impl Inner {
    fn prepare(&self, topic: &str, messages: &[NewMessage]) -> Result<TopicName> {
        let topic = topic.parse().map_err(Error::invalid)?;
        if messages.iter().any(|message| message.body.is_empty()) {
            return Err(Error::Invalid("a message can't be empty".to_owned()));
        }
        if messages.iter().any(|message| message.id.as_ref().is_some_and(|id| id.is_empty())) {
            return Err(Error::Invalid("the id of a message can't be empty: leave it out".to_owned()));
        }
        messages.iter().try_for_each(NewMessage::check)?;
        Ok(topic)
    }
}
