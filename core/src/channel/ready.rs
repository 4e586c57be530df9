//! Messages that were delivered before, or deferred until now, and wait for a subscriber.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use super::lowest::Lowest;
use crate::message::Offset;

/// What waits for redelivery, in two lines.
///
/// What a subscriber left behind when it went (or a crash left) goes before everything else, lowest offset first: one
/// consumer that reconnects sees publish order. That can't starve fresh messages, since a message returned a second
/// time backs off instead. What was requeued, timed out or came due takes turns with fresh messages.
pub(super) struct Ready {
    returned: BinaryHeap<Reverse<(Offset, u16)>>,
    queue: VecDeque<(Offset, u16)>,
    queue_lowest: Lowest,
    /// The next turn belongs to a fresh message, if there is one.
    fresh_turn: bool,
}

impl Ready {
    pub(super) fn new() -> Self {
        Self {
            returned: BinaryHeap::new(),
            queue: VecDeque::new(),
            queue_lowest: Lowest::new(),
            fresh_turn: false,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.returned.len() + self.queue.len()
    }

    /// A message whose subscriber went away.
    pub(super) fn push_returned(&mut self, offset: Offset, attempts: u16) {
        self.returned.push(Reverse((offset, attempts)));
    }

    /// A message requeued, timed out or come due.
    pub(super) fn push(&mut self, offset: Offset, attempts: u16) {
        self.queue_lowest.inserted(offset);
        self.queue.push_back((offset, attempts));
    }

    /// The message whose turn it is; `None` if it is a fresh message's.
    pub(super) fn front(&self, fresh_waits: bool) -> Option<Offset> {
        match self.returned.peek() {
            Some(&Reverse((offset, _))) => Some(offset),
            None if fresh_waits && self.fresh_turn => None,
            None => self.queue.front().map(|&(offset, _)| offset),
        }
    }

    /// Takes `offset` out if it is first in its line, and gives its attempts so far.
    pub(super) fn take(&mut self, offset: Offset) -> Option<u16> {
        if let Some(&Reverse((first, attempts))) = self.returned.peek()
            && first == offset
        {
            self.returned.pop();
            return Some(attempts);
        }
        let &(first, attempts) = self.queue.front()?;
        if first != offset {
            return None;
        }
        self.queue.pop_front();
        self.queue_lowest.removed(offset);
        self.fresh_turn = true;
        Some(attempts)
    }

    pub(super) fn fresh_taken(&mut self) {
        self.fresh_turn = false;
    }

    pub(super) fn lowest(&mut self) -> Option<Offset> {
        let queued = self.queue_lowest.get(self.queue.iter().map(|&(offset, _)| offset));
        let returned = self.returned.peek().map(|first| first.0.0);
        queued.into_iter().chain(returned).min()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (Offset, u16)> + '_ {
        self.returned.iter().map(|entry| entry.0).chain(self.queue.iter().copied())
    }

    /// Takes out what lies below `to`.
    pub(super) fn drop_below(&mut self, to: Offset) -> Vec<Offset> {
        let dropped = self.iter().map(|(offset, _)| offset).filter(|offset| *offset < to).collect();
        self.returned.retain(|entry| entry.0.0 >= to);
        self.queue.retain(|(offset, _)| *offset >= to);
        self.queue_lowest = Lowest::new();
        self.queue.iter().for_each(|(offset, _)| self.queue_lowest.inserted(*offset));
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
        if self.queue.capacity() > 4 * self.queue.len() + 64 {
            self.queue.shrink_to_fit();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        (self.returned.capacity() + self.queue.capacity()) * size_of::<(Offset, u16)>()
    }
}
