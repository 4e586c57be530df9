//! Acknowledgements of deliveries by their tokens, for streams and for leases.

use std::time::Duration;

use bytes::Bytes;
use mq_core::{Acks, DeliveryToken, MessageId, Result as CoreResult, Subscription};

use crate::v1::{AckFailure, AckFailureReason, AckKind, SubscribeRequeue};

/// Acknowledgements under one lock of the channel, which its other subscribers wait for.
const RUN_ACKS: usize = 512;

/// Takes in acknowledgements of one request.
pub(super) struct Acknowledging<'a> {
    pub(super) subscription: &'a mut Subscription,
    /// The longest delay of a requeue.
    pub(super) max_delay: Duration,
    /// Acknowledgements that changed nothing.
    pub(super) failures: &'a mut Vec<AckFailure>,
    /// Called for each message that is no longer in flight.
    pub(super) left: &'a mut dyn FnMut(MessageId),
    pub(super) finished: u64,
    pub(super) requeued: u64,
}

impl Acknowledging<'_> {
    pub(super) fn finish(&mut self, tokens: &[Bytes]) {
        self.finished += self.run(AckKind::Finish, tokens, |acks, id| acks.finish(id));
    }

    pub(super) fn requeue(&mut self, requeues: &[SubscribeRequeue]) {
        for SubscribeRequeue { tokens, delay_ms } in requeues {
            let delay = Duration::from_millis(*delay_ms);
            if delay > self.max_delay {
                let reason = AckFailureReason::DelayTooLong;
                self.failures.extend(tokens.iter().map(|token| failure(token, AckKind::Requeue, reason)));
                continue;
            }
            self.requeued += self.run(AckKind::Requeue, tokens, |acks, id| acks.requeue(id, delay));
        }
    }

    pub(super) fn release(&mut self, tokens: &[Bytes]) {
        self.run(AckKind::Release, tokens, |acks, id| acks.release(id));
    }

    pub(super) fn touch(&mut self, tokens: &[Bytes]) {
        self.run(AckKind::Touch, tokens, |acks, id| acks.touch(id));
    }

    /// Returns how many changed something.
    fn run(
        &mut self,
        kind: AckKind,
        tokens: &[Bytes],
        act: impl Fn(&mut Acks<'_>, MessageId) -> CoreResult<()>,
    ) -> u64 {
        let mut done = 0;
        for run in tokens.chunks(RUN_ACKS) {
            let mut acks = self.subscription.acks();
            for token in run {
                let Some(delivery) = DeliveryToken::from_bytes(token) else {
                    self.failures.push(failure(token, kind, AckFailureReason::InvalidToken));
                    continue;
                };
                match acks.delivered(delivery).and_then(|id| act(&mut acks, id)) {
                    Ok(()) => {
                        done += 1;
                        if kind != AckKind::Touch {
                            (self.left)(delivery.id);
                        }
                    }
                    Err(_) => self.failures.push(failure(token, kind, AckFailureReason::NotInFlight)),
                }
            }
        }
        done
    }
}

/// Longest part of a token that a failure repeats: ours are shorter.
const TOKEN_BYTES_MAX: usize = 64;

pub(super) fn failure(token: &Bytes, kind: AckKind, reason: AckFailureReason) -> AckFailure {
    // A copy, so that the failure does not keep the whole request in memory.
    let token = Bytes::copy_from_slice(&token[..token.len().min(TOKEN_BYTES_MAX)]);
    AckFailure { token, kind: kind.into(), reason: reason.into() }
}
