//! A lookup server: brokers register at it, clients ask it who has a topic.
//!
//! - [`Lookupd`]: listens on both ports; [`LookupConfig`]: where, and its limits
//! - [`Directory`]: the core's registry behind a lock and a clock; [`Watch`]: hearing of a topic's changes
//! - `session`: a broker's connection, which speaks V1; `api`: the HTTP API, with its `answers` and `metrics`

mod answers;
mod api;
mod config;
mod directory;
mod metrics;
mod server;
mod session;
mod watch;

pub use api::LookupApi;
pub use config::LookupConfig;
pub use directory::Directory;
pub use server::Lookupd;
pub use watch::Watch;
