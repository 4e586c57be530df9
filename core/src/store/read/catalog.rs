//! The catalog: which file holds which offsets of which topic. In memory only, rebuilt at open from the
//! files' indexes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::TopicNo;
use crate::sync::Mutex;

use crate::error::{Error, Result};
use crate::message::Offset;
use crate::store::disk::File;
use crate::store::format::event::Event;
use crate::store::format::file::{FileHeader, FileKind, FileNo};
use crate::store::format::file_index::{Run, Table, TableEntry, TopicRuns};

/// The catalog. Its lock is innermost but for the log's: nothing is done under it but look and note.
#[derive(Default)]
pub(crate) struct Catalog {
    inner: Mutex<Inner>,
    /// Bytes of all files' frames.
    bytes: AtomicU64,
}

#[derive(Default)]
struct Inner {
    files: BTreeMap<FileNo, FileEntry>,
    /// Dense ranges of offsets by their first, of each topic. Ranges of a topic never overlap.
    topics: HashMap<TopicNo, BTreeMap<Offset, Span>>,
    /// Ranges known to be gone between messages of a topic.
    holes: HashMap<TopicNo, Vec<(Offset, Offset)>>,
}

#[derive(Clone, Copy)]
struct Span {
    last: Offset,
    file: FileNo,
}

struct FileEntry {
    file: Arc<dyn File>,
    header: FileHeader,
    /// Byte at which the frames end in the file.
    frames_end: u64,
    places: Places,
}

enum Places {
    /// The file is being written: all its runs.
    Open(BTreeMap<TopicNo, TopicRuns>),
    /// The file is sealed: its table.
    Sealed(Table),
}

/// Place from which to read a topic from some offset on.
pub(crate) struct Place {
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: FileHeader,
    /// The first offset that is there, the asked one or later.
    pub(crate) from: Offset,
    /// Offsets from this one on are in another file, or in none yet.
    pub(crate) until: Offset,
    pub(crate) runs: Runs,
}

/// The runs of a topic in a file.
pub(crate) enum Runs {
    /// Here they are, from the one that can hold the asked offset on.
    Known(Vec<Run>),
    /// In the file's index.
    Indexed(TableEntry),
}

/// The file that holds a message, by its number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) file: FileNo,
    /// The message's run; `None` if it is in the file's index.
    pub(crate) run: Option<Run>,
}

/// A file that holds messages of a topic.
pub(crate) struct SiteFile {
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: FileHeader,
    /// The topic's line of the table, without its spans, if the file is sealed.
    pub(crate) line: Option<TableEntry>,
}

/// A file and how far its frames go.
pub(crate) struct Stored {
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: FileHeader,
    pub(crate) frames_end: u64,
    pub(crate) is_sealed: bool,
}

/// Facts of a file that the cleaner plans by.
#[derive(Clone, Debug)]
pub(crate) struct FileFacts {
    pub(crate) no: FileNo,
    pub(crate) kind: FileKind,
    /// Bytes of its frames.
    pub(crate) bytes: u64,
    /// Position after its last frame; 0 for a clean file.
    pub(crate) end: LogPos,
    pub(crate) sealed: bool,
    pub(crate) topics: Vec<TopicPart>,
}

/// The part of a file that belongs to a topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicPart {
    pub(crate) topic: TopicNo,
    /// Bytes of the frames.
    pub(crate) bytes: u64,
    /// Dense ranges that are read from this file.
    pub(crate) spans: Vec<(Offset, Offset)>,
}

impl Catalog {
    /// Adds a file that is being written.
    pub(crate) fn open_file(&self, header: FileHeader, file: Arc<dyn File>) {
        let frames_end = header.at(header.base);
        let entry = FileEntry { file, header, frames_end, places: Places::Open(BTreeMap::new()) };
        self.inner.lock().files.insert(header.no, entry);
    }

    /// Adds a sealed file.
    pub(crate) fn sealed_file(&self, header: FileHeader, file: Arc<dyn File>, frames_end: u64, table: Table) {
        self.bytes.fetch_add(frames_end - header.at(header.base), Ordering::Relaxed);
        self.inner.lock().add_sealed(header, file, frames_end, table);
    }

