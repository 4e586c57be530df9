//! Subscriptions.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mq_core::sync::Mutex;
use mq_core::{MessageId, Offset};

use crate::config::in_range;
use crate::delivery::{Answer, Batch, Delivery, Message};
use crate::error::{Error, Result};
use crate::events::{ConnectionEvent, Events};
use crate::fork::OwnProcess;
use crate::publish::deadline;
use crate::signal::Signal;
use mq_core::clock::Wall;

/// Failures kept for [`Subscription::failures`]: the newest.
const FAILURES_MAX: usize = 1000;

/// Messages that a batch has room for from its first on: brokers in this process give as many at once.
const TOGETHER: usize = 64;

/// Timeout of messages where nobody sets another.
pub(crate) const MSG_TIMEOUT: Duration = Duration::from_secs(60);

/// Settings of a subscription.
///
/// ```
/// use libmq::{Start, SubscribeOptions};
///
/// let client = libmq::connect("mq:memory")?;
/// let options = SubscribeOptions { max_in_flight: 10, start: Start::Earliest, ..Default::default() };
/// let audit = client.subscribe("orders", "audit", options)?;
/// # drop(audit);
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Most messages that are here without an answer, over all brokers. Default 200; 1 to 1,000,000.
    pub max_in_flight: u32,
    /// Longest time that a message may be here without an answer before it is delivered again. Default 60 s;
    /// 1 s to 15 minutes, or zero: the brokers' own, which is 60 s in this process.
    pub msg_timeout: Duration,
    /// Percent of the messages that come here; the others count as delivered. 0, the default: all; at most
    /// 99.
    pub sample_rate: u8,
    /// The first message of a channel that is created; see [`Subscription::is_new`]. nsqd knows only the
    /// default.
    pub start: Start,
    /// Most bytes of body and headers that a message may have to come here. A larger one is put aside for
    /// `msg_timeout`, and then goes to another subscriber of the channel that takes it; where the channel has
    /// dead letters it is one in the end. Default 0: any. nsqd knows only the default.
    pub max_message_bytes: u32,
    /// Most bytes of bodies that are in flight here, over all brokers. Each of these has an equal share, and
    /// sends a single message that is larger when nothing else of it is in flight. Default 0: any. nsqd
    /// knows only the default.
    pub max_in_flight_bytes: u64,
}

/// The first message of a channel that a subscription creates. A channel that exists stays where it is.
///
/// A message is kept as long as some channel has not finished it or, while its topic has no channel, as it
/// waits in the topic.
///
/// ```
/// # use libmq::{Start, SubscribeOptions};
/// # let client = libmq::connect("mq:memory")?;
/// client.subscribe("orders", "billing", SubscribeOptions::default())?;
/// let receipt = client.publish("orders", "one pizza")?;
/// client.publish("orders", "two pizzas")?;
/// // A second channel, from the message behind the first: billing has not finished it.
/// let start = Start::Offset(receipt.offset.unwrap_or(0) + 1);
/// let options = SubscribeOptions { start, ..SubscribeOptions::default() };
/// let audit = client.subscribe("orders", "audit", options)?;
/// let message = audit.next(std::time::Duration::from_secs(1))?;
/// assert_eq!(message.unwrap().body(), "two pizzas");
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Start {
    /// The oldest message that is kept.
    Earliest,
    /// The next that is published. A topic's first channel drops what waits in the topic.
    Latest,
    /// The oldest that waits in the topic, which only a topic without channels has; else the next that is
    /// published.
    #[default]
    Waiting,
    /// The first one kept at this offset or after it.
    Offset(u64),
    /// The first one kept that was published at this time or later, in nanoseconds since 1970.
    Time(u64),
}

impl From<Start> for mq_core::Start {
    fn from(start: Start) -> Self {
        match start {
            Start::Earliest => Self::Earliest,
            Start::Latest => Self::Latest,
            Start::Waiting => Self::Now,
            Start::Offset(offset) => Self::Offset(Offset(offset)),
            Start::Time(time) => Self::Time(Wall(time)),
        }
    }
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self {
            max_in_flight: 200,
            msg_timeout: MSG_TIMEOUT,
            sample_rate: 0,
            start: Start::default(),
            max_message_bytes: 0,
            max_in_flight_bytes: 0,
        }
    }
}

