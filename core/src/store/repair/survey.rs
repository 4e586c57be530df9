//! Reads a whole data folder without changing it: every file, every checksum. What a report tells, and what a repair
//! starts from.
//!
//! The rules are those of [`recovery`](crate::store::open::recovery): a bad place below the greatest `synced_to` is damage, one
//! above it is where a crash cut the log. But nothing stops at the first bad place, and files that the checkpoint and the
//! indexes make needless at a start are read too.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::Result;
use crate::message::{Offset, SEQ_BITS};
use crate::store::disk::Disk;
use crate::store::format::event::Event;
use crate::store::format::file::{FILE_HEADER_BYTES, FileHeader, FileKind, log_name};
use crate::store::format::frame::{Header, Kind};
use crate::store::format::ids;
use crate::store::format::manifest::Manifest;
use crate::store::format::range_set::RangeSet;
use crate::store::open::missing;
use crate::store::open::replay::Replay;
use crate::store::read::reader::{Scanned, Scanner};
use crate::store::repair::damage::{Damage, Tail, What};
use crate::store::repair::folder::{self, Surveyed};
use crate::store::repair::salvage;

/// Told how many bytes of how many are read.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// What is in a data folder.
pub(crate) struct Survey {
    /// As it is on disk; `None` where it is missing or damaged.
    pub(crate) manifest: Option<Manifest>,
    /// Number and log position of the checkpoint, if it is whole.
    pub(crate) checkpoint: Option<(u64, u64)>,
    pub(crate) replay: Replay,
    /// Log files in the order of their positions, then clean files. Those nothing was written to are left out.
    pub(crate) files: Vec<Surveyed>,
    /// The messages of each topic that are whole.
    pub(crate) present: BTreeMap<u32, RangeSet>,
    /// Those that damaged frames held.
    pub(crate) lost: BTreeMap<u32, RangeSet>,
    pub(crate) damage: Vec<Damage>,
    /// Where a crash cut the log, if it did.
    pub(crate) tail: Option<Tail>,
    /// Position after the last frame.
    pub(crate) end: u64,
    /// Greatest position known fsync'd.
    pub(crate) synced_to: u64,
    /// Entries that the state lacks, as far as they can be counted.
    pub(crate) lost_entries: u64,
    /// Whether the state may lack anything.
    pub(crate) state_lost: bool,
    /// What was mentioned anywhere, so that none of it is used again.
    pub(crate) seen: Seen,
}

/// Numbers that frames and entries mention.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) topics: BTreeSet<u32>,
    pub(crate) topics_gone: BTreeSet<u32>,
    pub(crate) channels: BTreeSet<u32>,
    /// Those whose creation was read.
    pub(crate) channels_known: BTreeSet<u32>,
    /// Next numbers at the time of the checkpoint, if that is whole: what it lacks of those below was deleted.
    pub(crate) counted: Option<(u32, u32)>,
    /// Greatest block of any offset.
    pub(crate) block: u64,
}

/// A place that is not as it was written.
struct Bad {
    /// Which of the files.
    file: usize,
    at: u64,
    /// Where the next whole header stands, or the end.
    until: u64,
    frame: Option<Header>,
    /// Frames and messages read before.
    frames: u64,
    messages: u64,
}

impl Survey {
    /// Reads the folder. A running broker may change it meanwhile.
    ///
    /// # Errors
    /// `Version`; `Io`.
    pub(crate) fn read(disk: &dyn Disk, progress: Progress<'_>) -> Result<Self> {
        let opened = folder::open(disk)?;
        let mut survey = Self {
            manifest: opened.manifest,
            checkpoint: None,
            replay: Replay::default(),
            files: Vec::new(),
            present: BTreeMap::new(),
            lost: BTreeMap::new(),
            damage: opened.damage,
            tail: None,
            end: 0,
            synced_to: 0,
            lost_entries: 0,
            state_lost: false,
            seen: Seen::default(),
        };
        // A checkpoint is named only when all it speaks of is fsync'd.
        survey.synced_to =
            survey.manifest.as_ref().and_then(|m| m.checkpoint).map_or(0, |(_, position)| position);
        match opened.checkpoint {
            Some((no, position, events)) => {
                events.into_iter().for_each(|event| survey.apply(event));
                survey.checkpoint = Some((no, position));
                survey.synced_to = survey.synced_to.max(position);
                survey.seen.counted = Some((survey.replay.next_topic, survey.replay.next_channel));
            }
            None => {
                let has_none = survey.manifest.as_ref().is_some_and(|m| m.checkpoint.is_none());
                survey.state_lost = !has_none && !opened.files.is_empty();
                survey.seen.counted = has_none.then_some((0, 0));
            }
        }
        survey.state_lost |= opened.is_log_gone;
        survey.files = opened.files;
        survey.end = survey.synced_to;
        survey.read_files(progress)?;
        survey.find_missing();
        Ok(survey)
    }