    /// Notes frames just written at the end of file `no`: where each stands, its length, topic and offsets;
    /// and where the file's frames end now.
    pub(crate) fn wrote(
        &self,
        no: FileNo,
        frames_end: u64,
        frames: impl Iterator<Item = (u64, u64, TopicNo, Offset, Offset)>,
    ) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        let Some(entry) = inner.files.get_mut(&no) else { return };
        self.bytes.fetch_add(frames_end.saturating_sub(entry.frames_end), Ordering::Relaxed);
        entry.frames_end = frames_end;
        let Places::Open(runs) = &mut entry.places else { return };
        let mut spans = Vec::new();
        for (at, len, topic, first, last) in frames {
            runs.entry(topic).or_default().add(at, len, first, last);
            spans.push((topic, first, last));
        }
        for (topic, first, last) in spans {
            inner.note(topic, first, last, no);
        }
    }

    /// Notes what is known to be gone of `topic`, for good.
    pub(crate) fn set_holes(&self, topic: TopicNo, holes: Vec<(Offset, Offset)>) {
        self.inner.lock().holes.insert(topic, holes);
    }

    /// Events that a checkpoint must record of `topic` after its channels: messages nobody is to look for.
    pub(crate) fn holes(&self, topic: TopicNo) -> Vec<Event> {
        let inner = self.inner.lock();
        let holes = inner.holes.get(&topic).into_iter().flatten();
        holes.map(|&(first, last)| Event::Hole { topic, first, last }).collect()
    }

    /// The runs of an open file, to make its index of.
    pub(crate) fn open_runs(&self, no: FileNo) -> Option<(BTreeMap<TopicNo, TopicRuns>, u64)> {
        let inner = self.inner.lock();
        let entry = inner.files.get(&no)?;
        match &entry.places {
            Places::Open(runs) => Some((runs.clone(), entry.frames_end)),
            Places::Sealed(_) => None,
        }
    }

    /// Marks file `no` sealed: from here on its runs are read from its index.
    pub(crate) fn seal(&self, no: FileNo, table: Table) {
        if let Some(entry) = self.inner.lock().files.get_mut(&no) {
            entry.places = Places::Sealed(table);
        }
    }

    /// The catalog's entry of file `no`.
    pub(crate) fn stored(&self, no: FileNo) -> Option<Stored> {
        let inner = self.inner.lock();
        let FileEntry { file, header, frames_end, places } = inner.files.get(&no)?;
        let is_sealed = matches!(places, Places::Sealed(_));
        Some(Stored { file: file.clone(), header: *header, frames_end: *frames_end, is_sealed })
    }

    /// Whether there is a file `no`.
    pub(crate) fn has(&self, no: FileNo) -> bool {
        self.inner.lock().files.contains_key(&no)
    }

    /// The place of each of these messages of `topic`, `None` for one that stands in no file; and the files.
    pub(crate) fn sites(
        &self,
        topic: TopicNo,
        offsets: &[Offset],
    ) -> (Vec<Option<Site>>, HashMap<FileNo, SiteFile>) {
        let inner = self.inner.lock();
        let mut files = HashMap::new();
        let mut site = |offset: Offset| {
            let (_, span) = inner.topics.get(&topic)?.range(..=offset).next_back()?;
            if span.last < offset {
                return None;
            }
            let FileEntry { file, header, places, .. } = inner.files.get(&span.file)?;
            let (run, line) = match places {
                Places::Open(all) => {
                    let runs = &all.get(&topic)?.runs;
                    let run = runs.partition_point(|run| run.first <= offset).checked_sub(1)?;
                    (Some(runs[run]), None)
                }
                Places::Sealed(table) => (None, Some(table.get(&topic)?)),
            };
            files.entry(span.file).or_insert_with(|| SiteFile {
                file: file.clone(),
                header: *header,
                line: line.map(TableEntry::without_spans),
            });
            Some(Site { file: span.file, run })
        };
        let sites = offsets.iter().map(|offset| site(*offset)).collect();
        (sites, files)
    }

    /// File `no` was copied to one that differs in its number alone.
    pub(crate) fn renumber(&self, no: FileNo, header: FileHeader, file: Arc<dyn File>) {
        let mut inner = self.inner.lock();
        let Some(entry) = inner.files.remove(&no) else { return };
        for span in inner.topics.values_mut().flat_map(BTreeMap::values_mut).filter(|span| span.file == no) {
            span.file = header.no;
        }
        inner.files.insert(header.no, FileEntry { file, header, ..entry });
    }

    /// Puts `new` (sealed) in the place of `old` files, whose offsets that `new` lacks are gone.
    pub(crate) fn replace(&self, old: &[FileNo], new: Option<(FileHeader, Arc<dyn File>, u64, Table)>) {
        let mut inner = self.inner.lock();
        for no in old {
            self.bytes.fetch_sub(inner.drop_file(*no), Ordering::Relaxed);
        }
        if let Some((header, file, frames_end, table)) = new {
            self.bytes.fetch_add(frames_end - header.at(header.base), Ordering::Relaxed);
            inner.add_sealed(header, file, frames_end, table);
        }
    }

    /// The place of the first message of `topic` at or after `from`. `None` if there is none.
    pub(crate) fn place(&self, topic: TopicNo, from: Offset) -> Option<Place> {
        let inner = self.inner.lock();
        let spans = inner.topics.get(&topic)?;
        let before = spans.range(..=from).next_back().filter(|(_, span)| span.last >= from);
        let (first, span) = match before {
            Some((_, span)) => (from, *span),
            None => spans.range(from..).next().map(|(first, span)| (*first, *span))?,
        };
        let until = spans
            .range(first..)
            .find(|(start, other)| **start > first && other.file != span.file)
            .map_or(Offset(u64::MAX), |(start, _)| *start);
        let entry = inner.files.get(&span.file)?;
        let runs = match &entry.places {
            Places::Open(all) => {
                let runs = &all.get(&topic)?.runs;
                let start = runs.partition_point(|r| r.first <= first).saturating_sub(1);
                Runs::Known(runs[start..].iter().take(RUNS_AT_ONCE).copied().collect())
            }
            Places::Sealed(table) => Runs::Indexed(table.get(&topic)?.clone()),
        };
        Some(Place { file: entry.file.clone(), header: entry.header, from: first, until, runs })
    }

    /// The dense ranges of `topic` on disk, in order.
    pub(crate) fn spans(&self, topic: TopicNo) -> Vec<(Offset, Offset)> {
        let inner = self.inner.lock();
        inner.topics.get(&topic).into_iter().flatten().map(|(first, span)| (*first, span.last)).collect()
    }

    /// Facts of all files, by number.
    pub(crate) fn files(&self) -> Vec<FileFacts> {
        let inner = self.inner.lock();
        let mut by_file: HashMap<FileNo, BTreeMap<TopicNo, Vec<(Offset, Offset)>>> = HashMap::new();
        for (&topic, spans) in &inner.topics {
            for (&first, span) in spans {
                by_file.entry(span.file).or_default().entry(topic).or_default().push((first, span.last));
            }
        }
        let facts = inner.files.iter().map(|(&no, entry)| {
            let topics = by_file.remove(&no).unwrap_or_default();
            let bytes_of = |topic: TopicNo| match &entry.places {
                Places::Open(all) => all.get(&topic).map_or(0, |t| t.bytes),
                Places::Sealed(table) => table.get(&topic).map_or(0, |t| t.bytes),
            };
            let end = match entry.header.kind {
                FileKind::Log => entry.header.position(entry.frames_end),
                FileKind::Clean => LogPos(0),
            };
            FileFacts {
                no,
                kind: entry.header.kind,
                bytes: entry.frames_end - entry.header.at(entry.header.base),
                end,
                sealed: matches!(entry.places, Places::Sealed(_)),
                topics: topics
                    .into_iter()
                    .map(|(topic, spans)| TopicPart { topic, bytes: bytes_of(topic), spans })
                    .collect(),
            }
        });
        facts.collect()
    }

    /// Bytes of all files' frames.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Bytes of all files' frames, and how many files.
    pub(crate) fn totals(&self) -> (u64, usize) {
        (self.bytes(), self.inner.lock().files.len())
    }

    /// The dense ranges of each topic, in order: their first offsets, and the bytes of their frames.
    pub(crate) fn volumes(&self) -> HashMap<TopicNo, BTreeMap<Offset, u64>> {
        let mut volumes: HashMap<TopicNo, BTreeMap<Offset, u64>> = HashMap::new();
        for TopicPart { topic, bytes, spans } in self.files().into_iter().flat_map(|file| file.topics) {
            let count = |(first, last): &(Offset, Offset)| last.0 - first.0 + 1;
            let all: u64 = spans.iter().map(count).sum();
            for span in &spans {
                let share = u128::from(bytes) * u128::from(count(span)) / u128::from(all.max(1));
                volumes.entry(topic).or_default().insert(span.0, share as u64);
            }
        }
        volumes
    }
}

