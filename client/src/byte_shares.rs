//! Bytes in flight over connections: how many of bodies each of a subscription's brokers may have in flight
//! here. A pure state machine: events in, actions out.

use std::collections::{BTreeMap, VecDeque};

use crate::credit::{ConnectionId, Event};

/// Sets the bytes of bodies that a connection may have in flight; never 0, which is no bound on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetBytes {
    pub(crate) connection: ConnectionId,
    pub(crate) bytes: u64,
}

/// The byte credit of a subscription: equal shares of `max`, at least a byte each. A broker sends a message
/// that is larger than its share when nothing else of it is in flight; but for one such message each, what is
/// in flight over all connections never exceeds `max`. So a share rises only as far as those that were
/// lowered are free of what they had: their brokers go by the new share, and what came by the old one is
/// answered.
#[derive(Debug)]
pub(crate) struct ByteShares {
    max: u64,
    connections: BTreeMap<ConnectionId, Share>,
    /// Whether some connection has less than its share.
    is_short: bool,
}

#[derive(Debug, Default)]
struct Share {
    /// Set last; 0 before it is set first.
    set: u64,
    /// Set before, oldest first: all that the broker may still go by.
    older: VecDeque<u64>,
    in_flight: u64,
    is_retired: bool,
}

impl Share {
    /// Bytes that are here or may come yet.
    fn held(&self) -> u64 {
        self.older.iter().copied().fold(self.set.max(self.in_flight), u64::max)
    }

    fn set(&mut self, connection: ConnectionId, bytes: u64) -> SetBytes {
        self.older.push_back(std::mem::replace(&mut self.set, bytes));
        SetBytes { connection, bytes }
    }
}

impl ByteShares {
    pub(crate) fn new(max: u64) -> Self {
        Self { max, connections: BTreeMap::new(), is_short: false }
    }

    /// Follows connections that come and go.
    pub(crate) fn follow(&mut self, event: Event) -> Vec<SetBytes> {
        match event {
            Event::Opened { connection, .. } => drop(self.connections.insert(connection, Share::default())),
            Event::Retired(connection) => {
                if let Some(share) = self.connections.get_mut(&connection) {
                    share.is_retired = true;
                }
            }
            Event::Ended(connection) => drop(self.connections.remove(&connection)),
            _ => return Vec::new(),
        }
        self.distribute()
    }

    /// Messages with so many bytes of bodies came.
    pub(crate) fn delivered(&mut self, connection: ConnectionId, bytes: u64) {
        if let Some(share) = self.connections.get_mut(&connection) {
            share.in_flight += bytes;
        }
    }

    /// Messages with so many bytes of bodies are not in flight any more.
    pub(crate) fn answered(&mut self, connection: ConnectionId, bytes: u64) -> Vec<SetBytes> {
        if let Some(share) = self.connections.get_mut(&connection) {
            share.in_flight = share.in_flight.saturating_sub(bytes);
        }
        if self.is_short { self.distribute() } else { Vec::new() }
    }

    /// The connection's broker goes by a share that it was sent, the oldest that it has not confirmed. What
    /// it had sent before is here.
    pub(crate) fn confirmed(&mut self, connection: ConnectionId) -> Vec<SetBytes> {
        if let Some(share) = self.connections.get_mut(&connection) {
            share.older.pop_front();
        }
        if self.is_short { self.distribute() } else { Vec::new() }
    }

