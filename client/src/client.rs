//! The client: one API, whatever is behind it.

use std::fmt;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::Duration;

use mq_core::TopicName;
use mq_core::sync::Mutex;

use crate::config::Config;
#[cfg(feature = "embedded")]
use crate::embedded::Embedded;
use crate::error::{Error, Result};
use crate::events::ConnectionEvent;
use crate::fork::OwnProcess;
use crate::outgoing::{IntoMessage, Outgoing};
use crate::publish::{Buffer, Pending, Publication, Receipt, Stored, deadline};
use crate::remote::{Remote, Tuning};
use crate::scratch::Scratch;
use crate::subscription::{self, Source, SubscribeOptions, Subscription};
use crate::url::{self, Place};

/// Longest time for which [`Client::subscribe`] waits for brokers that do not answer: enough for a handshake
/// with TLS and AUTH around the world.
pub const OPENING_MAX: Duration = Duration::from_secs(5);

/// Connects to brokers, or opens one in this process. Brokers over the network are only connected to when
/// there is something to publish, or a subscription.
///
/// | URL | broker |
/// |---|---|
/// | `/path`, `./path`, `../path`, `mq:PATH` | in this process, on that folder |
/// | `mq:memory` | in this process, without a folder: gone with the client; see [`Client::advance`] |
/// | `mq://host:4150[,host:4150...]` | these: `mq` or nsqd |
/// | `mqs://host:4150[,...]` | the same over TLS |
/// | `mq+unix:/path[,...]`, `mqs+unix:/path[,...]` | the same over unix sockets |
/// | `mq+lookup://host:4161[,...]` | those of lookup servers; `https://host:443` is one asked over TLS |
/// | `mqs+lookup://host:4161[,...]` | the same, brokers over TLS |
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
        Place::Folder(folder) => Backend::Embedded(Embedded::open(Some(folder), config, &buffer)?),
        #[cfg(feature = "embedded")]
        Place::Memory => Backend::Embedded(Embedded::open(None, config, &buffer)?),
        #[cfg(not(feature = "embedded"))]
        Place::Folder(_) | Place::Memory => {
            let what = "a broker in this process needs the feature \"embedded\"".to_owned();
            return Err(Error::Unsupported { what, broker: "this build of libmq".to_owned() });
        }
        Place::Brokers { .. } | Place::Lookup { .. } => {
            Backend::Remote(Remote::start(place, config, tuning, &buffer)?)
        }
    };
    Ok(Client::over(backend, buffer, config))
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
    /// Longest time that a publish which waits takes.
    publish_timeout: Duration,
}

pub(crate) struct Inner {
    pub(crate) backend: Backend,
    buffer: Arc<Buffer>,
    /// Open ones, and some that are not any more.
    subscriptions: Mutex<Vec<Weak<dyn Source>>>,
    is_closed: AtomicBool,
}

impl Inner {
    /// Gives back what the subscriptions hold and nobody has taken.
    #[cfg(feature = "embedded")]
    pub(crate) fn give_back(&self) {
        let open: Vec<_> = self.subscriptions.lock().iter().filter_map(Weak::upgrade).collect();
        open.iter().for_each(|source| source.give_back());
    }
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
            Self::Embedded(embedded) => format!("{} does not keep up", embedded.name()),
            Self::Remote(remote) => remote.obstacle(),
        }
    }
}

impl Client {
    pub(crate) fn over(backend: Backend, buffer: Arc<Buffer>, config: &Config) -> Self {
        let inner =
            Inner { backend, buffer, subscriptions: Mutex::default(), is_closed: AtomicBool::new(false) };
        Self { inner: Arc::new(OwnProcess::new(inner)), publish_timeout: config.publish_timeout }
    }

    /// Another handle of the same client, whose publishes that wait take at most `timeout`: for one call that
    /// has less time than the others, or more.
    ///
    /// ```
    /// use std::time::Duration;
    /// # let client = libmq::connect("mq:memory")?;
    /// client.with_publish_timeout(Duration::from_millis(200)).publish("orders", "one pizza")?;
    /// # Ok::<(), libmq::Error>(())
    /// ```
    pub fn with_publish_timeout(&self, timeout: Duration) -> Self {
        Self { inner: Arc::clone(&self.inner), publish_timeout: timeout }
    }

    /// Publishes a message, and waits until a broker has stored it: at most
    /// [`publish_timeout`](Config::publish_timeout), or [another time](Client::with_publish_timeout). What
    /// was not sent by then never is.
    ///
    /// # Errors
    /// `Unknown` if it was sent and not answered. After any other the message is not stored: `Invalid`,
    /// `Unsupported`, `Refused`, `BufferFull`, `Closed`, `Forked`, or `Timeout` if no broker was reached.
    pub fn publish(&self, topic: &str, message: impl IntoMessage) -> Result<Receipt> {
        self.publish_encoded(topic, Outgoing::encode([message]), &mut || false)?.first()
    }

