//! Settings of connections that go-nsq's surface has, and other clients leave as they are.

use std::time::{Duration, Instant};

use mq_nsq::client::{Identify, Secret, TlsVersion};

use crate::turns::TurnLimits;

/// Settings beyond those of [`Config`](crate::Config).
#[derive(Clone)]
pub(crate) struct Tuning {
    /// Longest time until a broker has taken a new connection.
    pub(crate) dial_timeout: Duration,
    /// What connections say of this program beyond what its settings say.
    pub(crate) identify: Identify,
    pub(crate) lookup_timeout: Duration,
    /// The share of its interval by which a question to the lookup servers is late at most, at random.
    pub(crate) lookup_jitter: f64,
    /// Shown to lookup servers.
    pub(crate) lookup_token: Option<Secret<Box<[u8]>>>,
    /// Interval at which credit moves on where there are more connections than messages.
    pub(crate) rotation: Duration,
    /// Bounds of a connection's turn then. `None`: one connection's is over at each interval.
    pub(crate) turns: Option<TurnLimits>,
    pub(crate) tls_min_version: TlsVersion,
    /// The clock by which ids are remembered; a test has one of its own.
    pub(crate) now: fn() -> Instant,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            dial_timeout: Duration::from_secs(10),
            identify: Identify::default(),
            lookup_timeout: Duration::from_secs(10),
            lookup_jitter: 0.3,
            lookup_token: None,
            rotation: Duration::from_secs(5),
            turns: None,
            tls_min_version: TlsVersion::default(),
            now: Instant::now,
        }
    }
}
