//! Files in doubt are written anew. After a failed fsync the system may call pages clean that never reached the medium,
//! so the file is not trusted again, whatever later calls say: its frames are copied, as they can be read now, into a
//! new file of the same positions and salt, which is fsync'd and takes its place in the manifest.

use std::collections::HashSet;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{Disk, File, OpenMode};
use crate::store::format::file::{FILE_HEADER_BYTES, FileHeader, checkpoint_name, log_name};
use crate::store::format::file_index::read_index;
use crate::store::format::manifest::MANIFEST_NAME;
use crate::store::log::Log;
use crate::store::read::reader::{Scanned, Scanner};

/// What the manifest names and the folder lacks.
pub(crate) struct Missing {
    pub(crate) logs: Vec<u64>,
    pub(crate) checkpoint: bool,
    pub(crate) manifest: bool,
}

/// A file that is there from a failed fsync until all in doubt was written anew. It is of use after a kill: what was in
/// doubt reads well from the system's cache, and a later fsync of it would succeed and do nothing. After a power loss
/// nothing in doubt can be read, so this need not survive one.
pub(crate) const DOUBT_NAME: &str = "doubt";

/// Leaves word of a failed fsync in the folder, for who opens it next.
pub(crate) fn tell_doubt(disk: &dyn Disk) {
    match disk.open(DOUBT_NAME, OpenMode::Create) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => {
            tracing::error!("an fsync failed, and {DOUBT_NAME} could not be made to tell of it: {error}")
        }
    }
}

/// Bytes of a write.
const WRITE_BYTES: usize = 1 << 20;

impl Log {
    pub(super) fn tell_doubt(&self) {
        if !self.doubt_told.swap(true, Ordering::Relaxed) {
            tell_doubt(&*self.disk);
        }
    }

    /// All that was in doubt is fsync'd.
    pub(super) fn forget_doubt(&self) {
        if self.doubt_told.swap(false, Ordering::Relaxed) {
            // If it can't be removed now, it is at the next open.
            let _ = self.disk.remove(DOUBT_NAME);
        }
    }

    /// Writes all files in doubt anew. Call it with the right to fsync.
    ///
    /// # Errors
    /// `Damaged` if a file can't be read back whole; `Full`, `Io`. It stays in doubt, and can be tried again.
    pub(super) fn heal(&self) -> Result<()> {
        while let Some(no) = self.trouble.doubtful() {
            self.rewrite(no)?;
            self.trouble.trust(no);
            tracing::warn!("log file {no} was in doubt, and was written anew");
        }
        Ok(())
    }

    /// Looks for what was removed behind the log's back.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn missing(&self) -> Result<Missing> {
        // Held meanwhile: no file comes or goes.
        let manifest = self.manifest.lock();
        let names = self.disk.list().map_err(|e| Error::io("could not list the data folder", e))?;
        let names: HashSet<&str> = names.iter().map(String::as_str).collect();
        let lacks = |name: String| !names.contains(name.as_str());
        Ok(Missing {
            logs: manifest.files.iter().map(|(no, _)| *no).filter(|no| lacks(log_name(*no))).collect(),
            checkpoint: manifest.checkpoint.is_some_and(|(no, _)| lacks(checkpoint_name(no))),
            manifest: lacks(MANIFEST_NAME.to_owned()),
        })
    }

    /// Has the file written anew at the next [`Log::sync`]: its name is gone.
    pub(crate) fn distrust(&self, no: u64) {
        self.trouble.doubt(no);
        self.sync_bell.unpark();
    }

    fn rewrite(&self, no: u64) -> Result<()> {
        // Held over the copy if it is the file being written: nothing is written to a file in doubt.
        let mut writer = Some(self.writer.lock()).filter(|writer| writer.header.no == no);
        let Some(old) = self.catalog.stored(no) else { return Ok(()) };
        let header = FileHeader { no: self.take_file_no(), ..old.header };
        let name = log_name(header.no);
        let copied = self
            .disk
            .open(&name, OpenMode::Create)
            .map_err(|e| Error::io(format!("could not create {name}"), e))
            .and_then(|new| {
                copy(&old.file, &old.header, &new, &header, old.frames_end, old.is_sealed).map(|()| new)
            });
        let new = match copied {
            Ok(new) => new,
            Err(error) => {
                // Nothing names it: if it can't be removed now, it is at the next open.
                let _ = self.disk.remove(&name);
                return Err(error);
            }
        };
        self.rename_in_manifest(no, header.no)?;
        self.catalog.renumber(no, header, new.clone());
        let mut files = self.files.lock();
        for (old, file) in files.full.iter_mut().filter(|(old, _)| old.no == no) {
            (*old, *file) = (header, new.clone());
        }
        if let Some(writer) = &mut writer {
            files.current = (header.no, new.clone());
            writer.go_on_in(new, header, old.frames_end);
        }
        drop(files);
        // It may be what was missing.
        let _ = self.disk.remove(&log_name(no));
        Ok(())
    }

    fn rename_in_manifest(&self, from: u64, to: u64) -> Result<()> {
        let renamed = self.change_manifest(|manifest| {
            for (no, _) in manifest.files.iter_mut().filter(|(no, _)| *no == from) {
                *no = to;
            }
            Ok(())
        });
        renamed.inspect_err(|_| self.leave_over(log_name(to)))
    }
}

/// Copies the frames of `from`, and the index of a sealed file, and fsyncs.
fn copy(
    from: &Arc<dyn File>,
    from_header: &FileHeader,
    to: &Arc<dyn File>,
    to_header: &FileHeader,
    frames_end: u64,
    is_sealed: bool,
) -> Result<()> {
    let no = from_header.no;
    let lost = |at: u64, topic: u32| {
        let what = if topic == 0 { String::new() } else { format!(", of topic number {topic},") };
        Error::new(ErrorKind::Damaged, format!("log file {no} can't be read back{what} at byte {at}"))
    };
    let mut out = Output { file: to, at: 0, buffer: to_header.encode().to_vec() };
    let mut scan = Scanner::new(from, *from_header, FILE_HEADER_BYTES, frames_end);
    loop {
        match scan.next()? {
            Scanned::End => break,
            Scanned::Frame(at, frame) => {
                out.put(&frame.encode(to_header.salt, to_header.position(at)))?;
                out.put(scan.payload(at, &frame)?)?;
            }
            Scanned::BadPayload(at, frame) => return Err(lost(at, frame.topic)),
            Scanned::Bad(at) => return Err(lost(at, 0)),
        }
    }
    if is_sealed {
        let failed = |e| Error::io(format!("could not read log file {no}"), e);
        let len = from.len().map_err(failed)?;
        let mut index = vec![0; len.saturating_sub(frames_end) as usize];
        let got = from.read_at(&mut index, frames_end).map_err(failed)?;
        out.put(&index[..got])?;
    }
    out.flush()?;
    if is_sealed && read_index(to, out.at).ok().flatten().is_none() {
        return Err(lost(frames_end, 0));
    }
    to.sync().map_err(|e| Error::io(format!("could not fsync {}", log_name(to_header.no)), e))
}

/// The file being filled.
struct Output<'a> {
    file: &'a Arc<dyn File>,
    /// Where the buffer goes in the file.
    at: u64,
    buffer: Vec<u8>,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.file
            .write_at(&mut [IoSlice::new(&self.buffer)], self.at)
            .map_err(|e| Error::io("could not write a log file anew", e))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
