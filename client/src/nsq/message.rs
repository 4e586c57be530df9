//! Messages as handlers get them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mq_core::MessageId;

use super::backoff::Outcome;
use super::engine::Engine;
use crate::delivery::Message;

/// A message of a consumer. A handle, cheap to clone: one that is kept beyond its handler, after
/// [`NsqMessage::disable_auto_response`], is answered later, from any thread, and touched meanwhile. Once the
/// last clone is dropped without an answer, the message goes back to its channel. An answer after the first
/// does nothing.
///
/// ```no_run
/// use std::time::Duration;
/// use libmq::nsq::{Config, Consumer, Message};
///
/// let (later, work) = std::sync::mpsc::channel();
/// let consumer = Consumer::new("orders", "billing", &Config::default())?;
/// consumer.add_handler(move |message: &Message| {
///     message.disable_auto_response();
///     Ok(later.send(message.clone())?)
/// })?;
/// consumer.connect_to_nsqd("127.0.0.1:4150")?;
/// for message in work {
///     match message.body().first() {
///         Some(_) => message.finish(),
///         None => message.requeue(Duration::from_secs(5)),
///     }
/// }
/// # Ok::<(), libmq::Error>(())
/// ```
#[derive(Clone)]
pub struct NsqMessage(Arc<Held>);

/// A message in flight.
pub(super) struct Held {
    /// Goes back to its channel when it is dropped without an answer.
    message: Message,
    is_auto_response_disabled: AtomicBool,
    /// Dropped after the message.
    place: Place,
}

/// The place of a message among those in flight.
struct Place {
    number: u64,
    engine: Arc<Engine>,
    has_responded: AtomicBool,
}

impl Held {
    pub(super) fn touch(&self) {
        self.message.touch();
    }

    fn respond(&self, outcome: Outcome, send: impl FnOnce(&Message)) {
        if !self.place.has_responded.swap(true, Ordering::AcqRel) {
            self.place.engine.answered(self.place.number, outcome, || send(&self.message));
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !*self.has_responded.get_mut() {
            self.engine.dropped(self.number);
        }
    }
}

impl NsqMessage {
    pub(super) fn new(message: Message, number: u64, engine: Arc<Engine>) -> Self {
        Self(Arc::new(Held {
            message,
            is_auto_response_disabled: AtomicBool::new(false),
            place: Place { number, engine, has_responded: AtomicBool::new(false) },
        }))
    }

    pub(super) fn held(&self) -> &Arc<Held> {
        &self.0
    }

    /// The body.
    pub fn body(&self) -> &Bytes {
        self.0.message.body()
    }

    /// The id that its broker gave it.
    pub fn id(&self) -> MessageId {
        self.0.message.id()
    }

    /// 1 on the first delivery to this channel. Saturates.
    pub fn attempts(&self) -> u16 {
        self.0.message.attempts()
    }

    /// Time of its publish, in nanoseconds since 1970.
    pub fn timestamp(&self) -> u64 {
        self.0.message.timestamp()
    }

    /// Its broker: the address.
    pub fn nsqd_address(&self) -> &str {
        self.0.message.broker()
    }

    /// Its headers, in the order in which they were published; nsqd has none.
    pub fn headers(&self) -> &[(String, Bytes)] {
        self.0.message.headers()
    }

    /// Finishes the message: the channel is done with it.
    pub fn finish(&self) {
        self.0.respond(Outcome::Success, Message::finish);
    }

    /// Returns the message to its channel, and lets the consumer back off. It comes again after `delay`, a
    /// [`Duration`] that is cut to an hour, and to the broker's own bound; `None`:
    /// [`default_requeue_delay`](super::Config::default_requeue_delay) for each attempt.
    pub fn requeue(&self, delay: impl Into<Option<Duration>>) {
        self.requeue_as(Outcome::Failure, delay.into());
    }

    /// The same, but the consumer goes on as before.
    pub fn requeue_without_backoff(&self, delay: impl Into<Option<Duration>>) {
        self.requeue_as(Outcome::Neutral, delay.into());
    }

    fn requeue_as(&self, outcome: Outcome, delay: Option<Duration>) {
        let delay = self.0.place.engine.requeue_delay(self.attempts(), delay);
        self.0.respond(outcome, |message| message.requeue_within_bound(delay));
    }

    /// Starts the message's timeout anew. The consumer does it by itself while the message is held here;
    /// brokers bound how long that goes on, nsqd by 15 minutes. Does nothing once the message is answered.
    pub fn touch(&self) {
        self.0.touch();
    }

    /// The handler's result counts no more: the program answers by itself, sooner or later.
    pub fn disable_auto_response(&self) {
        self.0.is_auto_response_disabled.store(true, Ordering::Release);
    }

    /// Whether [`NsqMessage::disable_auto_response`] was called.
    pub fn is_auto_response_disabled(&self) -> bool {
        self.0.is_auto_response_disabled.load(Ordering::Acquire)
    }

    /// Whether it was finished or requeued here.
    pub fn has_responded(&self) -> bool {
        self.0.place.has_responded.load(Ordering::Acquire)
    }
}

impl fmt::Debug for NsqMessage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("id", &self.id())
            .field("attempts", &self.attempts())
            .field("bytes", &self.body().len())
            .field("has_responded", &self.has_responded())
            .finish_non_exhaustive()
    }
}