impl SubscribeOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        in_range("max_in_flight", &self.max_in_flight, &1, &1_000_000)?;
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(15 * 60));
        if !self.msg_timeout.is_zero() {
            in_range("msg_timeout", &self.msg_timeout, &min, &max)?;
        }
        in_range("sample_rate", &self.sample_rate, &0, &99)
    }

    /// The first of its settings that NSQ's wire can't say, in words.
    pub(crate) fn beyond_nsq(&self) -> Option<&'static str> {
        if self.start != Start::default() {
            Some("to choose where a channel begins")
        } else if self.max_message_bytes > 0 {
            Some("to leave large messages to others")
        } else {
            (self.max_in_flight_bytes > 0).then_some("to bound the bytes in flight")
        }
    }

    /// Most bytes of a message, if there is such a limit.
    pub(crate) fn message_bytes_max(&self) -> Option<u32> {
        Some(self.max_message_bytes).filter(|max| *max > 0)
    }

    /// The timeout of messages: that which is set, else that which their broker granted.
    pub(crate) fn msg_timeout_or(&self, granted: Duration) -> Duration {
        let timeouts = [self.msg_timeout, granted, MSG_TIMEOUT];
        timeouts.into_iter().find(|timeout| !timeout.is_zero()).unwrap_or(MSG_TIMEOUT)
    }
}

/// An answer, a broker or a lookup server that failed.
///
/// ```
/// # let client = libmq::connect("mq:memory")?;
/// # let billing = client.subscribe("orders", "billing", libmq::SubscribeOptions::default())?;
/// for failure in billing.failures() {
///     eprintln!("{failure}");
/// }
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The broker or lookup server.
    pub broker: Arc<str>,
    /// The message whose answer failed: it is delivered again. `None` if it is about the server as a whole,
    /// which is tried again.
    pub message: Option<MessageId>,
    /// The reason.
    pub error: Error,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(id) = self.message {
            write!(f, "message {id}: ")?;
        }
        // The others name the broker themselves.
        if matches!(self.error, Error::Invalid(_) | Error::Timeout(_) | Error::Closed | Error::Forked) {
            write!(f, "{}: ", self.broker)?;
        }
        self.error.fmt(f)
    }
}

/// Failures, and the events that they are among, until they are asked for.
#[derive(Default)]
pub(crate) struct Failures {
    newest: Mutex<VecDeque<Failure>>,
    pub(crate) events: Events,
}

impl Failures {
    pub(crate) fn push(&self, failure: Failure) {
        let mut failures = self.newest.lock();
        if failures.len() == FAILURES_MAX {
            failures.pop_front();
        }
        failures.push_back(failure.clone());
        drop(failures);
        self.events.push(ConnectionEvent::Failed(failure));
    }

    pub(crate) fn take(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.newest.lock()).into()
    }
}

/// The brokers' end of a subscription.
pub(crate) trait Source: Send + Sync {
    /// Gives up to `max` messages, if some are there.
    fn take(&self, max: usize, sink: &mut dyn FnMut(Delivery)) -> Option<Result<()>>;
    /// Notified when [`Source::take`] may give something, and when a task ends.
    fn signal(&self) -> &Signal;
    /// Nobody waits for messages here for now.
    fn rest(&self);
    fn answer(&self, deliveries: &mut dyn Iterator<Item = &Delivery>, answer: Answer);
    fn failures(&self) -> &Failures;
    /// Gives back what nobody has taken, before the program turns the clock; a broker over the network has
    /// its own.
    #[cfg(feature = "embedded")]
    fn give_back(&self) {}
    /// Takes no more, and gives back what has no answer.
    fn close(&self);
    /// Whether closing is over.
    fn is_over(&self) -> bool;
    fn msg_timeout(&self) -> Duration;
    fn is_new(&self) -> Option<bool>;
    /// Whether the first attempt to subscribe is over at every broker there is so far.
    fn is_open(&self) -> bool;
    /// Waits until the answers so far are in the brokers' logs, or `deadline`. Returns whether that was
    /// enough.
    fn confirm(&self, deadline: Option<Instant>) -> Result<bool>;
    fn set_max_in_flight(&self, max: u32);
    /// Consumes from one more broker, if that is possible.
    fn add_broker(self: Arc<Self>, address: String) -> Result<()>;
    fn is_starved(&self) -> bool;
}

impl fmt::Debug for dyn Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source")
    }
}

