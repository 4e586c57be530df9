//! A lookup server: brokers register at it, clients ask it who has a topic.
//!
//! - [`Lookupd`]: listens on both ports; [`LookupConfig`]: where, and its limits
//! - `session`: a broker's connection, which speaks V1; `api`: the HTTP API, with its `answers` and `metrics`

mod answers;
mod api;
mod config;
mod metrics;
mod server;
mod session;

pub use api::LookupApi;
pub use config::LookupConfig;
pub use server::Lookupd;