    /// The log position from which state frames count.
    fn from(&self) -> u64 {
        self.checkpoint.map_or(0, |(_, position)| position)
    }

    /// The dense ranges of a topic's whole messages.
    pub(crate) fn spans(&self, topic: u32) -> Vec<(Offset, Offset)> {
        self.present.get(&topic).into_iter().flat_map(RangeSet::iter).collect()
    }

    fn apply(&mut self, event: Event) {
        self.seen.note(&event);
        self.replay.apply(event);
    }

    fn read_files(&mut self, progress: Progress<'_>) -> Result<()> {
        let mut files = std::mem::take(&mut self.files);
        let total = files.iter().map(|f| f.until).sum();
        let mut counts = Counts { done: 0, total, frames: 0, messages: 0, progress };
        let mut bad = Vec::new();
        let mut gaps = Vec::new();
        let (mut log_end, mut checked_end) = (None, None);
        let mut expected = self.checkpoint.map(|(_, position)| position);
        if expected.is_none() && !self.state_lost {
            expected = Some(0);
        }
        for i in 0..files.len() {
            let next_base = files.get(i + 1).filter(|f| f.kind == FileKind::Log).and_then(|f| f.header);
            let file = &mut files[i];
            let Some(header) = file.header else { continue };
            if file.kind == FileKind::Log
                && let Some(expected) = expected.filter(|e| header.base > self.from() && header.base > *e)
            {
                gaps.push((expected, header.base, counts.frames, counts.messages));
            }
            let end = self.read_file(i, file, next_base.map(|h| h.base), &mut counts, &mut bad)?;
            if file.kind == FileKind::Log {
                expected = Some(end);
                log_end = Some(end);
                if header.base <= self.from() {
                    checked_end = log_end;
                }
                self.end = self.end.max(end);
            }
        }
        // The log was whole up to the checkpoint's position when that was named.
        let (from, log_end) = (self.from(), log_end.unwrap_or(0));
        let checked_end = checked_end.unwrap_or(0);
        if checked_end < from && !gaps.iter().any(|(gap, ..)| *gap == checked_end) {
            gaps.push((checked_end, from, counts.frames, counts.messages));
        }
        self.end = self.end.max(self.synced_to);
        self.judge(&mut files, bad, gaps, &counts, log_end)?;
        self.files = files;
        Ok(())
    }

