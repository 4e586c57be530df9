//! The producers of each topic: the state behind a lookup server.
//!
//! - [`Registry`]: pure. Events and a time in, answers out; no socket, no clock
//! - [`Producer`], [`Node`]: a broker that registers, and how tombstones name it

mod producer;
mod registry;
mod tombstones;

pub use producer::{Node, Producer, ProducerId};
pub use registry::{Entry, Found, Listed, Registered, Registry, Settings, View};
