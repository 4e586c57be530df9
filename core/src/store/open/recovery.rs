//! From the files back to the state: what is served after a start, and what is damage.
//!
//! The log is walked from the checkpoint's position. `synced_to` of what is read tells which part was known fsync'd:
//! a bad frame below it is damage; at or above it, the log ends there, whatever follows.

#[cfg(test)]
mod tests;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::io::IoSlice;
use std::sync::Arc;
use std::thread;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{Disk, File, OpenMode};
use crate::store::format::checkpoint;
use crate::store::format::file::{
    BadHeader, FILE_HEADER_BYTES, FileHeader, FileKind, checkpoint_name, log_name,
};
use crate::store::format::file_index::{Footer, Table, read_index};
use crate::store::format::manifest::Manifest;
use crate::store::format::range_set::RangeSet;
use crate::store::log::Opened;
use crate::store::log::healing::{DOUBT_NAME, tell_doubt};
use crate::store::log::reserve::{RESERVE_NAME, remove_reserve};
use crate::store::log::writer::{self, Writer};
use crate::store::open::missing;
use crate::store::open::replay::Replay;
use crate::store::read::ahead::Lost;
use crate::store::read::catalog::Catalog;

/// Bytes to be replayed from which on files are read ahead.
const AHEAD_BYTES_MIN: u64 = 4 << 20;

/// Bytes written at a time of what is not known fsync'd.
const REWRITE_BYTES: usize = 1 << 20;

/// What was found in a data folder.
pub(crate) struct Recovered {
    pub(crate) replay: Replay,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) opened: Opened,
    /// Whether the last stop was clean.
    pub(crate) clean_stop: bool,
    pub(crate) damage: Damage,
}

/// What is damaged: those topics stop until `mq repair`.
#[derive(Debug, Default)]
pub(crate) struct Damage {
    /// One line for each place.
    pub(crate) places: Vec<String>,
    /// Which messages are damaged or missing, where that can be told.
    pub(crate) topics: BTreeMap<u32, RangeSet>,
    /// Files that hold damaged bytes. They stay as they are: what is whole in them is for `mq repair`.
    files: BTreeSet<u64>,
    /// The topics of some damaged bytes can't be told: all stop.
    pub(crate) all_topics: bool,
}

/// A log file on its way in.
struct LogFile {
    no: u64,
    file: Arc<dyn File>,
    /// `None` if nothing readable was written to it.
    header: Option<FileHeader>,
    len: u64,
    index: Option<(Footer, Table)>,
    lost: Lost,
}

impl LogFile {
    /// Whether nothing of it is to be replayed. Below the checkpoint, at `from`, all was fsync'd, and so was the index of a
    /// file that was full by then. One that ends where the checkpoint was taken may have got its index later.
    fn is_below(&self, header: &FileHeader, from: u64) -> bool {
        self.index.as_ref().is_some_and(|(footer, _)| header.position(footer.frames_end) < from)
    }

    /// Where the frames end, as far as the file itself tells.
    fn frames_end(&self) -> u64 {
        self.index.as_ref().map_or(self.len, |(footer, _)| footer.frames_end)
    }
}

/// Opens the folder.
///
/// # Errors
/// `Damaged` if manifest or checkpoint are; `Version`; `Io`, `Full`.
pub(crate) fn recover(disk: &Arc<dyn Disk>) -> Result<Recovered> {
    recover_with(disk, AHEAD_BYTES_MIN)
}

fn recover_with(disk: &Arc<dyn Disk>, ahead_bytes_min: u64) -> Result<Recovered> {
    let catalog = Arc::new(Catalog::default());
    let Some(manifest) = Manifest::load(&**disk)? else {
        refuse_orphans(&**disk)?;
        return fresh(disk, catalog);
    };
    remove_unnamed(&**disk, &manifest)?;
    // On a full disk, opening needs what it takes.
    remove_reserve(&**disk).map_err(|e| Error::io(format!("could not remove {RESERVE_NAME}"), e))?;
    let listing = |e| Error::io("could not list the data folder", e);
    let mut recovery = Recovery {
        disk: disk.clone(),
        catalog: catalog.clone(),
        replay: Replay::default(),
        damage: Damage::default(),
        from: 0,
        synced_to: 0,
        ahead_bytes_min,
        in_doubt: disk.list().map_err(listing)?.iter().any(|name| name == DOUBT_NAME),
    };
    if let Some((no, position)) = manifest.checkpoint {
        checkpoint::load(&**disk, no)?.1.into_iter().for_each(|event| recovery.replay.apply(event));
        (recovery.from, recovery.synced_to) = (position, position);
    }
    let clean_stop = manifest.clean_stop;
    let opened = recovery.open_files(manifest)?;
    let Recovery { mut replay, mut damage, in_doubt, .. } = recovery;
    if in_doubt {
        // Should it stay, the next start does a little more than it must.
        let _ = disk.remove(DOUBT_NAME);
    }
    find_missing(&replay, &catalog, &mut damage);
    missing::settle_holes(&mut replay, &catalog);
    Ok(Recovered { replay, catalog, opened, clean_stop, damage })
}