    /// Reads one file. Returns the position where its frames end.
    fn read_file(
        &mut self,
        i: usize,
        file: &mut Surveyed,
        next_base: Option<u64>,
        counts: &mut Counts<'_>,
        bad: &mut Vec<Bad>,
    ) -> Result<u64> {
        let Some(header) = file.header else { return Ok(0) };
        let before = bad.len();
        let source = file.file.clone();
        let mut scan = Scanner::new(&source, header, FILE_HEADER_BYTES, file.until);
        let mut note = |at, until, frame, counts: &Counts<'_>| {
            bad.push(Bad { file: i, at, until, frame, frames: counts.frames, messages: counts.messages });
        };
        let mut frames_end = file.until;
        loop {
            match scan.next()? {
                Scanned::End => break,
                Scanned::Frame(at, frame) => {
                    let is_read = frame.kind == Kind::State || frame.has_ids;
                    let payload = if is_read { scan.payload(at, &frame)? } else { &[] };
                    if !self.take_frame(&header, file, at, &frame, payload) {
                        note(at, scan.at(), Some(frame), counts);
                    }
                    counts.frame(&frame);
                }
                Scanned::BadPayload(at, frame) => {
                    self.note_synced(header.kind, &frame);
                    if scan.at() == at {
                        scan.resync(at)?;
                    }
                    note(at, scan.at(), Some(frame), counts);
                }
                // The next file goes on here: what stands here is an index that was not finished.
                Scanned::Bad(at) if !file.is_sealed && next_base == Some(header.position(at)) => {
                    frames_end = at;
                    file.is_sound = false;
                    break;
                }
                Scanned::Bad(at) => {
                    scan.resync(at)?;
                    note(at, scan.at(), None, counts);
                }
            }
            counts.reached(scan.at());
        }
        counts.finish(file.until);
        if bad.len() > before {
            file.is_sound = false;
        } else if file.is_sealed && !file.has_index()? {
            file.is_sound = false;
            self.damage.push(Damage::at(log_name(file.no), file.until, What::Index));
        }
        Ok(header.position(frames_end))
    }

    /// Takes in a whole frame. `false` if it holds what can't be read.
    fn take_frame(
        &mut self,
        header: &FileHeader,
        file: &mut Surveyed,
        at: u64,
        frame: &Header,
        payload: &[u8],
    ) -> bool {
        self.note_synced(header.kind, frame);
        match frame.kind {
            Kind::Data => {
                file.topics.entry(frame.topic).or_default().add(
                    at,
                    frame.frame_len(),
                    frame.first,
                    frame.last(),
                );
                self.present.entry(frame.topic).or_default().insert(frame.first, frame.last());
                self.seen.topics.insert(frame.topic);
                self.seen.offset(frame.last());
                let is_live = header.kind == FileKind::Log && header.position(at) >= self.from();
                if frame.has_ids && (is_live || self.checkpoint.is_none()) {
                    self.replay.ids.note(frame.topic, ids::in_records(payload, frame.first, frame.time));
                }
            }
            Kind::State if header.kind == FileKind::Log && header.position(at) >= self.from() => {
                let Some(events) = Event::decode_all(payload) else { return false };
                events.into_iter().for_each(|event| self.apply(event));
            }
            Kind::State | Kind::Mark => {}
        }
        true
    }

    fn note_synced(&mut self, kind: FileKind, frame: &Header) {
        if kind == FileKind::Log {
            self.synced_to = self.synced_to.max(frame.synced_to);
        }
    }

    /// Tells damage from where a crash cut the log.
    fn judge(
        &mut self,
        files: &mut [Surveyed],
        bad: Vec<Bad>,
        gaps: Vec<(u64, u64, u64, u64)>,
        counts: &Counts<'_>,
        log_end: u64,
    ) -> Result<()> {
        let mut tail = None;
        let mut cut = |file: String, at: u64, frames: u64, messages: u64| {
            let (frames, messages) = (counts.frames - frames, counts.messages - messages);
            tail.get_or_insert(Tail { file, at, frames, messages });
        };
        let mut damaged = Vec::new();
        for place in bad {
            let file = &files[place.file];
            let Some(header) = file.header else { continue };
            if file.kind == FileKind::Log && header.position(place.at) >= self.synced_to {
                cut(log_name(file.no), place.at, place.frames, place.messages);
            } else {
                damaged.push(place);
            }
        }
        for (from, to, frames, messages) in gaps {
            if from >= self.synced_to {
                cut(format!("log position {from}"), 0, frames, messages);
            } else {
                self.damage.push(Damage { file: None, at: None, what: What::Log { from, to } });
                self.state_lost = true;
            }
        }
        // The manifest has log files in the order of their positions; a file written anew has a higher number in an old
        // place. Without a manifest, numbers must do.
        let named = self.manifest.as_ref().map(|manifest| manifest.files.clone());
        let place = |no: u64| match &named {
            Some(files) => files.iter().position(|(other, _)| *other == no).map(|at| at as u64),
            None => Some(no),
        };
        let newest = files
            .iter()
            .filter(|f| f.kind == FileKind::Log && f.header.is_some())
            .map(|f| place(f.no))
            .max()
            .flatten();
        for file in files.iter().filter(|f| f.header.is_some() && f.is_header_damaged) {
            self.damage.push(Damage::at(
                log_name(file.no),
                0,
                What::Header { bytes: file.len, is_proven: true },
            ));
        }
        for file in files.iter().filter(|f| f.header.is_none()) {
            let is_first_write = file.kind == FileKind::Log && place(file.no) > newest;
            if !is_first_write || log_end < self.synced_to {
                self.damage.push(Damage::at(
                    log_name(file.no),
                    0,
                    What::Header { bytes: file.len, is_proven: false },
                ));
                self.state_lost |= file.kind == FileKind::Log;
            } else {
                cut(log_name(file.no), 0, counts.frames, counts.messages);
            }
        }
        self.tail = tail;
        // What is salvaged after the cut may lack what stood in it.
        self.state_lost |= self.tail.as_ref().is_some_and(|tail| tail.frames > 0);
        for place in damaged {
            self.take_damage(&mut files[place.file], &place)?;
        }
        Ok(())
    }

    /// Names a damaged place and takes what is sound of it.
    fn take_damage(&mut self, file: &mut Surveyed, place: &Bad) -> Result<()> {
        let Some(header) = file.header else { return Ok(()) };
        let is_live = file.kind == FileKind::Log && header.position(place.until) > self.from();
        let what = match place.frame {
            Some(frame) if frame.kind == Kind::Data => {
                let source = file.file.clone();
                let mut scan = Scanner::new(&source, header, place.at, file.until);
                let payload = scan.payload(place.at, &frame)?;
                let rows = salvage::sound_records(&frame, payload);
                let mut lost = RangeSet::default();
                lost.insert(frame.first, frame.last());
                let present = self.present.entry(frame.topic).or_default();
                for row in &rows {
                    let first = frame.first.plus(u64::from(row.index));
                    present.insert(first, first.plus(u64::from(row.count) - 1));
                    let records = payload.get(row.bytes.clone()).unwrap_or_default();
                    self.replay.ids.note(frame.topic, ids::in_records(records, first, frame.time));
                }
                let sound = rows.iter().map(|row| u64::from(row.count)).sum();
                self.lost.entry(frame.topic).or_default().insert(frame.first, frame.last());
                self.seen.topics.insert(frame.topic);
                self.seen.offset(frame.last());
                if !rows.is_empty() {
                    file.salvaged.insert(place.at, (frame, rows));
                }
                What::Messages { topic: frame.topic, first: frame.first.0, last: frame.last().0, sound }
            }
            Some(frame) if frame.kind == Kind::State => {
                if is_live {
                    self.lost_entries += u64::from(frame.count);
                    self.state_lost = true;
                }
                What::Entries { count: frame.count, is_live }
            }
            _ => {
                self.state_lost |= is_live;
                What::Bytes { bytes: place.until - place.at }
            }
        };
        self.damage.push(Damage::at(log_name(file.no), place.at, what));
        Ok(())
    }

    /// Messages that are waited for and stand in no file.
    fn find_missing(&mut self) {
        for (&topic, state) in &self.replay.topics {
            let spans: Vec<_> = self.spans(topic);
            for (first, last) in missing::missing(&self.replay, topic, &spans) {
                let what = What::Missing { topic, name: state.name.clone(), first: first.0, last: last.0 };
                self.damage.push(Damage { file: None, at: None, what });
            }
        }
    }
}

