//! The disk as the store sees it: a flat folder of files, and no more calls than the store needs.
//!
//! Two implementations: [`RealDisk`](crate::store::real_disk), and the recording one of the tests, which keeps what
//! would have survived a crash and injects faults.

use std::io::{self, IoSlice};
use std::sync::Arc;

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must not exist; read and write.
    Create,
    /// Must exist; read and write.
    Write,
    /// Must exist; read only.
    Read,
}

/// A folder of files. Names are plain (no separators).
pub trait Disk: Send + Sync {
    /// Opens or creates `name`. A created file survives a crash only after [`Disk::sync_dir`].
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Replaces `to` by `from` atomically; survives a crash only after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes `name`; handles already open go on reading it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
}

/// An open file. Callers never write the same bytes from two threads at once.
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes at `at`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// The same if no disk need be waited for; `WouldBlock` if it must be, or where the system can't tell.
    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bufs` one after the other from `at`. After an error any prefix may have been written.
    fn write_at(&self, bufs: &mut [IoSlice<'_>], at: u64) -> io::Result<()>;
    /// Cuts or extends (with zeros) to `len` bytes.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Reserves space for the first `len` bytes without changing the length, so that writing them can't fail for
    /// want of room. Where the file system can't, does nothing.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable. After an error nothing written since the last success may be trusted.
    fn sync(&self) -> io::Result<()>;
    /// Starts writing out dirty pages below `len` without waiting, to keep the next sync short. A hint.
    fn write_behind(&self, from: u64, len: u64);
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
}
