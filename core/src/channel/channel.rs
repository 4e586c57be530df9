//! A channel behind its lock, and what the topic, the log, timers and administrators do with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::store::format::numbers::ChannelNo;
use crate::sync::{Mutex, MutexGuard};

use crate::channel::read_ahead::ReadAhead;
use crate::channel::{Departure, State, SubId, SubscribeOptions, Subscription, Unfinished};
use crate::clock::{Mono, Wall, nanos};
use crate::config::ChannelSettings;
use crate::error::{Error, ErrorKind, Result};
use crate::latency::{Latency, Samples};
use crate::message::{Offset, Pos};
use crate::name::ChannelName;
use crate::shared::Shared;
use crate::store::format::event;
use crate::store::log::Ticket;
use crate::store::memory::frame::Frame;
use crate::store::read::reader;
use crate::topic::{Topic, TopicState};
use crate::wake::Wake;

/// A channel of a topic. Every channel gets every message; the subscribers of one share them.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let (billing, created) = orders.channel(&"billing".parse()?, None)?;
/// created.wait(&broker)?;
/// billing.pause()?.wait(&broker)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// assert_eq!(billing.depth(), 1);
/// # broker.close()
/// # }
/// ```
pub struct Channel {
    /// Its number, which no other channel ever gets.
    pub(crate) no: ChannelNo,
    name: ChannelName,
    pub(super) topic: Weak<Topic>,
    pub(super) shared: Arc<Shared>,
    pub(super) me: Weak<Channel>,
    /// Below this offset all is finished. Written under the lock, read without it.
    pub(crate) floor: AtomicU64,
    pub(super) inner: Mutex<Inner>,
    /// Held from reading the settings to changing them, so that none of two changes is lost. Taken before
    /// every other lock.
    pub(super) changing: Mutex<()>,
}

/// The parts that every new channel needs.
pub(crate) struct ChannelSetup {
    pub(crate) no: ChannelNo,
    pub(crate) name: ChannelName,
    pub(crate) topic: Weak<Topic>,
    pub(crate) shared: Arc<Shared>,
}

pub(super) struct Inner {
    pub(super) state: State<Arc<dyn Wake>>,
    /// The end of what the channel may read: the topic's pump position at its last call of
    /// [`Channel::advance`].
    pub(super) end: Pos,
    pub(super) closed: bool,
    /// Earliest entry of this channel in the timers' heap; `Mono::MAX` if none.
    pub(super) timer_at: Mono,
    /// Whether the channel is in the list of those with something for the log.
    pub(super) dirty: bool,
    subscribers: Vec<(SubId, Arc<dyn Wake>)>,
    /// Frames read from disk for first deliveries, and for redeliveries.
    pub(super) first_delivery: ReadAhead,
    pub(super) redelivery: ReadAhead,
    /// A read is on its way, and these wait for it.
    pub(super) loading: bool,
    pub(super) waiting: Vec<Arc<dyn Wake>>,
    /// The place (`hint.2`) of the record with offset `hint.1` in the payload of the frame that begins at
    /// `hint.0`.
    pub(super) hint: (Offset, Offset, usize),
    /// Messages an ephemeral channel skipped because too many waited.
    pub(super) skipped: u64,
    pub(super) settings: ChannelSettings,
    /// Messages below the end that did not arrive since the start: they did before, or were emptied from the
    /// topic.
    pub(super) uncounted: u64,
    /// Unfinished messages below the cursor that were damaged when the folder was opened, for checkpoints
    /// alone.
    pub(super) lost: Vec<event::Unfinished>,
    /// Present once a latency was measured.
    pub(super) latency: Option<Box<Latency>>,
    pub(super) samples: Samples,
    /// Ticket of the log frame that records the channel's creation.
    created: Ticket,
}

/// The unfinished messages of a channel or a topic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backlog {
    pub(crate) messages: u64,
    /// Bytes as stored; messages below the cursor count as of average size.
    pub(crate) bytes: u64,
}

impl Channel {
    /// A new channel whose cursor stands at `next`: it has the messages `below` too, and skips `gaps` from
    /// there on.
    pub(crate) fn beginning(
        setup: ChannelSetup,
        next: Pos,
        below: &[Offset],
        gaps: &[(Pos, Pos)],
        settings: ChannelSettings,
    ) -> Arc<Self> {
        let unfinished = below.iter().map(|&offset| Unfinished { offset, attempts: 0, due: Mono(0) });
        let mut state = State::restore(next, fastrand::u64(..), &settings, unfinished);
        gaps.iter().for_each(|(from, to)| state.add_gap(*from, *to));
        let arrived = Pos { rank: next.rank.saturating_sub(below.len() as u64), ..next };
        Self::with_state(setup, state, settings, arrived)
    }

