//! Writing the log.
//!
//! - `log`: the queue, positions, tickets
//! - `writer`: rounds of writes, new files, fsync
//! - `names`: whether files and folder are found by their names still
//! - `trouble`: what fails, and what is refused for it; `reserve`: space kept for a full disk; `healing`:
//!   files written anew after a failed fsync

pub(crate) mod healing;
#[expect(clippy::module_inception, reason = "the noun is the module's")]
mod log;
pub(crate) mod names;
pub(crate) mod reserve;
pub(crate) mod trouble;
pub(crate) mod writer;

pub(crate) use log::{Frame, Landed, Landing, Log, Opened};
pub use log::{Outcome, Ticket, Wake};