    /// Lowers shares first; then raises others as far as there is room.
    fn distribute(&mut self) -> Vec<SetBytes> {
        let open = self.connections.values().filter(|share| !share.is_retired).count();
        let equal = (self.max / (open as u64).max(1)).max(1);
        let mut actions = Vec::new();
        for (&connection, share) in &mut self.connections {
            let target = if share.is_retired { 1 } else { equal };
            if share.set > target {
                actions.push(share.set(connection, target));
            }
        }
        let held = self.connections.values().map(Share::held).fold(0, u64::saturating_add);
        let mut room = self.max.saturating_sub(held);
        self.is_short = false;
        for (&connection, share) in &mut self.connections {
            if share.is_retired || share.set >= equal {
                continue;
            }
            // One that is new begins with a message at a time where there is no room.
            let bytes = equal.min(share.held().saturating_add(room)).max(1);
            // Not for a few bytes each time that a message is answered.
            if share.set == 0 || bytes == equal || bytes > share.set.saturating_add(equal / 8) {
                room = room.saturating_sub(bytes.saturating_sub(share.held()));
                actions.push(share.set(connection, bytes));
            }
            self.is_short |= share.set < equal;
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A broker, and what is on its way to it and from it.
    #[derive(Default)]
    struct Broker {
        credit: u64,
        /// Shares that it has not read yet.
        unread: VecDeque<u64>,
        /// Messages that the client has not read yet, and confirmations: `None`.
        sent: VecDeque<Option<u64>>,
        /// Messages here.
        here: Vec<u64>,
    }

    impl Broker {
        fn unanswered(&self) -> Vec<u64> {
            self.sent.iter().copied().flatten().chain(self.here.iter().copied()).collect()
        }
    }

    struct World {
        shares: ByteShares,
        brokers: BTreeMap<ConnectionId, Broker>,
        last: ConnectionId,
    }

    impl World {
        fn new(max: u64) -> Self {
            Self { shares: ByteShares::new(max), brokers: BTreeMap::new(), last: 0 }
        }

        fn send(&mut self, actions: Vec<SetBytes>) {
            for SetBytes { connection, bytes } in actions {
                assert!(bytes > 0, "no bound at all");
                self.brokers.get_mut(&connection).unwrap().unread.push_back(bytes);
            }
        }

        fn open(&mut self) {
            self.last += 1;
            self.brokers.insert(self.last, Broker::default());
            let actions = self.shares.follow(Event::Opened { connection: self.last, max: 2500 });
            self.send(actions);
        }

        /// The broker reads a share.
        fn read(&mut self, connection: ConnectionId) {
            let broker = self.brokers.get_mut(&connection).unwrap();
            if let Some(credit) = broker.unread.pop_front() {
                broker.credit = credit;
                broker.sent.push_back(None);
            }
        }

        /// The broker sends a message if it may.
        fn deliver(&mut self, connection: ConnectionId, bytes: u64) {
            let broker = self.brokers.get_mut(&connection).unwrap();
            let in_flight: u64 = broker.unanswered().iter().sum();
            if broker.credit > 0 && (in_flight == 0 || in_flight + bytes <= broker.credit) {
                broker.sent.push_back(Some(bytes));
            }
        }

        /// The client reads what the broker sent.
        fn receive(&mut self, connection: ConnectionId) {
            let broker = self.brokers.get_mut(&connection).unwrap();
            match broker.sent.pop_front() {
                None => {}
                Some(Some(bytes)) => {
                    broker.here.push(bytes);
                    self.shares.delivered(connection, bytes);
                }
                Some(None) => {
                    let actions = self.shares.confirmed(connection);
                    self.send(actions);
                }
            }
        }

        fn answer(&mut self, connection: ConnectionId) {
            if let Some(bytes) = self.brokers.get_mut(&connection).unwrap().here.pop() {
                let actions = self.shares.answered(connection, bytes);
                self.send(actions);
            }
        }

        fn end(&mut self, connection: ConnectionId) {
            self.brokers.remove(&connection);
            let actions = self.shares.follow(Event::Ended(connection));
            self.send(actions);
        }

        /// Everything arrives and is answered.
        fn settle(&mut self) {
            while self
                .brokers
                .values()
                .any(|b| !(b.unread.is_empty() && b.sent.is_empty() && b.here.is_empty()))
            {
                for connection in self.brokers.keys().copied().collect::<Vec<_>>() {
                    self.read(connection);
                    self.receive(connection);
                    self.answer(connection);
                }
            }
        }

        fn credits(&self) -> Vec<u64> {
            self.brokers.values().map(|broker| broker.credit).collect()
        }
    }

    #[test]
    fn shares_are_equal_and_rise_only_once_others_are_free_of_what_they_had() {
        let mut world = World::new(100);
        world.open();
        world.settle();
        assert_eq!(world.credits(), [100]);
        (0..10).for_each(|_| world.deliver(1, 10));
        (0..10).for_each(|_| world.receive(1));
        world.open();
        world.read(2);
        assert_eq!(world.credits(), [100, 1], "a message at a time");
        (0..4).for_each(|_| world.answer(1));
        assert!(world.brokers[&2].unread.is_empty(), "the first may send more by its old share");
        world.read(1);
        world.receive(1);
        assert_eq!(world.brokers[&2].unread, [40], "its old share is over");
        world.settle();
        assert_eq!(world.credits(), [50, 50]);
        let retired = world.shares.follow(Event::Retired(1));
        world.send(retired);
        world.settle();
        assert_eq!(world.credits(), [1, 99], "a retired one has the least there is until it ends");
        world.end(1);
        world.settle();
        assert_eq!(world.credits(), [100]);
    }

    proptest! {
        #[test]
        fn bytes_never_exceed_their_bound_but_for_one_message_each(
            max in 1_u64..100,
            steps in prop::collection::vec((0_u8..10, any::<usize>(), 1_u64..60), 0..300),
        ) {
            let mut world = World::new(max);
            for (step, which, bytes) in steps {
                let some = world.brokers.keys().nth(which % world.brokers.len().max(1)).copied();
                match (step, some) {
                    (0, _) if world.brokers.len() < 5 => world.open(),
                    (1, Some(connection)) if which % 4 == 0 => world.end(connection),
                    (2 | 3, Some(connection)) => world.read(connection),
                    (4 | 5, Some(connection)) => world.deliver(connection, bytes),
                    (6 | 7, Some(connection)) => world.receive(connection),
                    (_, Some(connection)) => world.answer(connection),
                    _ => {}
                }
                let unanswered = world.brokers.values().map(Broker::unanswered);
                let many: u64 = unanswered.filter(|sizes| sizes.len() > 1).flatten().sum();
                prop_assert!(many <= max, "{many} of {max}");
            }
            world.settle();
            let open = world.brokers.len() as u64;
            for credit in world.credits() {
                prop_assert_eq!(credit, (max / open).max(1));
            }
        }
    }
}
