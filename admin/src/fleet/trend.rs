//! The disks of brokers over the last minutes, as this page saw them: when each is full. Pure: time is given.

use std::collections::{HashMap, VecDeque};

/// Seconds between two readings that are kept.
const STEP: f64 = 10.0;
/// Readings of a broker: 5 minutes, in which the cleaner has given back what it can.
const READINGS_MAX: usize = 30;
/// Seconds that two readings must be apart for a rate: the log grows in files.
const APART_MIN: f64 = 30.0;
/// Brokers that are remembered.
const BROKERS_MAX: usize = 1000;

/// Readings by a broker's id: the time in seconds, and bytes of its log then.
#[derive(Debug, Default)]
pub(crate) struct Trends(HashMap<String, VecDeque<(f64, f64)>>);

impl Trends {
    /// Notes that a broker's log has `used` bytes at `now`. Gives the bytes a second by which it grew, where
    /// that is known.
    pub(crate) fn note(&mut self, id: &str, now: f64, used: f64) -> Option<f64> {
        if self.0.len() >= BROKERS_MAX && !self.0.contains_key(id) {
            self.0.clear();
        }
        let readings = self.0.entry(id.to_owned()).or_default();
        // What nobody saw for long, and a clock set back, begin anew.
        let last = readings.back().map(|(at, _)| now - at);
        if last.is_some_and(|passed| !(0.0..=STEP * READINGS_MAX as f64).contains(&passed)) {
            readings.clear();
        }
        if last.is_none_or(|passed| passed >= STEP) || readings.is_empty() {
            readings.push_back((now, used));
        }
        if readings.len() > READINGS_MAX {
            readings.pop_front();
        }
        let (then, before) = *readings.front()?;
        (now - then >= APART_MIN).then(|| (used - before) / (now - then))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_grows_by_what_came_since_the_oldest_reading_of_five_minutes() {
        let mut trends = Trends::default();
        assert_eq!(trends.note("a", 100.0, 1000.0), None);
        assert_eq!(trends.note("a", 110.0, 1100.0), None, "too short a time");
        assert_eq!(trends.note("a", 150.0, 1500.0), Some(10.0));
        assert_eq!(trends.note("b", 150.0, 1500.0), None, "each broker has its own");
        // Then it stands still: in five minutes that is all that is known.
        let mut rate = None;
        for step in 1..=31 {
            rate = trends.note("a", 150.0 + 10.0 * f64::from(step), 1500.0);
        }
        assert_eq!(rate, Some(0.0));
        assert_eq!(trends.note("a", 5000.0, 9000.0), None, "nobody looked for long");
        assert_eq!(trends.note("a", 10.0, 1.0), None, "the clock was set back");
        for n in 0..2000 {
            trends.note(&n.to_string(), 1.0, 1.0);
        }
        assert!(trends.0.len() <= BROKERS_MAX);
    }
}
