//! From the files back to the state: what is served after a start, and what is damage.
//!
//! The log is walked from the checkpoint's position. `synced_to` of what is read shows which part was known
//! fsync'd: a bad frame below it is damage; at or above it, the log ends there, whatever follows.

#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::sync::Arc;
use std::thread;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{Disk, OpenMode};
use crate::store::format::checkpoint;
use crate::store::format::file::{FileHeader, FileKind, FileNo, log_name};
use crate::store::format::log_pos::LogPos;
use crate::store::format::manifest::{MANIFEST_NAME, Manifest};
use crate::store::format::numbers::TopicNo;
use crate::store::format::own::{self, Foreign, Name, RESERVE_NAME};
use crate::store::format::range_set::RangeSet;
use crate::store::log::Opened;
use crate::store::log::Writer;
use crate::store::log::reserve::remove_reserve;
use crate::store::log::rewrite::{create_doubt_file, has_doubt_file, remove_doubt_file};
use crate::store::open::holes;
use crate::store::open::replay::Replay;
use crate::store::open::scan::{LogFile, damaged_headers, held_nothing};
use crate::store::read::catalog::Catalog;
use crate::store::read::prefetch::EarlySyncError;

/// Bytes to be replayed from which on files are prefetched.
const AHEAD_BYTES_MIN: u64 = 4 << 20;

/// Bytes written at a time of what is not known fsync'd.
const REWRITE_BYTES: usize = 1 << 20;

/// Contents found in a data folder.
pub(crate) struct Recovered {
    pub(crate) replay: Replay,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) opened: Opened,
    /// Whether the last stop was clean.
    pub(crate) clean_stop: bool,
    pub(crate) damage: Damage,
}

/// Damage: its topics stop until `mq repair`.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// One line for each place.
    pub(crate) places: Vec<String>,
    /// Messages that are damaged or missing, where they are known.
    pub(crate) topics: BTreeMap<TopicNo, RangeSet>,
    /// Files that hold damaged bytes. They stay as they are: what is whole in them is for `mq repair`.
    files: BTreeSet<FileNo>,
    /// The topics of some damaged bytes are not known: all stop.
    pub(crate) all_topics: bool,
}

/// A log file on its way in, which has a header.
struct OpenedFile {
    header: FileHeader,
    log: LogFile,
    sync_error: EarlySyncError,
}

impl OpenedFile {
    /// Whether nothing of it is to be replayed. Below the checkpoint, at `from`, all was fsync'd, and so was
    /// the index of a file that was full by then. One that ends where the checkpoint was taken may have
    /// got its index later.
    fn is_below(&self, from: LogPos) -> bool {
        self.log.index.as_ref().is_some_and(|(footer, _)| self.header.position(footer.frames_end) < from)
    }
}

/// Opens the folder.
///
/// # Errors
/// `Damaged` if manifest or checkpoint are; `Version`; `Io`, `Full`.
pub(crate) fn recover(disk: &Arc<dyn Disk>) -> Result<Recovered> {
    recover_with(disk, AHEAD_BYTES_MIN)
}

fn recover_with(disk: &Arc<dyn Disk>, prefetch_bytes_min: u64) -> Result<Recovered> {
    let catalog = Arc::new(Catalog::default());
    warn_of_foreign(&**disk)?;
    refuse_foreign_manifest(&**disk)?;
    let Some(manifest) = Manifest::load(&**disk)? else {
        refuse_orphans(&**disk)?;
        remove_unnamed(&**disk, &Manifest::default())?;
        return fresh(disk, catalog);
    };
    remove_unnamed(&**disk, &manifest)?;
    // On a full disk, opening needs what it takes.
    remove_reserve(&**disk).map_err(|e| Error::io(format!("could not remove {RESERVE_NAME}"), e))?;
    let mut recovery = Recovery {
        disk: disk.clone(),
        catalog: catalog.clone(),
        replay: Replay::default(),
        damage: Damage::default(),
        from: LogPos(0),
        synced_to: LogPos(0),
        prefetch_bytes_min,
        is_suspect: has_doubt_file(&**disk).map_err(looking)?,
    };
    if let Some((no, position)) = manifest.checkpoint {
        checkpoint::load(&**disk, no)?.1.into_iter().for_each(|event| recovery.replay.apply(event));
        (recovery.from, recovery.synced_to) = (position, position);
    }
    let clean_stop = manifest.clean_stop;
    let opened = recovery.open_files(manifest)?;
    let Recovery { mut replay, mut damage, is_suspect, .. } = recovery;
    if is_suspect {
        remove_doubt_file(&**disk);
    }
    find_missing(&replay, &catalog, &mut damage);
    holes::keep_between_messages(&mut replay, &catalog);
    Ok(Recovered { replay, catalog, opened, clean_stop, damage })
}

