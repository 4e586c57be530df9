//! A channel behind its lock, and what the topic, the log, timers and administrators do with it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::broker::Shared;
use crate::channel::window::Window;
use crate::channel::{Delta, State, SubId, Subscription, Unfinished};
use crate::clock::{Mono, Wall};
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, Pos};
use crate::name::ChannelName;
use crate::store::event::{self, Event};
use crate::store::log::{Frame, Ticket, Wake};
use crate::store::reader;
use crate::topic::{Topic, TopicState};

/// A channel of a topic. Every channel gets every message; the subscribers of one share them.
pub struct Channel {
    /// Never used again.
    pub(crate) no: u32,
    name: ChannelName,
    pub(super) topic: Weak<Topic>,
    pub(super) shared: Arc<Shared>,
    me: Weak<Channel>,
    /// Below this offset all is finished. Written under the lock, read without it.
    pub(crate) floor: AtomicU64,
    pub(super) inner: Mutex<Inner>,
}

/// What makes a channel.
pub(crate) struct ChannelSetup {
    pub(crate) no: u32,
    pub(crate) name: ChannelName,
    pub(crate) topic: Weak<Topic>,
    pub(crate) shared: Arc<Shared>,
}

pub(super) struct Inner {
    pub(super) state: State<Arc<dyn Wake>>,
    /// How far the channel may read: the topic's pump position when it last told.
    pub(super) end: Pos,
    pub(super) closed: bool,
    /// Earliest entry of this channel in the timers' heap; `Mono::MAX` if none.
    pub(super) timer_at: Mono,
    /// Whether the channel is in the list of those with something for the log.
    dirty: bool,
    subscribers: Vec<(SubId, Arc<dyn Wake>)>,
    /// What was read from disk to be delivered for the first time, and again.
    pub(super) fresh: Window,
    pub(super) again: Window,
    /// A read is on its way, and these wait for it.
    pub(super) loading: bool,
    pub(super) waiting: Vec<Arc<dyn Wake>>,
    /// Where the record at `hint.1` stands in the payload of the frame that begins at `hint.0`.
    pub(super) hint: (Offset, Offset, usize),
    /// Messages an ephemeral channel skipped because too many waited.
    skipped: u64,
    /// For the frame that tells of the channel.
    created: Ticket,
}

/// How a subscriber wants its messages.
#[derive(Clone, Copy, Debug)]
pub struct SubscribeOptions {
    /// How long a message may be in flight before it is delivered again.
    pub msg_timeout: Duration,
    /// 0 for all messages, else about that many percent of them: the others are finished undelivered.
    pub sample_rate: u8,
}

/// A channel's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelStats {
    /// Messages waiting for a subscriber.
    pub depth: u64,
    /// Messages at subscribers, unfinished.
    pub in_flight: u64,
    /// Messages waiting for their time.
    pub deferred: u64,
    /// How often messages were requeued.
    pub requeued: u64,
    /// How often messages timed out.
    pub timed_out: u64,
    /// Messages skipped because too many waited (ephemeral channels).
    pub skipped: u64,
    /// Subscribers.
    pub subscribers: u64,
    /// Bytes of memory held for messages in flight, waiting again or deferred: some 32 for each.
    pub memory: u64,
}

/// A read that a channel waits for.
pub(crate) struct Load {
    pub(crate) channel: Arc<Channel>,
    pub(crate) from: Offset,
    /// For redelivery, rather than for first deliveries.
    pub(crate) again: bool,
}

impl Channel {
    /// A channel whose cursor stands at `start`.
    pub(crate) fn new(setup: ChannelSetup, start: Pos) -> Arc<Self> {
        let state = State::new(start, fastrand::u64(..));
        Self::with_state(setup, state)
    }

    /// A channel as it was when the broker stopped.
    pub(crate) fn restored(
        setup: ChannelSetup,
        next: Pos,
        unfinished: Vec<event::Unfinished>,
        paused: bool,
    ) -> Arc<Self> {
        let (mono, wall) = (setup.shared.clock.mono(), setup.shared.clock.wall());
        let due = |at: Wall| if at == 0 { 0 } else { due_at(at, wall, mono).max(1) };
        let unfinished = unfinished.into_iter().map(|u| Unfinished {
            offset: u.offset,
            attempts: u.attempts,
            due: due(u.due),
        });
        let mut state = State::restore(next, fastrand::u64(..), unfinished);
        state.pause(paused);
        Self::with_state(setup, state)
    }

