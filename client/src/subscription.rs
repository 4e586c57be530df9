//! Subscriptions, and the messages that they give.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
#[cfg(feature = "embedded")]
use mq_core::DeliveryToken;
use mq_core::MessageId;
use parking_lot::Mutex;

use crate::config::in_range;
use crate::credit::ConnectionId;
use crate::error::{Error, Result};
use crate::publish::deadline;
use crate::signal::Signal;

/// Failures kept for [`Subscription::failures`]: the newest.
const FAILURES_MAX: usize = 1000;

/// Settings of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeOptions {
    /// Most messages that are here without an answer, over all brokers. Default 200; 1 to 1,000,000.
    pub max_in_flight: u32,
    /// Longest time that a message may be here without an answer before it is delivered again. Default 60 s;
    /// 1 s to 15 minutes.
    pub msg_timeout: Duration,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { max_in_flight: 200, msg_timeout: Duration::from_secs(60) }
    }
}

impl SubscribeOptions {
    pub(crate) fn validate(&self) -> Result<()> {
        in_range("max_in_flight", &self.max_in_flight, &1, &1_000_000)?;
        let (min, max) = (Duration::from_secs(1), Duration::from_secs(15 * 60));
        in_range("msg_timeout", &self.msg_timeout, &min, &max)
    }
}

/// An answer, a broker or a lookup server that failed.
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

/// Failures until they are asked for.
#[derive(Default)]
pub(crate) struct Failures(Mutex<VecDeque<Failure>>);

impl Failures {
    pub(crate) fn push(&self, failure: Failure) {
        let mut failures = self.0.lock();
        if failures.len() == FAILURES_MAX {
            failures.pop_front();
        }
        failures.push_back(failure);
    }

    pub(crate) fn take(&self) -> Vec<Failure> {
        std::mem::take(&mut *self.0.lock()).into()
    }
}

/// A message as it came.
pub(crate) struct Delivered {
    pub(crate) key: DeliveryKey,
    pub(crate) body: Bytes,
    pub(crate) headers: Vec<(String, Bytes)>,
    pub(crate) attempts: u16,
    pub(crate) timestamp: u64,
    pub(crate) offset: Option<u64>,
    pub(crate) broker: Arc<str>,
    /// It is delivered again then.
    pub(crate) deadline: Instant,
}

/// One delivery of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeliveryKey {
    pub(crate) id: MessageId,
    /// There from brokers in this process.
    #[cfg(feature = "embedded")]
    pub(crate) token: Option<DeliveryToken>,
    /// The connection it came over; 0 within this process.
    pub(crate) connection: ConnectionId,
}

/// An answer to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Finish,
    Requeue(Duration),
    Touch,
}

/// The brokers' end of a subscription.
pub(crate) trait Source: Send + Sync {
    /// The next message, if one is there.
    fn take(&self) -> Option<Result<Delivered>>;
    /// Notified when [`Source::take`] may give something, and when a task ends.
    fn signal(&self) -> &Signal;
    /// Nobody waits for messages here for now.
    fn rest(&self);
    fn answer(&self, key: DeliveryKey, broker: &Arc<str>, answer: Answer);
    fn failures(&self) -> &Failures;
    /// Takes no more, and gives back what has no answer.
    fn close(&self);
    /// Whether closing is over.
    fn is_over(&self) -> bool;
    fn msg_timeout(&self) -> Duration;
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

struct Handle(Arc<dyn Source>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.close();
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
        Self { handle: Arc::new(Handle(source)) }
    }

    fn source(&self) -> &Arc<dyn Source> {
        &self.handle.0
    }

    fn take(&self) -> Option<Result<Message>> {
        let message = |delivered| Message {
            delivered,
            source: Arc::clone(self.source()),
            is_answered: AtomicBool::new(false),
        };
        Some(self.source().take()?.map(message))
    }

    fn more(&self, first: Message, max: usize) -> Vec<Message> {
        let mut batch = vec![first];
        while batch.len() < max
            && let Some(Ok(message)) = self.take()
        {
            batch.push(message);
        }
        batch
    }

    /// Waits up to `timeout` for a message; `None` if none came.
    ///
    /// # Errors
    /// `Closed` if the subscription is closed, or its channel deleted; `Refused` if the broker in this
    /// process can deliver nothing.
    pub fn next(&self, timeout: Duration) -> Result<Option<Message>> {
        let _waiting = Waiting(&**self.source());
        self.source().signal().block_until(deadline(timeout), || self.take()).transpose()
    }

