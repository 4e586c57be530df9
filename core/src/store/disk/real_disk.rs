//! The disk of a running broker: one folder of the file system, held by a lock.

use std::fs;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, fstat, openat, renameat, stat, statat, unlinkat};
use rustix::io::{Errno, retry_on_intr};

use crate::error::{Error, Result};
use crate::store::disk::disk::{self, Disk, File, FileId, LOCK_NAME, OpenMode};
use crate::store::disk::folder::{create_folder, existing, lock};

/// The kernel takes no more slices in one call (`UIO_MAXIOV`).
const SLICES_MAX: usize = 1024;

/// A folder of the file system. It stays locked until this and nothing else of it is left: files opened
/// through it do not hold the lock.
#[derive(Debug)]
pub struct RealDisk {
    folder: PathBuf,
    /// Opened once, so that a sync reaches this very folder. Locked too, where the file system can: the lock
    /// file can be removed.
    folder_file: fs::File,
    /// Held, never read: closing it gives the lock up, also when the process is killed. `None`: for reading
    /// only.
    lock: Option<fs::File>,
    /// Set before the lock is given up: others may write to the folder from then on.
    is_released: AtomicBool,
}

impl RealDisk {
    /// Opens `folder`, creating it for this user only if it is missing, and locks it. `Locked`
    /// if it is open already, here or in another process.
    pub fn open(folder: &Path) -> Result<RealDisk> {
        let failed = |e| Error::io(format!("can't open data folder {}", folder.display()), e);
        create_folder(folder).map_err(failed)?;
        // Absolute from here on: the process may change its working directory.
        let folder = folder.canonicalize().map_err(failed)?;
        let folder_file = fs::File::open(&folder).map_err(failed)?;
        let lock = lock(&folder, &folder_file)?;
        Ok(RealDisk { folder, folder_file, lock: Some(lock), is_released: AtomicBool::new(false) })
    }

    /// Opens a folder that is there, to read only and without its lock: a broker may run on it, or start.
    /// `NotFound` if there is none.
    pub fn open_to_read(folder: &Path) -> Result<RealDisk> {
        let failed = |e| Error::io(format!("can't open data folder {}", folder.display()), e);
        let folder = existing(folder)?;
        let folder_file = fs::File::open(&folder).map_err(failed)?;
        Ok(RealDisk { folder, folder_file, lock: None, is_released: AtomicBool::new(false) })
    }

    /// The descriptors that hold the lock. A child of `fork` has them too, and the folder stays locked until
    /// it has closed them.
    pub(crate) fn lock_descriptors(&self) -> Vec<RawFd> {
        self.lock.iter().chain([&self.folder_file]).map(AsRawFd::as_raw_fd).collect()
    }

    /// [`RealDisk::open`] of a folder that is there. `NotFound` if there is none.
    pub fn open_existing(folder: &Path) -> Result<RealDisk> {
        Self::open(&existing(folder)?)
    }

