//! Settings of a lookup server at its start.

use std::time::Duration;

use mq_core::discovery::Settings;

use crate::server::NSQ_VERSION;
use mq_net::http::HttpLimits;

/// Interval of brokers' pings.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Addresses and limits of a lookup server. The defaults are nsqlookupd's, but for the addresses, which are
/// loopback.
#[derive(Clone, Debug)]
pub struct LookupConfig {
    /// Address at which brokers register: `host:port`, or the path of a unix socket. Port 0 takes a free
    /// one.
    pub tcp_address: String,
    /// Address of HTTP.
    pub http_address: String,
    /// Host by which brokers reach the HTTP API, as the server reports it.
    pub broadcast_address: String,
    /// The host's name, which brokers get too.
    pub hostname: String,
    /// Names by which HTTP clients on this machine may reach the server, beside IP addresses, `localhost`,
    /// `hostname` and `broadcast_address`.
    pub http_allowed_hosts: Vec<String>,
    /// The version of NSQ that brokers and clients see.
    pub version: String,
    /// Time after its last ping from which a producer is left out of answers. Its connection is closed after
    /// the same time, but not before four pings are missing.
    pub inactive_producer_timeout: Duration,
    /// Time for which a tombstone hides a producer from a topic's lookups.
    pub tombstone_lifetime: Duration,
    /// Time for which a topic or channel without a producer is kept.
    pub idle_lifetime: Duration,
    /// Most connections of brokers at a time. One more gets an error and is closed.
    pub max_connections: usize,
    /// Limits of HTTP clients. Their budget is that of brokers' connections too.
    pub http: HttpLimits,
    /// Longest time for connections to end when the server stops.
    pub shutdown_timeout: Duration,
}

impl Default for LookupConfig {
    fn default() -> Self {
        Self {
            tcp_address: "127.0.0.1:4160".to_owned(),
            http_address: "127.0.0.1:4161".to_owned(),
            broadcast_address: "127.0.0.1".to_owned(),
            hostname: String::new(),
            http_allowed_hosts: Vec::new(),
            version: NSQ_VERSION.to_owned(),
            inactive_producer_timeout: Duration::from_secs(300),
            tombstone_lifetime: Duration::from_secs(45),
            idle_lifetime: Duration::from_secs(24 * 3_600),
            max_connections: 10_000,
            http: HttpLimits::default(),
            shutdown_timeout: Duration::from_secs(1),
        }
    }
}

impl LookupConfig {
    /// Longest silence of a broker.
    pub(super) fn idle_timeout(&self) -> Duration {
        self.inactive_producer_timeout.max(4 * PING_INTERVAL)
    }

    pub(super) fn settings(&self) -> Settings {
        Settings {
            inactive_after: nanos(self.inactive_producer_timeout),
            tombstone_lifetime: nanos(self.tombstone_lifetime),
            idle_lifetime: nanos(self.idle_lifetime),
            max_producers: self.max_connections,
            ..Settings::default()
        }
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
