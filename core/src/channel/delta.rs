//! Changes of a channel that are not in the log yet.

use crate::clock::Mono;
use crate::message::Offset;

/// A message the cursor has passed and nobody has finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unfinished {
    pub(crate) offset: Offset,
    /// Deliveries so far.
    pub(crate) attempts: u16,
    /// Time before which it is not delivered; 0 means at once.
    pub(crate) due: Mono,
}

/// Finished ranges and requeues since the last one was taken.
///
/// Bounded although nobody may take it: whenever it has doubled it is merged in place, and merged there are
/// at most as many ranges as messages (and blocks of offsets) between them, and at most one requeue for each
/// unfinished message. So it holds at most 1,024 + 2 x (unfinished messages at any moment since it was taken,
/// plus blocks) entries of 16 and 24 bytes; what one channel finishes in order in 100 ms is one range.
#[derive(Default)]
pub(crate) struct Delta {
    /// The cursor when the delta was taken: what lies below and is not known as finished was in flight or
    /// waits.
    pub(crate) next: Offset,
    /// First and last offset of each range. A range may cover offsets that were never used.
    pub(crate) finished: Vec<(Offset, Offset)>,
    /// Requeued, timed out or returned; the newest word on each message.
    pub(crate) requeued: Vec<Unfinished>,
    /// Length at which `finished` is merged next, if above [`MERGE_MIN`].
    finished_limit: usize,
    requeued_limit: usize,
}

/// Shorter lists are merged only when taken.
const MERGE_MIN: usize = 512;

impl Delta {
    /// Whether the log has all changes.
    pub(crate) fn is_empty(&self) -> bool {
        self.finished.is_empty() && self.requeued.is_empty()
    }

    /// Sorts and merges. [`State::take_delta`](super::State::take_delta) leaves this to its caller, who has
    /// let the channel's lock go by then.
    pub(crate) fn normalize(&mut self) {
        merge_ranges(&mut self.finished);
        // Newest first among equals, so that dedup keeps it.
        self.requeued.reverse();
        self.requeued.sort_by_key(|message| message.offset);
        self.requeued.dedup_by_key(|message| message.offset);
        let mut ranges = self.finished.iter().peekable();
        self.requeued.retain(|message| {
            while ranges.next_if(|(_, last)| *last < message.offset).is_some() {}
            ranges.peek().is_none_or(|(first, _)| message.offset < *first)
        });
    }

    /// Empties it, keeping its buffers.
    pub(crate) fn clear(&mut self) {
        self.finished.clear();
        self.requeued.clear();
        (self.finished_limit, self.requeued_limit) = (0, 0);
    }

    pub(super) fn finish(&mut self, offset: Offset) {
        self.finish_range(offset, offset);
    }

    pub(super) fn finish_range(&mut self, first: Offset, last: Offset) {
        match self.finished.last_mut() {
            Some(range) if range.1.0 + 1 == first.0 => range.1 = last,
            _ => {
                if self.finished.len() >= self.finished_limit.max(MERGE_MIN) {
                    merge_ranges(&mut self.finished);
                    self.finished_limit = 2 * self.finished.len();
                }
                self.finished.push((first, last));
            }
        }
    }

    pub(super) fn requeue(&mut self, message: Unfinished) {
        if self.requeued.len() >= self.requeued_limit.max(MERGE_MIN) {
            self.normalize();
            self.requeued_limit = 2 * self.requeued.len();
        }
        self.requeued.push(message);
    }

    /// Drops all requeues, as all messages of the channel were finished at once.
    pub(super) fn forget_requeues(&mut self) {
        self.requeued.clear();
    }

    pub(super) fn bytes(&self) -> usize {
        self.finished.capacity() * size_of::<(Offset, Offset)>()
            + self.requeued.capacity() * size_of::<Unfinished>()
    }

    pub(super) fn tidy(&mut self) {
        if self.finished.capacity() > 4 * self.finished.len() + MERGE_MIN {
            self.finished.shrink_to(self.finished.len().max(MERGE_MIN));
        }
        if self.requeued.capacity() > 4 * self.requeued.len() + MERGE_MIN {
            self.requeued.shrink_to(self.requeued.len().max(MERGE_MIN));
        }
    }
}

fn merge_ranges(ranges: &mut Vec<(Offset, Offset)>) {
    ranges.sort_unstable();
    ranges.dedup_by(|next, kept| {
        let touches = next.0.0 <= kept.1.0.saturating_add(1);
        if touches {
            kept.1 = kept.1.max(next.1);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(delta: &Delta) -> Vec<(u64, u64)> {
        delta.finished.iter().map(|(first, last)| (first.0, last.0)).collect()
    }

    #[test]
    fn a_finish_outweighs_every_requeue_and_the_newest_requeue_wins() {
        let mut delta = Delta::default();
        let requeued =
            |offset, attempts, due| Unfinished { offset: Offset(offset), attempts, due: Mono(due) };
        delta.requeue(requeued(7, 1, 0));
        delta.requeue(requeued(3, 1, 50));
        delta.requeue(requeued(7, 2, 90));
        delta.requeue(requeued(4, 1, 0));
        for offset in [5, 6, 4, 2] {
            delta.finish(Offset(offset));
        }
        delta.normalize();
        assert_eq!(ranges(&delta), [(2, 2), (4, 6)]);
        assert_eq!(delta.requeued, [requeued(3, 1, 50), requeued(7, 2, 90)]);
    }

    #[test]
    fn it_stays_small_when_nobody_takes_it() {
        let mut delta = Delta::default();
        // Two consumers finish alternate messages, one half a window behind; message 0 is requeued over and
        // over.
        for i in 0..200_000u64 {
            delta.finish(Offset(if i % 2 == 0 { i + 1 } else { i + 100 + 1 }));
            delta.requeue(Unfinished { offset: Offset(0), attempts: 1, due: Mono(0) });
        }
        assert!(delta.finished.len() <= 2 * MERGE_MIN && delta.requeued.len() <= 2 * MERGE_MIN);
    }
}
