//! The walk through the files.

use std::thread::Scope;

use super::{LogFile, Recovery};
use crate::error::{Error, Result};
use crate::store::format::event::Event;
use crate::store::format::file::{FILE_HEADER_BYTES, FileHeader, FileKind, log_name};
use crate::store::format::frame::{HEADER_BYTES, Header, Kind};
use crate::store::format::ids;
use crate::store::read::ahead::{self, Frames, Reading};
use crate::store::read::reader::{Scanned, Scanner};

impl Recovery {
    /// Starts to read what is to be replayed, if it is much, and to fsync it: of each file its frames.
    pub(super) fn read_ahead<'scope>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        written: &[(FileHeader, LogFile)],
    ) -> Vec<Frames> {
        let is_read = |(header, file): &&(FileHeader, LogFile)| !file.is_below(header, self.from);
        let bytes: u64 = written.iter().filter(is_read).map(|(_, file)| file.frames_end()).sum();
        // What is in doubt is to be written again before it is fsync'd.
        if bytes < self.ahead_bytes_min || self.in_doubt {
            return Vec::new();
        }
        let reading = |(header, file): &(FileHeader, LogFile)| Reading {
            file: file.file.clone(),
            header: *header,
            until: file.frames_end(),
            lost: file.lost.clone(),
        };
        let mut ahead =
            ahead::start(scope, written.iter().filter(is_read).map(reading).collect()).into_iter();
        let frames = |file| if is_read(&file) { ahead.next().unwrap_or_default() } else { Frames::default() };
        written.iter().map(frames).collect()
    }

    /// Replays the log files, which stand in the order of their positions. Returns the position where the log ends, and
    /// which file is the first that is not part of it.
    pub(super) fn walk(
        &mut self,
        written: &[(FileHeader, LogFile)],
        ahead: Vec<Frames>,
    ) -> Result<(Option<u64>, usize)> {
        let mut ahead = ahead.into_iter();
        let mut drop_from = written.len();
        let mut end = None;
        for i in 0..written.len() {
            let (header, file) = &written[i];
            let frames = ahead.next().unwrap_or_default();
            let expected = end.unwrap_or(self.from);
            if header.base > self.from && header.base != expected {
                for (header, file) in &written[i..] {
                    self.raise_synced(Scanner::new(
                        &file.file,
                        *header,
                        FILE_HEADER_BYTES,
                        file.frames_end(),
                    ))?;
                }
                if expected >= self.synced_to {
                    drop_from = i;
                    break;
                }
                let place = format!("the log from position {expected} to {} is missing", header.base);
                self.damage.places.push(place);
                self.damage.all_topics = true;
            }
            let later: Vec<_> = written[i + 1..].iter().map(|(h, f)| (*h, f)).collect();
            let (file_end, cut) = self.log_file(*header, file, frames, &later)?;
            end = Some(file_end);
            if cut {
                drop_from = i + 1;
                break;
            }
        }
        Ok((end, drop_from))
    }

    /// Takes in what the cleaner wrote: whole and fsync'd before it was named, so anything else is damage.
    pub(super) fn clean_file(&mut self, file: LogFile) -> Result<()> {
        let Some(header) = file.header else {
            self.damage.places.push(format!("{} has no readable header", log_name(file.no)));
            self.damage.all_topics = true;
            return Ok(());
        };
        if let Some((footer, table)) = file.index {
            self.catalog.sealed_file(header, file.file, footer.frames_end, table);
            return Ok(());
        }
        self.catalog.open_file(header, file.file.clone());
        let mut scan = Scanner::new(&file.file, header, FILE_HEADER_BYTES, file.len);
        loop {
            match scan.next()? {
                Scanned::End => break,
                Scanned::Frame(at, frame) => self.note(&header, at, &frame, scan.payload(at, &frame)?),
                Scanned::BadPayload(at, frame) => self.damaged(&header, at, Some(&frame)),
                Scanned::Bad(at) => {
                    let more = scan.resync(at)?;
                    // Without its index, where the frames end is not known: the rest may be the index.
                    if more {
                        self.damaged(&header, at, None);
                    }
                }
            }
        }
        self.damaged(&header, file.len, None);
        Ok(())
    }

    /// Replays one log file. Returns the position after its last frame and whether the log was cut there.
    fn log_file(
        &mut self,
        header: FileHeader,
        file: &LogFile,
        ahead: Frames,
        later: &[(FileHeader, &LogFile)],
    ) -> Result<(u64, bool)> {
        if file.is_below(&header, self.from)
            && let Some((footer, table)) = &file.index
        {
            let end = header.position(footer.frames_end);
            self.catalog.sealed_file(header, file.file.clone(), footer.frames_end, table.clone());
            return Ok((end, false));
        }
        self.catalog.open_file(header, file.file.clone());
        let until = file.frames_end();
        let mut from = FILE_HEADER_BYTES;
        for (at, frame) in ahead {
            let mut payload = Vec::new();
            if self.looks_into(&header, at, &frame) {
                payload.resize(frame.payload_len as usize, 0);
                let read = file.file.read_at(&mut payload, at + HEADER_BYTES as u64);
                if !matches!(read, Ok(got) if got == payload.len()) {
                    break;
                }
            }
            self.synced_to = self.synced_to.max(frame.synced_to);
            self.note(&header, at, &frame, &payload);
            from = at + frame.frame_len();
        }
        let mut scan = Scanner::new(&file.file, header, from, until);
        loop {
            match scan.next()? {
                Scanned::End => break,
                Scanned::Frame(at, frame) => {
                    self.synced_to = self.synced_to.max(frame.synced_to);
                    self.note(&header, at, &frame, scan.payload(at, &frame)?);
                }
                // The next file goes on here: what stands here is an index whose writing was cut short.
                Scanned::Bad(at) if later.first().is_some_and(|(h, _)| h.base == header.position(at)) => {
                    return Ok((header.position(at), false));
                }
                bad @ (Scanned::BadPayload(at, _) | Scanned::Bad(at)) => {
                    self.look_ahead(header, file, until, at, later)?;
                    if header.position(at) >= self.synced_to {
                        file.file
                            .truncate(at)
                            .map_err(|e| Error::io("could not cut the log at its end", e))?;
                        return Ok((header.position(at), true));
                    }
                    match bad {
                        Scanned::BadPayload(at, frame) if at + frame.frame_len() <= until => {
                            self.damaged(&header, at, Some(&frame));
                        }
                        _ => {
                            self.damaged(&header, at, None);
                            scan.resync(at)?;
                        }
                    }
                }
            }
        }
        // An index there may be torn where its table is whole: it is written again.
        Ok((header.position(until), false))
    }

    /// Raises `synced_to` to what frames after the bad place at `at` say.
    fn look_ahead(
        &mut self,
        header: FileHeader,
        file: &LogFile,
        until: u64,
        at: u64,
        later: &[(FileHeader, &LogFile)],
    ) -> Result<()> {
        let mut scan = Scanner::new(&file.file, header, at, until);
        scan.resync(at)?;
        self.raise_synced(scan)?;
        for (header, file) in later {
            self.raise_synced(Scanner::new(&file.file, *header, FILE_HEADER_BYTES, file.frames_end()))?;
        }
        Ok(())
    }

    fn raise_synced(&mut self, mut scan: Scanner<'_>) -> Result<()> {
        loop {
            match scan.next()? {
                Scanned::End => return Ok(()),
                Scanned::Frame(_, frame) => self.synced_to = self.synced_to.max(frame.synced_to),
                // Its header is whole, so what it says of others holds.
                Scanned::BadPayload(at, frame) => {
                    self.synced_to = self.synced_to.max(frame.synced_to);
                    scan.resync(at)?;
                }
                Scanned::Bad(at) => {
                    scan.resync(at)?;
                }
            }
        }
    }

    /// Whether what a frame holds is not in the checkpoint yet, nor told by its header.
    fn looks_into(&self, header: &FileHeader, at: u64, frame: &Header) -> bool {
        let is_telling = match frame.kind {
            Kind::Data => frame.has_ids && header.kind == FileKind::Log,
            Kind::State => true,
            Kind::Mark => false,
        };
        is_telling && header.position(at) >= self.from
    }

    /// Takes in a whole frame; of one that is not [looked into](Self::looks_into), the payload does not matter.
    fn note(&mut self, header: &FileHeader, at: u64, frame: &Header, payload: &[u8]) {
        let looks_into = self.looks_into(header, at, frame);
        match frame.kind {
            Kind::Data => {
                if looks_into {
                    let ids = ids::in_records(payload, frame.first, frame.time);
                    self.replay.ids.note(frame.topic, ids);
                }
                let place = (at, frame.frame_len(), frame.topic, frame.first, frame.last());
                self.catalog.wrote(header.no, at + frame.frame_len(), std::iter::once(place));
                return;
            }
            Kind::State if looks_into => match Event::decode_all(payload) {
                Some(events) => events.into_iter().for_each(|event| self.replay.apply(event)),
                None => self.damaged(header, at, None),
            },
            Kind::State | Kind::Mark => {}
        }
        self.catalog.wrote(header.no, at + frame.frame_len(), std::iter::empty());
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
                self.damage.places.push(format!("{name} at byte {at}: what stood there can't be told"));
            }
        }
    }
}