    /// Publishes messages as one batch, all or nothing; else as [`Client::publish`].
    ///
    /// # Errors
    /// As [`Client::publish`].
    pub fn publish_many<M: IntoMessage>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<Receipt>> {
        Ok(self.publish_encoded(topic, Outgoing::encode(messages), &mut || false)?.receipts())
    }

    /// The same of messages that are encoded already, for the packages of other languages: while it waits for
    /// a broker over the network, `interrupted` is asked every 50 ms whether to end as at the timeout.
    ///
    /// # Errors
    /// As [`Client::publish`].
    #[doc(hidden)]
    pub fn publish_encoded(
        &self,
        topic: &str,
        messages: Result<Outgoing>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Stored> {
        let inner = self.open()?;
        let (topic, messages) = (self::topic(topic)?, messages?);
        if messages.is_empty() {
            return Ok(Stored::new(Arc::from("")));
        }
        #[cfg(feature = "embedded")]
        if let Backend::Embedded(embedded) = &inner.backend
            && inner.buffer.unfinished() == 0
        {
            return embedded.publish(&topic, &messages, deadline(self.publish_timeout), interrupted);
        }
        let until = deadline(self.publish_timeout);
        let publication = Publication::within(topic, messages, &inner.buffer, until, interrupted)?;
        let slot = publication.slot.clone();
        inner.backend.push(publication);
        slot.finish_by(&inner.buffer, until, interrupted, || inner.backend.obstacle())
    }

    /// Publishes a message in the background: the [`Pending`] says how far it is. It waits for a broker as
    /// long as none is reached.
    ///
    /// # Errors
    /// `BufferFull` if too much waits already; `Invalid`, `Unsupported`, `Closed`, `Forked`.
    pub fn send(&self, topic: &str, message: impl IntoMessage) -> Result<Pending> {
        self.send_encoded(topic, Outgoing::encode([message]))
    }

    /// Publishes messages as one batch, all or nothing; else as [`Client::send`].
    ///
    /// # Errors
    /// As [`Client::send`]; `Invalid` for no message at all.
    pub fn send_many<M: IntoMessage>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Pending> {
        self.send_encoded(topic, Outgoing::encode(messages))
    }

    /// The same of messages that are encoded already.
    ///
    /// # Errors
    /// As [`Client::send_many`].
    #[doc(hidden)] // For the packages of other languages.
    pub fn send_encoded(&self, topic: &str, messages: Result<Outgoing>) -> Result<Pending> {
        let inner = self.open()?;
        let (topic, messages) = (self::topic(topic)?, messages?);
        if messages.is_empty() {
            return Err(Error::Invalid("there is no message to send".to_owned()));
        }
        let publication = Publication::try_new(topic, messages, &inner.buffer)?;
        let slot = publication.slot.clone();
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
    pub async fn send_many_async<M: IntoMessage>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Pending> {
        self.send_encoded_async(topic, Outgoing::encode(messages)).await
    }

    /// The same of messages that are encoded already.
    ///
    /// # Errors
    /// As [`Client::send_many_async`].
    ///
    /// # Cancel safety
    /// As [`Client::send_many_async`].
    #[doc(hidden)] // For the packages of other languages.
    pub async fn send_encoded_async(&self, topic: &str, messages: Result<Outgoing>) -> Result<Pending> {
        let inner = self.open()?;
        let (topic, messages) = (self::topic(topic)?, messages?);
        if messages.is_empty() {
            return Err(Error::Invalid("there is no message to send".to_owned()));
        }
        let publication = Publication::with_room(topic, messages, &inner.buffer).await;
        let slot = publication.slot.clone();
        // It may have been closed while there was no room.
        self.open()?.backend.push(publication);
        Ok(Pending(OwnProcess::new(slot)))
    }

    /// Publishes a message: [`Client::publish`] as a future, which needs no runtime and has no timeout: see
    /// [`Client::publish_until_async`].
    ///
    /// # Errors
    /// As [`Client::publish`], without `Timeout` and `BufferFull`: it waits for room.
    ///
    /// # Cancel safety
    /// Dropping the future withdraws the message, unless it was sent: then it may be stored.
    pub async fn publish_async(&self, topic: &str, message: impl IntoMessage) -> Result<Receipt> {
        self.publish_encoded_async(topic, Outgoing::encode([message]), pending()).await?.first()
    }

    /// Publishes messages as one batch, all or nothing; else as [`Client::publish_async`].
    ///
    /// # Errors
    /// As [`Client::publish_async`].
    ///
    /// # Cancel safety
    /// As [`Client::publish_async`].
    pub async fn publish_many_async<M: IntoMessage>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
    ) -> Result<Vec<Receipt>> {
        Ok(self.publish_encoded_async(topic, Outgoing::encode(messages), pending()).await?.receipts())
    }

    /// The same with a deadline: once `until` is ready, a timer of the program's runtime for example, it ends
    /// as [`Client::publish_many`] at its timeout.
    ///
    /// ```
    /// # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
    /// use std::time::Duration;
    /// # let client = libmq::connect("mq:memory")?;
    /// let until = tokio::time::sleep(Duration::from_millis(200));
    /// client.publish_until_async("orders", ["one pizza"], until).await?;
    /// # Ok::<(), libmq::Error>(())
    /// # })?;
    /// # Ok::<(), libmq::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Client::publish_many`].
    ///
    /// # Cancel safety
    /// As [`Client::publish_async`].
    pub async fn publish_until_async<M: IntoMessage>(
        &self,
        topic: &str,
        messages: impl IntoIterator<Item = M>,
        until: impl Future<Output = ()>,
    ) -> Result<Vec<Receipt>> {
        Ok(self.publish_encoded_async(topic, Outgoing::encode(messages), until).await?.receipts())
    }

    /// The same of messages that are encoded already.
    ///
    /// # Errors
    /// As [`Client::publish_async`].
    ///
    /// # Cancel safety
    /// As [`Client::publish_async`].
    #[doc(hidden)] // For the packages of other languages.
    pub async fn publish_encoded_async(
        &self,
        topic: &str,
        messages: Result<Outgoing>,
        until: impl Future<Output = ()>,
    ) -> Result<Stored> {
        let inner = self.open()?;
        let (topic, messages) = (self::topic(topic)?, messages?);
        if messages.is_empty() {
            return Ok(Stored::new(Arc::from("")));
        }
        let mut until = pin!(until);
        let room = Publication::with_room(topic, messages, &inner.buffer);
        let publication = before(&mut until, room).await.ok_or(Error::BufferFull)?;
        let slot = publication.slot.clone();
        // It may have been closed while there was no room.
        self.open()?.backend.push(publication);
        // Dropped at the end: then there is an outcome, and nothing to withdraw.
        let mut finished = pin!(slot.finished(&inner.buffer));
        match before(&mut until, finished.as_mut()).await {
            Some(result) => result,
            None => slot.give_up(&inner.buffer, || inner.backend.obstacle()),
        }
    }

    /// Ends the wait for what was published by [`Client::send`]: what was not sent never is, and of what was
    /// and has no answer nobody knows any more.
    ///
    /// # Errors
    /// `Timeout` if it was never sent, `Unknown` if it was and there is no answer; else as
    /// [`Pending::wait_all`].
    pub fn give_up(&self, pending: &Pending) -> Result<Vec<Receipt>> {
        let inner = self.inner.get()?;
        let stored = pending.0.get()?.give_up(&inner.buffer, || inner.backend.obstacle());
        Ok(stored?.receipts())
    }

    /// Longest time that a publish which waits takes over this handle: [`Config::publish_timeout`], the
    /// URL's, or that of [`Client::with_publish_timeout`].
    ///
    /// # Errors
    /// `Forked`.
    pub fn publish_timeout(&self) -> Result<Duration> {
        self.inner.get()?;
        Ok(self.publish_timeout)
    }

    /// Connects to a broker before there is anything to publish, and again whenever that connection is lost.
    /// The first of [`Client::events_async`] says whether it was reached, for who would rather fail than
    /// wait.
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
            Backend::Embedded(_) => pending().await,
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

    /// Subscribes to a channel, and creates it and its topic where they are missing. What is published after
    /// it returns comes to the channel: it waits for the first attempt to subscribe at each broker, at most
    /// 5 s. A broker that was not reached is tried again in the background, and
    /// [`Subscription::failures`] says why.
    ///
    /// # Errors
    /// `Invalid` for names and options that are not valid; of a broker in this process, what keeps the
    /// channel from being created.
    pub fn subscribe(&self, topic: &str, channel: &str, options: SubscribeOptions) -> Result<Subscription> {
        let subscription = self.subscribe_in_background(topic, channel, options)?;
        subscription.opened(OPENING_MAX)?;
        Ok(subscription)
    }

    /// The same without waiting for brokers over the network: [`Subscription::opened_async`] does. Until then
    /// a channel that is new misses what is published.
    ///
    /// # Errors
    /// As [`Client::subscribe`].
    pub fn subscribe_in_background(
        &self,
        topic: &str,
        channel: &str,
        options: SubscribeOptions,
    ) -> Result<Subscription> {
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

/// Waits for `wanted`. `None` if `until` is ready before.
async fn before<R>(
    until: &mut Pin<&mut impl Future<Output = ()>>,
    wanted: impl Future<Output = R>,
) -> Option<R> {
    let mut wanted = pin!(wanted);
    poll_fn(|cx| match wanted.as_mut().poll(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => until.as_mut().poll(cx).map(|()| None),
    })
    .await
}

fn topic(name: &str) -> Result<TopicName> {
    Scratch::with(|scratch| scratch.topic(name))
}
