//! Addresses and limits of a server.

use std::time::Duration;

use mq_net::budget::Budget;

/// The largest request of a service that takes no messages; and what a request of one that does may have
/// besides the bodies and headers of its messages: names, ids, lengths.
pub(crate) const REQUEST_BYTES: usize = 1 << 20;

/// Addresses and limits of a server.
#[derive(Clone, Debug)]
pub struct Config {
    /// `host:port`, `:port` for all interfaces, or the path of a unix socket. Port 0 takes a free one.
    pub address: String,
    /// Largest message body in bytes.
    pub max_message_bytes: usize,
    /// Most bytes of bodies and headers in one batch.
    pub max_batch_bytes: usize,
    /// Longest time for a message in flight, where the client does not choose one.
    pub msg_timeout: Duration,
    /// The longest a client may choose.
    pub max_msg_timeout: Duration,
    /// Longest delay of a requeued or deferred message.
    pub max_delay: Duration,
    /// Most messages in flight at one subscriber.
    pub max_credit: u32,
    /// Most streams of one connection at a time, 16 before a call was admitted. One more is refused.
    pub max_streams: u32,
    /// Most connections at a time. One more waits until another has ended.
    pub max_connections: usize,
    /// Memory for what is held for clients, in and out, and for streams. A message that finds no room on its
    /// way in is refused; what goes out waits.
    pub budget: Budget,
    /// Silence after which a connection is pinged.
    pub keepalive_interval: Duration,
    /// Longest wait for the answer to a ping.
    pub keepalive_timeout: Duration,
    /// The longest a publish that makes a new topic waits for the lookup servers to know the topic.
    pub announce_wait: Duration,
    /// Longest time for calls to end once the server stops.
    pub shutdown_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            address: "127.0.0.1:4155".to_owned(),
            max_message_bytes: 1 << 20,
            max_batch_bytes: 5 << 20,
            msg_timeout: Duration::from_secs(60),
            max_msg_timeout: Duration::from_secs(15 * 60),
            max_delay: Duration::from_secs(3_600),
            max_credit: 2_500,
            max_streams: 256,
            max_connections: 10_000,
            budget: Budget::default(),
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            announce_wait: Duration::from_millis(5),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

impl Config {
    /// The largest request.
    pub(crate) fn request_bytes(&self) -> usize {
        self.max_batch_bytes.saturating_add(REQUEST_BYTES)
    }
}
