//! Messages that must not be delivered before a time: requeued with a delay, published with one, backing off.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::lowest::Lowest;
use crate::clock::Mono;
use crate::message::Offset;

/// One deferred message, 24 bytes. Ordered by due time, then offset.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Due {
    pub(super) due: Mono,
    pub(super) offset: Offset,
    pub(super) attempts: u16,
}

/// All deferred messages of a channel.
pub(super) struct Deferred {
    heap: BinaryHeap<Reverse<Due>>,
    lowest: Lowest,
}

impl Deferred {
    pub(super) fn new() -> Self {
        Self { heap: BinaryHeap::new(), lowest: Lowest::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.heap.len()
    }

    pub(super) fn push(&mut self, due: Due) {
        if self.heap.len() == self.heap.capacity() {
            // Doubling would cost 48 bytes a message.
            self.heap.reserve_exact((self.heap.len() / 8).max(32));
        }
        self.lowest.inserted(due.offset);
        self.heap.push(Reverse(due));
    }

    /// The message due first, if it is due by `now`.
    pub(super) fn pop_due(&mut self, now: Mono) -> Option<Due> {
        let next = self.heap.peek_mut().filter(|next| next.0.due <= now)?;
        let Reverse(due) = std::collections::binary_heap::PeekMut::pop(next);
        self.lowest.removed(due.offset);
        Some(due)
    }

    /// Time at which the first is due; `Mono::MAX` if there is none.
    pub(super) fn wake_at(&self) -> Mono {
        self.heap.peek().map_or(Mono::MAX, |next| next.0.due)
    }

    /// A lower bound of all offsets, as [`Lowest::bound`] has it.
    pub(super) fn floor(&mut self) -> Option<Offset> {
        self.lowest.bound(self.heap.len(), self.heap.iter().map(|due| due.0.offset))
    }

    /// The lowest offset.
    pub(super) fn lowest(&mut self) -> Option<Offset> {
        self.lowest.exact(self.heap.iter().map(|due| due.0.offset))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = Due> + '_ {
        self.heap.iter().map(|due| due.0)
    }

    /// Takes `offset` out, whenever it is due.
    pub(super) fn remove(&mut self, offset: Offset) -> Option<Due> {
        let found = self.iter().find(|due| due.offset == offset)?;
        self.heap.retain(|due| due.0.offset != offset);
        self.lowest.removed(offset);
        Some(found)
    }

    /// Takes out what lies below `to`.
    pub(super) fn drop_below(&mut self, to: Offset) -> Vec<Offset> {
        let dropped = self.iter().map(|due| due.offset).filter(|offset| *offset < to).collect();
        self.heap.retain(|due| due.0.offset >= to);
        self.lowest = Lowest::new();
        self.heap.iter().for_each(|due| self.lowest.inserted(due.0.offset));
        dropped
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Gives back memory that a past burst needed.
    pub(super) fn tidy(&mut self) {
        if self.heap.capacity() > 4 * self.heap.len() + 64 {
            self.heap.shrink_to_fit();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        self.heap.capacity() * size_of::<Due>()
    }
}
