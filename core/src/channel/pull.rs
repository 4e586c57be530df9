//! A pull of a subscriber: a fair share of what is ready, taken under the locks and handed out without them.

use std::sync::Arc;

use crate::channel::channel::{Inner, due_at};
use crate::channel::{Load, Pick, Subscription, Taken, Wanted};
use crate::clock::Mono;
use crate::message::{Attributes, Delivery, DeliveryToken, MessageId, Offset};
use crate::store::format::frame::Record;
use crate::store::memory::frame::Frame;
use crate::topic::TopicState;

/// The caller's next step after a pull, whether the pull handed out messages or not.
///
/// ```
/// # use mq_core::{Broker, Options, Parker, Pulled, SubscribeOptions};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// # use std::sync::Arc;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let (billing, _) = orders.channel(&"billing".parse()?, None)?;
/// let mut subscription = billing.subscribe(SubscribeOptions::default(), Arc::new(Parker::default()))?;
/// // Nothing is there: the parker is woken when there is.
/// assert_eq!(subscription.pull(1 << 20, &mut |_| {}), Pulled::Wait);
/// orders.delete_channel(billing.name())?.wait(&broker)?;
/// assert_eq!(subscription.pull(1 << 20, &mut |_| {}), Pulled::Closed);
/// # drop(subscription);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// There is no more for this subscriber now: it is woken when there may be.
    Wait,
    /// More may be ready for this subscriber: pull again, or rest.
    More,
    /// The channel was deleted, or the broker is closing.
    Closed,
    /// The topic is stopped for damage: see [`Subscription::damage`]. Nothing comes until the folder is
    /// repaired.
    Damaged,
}

/// A message taken this turn.
pub(super) struct TakenMessage {
    frame: u32,
    /// Place of its record in the frame's payload.
    at: u32,
    attempts: u16,
    offset: Offset,
}

/// The result of a turn under the locks.
enum Turn {
    Taken(Pulled),
    /// Nothing was taken: this has to be read from the log first.
    Load(Wanted),
}

/// Messages looked at in one turn, taken or not: bounds the time under the lock where most are sampled out.
const LOOKED_AT_MAX: usize = 1024;
/// Bytes of the caller's room that a message takes besides its body.
const OVERHEAD_BYTES: usize = 34;

