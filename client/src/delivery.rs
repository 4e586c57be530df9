//! Messages that came: one delivery, a message that can be answered, a batch of them.

use std::fmt;
use std::ops::{Bound, Deref, Index, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use mq_core::{DeliveryToken, MessageId};

use crate::credit::ConnectionId;
use crate::error::Result;
use crate::fork::OwnProcess;
use crate::subscription::Source;

/// One delivery of a message: what came, without a say in what becomes of it.
///
/// ```
/// # use std::time::Duration;
/// let client = libmq::connect("mq:memory")?;
/// let billing = client.subscribe("orders", "billing", libmq::SubscribeOptions::default())?;
/// client.publish("orders", libmq::NewMessage::new("one pizza").header("table", "4"))?;
/// for delivery in billing.next_batch(10, Duration::from_secs(1))?.iter() {
///     assert_eq!(delivery.body(), "one pizza");
///     assert_eq!(delivery.attempts(), 1);
///     assert_eq!(delivery.headers()[0].0, "table");
/// }
/// # Ok::<(), libmq::Error>(())
/// ```
pub struct Delivery {
    pub(crate) key: DeliveryKey,
    pub(crate) body: Bytes,
    pub(crate) headers: Vec<(String, Bytes)>,
    pub(crate) attempts: u16,
    pub(crate) timestamp: u64,
    pub(crate) offset: Option<u64>,
    pub(crate) broker: Arc<str>,
}

/// The identity of one delivery of a message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DeliveryKey {
    pub(crate) id: MessageId,
    /// `None` from nsqd, where the id alone decides.
    pub(crate) token: Option<DeliveryToken>,
    /// The connection it came over; 0 within this process.
    pub(crate) connection: ConnectionId,
}

/// An answer to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Finish,
    Requeue(Duration),
    /// A requeue whose delay is cut to what its broker takes.
    Return(Duration),
    /// Nobody looked at it.
    Release,
    Touch,
}

impl Delivery {
    /// The body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The id that its broker gave it.
    pub fn id(&self) -> MessageId {
        self.key.id
    }

    /// 1 on the first delivery to this channel. Saturates.
    pub fn attempts(&self) -> u16 {
        self.attempts
    }

    /// Time of its publish, in nanoseconds since 1970.
    pub fn timestamp(&self) -> u64 {
        self.timestamp
    }

    /// Its place in its topic; `None` from nsqd, which does not say.
    pub fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// Its headers, in the order in which they were published; nsqd has none.
    pub fn headers(&self) -> &[(String, Bytes)] {
        &self.headers
    }

    /// Its broker: the address or folder.
    pub fn broker(&self) -> &str {
        &self.broker
    }

    /// Delay after which the message comes again if nobody answers this delivery: none the first time, later
    /// a second for each attempt, at most the message timeout.
    fn delay_unanswered(&self, msg_timeout: Duration) -> Duration {
        let seconds = if self.attempts > 1 { u64::from(self.attempts) } else { 0 };
        Duration::from_secs(seconds).min(msg_timeout)
    }
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("id", &self.id())
            .field("attempts", &self.attempts())
            .field("bytes", &self.body().len())
            .finish_non_exhaustive()
    }
}

/// A message of a subscription, in flight until it is finished or requeued, or its timeout is over. Its
/// answers are plain calls that only queue: what becomes of them is in
/// [`Subscription::failures`](crate::Subscription::failures). An answer after the first does nothing.
///
/// It outlives its subscription and client; its answers do nothing then, nor in a child of `fork`. Dropped
/// without an answer it goes back to its channel: at once the first time, later after a second for each
/// attempt, at most the message timeout.
///
/// ```
/// # use std::time::Duration;
/// let client = libmq::connect("mq:memory")?;
/// let billing = client.subscribe("orders", "billing", libmq::SubscribeOptions::default())?;
/// client.publish("orders", "one pizza")?;
/// let Some(message) = billing.next(Duration::from_secs(1))? else { panic!("no order in a second") };
/// match &message.body()[..] {
///     b"one pizza" => message.finish(),
///     _ => message.requeue(Duration::from_secs(10)),
/// }
/// assert!(message.is_answered());
/// # Ok::<(), libmq::Error>(())
/// ```
#[must_use = "a message that is not finished is delivered again"]
pub struct Message {
    delivery: Delivery,
    source: OwnProcess<Arc<dyn Source>>,
    is_answered: AtomicBool,
}