/// A folder's first file and manifest.
fn fresh(disk: &Arc<dyn Disk>, catalog: Arc<Catalog>) -> Result<Recovered> {
    let mut manifest = Manifest { next_no: 1, ..Manifest::default() };
    let writer = first_file(&**disk, &mut manifest, 0)?;
    catalog.open_file(writer.header, writer.file.clone());
    Ok(Recovered {
        replay: Replay::default(),
        catalog,
        opened: Opened { manifest, writer, full: Vec::new(), end: 0 },
        clean_stop: true,
        damage: Damage::default(),
    })
}

/// Refuses a folder that lost its manifest: what is in its files must not be taken for left-overs. A first start that was
/// cut short has left no more than an empty file.
fn refuse_orphans(disk: &dyn Disk) -> Result<()> {
    let failed = |e| Error::io("could not look through the data folder", e);
    for name in disk.list().map_err(failed)? {
        let is_log = name.ends_with(".log");
        if name.ends_with(".checkpoint")
            || (is_log && disk.open(&name, OpenMode::Read).and_then(|file| file.len()).map_err(failed)? > 0)
        {
            return Err(Error::new(
                ErrorKind::Damaged,
                format!("the manifest is missing, but {name} is there; `mq repair` can rebuild it"),
            ));
        }
    }
    Ok(())
}

/// Creates and names a file for the log to go on in from `base`.
fn first_file(disk: &dyn Disk, manifest: &mut Manifest, base: u64) -> Result<Writer> {
    let no = manifest.next_no;
    let file = writer::create_file(disk, no)?;
    manifest.next_no += 1;
    manifest.files.push((no, FileKind::Log));
    manifest.store(disk)?;
    let header = FileHeader { kind: FileKind::Log, no, base, salt: fastrand::u64(..) };
    Ok(Writer::new(file, header, 0))
}

/// Deletes our files that the manifest does not name; what is not ours stays.
fn remove_unnamed(disk: &dyn Disk, manifest: &Manifest) -> Result<()> {
    let mut named: BTreeSet<String> = manifest.files.iter().map(|(no, _)| log_name(*no)).collect();
    named.extend(manifest.checkpoint.map(|(no, _)| checkpoint_name(no)));
    let names = disk.list().map_err(|e| Error::io("could not list the data folder", e))?;
    for name in names {
        let ours = name.ends_with(".log") || name.ends_with(".checkpoint") || name == "manifest.new";
        if ours && !named.contains(&name) {
            disk.remove(&name).map_err(|e| Error::io(format!("could not remove {name}"), e))?;
        }
    }
    Ok(())
}

struct Recovery {
    disk: Arc<dyn Disk>,
    catalog: Arc<Catalog>,
    replay: Replay,
    damage: Damage,
    /// What state frames and ids below this position tell is in the checkpoint.
    from: u64,
    /// Greatest position known fsync'd.
    synced_to: u64,
    ahead_bytes_min: u64,
    /// Whether an fsync had failed, and what it was for was not written anew.
    in_doubt: bool,
}

impl Recovery {
    /// Opens all files of the manifest and replays the log. What follows the end of the log is dropped.
    fn open_files(&mut self, mut manifest: Manifest) -> Result<Opened> {
        let mut logs = Vec::new();
        for &(no, kind) in &manifest.files {
            let Some(file) = self.open_file(no)? else { continue };
            match kind {
                FileKind::Log => logs.push(file),
                FileKind::Clean => self.clean_file(file)?,
            }
        }
        let spares: Vec<(u64, u64)> =
            logs.iter().filter(|f| f.header.is_none()).map(|f| (f.no, f.len)).collect();
        let mut written: Vec<(FileHeader, LogFile)> =
            logs.into_iter().filter_map(|f| f.header.map(|h| (h, f))).collect();
        written.sort_by_key(|(header, _)| header.base);
        let (end, drop_from) = thread::scope(|scope| {
            let ahead = self.read_ahead(scope, &written);
            self.walk(&written, ahead)
        })?;
        // The log was whole up to the checkpoint's position when that was named.
        let log_end = end.unwrap_or(0);
        if log_end < self.from {
            let place = format!("the log from position {log_end} to {} is missing", self.from);
            self.damage.places.push(place);
            self.damage.all_topics = true;
        }
        let mut dropped: Vec<u64> = written.drain(drop_from..).map(|(_, f)| f.no).collect();
        // The manifest has them in the order of their positions; a file written anew has a higher number in an old place.
        let place = |no: u64| manifest.files.iter().position(|(other, _)| *other == no);
        let newest = written.iter().map(|(header, _)| place(header.no)).max().flatten();
        for (no, len) in spares {
            // Without a header a file is one whose first write was cut short, if it was to be the last.
            if len > 0 && (place(no) < newest || end.unwrap_or(self.from) < self.synced_to) {
                self.damage.places.push(format!("{} has no readable header", log_name(no)));
                self.damage.files.insert(no);
                self.damage.all_topics = true;
            } else {
                dropped.push(no);
            }
        }
        self.finish(&mut manifest, written, dropped, end)
    }

