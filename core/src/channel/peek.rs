//! Reading what a channel holds without consuming.

use crate::channel::{Channel, Held};
use crate::error::Result;
use crate::message::{Delivery, Offset};

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
        sink: &mut dyn FnMut(Delivery<'_>, Held),
    ) -> Result<Offset> {
        let topic = self.open_topic()?;
        let now = self.shared.clock.mono();
        let (held, next, end, gaps) = {
            let inner = self.inner.lock();
            let gaps: Vec<_> = inner.state.gaps().collect();
            (inner.state.held(from, max, now), inner.state.next().offset, inner.end.offset, gaps)
        };
        let (mut left, mut bytes) = (max, 0);
        let is_full = |left: usize, bytes: usize| left == 0 || (left < max && bytes >= bytes_max);
        for message in &held {
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
        if held.len() == max {
            return Ok(held.last().map_or(from, |last| last.offset.plus(1)));
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
                    sink(found, Held { offset, attempts: 0, in_flight: false, due: None });
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
