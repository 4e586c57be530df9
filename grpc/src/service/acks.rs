//! Acknowledgements of deliveries by their tokens, for streams and for leases.

use std::time::Duration;

use bytes::Bytes;
use mq_core::{Acks, DeliveryToken, MessageId, Result as CoreResult, Subscription};

use crate::v1::{AckFailure, AckFailureReason, AckKind, SubscribeRequeue};

/// Acknowledgements under one lock of the channel, which its other subscribers wait for.
const RUN_ACKS: usize = 512;

/// The acknowledgements of one request: applies them and counts those that changed something.
pub(super) struct AckBatch<'a> {
    pub(super) subscription: &'a mut Subscription,
    /// The longest delay of a requeue.
    pub(super) max_delay: Duration,
    /// Acknowledgements that changed nothing.
    pub(super) failures: &'a mut Vec<AckFailure>,
    pub(super) finished: u64,
    pub(super) requeued: u64,
}

impl AckBatch<'_> {
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
                    Ok(()) => done += 1,
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mq_core::{Broker, Options, Parker, Pulled, Start, SubscribeOptions, Wake};

    use super::*;

    #[test]
    fn a_message_that_is_answered_is_in_flight_no_more_and_one_that_is_touched_is() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { data_path: folder.path().join("data"), ..Options::default() };
        let broker = Broker::open(options).unwrap();
        let wake: Arc<dyn Wake> = Arc::new(Parker::default());
        let (topic, channel) = ("t".parse().unwrap(), "c".parse().unwrap());
        let (mut subscription, opened) =
            broker.subscribe_at(&topic, &channel, Start::Now, SubscribeOptions::default(), &wake).unwrap();
        opened.ticket.wait(&broker).unwrap();
        subscription.acks().set_credit(4);
        for body in ["finished", "requeued", "released", "touched"] {
            let topic = broker.topic(&topic).unwrap();
            topic.publish_one(body.as_bytes()).unwrap().wait(&broker).unwrap();
        }
        let mut delivered = Vec::new();
        while subscription.pull(1 << 20, &mut |m| delivered.push((m.id, m.token.unwrap()))) == Pulled::More {}
        assert_eq!(delivered.len(), 4);
        let token = |n: usize| vec![Bytes::copy_from_slice(&delivered[n].1.to_bytes())];
        let mut failures = Vec::new();
        let mut batch = AckBatch {
            subscription: &mut subscription,
            max_delay: Duration::from_secs(3600),
            failures: &mut failures,
            finished: 0,
            requeued: 0,
        };
        batch.finish(&token(0));
        batch.requeue(&[SubscribeRequeue { tokens: token(1), delay_ms: 1000 }]);
        batch.release(&token(2));
        batch.touch(&token(3));
        assert_eq!((batch.finished, batch.requeued), (1, 1));
        assert_eq!(failures, []);
        assert_eq!(
            delivered.iter().map(|(id, _)| subscription.holds(*id)).collect::<Vec<_>>(),
            [false, false, false, true]
        );
        drop(subscription);
        broker.close().unwrap();
    }
}