/// A folder's first file and manifest.
fn fresh(disk: &Arc<dyn Disk>, catalog: Arc<Catalog>) -> Result<Recovered> {
    let mut manifest = Manifest { next_no: FileNo(1), ..Manifest::default() };
    let writer = first_file(&**disk, &mut manifest, LogPos(0))?;
    catalog.open_file(writer.header, writer.file.clone());
    Ok(Recovered {
        replay: Replay::default(),
        catalog,
        opened: Opened { manifest, writer, full: Vec::new(), end: LogPos(0) },
        clean_stop: true,
        damage: Damage::default(),
    })
}

fn looking(error: std::io::Error) -> Error {
    Error::io("could not look through the data folder", error)
}

/// Names files that are not the store's, once a start.
fn warn_of_foreign(disk: &dyn Disk) -> Result<()> {
    let foreign = Foreign::find(disk).map_err(looking)?;
    foreign.warnings().iter().for_each(|line| tracing::warn!("{line}"));
    Ok(())
}

/// Refuses a folder in which the manifest's name is taken. Among the store's files it is one that was
/// damaged.
fn refuse_foreign_manifest(disk: &dyn Disk) -> Result<()> {
    if own::is_manifest_foreign(disk).map_err(looking)? {
        return Err(Error::new(
            ErrorKind::InvalidArgument,
            format!(
                "the data folder has a file {MANIFEST_NAME:?} that is not libmq's; choose another folder, or move the file away"
            ),
        ));
    }
    Ok(())
}

/// Refuses a folder that lost its manifest: what is in its files must not be taken for left-overs. A first
/// start that was cut short has left no more than an empty file.
fn refuse_orphans(disk: &dyn Disk) -> Result<()> {
    match own::orphan(disk).map_err(looking)? {
        Some(name) => Err(Error::new(
            ErrorKind::Damaged,
            format!("the manifest is missing, but {name} is there; `mq repair` can rebuild it"),
        )),
        None => Ok(()),
    }
}

/// Creates and names a file for the log to go on in from `base`.
fn first_file(disk: &dyn Disk, manifest: &mut Manifest, base: LogPos) -> Result<Writer> {
    let (no, file) = own::create_numbered(disk, log_name, || {
        let no = manifest.next_no;
        manifest.next_no = no.next();
        no
    })?;
    manifest.files.push((no, FileKind::Log));
    manifest.store(disk)?;
    let header = FileHeader { kind: FileKind::Log, no, base, salt: fastrand::u64(..) };
    Ok(Writer::new(file, header, 0))
}

/// Removes the store's files that the manifest does not name.
fn remove_unnamed(disk: &dyn Disk, manifest: &Manifest) -> Result<()> {
    let named: BTreeSet<FileNo> = manifest.files.iter().map(|(no, _)| *no).collect();
    let is_unnamed = |name| match name {
        Name::Log(no) => !named.contains(&no),
        Name::Checkpoint(no) => manifest.checkpoint.is_none_or(|(named, _)| named != no),
        Name::ManifestNew => true,
        Name::Manifest | Name::Reserve | Name::Doubt => false,
    };
    for (name, _) in own::own(disk, is_unnamed).map_err(looking)? {
        disk.remove(&name).map_err(|e| Error::io(format!("could not remove {name}"), e))?;
    }
    Ok(())
}

struct Recovery {
    disk: Arc<dyn Disk>,
    catalog: Arc<Catalog>,
    replay: Replay,
    damage: Damage,
    /// Position below which state frames and ids are in the checkpoint.
    from: LogPos,
    /// Greatest position known fsync'd.
    synced_to: LogPos,
    prefetch_bytes_min: u64,
    /// Whether an fsync had failed, and what it was for was not written anew.
    is_suspect: bool,
}

impl Recovery {
    /// Opens all files of the manifest and replays the log. What follows the end of the log is dropped.
    fn open_files(&mut self, mut manifest: Manifest) -> Result<Opened> {
        let (mut written, mut unreadable, mut gone) = (Vec::new(), Vec::new(), Vec::new());
        for &(no, kind) in &manifest.files {
            let Some(log) = LogFile::open(&*self.disk, no, Some(kind), OpenMode::Write)? else {
                gone.push((no, kind));
                continue;
            };
            match (kind, log.header) {
                (FileKind::Clean, _) => self.clean_file(log)?,
                (FileKind::Log, None) => unreadable.push(log),
                (FileKind::Log, Some(header)) => {
                    if log.is_header_damaged {
                        self.damaged_header(no);
                    }
                    written.push(OpenedFile { header, log, sync_error: EarlySyncError::default() });
                }
            }
        }
        written.sort_by_key(|opened| opened.log.order());
        let readable: Vec<FileNo> = written.iter().map(|opened| opened.header.no).collect();
        let mut dropped = Vec::new();
        for (no, kind) in gone {
            if kind == FileKind::Log && held_nothing(no, &manifest, &readable) {
                tracing::warn!("{} was removed; it held nothing, and another is made", log_name(no));
                dropped.push(no);
            } else {
                self.damage.places.push(format!("{} is missing", log_name(no)));
                self.damage.all_topics = true;
            }
        }
        let (end, drop_from) = thread::scope(|scope| {
            let prefetched = self.prefetch(scope, &written);
            self.walk(&written, prefetched)
        })?;
        // The log was whole up to the checkpoint's position when that was named.
        let log_end = end.unwrap_or_default();
        if log_end < self.from {
            let place = format!("the log from position {log_end} to {} is missing", self.from);
            self.damage.places.push(place);
            self.damage.all_topics = true;
        }
        dropped.extend(written.drain(drop_from..).map(|opened| opened.header.no));
        let (order, readable): (Vec<FileNo>, Vec<FileNo>) = (
            manifest.files.iter().map(|(no, _)| *no).collect(),
            written.iter().map(|opened| opened.header.no).collect(),
        );
        let with_bytes: Vec<FileNo> = unreadable.iter().filter(|log| log.len > 0).map(|log| log.no).collect();
        let log_end = end.unwrap_or(self.from);
        let damaged = damaged_headers(&with_bytes, &readable, Some(&order), log_end, self.synced_to);
        for log in unreadable {
            if damaged.contains(&log.no) {
                self.damaged_header(log.no);
                continue;
            }
            // What a torn write left shows not whose it is: should the file outlive its name in the manifest,
            // it is removed at the next start.
            if log.len > 0 {
                let failed = |e| Error::io(format!("could not empty {}", log_name(log.no)), e);
                log.file.truncate(0).map_err(failed)?;
            }
            dropped.push(log.no);
        }
        self.finish(&mut manifest, written, dropped, end)
    }

