//! Opens all files of a data folder that count, to read them; a broker may run on it. Where the manifest is
//! lost, they are all that there are.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{Disk, File, OpenMode};
use crate::store::format::checkpoint;
use crate::store::format::event::Event;
use crate::store::format::file::{FileHeader, FileKind, FileNo, checkpoint_name, log_name};
use crate::store::format::file_index::{self, TopicRuns};
use crate::store::format::frame::Header;
use crate::store::format::log_pos::LogPos;
use crate::store::format::manifest::Manifest;
use crate::store::format::numbers::TopicNo;
use crate::store::format::own::{self, Name};
use crate::store::open::scan::{LogFile, Part, held_nothing};
use crate::store::read::prefetch::Frames;
use crate::store::repair::damage::{Damage, What};
use crate::store::repair::salvage::Sound;

/// A checkpoint: its number, its position and its entries.
type Checkpoint = (FileNo, LogPos, Vec<Event>);

/// A log file by its number; `None` for a kind that nothing names.
type NamedFile = (FileNo, Option<FileKind>);

/// A folder's files, all open: what a running broker removes meanwhile stays readable.
pub(crate) struct Opened {
    pub(crate) manifest: Option<Manifest>,
    pub(crate) damage: Vec<Damage>,
    pub(crate) checkpoint: Option<Checkpoint>,
    pub(crate) files: Vec<Surveyed>,
    /// Whether a piece of the log is not there.
    pub(crate) is_log_gone: bool,
}

/// A log file that holds something.
pub(crate) struct Surveyed {
    pub(crate) no: FileNo,
    pub(crate) kind: FileKind,
    /// `None` if there is nothing to read the frames by.
    pub(crate) header: Option<FileHeader>,
    pub(crate) file: Arc<dyn File>,
    pub(crate) len: u64,
    /// Byte up to which frames are looked for.
    pub(crate) until: u64,
    /// Whether it has an index that is whole.
    has_index: bool,
    /// Whether its header is known by frames only, or not at all.
    pub(crate) is_header_damaged: bool,
    /// Whether every byte is as it was written, and nothing else stands there.
    pub(crate) is_sound: bool,
    pub(crate) is_sealed: bool,
    pub(crate) topics: BTreeMap<TopicNo, TopicRuns>,
    /// Sound parts of damaged frames: the place of each, its header, its rows.
    pub(crate) salvaged: BTreeMap<u64, (Header, Vec<Sound>)>,
}

/// Most times that reading starts over because a file of the manifest is gone.
const TRIES: usize = 20;

/// Opens all that counts, newest first, so that what an older file lacks was not yet known when a newer one
/// was opened. Starts over where the manifest has changed since it was read.
pub(crate) fn open(disk: &dyn Disk) -> Result<Opened> {
    let looking = |e| Error::io("could not look through the data folder", e);
    if own::is_manifest_foreign(disk).map_err(looking)? {
        let text = "the folder is no data folder of libmq: the file \"manifest\" in it is something else";
        return Err(Error::new(ErrorKind::NotFound, text));
    }
    let mut last = None;
    for _ in 0..TRIES {
        let mut damage = Vec::new();
        let manifest = match Manifest::load(disk) {
            Ok(manifest) => manifest,
            Err(e) if e.kind() == ErrorKind::Damaged => {
                damage.push(Damage { file: Some("manifest".into()), at: None, what: What::Manifest });
                None
            }
            Err(e) => return Err(e),
        };
        let is_damaged = !damage.is_empty();
        let (opened, is_whole) = open_named(disk, manifest, damage)?;
        let again = (opened.manifest.clone(), is_damaged);
        // A running broker replaces the manifest before it removes what the old one named.
        if is_whole || last.as_ref() == Some(&again) {
            return Ok(opened);
        }
        last = Some(again);
    }
    Err(Error::new(
        ErrorKind::Io,
        format!(
            "the files changed {TRIES} times while they were opened; try again when the broker is less busy"
        ),
    ))
}

