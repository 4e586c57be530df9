//! A bound of messages a second. Pure.

use std::time::{Duration, Instant};

/// Messages that may be sent, growing with time up to those of one second.
pub(super) struct Rate {
    per_second: f64,
    balance: f64,
    at: Instant,
}

impl Rate {
    /// `per_second` messages, and one at once.
    pub(super) fn new(per_second: u32, now: Instant) -> Self {
        Self { per_second: f64::from(per_second.max(1)), balance: 1.0, at: now }
    }

    /// Takes a message from the balance, or returns the time until there is one.
    pub(super) fn take(&mut self, now: Instant) -> Result<(), Duration> {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() * self.per_second;
        self.balance = (self.balance + grown).min(self.per_second.max(1.0));
        self.at = now;
        if self.balance >= 1.0 {
            self.balance -= 1.0;
            return Ok(());
        }
        // A microsecond more: what rounding takes must not make it wait twice.
        Err(Duration::from_secs_f64((1.0 - self.balance) / self.per_second) + Duration::from_micros(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_has_so_many_messages_and_a_pause_saves_up_one_second() {
        let start = Instant::now();
        let mut rate = Rate::new(4, start);
        rate.take(start).unwrap();
        let wait = rate.take(start).unwrap_err();
        assert!(wait >= Duration::from_millis(250) && wait < Duration::from_millis(251), "{wait:?}");
        rate.take(start + wait).unwrap();
        let later = start + Duration::from_secs(100);
        assert_eq!((0..10).filter(|_| rate.take(later).is_ok()).count(), 4);
    }
}
