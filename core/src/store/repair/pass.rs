//! Findings of one pass over all files, carried from file to file.

use crate::store::format::file::{FileHeader, FileKind, FileNo, log_name};
use crate::store::format::frame::{Header, Kind};
use crate::store::format::log_pos::LogPos;
use crate::store::repair::damage::Tail;
use crate::store::repair::folder::Surveyed;

/// Called with the bytes read and the bytes of all.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// A place that is not as it was written.
pub(super) struct Bad {
    /// Index of the file.
    pub(super) file: usize,
    pub(super) at: u64,
    /// Byte of the next whole header, or the end.
    pub(super) until: u64,
    pub(super) frame: Option<Header>,
}

/// Findings of a pass.
pub(super) struct Pass<'a> {
    pub(super) counts: Counts<'a>,
    /// Damaged places, to be salvaged after it.
    pub(super) damaged: Vec<Bad>,
    /// Place at which a crash cut the log, once it was met, with what was read before.
    pub(super) tail: Option<Tail>,
    /// Log files before that place.
    pub(super) kept: Vec<FileNo>,
    /// Position of that place, or after the last file.
    pub(super) log_end: LogPos,
    /// Position after the last of the files that begin before the checkpoint.
    pub(super) checked_end: LogPos,
    /// Whether a place of the file being read is damaged.
    pub(super) has_bad: bool,
}

impl<'a> Pass<'a> {
    pub(super) fn new(counts: Counts<'a>) -> Self {
        Self {
            counts,
            damaged: Vec::new(),
            tail: None,
            kept: Vec::new(),
            log_end: LogPos(0),
            checked_end: LogPos(0),
            has_bad: false,
        }
    }

    /// Begins a file.
    pub(super) fn begin(&mut self, file: &Surveyed) {
        self.has_bad = false;
        if self.tail.is_none() && file.kind == FileKind::Log {
            self.kept.push(file.no);
        }
    }

    /// Notes where the log is cut, unless it was cut before.
    pub(super) fn cut(&mut self, file: String, at: u64) {
        self.tail.get_or_insert(self.counts.tail(file, at));
    }

    /// Notes that the log is cut within a file, unless it was cut before.
    pub(super) fn cut_in(&mut self, file: &Surveyed, header: &FileHeader, at: u64) {
        self.has_bad = true;
        if self.tail.is_none() {
            self.cut(log_name(file.no), at);
            self.log_end = header.position(at);
        }
    }

    /// Notes a damaged place.
    pub(super) fn bad(&mut self, place: Bad) {
        self.has_bad = true;
        self.damaged.push(place);
    }
}

/// Progress of reading.
pub(super) struct Counts<'a> {
    done: u64,
    total: u64,
    frames: u64,
    messages: u64,
    progress: Progress<'a>,
}

impl<'a> Counts<'a> {
    pub(super) fn new(total: u64, progress: Progress<'a>) -> Self {
        Self { done: 0, total, frames: 0, messages: 0, progress }
    }

    /// Place at which a crash cut the log, with what was read before.
    fn tail(&self, file: String, at: u64) -> Tail {
        Tail { file, at, frames: self.frames, messages: self.messages }
    }

    /// The place of the cut, with the frames and messages that were read since.
    pub(super) fn ended(&self, begun: Tail) -> Tail {
        let (frames, messages) = (self.frames - begun.frames, self.messages - begun.messages);
        Tail { frames, messages, ..begun }
    }

    pub(super) fn frame(&mut self, frame: &Header) {
        self.frames += 1;
        self.messages += if frame.kind == Kind::Data { u64::from(frame.count) } else { 0 };
    }

    pub(super) fn reached(&mut self, at: u64) {
        (self.progress)(self.done + at, self.total);
    }

    pub(super) fn finish(&mut self, bytes: u64) {
        self.done += bytes;
        (self.progress)(self.done, self.total);
    }
}
