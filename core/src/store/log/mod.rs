//! Writing the log.
//!
//! - `log`: positions, and the outcome of frames; `queue`: frames that are not written; `ticket`: what their
//!   owners wait with
//! - `writer`: rounds of writes; `files`: the open files; `next_file`: the next one, and the manifest
//! - `completions`: reports of written and refused frames to their topics
//! - `syncer`: fsync; `rewrite`: files written anew after a failed one
//! - `names`: whether files and folder are found by their names still
//! - `health`: what fails, and what is refused for it; `reserve`: space kept for a full disk

mod completions;
mod files;
pub(crate) mod health;
mod log;
pub(crate) mod names;
mod next_file;
mod queue;
pub(crate) mod reserve;
pub(crate) mod rewrite;
mod syncer;
mod ticket;
mod writer;

pub(crate) use files::Writer;
pub(crate) use log::{Log, Opened};
pub(crate) use queue::{CommitListener, QueuedFrame};
pub(crate) use ticket::Epoch;
pub use ticket::{Outcome, Ticket};