/// A subscription to a channel. A handle, cheap to clone and to share between threads: each message goes to
/// one of those that wait. When the last handle is dropped, the subscription ends, as by
/// [`Subscription::close`] without waiting.
///
/// Connections that fail are made again until it ends.
///
/// ```
/// use std::time::Duration;
/// use libmq::SubscribeOptions;
///
/// let client = libmq::connect("mq:memory")?;
/// let billing = client.subscribe("orders", "billing", SubscribeOptions::default())?;
/// client.publish_many("orders", ["one pizza", "two pizzas"])?;
///
/// while let Some(message) = billing.next(Duration::from_millis(10))? {
///     if message.body().starts_with(b"one") || message.attempts() > 1 {
///         message.finish();
///     } else {
///         message.requeue(Duration::ZERO);
///     }
/// }
/// assert!(billing.failures().is_empty());
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone)]
pub struct Subscription {
    handle: Arc<Handle>,
}

struct Handle(OwnProcess<Arc<dyn Source>>);

impl Drop for Handle {
    fn drop(&mut self) {
        if let Ok(source) = self.0.get() {
            source.close();
        }
    }
}

/// Somebody who waits for messages until it is dropped.
struct Waiting<'a>(&'a dyn Source);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.rest();
    }
}

impl Subscription {
    pub(crate) fn new(source: Arc<dyn Source>) -> Self {
        Self { handle: Arc::new(Handle(OwnProcess::new(source))) }
    }

    fn source(&self) -> Result<&dyn Source> {
        self.handle.0.get().map(|source| &**source)
    }

    fn take_one(&self, source: &dyn Source) -> Option<Result<Message>> {
        let mut one = None;
        let taken = source.take(1, &mut |delivery| one = Some(delivery))?;
        taken.map(|()| one.map(|delivery| Message::new(delivery, self.handle.0.clone()))).transpose()
    }

    fn take_batch(&self, source: &dyn Source, max: usize) -> Option<Result<Batch>> {
        let mut deliveries = Vec::new();
        let taken = source.take(max, &mut |delivery| {
            if deliveries.is_empty() {
                deliveries.reserve(max.min(TOGETHER));
            }
            deliveries.push(delivery);
        })?;
        Some(taken.map(|()| Batch::new(deliveries, self.handle.0.clone())))
    }

    /// Waits up to `timeout` for a message; `None` if none came.
    ///
    /// # Errors
    /// `Closed` if the subscription is closed, or its channel deleted; `Refused` if the broker in this
    /// process can deliver nothing; `Unsupported` if a broker does not know what the options want;
    /// `Forked`.
    pub fn next(&self, timeout: Duration) -> Result<Option<Message>> {
        let source = self.source()?;
        let _waiting = Waiting(source);
        // The time is only asked for by whoever waits.
        if let Some(here) = self.take_one(source) {
            return here.map(Some);
        }
        source.signal().block_until(deadline(timeout), || self.take_one(source)).transpose()
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    ///
    /// # Cancel safety
    /// Dropping the future takes no message with it.
    pub async fn next_async(&self) -> Result<Message> {
        let source = self.source()?;
        let _waiting = Waiting(source);
        source.signal().until(|| self.take_one(source)).await
    }

    /// Waits up to `timeout` for messages, and gives those that are there then, at most `max`; an empty batch
    /// if none came.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn next_batch(&self, max: usize, timeout: Duration) -> Result<Batch> {
        let source = self.source()?;
        let _waiting = Waiting(source);
        let nothing = || Ok(Batch::new(Vec::new(), self.handle.0.clone()));
        if max == 0 {
            return nothing();
        }
        source
            .signal()
            .block_until(deadline(timeout), || self.take_batch(source, max))
            .unwrap_or_else(nothing)
    }

    /// Waits for messages, and gives those that are there then, at most `max`, which is 1 at least.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    ///
    /// # Cancel safety
    /// Dropping the future takes no message with it.
    pub async fn next_batch_async(&self, max: usize) -> Result<Batch> {
        let source = self.source()?;
        let _waiting = Waiting(source);
        source.signal().until(|| self.take_batch(source, max.max(1))).await
    }