    /// Refuses changes where the folder is not locked.
    fn check_writable(&self) -> io::Result<()> {
        let is_ours = self.lock.is_some() && !self.is_released.load(Ordering::Acquire);
        if is_ours { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

impl Disk for RealDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode != OpenMode::Read {
            self.check_writable()?;
        }
        disk::check_name(name)?;
        let flags = match mode {
            OpenMode::Create => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
            OpenMode::Write => OFlags::RDWR,
            OpenMode::Read => OFlags::RDONLY,
        };
        // In the folder that was opened, wherever it is by now.
        let opened =
            retry_on_intr(|| openat(&self.folder_file, name, flags | OFlags::CLOEXEC, 0o600.into()))?;
        Ok(Arc::new(RealFile(opened.into())))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_writable()?;
        disk::check_name(from)?;
        disk::check_name(to)?;
        Ok(renameat(&self.folder_file, from, &self.folder_file, to)?)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_writable()?;
        disk::check_name(name)?;
        Ok(unlinkat(&self.folder_file, name, AtFlags::empty())?)
    }

    fn sync_dir(&self) -> io::Result<()> {
        self.folder_file.sync_all()
    }

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.folder_file)? {
            let entry = entry?;
            // Folders and names that are not UTF-8 can't be ours.
            let Ok(name) = entry.file_name().to_str() else { continue };
            let file_type = match entry.file_type() {
                // Some file systems do not say it here.
                FileType::Unknown => {
                    let stat = statat(&self.folder_file, name, AtFlags::SYMLINK_NOFOLLOW)?;
                    FileType::from_raw_mode(stat.st_mode)
                }
                known => known,
            };
            if name != LOCK_NAME && file_type == FileType::RegularFile {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn id(&self, name: &str) -> io::Result<FileId> {
        disk::check_name(name)?;
        Ok(file_id(&statat(&self.folder_file, name, AtFlags::empty())?))
    }

    fn is_in_place(&self) -> io::Result<bool> {
        match stat(&self.folder) {
            Ok(there) => Ok(file_id(&there) == file_id(&fstat(&self.folder_file)?)),
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn version(&self) -> io::Result<u64> {
        let metadata = self.folder_file.metadata()?;
        Ok((metadata.mtime() as u64).wrapping_mul(1_000_000_000).wrapping_add(metadata.mtime_nsec() as u64))
    }

    fn release(&self) {
        self.is_released.store(true, Ordering::Release);
        for file in self.lock.iter().chain([&self.folder_file]) {
            // Where that fails, the lock goes with the descriptor.
            let _ = file.unlock();
        }
    }
}

fn file_id(stat: &Stat) -> FileId {
    (stat.st_dev, stat.st_ino)
}

struct RealFile(fs::File);

impl File for RealFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        read_full(buf, at, |rest, at| self.0.read_at(rest, at))
    }

    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        // A half-cached range reads short first and then not at all, which makes the whole WouldBlock.
        read_full(buf, at, |rest, at| read_cached(&self.0, rest, at))
    }

    fn write_at(&self, mut bufs: &mut [IoSlice<'_>], mut at: u64) -> io::Result<()> {
        // With no empty slice in front, a write of 0 bytes can only mean a device that takes no more.
        IoSlice::advance_slices(&mut bufs, 0);
        while !bufs.is_empty() {
            let some = &bufs[..bufs.len().min(SLICES_MAX)];
            match rustix::io::pwritev(&self.0, some, at) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    IoSlice::advance_slices(&mut bufs, n);
                    at += n as u64;
                }
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        reserve(&self.0, len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn id(&self) -> io::Result<FileId> {
        Ok(file_id(&fstat(&self.0)?))
    }
}

/// Reads until `buf` is full or the file ends.
fn read_full(
    buf: &mut [u8],
    at: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut done = 0;
    while done < buf.len() {
        match read(&mut buf[done..], at + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

#[cfg(target_os = "linux")]
fn read_cached(file: &fs::File, buf: &mut [u8], at: u64) -> io::Result<usize> {
    use rustix::io::{ReadWriteFlags, preadv2};

    match preadv2(file, &mut [io::IoSliceMut::new(buf)], at, ReadWriteFlags::NOWAIT) {
        // Not cached; a file system that does not say; a kernel or sandbox without the call.
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => Err(io::ErrorKind::WouldBlock.into()),
        read => Ok(read?),
    }
}

#[cfg(not(target_os = "linux"))]
fn read_cached(_file: &fs::File, _buf: &mut [u8], _at: u64) -> io::Result<usize> {
    Err(io::ErrorKind::WouldBlock.into())
}

#[cfg(target_os = "linux")]
fn reserve(file: &fs::File, len: u64) -> io::Result<()> {
    use rustix::fs::{FallocateFlags, fallocate};

    if len == 0 {
        return Ok(());
    }
    match retry_on_intr(|| fallocate(file, FallocateFlags::KEEP_SIZE, 0, len)) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
        done => Ok(done?),
    }
}

#[cfg(not(target_os = "linux"))]
fn reserve(_file: &fs::File, _len: u64) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::process;

    use tempfile::TempDir;

    use super::*;
    use crate::error::ErrorKind;

    fn disk() -> (TempDir, RealDisk) {
        let temp = TempDir::new().unwrap();
        let disk = RealDisk::open(&temp.path().join("a/b")).unwrap();
        (temp, disk)
    }

    #[test]
    fn a_folder_opens_once_and_again_after_closing() {
        let (temp, disk) = disk();
        let folder = temp.path().join("a/b");
        let error = RealDisk::open(&folder).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked);
        let text = error.to_string();
        assert!(text.contains(&process::id().to_string()), "{text}");
        assert!(text.contains(folder.canonicalize().unwrap().to_str().unwrap()), "{text}");
        drop(disk);
        RealDisk::open(&folder).unwrap();
    }

    #[test]
    fn a_stale_lock_file_is_taken_over() {
        let temp = TempDir::new().unwrap();
        let lock = temp.path().join(LOCK_NAME);
        fs::write(&lock, "12345678901234567890").unwrap();
        let _disk = RealDisk::open(temp.path()).unwrap();
        assert_eq!(fs::read_to_string(&lock).unwrap(), process::id().to_string());
        fs::write(&lock, "not a pid\n").unwrap();
        let error = RealDisk::open(temp.path()).unwrap_err();
        assert!(error.kind() == ErrorKind::Locked && !error.to_string().contains("not a pid"), "{error}");
    }

    #[test]
    fn a_released_folder_can_be_opened_and_is_not_changed_by_its_old_disk() {
        let temp = TempDir::new().unwrap();
        let old = RealDisk::open(temp.path()).unwrap();
        old.open("f", OpenMode::Create).unwrap();
        old.release();
        let new = RealDisk::open(temp.path()).unwrap();
        assert!(old.open("g", OpenMode::Create).is_err());
        assert!(old.rename("f", "g").is_err() && old.remove("f").is_err());
        drop(old);
        assert!(RealDisk::open(temp.path()).is_err(), "the old disk took the new one's lock along");
        drop(new);
    }

    #[test]
    fn a_folder_whose_lock_file_was_removed_stays_locked() {
        let (temp, disk) = disk();
        let folder = temp.path().join("a/b");
        fs::remove_file(folder.join(LOCK_NAME)).unwrap();
        assert_eq!(RealDisk::open(&folder).unwrap_err().kind(), ErrorKind::Locked);
        drop(disk);
        RealDisk::open(&folder).unwrap();
    }

    #[test]
    fn a_lock_file_that_is_not_ours_is_refused_and_left_as_it_is() {
        let temp = TempDir::new().unwrap();
        let (lock, target) = (temp.path().join(LOCK_NAME), temp.path().join("accounts.db"));
        for text in ["", "42", "precious"] {
            fs::write(&target, text).unwrap();
            std::os::unix::fs::symlink(&target, &lock).unwrap();
            let error = RealDisk::open(temp.path()).unwrap_err();
            assert!(error.to_string().contains("symbolic link"), "{error}");
            assert_eq!(fs::read_to_string(&target).unwrap(), text);
            fs::remove_file(&lock).unwrap();
        }
        // A link to nothing must not create what it points to.
        std::os::unix::fs::symlink(temp.path().join("nothing"), &lock).unwrap();
        RealDisk::open(temp.path()).unwrap_err();
        assert!(!temp.path().join("nothing").exists());
        fs::remove_file(&lock).unwrap();
        for text in ["precious", "123456789012345678901"] {
            fs::write(&lock, text).unwrap();
            assert_eq!(RealDisk::open(temp.path()).unwrap_err().kind(), ErrorKind::InvalidArgument);
            assert_eq!(fs::read_to_string(&lock).unwrap(), text);
        }
        fs::remove_file(&lock).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &lock, FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(RealDisk::open(temp.path()).unwrap_err().to_string().contains("no regular file"));
    }

    #[test]
    fn only_this_user_may_read() {
        let (temp, disk) = disk();
        disk.open("f", OpenMode::Create).unwrap();
        let mode = |path: &str| temp.path().join(path).metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!([mode("a"), mode("a/b"), mode("a/b/f"), mode("a/b/lock")], [0o700, 0o700, 0o600, 0o600]);
    }

    #[test]
    fn a_disk_to_read_takes_no_lock_and_changes_nothing() {
        let (temp, disk) = disk();
        disk.open("f", OpenMode::Create).unwrap();
        let read = RealDisk::open_to_read(&temp.path().join("a/b")).unwrap();
        read.open("f", OpenMode::Read).unwrap();
        assert_eq!(read.list().unwrap(), ["f"]);
        for refused in [read.remove("f"), read.rename("f", "g"), read.open("f", OpenMode::Write).map(|_| ())]
        {
            assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        }
        let missing = temp.path().join("c");
        for error in
            [RealDisk::open_to_read(&missing).unwrap_err(), RealDisk::open_existing(&missing).unwrap_err()]
        {
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
        assert!(!missing.exists());
    }

    #[test]
    fn a_file_in_the_way_of_the_folder_is_an_io_error() {
        let temp = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(RealDisk::open(temp.path()).unwrap_err().kind(), ErrorKind::Io);
    }

    #[test]
    fn list_shows_files_only() {
        let (temp, disk) = disk();
        fs::create_dir(temp.path().join("a/b/folder")).unwrap();
        disk.open("f", OpenMode::Create).unwrap();
        assert_eq!(disk.list().unwrap(), ["f"]);
    }
}
