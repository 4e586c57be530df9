//! The disk as the store sees it: a flat folder of files, and no more calls than the store needs.
//!
//! Three implementations: [`RealDisk`](crate::store::disk::real_disk::RealDisk); one in memory, for a broker
//! without a folder; and the recording one of the tests, which keeps what would have survived a crash and
//! injects faults.
//!
//! The store assumes no more than this of any disk after a power loss:
//! - Bytes written before a successful [`File::sync`] are there if the file's name is; names are as of the
//!   last successful [`Disk::sync_dir`]. Syncing a file does not make its name durable.
//! - Of what came later, any 512-byte sectors, lengths and names may have survived, in any order. A name
//!   leads to one whole file or another, never to neither because of a rename.
//! - A write never changes bytes outside its range, even when it is torn.

use std::io::{self, IoSlice};
use std::sync::Arc;

/// The file whose lock marks a folder as open. It belongs to the disk: no caller can open, list or remove it.
pub(crate) const LOCK_NAME: &str = "lock";

/// The identity of a file, whatever its name: device and number.
pub type FileId = (u64, u64);

/// Mode in which a file is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must not exist (`AlreadyExists`); read and write.
    Create,
    /// Must exist (`NotFound`); read and write.
    Write,
    /// Must exist (`NotFound`); read only.
    Read,
}

