//! Choice among destinations. Pure: time and chance are arguments.

use std::time::{Duration, Instant};

/// Time that a destination which failed is left out; doubled each time it fails again.
const OUT_MIN: Duration = Duration::from_secs(30);
const OUT_MAX: Duration = Duration::from_secs(900);
/// Share of choices that explore rather than take what was quick: it decays to the least.
const EXPLORE: f64 = 0.3;
const EXPLORE_DECAY: f64 = 0.9;
const EXPLORE_MIN: f64 = 0.01;
/// Response times are kept for so long, in as many buckets.
const WINDOW: Duration = Duration::from_secs(300);
const BUCKETS: usize = 120;

/// Destinations of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Mode {
    /// One after the other; one that fails is left out for a while
    Hostpool,
    /// One after the other
    RoundRobin,
    /// The quick ones most of the time
    EpsilonGreedy,
    /// Every one of them
    All,
}

/// Destinations by their place in a list.
pub(super) struct Pool {
    mode: Mode,
    hosts: Vec<Host>,
    next: usize,
    explore: f64,
    began: Instant,
}

#[derive(Clone, Default)]
struct Host {
    /// Time of the next try and the delay after it; `None`: it works.
    out: Option<(Instant, Duration)>,
    times: Times,
}

impl Pool {
    /// A pool of `count` destinations, at least one.
    pub(super) fn new(mode: Mode, count: usize, now: Instant) -> Self {
        Self { mode, hosts: vec![Host::default(); count.max(1)], next: 0, explore: EXPLORE, began: now }
    }

    /// The destinations of the next message. `chance` gives numbers from 0 to 1.
    pub(super) fn choose(&mut self, now: Instant, mut chance: impl FnMut() -> f64) -> Vec<usize> {
        match self.mode {
            Mode::All => (0..self.hosts.len()).collect(),
            Mode::RoundRobin => {
                let one = self.next % self.hosts.len();
                self.next = one + 1;
                vec![one]
            }
            Mode::Hostpool => vec![self.in_turn(now)],
            Mode::EpsilonGreedy if chance() < self.explore => {
                self.explore = (self.explore * EXPLORE_DECAY).max(EXPLORE_MIN);
                vec![self.in_turn(now)]
            }
            Mode::EpsilonGreedy => vec![self.quick(now, chance()).unwrap_or_else(|| self.in_turn(now))],
        }
    }

    /// Notes how a message went that was sent to the destination.
    pub(super) fn mark(&mut self, host: usize, succeeded: bool, took: Duration, now: Instant) {
        let bucket = self.bucket(now);
        let Some(host) = self.hosts.get_mut(host) else { return };
        match (succeeded, host.out) {
            (true, _) => {
                host.out = None;
                host.times.add(bucket, took);
            }
            // Failures of messages that were on the way already say nothing new.
            (false, Some(_)) => {}
            (false, None) => host.out = Some((now + OUT_MIN, OUT_MIN)),
        }
    }

    /// The next that works or is due for a try. If all are out, all are in again.
    fn in_turn(&mut self, now: Instant) -> usize {
        let (first, count) = (self.next, self.hosts.len());
        for at in (0..count).map(|i| (first + i) % count) {
            if self.take(at, now) {
                self.next = at + 1;
                return at;
            }
        }
        self.hosts.iter_mut().for_each(|host| host.out = None);
        self.next = 0;
        0
    }

    /// Whether the destination may be tried now. One that is out is tried once, then again after twice the
    /// time.
    fn take(&mut self, at: usize, now: Instant) -> bool {
        let Some(host) = self.hosts.get_mut(at) else { return false };
        match host.out {
            None => true,
            Some((due, _)) if now < due => false,
            Some((_, delay)) => {
                let delay = (2 * delay).min(OUT_MAX);
                host.out = Some((now + delay, delay));
                true
            }
        }
    }

    /// One of those with known response times, the quicker the more often.
    fn quick(&mut self, now: Instant, chance: f64) -> Option<usize> {
        let bucket = self.bucket(now);
        let speed = |host: &Host| {
            let may_try = host.out.is_none_or(|(due, _)| now >= due);
            host.times.mean(bucket).filter(|_| may_try).map_or(0.0, |mean| 1.0 / mean)
        };
        let speeds: Vec<f64> = self.hosts.iter().map(speed).collect();
        let mut left = chance * speeds.iter().sum::<f64>();
        let known = speeds.iter().enumerate().filter(|(_, speed)| **speed > 0.0);
        let mut chosen = None;
        for (at, speed) in known {
            chosen = Some(at);
            left -= speed;
            if left < 0.0 {
                break;
            }
        }
        chosen.filter(|at| self.take(*at, now))
    }

    fn bucket(&self, now: Instant) -> u64 {
        let millis = now.saturating_duration_since(self.began).as_millis();
        (millis / (WINDOW.as_millis() / BUCKETS as u128)) as u64
    }
}

/// Response times of the last minutes.
#[derive(Clone)]
struct Times {
    /// Bucket number, count and seconds.
    buckets: [(u64, u32, f64); BUCKETS],
}

impl Default for Times {
    fn default() -> Self {
        Self { buckets: [(0, 0, 0.0); BUCKETS] }
    }
}

