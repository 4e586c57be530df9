//! The index at the end of a sealed file: which offsets of which topics it holds, and where.
//!
//! ```text
//! index:   table, runs of each topic, footer
//! table:   u32 topics, then for each: u32 topic, u32 spans, u32 runs, u32 CRC-32C of its runs,
//!          u64 where its runs stand in the file, u64 bytes of its frames, (u64 first, u64 last) * spans
//! run:     u64 where it stands in the file, u32 length, u64 first offset
//! footer:  u64 where the frames end and the table begins, u64 table length, u32 CRC-32C of the table,
//!          u32 CRC-32C of footer bytes 0..20, u8[8] "mqindex1"
//! ```
//!
//! A span is a dense range of offsets; a run is some neighbouring frames of one topic, offsets rising, at
//! most 64 KiB unless one frame is larger. The table is read at open, a topic's runs when the topic is read.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::message::Offset;
use crate::store::disk::File;
use crate::store::format::fields::{Field, get_count};
use crate::store::format::file::FILE_HEADER_BYTES;
use crate::store::format::numbers::TopicNo;

/// Bytes of the footer.
pub(crate) const FOOTER_BYTES: u64 = 32;
/// Longest run, unless one frame is longer.
pub(crate) const RUN_BYTES_MAX: u64 = 64 * 1024;

const FOOTER_MAGIC: &[u8; 8] = b"mqindex1";
const RUN_BYTES: usize = 20;

/// A run of neighbouring frames of one topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Byte of the file at which the first frame begins.
    pub(crate) at: u64,
    /// Bytes of the frames.
    pub(crate) len: u64,
    /// Offset of the first record.
    pub(crate) first: Offset,
}

/// One topic's part of a file while the file is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TopicRuns {
    /// Dense ranges of offsets, first and last, in the order they were written.
    pub(crate) spans: Vec<(Offset, Offset)>,
    /// The runs they stand in.
    pub(crate) runs: Vec<Run>,
    /// Bytes of the frames.
    pub(crate) bytes: u64,
}

impl TopicRuns {
    /// Notes a frame of `len` bytes at `at` with the offsets `first` to `last`.
    pub(crate) fn add(&mut self, at: u64, len: u64, first: Offset, last: Offset) {
        self.bytes += len;
        match self.spans.last_mut() {
            Some(span) if span.1.plus(1) == first => span.1 = last,
            _ => self.spans.push((first, last)),
        }
        match self.runs.last_mut() {
            Some(run) if run.at + run.len == at && run.len + len <= RUN_BYTES_MAX && run.first < first => {
                run.len += len;
            }
            _ => self.runs.push(Run { at, len, first }),
        }
    }
}

/// One topic's line of a file's table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TableEntry {
    /// Dense ranges of offsets, first and last.
    pub(crate) spans: Vec<(Offset, Offset)>,
    /// Byte of the file at which its runs begin.
    pub(crate) runs_at: u64,
    /// Number of runs.
    pub(crate) runs: u32,
    /// CRC-32C of the runs' bytes.
    pub(crate) runs_crc: u32,
    /// Bytes of the frames.
    pub(crate) bytes: u64,
}

impl TableEntry {
    /// All of it but the spans, which may be many.
    pub(crate) fn without_spans(&self) -> Self {
        let Self { runs_at, runs, runs_crc, bytes, .. } = *self;
        Self { spans: Vec::new(), runs_at, runs, runs_crc, bytes }
    }

    /// Bytes of the encoded runs.
    pub(crate) fn runs_len(&self) -> usize {
        self.runs as usize * RUN_BYTES
    }

    /// Reads the runs from their bytes. `None` if they are damaged.
    pub(crate) fn decode_runs(&self, bytes: &[u8]) -> Option<Vec<Run>> {
        if bytes.len() != self.runs_len() || crc32c::crc32c(bytes) != self.runs_crc {
            return None;
        }
        let (mut rest, mut runs) = (bytes, Vec::with_capacity(self.runs as usize));
        while !rest.is_empty() {
            let (at, len) = (u64::get(&mut rest)?, u64::from(u32::get(&mut rest)?));
            runs.push(Run { at, len, first: Offset(u64::get(&mut rest)?) });
        }
        Some(runs)
    }
}

/// The tables of a file, by topic number.
pub(crate) type Table = BTreeMap<TopicNo, TableEntry>;

/// Encodes the index of a file whose frames end at `frames_end`; returns its bytes and its table.
pub(crate) fn encode(topics: &BTreeMap<TopicNo, TopicRuns>, frames_end: u64) -> (Vec<u8>, Table) {
    let table_len: usize = 4 + topics.values().map(|t| 32 + t.spans.len() * 16).sum::<usize>();
    let mut runs = Vec::new();
    let mut table = Table::new();
    for (&topic, part) in topics {
        let from = runs.len();
        // Frames over 4 GiB do not exist (PAYLOAD_BYTES_MAX), and longer runs are never made.
        for run in &part.runs {
            run.at.put(&mut runs);
            (run.len as u32).put(&mut runs);
            run.first.0.put(&mut runs);
        }
        let entry = TableEntry {
            spans: part.spans.clone(),
            runs_at: frames_end + (table_len + from) as u64,
            runs: part.runs.len() as u32,
            runs_crc: crc32c::crc32c(&runs[from..]),
            bytes: part.bytes,
        };
        table.insert(topic, entry);
    }
    let mut out = Vec::with_capacity(table_len + runs.len() + FOOTER_BYTES as usize);
    (table.len() as u32).put(&mut out);
    for (&topic, entry) in &table {
        topic.put(&mut out);
        (entry.spans.len() as u32).put(&mut out);
        entry.runs.put(&mut out);
        entry.runs_crc.put(&mut out);
        entry.runs_at.put(&mut out);
        entry.bytes.put(&mut out);
        for (first, last) in &entry.spans {
            first.0.put(&mut out);
            last.0.put(&mut out);
        }
    }
    let table_crc = crc32c::crc32c(&out);
    out.extend_from_slice(&runs);
    let footer_at = out.len();
    frames_end.put(&mut out);
    (table_len as u64).put(&mut out);
    table_crc.put(&mut out);
    let footer_crc = crc32c::crc32c(&out[footer_at..]);
    footer_crc.put(&mut out);
    out.extend_from_slice(FOOTER_MAGIC);
    (out, table)
}

