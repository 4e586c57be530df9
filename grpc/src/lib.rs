//! libmq over gRPC: what a broker serves, and a client.
//!
//! - [`v1`]: the messages and services of `proto/mq/v1`, generated; [`PROTOS`]: their files; `batch`: delivered messages,
//!   encoded by hand
//! - [`Server`]: listens, with [`Config`]; `service`: what it serves; `status`: errors as gRPC has them; `connection`: a
//!   client's socket; `call`: what holds for every call; `input_budget`: memory for half-received messages; `health`
//! - [`client`]: publishers and consumers

mod batch;
mod call;
pub mod client;
mod connection;
mod health;
mod input_budget;
mod server;
mod service;
mod status;

/// The package `mq.v1`, generated from `proto/mq/v1`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod v1 {
    pub use crate::batch::MessageBatch;

    tonic::include_proto!("mq.v1");

    /// All of it as a set of descriptors, for reflection.
    pub const DESCRIPTORS: &[u8] = tonic::include_file_descriptor_set!("mq_descriptor");
}

pub use server::{Config, Parts, Server};

/// The files of the API, to generate code from: path and text.
pub const PROTOS: [(&str, &str); 5] = [
    ("mq/v1/common.proto", include_str!("../proto/mq/v1/common.proto")),
    ("mq/v1/publish.proto", include_str!("../proto/mq/v1/publish.proto")),
    ("mq/v1/subscribe.proto", include_str!("../proto/mq/v1/subscribe.proto")),
    ("mq/v1/admin.proto", include_str!("../proto/mq/v1/admin.proto")),
    ("mq/v1/discovery.proto", include_str!("../proto/mq/v1/discovery.proto")),
];
