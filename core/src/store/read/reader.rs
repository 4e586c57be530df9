//! Reads frames from log files: a topic's messages from an offset on, and whole files in order.

use std::io;
use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, ErrorKind, Result};
use crate::message::Offset;
use crate::store::disk::File;
use crate::store::format::file::FileHeader;
use crate::store::format::frame::{HEADER_BYTES, Header, Kind, PAYLOAD_BYTES_MAX, Record};
use crate::store::format::numbers::TopicNo;
use crate::store::memory::frame::Frame;
use crate::store::memory::marks::Marks;
use crate::store::read::catalog::Catalog;
use crate::store::read::record_index::RecordIndexes;

/// Runs closer together than this are read in one go, with what lies between.
const JOIN_BYTES: u64 = 64 * 1024;

/// Frames of one topic in offset order. Empty if there is nothing at or after the asked offset.
pub(crate) type Frames = Vec<Frame>;

/// Reads the frames of `topic` that hold `from` and what follows, up to about `bytes_max` (at least one
/// frame, if there is one). With `nowait`, `None` if a disk would have to be waited for. Where the messages
/// may be delivered again in another order, `indexes` get the places of their records, so that the run is
/// not read whole once more for that.
///
/// # Errors
/// `Io`; `Damaged` if what the catalog promises does not stand there.
pub(crate) fn read(
    catalog: &Catalog,
    indexes: Option<&RecordIndexes>,
    topic: TopicNo,
    from: Offset,
    bytes_max: u64,
    nowait: bool,
) -> Result<Option<Frames>> {
    let Some(place) = catalog.place(topic, from) else { return Ok(Some(Vec::new())) };
    let fetch = |buf: &mut [u8], at: u64| match fetch(&place.file, &place.header, buf, at, nowait) {
        Ok(true) => Ok(()),
        Ok(false) => Err(would_block()),
        Err(e) => Err(e),
    };
    let read = || {
        let runs = place.runs(fetch)?;
        let mut frames: Frames = Vec::new();
        let mut rest = &runs[..];
        let mut taken = 0;
        while let Some((start, _)) = rest.split_first() {
            let (at, mut end, mut joined) = (start.at, start.at + start.len, 1);
            for run in &rest[1..] {
                let near = run.at >= end && run.at - end <= JOIN_BYTES;
                if !near || run.first >= place.until || run.at + run.len - at > bytes_max {
                    break;
                }
                end = run.at + run.len;
                joined += 1;
            }
            let mut bytes = vec![0; (end - at) as usize];
            fetch(&mut bytes, at)?;
            let bytes = Bytes::from(bytes);
            for run in &rest[..joined] {
                let part = bytes.slice((run.at - at) as usize..(run.at - at + run.len) as usize);
                if let Some(indexes) = indexes {
                    indexes.index(&place.header, topic, run, &part)?;
                }
                parse_run(&place.header, topic, part, run.at, &mut frames)?;
            }
            taken += end - at;
            rest = &rest[joined..];
            let enough = frames.iter().any(|f| f.last() >= place.from && f.first < place.until);
            if (enough && taken >= bytes_max) || rest.first().is_some_and(|run| run.first >= place.until) {
                break;
            }
        }
        frames.retain(|f| f.last() >= place.from && f.first < place.until);
        if frames.first().is_none_or(|f| f.first > place.from) {
            return Err(damaged(&place.header, FILE_START, "messages named by the index are not there"));
        }
        Ok(frames)
    };
    match read() {
        Ok(frames) => Ok(Some(frames)),
        Err(e) if nowait && is_would_block(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

const FILE_START: u64 = 0;

/// Fills `buf` from the place `at` of a log file. With `nowait`, `false` if a disk would have to be waited
/// for.
///
/// # Errors
/// `Io`; `Damaged` if the file ends before.
pub(crate) fn fetch(
    file: &Arc<dyn File>,
    header: &FileHeader,
    buf: &mut [u8],
    at: u64,
    nowait: bool,
) -> Result<bool> {
    let got = if nowait { file.read_at_nowait(buf, at) } else { file.read_at(buf, at) };
    match got {
        Ok(n) if n == buf.len() => Ok(true),
        // Short while not waiting: part of it is not in the page cache.
        Ok(_) if nowait => Ok(false),
        Ok(_) => Err(damaged(header, at, "the file is too short")),
        Err(e) if nowait && e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(Error::io(format!("could not read log file {}", header.no), e)),
    }
}

/// The frame of `topic` at the start of `bytes`, which stand at `at` of a log file: its header and its
/// payload.
///
/// # Errors
/// `Damaged` if no whole data frame of the topic stands there.
pub(crate) fn whole_frame<'a>(
    header: &FileHeader,
    topic: TopicNo,
    bytes: &'a [u8],
    at: u64,
) -> Result<(Header, &'a [u8])> {
    let frame = Header::decode(bytes, header.salt, header.position(at))
        .filter(|f| f.kind == Kind::Data && f.topic == topic && f.count > 0)
        .ok_or_else(|| damaged(header, at, "no frame of the topic stands there"))?;
    let payload = bytes.get(HEADER_BYTES..frame.frame_len() as usize);
    let payload = payload.filter(|payload| frame.payload_is_whole(payload));
    let payload = payload.ok_or_else(|| damaged(header, at, "the frame's payload is damaged"))?;
    Ok((frame, payload))
}

/// The frames of a run that stands at `at`.
fn parse_run(header: &FileHeader, topic: TopicNo, run: Bytes, at: u64, out: &mut Frames) -> Result<()> {
    let mut done = 0;
    while done < run.len() {
        let (frame, payload) = whole_frame(header, topic, &run[done..], at + done as u64)?;
        let end = done + HEADER_BYTES + payload.len();
        out.push(Frame {
            first: frame.first,
            count: frame.count,
            time: frame.time,
            deferred: true,
            has_ids: frame.has_ids,
            payload: run.slice(done + HEADER_BYTES..end),
            marks: Marks::default(),
        });
        done = end;
    }
    Ok(())
}

/// The records of a frame with their offsets, from `from` on.
pub(crate) fn records(frame: &Frame, from: Offset) -> impl Iterator<Item = (Offset, Record<'_>)> {
    let mut rest = &frame.payload[..];
    let mut offset = frame.first;
    std::iter::from_fn(move || {
        let record = Record::parse(rest)?;
        rest = &rest[record.len..];
        let at = offset;
        offset = offset.plus(1);
        Some((at, record))
    })
    .skip_while(move |(at, _)| *at < from)
}

pub(crate) fn damaged(header: &FileHeader, at: u64, what: &str) -> Error {
    Error::new(ErrorKind::Damaged, format!("log file {} is damaged at byte {at}: {what}", header.no))
}

fn would_block() -> Error {
    Error::io("not in the page cache", io::ErrorKind::WouldBlock.into())
}

fn is_would_block(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|s| s.downcast_ref::<io::Error>())
        .is_some_and(|e| e.kind() == io::ErrorKind::WouldBlock)
}

/// Walks the frames of a file in order, in blocks of memory that do not grow with the file.
pub(crate) struct Scanner {
    file: Arc<dyn File>,
    header: FileHeader,
    file_len: u64,
    /// Byte at which the next frame is looked for.
    at: u64,
    /// Bytes of the file from `buffer_at` on.
    buffer: Vec<u8>,
    buffer_at: u64,
}

/// The bytes at a place.
pub(crate) enum Scanned {
    /// A whole frame: where it stands and its header; [`Scanner::payload`] has the rest.
    Frame(u64, Header),
    /// A header whose payload is not whole.
    BadPayload(u64, Header),
    /// No frame.
    Bad(u64),
    /// The end of the file.
    End,
}

const BLOCK_BYTES: u64 = 1 << 20;

impl Scanner {
    /// Walks `file` from `at` to `until`.
    pub(crate) fn new(file: &Arc<dyn File>, header: FileHeader, at: u64, until: u64) -> Self {
        Self { file: file.clone(), header, file_len: until, at, buffer: Vec::new(), buffer_at: at }
    }

    /// Byte at which the next frame is looked for.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// The next frame.
    ///
    /// # Errors
    /// `Io`.
    pub(crate) fn next(&mut self) -> Result<Scanned> {
        if self.at >= self.file_len {
            return Ok(Scanned::End);
        }
        let at = self.at;
        let position = self.header.position(at);
        let salt = self.header.salt;
        let head = self.bytes(at, HEADER_BYTES as u64)?;
        let Some(frame) = Header::decode(head, salt, position) else { return Ok(Scanned::Bad(at)) };
        if frame.payload_len as usize > PAYLOAD_BYTES_MAX || at + frame.frame_len() > self.file_len {
            return Ok(Scanned::BadPayload(at, frame));
        }
        let bytes = self.bytes(at, frame.frame_len())?;
        let whole = bytes.len() as u64 == frame.frame_len()
            && frame.payload_is_whole(&bytes[HEADER_BYTES..])
            && (frame.kind != Kind::Data || frame.count > 0);
        self.at = at + frame.frame_len();
        Ok(if whole { Scanned::Frame(at, frame) } else { Scanned::BadPayload(at, frame) })
    }

    /// The payload of the frame that [`Scanner::next`] just gave.
    pub(crate) fn payload(&mut self, at: u64, header: &Header) -> Result<&[u8]> {
        let bytes = self.bytes(at, header.frame_len())?;
        Ok(bytes.get(HEADER_BYTES..).unwrap_or_default())
    }

    /// Looks for the next frame header after the place `at`, and goes on from there. `false` if there is
    /// none.
    pub(crate) fn resync(&mut self, at: u64) -> Result<bool> {
        let (header, file_len) = (self.header, self.file_len);
        let mut from = at + 1;
        while from + HEADER_BYTES as u64 <= file_len {
            let block = self.bytes(from, BLOCK_BYTES)?;
            let places = block.len().saturating_sub(HEADER_BYTES - 1);
            if places == 0 {
                break;
            }
            let found = (0..places).find(|&i| {
                Header::decode(&block[i..], header.salt, header.position(from + i as u64)).is_some()
            });
            if let Some(i) = found {
                self.at = from + i as u64;
                return Ok(true);
            }
            from += places as u64;
        }
        self.at = file_len;
        Ok(false)
    }

    /// Up to `len` bytes at `at`, fewer at the end.
    fn bytes(&mut self, at: u64, len: u64) -> Result<&[u8]> {
        let len = len.min(self.file_len - at);
        let buffered = self.buffer_at..self.buffer_at + self.buffer.len() as u64;
        if at < buffered.start || at + len > buffered.end {
            let want = len.max(BLOCK_BYTES).min(self.file_len - at) as usize;
            self.buffer.resize(want, 0);
            self.buffer_at = at;
            let got = self
                .file
                .read_at(&mut self.buffer, at)
                .map_err(|e| Error::io(format!("could not read log file {}", self.header.no), e))?;
            self.buffer.truncate(got);
        }
        let from = (at - self.buffer_at) as usize;
        let to = (from + len as usize).min(self.buffer.len());
        Ok(&self.buffer[from..to])
    }
}
