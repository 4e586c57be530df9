//! Checks that what was written is found again by its names: the folder and its files can be moved, removed
//! or replaced under a running broker, and its open files take everything all the same.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::File;
use crate::store::format::file::{FileNo, checkpoint_name, log_name};
use crate::store::format::manifest::MANIFEST_NAME;
use crate::store::log::Log;
use crate::store::log::health::away;

/// Files that the manifest names and the folder lacks.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Missing {
    /// Log files that are open, and not found by their names.
    pub(crate) logs: Vec<FileNo>,
    /// The next log file, which holds nothing yet.
    pub(crate) spare: Option<FileNo>,
    pub(crate) checkpoint: bool,
    pub(crate) manifest: bool,
}

fn looking(error: io::Error) -> Error {
    Error::io("could not look at the data folder", error)
}

impl Log {
    /// Makes sure, after an fsync and before it is answered for, that the folder is where it was, and that
    /// the current file and, if any name in the folder changed since the last look, all other files are
    /// found by their names.
    ///
    /// # Errors
    /// `Io`: what is missing. Log files are written again by the next fsync.
    pub(super) fn check_names(&self, no: FileNo, current: &Arc<dyn File>) -> Result<()> {
        self.check_folder()?;
        if !self.is_named(&log_name(no), current)? {
            self.mark_suspect(no);
            return Err(removed(&log_name(no)));
        }
        let version = self.disk.version().map_err(looking)?;
        if self.names_seen.load(Ordering::Relaxed) == version {
            return Ok(());
        }
        let missing = self.missing()?;
        missing.logs.iter().for_each(|no| self.mark_suspect(*no));
        if let Some(no) = missing.logs.first() {
            return Err(removed(&log_name(*no)));
        }
        if missing.manifest {
            return Err(removed(MANIFEST_NAME));
        }
        if missing.checkpoint && !self.replaces_checkpoint.load(Ordering::Relaxed) {
            return Err(removed("the checkpoint"));
        }
        if missing == Missing::default() {
            self.names_seen.store(version, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Makes sure that the folder's path leads to it. While it does not, publishes are refused.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn check_folder(&self) -> Result<()> {
        let is_in_place = self.disk.is_in_place().map_err(looking)?;
        self.health.set_away(!is_in_place);
        if is_in_place { Ok(()) } else { Err(away()) }
    }

    /// Finds the files that others removed or replaced.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn missing(&self) -> Result<Missing> {
        // Held meanwhile: no file comes or goes.
        let manifest = self.manifest.lock();
        let mut missing = Missing::default();
        for (no, _) in &manifest.files {
            let spare = self.files.lock().spare(*no);
            let is_spare = spare.is_some();
            // A file that was gone when the folder was opened is damage, and known.
            let Some(file) = spare.or_else(|| self.catalog.stored(*no).map(|stored| stored.file)) else {
                continue;
            };
            match self.is_named(&log_name(*no), &file)? {
                true => {}
                false if is_spare => missing.spare = Some(*no),
                false => missing.logs.push(*no),
            }
        }
        let lacks = |name: &str| match self.disk.id(name) {
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(looking(error)),
        };
        missing.manifest = lacks(MANIFEST_NAME)?;
        if let Some((no, _)) = manifest.checkpoint {
            missing.checkpoint = lacks(&checkpoint_name(no))?;
        }
        Ok(missing)
    }

    /// Has the next fsyncs pass over a missing checkpoint, or no longer: one is about to be taken.
    pub(crate) fn set_replaces_checkpoint(&self, replaces: bool) {
        self.replaces_checkpoint.store(replaces, Ordering::Relaxed);
    }

    /// Whether `name` leads to this very file.
    fn is_named(&self, name: &str, file: &Arc<dyn File>) -> Result<bool> {
        match self.disk.id(name) {
            Ok(id) => Ok(id == file.id().map_err(looking)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(looking(error)),
        }
    }
}

fn removed(name: &str) -> Error {
    Error::new(
        ErrorKind::Io,
        format!("{name} was removed from the data folder, or replaced, while it was in use"),
    )
}
