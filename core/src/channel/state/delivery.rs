//! Delivery: what a subscriber may take next, and taking it.
//!
//! Two steps, because the body is read in between, maybe from a disk and without the channel's lock. `end` is
//! how far the channel may read now.

use super::State;
use crate::channel::deferred::Due;
use crate::channel::delta::Unfinished;
use crate::channel::subscribers::SubId;
use crate::clock::Mono;
use crate::message::{Offset, Pos};

/// The message that a subscriber may take next. Nothing is taken yet: the caller first reads the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pick {
    /// The message at this offset, below the cursor: [`State::take_redelivery`].
    Redelivery(Offset),
    /// The first message at or after the position: [`State::take_first_delivery`].
    FirstDelivery(Pos),
    /// The subscriber has no credit, the channel is paused, or holds nothing to deliver.
    Nothing,
}

/// The result of taking a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// In flight at the subscriber: deliver it, with this count of attempts.
    Deliver(u16),
    /// The message waits for its time, and was not delivered.
    Deferred,
    /// Left out by the subscriber's sample rate, and so finished; not delivered.
    Sampled,
    /// Things have changed since the pick, and nothing now: pick again.
    Stale,
}

impl<W: Clone> State<W> {
    /// The message that the subscriber may take next. One that was requeued, timed out or came due follows
    /// all that waited then, and takes turns with what was published since.
    pub(crate) fn pick(&self, id: SubId, end: Pos) -> Pick {
        if self.taker(id).is_none() {
            return Pick::Nothing;
        }
        let new_waits = self.new_waiting(end) > 0;
        match self.ready.front(self.next.rank, new_waits) {
            Some(offset) => Pick::Redelivery(offset),
            None if new_waits => Pick::FirstDelivery(self.next),
            None => Pick::Nothing,
        }
    }

    /// The number of messages that the subscriber may take this turn.
    pub(crate) fn share(&self, id: SubId, end: Pos) -> u32 {
        self.taker(id).map_or(0, |slot| self.subscribers.share(slot, self.available(end)))
    }

    /// Takes what [`Pick::Redelivery`] named. `not_before` is the time its publisher asked for, if it did.
    pub(crate) fn take_redelivery(
        &mut self,
        id: SubId,
        offset: Offset,
        not_before: Option<Mono>,
        now: Mono,
    ) -> Taken {
        let Some(slot) = self.taker(id) else { return Taken::Stale };
        let Some(attempts) = self.ready.take(offset) else { return Taken::Stale };
        if attempts == 0
            && let Some(taken) = self.withhold(slot, offset, not_before, now)
        {
            return taken;
        }
        let attempts = attempts.saturating_add(1);
        let timeout_ms = self.subscribers.timeout_ms(slot);
        self.in_flight.push_redelivery(offset, attempts, slot, now, timeout_ms);
        self.subscribers.delivered(slot);
        Taken::Deliver(attempts)
    }

    /// Takes the first message at or after [`Pick::FirstDelivery`]'s position, found at `offset`, and moves
    /// the cursor past it. A reader may go on to the message after it while the next picks are of that kind;
    /// where the cursor has jumped ahead of the reader, the answer is `Stale`.
    pub(crate) fn take_first_delivery(
        &mut self,
        id: SubId,
        offset: Offset,
        not_before: Option<Mono>,
        now: Mono,
    ) -> Taken {
        let Some(slot) = self.taker(id) else { return Taken::Stale };
        if offset < self.next.offset {
            return Taken::Stale;
        }
        self.pass(offset);
        if let Some(taken) = self.withhold(slot, offset, not_before, now) {
            return taken;
        }
        self.ready.first_delivered();
        self.in_flight.push_first_delivery(offset, slot, now, self.subscribers.timeout_ms(slot));
        self.subscribers.delivered(slot);
        Taken::Deliver(1)
    }

    /// Puts the message that a pick named aside, since it is too large for the subscriber: for its message
    /// timeout, as if it had been delivered. Counts as an attempt only where attempts are limited: there it
    /// becomes a dead letter in the end.
    pub(crate) fn put_aside(&mut self, id: SubId, offset: Offset, now: Mono) {
        let Some(slot) = self.taker(id) else { return };
        let attempts = if offset < self.next.offset {
            let Some(attempts) = self.ready.take(offset) else { return };
            attempts
        } else {
            self.pass(offset);
            0
        };
        self.oversized_count += 1;
        let attempts = attempts.saturating_add(u16::from(self.dead_letters.are_kept()));
        if self.bury(offset, attempts) {
            return;
        }
        let due = now.plus(u64::from(self.subscribers.timeout_ms(slot)) * 1_000_000);
        self.deferred.push(Due { due, offset, attempts });
        if attempts > 0 {
            self.delta.requeue(Unfinished { offset, attempts, due });
        }
    }

    /// Counts the message at `at`, published for later, as deferred at once, without any subscriber, if the
    /// cursor has come that far. If it hasn't, the message counts as waiting until it is reached.
    pub(crate) fn absorb(&mut self, at: Pos, due: Mono) -> bool {
        let caught_up = self.next.rank == at.rank;
        if caught_up {
            self.pass(at.offset);
            self.deferred.push(Due { due, offset: at.offset, attempts: 0 });
        }
        caught_up
    }

    /// The slot of a subscriber that may be sent a message now (I4).
    fn taker(&self, id: SubId) -> Option<u32> {
        let slot = self.subscribers.slot(id)?;
        (!self.paused && self.subscribers.spare(slot) > 0).then_some(slot)
    }

    /// Holds back a first delivery that is too early, or left out by sampling.
    fn withhold(&mut self, slot: u32, offset: Offset, not_before: Option<Mono>, now: Mono) -> Option<Taken> {
        if let Some(due) = not_before
            && due > now
        {
            self.deferred.push(Due { due, offset, attempts: 0 });
            return Some(Taken::Deferred);
        }
        // The comparison is nsqd's, so that a rate of 99 takes all.
        let rate = self.subscribers.sample_rate(slot);
        if rate > 0 && self.random.u8(0..100) > rate {
            self.delta.finish(offset);
            return Some(Taken::Sampled);
        }
        None
    }

    /// Moves the cursor past the message at `offset`.
    pub(super) fn pass(&mut self, offset: Offset) {
        self.next = Pos { offset: offset.plus(1), rank: self.next.rank + 1 };
        self.leap();
    }
}
