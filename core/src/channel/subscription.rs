//! One subscriber's handle: pulls messages, acknowledges them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sync::MutexGuard;

use crate::channel::channel::{Channel, Inner, due_at};
use crate::channel::{AckError, Departure, Load, Pick, SubId, SubscriberView, Taken, Wanted};
use crate::clock::Mono;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Attributes, Delivery, DeliveryToken, MessageId, Offset};
use crate::store::format::frame::Record;
use crate::store::log::{Frame, Wake};
use crate::topic::{Topic, TopicState};

/// A subscription of a caller that does not block: it is woken, pulls many messages at a time, and answers
/// them in runs. [`Consumer`](crate::Consumer) is the simple form. Dropping it ends it: what it holds returns
/// to the channel.
///
/// Being woken is a duty: after each wake, pull until the answer is not [`Pulled::More`], or
/// [`rest`](Self::rest); else the messages meant for this subscriber wait although others could take them.
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
    channel: Arc<Channel>,
    topic: Arc<Topic>,
    id: SubId,
    wake: Arc<dyn Wake>,
    /// Frames of the messages taken this turn; the last is the one being read.
    frames: Vec<Frame>,
    taken: Vec<TakenMessage>,
    /// Whether a turn ended before a message whose body was too large for what it may take.
    held_back: bool,
    /// Credit left over after the last turn.
    spare: u32,
    /// Random but for its lowest 16 bits, which are 0: see [`DeliveryToken`].
    mark: u64,
    /// Largest message, headers and all, that is delivered here.
    message_bytes_max: usize,
    departure: Departure,
}

/// A message taken this turn.
struct TakenMessage {
    frame: u32,
    /// Place of its record in the frame's payload.
    at: u32,
    attempts: u16,
    offset: Offset,
}

/// The caller's next step after a pull, whether the pull handed out messages or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// There is no more for this subscriber now: it is woken when there may be.
    Wait,
    /// It is this subscriber's turn again: pull, or rest.
    More,
    /// The channel was deleted, or the broker is closing.
    Closed,
    /// The topic is stopped for damage: see [`Subscription::damage`]. Nothing comes until the folder is
    /// repaired.
    Damaged,
}

/// The result of a turn under the locks.
enum Turn {
    Taken(Pulled),
    /// Nothing could be taken before this is read.
    Load(Wanted),
}

