//! The server's end of NSQ's TCP protocol: one task per connection over a broker of the core.
//!
//! - [`Config`]: nsqd's limits; [`Options`]: those that HTTP shows and changes; [`Server`]: listens and
//!   starts sessions
//! - `session`: one connection's poll loop; its parts are `phase` (and the reasons for its end), `deadlines`
//!   (heartbeats, and what has taken too long), `input` (from the socket to commands),
//!   `publish` and `subscribe` (commands to the broker), `replies` (in the order of the commands, when the
//!   broker's log is where they wait for), `delivery` (messages to the output), `output`
//! - `auth`: what auth servers permit; `authorize`: AUTH, and the checks of commands
//! - `upgrade`: from IDENTIFY's answer to TLS and compression; `extension`: libmq's own commands, and
//!   `results`, what becomes of a PUBLISH of theirs
//! - `history`: the last minutes and the last day of all topics and channels
//! - `web`: where HTTP is served; `http`: what answers there; `stats`: the numbers it shows; `metrics`,
//!   `statsd`: the same for Prometheus and statsd
//! - `peek`: what PEEK reads; `buffers`: one thread's spare buffers; `group_commit`: one write for all
//!   sessions that are ready; `coalesce`: when single messages are sent together

mod auth;
mod authorize;
mod buffers;
mod coalesce;
mod config;
mod deadlines;
mod delivery;
mod drain;
mod extension;
mod group_commit;
mod history;
mod http;
mod input;
mod listener;
mod metrics;
mod options;
mod output;
mod peek;
mod phase;
mod publish;
mod replies;
mod results;
mod session;
mod stats;
mod statsd;
mod subscribe;
mod upgrade;
mod web;

pub use auth::AuthMethod;
#[cfg(feature = "fuzz-doors")]
pub use auth::answer_permits;
pub use config::{Config, NSQ_VERSION};
pub use drain::Drain;
pub use listener::Server;
pub use options::{OptionError, OptionSource, OptionValue, Options};
pub use statsd::StatsdConfig;
pub use web::WebError;

pub use mq_net::transport::Compression;
pub use mq_net::transport::tls::{
    BadValue, ClientAuthPolicy, TlsConfig, TlsError, TlsOptions, TlsPeer, TlsRequired, TlsVersion,
};