    /// Puts manifest and disk in the state that was accepted, fsync'd, and opens the file to go on in.
    fn finish(
        &self,
        manifest: &mut Manifest,
        written: Vec<OpenedFile>,
        dropped: Vec<FileNo>,
        end: Option<LogPos>,
    ) -> Result<Opened> {
        let end = end.unwrap_or(self.from).max(self.from);
        manifest.clean_stop = false;
        manifest.files.retain(|(no, _)| !dropped.contains(no));
        let mut full = Vec::new();
        for opened @ OpenedFile { header, log, .. } in &written {
            if !opened.is_below(self.from) {
                self.make_durable(opened)?;
            }
            if self.catalog.open_runs(header.no).is_some() && !self.damage.files.contains(&header.no) {
                full.push((*header, log.file.clone()));
            }
        }
        // The last file is gone on in unless it has an index, is damaged, or is not where the log ends (the
        // rest of it was lost).
        let sound_last = written.last().filter(|opened| !self.damage.files.contains(&opened.header.no));
        let unsealed = sound_last.filter(|opened| opened.log.index.is_none());
        let last = unsealed.and_then(|OpenedFile { header, log, .. }| {
            let (_, frames_end) = self.catalog.open_runs(header.no)?;
            (header.position(frames_end) == end).then(|| Writer::new(log.file.clone(), *header, frames_end))
        });
        let writer = match last {
            Some(writer) => {
                full.pop();
                manifest.store(&*self.disk)?;
                writer
            }
            None => {
                let writer = first_file(&*self.disk, manifest, end)?;
                self.catalog.open_file(writer.header, writer.file.clone());
                writer
            }
        };
        for no in dropped {
            let name = log_name(no);
            match self.disk.remove(&name) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                    return Err(Error::io(format!("could not remove {name}"), e));
                }
                _ => {}
            }
        }
        Ok(Opened { manifest: manifest.clone(), writer, full, end })
    }

    /// Makes what was accepted of a file durable. Where an fsync had failed, what is not known fsync'd is
    /// written again first: the system calls its pages clean that never reached the medium.
    fn make_durable(&self, OpenedFile { header, log, sync_error }: &OpenedFile) -> Result<()> {
        let file = &log.file;
        let rewrite = || {
            if !self.is_suspect {
                return Ok(());
            }
            let end = self.catalog.stored(header.no).map_or(0, |stored| stored.frames_end);
            let mut at = if self.synced_to > header.base { header.at(self.synced_to) } else { 0 };
            let mut buffer = vec![0; REWRITE_BYTES.min(end.saturating_sub(at) as usize)];
            while at < end {
                let wanted = buffer.len().min((end - at) as usize);
                let got = file.read_at(&mut buffer[..wanted], at)?;
                if got == 0 {
                    break;
                }
                file.write_at(&mut [IoSlice::new(&buffer[..got])], at)?;
                at += got as u64;
            }
            Ok(())
        };
        rewrite()
            .and_then(|()| {
                sync_error
                    .lock()
                    .take()
                    .map_or_else(|| file.sync(), Err)
                    .inspect_err(|_| create_doubt_file(&*self.disk))
            })
            .map_err(|e| Error::io(format!("could not fsync {}", log_name(header.no)), e))
    }
}

/// Finds messages that must be there and are not.
fn find_missing(replay: &Replay, catalog: &Catalog, damage: &mut Damage) {
    for (&number, topic) in &replay.topics {
        for (first, last) in holes::missing(replay, number, &catalog.spans(number)) {
            damage.topics.entry(number).or_default().insert(first, last);
            damage.places.push(format!(
                "messages {:#x} to {:#x} of topic {} stand in no file",
                first.0, last.0, topic.name
            ));
        }
    }
}
