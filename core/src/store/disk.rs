//! The disk as the store sees it: a flat folder of files, and no more calls than the store needs.
//!
//! Two implementations: [`RealDisk`](crate::store::real_disk::RealDisk), and the recording one of the tests, which
//! keeps what would have survived a crash and injects faults.
//!
//! What the store may assume of any disk after a power loss, and no more:
//! - Bytes written before a successful [`File::sync`] are there if the file's name is; names are as of the last
//!   successful [`Disk::sync_dir`]. Syncing a file does not make its name durable.
//! - Of what came later, any 512-byte sectors, lengths and names may have survived, in any order. A name leads to one
//!   whole file or another, never to neither because of a rename.
//! - A write never changes bytes outside its range, even when it is torn.

use std::io::{self, IoSlice};
use std::sync::Arc;

/// The file whose lock marks a folder as open. It belongs to the disk: no caller can open, list or remove it.
pub const LOCK_NAME: &str = "lock";

/// How a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must not exist (`AlreadyExists`); read and write.
    Create,
    /// Must exist (`NotFound`); read and write.
    Write,
    /// Must exist (`NotFound`); read only.
    Read,
}

/// A folder of files. Names are plain: not empty, no separators, not [`LOCK_NAME`]; else `InvalidInput`.
pub trait Disk: Send + Sync {
    /// Opens or creates `name`. A created file survives a crash only after [`Disk::sync_dir`].
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Replaces `to` by `from` atomically; survives a crash only after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes `name`; handles already open go on reading it. May be undone by a crash before [`Disk::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
}

/// An open file. Callers never write the same bytes from two threads at once.
#[expect(clippy::len_without_is_empty, reason = "nobody asks a log file whether it is empty")]
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes at `at`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// The same if no disk need be waited for; `WouldBlock` if it must be, or where the system can't tell. After
    /// `WouldBlock` the contents of `buf` are unspecified.
    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bufs` one after the other from `at`. After an error any prefix may have been written. The slices
    /// are used up: what they hold afterwards is unspecified.
    fn write_at(&self, bufs: &mut [IoSlice<'_>], at: u64) -> io::Result<()>;
    /// Cuts or extends (with zeros) to `len` bytes. Space reserved past `len` may be given back.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Reserves space for the first `len` bytes without changing the length, so that writing them can't fail for
    /// want of room. Where the file system can't, does nothing.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable. After an error nothing written since the last success may be trusted, not
    /// even after a later success: the system may have dropped the pages and marked them clean.
    fn sync(&self) -> io::Result<()>;
    /// Starts writing out the `len` bytes from `from` without waiting, to keep the next sync short. A hint.
    fn write_behind(&self, from: u64, len: u64);
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
}

/// Refuses what is not a plain name, so that no name can lead out of the folder or to its lock.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    let plain = !name.is_empty() && !name.contains(['/', '\\', '\0']) && !matches!(name, "." | ".." | LOCK_NAME);
    if plain {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a plain file name")))
}
