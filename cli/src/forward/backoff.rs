//! Pauses after failures. Pure: a message is tried after each pause, and the pauses grow while it fails.

use std::time::{Duration, Instant};

/// Effect of an outcome on a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    None,
    /// No message more until that time.
    Pause(Instant),
    /// The credit of before the first failure.
    Resume,
}

/// Failures without as many successes after them.
pub(super) struct Backoff {
    unit: Duration,
    max: Duration,
    level: u32,
    /// The end of the pause, while there is one.
    until: Option<Instant>,
}

impl Backoff {
    /// Pauses of 2 units and more, at most `max`; none at all if that is 0.
    pub(super) fn new(unit: Duration, max: Duration) -> Self {
        Self { unit, max, level: 0, until: None }
    }

    /// The end of the pause, while there is one.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }

    /// Ends the pause: one message is tried.
    pub(super) fn end_pause(&mut self) {
        self.until = None;
    }

    /// Notes the outcome of a message. Those that end in a pause change nothing: they were sent before it.
    pub(super) fn note(&mut self, succeeded: bool, now: Instant) -> Effect {
        if self.until.is_some() || (succeeded && self.level == 0) || self.max.is_zero() {
            return Effect::None;
        }
        self.level = if succeeded { self.level - 1 } else { self.level.saturating_add(1) };
        if self.level == 0 {
            return Effect::Resume;
        }
        let factor = 1_u32.checked_shl(self.level).unwrap_or(u32::MAX);
        let until = now + self.unit.saturating_mul(factor).min(self.max);
        self.until = Some(until);
        Effect::Pause(until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_with_failures_and_shrink_with_successes() {
        let (now, second) = (Instant::now(), Duration::from_secs(1));
        let mut backoff = Backoff::new(second, 10 * second);
        assert_eq!(backoff.note(true, now), Effect::None);
        let mut after = |succeeded| {
            let effect = backoff.note(succeeded, now);
            assert_eq!(backoff.note(false, now), Effect::None, "in the pause");
            backoff.end_pause();
            effect
        };
        let pause = |seconds| Effect::Pause(now + seconds * second);
        assert_eq!(
            [after(false), after(false), after(false), after(false)],
            [pause(2), pause(4), pause(8), pause(10)]
        );
        assert_eq!([after(true), after(true), after(true)], [pause(8), pause(4), pause(2)]);
        assert_eq!(backoff.note(true, now), Effect::Resume);
        assert_eq!(backoff.note(true, now), Effect::None);
    }

    #[test]
    fn a_longest_pause_of_nothing_is_none() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::ZERO);
        assert_eq!(backoff.note(false, Instant::now()), Effect::None);
        assert_eq!(backoff.until(), None);
    }
}
