//! One message, finished or made ready by an administrator, whoever holds it.

use std::time::Duration;

use super::State;
use crate::channel::PendingMessage;
use crate::channel::delta::Unfinished;
use crate::clock::Mono;
use crate::message::{Offset, Pos};

impl<W: Clone> State<W> {
    /// Finishes a message below the cursor. Gives what it was; `None` if the channel does not hold it.
    pub(crate) fn drop_one(&mut self, offset: Offset, now: Mono) -> Option<PendingMessage> {
        let was = self.take_out(offset, now)?;
        self.delta.finish(offset);
        Some(was)
    }

    /// Makes a message below the cursor ready at once, behind all that waits up to `end`. What is ready keeps
    /// its place. Gives what it was; `None` if the channel does not hold it.
    pub(crate) fn requeue_one(&mut self, offset: Offset, now: Mono, end: Pos) -> Option<PendingMessage> {
        if let Some((_, attempts)) = self.ready.iter().find(|(ready, _)| *ready == offset) {
            return Some(PendingMessage { offset, attempts, in_flight: false, due: None });
        }
        let was = self.take_out(offset, now)?;
        self.requeue_count += u64::from(was.in_flight);
        self.ready.push(offset, was.attempts, end.rank);
        self.delta.requeue(Unfinished { offset, attempts: was.attempts, due: Mono(0) });
        Some(was)
    }

    /// Moves the cursor past the next new message, at `offset`. The message waits like one that a
    /// subscriber left behind: before everything new, so that the order stays (I2).
    pub(crate) fn pass_to_ready(&mut self, offset: Offset) {
        self.ready.push_returned(offset, 0);
        self.pass(offset);
    }

    fn take_out(&mut self, offset: Offset, now: Mono) -> Option<PendingMessage> {
        if let Some(owner) = self.in_flight.owner(offset) {
            let attempts = self.in_flight.remove(offset, owner).ok()?;
            self.subscribers.released(owner, offset);
            return Some(PendingMessage { offset, attempts, in_flight: true, due: None });
        }
        if let Some(attempts) = self.ready.remove(offset) {
            return Some(PendingMessage { offset, attempts, in_flight: false, due: None });
        }
        if let Some(attempts) = self.dead_letters.remove(offset) {
            return Some(PendingMessage { offset, attempts, in_flight: false, due: None });
        }
        let due = self.deferred.remove(offset)?;
        Some(PendingMessage {
            offset,
            attempts: due.attempts,
            in_flight: false,
            due: Some(Duration::from_nanos(due.due.since(now))),
        })
    }
}
