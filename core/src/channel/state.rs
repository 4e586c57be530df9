//! The state of a channel: plain data that events and times are given to.
//!
//! Everything of the topic below `next` is finished unless it is in flight, ready, deferred or a dead letter,
//! in at most one of the four. Everything from `next` on is new, except for gaps. That is the whole truth;
//! the counts follow from it.
//!
//! Rules for the caller, who holds the lock:
//! - after any calls that change something, [`State::notify`] before letting the lock go, and wake what it
//!   gives;
//! - whoever was woken ends its turn with [`State::park`], [`State::rest`] or [`State::unsubscribe`];
//! - [`State::expire`] no later than [`State::wake_at`] says.

mod dead_letters;
mod delivery;
mod drops;
#[cfg(test)]
mod model;
#[cfg(test)]
mod model_test;
mod single;
#[cfg(test)]
mod tests;

pub(crate) use dead_letters::DeadLetter;
use dead_letters::DeadLetters;
pub(crate) use delivery::{Pick, Taken};

use super::byte_credit::ByteRoom;
use super::deferred::{Deferred, Due};
use super::delta::{Delta, Unfinished};
use super::gaps::Gaps;
use super::in_flight::{AckError, InFlight};
use super::ready::Ready;
use super::subscribers::{SubId, SubscriberStats, Subscribers, timeout_ms};
use crate::clock::{Mono, nanos};
use crate::config::ChannelSettings;
use crate::message::{Offset, Pos};

/// A channel. `W` is what wakes a subscriber.
pub(crate) struct State<W> {
    /// The cursor. Never at a gap.
    next: Pos,
    gaps: Gaps,
    pub(super) in_flight: InFlight,
    pub(super) ready: Ready,
    pub(super) deferred: Deferred,
    pub(super) dead_letters: DeadLetters,
    subscribers: Subscribers<W>,
    delta: Delta,
    paused: bool,
    /// See [`ChannelSettings::redelivery_delay`](crate::ChannelSettings::redelivery_delay).
    redelivery_delay_ns: u64,
    finish_count: u64,
    requeue_count: u64,
    timeout_count: u64,
    oversized_count: u64,
    /// Source of random numbers, for sampling only.
    random: fastrand::Rng,
}

/// Manner in which a subscriber leaves: decides when the messages it held come again.
///
/// ```
/// # use mq_core::{Broker, Departure, Options, Parker, SubscribeOptions, Wake};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// # use std::sync::Arc;
/// let (billing, _) = broker.topic(&"orders".parse()?)?.channel(&"billing".parse()?, None)?;
/// let wake: Arc<dyn Wake> = Arc::new(Parker::default());
/// let subscription = billing.subscribe(SubscribeOptions::default(), wake)?;
/// // This worker did not crash: what it holds goes to others at once.
/// subscription.leave(Departure::Orderly);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// The subscriber said goodbye, or the broker ended it: no sign that a message is at fault. All that it
    /// held comes again at once.
    Orderly,
    /// Its process may have ended by what it held. What was delivered before comes again after a second for
    /// each delivery, at most its message timeout: a message that kills its consumers can't race through
    /// all of them.
    Abrupt,
}

/// Time for which a message waits whose consumer was lost, `delay_ns` for each of its attempts: a first
/// delivery not at all.
pub(crate) fn back_off(attempts: u16, delay_ns: u64, msg_timeout_ns: u64) -> u64 {
    if attempts > 1 { delay_ns.saturating_mul(u64::from(attempts)).min(msg_timeout_ns) } else { 0 }
}