/// Runs of a file being written that one look hands out: more than a read takes.
const RUNS_AT_ONCE: usize = 64;

impl Inner {
    /// Notes that file `no` holds `first` to `last`. What another file holds already stays there: a run whose
    /// spill was cut short by an error is written again.
    fn note(&mut self, topic: TopicNo, first: Offset, last: Offset, no: FileNo) {
        let spans = self.topics.entry(topic).or_default();
        let is_free = spans.range(first..=last).next().is_none();
        if let Some((_, before)) = spans.range_mut(..=first).next_back()
            && is_free
            && before.last.plus(1) == first
            && before.file == no
        {
            before.last = last;
            return;
        }
        let mut from = first;
        while from <= last {
            let covered = spans.range(..=from).next_back().map(|(_, s)| s.last).filter(|l| *l >= from);
            if let Some(until) = covered {
                from = until.plus(1);
                continue;
            }
            let next = spans.range(from..).next().map_or(Offset(u64::MAX), |(start, _)| *start);
            let to = last.min(Offset(next.0 - 1));
            spans.insert(from, Span { last: to, file: no });
            from = to.plus(1);
        }
    }

    fn add_sealed(&mut self, header: FileHeader, file: Arc<dyn File>, frames_end: u64, table: Table) {
        for (&topic, line) in &table {
            for &(first, last) in &line.spans {
                self.note(topic, first, last, header.no);
            }
        }
        self.files.insert(header.no, FileEntry { file, header, frames_end, places: Places::Sealed(table) });
    }