impl Message {
    pub(crate) fn new(delivery: Delivery, source: OwnProcess<Arc<dyn Source>>) -> Self {
        Self { delivery, source, is_answered: AtomicBool::new(false) }
    }

    /// Finishes the message: the channel is done with it.
    pub fn finish(&self) {
        self.answer(Answer::Finish);
    }

    /// Returns the message to the channel, to be delivered again after `delay`: a year at most, and brokers
    /// over the network, which take whole milliseconds, have a lower bound of their own. A longer one is
    /// among the [failures](crate::Subscription::failures), and the message stays in flight until its timeout
    /// is over; nsqd cuts it.
    pub fn requeue(&self, delay: Duration) {
        self.answer(Answer::Requeue(delay));
    }

    /// The same with a delay that is cut to what its broker takes, as NSQ's clients have it.
    pub(crate) fn requeue_within_bound(&self, delay: Duration) {
        self.answer(Answer::Return(delay));
    }

    /// Returns the message to the channel as one that nobody looked at: it is delivered again at once, before
    /// others, and this delivery does not count as an attempt. For nsqd it is a requeue without a delay.
    pub fn release(&self) {
        self.answer(Answer::Release);
    }

    /// Starts the message's timeout anew. Does nothing once the message is answered.
    pub fn touch(&self) {
        if let (Ok(source), false) = (self.source.get(), self.is_answered()) {
            source.answer(&mut std::iter::once(&self.delivery), Answer::Touch);
        }
    }

    /// Fails in a child of `fork`, where answers do nothing.
    ///
    /// # Errors
    /// `Forked`.
    #[doc(hidden)] // For the packages of other languages.
    pub fn check_process(&self) -> Result<()> {
        self.source.get().map(drop)
    }

    /// Whether it was finished, requeued or released here.
    pub fn is_answered(&self) -> bool {
        self.is_answered.load(Ordering::Acquire)
    }

    fn answer(&self, answer: Answer) {
        if let Ok(source) = self.source.get()
            && !self.is_answered.swap(true, Ordering::AcqRel)
        {
            source.answer(&mut std::iter::once(&self.delivery), answer);
        }
    }
}

impl Deref for Message {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        &self.delivery
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        if let Ok(source) = self.source.get() {
            self.answer(Answer::Return(self.delivery.delay_unanswered(source.msg_timeout())));
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("delivery", &self.delivery)
            .field("is_answered", &self.is_answered())
            .finish_non_exhaustive()
    }
}

/// Messages that came together, answered together or one by one: an answer to many costs about as much as an
/// answer to one. Else as [`Message`], which its iteration gives.
///
/// ```
/// use std::time::Duration;
/// use libmq::SubscribeOptions;
///
/// let client = libmq::connect("mq:memory")?;
/// let billing = client.subscribe("orders", "billing", SubscribeOptions::default())?;
/// client.publish_many("orders", ["one pizza", "two pizzas", "three pizzas"])?;
///
/// let batch = billing.next_batch(100, Duration::from_secs(1))?;
/// let bytes: usize = batch.iter().map(|message| message.body().len()).sum();
/// batch.finish(..);
/// # assert_eq!((batch.len(), bytes), (3, 31));
/// # Ok::<(), libmq::Error>(())
/// ```
#[must_use = "messages that are not finished are delivered again"]
pub struct Batch {
    deliveries: Vec<Delivery>,
    /// One for each delivery.
    answered: Vec<AtomicBool>,
    source: OwnProcess<Arc<dyn Source>>,
}

impl Batch {
    pub(crate) fn new(deliveries: Vec<Delivery>, source: OwnProcess<Arc<dyn Source>>) -> Self {
        let answered = deliveries.iter().map(|_| AtomicBool::new(false)).collect();
        Self { deliveries, answered, source }
    }

    /// The number of messages.
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// The message at this place, from 0.
    pub fn get(&self, at: usize) -> Option<&Delivery> {
        self.deliveries.get(at)
    }

    /// Fails in a child of `fork`, where answers do nothing.
    ///
    /// # Errors
    /// `Forked`.
    #[doc(hidden)] // For the packages of other languages.
    pub fn check_process(&self) -> Result<()> {
        self.source.get().map(drop)
    }

