//! The one reading of log files that recovery, inspection and repair go by: which frames stand in them, which
//! places are damaged, and where a crash cut the log.
//!
//! `synced_to` of the frames says which part of the log was known fsync'd: a bad place below the greatest is
//! damage; at or above it a crash cut the log there, whatever follows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::{Disk, File, OpenMode};
use crate::store::format::file::{
    BadHeader, FILE_HEADER_BYTES, FORMAT_VERSION, FileHeader, FileKind, FileNo, log_name,
};
use crate::store::format::file_index::{self, Footer, Table};
use crate::store::format::frame::{HEADER_BYTES, Header};
use crate::store::format::log_pos::LogPos;
use crate::store::format::manifest::Manifest;
use crate::store::read::prefetch::Frames;
use crate::store::read::reader::{Scanned, Scanner};

/// A log file, opened.
pub(crate) struct LogFile {
    pub(crate) no: FileNo,
    /// The file's kind, as the manifest says, or the header.
    pub(crate) kind: FileKind,
    /// `None` if there is nothing to read the frames by.
    pub(crate) header: Option<FileHeader>,
    /// Whether the header's bytes are not as they were written. A frame can prove what they said all the
    /// same.
    pub(crate) is_header_damaged: bool,
    pub(crate) file: Arc<dyn File>,
    pub(crate) len: u64,
    /// The index, if it is whole.
    pub(crate) index: Option<(Footer, Table)>,
}

impl LogFile {
    /// Opens log file `no`, of this kind where that is known. `None` if it is not there.
    ///
    /// # Errors
    /// `Version`, `Io`.
    pub(crate) fn open(
        disk: &dyn Disk,
        no: FileNo,
        kind: Option<FileKind>,
        mode: OpenMode,
    ) -> Result<Option<Self>> {
        let name = log_name(no);
        let failed = |e| Error::io(format!("could not read {name}"), e);
        let file = match disk.open(&name, mode) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(failed(e)),
        };
        let len = file.len().map_err(failed)?;
        let mut bytes = [0; FILE_HEADER_BYTES as usize];
        let got = file.read_at(&mut bytes, 0).map_err(failed)?;
        let (header, is_header_damaged) = match FileHeader::decode(&bytes[..got]) {
            Ok(header) if header.no == no && kind.is_none_or(|kind| kind == header.kind) => {
                (Some(header), false)
            }
            Err(BadHeader::Version(version)) => {
                let text = format!("{name} has format {version}, this mq reads format {FORMAT_VERSION}");
                return Err(Error::new(ErrorKind::Version, text));
            }
            Ok(_) | Err(BadHeader::Damaged) => (proven(&bytes[..got], no, kind, &file, len)?, true),
        };
        let kind = header.map(|header| header.kind).or(kind).unwrap_or(FileKind::Log);
        let index = if header.is_some() { file_index::read_index(&file, len).map_err(failed)? } else { None };
        Ok(Some(Self { no, kind, header, is_header_damaged, file, len, index }))
    }

    /// Byte at which the frames end, as far as the file itself says.
    pub(crate) fn frames_end(&self) -> u64 {
        self.index.as_ref().map_or(self.len, |(footer, _)| footer.frames_end)
    }

    /// The place of a file among those that are read in order: log files by their positions, then clean
    /// files.
    pub(crate) fn order(&self) -> (u32, LogPos, u64) {
        (self.kind as u32, self.header.map_or(LogPos::MAX, |header| header.base), self.no.0)
    }
}

/// The contents of a damaged header, if a frame proves them right.
fn proven(
    bytes: &[u8],
    no: FileNo,
    kind: Option<FileKind>,
    file: &Arc<dyn File>,
    len: u64,
) -> Result<Option<FileHeader>> {
    let Some(raw) = FileHeader::decode_unchecked(bytes) else { return Ok(None) };
    let clean = FileHeader { kind: FileKind::Clean, no, base: LogPos(0), ..raw };
    let log = FileHeader { kind: FileKind::Log, no, ..raw };
    let mut tries = vec![log, clean];
    tries.retain(|header| kind.is_none_or(|kind| kind == header.kind));
    for header in tries {
        // Positions are counted from the base: they must not run out within the file.
        if header.base.0.checked_add(len).is_none() {
            continue;
        }
        let mut scan = Scanner::new(file, header, FILE_HEADER_BYTES, len);
        if matches!(scan.next()?, Scanned::Frame(..) | Scanned::BadPayload(..))
            || scan.resync(FILE_HEADER_BYTES)?
        {
            return Ok(Some(header));
        }
    }
    Ok(None)
}

