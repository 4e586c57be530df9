//! Limits of what may wait in a topic. Beyond them a publish is refused, or the oldest messages are dropped.

use std::sync::Arc;

use crate::channel::Backlog;
use crate::clock::{Mono, Wall};
use crate::config::{Limits, Overflow};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, Pos};
use crate::store::format::event::Event;
use crate::topic::{Topic, TopicState};
use crate::wake::Wake;

impl Limits {
    fn any(&self) -> bool {
        self.max_messages > 0 || self.max_bytes > 0 || !self.max_age.is_zero()
    }

    fn max_messages(&self) -> u64 {
        if self.max_messages == 0 { u64::MAX } else { self.max_messages }
    }

    fn max_bytes(&self) -> u64 {
        if self.max_bytes == 0 { u64::MAX } else { self.max_bytes }
    }

    /// Messages published by then are too old; `None` if none is.
    fn cutoff(&self, now: Wall) -> Option<Wall> {
        let age = u64::try_from(self.max_age.as_nanos()).unwrap_or(u64::MAX);
        if age == 0 { None } else { now.0.checked_sub(age).map(Wall) }
    }
}

/// Messages and bytes that may be published before what waits is counted again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Allowance {
    messages: u64,
    bytes: u64,
    /// Time passes too.
    until: Mono,
}

/// Longest time that an allowance is valid on a topic with `max_age`: 100 ms.
const ALLOWED_FOR: u64 = 100_000_000;

impl Topic {
    /// The topic's limits; none unless set.
    pub fn limits(&self) -> Limits {
        self.state.lock().limits
    }

    /// Checks that `messages` more, of `bytes` in all, are within the limits. Returns the wakers to call.
    ///
    /// # Errors
    /// `Full`, named.
    pub(super) fn admit(
        &self,
        state: &mut TopicState,
        messages: u64,
        bytes: u64,
    ) -> Result<Vec<Arc<dyn Wake>>> {
        let mut wakes = Vec::new();
        // An ephemeral topic never touches the disk.
        let on_disk = if self.is_logged() { self.shared.disk_room(bytes) } else { Ok(()) };
        if !state.limits.any() && on_disk.is_ok() {
            return Ok(wakes);
        }
        let now = self.shared.clock.mono();
        let Allowance { messages: may, bytes: may_bytes, until } = state.allowance;
        if messages <= may && bytes <= may_bytes && now < until && on_disk.is_ok() {
            state.allowance = Allowance { messages: may - messages, bytes: may_bytes - bytes, until };
            return Ok(wakes);
        }
        let limits = state.limits;
        if messages > limits.max_messages() || bytes > limits.max_bytes() {
            let text = format!(
                "a batch of {messages} messages and {bytes} bytes never fits: topic {} may hold {} messages and {} bytes \
                 (0 for any number): send smaller batches",
                self.name(),
                limits.max_messages,
                limits.max_bytes
            );
            return Err(Error::new(ErrorKind::TooBig, text));
        }
        if limits.overflow == Overflow::DropOldest {
            self.drop_old(state, &mut wakes);
            self.drop_oldest(state, messages, bytes, &mut wakes);
            if on_disk.is_err() {
                self.drop_eighth(state, &mut wakes);
            }
        } else {
            on_disk?;
        }
        let backlog = self.backlog(state);
        let (held, held_bytes) = (backlog.messages + messages, backlog.bytes + bytes);
        let refuses = limits.overflow == Overflow::Refuse;
        if refuses && held > limits.max_messages() {
            return Err(self.full(format!(
                "messages that wait: {}, max-messages is {}",
                backlog.messages, limits.max_messages
            )));
        }
        if refuses && held_bytes > limits.max_bytes() {
            return Err(self.full(format!("{} bytes wait, max-bytes is {}", backlog.bytes, limits.max_bytes)));
        }
        if refuses && self.has_before(self.old_rank(state), state) {
            return Err(self.full(format!("a message waits for longer than max-age, {:?}", limits.max_age)));
        }
        let until = if limits.max_age.is_zero() { Mono::MAX } else { now.plus(ALLOWED_FOR) };
        state.allowance = Allowance {
            messages: limits.max_messages().saturating_sub(held),
            bytes: limits.max_bytes().saturating_sub(held_bytes),
            until,
        };
        Ok(wakes)
    }

    /// Drops what is too old, where that is what the topic wants; for a tick.
    pub(crate) fn expire(&self) {
        let mut state = self.state.lock();
        let aged = !state.limits.max_age.is_zero() && state.limits.overflow == Overflow::DropOldest;
        if !aged || state.deleted {
            return;
        }
        let mut wakes = Vec::new();
        self.drop_old(&mut state, &mut wakes);
        drop(state);
        wakes.iter().for_each(|wake| wake.wake());
    }

