//! The package `mq.v1`, generated from `proto/mq/v1`.
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]

pub use crate::batch::MessageBatch;

include!("generated/mq.v1.rs");

/// All of it as a set of descriptors, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!("generated/mq_descriptor.bin");
