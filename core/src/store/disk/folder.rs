//! The data folder: found, created, and locked for one broker.

use std::fs::{self, DirBuilder, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::OFlags;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::disk::LOCK_NAME;

/// Most bytes of a lock file: the digits of a pid.
const PID_BYTES_MAX: u64 = 20;

/// The absolute path of a folder that must be there.
pub(super) fn existing(folder: &Path) -> Result<PathBuf> {
    let missing =
        |why| Error::new(ErrorKind::NotFound, format!("no data folder at {}: {why}", folder.display()));
    let path = folder.canonicalize().map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => missing("there is nothing"),
        _ => Error::io(format!("can't open data folder {}", folder.display()), e),
    })?;
    if path.is_dir() { Ok(path) } else { Err(missing("that is a file")) }
}

/// Creates `folder` and what is missing above it, and makes that durable: else a power loss could take the
/// whole folder, however well its files were synced.
pub(super) fn create_folder(folder: &Path) -> io::Result<()> {
    let folder = std::path::absolute(folder)?;
    let missing: Vec<&Path> = folder.ancestors().take_while(|path| !path.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    for parent in missing.iter().filter_map(|path| path.parent()) {
        fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

/// Takes the folder's lock and leaves the pid in it for whoever finds it taken.
///
/// The lock belongs to the open file, not to the process, so a second open in one process is refused too. The
/// file stays when the lock is given up: removing it would let two processes lock two files of the same name.
/// Somebody else's file of that name, and what a symbolic link of that name points to, are left as they are.
pub(super) fn lock(folder: &Path, folder_file: &fs::File) -> Result<fs::File> {
    let path = folder.join(LOCK_NAME);
    let failed = |e| Error::io(format!("can't lock data folder {}", folder.display()), e);
    let foreign = |what| {
        let message = format!(
            "{} is {what}, not a broker's lock file: move it, or choose another folder",
            path.display()
        );
        Error::new(ErrorKind::InvalidArgument, message)
    };
    let mut options = OpenOptions::new();
    // NONBLOCK: opening a pipe of that name must not wait for its other end.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    options.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags.bits() as i32);
    let mut file = match options.open(&path) {
        Ok(file) => file,
        Err(_) if path.is_symlink() => return Err(foreign("a symbolic link")),
        Err(error) => return Err(failed(error)),
    };
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(foreign("no regular file"));
    }
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(locked(folder, file)),
        Err(TryLockError::Error(e)) => return Err(failed(e)),
    }
    if let Err(TryLockError::WouldBlock) = folder_file.try_lock() {
        return Err(locked(folder, file));
    }
    let mut pid = Vec::new();
    (&file).take(PID_BYTES_MAX + 1).read_to_end(&mut pid).map_err(failed)?;
    if pid.len() as u64 > PID_BYTES_MAX || !pid.trim_ascii().iter().all(u8::is_ascii_digit) {
        return Err(foreign("somebody else's file"));
    }
    file.rewind().map_err(failed)?;
    file.set_len(0).and_then(|()| write!(file, "{}", process::id())).map_err(failed)?;
    Ok(file)
}

fn locked(folder: &Path, file: fs::File) -> Error {
    let mut pid = String::new();
    // The holder may be between taking the lock and writing its pid; and what is there goes into a message.
    let known =
        file.take(PID_BYTES_MAX).read_to_string(&mut pid).is_ok() && pid.trim().parse::<u32>().is_ok();
    let holder = if known { format!("process {}", pid.trim()) } else { "another process".to_owned() };
    Error::new(ErrorKind::Locked, format!("data folder {} is open already, by {holder}", folder.display()))
}