    fn with_state(setup: ChannelSetup, mut state: State<Arc<dyn Wake>>) -> Arc<Self> {
        let ChannelSetup { no, name, topic, shared } = setup;
        let (floor, end) = (state.floor(), state.next());
        Arc::new_cyclic(|me| Self {
            no,
            name,
            topic,
            shared,
            me: me.clone(),
            floor: AtomicU64::new(floor.0),
            inner: Mutex::new(Inner {
                state,
                end,
                closed: false,
                timer_at: Mono::MAX,
                dirty: false,
                subscribers: Vec::new(),
                fresh: Window::default(),
                again: Window::default(),
                loading: false,
                waiting: Vec::new(),
                hint: (Offset(u64::MAX), Offset(0), 0),
                skipped: 0,
                created: Ticket::DONE,
            }),
        })
    }

    /// The channel's name.
    pub fn name(&self) -> &ChannelName {
        &self.name
    }

    /// The channel's topic, unless that is gone.
    pub fn topic(&self) -> Option<Arc<Topic>> {
        self.topic.upgrade()
    }

    /// For the frame that tells of the channel.
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
    /// `LimitReached` at the limit of subscribers; `Closed` if the channel was deleted.
    pub fn subscribe(
        self: &Arc<Self>,
        options: SubscribeOptions,
        wake: Arc<dyn Wake>,
    ) -> Result<Subscription> {
        let closed = || Error::new(ErrorKind::Closed, format!("channel {} is closed", self.name));
        let topic = self.topic.upgrade().ok_or_else(closed)?;
        let mut inner = self.inner.lock();
        if inner.closed {
            return Err(closed());
        }
        let max = self.shared.options.max_channel_consumers;
        if max > 0 && inner.subscribers.len() as u64 >= max {
            return Err(Error::new(
                ErrorKind::LimitReached,
                format!("consumers for {}:{} exceeds limit of {max}", topic.name(), self.name),
            ));
        }
        let timeout = u64::try_from(options.msg_timeout.as_nanos()).unwrap_or(Mono::MAX);
        let id = inner.state.subscribe(timeout, options.sample_rate, wake.clone());
        inner.subscribers.push((id, wake.clone()));
        drop(inner);
        Ok(Subscription::new(self.clone(), topic, id, wake))
    }

    /// Ends a subscription.
    pub(super) fn unsubscribe(&self, id: SubId) {
        let mut inner = self.inner.lock();
        let now = self.shared.clock.mono();
        inner.state.unsubscribe(id, now);
        inner.subscribers.retain(|(other, _)| *other != id);
        let abandoned = inner.subscribers.is_empty() && !inner.closed;
        if abandoned {
            inner.fresh.clear();
            inner.again.clear();
        }
        self.settle(inner);
        if abandoned
            && self.is_ephemeral()
            && let Some(topic) = self.topic.upgrade()
        {
            topic.leave_ephemeral(&self.name);
        }
    }

    /// Ends a change: tells timers, the list of the dirty, and who is to be woken. Every change of the state ends here.
    pub(super) fn settle(&self, inner: MutexGuard<'_, Inner>) {
        if let Some(wake) = self.settle_quietly(inner) {
            wake.wake();
        }
    }

    /// [`Channel::settle`] by a subscriber that will pull next anyway, and need not be woken.
    pub(super) fn settle_but(&self, inner: MutexGuard<'_, Inner>, own: &Arc<dyn Wake>) {
        if let Some(wake) = self.settle_quietly(inner).filter(|wake| !Arc::ptr_eq(wake, own)) {
            wake.wake();
        }
    }

    fn settle_quietly(&self, mut inner: MutexGuard<'_, Inner>) -> Option<Arc<dyn Wake>> {
        let end = inner.end;
        let wake = inner.state.notify(end);
        self.note(&mut inner);
        wake
    }

    /// [`Channel::settle`] but for the waking.
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

