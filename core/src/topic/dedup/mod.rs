//! Deduplication: messages that are sent again with their id are stored once.
//!
//! - `state`: the ids of a topic, and publishing with ids
//! - `window`: the ids of the newest messages, by time and number; pure

mod state;
mod window;

pub(super) use state::DedupState;
pub(super) use window::Known;