    /// Drops bodies and headers: whoever has copied them needs the batch for its answers alone.
    #[doc(hidden)] // For the packages of other languages.
    pub fn forget_contents(&mut self) {
        for delivery in &mut self.deliveries {
            delivery.body = Bytes::new();
            delivery.headers = Vec::new();
        }
    }

    /// Whether the message at this place was finished, requeued or released here. Not for a place past the
    /// end.
    pub fn is_answered(&self, at: usize) -> bool {
        self.answered.get(at).is_some_and(|is_answered| is_answered.load(Ordering::Acquire))
    }

    /// The messages, in the order in which they came.
    pub fn iter(&self) -> std::slice::Iter<'_, Delivery> {
        self.deliveries.iter()
    }

    /// Finishes those of these messages that have no answer yet. Places past the end are no error.
    pub fn finish(&self, range: impl RangeBounds<usize>) {
        self.answer(range, Answer::Finish);
    }

    /// Returns those of these messages that have no answer yet, to be delivered again after `delay`, which is
    /// bounded as that of [`Message::requeue`].
    pub fn requeue(&self, range: impl RangeBounds<usize>, delay: Duration) {
        self.answer(range, Answer::Requeue(delay));
    }

    /// Returns those of these messages that have no answer yet as ones that nobody looked at: see
    /// [`Message::release`].
    pub fn release(&self, range: impl RangeBounds<usize>) {
        self.answer(range, Answer::Release);
    }

    /// Starts the timeout anew of those of these messages that have no answer yet.
    pub fn touch(&self, range: impl RangeBounds<usize>) {
        self.answer(range, Answer::Touch);
    }

    fn answer(&self, range: impl RangeBounds<usize>, answer: Answer) {
        let from = match range.start_bound() {
            Bound::Included(&at) => at,
            Bound::Excluded(&at) => at.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(&at) => at.saturating_add(1),
            Bound::Excluded(&at) => at,
            Bound::Unbounded => usize::MAX,
        };
        let count = to.min(self.len()).saturating_sub(from);
        let Ok(source) = self.source.get() else { return };
        let some = self.deliveries.iter().zip(&self.answered).skip(from).take(count);
        let unanswered = some.filter(|(_, is_answered)| match answer {
            Answer::Touch => !is_answered.load(Ordering::Acquire),
            Answer::Finish | Answer::Requeue(_) | Answer::Return(_) | Answer::Release => {
                !is_answered.swap(true, Ordering::AcqRel)
            }
        });
        let mut deliveries = unanswered.map(|(delivery, _)| delivery).peekable();
        if deliveries.peek().is_some() {
            source.answer(&mut deliveries, answer);
        }
    }
}

/// Panics past the end, as a slice does.
impl Index<usize> for Batch {
    type Output = Delivery;

    fn index(&self, at: usize) -> &Delivery {
        &self.deliveries[at]
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        let Ok(source) = self.source.get() else { return };
        let timeout = source.msg_timeout();
        // Runs of equal delays: nearly always one.
        let mut from = 0;
        for run in self.deliveries.chunk_by(|a, b| a.attempts == b.attempts) {
            let delay = run[0].delay_unanswered(timeout);
            self.answer(from..from + run.len(), Answer::Return(delay));
            from += run.len();
        }
    }
}

impl IntoIterator for Batch {
    type Item = Message;
    type IntoIter = Messages;

    fn into_iter(mut self) -> Messages {
        let deliveries = std::mem::take(&mut self.deliveries).into_iter();
        let answered = std::mem::take(&mut self.answered).into_iter();
        Messages { deliveries, answered, source: self.source.clone() }
    }
}

/// The messages of a [`Batch`], one by one. Those it was not asked for go back to their channel.
#[derive(Debug)]
pub struct Messages {
    deliveries: std::vec::IntoIter<Delivery>,
    answered: std::vec::IntoIter<AtomicBool>,
    source: OwnProcess<Arc<dyn Source>>,
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let (delivery, is_answered) = (self.deliveries.next()?, self.answered.next()?);
        Some(Message { delivery, source: self.source.clone(), is_answered })
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.deliveries.size_hint()
    }
}

impl ExactSizeIterator for Messages {}

impl Drop for Messages {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("deliveries", &self.deliveries).finish_non_exhaustive()
    }
}