/// Messages looked at in one turn, taken or not: bounds the time under the lock where most are sampled out.
const LOOKED_AT_MAX: usize = 1024;
/// Bytes of the caller's room that a message takes besides its body.
const OVERHEAD_BYTES: usize = 34;

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

    /// Hands a fair share of the ready messages, within this subscriber's credit, to `sink`; they are in
    /// flight from then on. `room` is how many bytes the caller has room for; one message is given even
    /// if it is larger.
    pub fn pull(&mut self, room: usize, sink: &mut dyn FnMut(&Delivery<'_>)) -> Pulled {
        self.pull_up_to(room, usize::MAX, sink)
    }

    /// The same, with at most `bodies` bytes of bodies. `None` if the next message has more: it was left
    /// where it is, and this subscriber still has its turn: pull it, or rest.
    pub fn pull_within(
        &mut self,
        room: usize,
        bodies: usize,
        sink: &mut dyn FnMut(&Delivery<'_>),
    ) -> Option<Pulled> {
        let pulled = self.pull_up_to(room, bodies, sink);
        (!self.held_back).then_some(pulled)
    }

    fn pull_up_to(&mut self, room: usize, bodies: usize, sink: &mut dyn FnMut(&Delivery<'_>)) -> Pulled {
        loop {
            match self.turn(room, bodies) {
                Turn::Taken(pulled) => {
                    self.deliver(sink);
                    return pulled;
                }
                Turn::Load(wanted) => {
                    if !self.load(wanted) {
                        return Pulled::Wait;
                    }
                }
            }
        }
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
        let now = self.channel.shared.clock.mono();
        Acks { inner: Some(self.channel.inner.lock()), subscription: self, now }
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

    /// The error for a subscriber whose topic is stopped, of kind [`ErrorKind::Damaged`].
    pub fn damage(&self) -> Option<Error> {
        self.topic.state.lock().damage.as_ref().map(|damage| damage.error(self.topic.name()))
    }

    /// The channel's topic.
    pub fn topic(&self) -> &Arc<Topic> {
        &self.topic
    }

    /// Takes messages under the locks, noting where their bodies are.
    fn turn(&mut self, room: usize, bodies: usize) -> Turn {
        self.held_back = false;
        self.frames.clear();
        self.taken.clear();
        let channel = self.channel.clone();
        let topic = self.topic.clone();
        let topic = topic.state.lock();
        let mut inner = channel.inner.lock();
        if inner.closed || topic.deleted {
            return Turn::Taken(Pulled::Closed);
        }
        if topic.damage.is_some() {
            let end = inner.end;
            inner.state.rest(self.id, end);
            return Turn::Taken(Pulled::Damaged);
        }
        let missing = self.take(&topic, &mut inner, room, bodies).filter(|_| self.taken.is_empty());
        let end = inner.end;
        if let Some((from, again)) = missing {
            if !inner.loading {
                inner.loading = true;
                let wanted =
                    if again { Wanted::Again(inner.wanted_again(&topic)) } else { Wanted::Fresh(from) };
                return Turn::Load(wanted);
            }
            drop(topic);
            inner.waiting.push(self.wake.clone());
            let wake = inner.state.rest(self.id, end);
            channel.note(&mut inner);
            drop(inner);
            if let Some(wake) = wake {
                wake.wake();
            }
            return Turn::Taken(Pulled::Wait);
        }
        drop(topic);
        self.choose_sample(&mut inner);
        let next = inner.state.park(self.id, end);
        self.spare = inner.state.spare(self.id);
        channel.note(&mut inner);
        drop(inner);
        let pulled = match next {
            Some(wake) if Arc::ptr_eq(&wake, &self.wake) => Pulled::More,
            Some(wake) => {
                wake.wake();
                Pulled::Wait
            }
            None => Pulled::Wait,
        };
        Turn::Taken(pulled)
    }

    fn is_too_large(&self, record: &Record<'_>) -> bool {
        let headers = record.attributes().headers.map_or(0, <[u8]>::len);
        record.body.len() + headers > self.message_bytes_max
    }

    /// Has the first message of the turn measured, where that is wanted.
    fn choose_sample(&self, inner: &mut Inner) {
        let shared = &self.channel.shared;
        if let Some(first) = self.taken.first().filter(|_| shared.measuring.is_on()) {
            let published = self.frames[first.frame as usize].time;
            inner.samples.choose(first.offset, published, shared.clock.mono());
        }
    }

    /// Takes what is this subscriber's share and in memory. Returns what has to be read first, if that ended
    /// it.
    fn take(
        &mut self,
        topic: &TopicState,
        inner: &mut Inner,
        room: usize,
        bodies: usize,
    ) -> Option<(Offset, bool)> {
        let shared = &self.channel.shared;
        let now = shared.clock.mono();
        let end = inner.end;
        let share = inner.state.share(self.id, end) as usize;
        let (mut used, mut bodies_left) = (0, bodies);
        // Place of the reader in the last of `frames`, and the offset there.
        let (mut at, mut offset_at) = (0, Offset(u64::MAX));
        for _ in 0..LOOKED_AT_MAX {
            if self.taken.len() >= share {
                break;
            }
            let (offset, again) = match inner.state.pick(self.id, end) {
                Pick::Nothing => break,
                Pick::Again(offset) => (offset, true),
                // The next of the same frame. After its last there may be a gap.
                Pick::Fresh(pos)
                    if pos.offset == offset_at
                        && self.frames.last().is_some_and(|f| offset_at <= f.last()) =>
                {
                    (pos.offset, false)
                }
                Pick::Fresh(pos) => {
                    let pos = topic.extents.seek(pos.offset, topic.end);
                    if pos.rank >= end.rank {
                        break;
                    }
                    (pos.offset, false)
                }
            };
            let here = self.frames.last().is_some_and(|f| f.first <= offset && offset <= f.last());
            if !here {
                let Some(frame) = find(topic, inner, offset, again) else { return Some((offset, again)) };
                self.frames.push(frame);
            }
            let Some(frame) = self.frames.last() else { break };
            if !here || offset != offset_at {
                let (first, hinted, hinted_at) = inner.hint;
                let known = [
                    frame.near(offset),
                    if first == frame.first { (hinted_at, hinted) } else { (0, frame.first) },
                    if here { (at, offset_at) } else { (0, frame.first) },
                ];
                let before = known.into_iter().filter(|(_, known)| *known <= offset);
                (at, offset_at) = before.max_by_key(|(_, known)| *known).unwrap_or((0, frame.first));
            }
            while offset_at < offset {
                at += Record::parse(&frame.payload[at..])?.len;
                offset_at = offset_at.plus(1);
            }
            let record = Record::parse(&frame.payload[at..])?;
            if record.len > self.message_bytes_max && self.is_too_large(&record) {
                inner.state.put_aside(self.id, offset, now);
                at += record.len;
                offset_at = offset.plus(1);
                continue;
            }
            let cost = record.body.len() + OVERHEAD_BYTES;
            let is_first = self.taken.is_empty();
            if record.body.len() > bodies_left || (!is_first && used + cost > room) {
                self.held_back = is_first;
                break;
            }
            let not_before = if record.is_plain() { None } else { record.attributes().not_before };
            let due = not_before.map(|at| due_at(at, shared.clock.wall(), now));
            let taken = if again {
                inner.state.take_again(self.id, offset, due, now)
            } else {
                inner.state.take_fresh(self.id, offset, due, now)
            };
            if let Taken::Deliver(attempts) = taken {
                used += cost;
                bodies_left -= record.body.len();
                let frame = self.frames.len() as u32 - 1;
                self.taken.push(TakenMessage { frame, at: at as u32, attempts, offset });
            }
            at += record.len;
            offset_at = offset.plus(1);
            if !again {
                inner.hint = (self.frames.last().map_or(offset_at, |f| f.first), offset_at, at);
            }
        }
        None
    }

    /// Hands out what was taken, without a lock.
    fn deliver(&mut self, sink: &mut dyn FnMut(&Delivery<'_>)) {
        let node = self.channel.shared.options.node_id;
        for message in &self.taken {
            let frame = &self.frames[message.frame as usize];
            let Some(record) = Record::parse(&frame.payload[message.at as usize..]) else { continue };
            let attributes = if record.is_plain() { Attributes::NONE } else { record.attributes() };
            sink(&Delivery {
                id: MessageId::new(node, message.offset),
                token: Some(DeliveryToken::new(
                    MessageId::new(node, message.offset),
                    self.mark,
                    message.attempts,
                )),
                time: frame.time,
                attempts: message.attempts,
                attributes,
                body: record.body,
            });
        }
        self.frames.clear();
        self.taken.clear();
    }

    /// Reads from disk, at once if nothing need be waited for. Whether it did.
    fn load(&mut self, wanted: Wanted) -> bool {
        let load = Load { channel: self.channel.clone(), wanted };
        if load.run(self.channel.shared.io.is_running()) {
            return true;
        }
        let mut inner = self.channel.inner.lock();
        inner.waiting.push(self.wake.clone());
        let end = inner.end;
        let wake = inner.state.rest(self.id, end);
        drop(inner);
        if let Some(wake) = wake {
            wake.wake();
        }
        self.channel.shared.read_later(load);
        false
    }
}

/// The frame that holds `offset`, in memory or in what was read ahead.
fn find(topic: &TopicState, inner: &mut Inner, offset: Offset, again: bool) -> Option<Frame> {
    if let Some(frame) = topic.ring.find(offset) {
        return Some(frame.clone());
    }
    if again {
        return inner.redelivery.find(offset).cloned();
    }
    inner.first_delivery.trim(offset);
    inner.first_delivery.find(offset).cloned()
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.channel.unsubscribe(self.id, self.departure);
    }
}

/// A run of acknowledgements. Only the subscriber that holds a message can acknowledge it; anything else is
/// an error that changes nothing.
pub struct Acks<'a> {
    subscription: &'a Subscription,
    /// `None` only while it is dropped.
    inner: Option<MutexGuard<'a, Inner>>,
    now: Mono,
}

impl Acks<'_> {
    /// Sets the number of messages that may be in flight here at once; 0 stops delivery.
    pub fn set_credit(&mut self, credit: u32) {
        if let Some(inner) = &mut self.inner {
            inner.state.set_credit(self.subscription.id, credit);
        }
    }

    /// The message of a delivery, if it is the one in flight here now.
    ///
    /// # Errors
    /// `NotInFlight` if that delivery is over: finished, requeued, timed out, or of another subscriber.
    pub fn delivered(&self, token: DeliveryToken) -> Result<MessageId> {
        let sub = self.subscription;
        let attempts = self.inner.as_ref().filter(|inner| !inner.closed);
        let attempts = attempts.and_then(|inner| inner.state.attempts(sub.id, token.id.offset()));
        let current = attempts.map(|attempts| {
            let node = sub.channel.shared.options.node_id;
            DeliveryToken::new(MessageId::new(node, token.id.offset()), sub.mark, attempts)
        });
        match current == Some(token) {
            true => Ok(token.id),
            false => Err(Error::new(ErrorKind::NotInFlight, "this delivery is not in flight any more")),
        }
    }

    /// The message was not looked at: it is delivered again at once, before others, and this delivery does
    /// not count.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn release(&mut self, id: MessageId) -> Result<()> {
        self.with(id, |inner, sub, offset, _| inner.state.release(sub, offset))
    }

    /// The message is done.
    ///
    /// # Errors
    /// `NotInFlight` if it is unknown, finished, timed out, emptied or its channel deleted; `NotOwner` if it
    /// is in flight elsewhere.
    pub fn finish(&mut self, id: MessageId) -> Result<()> {
        let shared = &self.subscription.channel.shared;
        self.with(id, |inner, sub, offset, now| {
            inner.state.finish(sub, offset)?;
            if let Some(published) = inner.samples.take(offset) {
                let took = shared.clock.wall().saturating_sub(published);
                inner.latency.get_or_insert_default().add(took, now, &shared.measuring);
            }
            Ok(())
        })
    }

    /// The message is to be delivered again after `delay`, and after all that waits by then.
    ///
    /// # Errors
    /// The same as [`finish`](Self::finish).
    pub fn requeue(&mut self, id: MessageId, delay: Duration) -> Result<()> {
        let delay = nanos(delay);
        self.with(id, |inner, sub, offset, now| {
            let end = inner.end;
            inner.state.requeue(sub, offset, delay, now, end)
        })
    }

    /// The message's timeout starts anew, up to the longest the broker allows.
    ///
    /// # Errors
    /// The same as [`finish`](Self::finish).
    pub fn touch(&mut self, id: MessageId) -> Result<()> {
        let max = nanos(self.subscription.channel.shared.options.max_msg_timeout);
        self.with(id, |inner, sub, offset, now| inner.state.touch(sub, offset, now, max))
    }

    fn with(
        &mut self,
        id: MessageId,
        act: impl FnOnce(&mut Inner, SubId, Offset, Mono) -> Result<(), AckError>,
    ) -> Result<()> {
        let sub = self.subscription;
        let ours = id.node() == sub.channel.shared.options.node_id;
        let result = match &mut self.inner {
            // A deleted channel holds nothing.
            Some(inner) if ours && !inner.closed => act(inner, sub.id, id.offset(), self.now),
            _ => Err(AckError::NotInFlight),
        };
        result.map_err(|e| match e {
            AckError::NotInFlight => Error::new(ErrorKind::NotInFlight, "ID not in flight"),
            AckError::NotOwner => Error::new(ErrorKind::NotOwner, "client does not own message"),
        })
    }
}

impl Drop for Acks<'_> {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let sub = self.subscription;
        sub.channel.notify_others_and_unlock(inner, &sub.wake);
        if sub.channel.floor.load(Ordering::Relaxed) > sub.topic.trim_at.load(Ordering::Relaxed) {
            sub.topic.trim();
        }
    }
}

/// Nanoseconds of `duration`.
pub(crate) fn nanos(duration: Duration) -> Mono {
    u64::try_from(duration.as_nanos()).unwrap_or(Mono::MAX)
}
