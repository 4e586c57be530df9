//! Reading what a channel holds without consuming.

use std::time::Duration;

use crate::channel::deferred::Due;
use crate::channel::{Channel, State};
use crate::clock::Mono;
use crate::error::Result;
use crate::message::{Delivery, Offset};

/// A message that a channel has not finished.
///
/// ```
/// # use mq_core::{Broker, Offset, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let (billing, _) = orders.channel(&"billing".parse()?, None)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// billing.peek(Offset(0), 10, 1 << 20, &mut |message, pending| {
///     assert_eq!((message.body, pending.attempts, pending.in_flight), (&b"one pizza"[..], 0, false));
/// })?;
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingMessage {
    /// Its offset.
    pub offset: Offset,
    /// Deliveries so far.
    pub attempts: u16,
    /// Whether it is at a subscriber.
    pub in_flight: bool,
    /// Time until it is due, if it is deferred.
    pub due: Option<Duration>,
}

impl<W: Clone> State<W> {
    /// The first `max` messages below the cursor that are not finished, from `from` on, in the order of their
    /// offsets. `now` is when that is asked.
    pub(crate) fn pending(&self, from: Offset, max: usize, now: Mono) -> Vec<PendingMessage> {
        let in_flight = self.in_flight.iter().map(|(offset, attempts)| PendingMessage {
            offset,
            attempts,
            in_flight: true,
            due: None,
        });
        let ready = self.ready.iter();
        let ready =
            ready.map(|(offset, attempts)| PendingMessage { offset, attempts, in_flight: false, due: None });
        let deferred = self.deferred.iter().map(|Due { due, offset, attempts }| PendingMessage {
            offset,
            attempts,
            in_flight: false,
            due: Some(Duration::from_nanos(due.since(now))),
        });
        let dead = self.dead_letters.iter().map(|dead| PendingMessage {
            offset: dead.offset,
            attempts: dead.attempts,
            in_flight: false,
            due: None,
        });
        let pending = in_flight.chain(ready).chain(deferred).chain(dead);
        let mut pending: Vec<_> = pending.filter(|message| message.offset >= from).collect();
        pending.sort_unstable_by_key(|message| message.offset);
        pending.truncate(max);
        pending
    }
}

impl Channel {
    /// Hands up to `max` messages that the channel holds, from offset `from` on, to `sink`: those in flight
    /// or deferred and those that wait, in the order of their offsets, each with its state. Moves
    /// nothing, and returns the offset to go on from. Ends early once bodies and headers have
    /// `bytes_max`, and may wait for a disk as [`Topic::peek`](crate::Topic::peek) does.
    ///
    /// # Errors
    /// `Closed`, `Damaged`, `Io`.
    pub fn peek(
        &self,
        from: Offset,
        max: usize,
        bytes_max: usize,
        sink: &mut dyn FnMut(Delivery<'_>, PendingMessage),
    ) -> Result<Offset> {
        let topic = self.open_topic()?;
        let now = self.shared.clock.mono();
        let (pending, next, end, gaps) = {
            let inner = self.inner.lock();
            let gaps: Vec<_> = inner.state.gaps().collect();
            (inner.state.pending(from, max, now), inner.state.next().offset, inner.end.offset, gaps)
        };
        let (mut left, mut bytes) = (max, 0);
        let is_full = |left: usize, bytes: usize| left == 0 || (left < max && bytes >= bytes_max);
        for message in &pending {
            if is_full(left, bytes) {
                return Ok(message.offset);
            }
            topic.peek(Some(message.offset), 1, usize::MAX, &mut |found| {
                // It may be gone meanwhile.
                if found.id.offset() == message.offset {
                    (left, bytes) = (left - 1, bytes + size(&found));
                    sink(Delivery { attempts: message.attempts, ..found }, *message);
                }
            })?;
        }
        if pending.len() == max {
            return Ok(pending.last().map_or(from, |last| last.offset.plus(1)));
        }
        // What waits for its first delivery.
        let mut at = from.max(next);
        while at < end && !is_full(left, bytes) {
            if let Some((_, to)) = gaps.iter().find(|(from, to)| from.offset <= at && at < to.offset) {
                at = to.offset;
                continue;
            }
            let gap = gaps.iter().map(|(from, _)| from.offset).find(|gap| *gap > at);
            let limit = gap.map_or(end, |gap| gap.min(end));
            let room = bytes_max.saturating_sub(bytes);
            let after = topic.peek(Some(at), left, room, &mut |found| {
                let offset = found.id.offset();
                if offset < limit {
                    (left, bytes) = (left - 1, bytes + size(&found));
                    sink(found, PendingMessage { offset, attempts: 0, in_flight: false, due: None });
                }
            })?;
            if after < limit {
                return Ok(after);
            }
            at = limit;
        }
        Ok(at)
    }
}

fn size(message: &Delivery<'_>) -> usize {
    message.body.len() + message.attributes.headers.map_or(0, <[u8]>::len)
}
