//! The walk through the files.

use std::sync::Arc;
use std::thread::Scope;

use super::{OpenedFile, Recovery};
use crate::error::{Error, Result};
use crate::store::format::event::Event;
use crate::store::format::file::{FileHeader, FileKind, FileNo, log_name};
use crate::store::format::frame::{Header, Kind};
use crate::store::format::ids;
use crate::store::format::log_pos::LogPos;
use crate::store::open::scan::{Found, LogFile, LogScan, Part};
use crate::store::read::prefetch::{self, Frames, Reading};

impl Recovery {
    /// Starts to read what is to be replayed, if it is much, and to fsync it: of each file its frames.
    pub(super) fn prefetch<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        written: &[OpenedFile],
    ) -> Vec<Frames> {
        let is_read = |opened: &&OpenedFile| !opened.is_below(self.from);
        let bytes: u64 = written.iter().filter(is_read).map(|opened| opened.log.frames_end()).sum();
        // What is suspect is to be written again before it is fsync'd.
        if bytes < self.prefetch_bytes_min || self.is_suspect {
            return Vec::new();
        }
        let reading = |opened: &OpenedFile| Reading {
            file: opened.log.file.clone(),
            header: opened.header,
            until: opened.log.frames_end(),
            sync_error: opened.sync_error.clone(),
        };
        let mut prefetched =
            prefetch::start(scope, written.iter().filter(is_read).map(reading).collect()).into_iter();
        let frames =
            |opened| if is_read(&opened) { prefetched.next().unwrap_or_default() } else { Frames::default() };
        written.iter().map(frames).collect()
    }

    /// Replays the log files, which stand in the order of their positions. Returns the position where the log
    /// ends, and which file is the first that is not part of it.
    pub(super) fn walk(
        &mut self,
        written: &[OpenedFile],
        prefetched: Vec<Frames>,
    ) -> Result<(Option<LogPos>, usize)> {
        let mut prefetched = prefetched.into_iter();
        let part =
            |opened: &OpenedFile| part(&opened.log, opened.header, prefetched.next().unwrap_or_default());
        let parts = written.iter().map(part).collect();
        let mut scan = LogScan::new(parts, self.from, Some(self.from), self.synced_to);
        let mut end = None;
        let drop_from = loop {
            let found = scan.next()?;
            self.synced_to = scan.synced_to();
            let i = scan.part();
            let Some(OpenedFile { header, log, .. }) = written.get(i) else { break written.len() };
            match found {
                Found::Gap { is_tail: true, .. } => break i,
                Found::Gap { from, to, .. } => {
                    self.damage.places.push(format!("the log from position {from} to {to} is missing"));
                    self.damage.all_topics = true;
                }
                Found::File => match &log.index {
                    Some((footer, table)) if written[i].is_below(self.from) => {
                        let (file, table) = (log.file.clone(), table.clone());
                        self.catalog.sealed_file(*header, file, footer.frames_end, table);
                        end = Some(header.position(footer.frames_end));
                        scan.skip();
                    }
                    // An index there may be torn where its table is whole: it is written again.
                    _ => self.catalog.open_file(*header, log.file.clone()),
                },
                Found::Frame { at, frame } => self.take(&mut scan, header, at, &frame)?,
                Found::Bad { at, is_tail: true, .. } => {
                    log.file.truncate(at).map_err(|e| Error::io("could not cut the log at its end", e))?;
                    end = Some(header.position(at));
                    break i + 1;
                }
                Found::Bad { at, frame, .. } => {
                    // What followed a frame that goes beyond the end is not known.
                    let is_within = |frame: &Header| at + frame.frame_len() <= log.frames_end();
                    self.damaged(header, at, frame.as_ref().filter(|frame| is_within(frame)));
                }
                Found::FileEnd { at } => end = Some(header.position(at)),
                Found::End => break written.len(),
            }
        };
        Ok((end, drop_from))
    }

    /// Takes in what the cleaner wrote: whole and fsync'd before it was named, so anything else is damage.
    pub(super) fn clean_file(&mut self, log: LogFile) -> Result<()> {
        let Some(header) = log.header.filter(|_| !log.is_header_damaged) else {
            self.damaged_header(log.no);
            return Ok(());
        };
        if let Some((footer, table)) = log.index {
            self.catalog.sealed_file(header, log.file, footer.frames_end, table);
            return Ok(());
        }
        self.catalog.open_file(header, log.file.clone());
        let mut scan = LogScan::new(vec![part(&log, header, Frames::default())], LogPos(0), None, LogPos(0));
        loop {
            match scan.next()? {
                Found::End => break,
                Found::Frame { at, frame } => self.take(&mut scan, &header, at, &frame)?,
                // Without its index, where the frames end is not known: the rest may be the index.
                Found::Bad { until, frame: None, .. } if until == log.len => {}
                Found::Bad { at, frame, .. } => self.damaged(&header, at, frame.as_ref()),
                Found::Gap { .. } | Found::File | Found::FileEnd { .. } => {}
            }
        }
        self.damaged(&header, log.len, None);
        Ok(())
    }

    /// Whether what a frame holds is neither in the checkpoint yet nor in its header.
    fn looks_into(&self, header: &FileHeader, at: u64, frame: &Header) -> bool {
        let is_telling = match frame.kind {
            Kind::Data => frame.has_ids && header.kind == FileKind::Log,
            Kind::State => true,
            Kind::Mark => false,
        };
        is_telling && header.position(at) >= self.from
    }

    /// Takes in a whole frame.
    fn take(&mut self, scan: &mut LogScan, header: &FileHeader, at: u64, frame: &Header) -> Result<()> {
        let looks_into = self.looks_into(header, at, frame);
        let payload = if looks_into { scan.payload(at, frame)? } else { &[] };
        match frame.kind {
            Kind::Data => {
                if looks_into {
                    let ids = ids::in_records(payload, frame.first, frame.time);
                    self.replay.ids.note(frame.topic, ids);
                }
                let place = (at, frame.frame_len(), frame.topic, frame.first, frame.last());
                self.catalog.wrote(header.no, at + frame.frame_len(), std::iter::once(place));
                return Ok(());
            }
            Kind::State if looks_into => match Event::decode_all(payload) {
                Some(events) => events.into_iter().for_each(|event| self.replay.apply(event)),
                None => self.damaged(header, at, None),
            },
            Kind::State | Kind::Mark => {}
        }
        self.catalog.wrote(header.no, at + frame.frame_len(), std::iter::empty());
        Ok(())
    }

    pub(super) fn damaged_header(&mut self, no: FileNo) {
        self.damage.places.push(format!("{} has no readable header", log_name(no)));
        self.damage.files.insert(no);
        self.damage.all_topics = true;
    }

    fn damaged(&mut self, header: &FileHeader, at: u64, frame: Option<&Header>) {
        let name = log_name(header.no);
        self.damage.files.insert(header.no);
        match frame {
            Some(frame) if frame.kind == Kind::Data => {
                self.damage.topics.entry(frame.topic).or_default().insert(frame.first, frame.last());
                let (first, last) = (frame.first.0, frame.last().0);
                self.damage.places.push(format!(
                    "{name} at byte {at}: messages {first:#x} to {last:#x} of topic number {}",
                    frame.topic
                ));
            }
            // Lost finishes only deliver again.
            Some(frame) if header.position(at) < self.from => {
                self.damage.places.push(format!("{name} at byte {at}: {} dead entries", frame.count));
            }
            _ => {
                self.damage.all_topics = true;
                self.damage.places.push(format!("{name} at byte {at}: what stood there is unknown"));
            }
        }
    }
}

fn part(log: &LogFile, header: FileHeader, prefetched: Frames) -> Part {
    let (file, until, has_index) = (Arc::clone(&log.file), log.frames_end(), log.index.is_some());
    Part { header, file, until, has_index, prefetched }
}
