//! libmq over gRPC: what a broker serves, and a client.
//!
//! - [`v1`]: the messages and services of `proto/mq/v1`, generated; [`PROTOS`]: their files; `batch`,
//!   `delivery`: delivered messages, encoded by hand
//! - `Server`: listens; `Config`: its addresses and limits; `service`: what it serves; `status`: errors as
//!   gRPC has them; `connection`: a client's socket, `frame_meter`: what HTTP/2 holds of its input, `link`: a
//!   connection as its calls see it; `call`: what holds for every call; `web`: for calls of pages;
//!   `input_budget`: memory for half-received messages; `health`
//! - `client`: publishers and consumers
//!
//! The feature `client`, on by default, has `client`; the feature `server` has what a broker serves.

mod batch;
#[cfg(feature = "server")]
mod call;
#[cfg(feature = "client")]
pub mod client;
mod codec;
#[cfg(feature = "server")]
mod config;
#[cfg(feature = "server")]
mod connection;
#[cfg(feature = "server")]
mod delivery;
#[cfg(feature = "server")]
mod frame_meter;
#[cfg(feature = "server")]
mod guarded;
#[cfg(feature = "server")]
mod health;
#[cfg(feature = "server")]
mod input_budget;
#[cfg(feature = "server")]
mod link;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod service;
#[cfg(feature = "server")]
mod status;
pub mod v1;
#[cfg(feature = "server")]
mod web;

#[cfg(feature = "server")]
pub use config::Config;
#[cfg(feature = "server")]
pub use server::{Parts, Server};

/// The files of the API, to generate code from: path and text.
pub const PROTOS: [(&str, &str); 5] = [
    ("mq/v1/common.proto", include_str!("../proto/mq/v1/common.proto")),
    ("mq/v1/publish.proto", include_str!("../proto/mq/v1/publish.proto")),
    ("mq/v1/subscribe.proto", include_str!("../proto/mq/v1/subscribe.proto")),
    ("mq/v1/admin.proto", include_str!("../proto/mq/v1/admin.proto")),
    ("mq/v1/discovery.proto", include_str!("../proto/mq/v1/discovery.proto")),
];
