//! Messages held here, to be touched before they time out. A pure state machine: messages and the time in,
//! those to touch and the next wake-up out.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// Messages by number, and when each is to be touched next. As many as are in flight.
#[derive(Debug)]
pub(super) struct Keeper<T> {
    /// Interval of touches: a fraction of the messages' timeout.
    every: Duration,
    due: BTreeMap<(Instant, u64), T>,
    at: HashMap<u64, Instant>,
}

impl<T: Clone> Keeper<T> {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, due: BTreeMap::new(), at: HashMap::new() }
    }

    /// Takes a message that came just now. Numbers are not used twice.
    pub(super) fn hold(&mut self, number: u64, message: T, now: Instant) {
        let at = now + self.every;
        self.at.insert(number, at);
        self.due.insert((at, number), message);
    }

    /// Leaves a message alone from now on.
    pub(super) fn release(&mut self, number: u64) {
        if let Some(at) = self.at.remove(&number) {
            self.due.remove(&(at, number));
        }
    }

    /// The messages that are to be touched now; their next time begins.
    pub(super) fn due(&mut self, now: Instant) -> Vec<T> {
        let mut messages = Vec::new();
        while let Some(entry) = self.due.first_entry()
            && entry.key().0 <= now
        {
            let ((_, number), message) = entry.remove_entry();
            messages.push(message.clone());
            self.hold(number, message, now);
        }
        messages
    }

    /// The time of the next [`Keeper::due`].
    pub(super) fn wake(&self) -> Option<Instant> {
        self.due.first_key_value().map(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn whoever_wakes_in_time_lets_no_message_grow_older_than_the_interval(
            steps in prop::collection::vec((0u8..3, 0u64..20, any::<usize>()), 0..200),
        ) {
            let (start, every) = (Instant::now(), 10);
            let at = |ms| start + Duration::from_millis(ms);
            let mut keeper = Keeper::new(Duration::from_millis(every));
            // The last touch of each message held.
            let mut held: BTreeMap<u64, u64> = BTreeMap::new();
            let (mut now, mut next) = (0, 0);
            for (step, wait, which) in steps {
                // Every wake-up on the way is followed.
                let until = now + wait;
                while let Some(wake) = keeper.wake().filter(|wake| *wake <= at(until)) {
                    now = u64::try_from((wake - start).as_millis()).unwrap();
                    for number in keeper.due(wake) {
                        let touched = held.insert(number, now);
                        prop_assert_eq!(touched, Some(now - every), "touched in time, and no released one");
                    }
                }
                now = until;
                match step {
                    0 | 1 => {
                        next += 1;
                        held.insert(next, now);
                        keeper.hold(next, next, at(now));
                    }
                    _ => if let Some(number) = held.keys().nth(which % held.len().max(1)).copied() {
                        held.remove(&number);
                        keeper.release(number);
                    }
                }
                prop_assert_eq!(keeper.at.len(), held.len());
                prop_assert_eq!(keeper.due.len(), held.len());
                prop_assert!(held.values().all(|touched| now - touched <= every));
            }
        }
    }
}
