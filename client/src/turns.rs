//! Turns of connections that are more than messages may be in flight. A pure state machine: what happens and
//! the time in, the connections whose turn is over out.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::credit::{ConnectionId, Event};

/// Bounds of a turn.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TurnLimits {
    /// Longest time without a message.
    pub(crate) idle: Duration,
    /// Longest time at all.
    pub(crate) longest: Duration,
}

/// The connections that have credit.
#[derive(Debug)]
pub(crate) struct Turns {
    limits: TurnLimits,
    connections: BTreeMap<ConnectionId, Turn>,
}

#[derive(Debug)]
struct Turn {
    since: Instant,
    /// The last message, or the turn's begin.
    busy: Instant,
}

impl Turns {
    pub(crate) fn new(limits: TurnLimits) -> Self {
        Self { limits, connections: BTreeMap::new() }
    }

    /// Follows messages and ends of connections.
    pub(crate) fn follow(&mut self, event: Event, now: Instant) {
        match event {
            Event::Delivered(connection) => {
                if let Some(turn) = self.connections.get_mut(&connection) {
                    turn.busy = now;
                }
            }
            Event::Ended(connection) => drop(self.connections.remove(&connection)),
            _ => {}
        }
    }

    /// The credit of a connection changed: its turn begins, goes on or ends.
    pub(crate) fn credit(&mut self, connection: ConnectionId, credit: u32, now: Instant) {
        if credit == 0 {
            self.connections.remove(&connection);
        } else {
            self.connections.entry(connection).or_insert(Turn { since: now, busy: now });
        }
    }

    /// The connections whose turn is over at `now`, if others wait for theirs.
    pub(crate) fn over(&self, now: Instant) -> Vec<ConnectionId> {
        let TurnLimits { idle, longest } = self.limits;
        let over = self.connections.iter().filter(|(_, turn)| {
            now.saturating_duration_since(turn.busy) > idle
                || now.saturating_duration_since(turn.since) > longest
        });
        over.map(|(connection, _)| *connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credit::{Distributor, SetCredit};
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const LIMITS: TurnLimits = TurnLimits { idle: Duration::from_secs(10), longest: Duration::from_secs(30) };

    #[test]
    fn a_turn_ends_without_messages_sooner_than_with_them() {
        let (start, mut turns) = (Instant::now(), Turns::new(LIMITS));
        turns.credit(1, 1, start);
        turns.credit(2, 1, start);
        for second in 1..=30 {
            turns.follow(Event::Delivered(2), start + seconds(second));
            let over = turns.over(start + seconds(second));
            assert_eq!(over, if second > 10 { vec![1] } else { vec![] }, "{second}");
        }
        assert_eq!(turns.over(start + seconds(31)), [1, 2]);
        turns.credit(1, 0, start + seconds(31));
        turns.follow(Event::Ended(2), start + seconds(31));
        assert!(turns.over(start + seconds(100)).is_empty());
    }

    proptest! {
        #[test]
        fn each_connection_has_a_turn_within_the_bound_of_all_others(
            max in 1u32..4,
            connections in 2u64..9,
            busy in prop::collection::vec(any::<bool>(), 9),
        ) {
            let (start, mut turns, mut distributor) = (Instant::now(), Turns::new(LIMITS), Distributor::new(max));
            let mut last_credit: BTreeMap<_, _> = (1..=connections).map(|id| (id, (0, 0))).collect();
            let mut apply = |turns: &mut Turns, event, second: u64| {
                let now = start + seconds(second);
                turns.follow(event, now);
                for SetCredit { connection, credit } in distributor.handle(event) {
                    turns.credit(connection, credit, now);
                    last_credit.insert(connection, (credit, second));
                }
                last_credit.clone()
            };
            for connection in 1..=connections {
                apply(&mut turns, Event::Opened { connection, max: 2500 }, 0);
            }
            // A tick each 5 s: a turn is over 35 s after its begin at the latest.
            let bound = 35 * (connections.div_ceil(u64::from(max)) + 1);
            for second in 0..600 {
                for connection in 1..=connections {
                    if busy[usize::try_from(connection).unwrap()] && turns.connections.contains_key(&connection) {
                        apply(&mut turns, Event::Delivered(connection), second);
                        apply(&mut turns, Event::Answered(connection), second);
                    }
                }
                if second % 5 == 0 {
                    for connection in turns.over(start + seconds(second)) {
                        apply(&mut turns, Event::Yielded(connection), second);
                    }
                }
                let credits = apply(&mut turns, Event::Ended(0), second);
                for (connection, (credit, since)) in credits {
                    prop_assert!(credit > 0 || second - since <= bound, "{connection} waits since {since}");
                }
            }
        }
    }
}
