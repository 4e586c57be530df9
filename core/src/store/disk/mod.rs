//! The seam to the file system.
//!
//! - [`Disk`], [`File`]: the operations the store needs, and what it assumes of them
//! - [`real_disk`]: the system's files; `folder`: finding, creating and locking their folder
//! - `memory_disk`: files in memory, for a broker without a folder
//! - `crash_disk`: a recording disk in memory for crash tests, with injected faults

#[cfg(any(test, feature = "testkit"))]
pub(crate) mod crash_disk;
mod disk;
mod folder;
pub(crate) mod memory_disk;
pub(crate) mod real_disk;

#[cfg(any(test, feature = "testkit"))]
pub use disk::FileId;
pub use disk::{Disk, File, OpenMode};