    /// Waits for one message after the other. Ends once the subscription is closed. Finishes none of them.
    pub fn iter(&self) -> impl Iterator<Item = Result<Message>> + '_ {
        std::iter::from_fn(|| match self.next(Duration::MAX).transpose()? {
            Err(Error::Closed) => None,
            other => Some(other),
        })
    }

    /// Changes [`SubscribeOptions::max_in_flight`] from now on. 0 pauses the subscription: nothing more is
    /// sent here; what is here already still comes.
    ///
    /// # Errors
    /// `Invalid` for more than 1,000,000; `Forked`.
    pub fn set_max_in_flight(&self, max: u32) -> Result<()> {
        in_range("max_in_flight", &max, &0, &1_000_000)?;
        self.source()?.set_max_in_flight(max);
        Ok(())
    }

    /// Consumes from one more broker over the network, at `host:port`, until the subscription ends: beside
    /// those of the URL, whatever lookup servers say.
    ///
    /// # Errors
    /// `Invalid` for no address; `Unsupported` by a client of a broker in this process; `Forked`.
    pub fn add_broker(&self, address: &str) -> Result<()> {
        let addresses = crate::url::addresses("mq", address)?;
        let source = self.handle.0.get()?;
        addresses.into_iter().try_for_each(|address| Arc::clone(source).add_broker(address))
    }

    /// Whether a broker waits, or soon will, for answers before it sends more: 85 % of what it may have in
    /// flight is here. For programs that answer in batches: it is time to. `false` of a broker in this
    /// process, and in a child of `fork`.
    pub fn is_starved(&self) -> bool {
        self.source().is_ok_and(|source| source.is_starved())
    }

    /// Whether this subscription created its channel, which then begins at [`SubscribeOptions::start`].
    /// `None` before a broker over the network has answered, of nsqd, which does not say, and in a child of
    /// `fork`.
    pub fn is_new(&self) -> Option<bool> {
        self.source().ok()?.is_new()
    }

    /// Waits up to `timeout` until the first attempt to subscribe is over at every broker that is known by
    /// now, which [`Client::subscribe`](crate::Client::subscribe) has done. Returns whether that was enough.
    /// From then on the channel gets what is published at each broker that was reached; of the others
    /// [`Subscription::failures`] says why.
    ///
    /// # Errors
    /// `Forked`.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # let client = libmq::connect("mq:memory")?;
    /// let billing = client.subscribe_in_background("orders", "billing", Default::default())?;
    /// assert!(billing.opened(Duration::from_secs(1))?);
    /// # Ok::<(), libmq::Error>(())
    /// ```
    pub fn opened(&self, timeout: Duration) -> Result<bool> {
        let source = self.source()?;
        let is_open = || source.is_open().then_some(());
        Ok(source.signal().block_until(deadline(timeout), is_open).is_some())
    }

    /// The same as a future, without a bound.
    ///
    /// # Errors
    /// `Forked`.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn opened_async(&self) -> Result<()> {
        let source = self.source()?;
        source.signal().until(|| source.is_open().then_some(())).await;
        Ok(())
    }

    /// The failures since they were asked for last, the newest 1,000: answers that came too late, were lost
    /// with their connection or asked for too long a delay, and servers that can't be reached. None in a
    /// child of `fork`.
    pub fn failures(&self) -> Vec<Failure> {
        self.source().map_or_else(|_| Vec::new(), |source| source.failures().take())
    }

    /// Waits up to `timeout` until the answers given so far are in the log of their broker, where a crash
    /// does not undo them as its level promises. Returns whether that was enough. Answers that came too
    /// late are in [`Subscription::failures`].
    ///
    /// # Errors
    /// `Unsupported` of nsqd, which confirms nothing; `Refused` if a broker can't write; `Unreachable` if a
    /// connection ended meanwhile: what was finished over it may be delivered again; `Closed`, `Forked`.
    pub fn flush(&self, timeout: Duration) -> Result<bool> {
        self.source()?.confirm(deadline(timeout))
    }

    /// Waits for what happens to the connections of the subscription, and gives the newest 1,000 events since
    /// they were asked for last. None ever comes of a broker in this process but its failures.
    ///
    /// # Errors
    /// `Forked`.
    ///
    /// # Cancel safety
    /// Dropping the future takes no event with it.
    pub async fn events_async(&self) -> Result<Vec<ConnectionEvent>> {
        Ok(self.source()?.failures().events.take().await)
    }

    /// Ends the subscription for all its handles: answers given before go out, and what has none is given
    /// back; nsqd keeps what was taken without an answer until its timeout is over. Waits up to `timeout` and
    /// returns whether that was enough. Does nothing in a child of `fork`.
    pub fn close(&self, timeout: Duration) -> bool {
        self.source().is_ok_and(|source| close(source, deadline(timeout)))
    }
}

/// Closes a source, and waits until that is over, or `deadline`.
pub(crate) fn close(source: &dyn Source, deadline: Option<Instant>) -> bool {
    source.close();
    source.signal().block_until(deadline, || source.is_over().then_some(())).is_some()
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}