/// Damage in `unreadable` log files, which have no header to read them by: all are damaged but one that
/// stands after the `newest` readable one, whose first write a crash cut short. `order` has the numbers of
/// the files in the order of their positions; without a manifest, their own order must do. `end` is where the
/// readable log ends.
pub(crate) fn damaged_headers(
    unreadable: &[FileNo],
    readable: &[FileNo],
    order: Option<&[FileNo]>,
    end: LogPos,
    synced_to: LogPos,
) -> Vec<FileNo> {
    // A file written anew has a higher number in an old place.
    let places: Option<BTreeMap<FileNo, u64>> =
        order.map(|order| (0..).zip(order).map(|(at, no)| (*no, at)).collect());
    let place = |no: &FileNo| places.as_ref().map_or(Some(no.0), |places| places.get(no).copied());
    let newest = readable.iter().map(place).max().flatten();
    let is_damage = |no: &&FileNo| place(no) < newest || end < synced_to;
    unreadable.iter().filter(is_damage).copied().collect()
}

/// Whether log file `no`, which is not there, held nothing: after a clean stop, one that stands after all
/// others was made ahead of its need. Had it held anything, the log would end before its checkpoint, which is
/// damage.
pub(crate) fn held_nothing(no: FileNo, manifest: &Manifest, readable: &[FileNo]) -> bool {
    let place = |no: &FileNo| manifest.files.iter().position(|(other, _)| other == no);
    manifest.clean_stop && place(&no) > readable.iter().map(place).max().flatten()
}

/// A file as [`LogScan`] reads it.
pub(crate) struct Part {
    pub(crate) header: FileHeader,
    pub(crate) file: Arc<dyn File>,
    /// Byte up to which frames are looked for.
    pub(crate) until: u64,
    pub(crate) has_index: bool,
    /// Frames that other threads have prefetched.
    pub(crate) prefetched: Frames,
}

/// Frames and damage in the files, in order.
pub(crate) enum Found {
    /// The next file does not begin where the log ended. `is_tail`: nothing from there on was known fsync'd.
    Gap { from: LogPos, to: LogPos, is_tail: bool },
    /// A file begins. [`LogScan::skip`] passes over its frames.
    File,
    /// A whole frame at this byte of the file; [`LogScan::payload`] has the rest.
    Frame { at: u64, frame: Header },
    /// A place that is not as it was written, up to the next whole header at `until`, or the end. `frame` is
    /// what stood there, where its header is whole. `is_tail`: nothing from there on was known fsync'd.
    Bad { at: u64, until: u64, frame: Option<Header>, is_tail: bool },
    /// The file's frames end at this byte.
    FileEnd { at: u64 },
    /// All files are read.
    End,
}

/// Reads log files, in the order of their positions, and then clean files, once.
pub(crate) struct LogScan {
    parts: Vec<Part>,
    /// Index of the part that is being read.
    part: usize,
    stage: Stage,
    scanner: Option<Scanner>,
    /// Byte of the file where the next frame is looked for.
    at: u64,
    /// Log position below which files need not follow each other.
    from: LogPos,
    /// Position at which the next log file must begin, if it is known.
    expected: Option<LogPos>,
    synced_to: LogPos,
    /// Whether `synced_to` is known of all frames.
    has_looked_ahead: bool,
    /// The payload of a frame that was prefetched.
    payload: Vec<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Before,
    Begin,
    Frames,
    After,
}

impl LogScan {
    /// Begins with `parts`. The log is whole up to `from`, and known fsync'd up to `synced_to`; `expected` is
    /// where the first file after `from` must begin, if that is known.
    pub(crate) fn new(parts: Vec<Part>, from: LogPos, expected: Option<LogPos>, synced_to: LogPos) -> Self {
        Self {
            parts,
            part: 0,
            stage: Stage::Before,
            scanner: None,
            at: FILE_HEADER_BYTES,
            from,
            expected,
            synced_to,
            has_looked_ahead: false,
            payload: Vec::new(),
        }
    }

    /// Index of the part that the last [`Found`] is about.
    pub(crate) fn part(&self) -> usize {
        self.part
    }

    /// Byte of the file up to where it is read.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Greatest position known fsync'd, as far as it is read.
    pub(crate) fn synced_to(&self) -> LogPos {
        self.synced_to
    }

