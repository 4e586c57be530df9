//! Deduplication: the ids of messages that may be sent again.
//!
//! - `state`: the ids of a topic, those on their way to the log among them
//! - `window`: the ids of the newest messages, by time and number; pure

mod state;
mod window;

pub(super) use state::{DedupState, Found};
pub(super) use window::Known;