    /// The topic's pump position moved; `deferred` is the frame that moved it if it may hold deferred messages.
    /// Returns who is to be woken.
    pub(crate) fn advance(&self, topic: &TopicState, deferred: Option<&Frame>) -> Option<Arc<dyn Wake>> {
        let mut inner = self.inner.lock();
        inner.end = topic.pump;
        if self.is_ephemeral() {
            let keep = self.shared.ephemeral_limit(topic);
            if topic.pump.rank.saturating_sub(inner.state.next().rank) > keep {
                let to = topic.extents.at_rank(topic.pump.rank - keep, topic.end);
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

    /// Counts a newly published frame's deferred messages as deferred where the channel has read all before them.
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
        inner.state.expire(now);
        self.settle(inner);
    }

    /// Skips fresh messages below `to`.
    pub(crate) fn jump(&self, to: Pos) {
        let mut inner = self.inner.lock();
        inner.skipped += inner.state.jump(to);
        self.settle(inner);
    }

    /// The topic dropped `from..to`, which the channel could not read yet.
    pub(crate) fn add_gap(&self, from: Pos, to: Pos) {
        let mut inner = self.inner.lock();
        inner.state.add_gap(from, to);
        self.settle(inner);
    }

    /// Appends what is pending below the cursor to `below` and returns the cursor: all from there on is pending.
    pub(crate) fn pending(&self, below: &mut Vec<Offset>) -> Offset {
        let inner = self.inner.lock();
        let mut unfinished = Vec::new();
        inner.state.unfinished(&mut unfinished);
        below.extend(unfinished.iter().map(|u| u.offset));
        inner.state.next().offset
    }

    /// The events that tell the whole cursor, for a checkpoint.
    pub(crate) fn snapshot(&self, topic: u32) -> Vec<Event> {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        let inner = self.inner.lock();
        let mut unfinished = Vec::new();
        inner.state.unfinished(&mut unfinished);
        let gaps = inner.state.gaps();
        let ranges: Vec<_> = gaps.map(|(from, to)| (from.offset, Offset(to.offset.0 - 1))).collect();
        let (next, paused) = (inner.state.next().offset, inner.state.is_paused());
        drop(inner);
        let unfinished = unfinished.iter().map(|u| stored(u, wall, mono)).collect();
        let mut events = vec![
            Event::Channel { channel: self.no, topic, name: self.name.to_string(), paused, start: Offset(0) },
            Event::Cursor { channel: self.no, next, unfinished },
        ];
        if !ranges.is_empty() {
            events.push(Event::Finished { channel: self.no, ranges });
        }
        events
    }

    /// The events that tell which of the messages from `first` to before `end` are finished or were handed out, for
    /// what is spilled.
    pub(crate) fn spill_events(&self, first: Offset, end: Offset) -> Vec<Event> {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        let inner = self.inner.lock();
        let mut unfinished = Vec::new();
        inner.state.unfinished(&mut unfinished);
        let next = inner.state.next().offset;
        drop(inner);
        unfinished.retain(|u| first <= u.offset && u.offset < end);
        let mut ranges = Vec::new();
        let mut from = first;
        for offset in unfinished.iter().map(|u| u.offset).chain([next.min(end)]) {
            if from < offset {
                ranges.push((from, Offset(offset.0 - 1)));
            }
            from = from.max(offset.plus(1));
        }
        let mut events = Vec::new();
        if !ranges.is_empty() {
            events.push(Event::Finished { channel: self.no, ranges });
        }
        if !unfinished.is_empty() {
            let messages = unfinished.iter().map(|u| stored(u, wall, mono)).collect();
            events.push(Event::Requeued { channel: self.no, messages });
        }
        events
    }

    /// Moves what the log must learn into `delta`, and appends it to `out`. At level `memory` only what may stand on
    /// disk, below `spilled_end`, needs to be known.
    pub(crate) fn take_events(
        &self,
        level: Durability,
        spilled_end: Offset,
        delta: &mut Delta,
        out: &mut Vec<Event>,
    ) {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        {
            let mut inner = self.inner.lock();
            inner.dirty = false;
            inner.state.take_delta(delta);
        }
        if self.is_ephemeral() {
            return;
        }
        delta.normalize();
        if level == Durability::Memory {
            delta.finished.retain(|(first, _)| *first < spilled_end);
            delta.requeued.retain(|u| u.offset < spilled_end);
        }
        if !delta.finished.is_empty() {
            out.push(Event::Finished { channel: self.no, ranges: delta.finished.clone() });
        }
        if !delta.requeued.is_empty() {
            let messages = delta.requeued.iter().map(|u| stored(u, wall, mono)).collect();
            out.push(Event::Requeued { channel: self.no, messages });
        }
    }

    /// `offset` was to be delivered but stands in no file. An ephemeral channel goes on after it; for any other it is
    /// damage, unless it was emptied meanwhile.
    fn missing(&self, topic: &Topic, offset: Offset) {
        let state = topic.state.lock();
        if state.ring.find(offset).is_some() {
            return;
        }
        if self.is_ephemeral() || !topic.is_logged() {
            let from = state.ring.after(offset).map_or(state.end.offset, |f| f.first);
            self.jump(state.extents.seek(from, state.end));
            return;
        }
        let mut below = Vec::new();
        let pending = self.pending(&mut below) <= offset || below.contains(&offset);
        drop(state);
        if pending {
            topic.stop(format!("message {:#x} stands in no file", offset.0));
        }
    }

    /// Takes in what was read for the channel.
    pub(crate) fn loaded(&self, again: bool, frames: Vec<Frame>) {
        let mut inner = self.inner.lock();
        inner.loading = false;
        let window = if again { &mut inner.again } else { &mut inner.fresh };
        window.fill(frames, &self.shared.pool);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.iter().for_each(|w| w.wake());
    }

    /// Ends the channel. Returns who is to be woken.
    pub(crate) fn close(&self) -> Vec<Arc<dyn Wake>> {
        let mut inner = self.inner.lock();
        inner.closed = true;
        inner.fresh.clear();
        inner.again.clear();
        inner.subscribers.iter().map(|(_, wake)| wake.clone()).collect()
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.inner.lock().subscribers.len()
    }

    /// Gives back memory that a past burst needed.
    pub(crate) fn tidy(&self) {
        let mut inner = self.inner.lock();
        inner.state.tidy();
        let next = inner.state.next().offset;
        inner.fresh.trim(next);
        // What is delivered again is read again, in the rare case that it takes longer than a tick.
        inner.again.clear();
    }

    /// The channel's numbers.
    pub fn stats(&self) -> ChannelStats {
        let inner = self.inner.lock();
        ChannelStats {
            depth: inner.state.depth(inner.end),
            in_flight: inner.state.in_flight(),
            deferred: inner.state.deferred(),
            requeued: inner.state.requeue_count(),
            timed_out: inner.state.timeout_count(),
            skipped: inner.skipped,
            subscribers: inner.state.subscribers() as u64,
            memory: inner.state.bytes() as u64,
        }
    }

    /// Messages waiting for a subscriber.
    pub fn depth(&self) -> u64 {
        self.stats().depth
    }

    /// Stops delivery.
    ///
    /// # Errors
    /// `Closed`.
    pub fn pause(&self) -> Result<Ticket> {
        self.set_paused(true)
    }

    /// Lets delivery go on.
    ///
    /// # Errors
    /// `Closed`.
    pub fn unpause(&self) -> Result<Ticket> {
        self.set_paused(false)
    }

    /// Whether delivery is stopped.
    pub fn is_paused(&self) -> bool {
        self.inner.lock().state.is_paused()
    }

    fn set_paused(&self, paused: bool) -> Result<Ticket> {
        let topic = self.open_topic()?;
        let mut inner = self.inner.lock();
        inner.state.pause(paused);
        let mut ticket = Ticket::DONE;
        if topic.is_logged() && !self.is_ephemeral() {
            // `start` counts only where the channel is new.
            let event = Event::Channel {
                channel: self.no,
                topic: topic.no,
                name: self.name.to_string(),
                paused,
                start: Offset(0),
            };
            ticket = self.shared.log_events(&[event]);
        }
        self.settle(inner);
        self.shared.commit();
        Ok(ticket)
    }

    /// Drops all that waits in the channel, what is in flight and deferred too.
    ///
    /// # Errors
    /// `Closed`.
    pub fn empty(&self) -> Result<Ticket> {
        let topic = self.open_topic()?;
        let mut inner = self.inner.lock();
        let end = inner.end;
        inner.state.empty(end);
        let mut ticket = Ticket::DONE;
        if topic.is_logged() && !self.is_ephemeral() && end.offset.0 > 0 {
            let ranges = vec![(Offset(0), Offset(end.offset.0 - 1))];
            ticket = self.shared.log_events(&[Event::Finished { channel: self.no, ranges }]);
        }
        self.settle(inner);
        topic.trim();
        self.shared.commit();
        Ok(ticket)
    }

    fn open_topic(&self) -> Result<Arc<Topic>> {
        self.topic
            .upgrade()
            .filter(|_| !self.inner.lock().closed)
            .ok_or_else(|| Error::new(ErrorKind::Closed, format!("channel {} is closed", self.name)))
    }
}

impl Load {
    /// Reads, and hands the channel what was read. `false` if `nowait` and a disk would have to be waited for.
    pub(crate) fn run(&self, nowait: bool) -> bool {
        let channel = &self.channel;
        let shared = &channel.shared;
        let Some(topic) = channel.topic() else { return true };
        let read = reader::read(&shared.catalog, topic.no, self.from, shared.read_bytes(), nowait);
        let frames = match read {
            Ok(None) => return false,
            Ok(Some(frames)) => frames,
            Err(error) => {
                topic.stop(error.to_string());
                Vec::new()
            }
        };
        if frames.first().is_none_or(|f| f.first > self.from) {
            channel.missing(&topic, self.from);
        }
        channel.loaded(self.again, frames);
        true
    }
}

/// The monotonic time of the wall time `at`.
pub(super) fn due_at(at: Wall, wall: Wall, mono: Mono) -> Mono {
    mono.saturating_add(at.saturating_sub(wall))
}

/// As the log keeps it: due by the wall clock, which outlives the process.
fn stored(message: &Unfinished, wall: Wall, mono: Mono) -> event::Unfinished {
    let due = match message.due {
        0 => 0,
        due => wall.saturating_add(due.saturating_sub(mono)).max(1),
    };
    event::Unfinished { offset: message.offset, attempts: message.attempts, due }
}