    /// A channel as it was when the broker stopped; messages below `arrived` had arrived.
    pub(crate) fn restored(
        setup: ChannelSetup,
        next: Pos,
        unfinished: Vec<event::Unfinished>,
        paused: bool,
        settings: ChannelSettings,
        arrived: Pos,
    ) -> Arc<Self> {
        let (mono, wall) = (setup.shared.clock.mono(), setup.shared.clock.wall());
        let due = |at: Wall| if at == Wall(0) { Mono(0) } else { due_at(at, wall, mono).max(Mono(1)) };
        let unfinished = unfinished.into_iter().map(|u| Unfinished {
            offset: u.offset,
            attempts: u.attempts,
            due: due(u.due),
        });
        let mut state = State::restore(next, fastrand::u64(..), &settings, unfinished);
        state.pause(paused);
        Self::with_state(setup, state, settings, arrived)
    }

    fn with_state(
        setup: ChannelSetup,
        mut state: State<Arc<dyn Wake>>,
        settings: ChannelSettings,
        start: Pos,
    ) -> Arc<Self> {
        let ChannelSetup { no, name, topic, shared } = setup;
        let (floor, end) = (state.floor(), state.next());
        Arc::new_cyclic(|me| Self {
            no,
            name,
            topic,
            shared,
            me: me.clone(),
            floor: AtomicU64::new(floor.0),
            changing: Mutex::default(),
            inner: Mutex::new(Inner {
                state,
                end,
                closed: false,
                timer_at: Mono::MAX,
                dirty: false,
                subscribers: Vec::new(),
                first_delivery: ReadAhead::default(),
                redelivery: ReadAhead::default(),
                loading: false,
                waiting: Vec::new(),
                hint: (Offset(u64::MAX), Offset(0), 0),
                skipped: 0,
                settings,
                uncounted: start.rank,
                lost: Vec::new(),
                latency: None,
                samples: Samples::default(),
                created: Ticket::DONE,
            }),
        })
    }

    /// Sets the unfinished messages below the cursor that are damaged.
    pub(crate) fn set_lost(&self, lost: Vec<event::Unfinished>) {
        self.inner.lock().lost = lost;
    }

    /// The channel's name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// The channel's topic, unless that is gone.
    pub fn topic(&self) -> Option<Arc<Topic>> {
        self.topic.upgrade()
    }

    /// Ticket of the log frame that records the channel's creation.
    pub(crate) fn created(&self) -> Ticket {
        self.inner.lock().created
    }

    pub(crate) fn set_created(&self, ticket: Ticket) {
        self.inner.lock().created = ticket;
    }

    pub(crate) fn is_ephemeral(&self) -> bool {
        self.name.is_ephemeral()
    }

