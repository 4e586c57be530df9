//! The broker log: one sequence of files that holds everything that must survive.
//!
//! A room per concern:
//!
//! - [`disk`]: the folder as the store sees it; the system's disk, and the one of the crash tests
//! - [`mod@format`]: the bytes of frames, entries and files
//! - `memory`: messages being encoded, and the chunks that hold frames
//! - `log`: positions, rounds of writes, fsync, and what is done when they fail
//! - `read`: which file holds what, and reading it back
//! - `open`: from the files back to topics and channels
//! - `clean`: removes and rewrites files of which little is pending
//! - [`repair`]: inspection of a folder, and repair of a damaged one

pub(crate) mod clean;
#[cfg_attr(not(feature = "testkit"), allow(unreachable_pub, reason = "the testkit makes it public"))]
pub(crate) mod disk;
#[cfg_attr(not(feature = "testkit"), allow(unreachable_pub, reason = "the testkit makes it public"))]
pub(crate) mod format;
pub(crate) mod log;
pub(crate) mod memory;
pub(crate) mod open;
pub(crate) mod read;
pub mod repair;
