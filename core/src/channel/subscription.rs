//! One subscriber's handle.

use std::sync::Arc;
use std::time::Duration;

use crate::channel::channel::Channel;
use crate::channel::pull::TakenMessage;
use crate::channel::{Acks, Departure, SubId, SubscriberView};
use crate::clock::nanos;
use crate::error::Error;
use crate::message::MessageId;
use crate::store::memory::frame::Frame;
use crate::topic::Topic;
use crate::wake::Wake;

/// Settings of a subscription.
///
/// ```
/// # use std::time::Duration;
/// # use mq_core::SubscribeOptions;
/// let slow = SubscribeOptions { msg_timeout: Duration::from_secs(600), ..SubscribeOptions::default() };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SubscribeOptions {
    /// Longest time that a message may be in flight before it is delivered again. Default 60 s.
    pub msg_timeout: Duration,
    /// 0 for all messages, the default, else about that many percent of them: the others are finished
    /// undelivered.
    pub sample_rate: u8,
}

impl Default for SubscribeOptions {
    fn default() -> Self {
        Self { msg_timeout: Duration::from_secs(60), sample_rate: 0 }
    }
}

/// A subscription of a caller that does not block: it is woken, pulls many messages at a time, and answers
/// them in runs. [`Consumer`](crate::Consumer) is the simple form. Dropping it ends it: what it holds returns
/// to the channel.
///
/// Being woken is a duty: after each wake, pull until the answer is not
/// [`Pulled::More`](crate::Pulled::More), or [`rest`](Self::rest); else the messages meant for this
/// subscriber wait although others could take them.
///
/// ```
/// # use std::sync::Arc;
/// # use mq_core::{Broker, Options, Parker, Pulled, Start, SubscribeOptions, Wake};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// # let (topic, channel) = ("orders".parse()?, "billing".parse()?);
/// let parker = Arc::new(Parker::default());
/// let wake: Arc<dyn Wake> = parker.clone();
/// let (mut subscription, opened) =
///     broker.subscribe_at(&topic, &channel, Start::Now, SubscribeOptions::default(), &wake)?;
/// opened.ticket.wait(&broker)?;
/// subscription.acks().set_credit(100);
/// broker.topic(&topic)?.publish_one(b"one pizza")?.wait(&broker)?;
///
/// let mut ids = Vec::new();
/// while ids.is_empty() {
///     if subscription.pull(1 << 20, &mut |message| ids.push(message.id)) == Pulled::Wait && ids.is_empty() {
///         parker.park(None);
///     }
/// }
/// let mut acks = subscription.acks();
/// for id in ids {
///     acks.finish(id)?;
/// }
/// # drop(acks);
/// # broker.close()
/// # }
/// ```
pub struct Subscription {
    pub(super) channel: Arc<Channel>,
    pub(super) topic: Arc<Topic>,
    pub(super) id: SubId,
    pub(super) wake: Arc<dyn Wake>,
    /// Frames of the messages taken this turn; the last is the one being read.
    pub(super) frames: Vec<Frame>,
    pub(super) taken: Vec<TakenMessage>,
    /// Whether a turn ended before a message whose body was too large for what it may take.
    pub(super) held_back: bool,
    /// Whether a turn ended before a message because of the bytes in flight here.
    pub(super) is_starved: bool,
    /// Credit left over after the last turn.
    pub(super) spare: u32,
    /// Random but for its lowest 16 bits, which are 0: see [`DeliveryToken`].
    pub(super) mark: u64,
    /// Largest message, headers and all, that is delivered here.
    pub(super) message_bytes_max: usize,
    pub(super) departure: Departure,
}

impl Subscription {
    pub(super) fn new(channel: Arc<Channel>, topic: Arc<Topic>, id: SubId, wake: Arc<dyn Wake>) -> Self {
        Self {
            channel,
            topic,
            id,
            wake,
            frames: Vec::new(),
            taken: Vec::new(),
            held_back: false,
            is_starved: false,
            spare: 0,
            mark: fastrand::u64(..) & !u64::from(u16::MAX),
            message_bytes_max: usize::MAX,
            departure: Departure::Abrupt,
        }
    }

    /// Messages whose body and headers take more than `bytes` are not delivered here: they are put aside for
    /// this subscriber's message timeout, without counting an attempt, and go to whoever can take them.
    pub fn set_message_bytes_max(&mut self, bytes: usize) {
        self.message_bytes_max = bytes;
    }

    /// Changes how long messages that are delivered or touched from now on may be in flight.
    pub fn set_msg_timeout(&self, timeout: Duration) {
        self.channel.inner.lock().state.set_msg_timeout(self.id, nanos(timeout));
    }

    /// Ends the subscription in a way that decides when what it holds comes again. One that is only dropped
    /// leaves abruptly.
    pub fn leave(mut self, departure: Departure) {
        self.departure = departure;
    }

    /// Decides ahead how the subscription ends when it is dropped.
    pub fn set_departure(&mut self, departure: Departure) {
        self.departure = departure;
    }

    /// Messages that it could have taken besides, when it last pulled.
    pub fn spare(&self) -> u32 {
        self.spare
    }

    /// Ends this subscriber's turn because it can take nothing for now, whatever its credit. It is not woken
    /// until it has pulled again.
    pub fn rest(&mut self) {
        let mut inner = self.channel.inner.lock();
        let end = inner.end;
        let wake = inner.state.rest(self.id, end);
        drop(inner);
        if let Some(wake) = wake {
            wake.wake();
        }
    }

    /// Begins a run of acknowledgements: one lock for all, which other subscribers wait for. Pull after it is
    /// dropped: it wakes others, but not this subscriber.
    ///
    /// ```compile_fail,E0502
    /// # fn both(mut subscription: mq_core::Subscription) {
    /// let acks = subscription.acks();
    /// // It would wait for the lock that `acks` holds.
    /// subscription.in_flight();
    /// drop(acks);
    /// # }
    /// ```
    ///
    /// The same holds for [`Channel::stats`] and the like on this thread, which the compiler can't see.
    pub fn acks(&mut self) -> Acks<'_> {
        Acks::new(self)
    }

    /// Messages in flight here.
    pub fn in_flight(&self) -> u64 {
        let inner = self.channel.inner.lock();
        inner.state.subscriber_stats(self.id).map_or(0, |stats| u64::from(stats.in_flight))
    }

    /// Whether a message is in flight here.
    pub fn holds(&self, id: MessageId) -> bool {
        let ours = id.node() == self.channel.shared.options.node_id;
        ours && self.channel.inner.lock().state.holds(self.id, id.offset())
    }

    /// A view of the subscriber's numbers from outside.
    pub fn view(&self) -> SubscriberView {
        SubscriberView { channel: Arc::downgrade(&self.channel), id: self.id }
    }

    /// The channel.
    pub fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// The error for a subscriber whose topic is stopped, of kind `Damaged`.
    pub fn damage(&self) -> Option<Error> {
        self.topic.state.lock().damage.as_ref().map(|damage| damage.error(self.topic.name()))
    }

    /// The channel's topic.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.channel.unsubscribe(self.id, self.departure);
    }
}
