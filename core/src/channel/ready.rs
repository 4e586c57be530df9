//! Messages that were delivered before, or deferred until now, and wait for a subscriber.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::lowest::Lowest;
use crate::message::Offset;

/// The messages that wait for redelivery, in two lines.
///
/// Messages that a subscriber left behind when it went (or a crash left) go before everything else, lowest
/// offset first: one consumer that reconnects sees publish order. That can't starve new messages, since a
/// message returned a second time backs off instead.
///
/// A message requeued, timed out or come due goes to the back: behind every message that waited for the
/// channel at that moment, as nsqd has it. Once those are delivered it takes turns with the messages
/// published since, a new one first: there are at least as many new deliveries as redeliveries, so a
/// poison message never stands in front.
pub(super) struct Ready {
    returned: BinaryHeap<Reverse<(Offset, u16)>>,
    /// Messages taken from `returned` to be looked at in order, sorted. What is returned after may go before
    /// them.
    staged: VecDeque<(Offset, u16)>,
    queue: VecDeque<Queued>,
    queue_lowest: Lowest,
    /// The next turn belongs to a new message, if there is one.
    first_delivery_turn: bool,
}

/// A message in the queue, 24 bytes.
#[derive(Clone, Copy)]
struct Queued {
    offset: Offset,
    /// Rank that the cursor must have reached: the end of what waited when the message was queued. Never
    /// falls from one message of the queue to the next.
    after: u64,
    attempts: u16,
}

impl Ready {
    pub(super) fn new() -> Self {
        Self {
            returned: BinaryHeap::new(),
            staged: VecDeque::new(),
            queue: VecDeque::new(),
            queue_lowest: Lowest::new(),
            first_delivery_turn: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.returned.len() + self.staged.len() + self.queue.len()
    }

    /// Adds a message whose subscriber went away.
    pub(super) fn push_returned(&mut self, offset: Offset, attempts: u16) {
        self.returned.push(Reverse((offset, attempts)));
    }

    /// Adds a message requeued, timed out or come due, behind all new messages of ranks below `after`.
    pub(super) fn push(&mut self, offset: Offset, attempts: u16, after: u64) {
        if self.queue.len() == self.queue.capacity() {
            // Doubling would cost 48 bytes a message.
            self.queue.reserve_exact((self.queue.len() / 8).max(32));
        }
        self.queue_lowest.inserted(offset);
        self.queue.push_back(Queued { offset, after, attempts });
    }

    /// The message whose turn it is; `None` if it is the turn of a new message, the next of which has the
    /// rank `next` if `new_waits`.
    pub(super) fn front(&self, next: u64, new_waits: bool) -> Option<Offset> {
        if let Some(offset) = self.lowest_returned() {
            return Some(offset);
        }
        let first = self.queue.front()?;
        let waits = new_waits && (self.first_delivery_turn || next < first.after);
        (!waits).then_some(first.offset)
    }

    /// Takes `offset` out if it is first in its line, and gives its attempts so far.
    pub(super) fn take(&mut self, offset: Offset) -> Option<u16> {
        if self.lowest_returned() == Some(offset) {
            let staged = self.staged.front().is_some_and(|(first, _)| *first == offset);
            let taken =
                if staged { self.staged.pop_front() } else { self.returned.pop().map(|first| first.0) };
            return taken.map(|(_, attempts)| attempts);
        }
        let first = *self.queue.front()?;
        if first.offset != offset {
            return None;
        }
        self.queue.pop_front();
        self.queue_lowest.removed(offset);
        self.first_delivery_turn = true;
        Some(first.attempts)
    }

    /// Takes `offset` out if it is first in its line, without a turn. Whether it was.
    pub(super) fn drop_first(&mut self, offset: Offset) -> bool {
        let first_delivery_turn = self.first_delivery_turn;
        let dropped = self.take(offset).is_some();
        self.first_delivery_turn = first_delivery_turn;
        dropped
    }

    /// The first `count` in the order of their delivery, new messages aside.
    pub(super) fn upcoming(&mut self, count: usize) -> Vec<Offset> {
        let last = self.staged.back().map(|(offset, _)| *offset);
        if self.returned.peek().is_some_and(|first| last.is_some_and(|last| first.0.0 < last)) {
            self.returned.extend(self.staged.drain(..).map(Reverse));
        }
        while self.staged.len() < count
            && let Some(Reverse(first)) = self.returned.pop()
        {
            self.staged.push_back(first);
        }
        let queued = self.queue.iter().map(|m| m.offset);
        self.staged.iter().map(|(offset, _)| *offset).chain(queued).take(count).collect()
    }

    /// Notes that a new message was delivered.
    pub(super) fn first_delivered(&mut self) {
        self.first_delivery_turn = false;
    }

    /// A lower bound of all offsets, as [`Lowest::bound`] has it.
    pub(super) fn floor(&mut self) -> Option<Offset> {
        let queued = self.queue_lowest.bound(self.queue.len(), self.queue.iter().map(|m| m.offset));
        self.lowest_returned().into_iter().chain(queued).min()
    }

    /// The lowest offset.
    pub(super) fn lowest(&mut self) -> Option<Offset> {
        let queued = self.queue_lowest.exact(self.queue.iter().map(|m| m.offset));
        self.lowest_returned().into_iter().chain(queued).min()
    }

    fn lowest_returned(&self) -> Option<Offset> {
        let returned = self.returned.peek().map(|first| first.0.0);
        self.staged.front().map(|(offset, _)| *offset).into_iter().chain(returned).min()
    }

    /// All messages that wait for redelivery: offset and attempts of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Offset, u16)> + '_ {
        let queued = self.queue.iter().map(|m| (m.offset, m.attempts));
        self.returned.iter().map(|entry| entry.0).chain(self.staged.iter().copied()).chain(queued)
    }

    /// Takes `offset` out wherever it stands, and gives its attempts so far.
    pub(super) fn remove(&mut self, offset: Offset) -> Option<u16> {
        let attempts = self.iter().find(|(ready, _)| *ready == offset)?.1;
        let queued = self.queue.len();
        self.returned.retain(|entry| entry.0.0 != offset);
        self.staged.retain(|(ready, _)| *ready != offset);
        self.queue.retain(|m| m.offset != offset);
        if self.queue.len() < queued {
            self.queue_lowest.removed(offset);
        }
        Some(attempts)
    }

    /// Takes out what lies below `to`.
    pub(super) fn drop_below(&mut self, to: Offset) -> Vec<Offset> {
        let dropped = self.iter().map(|(offset, _)| offset).filter(|offset| *offset < to).collect();
        self.returned.retain(|entry| entry.0.0 >= to);
        self.staged.retain(|(offset, _)| *offset >= to);
        self.queue.retain(|m| m.offset >= to);
        self.queue_lowest = Lowest::new();
        self.queue.iter().for_each(|m| self.queue_lowest.inserted(m.offset));
        dropped
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Gives back memory that a past burst needed.
    pub(super) fn tidy(&mut self) {
        if self.returned.capacity() > 4 * self.returned.len() + 64 {
            self.returned.shrink_to_fit();
        }
        if self.staged.capacity() > 4 * self.staged.len() + 64 {
            self.staged.shrink_to_fit();
        }
        if self.queue.capacity() > 4 * self.queue.len() + 64 {
            self.queue.shrink_to_fit();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        (self.returned.capacity() + self.staged.capacity()) * size_of::<(Offset, u16)>()
            + self.queue.capacity() * size_of::<Queued>()
    }
}