impl Subscription {
    /// Hands a fair share of the ready messages, within this subscriber's credit, to `sink`; they are in
    /// flight from then on. `room` is how many bytes the caller has room for; one message is given even
    /// if it is larger.
    pub fn pull(&mut self, room: usize, sink: &mut dyn FnMut(&Delivery<'_>)) -> Pulled {
        self.pull_up_to(room, usize::MAX, sink)
    }

    /// [`Subscription::pull`] with at most `bodies` bytes of bodies. `None` if the next message has more:
    /// that one was left where it is, and this subscriber still has its turn: pull it, or rest.
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

    /// Takes messages under the locks, noting where their bodies are.
    fn turn(&mut self, room: usize, bodies: usize) -> Turn {
        (self.held_back, self.is_starved) = (false, false);
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
        if let Some((from, is_redelivery)) = missing {
            if !inner.loading {
                inner.loading = true;
                let wanted = if is_redelivery {
                    Wanted::Redeliveries(inner.wanted_redeliveries(&topic))
                } else {
                    Wanted::FirstDelivery(from)
                };
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
        let next = match self.is_starved {
            true => inner.state.starve(self.id, end),
            false => inner.state.park(self.id, end),
        };
        self.spare = if self.is_starved { 0 } else { inner.state.spare(self.id) };
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
        let share = inner.state.share(self.id, inner.end) as usize;
        let mut used = 0;
        let byte_room = inner.state.byte_room(self.id);
        let mut bodies_left = byte_room.map_or(bodies, |room| room.of_next().min(bodies));
        // Place of the reader in the last of `frames`, and the offset there.
        let (mut at, mut offset_at) = (0, Offset(u64::MAX));
        for _ in 0..LOOKED_AT_MAX {
            if self.taken.len() >= share {
                break;
            }
            let Some((offset, is_redelivery)) = self.choose(topic, inner, offset_at) else { break };
            let here = self.frames.last().is_some_and(|f| f.first <= offset && offset <= f.last());
            if !here {
                let Some(frame) = find(topic, inner, offset, is_redelivery) else {
                    return Some((offset, is_redelivery));
                };
                self.frames.push(frame);
            }
            let Some(frame) = self.frames.last() else { break };
            if !here || offset != offset_at {
                (at, offset_at) = near(frame, offset, inner.hint, here.then_some((at, offset_at)));
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
            let (len, is_first) = (record.body.len(), self.taken.is_empty());
            if len > bodies_left || (!is_first && used + len + OVERHEAD_BYTES > room) {
                self.held_back = is_first && len > bodies;
                self.is_starved = is_first && !self.held_back;
                break;
            }
            if let Some(attempts) = self.take_one(inner, offset, is_redelivery, &record, now) {
                used += len + OVERHEAD_BYTES;
                bodies_left -= len;
                let left = byte_room.and_then(|_| inner.state.count_bytes(self.id, offset, len));
                bodies_left = left.map_or(bodies_left, |left| left.of_next().min(bodies_left));
                let frame = self.frames.len() as u32 - 1;
                self.taken.push(TakenMessage { frame, at: at as u32, attempts, offset });
            }
            at += record.len;
            offset_at = offset.plus(1);
            if !is_redelivery {
                inner.hint = (self.frames.last().map_or(offset_at, |f| f.first), offset_at, at);
            }
        }
        None
    }

    /// The message to take next, and whether it was delivered before. `next` is the offset after the last one
    /// taken.
    #[inline]
    fn choose(&self, topic: &TopicState, inner: &mut Inner, next: Offset) -> Option<(Offset, bool)> {
        let end = inner.end;
        match inner.state.pick(self.id, end) {
            Pick::Nothing => None,
            Pick::Redelivery(offset) => Some((offset, true)),
            // The next of the same frame. After its last there may be a gap.
            Pick::FirstDelivery(pos)
                if pos.offset == next && self.frames.last().is_some_and(|f| next <= f.last()) =>
            {
                Some((next, false))
            }
            Pick::FirstDelivery(pos) => {
                let pos = topic.extents.seek(pos.offset, topic.end);
                (pos.rank < end.rank).then_some((pos.offset, false))
            }
        }
    }

    /// Takes a message. Returns its attempts if it is delivered now.
    #[inline]
    fn take_one(
        &self,
        inner: &mut Inner,
        offset: Offset,
        is_redelivery: bool,
        record: &Record<'_>,
        now: Mono,
    ) -> Option<u16> {
        let not_before = if record.is_plain() { None } else { record.attributes().not_before };
        let due = not_before.map(|at| due_at(at, self.channel.shared.clock.wall(), now));
        let taken = if is_redelivery {
            inner.state.take_redelivery(self.id, offset, due, now)
        } else {
            inner.state.take_first_delivery(self.id, offset, due, now)
        };
        if let Taken::Deliver(attempts) = taken { Some(attempts) } else { None }
    }

    /// Passes the taken messages to `sink`, without a lock.
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
        if load.read(self.channel.shared.io.is_running()) {
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

/// Place in the frame's payload of a record at or before `offset`, as near as is known, and its offset: by
/// the frame's marks, the channel's hint, and where the reader is, if it is in the frame.
fn near(
    frame: &Frame,
    offset: Offset,
    hint: (Offset, Offset, usize),
    reader: Option<(usize, Offset)>,
) -> (usize, Offset) {
    let start = (0, frame.first);
    let (first, hinted, hinted_at) = hint;
    let known = [
        frame.near(offset),
        if first == frame.first { (hinted_at, hinted) } else { start },
        reader.unwrap_or(start),
    ];
    let before = known.into_iter().filter(|(_, known)| *known <= offset);
    before.max_by_key(|(_, known)| *known).unwrap_or(start)
}

/// The frame that holds `offset`, in memory or in what was read ahead.
fn find(topic: &TopicState, inner: &mut Inner, offset: Offset, is_redelivery: bool) -> Option<Frame> {
    if let Some(frame) = topic.ring.find(offset) {
        return Some(frame.clone());
    }
    if is_redelivery {
        return inner.redelivery.find(offset).cloned();
    }
    inner.first_delivery.trim(offset);
    inner.first_delivery.find(offset).cloned()
}
