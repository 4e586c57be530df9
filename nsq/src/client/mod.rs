//! The client's end of NSQ's TCP protocol: one connection to one server, `mq` or nsqd; and of its HTTP API.
//!
//! - [`Admin`]: asks the HTTP API
//! - [`Connection`]: publishes, subscribes, peeks; `handshake`: how it begins; `outbox`: commands; `inbox`:
//!   what comes; `decoded`: the same for the fuzzer
//! - [`Identify`]: what it says of itself; [`ClientTls`]: what it trusts; [`Message`], [`Peeked`] and
//!   [`Results`]: what it gets; [`Error`]

mod admin;
mod connection;
#[cfg(feature = "fuzz-doors")]
mod decoded;
mod error;
mod handshake;
mod inbox;
mod message;
mod outbox;

pub use admin::{Admin, AdminError};
pub use connection::Connection;
#[cfg(feature = "fuzz-doors")]
pub use decoded::decoded;
pub use error::Error;
pub use message::{Message, Peeked, Results};

pub use mq_net::secret::Secret;
pub use mq_net::transport::tls::{ClientTls, ClientTlsOptions, TlsVersion, shown};

use std::net::SocketAddr;
use std::time::Duration;

/// A client's description of itself, and the settings it asks for. The server chooses what is `None` or 0.
#[derive(Clone, Debug, Default)]
pub struct Identify {
    /// Shown in the server's stats.
    pub client_id: String,
    /// Shown in the server's stats.
    pub hostname: String,
    /// Shown in the server's stats. Empty: this library's name and version.
    pub user_agent: String,
    /// Interval of the server's heartbeats; a second at least.
    pub heartbeat_interval: Option<Duration>,
    /// Longest time of a message in flight; a second at least.
    pub msg_timeout: Option<Duration>,
    /// Percent of the messages to be sent; 0: all.
    pub sample_rate: u8,
    /// Speaks TLS, or not at all.
    pub tls: Option<ClientTls>,
    /// Compresses with snappy, if the server does.
    pub snappy: bool,
    /// Compresses with deflate of this level, if the server does; 0 for the server's. Not together with
    /// snappy.
    pub deflate: Option<u8>,
    /// Uses libmq's extension where the server has it: see
    /// [`wire::extension`](crate::wire::extension).
    pub extension: bool,
    /// Secret to AUTH with, if the server requires that.
    pub auth_secret: Option<Secret<Box<[u8]>>>,
    /// Where this program is, for servers that prefer consumers nearby; empty: not said.
    pub topology_region: String,
    /// As `topology_region`, for a part of it.
    pub topology_zone: String,
    /// Bytes that the server gathers for this client before it writes; 0: it gathers none.
    pub output_buffer_size: Option<u32>,
    /// Longest time for which it does; 0: it does not wait for more.
    pub output_buffer_timeout: Option<Duration>,
    /// Address of this machine from which to connect.
    pub local_address: Option<SocketAddr>,
    /// Longest time in which nothing comes. `None`: twice the interval of heartbeats, 15 s at least.
    pub read_timeout: Option<Duration>,
    /// Longest time in which the server takes nothing of what is to be written. `None`: any.
    pub write_timeout: Option<Duration>,
    /// Most bytes of a frame from the server. `None`: what a frame can have.
    pub frame_bytes_max: Option<u32>,
}