    /// Forgets a file, and gives the bytes of its frames.
    fn drop_file(&mut self, no: FileNo) -> u64 {
        let Some(entry) = self.files.remove(&no) else { return 0 };
        let bytes = entry.frames_end - entry.header.at(entry.header.base);
        let topics: Vec<TopicNo> = match entry.places {
            Places::Open(runs) => runs.into_keys().collect(),
            Places::Sealed(table) => table.into_keys().collect(),
        };
        for topic in topics {
            if let Some(spans) = self.topics.get_mut(&topic) {
                spans.retain(|_, span| span.file != no);
                if spans.is_empty() {
                    self.topics.remove(&topic);
                }
            }
        }
        bytes
    }
}

impl Place {
    /// The runs that can hold `from` and later, reading them from the file's index where they are there.
    ///
    /// # Errors
    /// `Io`, `Damaged`.
    pub(crate) fn runs(&self, read: impl Fn(&mut [u8], u64) -> Result<()>) -> Result<Vec<Run>> {
        let mut runs = match &self.runs {
            Runs::Known(runs) => return Ok(runs.clone()),
            Runs::Indexed(line) => {
                let mut bytes = vec![0; line.runs_len()];
                read(&mut bytes, line.runs_at)?;
                line.decode_runs(&bytes).ok_or_else(|| {
                    Error::new(
                        crate::ErrorKind::Damaged,
                        format!("the index of log file {} is damaged", self.header.no),
                    )
                })?
            }
        };
        let start = runs.partition_point(|r| r.first <= self.from).saturating_sub(1);
        runs.drain(..start);
        Ok(runs)
    }
}