impl Times {
    fn add(&mut self, bucket: u64, took: Duration) {
        let at = (bucket % BUCKETS as u64) as usize;
        if let Some(entry) = self.buckets.get_mut(at) {
            if entry.0 != bucket {
                *entry = (bucket, 0, 0.0);
            }
            // A nanosecond at least, or it would be infinitely quick.
            *entry = (bucket, entry.1.saturating_add(1), entry.2 + took.as_secs_f64().max(1e-9));
        }
    }

    /// The mean in seconds, recent ones weighing more; `None` without any.
    fn mean(&self, now: u64) -> Option<f64> {
        let (mut weights, mut seconds) = (0.0, 0.0);
        for (bucket, count, sum) in &self.buckets {
            let age = now.saturating_sub(*bucket);
            if *count > 0 && age < BUCKETS as u64 {
                let weight = (BUCKETS as u64 - age) as f64 / BUCKETS as f64;
                weights += weight * f64::from(*count);
                seconds += weight * sum;
            }
        }
        (weights > 0.0).then(|| seconds / weights)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn one(pool: &mut Pool, now: Instant) -> usize {
        pool.choose(now, || 1.0)[0]
    }

    #[test]
    fn a_host_that_fails_is_out_for_30_s_then_tried_once_each_twice_as_long() {
        let start = Instant::now();
        let mut pool = Pool::new(Mode::Hostpool, 3, start);
        assert_eq!([one(&mut pool, start), one(&mut pool, start), one(&mut pool, start)], [0, 1, 2]);
        pool.mark(1, false, SECOND, start);
        let soon = start + 29 * SECOND;
        assert_eq!([one(&mut pool, soon), one(&mut pool, soon), one(&mut pool, soon)], [0, 2, 0]);
        let due = start + 30 * SECOND;
        assert_eq!([one(&mut pool, due), one(&mut pool, due), one(&mut pool, due)], [1, 2, 0]);
        pool.mark(1, false, SECOND, due);
        assert_eq!([one(&mut pool, due + 59 * SECOND), one(&mut pool, due + 60 * SECOND)], [2, 0]);
        assert_eq!(one(&mut pool, due + 60 * SECOND), 1);
        pool.mark(1, true, SECOND, due);
        assert_eq!([one(&mut pool, due), one(&mut pool, due), one(&mut pool, due)], [2, 0, 1]);
    }

    #[test]
    fn a_host_that_goes_on_failing_is_tried_every_15_minutes() {
        let mut now = Instant::now();
        let mut pool = Pool::new(Mode::Hostpool, 2, now);
        pool.mark(0, false, SECOND, now);
        let mut delays = Vec::new();
        while delays.len() < 8 {
            let (due, delay) = pool.hosts[0].out.unwrap();
            delays.push(delay.as_secs());
            now = due;
            assert!(pool.take(0, now) && !pool.take(0, now), "once");
        }
        assert_eq!(delays, [30, 60, 120, 240, 480, 900, 900, 900]);
    }

    #[test]
    fn if_all_hosts_are_out_all_are_in_again() {
        let start = Instant::now();
        let mut pool = Pool::new(Mode::Hostpool, 2, start);
        pool.mark(0, false, SECOND, start);
        pool.mark(1, false, SECOND, start);
        assert_eq!([one(&mut pool, start), one(&mut pool, start), one(&mut pool, start)], [0, 0, 1]);
    }

    #[test]
    fn round_robin_minds_no_failure_and_all_are_all() {
        let start = Instant::now();
        let mut pool = Pool::new(Mode::RoundRobin, 2, start);
        pool.mark(0, false, SECOND, start);
        assert_eq!([one(&mut pool, start), one(&mut pool, start), one(&mut pool, start)], [0, 1, 0]);
        assert_eq!(Pool::new(Mode::All, 3, start).choose(start, || 0.0), [0, 1, 2]);
    }

    #[test]
    fn a_quick_host_is_chosen_more_often() {
        let start = Instant::now();
        let mut pool = Pool::new(Mode::EpsilonGreedy, 2, start);
        // Nothing is known: in turn.
        assert_eq!([one(&mut pool, start), one(&mut pool, start)], [0, 1]);
        pool.mark(0, true, SECOND, start);
        pool.mark(1, true, 3 * SECOND, start);
        let mut chances = (0..100).map(|n| (f64::from(n) + 0.5) / 100.0);
        let counts = std::iter::repeat_with(|| {
            // The first number says not to explore.
            let mut numbers = [1.0, chances.next()?].into_iter();
            Some(pool.choose(start, || numbers.next().unwrap())[0])
        });
        let slow: usize = counts.map_while(|one| one).sum();
        assert_eq!(slow, 25);
        // What is long ago does not count.
        assert_eq!(pool.hosts[0].times.mean(pool.bucket(start + 301 * SECOND)), None);
        pool.mark(0, false, SECOND, start);
        assert_eq!(pool.quick(start, 0.0), Some(1));
    }

    #[test]
    fn exploring_becomes_rare() {
        let start = Instant::now();
        let mut pool = Pool::new(Mode::EpsilonGreedy, 2, start);
        (0..100).for_each(|_| drop(pool.choose(start, || 0.0)));
        assert!((pool.explore - EXPLORE_MIN).abs() < 1e-9);
    }
}
