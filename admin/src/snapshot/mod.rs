//! All servers at one moment, as they were read.
//!
//! - [`Snapshot`]: brokers and lookup servers merged into topics and channels; [`Node`]: one broker
//! - `numbers`: what every view shows, and how it is summed

mod merge;
mod node;
mod numbers;

pub(crate) use merge::{Lookup, Snapshot, Topic};
pub(crate) use node::{Node, TopicHere, Values};
pub(crate) use numbers::{Numbers, worst_latency};
