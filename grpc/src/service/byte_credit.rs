//! Bytes in flight at a subscriber that limits them. The channel keeps no sizes, so they are kept here, and
//! only where there is a limit.

use std::collections::HashMap;

use mq_core::MessageId;

/// A limit on the bytes of bodies in flight, and what is in flight.
#[derive(Debug, Default)]
pub(super) struct ByteCredit {
    /// Most bytes; 0: no limit.
    limit: u64,
    used: u64,
    /// Sizes of the messages in flight. Those that have timed out since the last [`ByteCredit::retain`] are
    /// still among them.
    sizes: HashMap<MessageId, u32>,
}

impl ByteCredit {
    /// Replaces the limit. What is in flight while there is none is not counted later.
    pub(super) fn set(&mut self, limit: u64) {
        self.limit = limit;
        if limit == 0 {
            *self = Self::default();
        }
    }

    /// Bytes that may come on top of those in flight; `None` without a limit.
    pub(super) fn left(&self) -> Option<u64> {
        (self.limit > 0).then(|| self.limit.saturating_sub(self.used))
    }

    /// Whether nothing that counts is in flight.
    pub(super) fn is_unused(&self) -> bool {
        self.used == 0
    }

    /// Counts a delivered message.
    pub(super) fn add(&mut self, id: MessageId, bytes: usize) {
        if self.limit > 0 {
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            self.used += u64::from(bytes);
            if let Some(before) = self.sizes.insert(id, bytes) {
                self.used -= u64::from(before);
            }
        }
    }

    /// Takes out a message that is no longer in flight.
    pub(super) fn remove(&mut self, id: MessageId) {
        if let Some(bytes) = self.sizes.remove(&id) {
            self.used -= u64::from(bytes);
        }
    }

    /// Takes out the messages for which `holds` is false: they have timed out.
    pub(super) fn retain(&mut self, mut holds: impl FnMut(MessageId) -> bool) {
        self.sizes.retain(|id, _| holds(*id));
        self.used = self.sizes.values().map(|bytes| u64::from(*bytes)).sum();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_flight_is_counted_once() {
        let id = MessageId;
        let mut credit = ByteCredit::default();
        credit.add(id(1), 10);
        assert_eq!(credit.left(), None);
        credit.set(100);
        credit.add(id(1), 60);
        credit.add(id(2), 30);
        assert_eq!(credit.left(), Some(10));
        // Timed out, and came again.
        credit.add(id(1), 60);
        assert_eq!(credit.left(), Some(10));
        credit.remove(id(2));
        credit.remove(id(2));
        assert_eq!(credit.left(), Some(40));
        credit.set(50);
        assert_eq!(credit.left(), Some(0));
        credit.retain(|held| held != id(1));
        assert!(credit.is_unused());
        credit.set(0);
        assert_eq!(credit.left(), None);
    }
}
