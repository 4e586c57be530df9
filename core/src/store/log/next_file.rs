//! The log's next file, made ahead of its need, and the manifest that names it.

use crate::error::Result;
use crate::store::disk::File;
use crate::store::format::file::{FileKind, FileNo, log_name};
use crate::store::format::manifest::Manifest;
use crate::store::format::own;
use crate::store::log::Log;
use crate::store::log::files::Spare;

impl Log {
    /// Creates the next file ahead of its need, so that no publish waits for it.
    pub(crate) fn prepare_next(&self) -> Result<()> {
        self.spare().map(|_| ())
    }

    /// The next file, created and named in the manifest if it was not yet.
    pub(super) fn spare(&self) -> Result<Spare> {
        let _one = self.preparing.lock();
        let files = self.files.lock();
        let (made, has_rolled) = (files.spare.clone(), files.has_rolled);
        drop(files);
        let mut spare = match made {
            Some(spare) if spare.is_named => return Ok(spare),
            Some(spare) => spare,
            None => {
                let (no, file) = own::create_numbered(&*self.disk, log_name, || self.take_file_no())?;
                let has_space = has_rolled && self.take_space(&*file);
                Spare { no, file, is_named: false, has_space }
            }
        };
        // Kept should the manifest fail: what may be named on disk must stay.
        self.files.lock().spare = Some(spare.clone());
        self.change_manifest(|manifest| {
            manifest.files.push((spare.no, FileKind::Log));
            Ok(())
        })?;
        spare.is_named = true;
        self.files.lock().spare = Some(spare.clone());
        Ok(spare)
    }

    /// Drops the next file, whose name is gone: another is made.
    pub(crate) fn forget_spare(&self, no: FileNo) -> Result<()> {
        let _one = self.preparing.lock();
        if self.files.lock().spare.take_if(|spare| spare.no == no).is_none() {
            return Ok(());
        }
        self.change_manifest(|manifest| {
            manifest.files.retain(|(other, _)| *other != no);
            Ok(())
        })
    }

    /// Takes the space that the file will need: writing costs a fifth less so. Where there is little, it is
    /// left to those who make more, and taken as the file is written. Returns whether it was taken.
    fn take_space(&self, file: &dyn File) -> bool {
        if self.is_full() {
            return false;
        }
        let taken = file.allocate(self.file_bytes).is_ok();
        if !taken {
            // Some of it may have been.
            let _ = file.truncate(0);
        }
        taken
    }

    /// Changes the manifest and stores it; on an error it is as before.
    pub(crate) fn change_manifest<T>(&self, change: impl FnOnce(&mut Manifest) -> Result<T>) -> Result<T> {
        let mut manifest = self.manifest.lock();
        let mut changed = manifest.clone();
        let out = change(&mut changed)?;
        changed.store(&*self.disk)?;
        *manifest = changed;
        for name in std::mem::take(&mut *self.left_over.lock()) {
            // If it can't be removed now, it is at the next open.
            let _ = self.disk.remove(&name);
        }
        Ok(out)
    }

    /// A file that the manifest on disk may name or not, since storing it failed: it is removed once that is
    /// known.
    pub(crate) fn leave_over(&self, name: String) {
        self.left_over.lock().push(name);
    }
}