/// The ends of a file's frames and of its table, as its footer has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Footer {
    /// Byte at which the frames end and the table begins.
    pub(crate) frames_end: u64,
    /// Bytes of the table.
    pub(crate) table_len: u64,
    table_crc: u32,
}

impl Footer {
    /// Reads the footer of a file of `file_len` bytes from its last 32. `None` if there is none.
    pub(crate) fn decode(bytes: &[u8], file_len: u64) -> Option<Self> {
        if bytes.len() as u64 != FOOTER_BYTES || &bytes[24..] != FOOTER_MAGIC {
            return None;
        }
        let mut rest = bytes;
        let footer = Self {
            frames_end: u64::get(&mut rest)?,
            table_len: u64::get(&mut rest)?,
            table_crc: u32::get(&mut rest)?,
        };
        let whole = crc32c::crc32c(&bytes[..20]) == u32::get(&mut rest)?;
        let fits = footer.frames_end.checked_add(footer.table_len)?.checked_add(FOOTER_BYTES)? <= file_len;
        (whole && fits).then_some(footer)
    }

    /// Reads the table from its bytes. `None` if it is damaged.
    pub(crate) fn decode_table(&self, bytes: &[u8]) -> Option<Table> {
        if crc32c::crc32c(bytes) != self.table_crc {
            return None;
        }
        let mut rest = bytes;
        let mut table = Table::new();
        for _ in 0..get_count(&mut rest, 32)? {
            let topic = TopicNo::get(&mut rest)?;
            let spans_count = u32::get(&mut rest)? as usize;
            let (runs, runs_crc) = (u32::get(&mut rest)?, u32::get(&mut rest)?);
            let (runs_at, bytes) = (u64::get(&mut rest)?, u64::get(&mut rest)?);
            if spans_count.checked_mul(16)? > rest.len() {
                return None;
            }
            let mut spans = Vec::with_capacity(spans_count);
            for _ in 0..spans_count {
                spans.push((Offset(u64::get(&mut rest)?), Offset(u64::get(&mut rest)?)));
            }
            table.insert(topic, TableEntry { spans, runs_at, runs, runs_crc, bytes });
        }
        rest.is_empty().then_some(table)
    }
}

/// Reads a file's index. `None` if it has none that is whole.
pub(crate) fn read_index(file: &Arc<dyn File>, len: u64) -> std::io::Result<Option<(Footer, Table)>> {
    let Some(footer_at) = len.checked_sub(FOOTER_BYTES).filter(|at| *at >= FILE_HEADER_BYTES) else {
        return Ok(None);
    };
    let mut bytes = [0; FOOTER_BYTES as usize];
    if file.read_at(&mut bytes, footer_at)? < bytes.len() {
        return Ok(None);
    }
    let Some(footer) = Footer::decode(&bytes, len).filter(|f| f.frames_end >= FILE_HEADER_BYTES) else {
        return Ok(None);
    };
    let mut table = vec![0; footer.table_len as usize];
    let got = file.read_at(&mut table, footer.frames_end)?;
    Ok(footer.decode_table(&table[..got]).map(|table| (footer, table)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_index_comes_back_as_it_was_written() {
        let mut topics = BTreeMap::<TopicNo, TopicRuns>::new();
        topics.entry(TopicNo(1)).or_default().add(64, 100, Offset(0), Offset(9));
        topics.entry(TopicNo(1)).or_default().add(164, 100, Offset(10), Offset(19));
        topics.entry(TopicNo(2)).or_default().add(264, 50, Offset(5), Offset(5));
        topics.entry(TopicNo(1)).or_default().add(314, 10, Offset(30), Offset(30));
        let (bytes, table) = encode(&topics, 324);
        let file_len = 324 + bytes.len() as u64;
        let footer = Footer::decode(&bytes[bytes.len() - 32..], file_len).unwrap();
        assert_eq!(footer.frames_end, 324);
        let read = footer.decode_table(&bytes[..footer.table_len as usize]).unwrap();
        assert_eq!(read, table);
        assert_eq!(read[&TopicNo(1)].spans, [(Offset(0), Offset(19)), (Offset(30), Offset(30))]);
        let entry = &read[&TopicNo(1)];
        let from = (entry.runs_at - 324) as usize;
        let runs = entry.decode_runs(&bytes[from..from + entry.runs_len()]).unwrap();
        assert_eq!(runs, topics[&TopicNo(1)].runs);
        assert_eq!(runs.len(), 2);
    }

    proptest! {
        /// I8: any bytes are read or refused.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let footer = Footer { frames_end: 0, table_len: bytes.len() as u64, table_crc: crc32c::crc32c(&bytes) };
            let _ = footer.decode_table(&bytes);
            let _ = Footer::decode(&bytes, 1000);
        }
    }
}
