//! A server's numbers, as nsqd's `/stats` shows them.
//!
//! - [`Stats`]: all of them at one moment, field for field; `collector`: from the broker and its clients
//! - `text`: for people; `time`: times as Go writes them; `memory`: the process's
//! - `publishing`: how long publishes took

mod collector;
mod memory;
mod model;
mod publishing;
#[cfg(test)]
pub(super) mod samples;
mod text;
mod time;

pub(super) use collector::{Selection, StatsCollector};
pub(super) use memory::Memory;
pub(super) use model::{ChannelEntry, LatencyEntry, Stats, TopicEntry};
pub(super) use publishing::{Measured, Publishing};
