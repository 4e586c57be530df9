//! A data folder that held nothing before a start, so that a start that fails leaves nothing in it.

use std::fs::{File, OpenOptions, read_dir, remove_dir, remove_file};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file by which a broker holds its folder.
const LOCK_NAME: &str = "lock";

/// A data folder that is absent or empty.
pub(crate) struct NewFolder {
    path: PathBuf,
    /// The folder and those above it that are to be made, the folder first.
    absent: Vec<PathBuf>,
}

impl NewFolder {
    /// The folder at `path`, if there is nothing in it.
    pub(crate) fn at(path: &Path) -> Option<Self> {
        let path = std::path::absolute(path).ok()?;
        let is_empty = match read_dir(&path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) => error.kind() == io::ErrorKind::NotFound,
        };
        let absent = path.ancestors().take_while(|folder| !folder.exists()).map(Path::to_owned).collect();
        is_empty.then_some(Self { path, absent })
    }

    /// Removes what a failed start made, unless another process has the folder by now. The start took no
    /// message.
    pub(crate) fn empty(self) {
        if let Err(error) = self.try_empty() {
            tracing::debug!(%error, "what the start made in the data folder stays");
        }
    }

    fn try_empty(&self) -> io::Result<()> {
        // Held to the end, so that no other process can begin to use what is removed here.
        let lock = self.path.join(LOCK_NAME);
        let held: File = OpenOptions::new().read(true).write(true).open(&lock)?;
        held.try_lock()?;
        for entry in read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() != LOCK_NAME && is_made_by_a_start(&entry.file_name().to_string_lossy()) {
                remove_file(entry.path())?;
            }
        }
        // In a folder that stays, the lock stays too: another process may have opened it.
        if !self.absent.is_empty() {
            remove_file(&lock)?;
        }
        self.absent.iter().try_for_each(remove_dir)
    }
}

/// Whether a start makes files of this name.
fn is_made_by_a_start(name: &str) -> bool {
    let numbered = name.strip_suffix(".log").or_else(|| name.strip_suffix(".checkpoint"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    name == "manifest" || name == "reserve" || numbered.is_some_and(is_number)
}

#[cfg(test)]
mod tests {
    use mq_core::{Broker, Options};

    use super::*;

    fn open_and_close(path: &Path) {
        let options = Options { data_path: path.to_owned(), ..Options::default() };
        Broker::open(options).unwrap().close().unwrap();
    }

    #[test]
    fn what_a_failed_start_made_is_removed_with_the_folders_it_made() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a/b");
        let folder = NewFolder::at(&path).unwrap();
        open_and_close(&path);
        folder.empty();
        assert!(!temp.path().join("a").exists());
    }

    #[test]
    fn a_folder_that_was_there_stays_with_the_files_of_others() {
        let temp = tempfile::tempdir().unwrap();
        let folder = NewFolder::at(temp.path()).unwrap();
        open_and_close(temp.path());
        std::fs::write(temp.path().join("notes"), "mine").unwrap();
        folder.empty();
        let mut names: Vec<_> =
            read_dir(temp.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["lock", "notes"]);
    }

    #[test]
    fn a_folder_with_something_in_it_is_not_new() {
        let temp = tempfile::tempdir().unwrap();
        std::fs::write(temp.path().join("notes"), "mine").unwrap();
        assert!(NewFolder::at(temp.path()).is_none());
    }

    #[test]
    fn a_folder_that_another_process_has_by_now_is_left() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("a");
        let folder = NewFolder::at(&path).unwrap();
        let options = Options { data_path: path.clone(), ..Options::default() };
        let broker = Broker::open(options).unwrap();
        folder.empty();
        assert!(path.join("manifest").exists());
        broker.close().unwrap();
    }
}
