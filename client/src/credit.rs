//! Credit over connections: how many messages each of a subscription's brokers may have in flight here. A
//! pure state machine: events in, actions out.

use std::collections::{BTreeMap, VecDeque};

/// A connection of a subscription. Numbers are not used twice.
pub(crate) type ConnectionId = u64;

/// A change that credit follows.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Event {
    /// A connection is subscribed, with no credit; its broker takes at most `max`.
    Opened { connection: ConnectionId, max: u32 },
    /// A connection gets no more messages.
    Retired(ConnectionId),
    /// A connection ended.
    Ended(ConnectionId),
    /// A message came.
    Delivered(ConnectionId),
    /// A message was answered, or is not in flight any more.
    Answered(ConnectionId),
    /// An interval is over: those without credit have some, or those that use theirs have more.
    Rotate,
    /// A connection comes last where there are more than messages.
    Yielded(ConnectionId),
    /// Another number of messages may be in flight; 0: none comes any more.
    SetMax(u32),
}

/// Sets the credit of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetCredit {
    pub(crate) connection: ConnectionId,
    pub(crate) credit: u32,
}

/// The credit of a subscription. Of all connections together, the larger of credit and messages in flight
/// never exceeds `max_in_flight`: credit that one loses goes to another only once its messages are answered.
/// (Messages on their way when credit is lowered come all the same; the inbox keeps them back.)
///
/// Credit follows the load: what a connection has not used for an interval goes to those that use all of
/// theirs, and comes back as soon as it uses up what it has left.
#[derive(Debug)]
pub(crate) struct Distributor {
    max_in_flight: u32,
    connections: BTreeMap<ConnectionId, Share>,
    /// All connections: the first ones have credit where there are more than messages.
    order: VecDeque<ConnectionId>,
}

#[derive(Debug)]
struct Share {
    credit: u32,
    in_flight: u32,
    /// 0: it is retired.
    max: u32,
    /// Most messages in flight since [`Event::Rotate`].
    peak: u32,
    /// Credit that suffices, as the last interval showed. `None`: nobody knows, or it used up what it had.
    enough: Option<u32>,
}

impl Share {
    fn held(&self) -> u32 {
        self.credit.max(self.in_flight)
    }

    /// Ends an interval: twice what it used suffices.
    fn measure(&mut self) {
        self.enough = Some(self.peak.saturating_mul(2).max(1));
        self.peak = self.in_flight;
    }
}