    fn full(&self, why: String) -> Error {
        Error::new(ErrorKind::Full, format!("topic {} is full: {why}", self.name()))
    }

    /// The backlog of the fullest channel, with the messages that wait in the topic and on the way to it.
    fn backlog(&self, state: &TopicState) -> Backlog {
        let end = state.end.rank;
        let waiting = Backlog {
            messages: end - state.pump.rank + state.queued_messages,
            bytes: state.volume.bytes_from(state.pump.rank, end) + state.queued_bytes,
        };
        let mut fullest = waiting;
        for channel in state.channels.iter().filter(|channel| !channel.is_ephemeral()) {
            let backlog = channel.backlog(state);
            fullest.messages = fullest.messages.max(waiting.messages + backlog.messages);
            fullest.bytes = fullest.bytes.max(waiting.bytes + backlog.bytes);
        }
        fullest
    }

    /// Whether a message of a rank below `rank` waits in the topic or in a lasting channel.
    fn has_before(&self, rank: u64, state: &TopicState) -> bool {
        let mut lasting = state.channels.iter().filter(|channel| !channel.is_ephemeral());
        state.pump.rank < rank || lasting.any(|channel| channel.has_before(rank, state))
    }

    /// Messages before this rank are too old.
    fn old_rank(&self, state: &TopicState) -> u64 {
        let cutoff = state.limits.cutoff(self.shared.clock.wall());
        cutoff.map_or(0, |cutoff| state.volume.rank_by(cutoff, state.end.rank))
    }

    fn drop_old(&self, state: &mut TopicState, wakes: &mut Vec<Arc<dyn Wake>>) {
        let rank = self.old_rank(state);
        if rank == 0 {
            return;
        }
        let to = state.extents.at_rank(rank, state.end);
        for channel in state.channels.iter().filter(|channel| !channel.is_ephemeral()) {
            wakes.extend(channel.drop_below(to));
        }
        self.drop_waiting(state, to);
        self.trim_locked(state);
    }

    /// Drops as many of the oldest of each channel as are too many with `messages` more.
    fn drop_oldest(&self, state: &mut TopicState, messages: u64, bytes: u64, wakes: &mut Vec<Arc<dyn Wake>>) {
        let waiting = state.end.rank - state.pump.rank;
        let waiting_bytes = state.volume.bytes_from(state.pump.rank, state.end.rank);
        let above = |held: u64, held_bytes: u64| {
            let more = held.saturating_add(messages + state.queued_messages);
            let more_bytes = held_bytes.saturating_add(bytes + state.queued_bytes);
            let average = (held_bytes / held.max(1)).max(1);
            let excess = more_bytes.saturating_sub(state.limits.max_bytes()).div_ceil(average);
            more.saturating_sub(state.limits.max_messages()).max(excess)
        };
        for channel in state.channels.iter().filter(|channel| !channel.is_ephemeral()) {
            let backlog = channel.backlog(state);
            let count = above(backlog.messages + waiting, backlog.bytes + waiting_bytes);
            wakes.extend(channel.drop_oldest(count.min(backlog.messages), state));
        }
        let count = above(waiting, waiting_bytes).min(waiting);
        let to = state.extents.at_rank(state.pump.rank + count, state.end);
        self.drop_waiting(state, to);
        self.trim_locked(state);
    }

    /// Drops the oldest eighth of what waits: the disk's budget is spent.
    fn drop_eighth(&self, state: &mut TopicState, wakes: &mut Vec<Arc<dyn Wake>>) {
        for channel in state.channels.iter().filter(|channel| !channel.is_ephemeral()) {
            let messages = channel.backlog(state).messages;
            wakes.extend(channel.drop_oldest(messages.div_ceil(8), state));
        }
        let waiting = state.end.rank - state.pump.rank;
        let to = state.extents.at_rank(state.pump.rank + waiting.div_ceil(8), state.end);
        self.drop_waiting(state, to);
        self.trim_locked(state);
        self.shared.cleaner_thread.unpark();
    }

    /// Drops what waits in the topic before `to`.
    pub(super) fn drop_waiting(&self, state: &mut TopicState, to: Pos) {
        let from = state.pump;
        if from.rank >= to.rank {
            return;
        }
        for channel in &state.channels {
            channel.add_gap(from, to);
        }
        if self.is_logged() && !state.channels.is_empty() {
            let hole = Event::Hole { topic: self.no, first: from.offset, last: Offset(to.offset.0 - 1) };
            let _ = self.shared.log_events(&[hole], state.level, None);
        }
        state.skipped += to.rank - from.rank;
        state.pump = to;
        if self.is_logged() && state.channels.is_empty() {
            self.shared.dirty.topic(&self.me);
        }
    }
}