    /// Subscribes. `wake` is called when [`Subscription::pull`] may have something.
    ///
    /// # Errors
    /// `LimitReached` at the limit of subscribers; `Closed` if the channel was deleted; `Damaged` if the
    /// topic is stopped.
    pub fn subscribe(
        self: &Arc<Self>,
        options: SubscribeOptions,
        wake: Arc<dyn Wake>,
    ) -> Result<Subscription> {
        let closed = || Error::new(ErrorKind::Closed, format!("channel {} is closed", self.name));
        let topic = self.topic.upgrade().ok_or_else(closed)?;
        // Held until the subscriber is listed: it is woken if the topic stops after this.
        let state = topic.state.lock();
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(closed());
        }
        if let Some(damage) = &state.damage {
            return Err(damage.error(topic.name()));
        }
        let max = self.shared.options.max_channel_consumers;
        if max > 0 && inner.subscribers.len() as u64 >= max {
            return Err(Error::new(
                ErrorKind::LimitReached,
                format!("consumers for {}:{} exceeds limit of {max}", topic.name(), self.name),
            ));
        }
        let timeout = nanos(options.msg_timeout);
        let id = inner.state.subscribe(timeout, options.sample_rate, wake.clone());
        inner.subscribers.push((id, wake.clone()));
        drop(inner);
        drop(state);
        Ok(Subscription::new(self.clone(), topic, id, wake))
    }

    /// The wakes to call when the channel ends or its topic stops.
    pub(crate) fn wakes(&self) -> Vec<Arc<dyn Wake>> {
        self.inner.lock().subscribers.iter().map(|(_, wake)| wake.clone()).collect()
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&self, id: SubId, departure: Departure) {
        let mut inner = self.inner.lock();
        let now = self.shared.clock.mono();
        inner.state.unsubscribe(id, departure, now);
        inner.subscribers.retain(|(other, _)| *other != id);
        let abandoned = inner.subscribers.is_empty() && !inner.closed;
        if abandoned {
            inner.first_delivery.clear();
            inner.redelivery.clear();
        }
        self.notify_and_unlock(inner);
        if abandoned
            && self.is_ephemeral()
            && let Some(topic) = self.topic.upgrade()
        {
            topic.leave_ephemeral(&self.name);
        }
    }

    /// Ends a change: updates timers and the list of the dirty, and finds out who is to be woken. Every
    /// change of the state ends here.
    pub(super) fn notify_and_unlock(&self, inner: MutexGuard<'_, Inner>) {
        if let Some(wake) = self.end_change(inner) {
            wake.wake();
        }
    }

    /// [`Channel::notify_and_unlock`] by a subscriber that will pull next anyway, and need not be woken.
    pub(super) fn notify_others_and_unlock(&self, inner: MutexGuard<'_, Inner>, own: &Arc<dyn Wake>) {
        if let Some(wake) = self.end_change(inner).filter(|wake| !Arc::ptr_eq(wake, own)) {
            wake.wake();
        }
    }

    fn end_change(&self, mut inner: MutexGuard<'_, Inner>) -> Option<Arc<dyn Wake>> {
        let end = inner.end;
        let wake = inner.state.notify(end);
        self.note(&mut inner);
        wake
    }

    /// [`Channel::notify_and_unlock`] but for the waking.
    pub(super) fn note(&self, inner: &mut Inner) {
        self.floor.store(inner.state.floor().0, Ordering::Relaxed);
        let at = inner.state.wake_at();
        if at < inner.timer_at {
            inner.timer_at = at;
            self.shared.timers.add(at, self.me.clone());
        }
        if !inner.dirty && !inner.state.delta_is_empty() {
            inner.dirty = true;
            self.shared.dirty.channel(&self.me);
        }
    }

    /// The topic's pump position moved; `deferred` is the frame that moved it if it may hold deferred
    /// messages. Returns who is to be woken.
    pub(crate) fn advance(&self, topic: &TopicState, deferred: Option<&Frame>) -> Option<Arc<dyn Wake>> {
        let mut inner = self.inner.lock();
        inner.end = topic.pump;
        if self.is_ephemeral() {
            let keep = self.shared.ephemeral_limit(topic);
            if topic.pump.rank.saturating_sub(inner.state.next().rank) > keep {
                let to = topic.extents.at_rank(topic.pump.rank - keep, topic.end);
                if inner.skipped == 0 {
                    let topic = self.topic().map(|topic| topic.name().to_string()).unwrap_or_default();
                    tracing::info!(
                        "more than {keep} messages wait in channel {} of topic {topic}, which is ephemeral: the \
                         oldest are dropped and counted as skipped; said once for a channel",
                        self.name()
                    );
                }
                inner.skipped += inner.state.jump(to);
            }
        }
        if let Some(frame) = deferred {
            self.absorb(&mut inner, topic, frame);
        }
        let end = inner.end;
        let wake = inner.state.notify(end);
        self.note(&mut inner);
        wake
    }

    /// Counts a newly published frame's deferred messages as deferred where the channel has read all before
    /// them.
    fn absorb(&self, inner: &mut Inner, topic: &TopicState, frame: &Frame) {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        let first_rank = topic.end.rank - u64::from(frame.count);
        for (offset, record) in reader::records(frame, frame.first) {
            let at = Pos { offset, rank: first_rank + (offset.0 - frame.first.0) };
            let due = record.attributes().not_before.filter(|at| *at > wall);
            let absorbed = due.is_some_and(|due| inner.state.absorb(at, due_at(due, wall, mono)));
            if !absorbed {
                break;
            }
        }
    }

    /// Returns to the queue what has come due or timed out.
    pub(crate) fn expire(&self, entry_at: Mono, now: Mono) {
        let mut inner = self.inner.lock();
        if entry_at == inner.timer_at {
            inner.timer_at = Mono::MAX;
        }
        let end = inner.end;
        inner.state.expire(now, end);
        let dead = inner.begin_move(now);
        self.notify_and_unlock(inner);
        self.move_later(dead);
    }

    /// Skips new messages below `to`.
    pub(crate) fn jump(&self, to: Pos) {
        let mut inner = self.inner.lock();
        inner.skipped += inner.state.jump(to);
        self.notify_and_unlock(inner);
    }

    /// The channel's unfinished messages, in flight and deferred ones included.
    pub(crate) fn backlog(&self, topic: &TopicState) -> Backlog {
        let inner = self.inner.lock();
        let end = inner.end;
        let next = inner.state.next();
        let messages = inner.state.depth(end) + inner.state.in_flight() + inner.state.deferred();
        drop(inner);
        let bytes_from = |rank| topic.volume.bytes_from(rank, topic.end.rank);
        let new = end.rank.saturating_sub(next.rank);
        let new_bytes = bytes_from(next.rank).saturating_sub(bytes_from(end.rank));
        let average = bytes_from(0) / topic.end.rank.saturating_sub(topic.volume.first_rank()).max(1);
        Backlog { messages, bytes: new_bytes + messages.saturating_sub(new) * average }
    }

    /// Whether a message of a rank below `rank` waits here, in flight and deferred too.
    pub(crate) fn has_before(&self, rank: u64, topic: &TopicState) -> bool {
        let is_before = |offset| topic.extents.seek(offset, topic.end).rank < rank;
        let mut inner = self.inner.lock();
        // The floor costs less, and may be too low.
        is_before(inner.state.floor()) && is_before(inner.state.oldest())
    }

    /// Drops the `count` oldest messages that are not in flight. Returns who is to be woken.
    pub(crate) fn drop_oldest(&self, count: u64, topic: &TopicState) -> Option<Arc<dyn Wake>> {
        if count == 0 {
            return None;
        }
        let mut inner = self.inner.lock();
        let end = inner.end;
        inner.skipped += inner.state.drop_oldest(count, end, |rank| topic.extents.at_rank(rank, topic.end));
        self.end_change(inner)
    }

    /// Drops the messages below `to` that are not in flight. Returns who is to be woken.
    pub(crate) fn drop_below(&self, to: Pos) -> Option<Arc<dyn Wake>> {
        let mut inner = self.inner.lock();
        // The topic itself drops what the channel may not read yet.
        let to = if to.rank > inner.end.rank { inner.end } else { to };
        inner.skipped += inner.state.drop_below(to);
        self.end_change(inner)
    }

    /// The topic dropped `from..to`, which the channel could not read yet.
    pub(crate) fn add_gap(&self, from: Pos, to: Pos) {
        let mut inner = self.inner.lock();
        inner.state.add_gap(from, to);
        inner.uncounted += to.rank - from.rank;
        self.notify_and_unlock(inner);
    }

    /// Appends what is pending below the cursor to `below`, in no order, and returns the cursor: all from
    /// there on is pending.
    pub(crate) fn pending(&self, below: &mut Vec<Offset>) -> Offset {
        let inner = self.inner.lock();
        let (unfinished, next) = (inner.state.unfinished(), inner.state.next().offset);
        drop(inner);
        below.extend(unfinished.iter().map(|u| u.offset));
        next
    }

    /// The cursor, and the ranges from there on that it skips.
    pub(crate) fn ahead(&self) -> (Pos, Vec<(Pos, Pos)>) {
        let inner = self.inner.lock();
        (inner.state.next(), inner.state.gaps().collect())
    }

    /// Ends the channel. Returns who is to be woken.
    pub(crate) fn close(&self) -> Vec<Arc<dyn Wake>> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.first_delivery.clear();
        inner.redelivery.clear();
        inner.subscribers.iter().map(|(_, wake)| wake.clone()).collect()
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.inner.lock().subscribers.len()
    }

    /// Whether messages below the cursor are unfinished: those can be delivered again.
    pub(crate) fn may_redeliver(&self) -> bool {
        self.inner.lock().state.may_redeliver()
    }

    /// Gives back memory that a past burst needed.
    pub(crate) fn tidy(&self) {
        let mut inner = self.inner.lock();
        inner.state.tidy();
        let next = inner.state.next().offset;
        inner.first_delivery.trim(next);
        inner.redelivery.tidy();
    }
}

/// The monotonic time of the wall time `at`.
pub(super) fn due_at(at: Wall, wall: Wall, mono: Mono) -> Mono {
    mono.plus(at.since(wall))
}
