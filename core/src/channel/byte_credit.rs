//! Bytes in flight at a subscriber that bounds them. Messages in flight have no sizes, so they are kept here,
//! and only where there is a bound.

use std::collections::HashMap;

use crate::message::Offset;

/// A bound on the bytes of bodies in flight, and what is in flight.
#[derive(Debug)]
pub(super) struct ByteCredit {
    limit: u64,
    used: u64,
    /// Sizes of the messages that count.
    sizes: HashMap<Offset, u32>,
}

/// Room for more bodies at a subscriber that bounds their bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ByteRoom {
    left: u64,
    /// Nothing that counts is in flight: one message may come, however large.
    is_unused: bool,
}

impl ByteRoom {
    /// Most bytes of the next body.
    pub(crate) fn of_next(self) -> usize {
        if self.is_unused { usize::MAX } else { usize::try_from(self.left).unwrap_or(usize::MAX) }
    }
}

impl ByteCredit {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, used: 0, sizes: HashMap::new() }
    }

    /// Replaces the limit. What is in flight still counts.
    pub(super) fn set(&mut self, limit: u64) {
        self.limit = limit;
    }

    pub(super) fn room(&self) -> ByteRoom {
        ByteRoom { left: self.limit.saturating_sub(self.used), is_unused: self.sizes.is_empty() }
    }

    /// Counts a message that is delivered.
    pub(super) fn add(&mut self, offset: Offset, bytes: usize) {
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        self.used += u64::from(bytes);
        if let Some(before) = self.sizes.insert(offset, bytes) {
            self.used -= u64::from(before);
        }
    }

    /// Takes out a message that is no longer in flight.
    pub(super) fn remove(&mut self, offset: Offset) {
        if let Some(bytes) = self.sizes.remove(&offset) {
            self.used -= u64::from(bytes);
        }
    }

    /// Records that nothing is in flight any more.
    pub(super) fn clear(&mut self) {
        (self.used, self.sizes) = (0, HashMap::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_is_counted_once() {
        let mut credit = ByteCredit::new(100);
        let room = |left, is_unused| ByteRoom { left, is_unused };
        assert_eq!(credit.room(), room(100, true));
        credit.add(Offset(1), 60);
        credit.add(Offset(2), 30);
        assert_eq!(credit.room(), room(10, false));
        credit.add(Offset(1), 60);
        assert_eq!(credit.room(), room(10, false));
        credit.remove(Offset(2));
        credit.remove(Offset(2));
        assert_eq!(credit.room(), room(40, false));
        credit.set(50);
        assert_eq!(credit.room(), room(0, false), "more than the new limit");
        assert_eq!(credit.room().of_next(), 0);
        credit.clear();
        assert_eq!(credit.room(), room(50, true));
        assert_eq!(credit.room().of_next(), usize::MAX, "one alone");
    }
}
