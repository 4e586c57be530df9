//! From the files back to topics and channels.
//!
//! - `scan`: the one reading of log files, which repair goes by too
//! - `recovery`: opens the folder and walks through the log
//! - `replay`: the state that entries add up to
//! - `holes`: messages that must be there and are not, and those known to be gone

pub(crate) mod holes;
pub(crate) mod recovery;
pub(crate) mod replay;
pub(crate) mod scan;