impl<W: Clone> State<W> {
    /// A channel that has seen nothing below `start`.
    pub(crate) fn new(start: Pos, seed: u64) -> Self {
        Self {
            next: start,
            gaps: Gaps::new(),
            in_flight: InFlight::new(),
            ready: Ready::new(),
            deferred: Deferred::new(),
            dead_letters: DeadLetters::new(),
            subscribers: Subscribers::new(),
            delta: Delta::default(),
            paused: false,
            redelivery_delay_ns: nanos(ChannelSettings::default().redelivery_delay),
            finish_count: 0,
            requeue_count: 0,
            timeout_count: 0,
            oversized_count: 0,
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// A channel as it was when the broker stopped; `unfinished` in any order, all below `next`. What was in
    /// flight or ready comes before everything else, in offset order (I2), unless it is a dead letter.
    pub(crate) fn restore(
        next: Pos,
        seed: u64,
        settings: &ChannelSettings,
        unfinished: impl IntoIterator<Item = Unfinished>,
    ) -> Self {
        let mut state = Self::new(next, seed);
        state.configure(settings);
        for Unfinished { offset, attempts, due } in unfinished {
            if due == Mono(0) && state.dead_letters.is_made_by(attempts) {
                state.dead_letters.push(DeadLetter { offset, attempts });
            } else if due == Mono(0) {
                state.ready.push_returned(offset, attempts);
            } else {
                state.deferred.push(Due { due, offset, attempts });
            }
        }
        state
    }

    // Subscribers.

    /// Adds a subscriber, without credit. `sample_rate` as nsqd's: 0 takes all, else about that many percent.
    pub(crate) fn subscribe(&mut self, msg_timeout_ns: u64, sample_rate: u8, wake: W) -> SubId {
        self.subscribers.add(timeout_ms(msg_timeout_ns), sample_rate, wake)
    }

    /// Removes a subscriber. What it held returns at once, before everything else, or backs off: see
    /// [`Departure`].
    pub(crate) fn unsubscribe(&mut self, id: SubId, departure: Departure, now: Mono) {
        let Some(slot) = self.subscribers.slot(id) else { return };
        let timeout = u64::from(self.subscribers.timeout_ms(slot)) * 1_000_000;
        let held = self.subscribers.stats(slot).in_flight as usize;
        for message in self.in_flight.release(slot, held) {
            let (offset, attempts) = (message.offset, message.attempts);
            if self.bury(offset, attempts) {
                continue;
            }
            let mut due = Mono(0);
            let delay = self.redelivery_delay_ns;
            let back_off =
                if departure == Departure::Abrupt { back_off(attempts, delay, timeout) } else { 0 };
            if back_off > 0 {
                due = now.plus(back_off);
                self.deferred.push(Due { due, offset, attempts });
            } else {
                self.ready.push_returned(offset, attempts);
            }
            self.delta.requeue(Unfinished { offset, attempts, due });
        }
        self.subscribers.remove(slot);
    }

    /// Sets the number of messages that the subscriber may have in flight at once; deliveries don't use it up
    /// (RDY).
    pub(crate) fn set_credit(&mut self, id: SubId, credit: u32) {
        if let Some(slot) = self.subscribers.slot(id) {
            self.subscribers.set_credit(slot, credit);
        }
    }

    /// Bounds the bytes of bodies in flight at the subscriber: see [`Subscribers::set_byte_credit`].
    pub(crate) fn set_byte_credit(&mut self, id: SubId, limit: u64) {
        if let Some(slot) = self.subscribers.slot(id) {
            self.subscribers.set_byte_credit(slot, limit);
        }
    }

    /// Room for more bodies at the subscriber; `None` where their bytes are not bounded.
    pub(crate) fn byte_room(&self, id: SubId) -> Option<ByteRoom> {
        self.subscribers.slot(id).and_then(|slot| self.subscribers.byte_room(slot))
    }

    /// Counts the body of a message that the subscriber took. Returns the room for more; `None` where there is
    /// no bound.
    pub(crate) fn count_bytes(&mut self, id: SubId, offset: Offset, bytes: usize) -> Option<ByteRoom> {
        let slot = self.subscribers.slot(id)?;
        self.subscribers.count_bytes(slot, offset, bytes)
    }

    /// Sets the time for which messages that are delivered or touched from now on may be in flight at the
    /// subscriber.
    pub(crate) fn set_msg_timeout(&mut self, id: SubId, msg_timeout_ns: u64) {
        if let Some(slot) = self.subscribers.slot(id) {
            self.subscribers.set_timeout_ms(slot, timeout_ms(msg_timeout_ns));
        }
    }

    /// The number of messages that the subscriber could take besides those it has.
    pub(crate) fn spare(&self, id: SubId) -> u32 {
        self.subscribers.slot(id).map_or(0, |slot| self.subscribers.spare(slot))
    }

    /// Ends a subscriber's turn and puts it at the back of the ring, now or when it has credit again. Gives
    /// who is to be woken next: maybe itself.
    pub(crate) fn park(&mut self, id: SubId, end: Pos) -> Option<W> {
        if let Some(slot) = self.subscribers.slot(id) {
            self.subscribers.park(slot);
        }
        self.notify(end)
    }

    /// Ends a subscriber's turn because it can take nothing for now, whatever its credit: its output is full.
    /// It isn't woken until it has parked again. Gives who is to be woken in its place.
    pub(crate) fn rest(&mut self, id: SubId, end: Pos) -> Option<W> {
        if let Some(slot) = self.subscribers.slot(id) {
            self.subscribers.rest(slot);
        }
        self.notify(end)
    }

    /// Ends a subscriber's turn because its bytes in flight keep the next message back. It isn't woken until
    /// one of its messages is no longer in flight. Gives who is to be woken in its place.
    pub(crate) fn starve(&mut self, id: SubId, end: Pos) -> Option<W> {
        if let Some(slot) = self.subscribers.slot(id) {
            self.subscribers.starve(slot);
        }
        self.notify(end)
    }

    /// The subscriber to wake, if messages wait that the subscribers woken before are not going to take.
    pub(crate) fn notify(&mut self, end: Pos) -> Option<W> {
        let available = self.available(end);
        self.subscribers.wake_next(available)
    }

    // Acknowledgements: only by the subscriber that holds the message; anything else changes nothing (I5).

    /// The message is done.
    pub(crate) fn finish(&mut self, id: SubId, offset: Offset) -> Result<(), AckError> {
        let slot = self.subscribers.slot(id).ok_or(AckError::NotInFlight)?;
        self.in_flight.remove(offset, slot)?;
        self.subscribers.finished(slot, offset);
        self.finish_count += 1;
        self.delta.finish(offset);
        Ok(())
    }

    /// The message is to be delivered again, after `delay_ns` and then after all that waits up to `end`.
    pub(crate) fn requeue(
        &mut self,
        id: SubId,
        offset: Offset,
        delay_ns: u64,
        now: Mono,
        end: Pos,
    ) -> Result<(), AckError> {
        let slot = self.subscribers.slot(id).ok_or(AckError::NotInFlight)?;
        let attempts = self.in_flight.remove(offset, slot)?;
        self.subscribers.requeued(slot, offset);
        self.requeue_count += 1;
        if self.bury(offset, attempts) {
            return Ok(());
        }
        let mut due = Mono(0);
        if delay_ns == 0 {
            self.ready.push(offset, attempts, end.rank);
        } else {
            due = now.plus(delay_ns);
            self.deferred.push(Due { due, offset, attempts });
        }
        self.delta.requeue(Unfinished { offset, attempts, due });
        Ok(())
    }

    /// The message was not looked at: it returns at once, before everything else, and this delivery does not
    /// count.
    pub(crate) fn release(&mut self, id: SubId, offset: Offset) -> Result<(), AckError> {
        let slot = self.subscribers.slot(id).ok_or(AckError::NotInFlight)?;
        let attempts = self.in_flight.remove(offset, slot)?.saturating_sub(1);
        self.subscribers.released(slot, offset);
        self.ready.push_returned(offset, attempts);
        self.delta.requeue(Unfinished { offset, attempts, due: Mono(0) });
        Ok(())
    }

    /// The message needs longer: its timeout starts anew, up to `msg_timeout_ns_max` after its delivery.
    pub(crate) fn touch(
        &mut self,
        id: SubId,
        offset: Offset,
        now: Mono,
        msg_timeout_ns_max: u64,
    ) -> Result<(), AckError> {
        let slot = self.subscribers.slot(id).ok_or(AckError::NotInFlight)?;
        let timeout = self.subscribers.timeout_ms(slot);
        self.in_flight.touch(offset, slot, now, timeout, timeout_ms(msg_timeout_ns_max))
    }

    // Time.

    /// Makes ready what has come due or timed out by `now`, behind all that waits up to `end`. Gives the next
    /// [`wake_at`](State::wake_at).
    ///
    /// A call that finds a deadline reached scans all that is in flight, so where many time out one after the
    /// other it pays to come a few milliseconds late (nsqd looks every 100).
    pub(crate) fn expire(&mut self, now: Mono, end: Pos) -> Mono {
        while let Some(due) = self.deferred.pop_due(now) {
            self.ready.push(due.offset, due.attempts, end.rank);
        }
        for message in self.in_flight.expire(now) {
            let (offset, attempts) = (message.offset, message.attempts);
            self.timeout_count += 1;
            self.subscribers.released(message.owner, offset);
            if self.bury(offset, attempts) {
                continue;
            }
            self.ready.push(offset, attempts, end.rank);
            self.delta.requeue(Unfinished { offset, attempts, due: Mono(0) });
        }
        self.wake_at()
    }

    /// A time before which nothing times out or comes due; `Mono::MAX` if nothing will.
    pub(crate) fn wake_at(&self) -> Mono {
        self.in_flight.wake_at().min(self.deferred.wake_at()).min(self.dead_letters.wake_at())
    }

    // Administrators and the topic.

    pub(crate) fn pause(&mut self, paused: bool) {
        self.paused = paused;
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    // The log.

    /// Moves what changed since the last time into `out`, whose buffers are used for the next. Normalise it
    /// before use, outside the lock.
    pub(crate) fn take_delta(&mut self, out: &mut Delta) {
        out.clear();
        std::mem::swap(&mut self.delta, out);
        out.next = self.next.offset;
    }

    pub(crate) fn delta_is_empty(&self) -> bool {
        self.delta.is_empty()
    }

    /// Everything below this offset is finished. Costs nothing that grows with what waits, so it may lag:
    /// above 64 messages that are ready or deferred, by at most a quarter of them. [`State::oldest`] is
    /// exact.
    pub(crate) fn floor(&mut self) -> Offset {
        let (ready, deferred, dead) = (self.ready.floor(), self.deferred.floor(), self.dead_letters.floor());
        let lowest = [ready, deferred, dead, self.in_flight.lowest()].into_iter().flatten().min();
        lowest.unwrap_or(self.next.offset)
    }

    /// The lowest unfinished offset; the cursor's if nothing below it is unfinished. Searches all that is
    /// ready or deferred if the lowest of them has gone since the last search.
    pub(crate) fn oldest(&mut self) -> Offset {
        let (ready, deferred, dead) =
            (self.ready.lowest(), self.deferred.lowest(), self.dead_letters.lowest());
        let lowest = [ready, deferred, dead, self.in_flight.lowest()].into_iter().flatten().min();
        lowest.unwrap_or(self.next.offset)
    }

    /// Every unfinished message below the cursor, in no order: sorting a million of them takes too long for
    /// the channel's lock. What is in flight counts as due at once: so it is after a crash.
    pub(crate) fn unfinished(&self) -> Vec<Unfinished> {
        let at_once = |(offset, attempts)| Unfinished { offset, attempts, due: Mono(0) };
        let mut out: Vec<_> = self.in_flight.iter().map(at_once).collect();
        out.extend(self.ready.iter().map(at_once));
        out.extend(self.dead_letters.iter().map(|dead| at_once((dead.offset, dead.attempts))));
        out.extend(self.deferred.iter().map(|Due { due, offset, attempts }| Unfinished {
            offset,
            attempts,
            due,
        }));
        out
    }

    /// The cursor.
    pub(crate) fn next(&self) -> Pos {
        self.next
    }

    /// The gaps added by [`State::add_gap`] that the cursor has not reached.
    pub(crate) fn gaps(&self) -> impl Iterator<Item = (Pos, Pos)> + '_ {
        self.gaps.iter()
    }

    // Counts.

    /// Whether anything is in flight, ready, deferred or a dead letter.
    pub(crate) fn may_redeliver(&self) -> bool {
        self.in_flight.len() + self.ready.len() + self.deferred.len() + self.dead_letters.len() > 0
    }

    /// Messages waiting for a subscriber; neither in flight nor deferred (nsqd's depth).
    pub(crate) fn depth(&self, end: Pos) -> u64 {
        self.new_waiting(end) + self.ready.len() as u64
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.len() as u64
    }

    /// Messages that wait for their time, or for their way to the dead letter topic.
    pub(crate) fn deferred(&self) -> u64 {
        (self.deferred.len() + self.dead_letters.len()) as u64
    }

    /// The first `count` of them in the order of their delivery, new messages aside.
    pub(crate) fn upcoming(&mut self, count: usize) -> Vec<Offset> {
        self.ready.upcoming(count)
    }

    /// Finishes a message that is first among those to be delivered again and can't be. Whether it was.
    pub(crate) fn drop_first(&mut self, offset: Offset) -> bool {
        let dropped = self.ready.drop_first(offset);
        if dropped {
            self.delta.finish(offset);
        }
        dropped
    }

    /// The messages that were delivered before, or deferred until now, and wait.
    pub(crate) fn ready(&self) -> impl Iterator<Item = Offset> + '_ {
        self.ready.iter().map(|(offset, _)| offset)
    }

    pub(crate) fn finish_count(&self) -> u64 {
        self.finish_count
    }

    pub(crate) fn requeue_count(&self) -> u64 {
        self.requeue_count
    }

    pub(crate) fn timeout_count(&self) -> u64 {
        self.timeout_count
    }

    /// Number of times that a message was put aside because it was too large for a subscriber.
    pub(crate) fn oversized_count(&self) -> u64 {
        self.oversized_count
    }

    pub(crate) fn subscribers(&self) -> usize {
        self.subscribers.len()
    }

    /// Number of deliveries of the message, this one included, if it is in flight at the subscriber.
    pub(crate) fn attempts(&self, id: SubId, offset: Offset) -> Option<u16> {
        self.in_flight.attempts(offset, self.subscribers.slot(id)?)
    }

    /// Whether the message is in flight at the subscriber.
    pub(crate) fn holds(&self, id: SubId, offset: Offset) -> bool {
        self.subscribers.slot(id).is_some_and(|slot| self.in_flight.owner(offset) == Some(slot))
    }

    pub(crate) fn subscriber_stats(&self, id: SubId) -> Option<SubscriberStats> {
        self.subscribers.slot(id).map(|slot| self.subscribers.stats(slot))
    }

    /// Bytes held for messages (I6): at most 32 for each one in flight, ready or deferred (redeliveries in
    /// flight up to twice that), what the log has yet to learn, and what a burst needed before the last
    /// [`tidy`](State::tidy). The sizes that a byte credit keeps are not among them.
    pub(crate) fn bytes(&self) -> usize {
        self.in_flight.bytes()
            + self.ready.bytes()
            + self.deferred.bytes()
            + self.dead_letters.bytes()
            + self.delta.bytes()
    }

    /// Gives back memory that a past burst needed; for a tick of maintenance.
    pub(crate) fn tidy(&mut self) {
        self.in_flight.tidy();
        self.ready.tidy();
        self.deferred.tidy();
        self.dead_letters.tidy();
        self.delta.tidy();
    }

    /// Messages that a subscriber could take now.
    fn available(&self, end: Pos) -> u64 {
        if self.paused { 0 } else { self.depth(end) }
    }

    fn new_waiting(&self, end: Pos) -> u64 {
        let ahead = end.rank.saturating_sub(self.next.rank);
        if self.gaps.is_empty() { ahead } else { ahead.saturating_sub(self.gaps.below(end)) }
    }
}