    /// Waits for a message.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    ///
    /// # Cancel safety
    /// Dropping the future takes no message with it.
    pub async fn next_async(&self) -> Result<Message> {
        let _waiting = Waiting(&**self.source());
        self.source().signal().until(|| self.take()).await
    }

    /// Waits up to `timeout` for messages, and gives those that are there then, at most `max`; none if none
    /// came.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    pub fn next_batch(&self, max: usize, timeout: Duration) -> Result<Vec<Message>> {
        let first = if max == 0 { None } else { self.next(timeout)? };
        Ok(first.map_or_else(Vec::new, |first| self.more(first, max)))
    }

    /// Waits for messages, and gives those that are there then, at most `max`, which is 1 at least.
    ///
    /// # Errors
    /// As [`Subscription::next`].
    ///
    /// # Cancel safety
    /// Dropping the future takes no message with it.
    pub async fn next_batch_async(&self, max: usize) -> Result<Vec<Message>> {
        let first = self.next_async().await?;
        Ok(self.more(first, max))
    }

    /// Waits for one message after the other. Ends once the subscription is closed. Finishes none of them.
    pub fn iter(&self) -> impl Iterator<Item = Result<Message>> + '_ {
        std::iter::from_fn(|| match self.next(Duration::MAX).transpose()? {
            Err(Error::Closed) => None,
            other => Some(other),
        })
    }

    /// The failures since they were asked for last, the newest 1,000: answers that came too late or were lost
    /// with their connection, and servers that can't be reached.
    pub fn failures(&self) -> Vec<Failure> {
        self.source().failures().take()
    }

    /// Ends the subscription for all its handles: answers given before go out, and what has none is given
    /// back. Waits up to `timeout` for it, and returns whether that was enough.
    pub fn close(&self, timeout: Duration) -> bool {
        self.source().close();
        let is_over = || self.source().is_over().then_some(());
        self.source().signal().block_until(deadline(timeout), is_over).is_some()
    }
}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription").finish_non_exhaustive()
    }
}

/// A message of a subscription, in flight until it is finished or requeued, or its timeout is over. Its
/// answers are plain calls that only queue: what becomes of them is in [`Subscription::failures`]. An answer
/// after the first does nothing.
///
/// It outlives its subscription and client; its answers do nothing then. Dropped without an answer it goes
/// back to its channel: at once the first time, later after a second for each attempt, at most the message
/// timeout.
#[must_use = "a message that is not finished is delivered again"]
pub struct Message {
    delivered: Delivered,
    source: Arc<dyn Source>,
    is_answered: AtomicBool,
}

impl Message {
    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.delivered.body
    }

    /// The id that its broker gave it.
    pub fn id(&self) -> MessageId {
        self.delivered.key.id
    }

    /// 1 on the first delivery to this channel. Saturates.
    pub fn attempts(&self) -> u16 {
        self.delivered.attempts
    }

    /// Time of its publish, in nanoseconds since 1970.
    pub fn timestamp(&self) -> u64 {
        self.delivered.timestamp
    }

    /// Its place in its topic; `None` from brokers over the network, which do not say yet.
    pub fn offset(&self) -> Option<u64> {
        self.delivered.offset
    }

    /// Its headers, in the order in which they were published; brokers over the network send none yet.
    pub fn headers(&self) -> &[(String, Bytes)] {
        &self.delivered.headers
    }

    /// Its broker: the address or folder.
    pub fn broker(&self) -> &str {
        &self.delivered.broker
    }

    /// Finishes the message: the channel is done with it.
    pub fn finish(&self) {
        self.answer(Answer::Finish);
    }

    /// Returns the message to the channel, to be delivered again after `delay`. Brokers over the network take
    /// whole milliseconds.
    pub fn requeue(&self, delay: Duration) {
        self.answer(Answer::Requeue(delay));
    }

    /// Starts the message's timeout anew. Does nothing once the message is answered.
    pub fn touch(&self) {
        if !self.is_answered.load(Ordering::Acquire) {
            self.source.answer(self.delivered.key, &self.delivered.broker, Answer::Touch);
        }
    }

    fn answer(&self, answer: Answer) {
        if !self.is_answered.swap(true, Ordering::AcqRel) {
            self.source.answer(self.delivered.key, &self.delivered.broker, answer);
        }
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let again = u32::from(self.delivered.attempts.saturating_sub(1));
        let seconds = if again == 0 { 0 } else { u64::from(again) + 1 };
        self.answer(Answer::Requeue(Duration::from_secs(seconds).min(self.source.msg_timeout())));
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id())
            .field("attempts", &self.attempts())
            .field("bytes", &self.body().len())
            .finish_non_exhaustive()
    }
}