/// A folder of files. Names are plain: not empty, no separators, not that of the lock file; else
/// `InvalidInput`.
pub trait Disk: Send + Sync {
    /// Opens or creates `name`. A created file survives a crash only after [`Disk::sync_dir`].
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Replaces `to` by `from` atomically; survives a crash only after [`Disk::sync_dir`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Removes `name`; handles already open go on reading it. May be undone by a crash before
    /// [`Disk::sync_dir`].
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes creations, renames and removals durable.
    fn sync_dir(&self) -> io::Result<()>;
    /// Names of all files, in any order.
    fn list(&self) -> io::Result<Vec<String>>;
    /// The identity of the file that `name` leads to (`NotFound`).
    fn id(&self, name: &str) -> io::Result<FileId>;
    /// Whether the folder's path leads to it still: it was not moved, removed, or covered by another. All
    /// other calls are about the folder that was opened, wherever it is.
    fn is_in_place(&self) -> io::Result<bool>;
    /// A number that is another one after any change of names in the folder, whoever made it.
    fn version(&self) -> io::Result<u64>;
    /// Releases the folder, so that others can open it. Nothing is changed through this disk afterwards.
    fn release(&self) {}
    /// Whether there is no folder: the files are in memory.
    fn is_in_memory(&self) -> bool {
        false
    }
}

/// An open file. Callers never write the same bytes from two threads at once.
#[allow(clippy::len_without_is_empty, reason = "a log file is never asked whether it is empty")]
pub trait File: Send + Sync {
    /// Reads up to `buf.len()` bytes at `at`; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// [`File::read_at`] if no disk need be waited for; `WouldBlock` if it must be, or where the system does
    /// not say. After `WouldBlock` the contents of `buf` are unspecified.
    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> io::Result<usize>;
    /// Writes all of `bufs` one after the other from `at`. After an error any prefix may have been written.
    /// The slices are used up: what they hold afterwards is unspecified.
    fn write_at(&self, bufs: &mut [IoSlice<'_>], at: u64) -> io::Result<()>;
    /// Cuts or extends (with zeros) to `len` bytes. Space reserved past `len` may be given back.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Reserves space for the first `len` bytes without changing the length, so that writing them can't fail
    /// for want of room. Where the file system can't, does nothing. After an error some of it may be
    /// reserved.
    fn allocate(&self, len: u64) -> io::Result<()>;
    /// Makes contents and length durable. After an error nothing written since the last success may be
    /// trusted, not even after a later success: the system may have dropped the pages and marked them
    /// clean.
    fn sync(&self) -> io::Result<()>;
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Its identity.
    fn id(&self) -> io::Result<FileId>;
}

/// Refuses what is not a plain name, so that no name can lead out of the folder or to its lock.
pub(crate) fn check_name(name: &str) -> io::Result<()> {
    let plain =
        !name.is_empty() && !name.contains(['/', '\\', '\0']) && !matches!(name, "." | ".." | LOCK_NAME);
    if plain {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a plain file name")))
}

/// Duties of any disk, run over all.
#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::disk::crash_disk::CrashDisk;
    use crate::store::disk::memory_disk::MemoryDisk;
    use crate::store::disk::real_disk::RealDisk;

    fn each(test: impl Fn(&dyn Disk)) {
        test(&CrashDisk::new());
        test(&MemoryDisk::default());
        let temp = tempfile::TempDir::new().unwrap();
        test(&RealDisk::open(temp.path()).unwrap());
    }

    fn write(file: &dyn File, at: u64, bytes: &[u8]) {
        file.write_at(&mut [IoSlice::new(bytes)], at).unwrap();
    }

    fn kind<T>(result: io::Result<T>) -> io::ErrorKind {
        result.map(|_| ()).unwrap_err().kind()
    }

    #[test]
    fn open_modes() {
        each(|disk| {
            assert_eq!(kind(disk.open("f", OpenMode::Read)), io::ErrorKind::NotFound);
            assert_eq!(kind(disk.open("f", OpenMode::Write)), io::ErrorKind::NotFound);
            write(&*disk.open("f", OpenMode::Create).unwrap(), 0, b"abc");
            assert_eq!(kind(disk.open("f", OpenMode::Create)), io::ErrorKind::AlreadyExists);
            let read = disk.open("f", OpenMode::Read).unwrap();
            assert!(read.write_at(&mut [IoSlice::new(b"x")], 0).is_err());
            assert!(read.truncate(0).is_err());
            read.sync().unwrap();
            assert_eq!(disk.open("f", OpenMode::Write).unwrap().len().unwrap(), 3);
        });
    }

    #[test]
    fn names_that_lead_elsewhere_are_refused() {
        each(|disk| {
            disk.open("f", OpenMode::Create).unwrap();
            for name in ["", ".", "..", "a/b", "../x", "/x", "a\\b", "a\0b", LOCK_NAME] {
                assert_eq!(kind(disk.open(name, OpenMode::Create)), io::ErrorKind::InvalidInput, "{name:?}");
                assert_eq!(kind(disk.rename("f", name)), io::ErrorKind::InvalidInput, "{name:?}");
                assert_eq!(kind(disk.rename(name, "f")), io::ErrorKind::InvalidInput, "{name:?}");
                assert_eq!(kind(disk.remove(name)), io::ErrorKind::InvalidInput, "{name:?}");
            }
        });
    }

    #[test]
    fn more_slices_than_one_call_takes() {
        each(|disk| {
            let file = disk.open("f", OpenMode::Create).unwrap();
            let parts: Vec<Vec<u8>> =
                (0..3000u32).map(|i| i.to_le_bytes()[..i as usize % 4].to_vec()).collect();
            let mut slices = vec![IoSlice::new(b""); 2000];
            slices.extend(parts.iter().map(|part| IoSlice::new(part)));
            file.write_at(&mut slices, 7).unwrap();

            let want = parts.concat();
            let mut got = vec![1; want.len() + 7];
            assert_eq!(file.read_at(&mut got, 0).unwrap(), got.len());
            assert_eq!(got[..7], [0; 7]);
            assert_eq!(got[7..], want);
            file.write_at(&mut [], 0).unwrap();
            file.write_at(&mut [IoSlice::new(b"")], 1 << 20).unwrap();
            assert_eq!(file.len().unwrap(), got.len() as u64);
        });
    }

    #[test]
    fn a_read_is_short_only_at_the_end() {
        each(|disk| {
            let file = disk.open("f", OpenMode::Create).unwrap();
            write(&*file, 0, b"0123456789");
            let mut buf = [0; 8];
            assert_eq!(file.read_at(&mut buf, 4).unwrap(), 6);
            assert_eq!(&buf[..6], b"456789");
            assert_eq!(file.read_at(&mut buf, 10).unwrap(), 0);
            assert_eq!(file.read_at(&mut buf, 1 << 40).unwrap(), 0);
            // Whether just-written bytes are known to be cached is up to the file system.
            match file.read_at_nowait(&mut buf, 4) {
                Ok(n) => assert_eq!(&buf[..n], b"456789"),
                Err(e) => assert_eq!(e.kind(), io::ErrorKind::WouldBlock),
            }
        });
    }

    #[test]
    fn truncate_and_allocate() {
        each(|disk| {
            let file = disk.open("f", OpenMode::Create).unwrap();
            file.allocate(0).unwrap();
            file.allocate(1 << 16).unwrap();
            assert_eq!(file.len().unwrap(), 0);
            write(&*file, 0, b"abcdef");
            file.truncate(2).unwrap();
            file.truncate(4).unwrap();
            file.sync().unwrap();
            let mut buf = [9; 6];
            assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4);
            assert_eq!(&buf[..4], b"ab\0\0");
        });
    }

    #[test]
    fn rename_replaces_and_removed_files_stay_readable() {
        each(|disk| {
            write(&*disk.open("old", OpenMode::Create).unwrap(), 0, b"old");
            write(&*disk.open("new", OpenMode::Create).unwrap(), 0, b"new");
            assert_eq!(kind(disk.rename("none", "new")), io::ErrorKind::NotFound);
            let old = disk.open("old", OpenMode::Read).unwrap();
            disk.rename("new", "new").unwrap();
            disk.rename("new", "old").unwrap();
            disk.sync_dir().unwrap();
            let new = disk.open("old", OpenMode::Read).unwrap();
            assert_eq!(disk.list().unwrap(), ["old"]);
            disk.remove("old").unwrap();
            assert_eq!(kind(disk.remove("old")), io::ErrorKind::NotFound);
            assert!(disk.list().unwrap().is_empty());
            for (file, want) in [(old, b"old"), (new, b"new")] {
                let mut buf = [0; 3];
                file.read_at(&mut buf, 0).unwrap();
                assert_eq!(&buf, want);
            }
        });
    }
}