    /// Puts manifest and disk in the state that was accepted, fsync'd, and opens the file to go on in.
    fn finish(
        &self,
        manifest: &mut Manifest,
        written: Vec<(FileHeader, LogFile)>,
        dropped: Vec<u64>,
        end: Option<u64>,
    ) -> Result<Opened> {
        let end = end.unwrap_or(self.from).max(self.from);
        manifest.clean_stop = false;
        manifest.files.retain(|(no, _)| !dropped.contains(no));
        let mut full = Vec::new();
        for (header, file) in &written {
            if !file.is_below(header, self.from) {
                self.make_durable(header, file)?;
            }
            if self.catalog.open_runs(header.no).is_some() && !self.damage.files.contains(&header.no) {
                full.push((*header, file.file.clone()));
            }
        }
        // The last file is gone on in unless it has an index, is damaged, or is not where the log ends (the rest of it was
        // lost).
        let sound_last = written.last().filter(|(header, _)| !self.damage.files.contains(&header.no));
        let last = sound_last.filter(|(_, file)| file.index.is_none()).and_then(|(header, file)| {
            let (_, frames_end) = self.catalog.open_runs(header.no)?;
            (header.position(frames_end) == end).then(|| Writer::new(file.file.clone(), *header, frames_end))
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
            self.disk.remove(&name).map_err(|e| Error::io(format!("could not remove {name}"), e))?;
        }
        Ok(Opened { manifest: manifest.clone(), writer, full, end })
    }

    /// Makes what was accepted of a file durable. Where an fsync had failed, what is not known fsync'd is written again
    /// first: the system calls its pages clean that never reached the medium.
    fn make_durable(&self, header: &FileHeader, file: &LogFile) -> Result<()> {
        let LogFile { file, lost, .. } = file;
        let rewrite = || {
            if !self.in_doubt {
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
                lost.lock().take().map_or_else(|| file.sync(), Err).inspect_err(|_| tell_doubt(&*self.disk))
            })
            .map_err(|e| Error::io(format!("could not fsync {}", log_name(header.no)), e))
    }

    /// Opens a file the manifest names. `None`, and damage, if it is not there.
    fn open_file(&mut self, no: u64) -> Result<Option<LogFile>> {
        let name = log_name(no);
        let failed = |e| Error::io(format!("could not open {name}"), e);
        let file = match self.disk.open(&name, OpenMode::Write) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                self.damage.places.push(format!("{name} is missing"));
                self.damage.all_topics = true;
                return Ok(None);
            }
            Err(e) => return Err(failed(e)),
        };
        let len = file.len().map_err(failed)?;
        let mut head = [0; FILE_HEADER_BYTES as usize];
        let got = file.read_at(&mut head, 0).map_err(failed)?;
        let header = match FileHeader::decode(&head[..got]) {
            Ok(header) if header.no == no => Some(header),
            Ok(_) | Err(BadHeader::Damaged) => None,
            Err(BadHeader::Version(version)) => {
                return Err(Error::new(
                    ErrorKind::Version,
                    format!(
                        "{name} has format {version}, this mq reads format {}",
                        crate::store::format::file::FORMAT_VERSION
                    ),
                ));
            }
        };
        let index = if header.is_some() { read_index(&file, len).map_err(failed)? } else { None };
        Ok(Some(LogFile { no, file, header, len, index, lost: Lost::default() }))
    }
}

/// Finds messages that must be there and are not.
fn find_missing(replay: &Replay, catalog: &Catalog, damage: &mut Damage) {
    for (&number, topic) in &replay.topics {
        for (first, last) in missing::missing(replay, number, &catalog.spans(number)) {
            damage.topics.entry(number).or_default().insert(first, last);
            damage.places.push(format!(
                "messages {:#x} to {:#x} of topic {} stand in no file",
                first.0, last.0, topic.name
            ));
        }
    }
}
