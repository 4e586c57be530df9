//! Writes a clean file: data frames with the offsets and times they had, then the index.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::disk::{Disk, File, OpenMode};
use crate::store::format::file::{FileHeader, FileKind, log_name};
use crate::store::format::file_index::{self, TopicRuns};
use crate::store::format::frame::{HEADER_BYTES, Header};

/// Bytes that are written at a time.
const WRITE_BYTES: usize = 1 << 20;

/// A clean file on its way to the disk. Nothing names it before it is finished.
pub(crate) struct CleanFile {
    file: Arc<dyn File>,
    header: FileHeader,
    /// Where the buffer goes in the file.
    at: u64,
    buffer: Vec<u8>,
    topics: BTreeMap<u32, TopicRuns>,
}

impl CleanFile {
    /// Begins file `no`.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub(crate) fn create(disk: &dyn Disk, no: u64) -> Result<Self> {
        let header = FileHeader { kind: FileKind::Clean, no, base: 0, salt: fastrand::u64(..) };
        let file = disk.open(&log_name(no), OpenMode::Create).map_err(failed(no))?;
        Ok(Self { file, header, at: 0, buffer: header.encode().to_vec(), topics: BTreeMap::new() })
    }

    /// Adds a data frame, under its own place.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub(crate) fn put(&mut self, frame: &Header, payload: &[u8]) -> Result<()> {
        let at = self.at + self.buffer.len() as u64;
        self.buffer.extend_from_slice(&frame.encode(self.header.salt, self.header.position(at)));
        self.buffer.extend_from_slice(payload);
        let len = (HEADER_BYTES + payload.len()) as u64;
        self.topics.entry(frame.topic).or_default().add(at, len, frame.first, frame.last());
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Writes the index and fsyncs. Returns the file's number.
    ///
    /// # Errors
    /// `Full`, `Io`.
    pub(crate) fn finish(mut self) -> Result<u64> {
        self.flush()?;
        (self.buffer, _) = file_index::encode(&self.topics, self.at);
        self.flush()?;
        self.file.sync().map_err(failed(self.header.no))?;
        Ok(self.header.no)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&mut [IoSlice::new(&self.buffer)], self.at).map_err(failed(self.header.no))?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

fn failed(no: u64) -> impl Fn(std::io::Error) -> Error {
    move |e| Error::io(format!("could not write {}", log_name(no)), e)
}
