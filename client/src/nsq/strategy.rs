//! Curves of the pause after failures.

use std::fmt::Debug;
use std::time::Duration;

/// The curve of a consumer's pauses: see [`Config::backoff_strategy`](super::Config::backoff_strategy).
///
/// ```
/// use std::sync::Arc;
/// use std::time::Duration;
/// use libmq::nsq::{BackoffStrategy, Config};
///
/// #[derive(Debug)]
/// struct Linear;
///
/// impl BackoffStrategy for Linear {
///     fn calculate(&self, attempt: u32, multiplier: Duration) -> Duration {
///         multiplier.saturating_mul(attempt)
///     }
/// }
///
/// let config = Config { backoff_strategy: Arc::new(Linear), ..Config::default() };
/// # config.validate().unwrap();
/// ```
pub trait BackoffStrategy: Debug + Send + Sync {
    /// The pause after so many failures more than successes, from 1. A pause above
    /// [`max_backoff_duration`](super::Config::max_backoff_duration) is not taken: the one before it stays.
    fn calculate(&self, attempt: u32, multiplier: Duration) -> Duration;
}

/// Doubles with each failure: the multiplier times 2, 4, 8 and so on. The default.
#[derive(Clone, Copy, Debug, Default)]
pub struct ExponentialStrategy;

impl BackoffStrategy for ExponentialStrategy {
    fn calculate(&self, attempt: u32, multiplier: Duration) -> Duration {
        1_u32.checked_shl(attempt).map_or(Duration::MAX, |times| multiplier.saturating_mul(times))
    }
}

/// A pause between nothing and that of [`ExponentialStrategy`], at random: consumers that failed together
/// don't come back together.
#[derive(Clone, Copy, Debug, Default)]
pub struct FullJitterStrategy;

impl BackoffStrategy for FullJitterStrategy {
    fn calculate(&self, attempt: u32, multiplier: Duration) -> Duration {
        let longest = ExponentialStrategy.calculate(attempt, multiplier);
        // A pause of years is none that anybody waits for.
        longest.min(Duration::from_secs(1 << 30)).mul_f64(fastrand::f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_doubles_and_jitter_stays_below_it() {
        let second = Duration::from_secs(1);
        for (attempt, seconds) in [(1, 2), (2, 4), (6, 64)] {
            let longest = ExponentialStrategy.calculate(attempt, second);
            assert_eq!(longest, Duration::from_secs(seconds));
            for _ in 0..100 {
                assert!(FullJitterStrategy.calculate(attempt, second) <= longest);
            }
        }
        assert_eq!(ExponentialStrategy.calculate(32, second), Duration::MAX);
        FullJitterStrategy.calculate(u32::MAX, Duration::MAX);
    }
}
