//! A disk in memory, for a broker without a folder: gone with its last handle.

use std::collections::HashMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::sync::{Mutex, RwLock};

use crate::store::disk::disk::{self, Disk, File, FileId, OpenMode};

/// Files by their names. Nothing of it is ever on a disk, so a sync has nothing to do.
#[derive(Default)]
pub(crate) struct MemoryDisk {
    names: Mutex<Names>,
}

#[derive(Default)]
struct Names {
    files: HashMap<String, Arc<Contents>>,
    /// Creations, renames and removals so far.
    changes: u64,
    last_id: u64,
}

struct Contents {
    id: u64,
    bytes: RwLock<Vec<u8>>,
}

struct MemoryFile {
    contents: Arc<Contents>,
    is_writable: bool,
}

impl Disk for MemoryDisk {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        disk::check_name(name)?;
        let mut names = self.names.lock();
        let contents = match (names.files.get(name), mode) {
            (Some(_), OpenMode::Create) => return Err(io::ErrorKind::AlreadyExists.into()),
            (None, OpenMode::Write | OpenMode::Read) => return Err(io::ErrorKind::NotFound.into()),
            (Some(contents), _) => Arc::clone(contents),
            (None, OpenMode::Create) => {
                names.last_id += 1;
                names.changes += 1;
                let contents = Arc::new(Contents { id: names.last_id, bytes: RwLock::default() });
                names.files.insert(name.to_owned(), Arc::clone(&contents));
                contents
            }
        };
        Ok(Arc::new(MemoryFile { contents, is_writable: mode != OpenMode::Read }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        disk::check_name(from)?;
        disk::check_name(to)?;
        let mut names = self.names.lock();
        let contents = names.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        names.files.insert(to.to_owned(), contents);
        names.changes += 1;
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        disk::check_name(name)?;
        let mut names = self.names.lock();
        names.files.remove(name).ok_or(io::ErrorKind::NotFound)?;
        names.changes += 1;
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        Ok(())
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names.lock().files.keys().cloned().collect())
    }

    fn id(&self, name: &str) -> io::Result<FileId> {
        disk::check_name(name)?;
        let names = self.names.lock();
        let contents = names.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok((0, contents.id))
    }

    fn is_in_place(&self) -> io::Result<bool> {
        Ok(true)
    }

    fn version(&self) -> io::Result<u64> {
        Ok(self.names.lock().changes)
    }

    fn is_in_memory(&self) -> bool {
        true
    }
}

impl MemoryFile {
    fn check_writable(&self) -> io::Result<()> {
        if self.is_writable { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
    }
}

/// A place in a file as an index. A file of this disk can't be larger than memory.
fn index(at: u64) -> io::Result<usize> {
    usize::try_from(at).map_err(|_| io::ErrorKind::FileTooLarge.into())
}

impl File for MemoryFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        let bytes = self.contents.bytes.read();
        let rest = bytes.get(index(at)?..).unwrap_or_default();
        let count = rest.len().min(buf.len());
        buf[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.read_at(buf, at)
    }

    fn write_at(&self, bufs: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut at = index(at)?;
        let mut bytes = self.contents.bytes.write();
        for part in bufs.iter().filter(|part| !part.is_empty()) {
            let end = at.checked_add(part.len()).ok_or(io::ErrorKind::FileTooLarge)?;
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[at..end].copy_from_slice(part);
            at = end;
        }
        Ok(())
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.check_writable()?;
        let mut bytes = self.contents.bytes.write();
        bytes.resize(index(len)?, 0);
        bytes.shrink_to_fit();
        Ok(())
    }

    fn allocate(&self, _len: u64) -> io::Result<()> {
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.contents.bytes.read().len() as u64)
    }

    fn id(&self) -> io::Result<FileId> {
        Ok((0, self.contents.id))
    }
}
