//! The fsyncing end of the log.

use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::File;
use crate::store::format::file::{FileHeader, FileNo};
use crate::store::format::file_index;
use crate::store::format::log_pos::LogPos;
use crate::store::log::Log;
use crate::store::log::completions::Completions;
use crate::store::log::health::Task;

impl Log {
    /// Makes everything written before the call durable: gives full files their index, and fsyncs. What
    /// waited for it is committed.
    ///
    /// # Errors
    /// `Full`, `Io`, `Damaged`: nothing more is acknowledged at level `sync` until a later call succeeds.
    pub(crate) fn sync(&self) -> Result<()> {
        let _one = self.syncing.lock();
        let mut result = self.sync_once();
        if let Err(error) = &result {
            let has_room = error.kind() == ErrorKind::Full && self.release_reserve();
            if has_room || self.health.suspect().is_some() {
                result = self.sync_once();
            }
        }
        self.health.report(Task::Sync, &result);
        result
    }

    fn sync_once(&self) -> Result<()> {
        if self.is_failing() {
            self.check_folder()?;
        }
        self.rewrite_suspects()?;
        let target = self.written();
        let (full, (no, current)) = {
            let files = self.files.lock();
            (files.full.clone(), files.current.clone())
        };
        for (header, file) in full {
            self.seal(&header, &file)?;
            self.files.lock().full.retain(|(h, _)| h.no != header.no);
        }
        self.fsync(no, &current)?;
        self.check_names(no, &current)?;
        self.complete_synced(target);
        self.remove_doubt_file();
        Ok(())
    }

    /// Writes the index of a full file and fsyncs it.
    fn seal(&self, header: &FileHeader, file: &Arc<dyn File>) -> Result<()> {
        let Some((runs, frames_end)) = self.catalog.open_runs(header.no) else { return Ok(()) };
        let (index, table) = file_index::encode(&runs, frames_end);
        file.write_at(&mut [IoSlice::new(&index)], frames_end)
            .map_err(|e| Error::io("could not write a file's index", e))?;
        self.fsync(header.no, file)?;
        self.catalog.seal(header.no, table);
        Ok(())
    }

    fn fsync(&self, no: FileNo, file: &Arc<dyn File>) -> Result<()> {
        let begun = Instant::now();
        let result = file.sync();
        self.counters.synced(begun.elapsed(), result.is_err());
        result.map_err(|error| {
            self.mark_suspect(no);
            self.create_doubt_file();
            Error::io(format!("could not fsync log file {no}"), error)
        })
    }

    /// Commits what waited for an fsync, up to the position `target`.
    fn complete_synced(&self, target: LogPos) {
        let mut completions = Completions::default();
        let mut len = 0;
        loop {
            let mut unsynced = self.unsynced.lock();
            let Some(next) = unsynced.pop_front_if(|next| next.end <= target) else { break };
            drop(unsynced);
            len += next.len;
            completions.add(next.data, next.wake);
        }
        completions.report(true);
        self.synced.fetch_max(target.0, Ordering::AcqRel);
        self.unwritten.fetch_sub(len, Ordering::Relaxed);
        completions.wake();
        if len > 0 {
            self.wake_waiting();
        }
    }
}