    /// The next thing.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn next(&mut self) -> Result<Found> {
        if self.stage == Stage::After {
            self.part += 1;
            self.stage = Stage::Before;
        }
        let Some(part) = self.parts.get_mut(self.part) else { return Ok(Found::End) };
        let header = part.header;
        let is_log = header.kind == FileKind::Log;
        if self.stage == Stage::Before {
            self.stage = Stage::Begin;
            self.at = FILE_HEADER_BYTES;
            let expected = self.expected.filter(|expected| header.base != *expected);
            if let Some(from) = expected.filter(|_| is_log && header.base > self.from) {
                self.look_ahead()?;
                return Ok(Found::Gap { from, to: header.base, is_tail: from >= self.synced_to });
            }
        }
        if self.stage == Stage::Begin {
            self.stage = Stage::Frames;
            self.scanner = None;
            return Ok(Found::File);
        }
        if let Some((at, frame)) = part.prefetched.next() {
            return Ok(self.frame(at, frame));
        }
        let until = part.until;
        let scanner = self.scanner.get_or_insert_with(|| Scanner::new(&part.file, header, self.at, until));
        let (at, frame) = match scanner.next()? {
            Scanned::End => return Ok(self.end_file(until)),
            Scanned::Frame(at, frame) => return Ok(self.frame(at, frame)),
            Scanned::BadPayload(at, frame) => (at, Some(frame)),
            Scanned::Bad(at) => (at, None),
        };
        // The next file goes on here: what stands here is an index whose writing was cut short.
        if frame.is_none()
            && is_log
            && !self.parts[self.part].has_index
            && self.is_next_base(header.position(at))
        {
            return Ok(self.end_file(at));
        }
        if scanner_at(&self.scanner) == at
            && let Some(scanner) = &mut self.scanner
        {
            scanner.resync(at)?;
        }
        self.at = scanner_at(&self.scanner);
        // Its header is whole, so what it says of others holds.
        frame.iter().for_each(|frame| self.raise(frame));
        if is_log {
            self.look_ahead()?;
        }
        let is_tail = is_log && header.position(at) >= self.synced_to;
        Ok(Found::Bad { at, until: self.at, frame, is_tail })
    }

    /// The payload of the frame that was just found.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn payload(&mut self, at: u64, frame: &Header) -> Result<&[u8]> {
        if let Some(scanner) = &mut self.scanner {
            return scanner.payload(at, frame);
        }
        let Some(part) = self.parts.get(self.part) else { return Ok(&[]) };
        self.payload.resize(frame.payload_len as usize, 0);
        let read = part.file.read_at(&mut self.payload, at + HEADER_BYTES as u64);
        let failed = |e| Error::io(format!("could not read {}", log_name(part.header.no)), e);
        if read.map_err(failed)? < self.payload.len() {
            return Err(failed(std::io::ErrorKind::UnexpectedEof.into()));
        }
        Ok(&self.payload)
    }

    /// Passes over the frames of the file that just began.
    pub(crate) fn skip(&mut self) {
        if let Some(part) = self.parts.get(self.part) {
            let until = part.until;
            self.end_file(until);
        }
    }

    fn frame(&mut self, at: u64, frame: Header) -> Found {
        self.raise(&frame);
        self.at = at + frame.frame_len();
        Found::Frame { at, frame }
    }

    fn end_file(&mut self, at: u64) -> Found {
        let header = self.parts[self.part].header;
        if header.kind == FileKind::Log {
            self.expected = Some(header.position(at));
        }
        self.at = at;
        self.stage = Stage::After;
        Found::FileEnd { at }
    }

    fn is_next_base(&self, position: LogPos) -> bool {
        let next = self.parts.get(self.part + 1).map(|part| part.header);
        next.is_some_and(|next| next.kind == FileKind::Log && next.base == position)
    }

    fn raise(&mut self, frame: &Header) {
        if self.parts[self.part].header.kind == FileKind::Log {
            self.synced_to = self.synced_to.max(frame.synced_to);
        }
    }

    /// Raises `synced_to` to what all frames from here on say.
    fn look_ahead(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.has_looked_ahead, true) {
            return Ok(());
        }
        let mut at = self.at;
        for part in self.parts[self.part..].iter().filter(|part| part.header.kind == FileKind::Log) {
            let mut scanner = Scanner::new(&part.file, part.header, at, part.until);
            loop {
                let (at, frame) = match scanner.next()? {
                    Scanned::End => break,
                    Scanned::Frame(at, frame) | Scanned::BadPayload(at, frame) => (at, Some(frame)),
                    Scanned::Bad(at) => (at, None),
                };
                if let Some(frame) = frame {
                    self.synced_to = self.synced_to.max(frame.synced_to);
                }
                if scanner.at() == at {
                    scanner.resync(at)?;
                }
            }
            at = FILE_HEADER_BYTES;
        }
        Ok(())
    }
}

fn scanner_at(scanner: &Option<Scanner>) -> u64 {
    scanner.as_ref().map_or(0, Scanner::at)
}
