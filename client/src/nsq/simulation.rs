//! Credit and pauses together, over brokers that deliver what they may: connections that come and go,
//! failures and pauses in any order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::backoff::{Backoff, Outcome};
use super::strategy::ExponentialStrategy;
use crate::credit::{ConnectionId, Distributor, Event, SetCredit};

struct World {
    distributor: Distributor,
    backoff: Backoff,
    max: u32,
    now: Instant,
    /// Credit and messages in flight of each.
    brokers: BTreeMap<ConnectionId, (u32, u32)>,
    last: ConnectionId,
    /// The sum before: it may exceed a maximum that was lowered, and then it never rises.
    held: u32,
}

impl World {
    fn new(max: u32) -> Self {
        let backoff =
            Backoff::new(Arc::new(ExponentialStrategy), Duration::from_secs(1), Duration::from_secs(20));
        let (distributor, now) = (Distributor::new(max), Instant::now());
        Self { distributor, backoff, max, now, brokers: BTreeMap::new(), last: 0, held: 0 }
    }

    fn handle(&mut self, event: Event) {
        for SetCredit { connection, credit } in self.distributor.handle(event) {
            self.brokers.get_mut(&connection).unwrap().0 = credit;
        }
        let held: u32 = self.brokers.values().map(|(credit, in_flight)| *credit.max(in_flight)).sum();
        let allowed = self.backoff.allowed(self.max);
        assert!(held <= allowed.max(self.held), "{held} of {allowed}: {:?}", self.brokers);
        assert!(held <= self.max.max(self.held), "{held} of {}: {:?}", self.max, self.brokers);
        self.held = held;
    }

    fn apply(&mut self) {
        self.handle(Event::SetMax(self.backoff.allowed(self.max)));
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        if self.backoff.tick(self.now) {
            self.apply();
        }
    }

    fn deliver(&mut self, connection: ConnectionId) -> bool {
        let (credit, in_flight) = self.brokers.get_mut(&connection).unwrap();
        let has_room = *in_flight < *credit;
        if has_room {
            *in_flight += 1;
            self.handle(Event::Delivered(connection));
        }
        has_room
    }

    fn answer(&mut self, connection: ConnectionId, outcome: Outcome) {
        if self.brokers[&connection].1 == 0 {
            return;
        }
        // As the engine does: a pause is there before the answer.
        if self.backoff.answered(outcome, self.now) {
            self.apply();
        }
        self.brokers.get_mut(&connection).unwrap().1 -= 1;
        self.handle(Event::Answered(connection));
    }

    fn open(&mut self) {
        self.last += 1;
        self.brokers.insert(self.last, (0, 0));
        self.handle(Event::Opened { connection: self.last, max: 2500 });
    }

    fn step(&mut self, action: u8, which: usize) {
        let connection = self.brokers.keys().nth(which % self.brokers.len().max(1)).copied();
        match (action, connection) {
            (0, _) if self.brokers.len() < 8 => self.open(),
            (1, Some(connection)) => {
                self.brokers.remove(&connection);
                self.handle(Event::Ended(connection));
            }
            (2 | 3, Some(connection)) => drop(self.deliver(connection)),
            (4, Some(connection)) => self.answer(connection, Outcome::Success),
            (5, Some(connection)) => self.answer(connection, Outcome::Failure),
            (6, Some(connection)) => self.answer(connection, Outcome::Neutral),
            (7, _) => self.handle(Event::Rotate),
            (8, _) => {
                self.max = u32::try_from(which % 12).unwrap();
                self.apply();
            }
            (9, _) => self.pass(Duration::from_millis(which as u64 % 5000)),
            _ => {}
        }
    }
}

proptest! {
    #[test]
    fn after_disconnects_backoffs_and_pauses_all_credit_comes_back(
        max in 0u32..12,
        steps in prop::collection::vec((0u8..10, any::<usize>()), 0..300),
    ) {
        let mut world = World::new(max);
        steps.into_iter().for_each(|(action, which)| world.step(action, which));
        world.max = 7;
        world.apply();
        if world.brokers.is_empty() {
            world.open();
        }
        // From here on all goes well: a message at a time is enough to end any pause.
        for _ in 0..20 {
            world.pass(Duration::from_secs(20));
            for connection in world.brokers.keys().copied().collect::<Vec<_>>() {
                world.deliver(connection);
                while world.brokers[&connection].1 > 0 {
                    world.answer(connection, Outcome::Success);
                }
            }
        }
        prop_assert_eq!(world.backoff.allowed(7), 7);
        let credit: u32 = world.brokers.values().map(|(credit, _)| credit).sum();
        prop_assert_eq!(credit, 7, "{:?}", world.brokers);
    }
}
