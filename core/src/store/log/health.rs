//! Health of the log: the faults that keep it from its work. One line is logged when a fault begins and one
//! when it ends; publishers check it first.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::store::format::file::FileNo;

/// Something the log does again and again, and that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Writing frames.
    Write,
    /// Making them durable.
    Sync,
    /// Checkpoints, cleaning, new files.
    Maintain,
}

/// Faults at present.
#[derive(Default)]
pub(crate) struct Health {
    state: Mutex<State>,
    /// Whether anything is wrong, and whether publishes are refused for it: read without the lock.
    any: AtomicBool,
    refuses: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Failures of tasks when they were last tried.
    failed: Vec<(Task, ErrorKind, String)>,
    /// Whether the disk was full: publishes are refused until the reserve is back.
    is_full: bool,
    /// Whether the folder is not where it was opened.
    is_away: bool,
    /// Numbers of files whose contents on disk can't be known.
    suspects: BTreeSet<FileNo>,
}

impl Health {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let refuses = state.is_full || state.is_away || !state.suspects.is_empty();
        self.refuses.store(refuses, Ordering::Release);
        self.any.store(refuses || !state.failed.is_empty(), Ordering::Release);
    }

    /// Notes how a task ended. The log gets a line when that changes; on a full disk it has its line already,
    /// and a task that found a little room changes nothing.
    pub(crate) fn report<T>(&self, task: Task, result: &Result<T>) {
        if result.is_ok() && !self.any.load(Ordering::Acquire) {
            return;
        }
        self.change(|state| {
            let before = state.failed.iter().position(|(other, ..)| *other == task);
            match (result, before) {
                (Err(error), _) if state.is_full && error.kind() == ErrorKind::Full => {
                    tracing::debug!(?task, "the disk is full still: {error}");
                }
                (Ok(_), None) => {}
                (Ok(_), Some(at)) => {
                    state.failed.remove(at);
                    tracing::info!(?task, "the log works again");
                }
                (Err(error), Some(at)) if state.failed[at].1 == error.kind() => {
                    tracing::debug!(?task, "the log fails still: {error}");
                }
                (Err(error), before) => {
                    tracing::error!(?task, "the log fails, and is tried again until it works: {error}");
                    before.map(|at| state.failed.remove(at));
                    state.failed.push((task, error.kind(), error.to_string()));
                }
            }
        });
    }

    /// Records whether the disk is full.
    pub(super) fn set_full(&self, is_full: bool) {
        self.change(|state| match (state.is_full, is_full) {
            (false, true) => {
                state.is_full = true;
                tracing::error!("the disk is full: publishes are refused until there is room again");
            }
            (true, false) => {
                state.is_full = false;
                tracing::info!("the disk has room again: publishes are taken");
            }
            _ => {}
        });
    }

    /// Records whether the folder was moved away from its path.
    pub(super) fn set_away(&self, is_away: bool) {
        if self.state.lock().is_away != is_away {
            self.change(|state| state.is_away = is_away);
        }
    }

    /// Records that the file's contents on disk can't be known. The file is not written any more.
    pub(super) fn mark_suspect(&self, no: FileNo) {
        self.change(|state| _ = state.suspects.insert(no));
    }

    /// Records that the file was written anew.
    pub(super) fn clear_suspect(&self, no: FileNo) {
        self.change(|state| _ = state.suspects.remove(&no));
    }

    /// A suspect file, if there is one.
    pub(super) fn suspect(&self) -> Option<FileNo> {
        self.state.lock().suspects.first().copied()
    }

    /// Whether the file is suspect.
    pub(super) fn is_suspect(&self, no: FileNo) -> bool {
        self.is_failing() && self.state.lock().suspects.contains(&no)
    }

    /// Whether anything fails.
    pub(super) fn is_failing(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether the disk was full and the reserve is not back.
    pub(super) fn is_full(&self) -> bool {
        self.is_failing() && self.state.lock().is_full
    }

    /// Whether publishes are refused.
    pub(super) fn refuses(&self) -> bool {
        self.refuses.load(Ordering::Acquire)
    }

    /// Whether the log can be written and fsync'd.
    ///
    /// # Errors
    /// Why it can't.
    pub(super) fn check(&self) -> Result<()> {
        let state = self.state.lock();
        if state.is_away {
            return Err(away());
        }
        if state.is_full {
            return Err(Error::new(
                ErrorKind::Full,
                "the disk is full; publishes are taken again once there is room",
            ));
        }
        if let Some(no) = state.suspects.first() {
            let why = state.failed.iter().map(|(.., why)| why.as_str()).next().unwrap_or_default();
            return Err(Error::new(ErrorKind::Io, format!("log file {no} must be written anew: {why}")));
        }
        match state.failed.first() {
            Some((_, kind, why)) => Err(Error::new(*kind, why.clone())),
            None => Ok(()),
        }
    }
}

/// The error while the folder is not in its place.
pub(super) fn away() -> Error {
    let text = "the data folder was moved, removed, or covered by another; publishes are taken again once the same folder is back in its place";
    Error::new(ErrorKind::Io, text)
}
