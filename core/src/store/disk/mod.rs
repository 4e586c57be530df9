//! The seam to the file system.
//!
//! - [`Disk`], [`File`]: the operations the store needs, and what it assumes of them
//! - [`real_disk`]: the system's files, under the folder's lock
//! - `memory_disk`: files in memory, for a broker without a folder
//! - `crash_disk`: a recording disk in memory for crash tests, with injected faults

#[cfg(any(test, feature = "testkit"))]
pub(crate) mod crash_disk;
#[expect(clippy::module_inception, reason = "the noun is the module's")]
mod disk;
pub(crate) mod memory_disk;
pub(crate) mod real_disk;

#[cfg(any(test, feature = "testkit"))]
pub use disk::FileId;
pub use disk::{Disk, File, OpenMode};