impl Distributor {
    pub(crate) fn new(max_in_flight: u32) -> Self {
        Self { max_in_flight, connections: BTreeMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn handle(&mut self, event: Event) -> Vec<SetCredit> {
        match event {
            Event::Opened { connection, max } => {
                self.connections
                    .insert(connection, Share { credit: 0, in_flight: 0, max, peak: 0, enough: None });
                self.order.push_back(connection);
            }
            Event::Retired(connection) => {
                if let Some(share) = self.connections.get_mut(&connection) {
                    share.max = 0;
                }
            }
            Event::Ended(connection) => {
                self.connections.remove(&connection);
                self.order.retain(|id| *id != connection);
            }
            Event::Delivered(connection) => {
                let Some(share) = self.connections.get_mut(&connection) else { return Vec::new() };
                share.in_flight += 1;
                share.peak = share.peak.max(share.in_flight);
                if share.in_flight < share.credit || share.enough.take().is_none() {
                    return Vec::new();
                }
            }
            Event::Answered(connection) => {
                let Some(share) = self.connections.get_mut(&connection) else { return Vec::new() };
                share.in_flight = share.in_flight.saturating_sub(1);
                // Below its credit an answer frees nothing for others.
                if share.in_flight < share.credit {
                    return Vec::new();
                }
            }
            Event::SetMax(max_in_flight) => self.max_in_flight = max_in_flight,
            Event::Rotate if self.is_short() => self.order.rotate_left(1),
            Event::Rotate => self.connections.values_mut().for_each(Share::measure),
            Event::Yielded(connection) if self.is_short() => {
                let before = self.order.len();
                self.order.retain(|id| *id != connection);
                if self.order.len() < before {
                    self.order.push_back(connection);
                }
            }
            Event::Yielded(_) => return Vec::new(),
        }
        self.distribute()
    }

    /// Whether a connection has 85 % of its credit in flight.
    pub(crate) fn is_starved(&self) -> bool {
        let is_used_up = |share: &Share| {
            share.in_flight > 0 && u64::from(share.in_flight) * 100 >= u64::from(share.credit) * 85
        };
        self.connections.values().any(is_used_up)
    }

    /// Whether there are more connections than messages.
    fn is_short(&self) -> bool {
        self.connections.len() > self.max_in_flight as usize
    }

    pub(crate) fn max_in_flight(&self) -> u32 {
        self.max_in_flight
    }

    /// Messages in flight over all connections.
    pub(crate) fn in_flight(&self) -> u32 {
        self.connections.values().map(|share| share.in_flight).sum()
    }

    /// Whether a connection is retired, and nothing in flight on it.
    pub(crate) fn is_drained(&self, connection: ConnectionId) -> bool {
        self.connections.get(&connection).is_some_and(|share| share.max == 0 && share.in_flight == 0)
    }

    /// The share that each connection should have: an equal one, and what others can do without.
    fn targets(&self) -> Vec<(ConnectionId, u32)> {
        let open = || self.connections.values().filter(|share| share.max > 0);
        let count = |shares: usize| u32::try_from(shares).unwrap_or(u32::MAX);
        let equal = self.max_in_flight / count(open().count()).max(1);
        let less = |share: &Share| share.enough.filter(|enough| *enough < equal);
        let others = count(open().filter(|share| less(share).is_none()).count());
        // Where nobody wants more, all have an equal share.
        let less = |share: &Share| if others > 0 { less(share) } else { None };
        let among = if others > 0 { others } else { count(open().count()).max(1) };
        let rest = self.max_in_flight - open().filter_map(less).sum::<u32>();
        let (each, mut more) = (rest / among, rest % among);
        let order = self.order.iter().filter_map(|id| Some((id, self.connections.get(id)?)));
        let target = order.map(|(id, share)| {
            let target = less(share).unwrap_or_else(|| {
                let extra = u32::from(more > 0 && share.max > 0);
                more -= extra;
                each + extra
            });
            (*id, target.min(share.max))
        });
        target.collect()
    }

    /// Lowers credit to its target first; then raises it as far as there is room.
    fn distribute(&mut self) -> Vec<SetCredit> {
        let targets = self.targets();
        let mut actions = Vec::new();
        for &(connection, target) in &targets {
            if let Some(share) = self.connections.get_mut(&connection)
                && share.credit > target
            {
                share.credit = target;
                actions.push(SetCredit { connection, credit: target });
            }
        }
        let held: u32 = self.connections.values().map(Share::held).sum();
        let mut room = self.max_in_flight.saturating_sub(held);
        for (connection, target) in targets {
            if let Some(share) = self.connections.get_mut(&connection)
                && share.credit < target
            {
                let credit = target.min(share.held() + room).max(share.credit);
                if credit > share.credit {
                    room -= credit.saturating_sub(share.held());
                    share.credit = credit;
                    actions.push(SetCredit { connection, credit });
                }
            }
        }
        actions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Brokers that deliver as their credit allows.
    struct World {
        distributor: Distributor,
        retired: std::collections::BTreeSet<ConnectionId>,
        brokers: BTreeMap<ConnectionId, (u32, u32)>,
        next: ConnectionId,
        max: u32,
        /// The sum before: it may exceed a maximum that was lowered, and then it never rises.
        held: u32,
    }

    impl World {
        fn new(max: u32) -> Self {
            let (distributor, retired) = (Distributor::new(max), std::collections::BTreeSet::new());
            Self { distributor, retired, brokers: BTreeMap::new(), next: 0, max, held: 0 }
        }

        fn handle(&mut self, event: Event) {
            for SetCredit { connection, credit } in self.distributor.handle(event) {
                self.brokers.get_mut(&connection).unwrap().0 = credit;
            }
            let held: u32 = self.brokers.values().map(|(credit, in_flight)| *credit.max(in_flight)).sum();
            assert!(held <= self.max.max(self.held), "{held} of {}: {:?}", self.max, self.brokers);
            self.held = held;
        }

        fn open(&mut self) {
            self.next += 1;
            self.brokers.insert(self.next, (0, 0));
            self.handle(Event::Opened { connection: self.next, max: 2500 });
        }

        fn pick(&self, which: usize) -> Option<ConnectionId> {
            self.brokers.keys().nth(which % self.brokers.len().max(1)).copied()
        }

        fn step(&mut self, action: u8, which: usize) {
            let connection = self.pick(which);
            match (action, connection) {
                (0, _) if self.brokers.len() < 12 => self.open(),
                (1, Some(connection)) => {
                    self.brokers.remove(&connection);
                    self.handle(Event::Ended(connection));
                }
                (2, Some(connection)) => {
                    let (credit, in_flight) = self.brokers.get_mut(&connection).unwrap();
                    if *in_flight < *credit {
                        *in_flight += 1;
                        self.handle(Event::Delivered(connection));
                    }
                }
                (3, Some(connection)) => self.answer(connection),
                (4, _) => self.handle(Event::Rotate),
                (6, Some(connection)) => {
                    self.retired.insert(connection);
                    self.handle(Event::Retired(connection));
                    assert_eq!(self.brokers[&connection].0, 0);
                }
                (7, Some(connection)) => self.handle(Event::Yielded(connection)),
                (5, _) => self.set_max(u32::try_from(which % 30).unwrap()),
                _ => {}
            }
        }

        fn set_max(&mut self, max: u32) {
            self.max = max;
            self.handle(Event::SetMax(max));
        }

        fn answer(&mut self, connection: ConnectionId) {
            let (_, in_flight) = self.brokers.get_mut(&connection).unwrap();
            if *in_flight > 0 {
                *in_flight -= 1;
                self.handle(Event::Answered(connection));
            }
        }
    }

    proptest! {
        #[test]
        fn credit_never_exceeds_its_sum_and_is_whole_again_once_all_is_answered(
            max in 1u32..30,
            steps in prop::collection::vec((0u8..8, any::<usize>()), 0..300),
        ) {
            let mut world = World::new(max);
            steps.into_iter().for_each(|(action, which)| world.step(action, which));
            if world.brokers.keys().all(|id| world.retired.contains(id)) {
                world.open();
            }
            for connection in world.brokers.keys().copied().collect::<Vec<_>>() {
                while world.brokers[&connection].1 > 0 {
                    world.answer(connection);
                }
            }
            let credit: u32 = world.brokers.values().map(|(credit, _)| credit).sum();
            prop_assert_eq!(credit, world.max);
        }

        #[test]
        fn each_connection_has_credit_within_one_round(max in 1u32..4, connections in 1usize..12) {
            let mut world = World::new(max);
            (0..connections).for_each(|_| world.open());
            let mut had = std::collections::BTreeSet::new();
            for _ in 0..=connections {
                had.extend(world.brokers.iter().filter(|(_, (credit, _))| *credit > 0).map(|(id, _)| *id));
                world.handle(Event::Rotate);
            }
            prop_assert_eq!(had.len(), connections);
        }
    }

    /// The credit of all connections.
    fn credit(world: &World) -> Vec<u32> {
        world.brokers.values().map(|(credit, _)| *credit).collect()
    }

    #[test]
    fn credit_that_is_not_used_goes_to_a_connection_that_uses_all_of_its_own_and_back() {
        let mut world = World::new(90);
        (0..3).for_each(|_| world.open());
        assert_eq!(credit(&world), [30, 30, 30]);
        world.handle(Event::Rotate);
        assert_eq!(credit(&world), [30, 30, 30], "nobody wants more");
        (0..30).for_each(|_| world.step(2, 0));
        (0..5).for_each(|_| world.step(2, 1));
        world.handle(Event::Rotate);
        assert_eq!(credit(&world), [79, 10, 1]);
        // Its first message shows that one does not suffice.
        world.step(2, 2);
        assert_eq!(credit(&world), [40, 10, 40]);
        (0..10).for_each(|_| world.step(2, 0));
        (0..5).for_each(|_| world.step(2, 1));
        assert_eq!(credit(&world), [30, 20, 30], "as much as is not in flight elsewhere");
        (0..20).for_each(|_| world.answer(1));
        assert_eq!(credit(&world), [30, 30, 30]);
    }

    #[test]
    fn a_connection_is_starved_at_85_percent_of_its_credit() {
        let mut world = World::new(20);
        world.open();
        assert!(!world.distributor.is_starved(), "nothing came");
        (0..16).for_each(|_| world.step(2, 0));
        assert!(!world.distributor.is_starved(), "16 of 20");
        world.step(2, 0);
        assert!(world.distributor.is_starved(), "17 of 20");
        world.answer(1);
        assert!(!world.distributor.is_starved(), "16 again");
    }

    #[test]
    fn who_yields_gives_its_credit_to_whoever_waited_longest() {
        let mut world = World::new(2);
        (0..4).for_each(|_| world.open());
        world.handle(Event::Yielded(2));
        let with_credit = |world: &World| {
            let some = world.brokers.iter().filter(|(_, (credit, _))| *credit > 0);
            some.map(|(id, _)| *id).collect::<Vec<_>>()
        };
        assert_eq!(with_credit(&world), [1, 3]);
        world.handle(Event::Yielded(1));
        assert_eq!(with_credit(&world), [3, 4]);
        // With a message for each nobody yields.
        world.set_max(4);
        world.handle(Event::Yielded(3));
        assert_eq!(with_credit(&world), [1, 2, 3, 4]);
    }

    #[test]
    fn credit_follows_the_messages_that_it_was_given_for() {
        let mut world = World::new(4);
        world.open();
        assert_eq!(world.brokers[&1].0, 4);
        (0..4).for_each(|_| world.step(2, 0));
        world.open();
        assert_eq!((world.brokers[&1].0, world.brokers[&2].0), (2, 0));
        world.answer(1);
        assert_eq!(world.brokers[&2].0, 1);
        world.answer(1);
        assert_eq!(world.brokers[&2].0, 2);
    }
}
