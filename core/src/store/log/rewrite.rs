//! Rewriting of suspect files. After a failed fsync the system may call pages clean that never reached
//! the medium, so the file is not trusted again, whatever later calls say: its frames are copied, as they can
//! be read now, into a new file of the same positions and salt, which is fsync'd and takes its place in the
//! manifest.

use std::io;
use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::Disk;
use crate::store::format::file::{FILE_HEADER_BYTES, FileNo, log_name};
use crate::store::format::frame_file::{Filled, FrameFile};
use crate::store::format::numbers::TopicNo;
use crate::store::format::own::{self, Contents, DOUBT_NAME, Name};
use crate::store::log::Log;
use crate::store::read::catalog::Stored;
use crate::store::read::reader::{Scanned, Scanner};

/// Leaves word of a failed fsync in the folder, for who opens it next. See [`DOUBT_NAME`].
pub(crate) fn create_doubt_file(disk: &dyn Disk) {
    if let Err(error) = own::create(disk, DOUBT_NAME) {
        tracing::error!("an fsync failed, and {DOUBT_NAME} could not be made to record it: {error}");
    }
}

/// Whether there is word of a failed fsync.
pub(crate) fn has_doubt_file(disk: &dyn Disk) -> io::Result<bool> {
    Ok(!own::own(disk, |name| name == Name::Doubt)?.is_empty())
}

/// Removes the word of a failed fsync. Should it stay, the next start does a little more than it must.
pub(crate) fn remove_doubt_file(disk: &dyn Disk) {
    for (name, _) in own::own(disk, |name| name == Name::Doubt).unwrap_or_default() {
        let _ = disk.remove(&name);
    }
}

impl Log {
    pub(super) fn create_doubt_file(&self) {
        if !self.has_doubt_file.swap(true, Ordering::Relaxed) {
            create_doubt_file(&*self.disk);
        }
    }

    /// Removes the word of a failed fsync: all suspect files are rewritten and fsync'd.
    pub(super) fn remove_doubt_file(&self) {
        if self.has_doubt_file.swap(false, Ordering::Relaxed) {
            remove_doubt_file(&*self.disk);
        }
    }

    /// Writes all suspect files anew. Call it with the right to fsync.
    ///
    /// # Errors
    /// `Damaged` if a file can't be read back whole; `Full`, `Io`. It stays suspect, and can be tried again.
    pub(super) fn rewrite_suspects(&self) -> Result<()> {
        while let Some(no) = self.health.suspect() {
            self.rewrite(no)?;
            self.health.clear_suspect(no);
            tracing::warn!("log file {no} was suspect, and was written anew");
        }
        Ok(())
    }

    /// Has the file written anew at the next [`Log::sync`]: its name is gone.
    pub(crate) fn mark_suspect(&self, no: FileNo) {
        self.health.mark_suspect(no);
        self.sync_thread.unpark();
    }

    fn rewrite(&self, no: FileNo) -> Result<()> {
        // Held over the copy if it is the file being written: nothing is written to a suspect file.
        let mut writer = Some(self.writer.lock()).filter(|writer| writer.header.no == no);
        let Some(old) = self.catalog.stored(no) else { return Ok(()) };
        let Filled { header, file: new, .. } = self.copy(&old)?;
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
        // It may be what was missing, or somebody else's by now.
        if own::contents(&*self.disk, &log_name(no)).is_ok_and(|contents| contents != Contents::Foreign) {
            let _ = self.disk.remove(&log_name(no));
        }
        Ok(())
    }

    /// Copies a file's frames to a new file, with the index if it has one, and fsyncs.
    fn copy(&self, old: &Stored) -> Result<Filled> {
        let no = old.header.no;
        let lost = |at: u64, topic: TopicNo| {
            let what =
                if topic == TopicNo::NONE { String::new() } else { format!(", of topic number {topic},") };
            Error::new(ErrorKind::Damaged, format!("log file {no} can't be read back{what} at byte {at}"))
        };
        let mut out = FrameFile::like(&*self.disk, || self.take_file_no(), old.header)?;
        let mut scan = Scanner::new(&old.file, old.header, FILE_HEADER_BYTES, old.frames_end);
        loop {
            match scan.next()? {
                Scanned::End => return out.finish(old.is_sealed),
                Scanned::Frame(at, frame) => out.put(&frame, scan.payload(at, &frame)?)?,
                Scanned::BadPayload(at, frame) => return Err(lost(at, frame.topic)),
                Scanned::Bad(at) => return Err(lost(at, TopicNo::NONE)),
            }
        }
    }

    fn rename_in_manifest(&self, from: FileNo, to: FileNo) -> Result<()> {
        let renamed = self.change_manifest(|manifest| {
            for (no, _) in manifest.files.iter_mut().filter(|(no, _)| *no == from) {
                *no = to;
            }
            Ok(())
        });
        renamed.inspect_err(|_| self.leave_over(log_name(to)))
    }
}