impl Seen {
    fn offset(&mut self, offset: Offset) {
        self.block = self.block.max(offset.0 >> SEQ_BITS);
    }

    fn note(&mut self, event: &Event) {
        match event {
            Event::Topic { topic, pump, end, .. } => {
                self.topics.insert(*topic);
                self.offset(*pump);
                self.offset(*end);
            }
            Event::TopicDeleted { topic } => {
                self.topics_gone.insert(*topic);
            }
            Event::Channel { channel, topic, .. } => {
                self.topics.insert(*topic);
                self.channels.insert(*channel);
                self.channels_known.insert(*channel);
            }
            Event::ChannelDeleted { channel } => {
                self.channels.insert(*channel);
                self.channels_known.insert(*channel);
            }
            Event::Cursor { channel, .. }
            | Event::Finished { channel, .. }
            | Event::Requeued { channel, .. } => {
                self.channels.insert(*channel);
            }
            Event::Counters { .. }
            | Event::Hole { .. }
            | Event::Limits { .. }
            | Event::Dedup { .. }
            | Event::Ids { .. } => {}
        }
    }
}

/// How far reading has come.
struct Counts<'a> {
    done: u64,
    total: u64,
    frames: u64,
    messages: u64,
    progress: Progress<'a>,
}

impl Counts<'_> {
    fn frame(&mut self, frame: &Header) {
        self.frames += 1;
        self.messages += if frame.kind == Kind::Data { u64::from(frame.count) } else { 0 };
    }

    fn reached(&mut self, at: u64) {
        (self.progress)(self.done + at, self.total);
    }

    fn finish(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(self.done, self.total);
    }
}
