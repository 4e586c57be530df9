//! The outcome of one publish, decided once.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use mq_core::sync::Mutex;

use super::{Buffer, Freed, Stored};
use crate::error::{Error, Result};
use crate::signal::Signal;

/// Stage of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PublishState {
    /// It waits in the client.
    Queued,
    /// It was sent, and there is no answer yet.
    Sent,
    /// It is stored.
    Stored,
    /// It is stored, and was before.
    Duplicate,
    /// It is not stored and will not be.
    Refused,
    /// It was sent, and nobody knows whether it is stored.
    Unknown,
}

/// The outcome of one publish, or how far it is. It holds its bytes in the buffer until it is decided.
#[derive(Debug, Default)]
pub(crate) struct Slot {
    state: Mutex<Publish>,
    signal: Signal,
}

#[derive(Debug, Default)]
struct Publish {
    bytes: usize,
    stage: Stage,
}

#[derive(Debug, Default)]
enum Stage {
    #[default]
    Queued,
    Sent(Arc<str>),
    Done(Result<Stored>),
}

/// One of a block of slots, which lives as long as any of them is held.
#[derive(Clone, Debug)]
pub(crate) struct SlotRef {
    block: Arc<[Slot]>,
    at: usize,
}

impl SlotRef {
    /// The last one of a block, which has one at least.
    pub(crate) fn last_of(block: Arc<[Slot]>) -> Self {
        let at = block.len().saturating_sub(1);
        Self { block, at }
    }

    /// The one before in its block.
    pub(crate) fn before(&self) -> Option<Self> {
        let at = self.at.checked_sub(1)?;
        Some(Self { block: Arc::clone(&self.block), at })
    }
}

impl Deref for SlotRef {
    type Target = Slot;

    fn deref(&self) -> &Slot {
        &self.block[self.at]
    }
}

impl Slot {
    /// Notes that a publish of so many bytes waits, before anybody else has the slot.
    pub(crate) fn queue(&self, bytes: usize) {
        self.state.lock().bytes = bytes;
    }

    /// Notes that it is being sent, for the first time or again. `false` if it was withdrawn.
    pub(crate) fn start(&self, broker: &Arc<str>) -> bool {
        let mut state = self.state.lock();
        let is_open = !matches!(state.stage, Stage::Done(_));
        if is_open {
            state.stage = Stage::Sent(Arc::clone(broker));
        }
        is_open
    }

    /// Notes that what was sent was not looked at.
    pub(crate) fn restart(&self) {
        let mut state = self.state.lock();
        if matches!(state.stage, Stage::Sent(_)) {
            state.stage = Stage::Queued;
        }
    }

    /// Decides the outcome, if it has none, and gives back what the publish took of the buffer.
    pub(crate) fn settle(&self, buffer: &Buffer, result: Result<Stored>) {
        buffer.give(self.decide(result));
        self.signal.notify();
    }

    /// The same as a part of more: the buffer is given back all of it at once, and [`Slot::notify`] follows.
    pub(crate) fn decide(&self, result: Result<Stored>) -> Freed {
        self.decide_if(|_| true, result)
    }

    pub(crate) fn notify(&self) {
        self.signal.notify();
    }

    /// Takes back what was not sent. What was, goes on.
    pub(crate) fn withdraw(&self, buffer: &Buffer, error: Error) {
        buffer.give(self.decide_if(|stage| matches!(stage, Stage::Queued), Err(error)));
        self.signal.notify();
    }

    fn decide_if(&self, condition: impl FnOnce(&Stage) -> bool, result: Result<Stored>) -> Freed {
        let mut state = self.state.lock();
        if matches!(state.stage, Stage::Done(_)) || !condition(&state.stage) {
            return Freed::default();
        }
        state.stage = Stage::Done(result);
        Freed { bytes: state.bytes, publishes: 1 }
    }

    pub(super) fn is_done(&self) -> bool {
        matches!(self.state.lock().stage, Stage::Done(_))
    }

    fn result(&self) -> Option<Result<Stored>> {
        match &self.state.lock().stage {
            Stage::Done(result) => Some(result.clone()),
            _ => None,
        }
    }

    pub(super) fn state(&self) -> PublishState {
        match &self.state.lock().stage {
            Stage::Queued => PublishState::Queued,
            Stage::Sent(_) => PublishState::Sent,
            Stage::Done(Ok(stored)) if stored.is_duplicate() => PublishState::Duplicate,
            Stage::Done(Ok(_)) => PublishState::Stored,
            Stage::Done(Err(Error::Unknown { .. })) => PublishState::Unknown,
            Stage::Done(Err(_)) => PublishState::Refused,
        }
    }

    /// Waits for the outcome until `deadline`.
    pub(super) fn result_by(&self, deadline: Option<Instant>) -> Option<Result<Stored>> {
        self.signal.block_until(deadline, || self.result())
    }

    /// The same as a future, without a deadline.
    pub(super) async fn eventual_result(&self) -> Result<Stored> {
        self.signal.until(|| self.result()).await
    }

    /// Waits for the outcome until `deadline` or until it is interrupted: what was not sent by then never is,
    /// and what was is unknown.
    pub(crate) fn finish_by(
        &self,
        buffer: &Buffer,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
        why: impl FnOnce() -> String,
    ) -> Result<Stored> {
        let outcome = || self.result();
        if let Some(result) = self.signal.block_until_interrupted(deadline, interrupted, outcome) {
            return result;
        }
        self.give_up(buffer, why)
    }

    /// The outcome as at the end of the time there is for it.
    pub(crate) fn give_up(&self, buffer: &Buffer, why: impl FnOnce() -> String) -> Result<Stored> {
        self.withdraw(buffer, Error::Timeout(why()));
        let sent_to = match &self.state.lock().stage {
            Stage::Sent(broker) => broker.to_string(),
            _ => String::new(),
        };
        let unknown = || Err(Error::Unknown { why: "no answer in time".to_owned(), broker: sent_to });
        self.result().unwrap_or_else(unknown)
    }

    /// Waits for the outcome. If the future is dropped, what was not sent never is.
    pub(crate) async fn finished(&self, buffer: &Buffer) -> Result<Stored> {
        struct Withdraw<'a>(&'a Slot, &'a Buffer);
        impl Drop for Withdraw<'_> {
            fn drop(&mut self) {
                self.0.withdraw(self.1, Error::Closed);
            }
        }
        let slot = Withdraw(self, buffer);
        slot.0.eventual_result().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outgoing::Outgoing;
    use crate::publish::Publication;
    use crate::publish::publication::publication;

    #[test]
    fn an_outcome_is_given_once_and_frees_its_bytes_once() {
        let buffer = Buffer::new(10);
        let slot = publication(&buffer, "0123456789").slot;
        let one_more = Outgoing::encode(["x"]).unwrap();
        assert!(Publication::try_new("t".parse().unwrap(), one_more, &buffer).is_err());
        assert!(slot.start(&"a".into()));
        slot.withdraw(&buffer, Error::Closed);
        assert_eq!(slot.state(), PublishState::Sent);
        slot.settle(&buffer, Err(Error::Unknown { why: String::new(), broker: String::new() }));
        slot.settle(&buffer, Ok(Stored::new("a".into())));
        assert_eq!((slot.state(), buffer.unfinished()), (PublishState::Unknown, 0));
        let _ = publication(&buffer, "0123456789");
    }
}
