//! Publishers and consumers over gRPC. They reconnect by themselves, and say what was lost: nothing that was
//! acknowledged.
//!
//! - [`Target`]: how a broker or a discovery service is reached
//! - [`Publisher`]: batches to a topic, each answered with its offsets
//! - [`Consumer`]: a stream of [`Delivery`]s from all brokers that have a topic: `feed` is one of them,
//!   `brokers` says which there are, `in_flight` what has no answer, `acks` what is on its way back
//! - [`Error`]; `backoff`: pauses between attempts

mod acks;
mod backoff;
mod brokers;
mod consumer;
mod error;
mod feed;
mod in_flight;
mod publisher;
mod target;

pub use brokers::Brokers;
pub use consumer::{Consumer, ConsumerOptions};
pub use error::Error;
pub use feed::Delivery;
pub use publisher::{Publisher, PublisherOptions, Receipt};
pub use target::Target;

pub use crate::v1::{Header, OffsetRange, OutgoingMessage, ReceivedMessage};
