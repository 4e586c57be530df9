//! Reads a whole data folder without changing it: every file, every checksum. The source of a report, and
//! what a repair starts from.
//!
//! Damage and where a crash cut the log are found by the [scan](crate::store::open::scan) that recovery goes
//! by too. But nothing stops where the log was cut, and files that the checkpoint and the indexes make
//! needless at a start are read too.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::message::Offset;
use crate::store::disk::Disk;
use crate::store::format::event::Event;
use crate::store::format::file::{FileHeader, FileKind, FileNo, log_name};
use crate::store::format::frame::{Header, Kind};
use crate::store::format::ids;
use crate::store::format::log_pos::LogPos;
use crate::store::format::manifest::Manifest;
use crate::store::format::numbers::{ChannelNo, TopicNo};
use crate::store::format::range_set::RangeSet;
use crate::store::open::holes;
use crate::store::open::replay::Replay;
use crate::store::open::scan::{Found, LogScan, damaged_headers};
use crate::store::read::reader::Scanner;
use crate::store::repair::damage::{Damage, Tail, What};
use crate::store::repair::folder::{self, Surveyed};
use crate::store::repair::pass::{Bad, Counts, Pass, Progress};
use crate::store::repair::salvage;
use crate::store::repair::seen::Seen;

/// Contents of a data folder.
pub(crate) struct Survey {
    /// The manifest as it is on disk; `None` where it is missing or damaged.
    pub(crate) manifest: Option<Manifest>,
    /// Number and log position of the checkpoint, if it is whole.
    pub(crate) checkpoint: Option<(FileNo, LogPos)>,
    pub(crate) replay: Replay,
    /// Log files in the order of their positions, then clean files. Those nothing was written to are left
    /// out.
    pub(crate) files: Vec<Surveyed>,
    /// The messages of each topic that are whole.
    pub(crate) present: BTreeMap<TopicNo, RangeSet>,
    /// Messages of them after the place where a crash cut the log.
    cut: BTreeMap<TopicNo, RangeSet>,
    /// Messages that damaged frames held.
    pub(crate) lost: BTreeMap<TopicNo, RangeSet>,
    pub(crate) damage: Vec<Damage>,
    /// Place at which a crash cut the log, if it did.
    pub(crate) tail: Option<Tail>,
    /// Position after the last frame.
    pub(crate) end: LogPos,
    /// Greatest position known fsync'd.
    pub(crate) synced_to: LogPos,
    /// Entries that the state lacks, as far as they can be counted.
    pub(crate) lost_entries: u64,
    /// Whether the state may lack anything.
    pub(crate) state_lost: bool,
    /// Numbers that were mentioned anywhere, so that none is used again.
    pub(crate) seen: Seen,
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
            cut: BTreeMap::new(),
            lost: BTreeMap::new(),
            damage: opened.damage,
            tail: None,
            end: LogPos(0),
            synced_to: LogPos(0),
            lost_entries: 0,
            state_lost: false,
            seen: Seen::default(),
        };
        // A checkpoint is named only when all it speaks of is fsync'd.
        survey.synced_to =
            survey.manifest.as_ref().and_then(|m| m.checkpoint).map_or(LogPos(0), |(_, position)| position);
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
                survey.seen.counted = has_none.then_some((TopicNo::NONE, ChannelNo::NONE));
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
    fn from(&self) -> LogPos {
        self.checkpoint.map_or(LogPos(0), |(_, position)| position)
    }

    /// The dense ranges of a topic's whole messages.
    pub(crate) fn spans(&self, topic: TopicNo) -> Vec<(Offset, Offset)> {
        self.present.get(&topic).into_iter().flat_map(RangeSet::iter).collect()
    }

    fn apply(&mut self, event: Event) {
        self.seen.note(&event);
        self.replay.apply(event);
    }

    fn read_files(&mut self, progress: Progress<'_>) -> Result<()> {
        let mut files = std::mem::take(&mut self.files);
        let expected = match self.checkpoint {
            Some((_, position)) => Some(position),
            None => (!self.state_lost).then_some(LogPos(0)),
        };
        let readable: Vec<usize> = (0..files.len()).filter(|&i| files[i].header.is_some()).collect();
        let parts = readable.iter().filter_map(|&i| files[i].part()).collect();
        let mut scan = LogScan::new(parts, self.from(), expected, self.synced_to);
        let total = readable.iter().map(|&i| files[i].until).sum();
        let mut pass = Pass::new(Counts::new(total, progress));
        loop {
            let found = scan.next()?;
            self.synced_to = scan.synced_to();
            pass.counts.reached(scan.at());
            let Some(&i) = readable.get(scan.part()) else { break };
            let file = &mut files[i];
            let Some(header) = file.header else { break };
            match found {
                Found::End => break,
                Found::File => pass.begin(file),
                // Without a manifest, a file that was written anew may stand beside the old one.
                Found::Gap { from, to, .. } if to < from && self.manifest.is_none() => {}
                Found::Gap { from, is_tail: true, .. } => pass.cut(format!("log position {from}"), 0),
                Found::Gap { from, to, .. } => self.note_gap(from, to),
                Found::Frame { at, frame } => {
                    let is_read = frame.kind == Kind::State || frame.has_ids;
                    let payload = if is_read { scan.payload(at, &frame)? } else { &[] };
                    if pass.tail.is_some() && file.kind == FileKind::Log && frame.kind == Kind::Data {
                        self.cut.entry(frame.topic).or_default().insert(frame.first, frame.last());
                    }
                    if !self.take_frame(&header, file, at, &frame, payload) {
                        pass.bad(Bad { file: i, at, until: at + frame.frame_len(), frame: Some(frame) });
                    }
                    pass.counts.frame(&frame);
                }
                Found::Bad { at, is_tail: true, .. } => pass.cut_in(file, &header, at),
                Found::Bad { at, until, frame, .. } => pass.bad(Bad { file: i, at, until, frame }),
                Found::FileEnd { at } => self.end_file(&mut pass, file, &header, at)?,
            }
        }
        self.note_missing_ends(&files, pass.checked_end);
        self.end = self.end.max(self.synced_to);
        self.judge_headers(&files, &mut pass);
        self.tail = pass.tail.map(|begun| pass.counts.ended(begun));
        // What is salvaged after the cut may lack what stood in it.
        self.state_lost |= self.tail.as_ref().is_some_and(|tail| tail.frames > 0);
        for place in pass.damaged {
            self.take_damage(&mut files[place.file], &place)?;
        }
        self.files = files;
        Ok(())
    }

    /// Takes in the end of a file, whose frames end at `at`.
    fn end_file(
        &mut self,
        pass: &mut Pass<'_>,
        file: &mut Surveyed,
        header: &FileHeader,
        at: u64,
    ) -> Result<()> {
        // Where the frames end before the file, an index whose writing was cut short follows.
        if pass.has_bad || at < file.until {
            file.is_sound = false;
        } else if file.is_sealed && !file.has_index()? {
            file.is_sound = false;
            self.damage.push(Damage::at(log_name(file.no), file.until, What::Index));
        }
        pass.counts.finish(file.until);
        if file.kind == FileKind::Log {
            let end = header.position(at);
            if pass.tail.is_none() {
                pass.log_end = end;
            }
            if header.base <= self.from() {
                pass.checked_end = end;
            }
            self.end = self.end.max(end);
        }
        Ok(())
    }

    fn note_missing_ends(&mut self, files: &[Surveyed], checked_end: LogPos) {
        self.note_end_before_checkpoint(checked_end);
        self.note_missing_beginning(files);
    }

    /// Notes a gap if the log ends at `checked_end`, before the checkpoint's position: it was whole up to
    /// there when the checkpoint was named.
    fn note_end_before_checkpoint(&mut self, checked_end: LogPos) {
        let from = self.from();
        let is_named = |what: &What| matches!(what, What::Log { from, .. } if *from == checked_end.0);
        if checked_end < from && !self.damage.iter().any(|damage| is_named(&damage.what)) {
            self.note_gap(checked_end, from);
        }
    }

    /// Notes a gap if the very first file of the log is missing: its successors show how long it was. Of a
    /// log whose beginning was cleaned away, nothing shows where it must begin.
    fn note_missing_beginning(&mut self, files: &[Surveyed]) {
        let mut logs = files.iter().filter(|file| file.kind == FileKind::Log);
        let begin = logs.find_map(|file| file.header).map(|header| header.base);
        let first = log_name(FileNo(1));
        let is_gone = |damage: &Damage| damage.what == What::Gone && damage.file.as_ref() == Some(&first);
        if let Some(begin) = begin.filter(|begin| *begin > LogPos(0))
            && self.damage.iter().any(is_gone)
        {
            self.note_gap(LogPos(0), begin);
        }
    }

    fn note_gap(&mut self, from: LogPos, to: LogPos) {
        self.damage.push(Damage { file: None, at: None, what: What::Log { from: from.0, to: to.0 } });
        self.state_lost = true;
    }

    /// Distinguishes damaged headers from that of a file whose first write a crash cut short. `kept` are the
    /// log files that do not stand after the place where the log was cut.
    fn judge_headers(&mut self, files: &[Surveyed], pass: &mut Pass<'_>) {
        let header = |file: &Surveyed, is_proven| {
            Damage::at(log_name(file.no), 0, What::Header { bytes: file.len, is_proven })
        };
        let proven = files.iter().filter(|f| f.header.is_some() && f.is_header_damaged);
        self.damage.extend(proven.map(|file| header(file, true)));
        let unreadable = files.iter().filter(|f| f.kind == FileKind::Log && f.header.is_none());
        let unreadable: Vec<FileNo> = unreadable.map(|f| f.no).collect();
        let order: Option<Vec<FileNo>> =
            self.manifest.as_ref().map(|manifest| manifest.files.iter().map(|(no, _)| *no).collect());
        let damaged =
            damaged_headers(&unreadable, &pass.kept, order.as_deref(), pass.log_end, self.synced_to);
        for file in files.iter().filter(|f| f.header.is_none()) {
            if file.kind == FileKind::Clean || damaged.contains(&file.no) {
                self.damage.push(header(file, false));
                self.state_lost |= file.kind == FileKind::Log;
            } else {
                pass.cut(log_name(file.no), 0);
            }
        }
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

    /// Messages that are waited for and stand in no file, though later ones do that a broker keeps.
    fn find_missing(&mut self) {
        let none = RangeSet::default();
        for (&topic, state) in &self.replay.topics {
            let cut = self.cut.get(&topic).unwrap_or(&none);
            let kept = self.spans(topic).into_iter().flat_map(|(first, last)| cut.missing(first, last));
            let spans: Vec<_> = kept.collect();
            for (first, last) in holes::missing(&self.replay, topic, &spans) {
                let what = What::Missing { topic, name: state.name.clone(), first: first.0, last: last.0 };
                self.damage.push(Damage { file: None, at: None, what });
            }
        }
    }
}
