//! Faults that keep the log from its work: logged once when one begins and once when it ends, and asked by
//! whoever publishes.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sync::Mutex;

use crate::error::{Error, ErrorKind, Result};
use crate::store::log::Log;
use crate::store::log::names::away;

/// Something the log does again and again, and that can fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Task {
    /// Writing frames.
    Write,
    /// Making them durable.
    Sync,
    /// Checkpoints, cleaning, new files.
    Housekeep,
}

/// Faults at present.
#[derive(Default)]
pub(crate) struct Trouble {
    state: Mutex<State>,
    /// Whether anything is wrong, and whether publishes are refused for it: read without the lock.
    any: AtomicBool,
    refuses: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Failures of tasks when they were last tried.
    failed: Vec<(Task, ErrorKind, String)>,
    /// The disk was full: publishes are refused until the reserve is back.
    is_full: bool,
    /// The folder is not where it was opened.
    is_away: bool,
    /// Numbers of files whose contents on disk can't be known.
    doubtful: BTreeSet<u64>,
}

impl Trouble {
    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let refuses = state.is_full || state.is_away || !state.doubtful.is_empty();
        self.refuses.store(refuses, Ordering::Release);
        self.any.store(refuses || !state.failed.is_empty(), Ordering::Release);
    }

    /// Notes how a task ended. The log gets a line when that changes.
    pub(crate) fn report<T>(&self, task: Task, result: &Result<T>) {
        if result.is_ok() && !self.any.load(Ordering::Acquire) {
            return;
        }
        self.change(|state| {
            let before = state.failed.iter().position(|(other, ..)| *other == task);
            match (result, before) {
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

    /// The disk is full, or no longer so.
    pub(super) fn set_full(&self, is_full: bool) {
        self.change(|state| state.is_full = is_full);
    }

    /// The folder was moved away from its path, or is back.
    pub(super) fn set_away(&self, is_away: bool) {
        if self.state.lock().is_away != is_away {
            self.change(|state| state.is_away = is_away);
        }
    }

    /// The file's contents on disk can't be known. It is not written any more.
    pub(super) fn doubt(&self, no: u64) {
        self.change(|state| _ = state.doubtful.insert(no));
    }

    /// The file was written anew.
    pub(super) fn trust(&self, no: u64) {
        self.change(|state| _ = state.doubtful.remove(&no));
    }

    /// A file in doubt, if there is one.
    pub(super) fn doubtful(&self) -> Option<u64> {
        self.state.lock().doubtful.first().copied()
    }
}

impl Log {
    /// Notes how a task ended that is not the log's own.
    pub(crate) fn report<T>(&self, task: Task, result: &Result<T>) {
        self.trouble.report(task, result);
    }

    /// Whether the file is in doubt.
    pub(super) fn doubts(&self, no: u64) -> bool {
        self.is_troubled() && self.trouble.state.lock().doubtful.contains(&no)
    }

    /// Whether anything fails.
    pub(crate) fn is_troubled(&self) -> bool {
        self.trouble.any.load(Ordering::Acquire)
    }

    /// Whether the disk was full and the reserve is not back.
    pub(crate) fn is_full(&self) -> bool {
        self.is_troubled() && self.trouble.state.lock().is_full
    }

    /// Refuses what could not be acknowledged.
    ///
    /// # Errors
    /// `Full` while the disk is full, `Io` while a file is in doubt or the folder is not in its place.
    pub(crate) fn check(&self) -> Result<()> {
        if self.trouble.refuses.load(Ordering::Acquire) { self.health() } else { Ok(()) }
    }

    /// Whether the log can be written and fsync'd.
    ///
    /// # Errors
    /// Why it can't.
    pub(crate) fn health(&self) -> Result<()> {
        let state = self.trouble.state.lock();
        if state.is_away {
            return Err(away());
        }
        if state.is_full {
            return Err(Error::new(
                ErrorKind::Full,
                "the disk is full; publishes are taken again once there is room",
            ));
        }
        if let Some(no) = state.doubtful.first() {
            let why = state.failed.iter().map(|(.., why)| why.as_str()).next().unwrap_or_default();
            return Err(Error::new(ErrorKind::Io, format!("log file {no} must be written anew: {why}")));
        }
        match state.failed.first() {
            Some((_, kind, why)) => Err(Error::new(*kind, why.clone())),
            None => Ok(()),
        }
    }
}
