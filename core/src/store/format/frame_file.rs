//! A log file that is filled with frames which stood in others, and named only when it is whole: what the
//! cleaner keeps, what a repair salvages, and a file that is written anew.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::disk::{Disk, File};
use crate::store::format::file::{FileHeader, FileKind, FileNo, log_name};
use crate::store::format::file_index::{self, Table, TopicRuns};
use crate::store::format::frame::{Header, Kind};
use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::TopicNo;
use crate::store::format::own;

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A file on its way to the disk. Dropped before it is finished, it is removed.
pub(crate) struct FrameFile<'a> {
    disk: &'a dyn Disk,
    file: Arc<dyn File>,
    header: FileHeader,
    /// Byte of the file that the buffer goes to.
    at: u64,
    buffer: Vec<u8>,
    topics: BTreeMap<TopicNo, TopicRuns>,
    is_finished: bool,
}

/// A file that is whole and fsync'd; the manifest does not name it yet.
pub(crate) struct Filled {
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: FileHeader,
    /// Byte at which the frames end.
    pub(crate) frames_end: u64,
    /// The file's index, where it has one.
    pub(crate) table: Table,
}

impl<'a> FrameFile<'a> {
    /// Begins a file for what the cleaner or a repair keeps, under the next free number.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub(crate) fn clean(disk: &'a dyn Disk, take_no: impl FnMut() -> FileNo) -> Result<Self> {
        Self::like(
            disk,
            take_no,
            FileHeader { kind: FileKind::Clean, no: FileNo(0), base: LogPos(0), salt: fastrand::u64(..) },
        )
    }

    /// Begins a file that differs from `header` in its number: frames keep their positions.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub(crate) fn like(
        disk: &'a dyn Disk,
        take_no: impl FnMut() -> FileNo,
        header: FileHeader,
    ) -> Result<Self> {
        let (no, file) = own::create_numbered(disk, log_name, take_no)?;
        let header = FileHeader { no, ..header };
        let (buffer, topics) = (Vec::new(), BTreeMap::new());
        let mut new = Self { disk, file, header, at: 0, buffer, topics, is_finished: false };
        let bytes = header.encode();
        // Fsync'd before the rest is written: a power loss leaves nothing that does not show whose it is.
        new.file.write_at(&mut [IoSlice::new(&bytes)], 0).map_err(new.failed())?;
        new.sync()?;
        new.at = bytes.len() as u64;
        Ok(new)
    }

    /// Adds a frame, which gets the checksum of its new place.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub(crate) fn put(&mut self, frame: &Header, payload: &[u8]) -> Result<()> {
        let at = self.at + self.buffer.len() as u64;
        self.buffer.extend_from_slice(&frame.encode(self.header.salt, self.header.position(at)));
        self.buffer.extend_from_slice(payload);
        if frame.kind == Kind::Data {
            let runs = self.topics.entry(frame.topic).or_default();
            runs.add(at, frame.frame_len(), frame.first, frame.last());
        }
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Whether it holds no messages.
    pub(crate) fn has_no_messages(&self) -> bool {
        self.topics.is_empty()
    }

    /// Ends the frames, with the index if the file `is_sealed`, and fsyncs.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub(crate) fn finish(mut self, is_sealed: bool) -> Result<Filled> {
        self.flush()?;
        let frames_end = self.at;
        let mut table = Table::new();
        if is_sealed {
            (self.buffer, table) = file_index::encode(&self.topics, frames_end);
            self.flush()?;
        }
        self.sync()?;
        self.is_finished = true;
        Ok(Filled { file: self.file.clone(), header: self.header, frames_end, table })
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&mut [IoSlice::new(&self.buffer)], self.at).map_err(self.failed())?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let no = self.header.no;
        self.file.sync().map_err(|e| Error::io(format!("could not fsync {}", log_name(no)), e))
    }

    fn failed(&self) -> impl Fn(io::Error) -> Error + use<> {
        let no = self.header.no;
        move |e| Error::io(format!("could not write {}", log_name(no)), e)
    }
}

impl Drop for FrameFile<'_> {
    fn drop(&mut self) {
        if !self.is_finished {
            // Nothing names it: if it can't be removed now, it is at the next open.
            let _ = self.disk.remove(&log_name(self.header.no));
        }
    }
}
