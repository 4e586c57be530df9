//! The pause of a consumer whose handlers fail. A pure state machine: answers and the time in, how much may
//! be in flight and the next wake-up out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::strategy::BackoffStrategy;

/// An answer, as a pause sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Success,
    Failure,
    /// Neither: a requeue without backoff.
    Neutral,
}

/// A count of failures that successes lower, and the pause that follows each answer while the count is not 0.
/// After a pause one message is in flight, as a test.
#[derive(Debug)]
pub(super) struct Backoff {
    strategy: Arc<dyn BackoffStrategy>,
    multiplier: Duration,
    /// Longest pause; zero: there is none.
    max: Duration,
    count: u32,
    pause_ends: Option<Instant>,
}

impl Backoff {
    pub(super) fn new(strategy: Arc<dyn BackoffStrategy>, multiplier: Duration, max: Duration) -> Self {
        Self { strategy, multiplier, max, count: 0, pause_ends: None }
    }

    /// Counts an answer. Those during a pause do not count: they were under way when it began. Returns
    /// whether [`Backoff::allowed`] changed.
    pub(super) fn answered(&mut self, outcome: Outcome, now: Instant) -> bool {
        let is_resumed = self.tick(now);
        if self.pause_ends.is_some() {
            return false;
        }
        let before = self.count;
        match outcome {
            Outcome::Success => self.count = before.saturating_sub(1),
            Outcome::Failure if self.pause(before.saturating_add(1)) <= self.max && !self.max.is_zero() => {
                self.count += 1;
            }
            Outcome::Failure | Outcome::Neutral => {}
        }
        if self.count > 0 {
            let pause = self.pause(self.count).min(self.max);
            self.pause_ends = Some(now + pause);
        }
        is_resumed || before > 0 || self.count > 0
    }

    /// Ends a pause whose time is over. Returns whether [`Backoff::allowed`] changed.
    pub(super) fn tick(&mut self, now: Instant) -> bool {
        self.pause_ends.take_if(|ends| *ends <= now).is_some()
    }

    /// The time of the next [`Backoff::tick`].
    pub(super) fn wake(&self) -> Option<Instant> {
        self.pause_ends
    }

    /// Messages that may be in flight, of `max`.
    pub(super) fn allowed(&self, max: u32) -> u32 {
        match (self.pause_ends, self.count) {
            (Some(_), _) => 0,
            (None, 0) => max,
            (None, _) => max.min(1),
        }
    }

    fn pause(&self, count: u32) -> Duration {
        self.strategy.calculate(count, self.multiplier)
    }
}

#[cfg(test)]
mod tests {
    use super::super::strategy::{ExponentialStrategy, FullJitterStrategy};
    use super::*;
    use proptest::prelude::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn backoff(max: Duration) -> Backoff {
        Backoff::new(Arc::new(ExponentialStrategy), seconds(1), max)
    }

    #[test]
    fn a_failure_pauses_then_one_message_is_tried_and_a_success_lets_all_come() {
        let (start, mut backoff) = (Instant::now(), backoff(seconds(120)));
        assert_eq!(backoff.allowed(10), 10);
        assert!(backoff.answered(Outcome::Failure, start));
        assert_eq!((backoff.allowed(10), backoff.wake()), (0, Some(start + seconds(2))));
        assert!(!backoff.answered(Outcome::Failure, start + seconds(1)), "it was under way already");
        assert!(!backoff.tick(start + seconds(1)));
        assert!(backoff.tick(start + seconds(2)));
        assert_eq!((backoff.allowed(10), backoff.allowed(0), backoff.wake()), (1, 0, None));
        assert!(backoff.answered(Outcome::Neutral, start + seconds(3)));
        assert_eq!(backoff.wake(), Some(start + seconds(5)));
        assert!(backoff.answered(Outcome::Success, start + seconds(5)), "the pause is over by then");
        assert_eq!((backoff.allowed(10), backoff.wake()), (10, None));
    }

    #[test]
    fn pauses_stop_to_grow_at_their_bound_and_zero_is_none() {
        let (mut now, mut limited) = (Instant::now(), backoff(seconds(120)));
        for pause in [2, 4, 8, 16, 32, 64, 64] {
            limited.answered(Outcome::Failure, now);
            assert_eq!(limited.wake(), Some(now + seconds(pause)));
            now += seconds(pause);
        }
        let mut off = backoff(Duration::ZERO);
        assert!(!off.answered(Outcome::Failure, now));
        let mut jitter = Backoff::new(Arc::new(FullJitterStrategy), Duration::ZERO, Duration::ZERO);
        assert!(!jitter.answered(Outcome::Failure, now));
        assert_eq!(jitter.allowed(3), 3);
    }

    /// The rules once more, from the whole history: no state is kept between answers.
    fn naive(history: &[(u64, Outcome)], now: u64) -> (u32, Option<u64>) {
        let (mut count, mut pause_ends) = (0_u32, 0);
        for &(at, outcome) in history.iter().filter(|(at, _)| *at <= now) {
            if at < pause_ends {
                continue;
            }
            count = match outcome {
                Outcome::Success if count > 0 => count - 1,
                Outcome::Failure if count < 4 => count + 1,
                _ => count,
            };
            if count > 0 {
                pause_ends = at + [2, 4, 8, 16][count as usize - 1];
            }
        }
        (count, (pause_ends > now).then_some(pause_ends))
    }

    fn outcome() -> impl Strategy<Value = Outcome> {
        prop_oneof![Just(Outcome::Success), Just(Outcome::Failure), Just(Outcome::Neutral)]
    }

    proptest! {
        #[test]
        fn it_is_as_its_history_says(steps in prop::collection::vec((0u64..12, outcome(), any::<bool>()), 0..60)) {
            let start = Instant::now();
            let (mut backoff, mut history, mut now) = (backoff(seconds(20)), Vec::new(), 0);
            for (wait, outcome, ticks) in steps {
                now += wait;
                let before = backoff.allowed(7);
                let mut changed = ticks && backoff.tick(start + seconds(now));
                changed |= backoff.answered(outcome, start + seconds(now));
                history.push((now, outcome));
                let (count, pause_ends) = naive(&history, now);
                prop_assert_eq!((backoff.count, backoff.wake()), (count, pause_ends.map(|at| start + seconds(at))));
                prop_assert_eq!(backoff.allowed(7), match (pause_ends, count) {
                    (Some(_), _) => 0,
                    (None, 0) => 7,
                    _ => 1,
                });
                prop_assert!(changed || before == backoff.allowed(7), "a change without notice");
            }
        }
    }
}