/// Opens what the manifest names, or all there is. Also returns whether all of it was there.
fn open_named(
    disk: &dyn Disk,
    manifest: Option<Manifest>,
    mut damage: Vec<Damage>,
) -> Result<(Opened, bool)> {
    let mut is_whole = damage.is_empty();
    let (named, checkpoints): (Vec<NamedFile>, Vec<FileNo>) = match &manifest {
        Some(manifest) => {
            let logs = manifest.files.iter().map(|(no, kind)| (*no, Some(*kind)));
            (logs.collect(), manifest.checkpoint.iter().map(|(no, _)| *no).collect())
        }
        None => found(disk)?,
    };
    let checkpoint = newest(disk, checkpoints, &mut damage, &mut is_whole)?;
    let (mut files, mut gone): (Vec<Surveyed>, _) = (Vec::new(), Vec::new());
    let mut numbers = named;
    numbers.sort_unstable_by_key(|(no, _)| std::cmp::Reverse(*no));
    for (no, kind) in numbers {
        match open_file(disk, no, kind)? {
            Some(file) => files.extend(file),
            None => gone.push((no, kind)),
        }
    }
    is_whole &= gone.is_empty();
    let readable = files.iter().filter(|file| file.kind == FileKind::Log && file.header.is_some());
    let readable: Vec<FileNo> = readable.map(|file| file.no).collect();
    gone.retain(|(no, kind)| {
        let is_log = *kind == Some(FileKind::Log);
        // A log that came as far as its checkpoint stood in some file.
        let may_be_empty = manifest.as_ref().and_then(|m| m.checkpoint).is_none_or(|(_, at)| at == LogPos(0));
        let may_hold_nothing = is_log && (may_be_empty || !readable.is_empty());
        !(may_hold_nothing
            && manifest.as_ref().is_some_and(|manifest| held_nothing(*no, manifest, &readable)))
    });
    let is_log_gone = gone.iter().any(|(_, kind)| *kind == Some(FileKind::Log));
    let lost = |(no, _)| Damage { file: Some(log_name(no)), at: None, what: What::Gone };
    damage.extend(gone.into_iter().map(lost));
    if manifest.is_none() && damage.is_empty() && (!files.is_empty() || checkpoint.is_some()) {
        damage.push(Damage { file: Some("manifest".into()), at: None, what: What::Gone });
        is_whole = false;
    }
    files.sort_by_key(|f: &Surveyed| (f.kind as u32, f.header.map_or(LogPos::MAX, |h| h.base), f.no));
    Ok((Opened { manifest, damage, checkpoint, files, is_log_gone }, is_whole))
}

/// Log files and checkpoints of the folder, for want of a manifest. The kinds of files are not known.
fn found(disk: &dyn Disk) -> Result<(Vec<NamedFile>, Vec<FileNo>)> {
    let is_numbered = |name| matches!(name, Name::Log(_) | Name::Checkpoint(_));
    let found =
        own::own(disk, is_numbered).map_err(|e| Error::io("could not look through the data folder", e))?;
    let (mut logs, mut checkpoints) = (Vec::new(), Vec::new());
    for (name, _) in found {
        match Name::parse(&name) {
            Some(Name::Log(no)) => logs.push((no, None)),
            Some(Name::Checkpoint(no)) => checkpoints.push(no),
            _ => {}
        }
    }
    Ok((logs, checkpoints))
}

/// The newest checkpoint that is whole. Notes the others that are not, and in `is_whole` whether all are
/// there.
fn newest(
    disk: &dyn Disk,
    mut numbers: Vec<FileNo>,
    damage: &mut Vec<Damage>,
    is_whole: &mut bool,
) -> Result<Option<Checkpoint>> {
    numbers.sort_unstable();
    let mut newest = None;
    for no in numbers.into_iter().rev() {
        match checkpoint::load(disk, no) {
            Ok((position, events)) if newest.is_none() => newest = Some((no, position, events)),
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::Version => return Err(e),
            Err(e) if e.kind() == ErrorKind::Damaged || is_gone(&e) => {
                *is_whole &= !is_gone(&e);
                let what = if is_gone(&e) { What::Gone } else { What::Checkpoint };
                damage.push(Damage { file: Some(checkpoint_name(no)), at: None, what });
            }
            Err(e) => return Err(e),
        }
    }
    Ok(newest)
}

fn is_gone(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<std::io::Error>())
        .is_some_and(|e| e.kind() == std::io::ErrorKind::NotFound)
}

/// Opens a log file. `None` if it is not there, `Some(None)` if nothing was written to it.
fn open_file(disk: &dyn Disk, no: FileNo, kind: Option<FileKind>) -> Result<Option<Option<Surveyed>>> {
    let Some(log) = LogFile::open(disk, no, kind, OpenMode::Read)? else { return Ok(None) };
    if log.header.is_none() && log.len == 0 && kind != Some(FileKind::Clean) {
        return Ok(Some(None));
    }
    let (topics, salvaged) = (BTreeMap::new(), BTreeMap::new());
    let (until, has_index) = (log.frames_end(), log.index.is_some());
    let LogFile { kind, header, is_header_damaged, file, len, .. } = log;
    let is_sealed = has_index || kind == FileKind::Clean;
    let is_sound = !is_header_damaged;
    Ok(Some(Some(Surveyed {
        no,
        kind,
        header,
        file,
        len,
        until,
        has_index,
        is_header_damaged,
        is_sound,
        is_sealed,
        topics,
        salvaged,
    })))
}

impl Surveyed {
    /// The file to be scanned. `None` without a header.
    pub(crate) fn part(&self) -> Option<Part> {
        let Self { file, until, has_index, .. } = self;
        let header = self.header?;
        Some(Part {
            header,
            file: file.clone(),
            until: *until,
            has_index: *has_index,
            prefetched: Frames::default(),
        })
    }

    /// Whether a file ends with the index of what it holds, byte for byte.
    pub(crate) fn has_index(&self) -> Result<bool> {
        let (expected, _) = file_index::encode(&self.topics, self.until);
        let mut found = vec![0; expected.len()];
        let got = self
            .file
            .read_at(&mut found, self.until)
            .map_err(|e| Error::io(format!("could not read {}", log_name(self.no)), e))?;
        Ok(got == found.len() && found == expected && self.until + got as u64 == self.len)
    }
}
