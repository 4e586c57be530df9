//! A log file: its name and header. One kind of file holds the log and what the cleaner keeps of it.
//!
//! ```text
//! file:    header (64 bytes), frames, then, once sealed, the index of `file_index.rs`
//! header (little-endian)
//!  0 u8[8] "libmqlog"
//!  8 u32   format version
//! 12 u32   kind: 1 log, 2 clean
//! 16 u64   file number
//! 24 u64   base: the position of the first frame
//! 32 u64   salt of the frames' CRCs
//! 40 u8[20] zero
//! 60 u32   CRC-32C of bytes 0..60
//! ```

use std::fmt;

use crate::store::format::frame::{u32_at, u64_at};
use crate::store::format::log_pos::LogPos;

/// Bytes before the first frame.
pub(crate) const FILE_HEADER_BYTES: u64 = 64;
/// Version of every file of the folder. A file of another version is refused by name.
pub(crate) const FORMAT_VERSION: u32 = 4;

const MAGIC: &[u8; 8] = b"libmqlog";
/// Far above any position, and far enough below what a `u64` holds to count on from.
const POSITION_MAX: u64 = 1 << 62;

/// Purpose of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FileKind {
    /// A piece of the log: positions run on from file to file.
    Log = 1,
    /// Frames that the cleaner kept: data frames only, grouped by topic; positions start at 0.
    Clean = 2,
}

/// The number of a log file or checkpoint: it makes the file's name, and is never used again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileNo(pub(crate) u64);

impl FileNo {
    /// The number after it.
    pub(crate) fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for FileNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The fixed facts of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FileHeader {
    /// Purpose of the file.
    pub(crate) kind: FileKind,
    /// Its number.
    pub(crate) no: FileNo,
    /// Position of its first frame.
    pub(crate) base: LogPos,
    /// Salt of its frames' CRCs.
    pub(crate) salt: u64,
}

/// The reason why a header could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHeader {
    /// Not whole, or not a header.
    Damaged,
    /// Whole, but of this format version.
    Version(u32),
}

impl FileHeader {
    /// Byte of the file at which the frame at `position` begins.
    pub(crate) fn at(&self, position: LogPos) -> u64 {
        FILE_HEADER_BYTES + (position.0 - self.base.0)
    }

    /// The position of the frame that stands at `at` in the file.
    pub(crate) fn position(&self, at: u64) -> LogPos {
        self.base.plus(at - FILE_HEADER_BYTES)
    }

    /// The header's bytes.
    pub(crate) fn encode(&self) -> [u8; FILE_HEADER_BYTES as usize] {
        let mut out = [0; FILE_HEADER_BYTES as usize];
        out[0..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12..16].copy_from_slice(&(self.kind as u32).to_le_bytes());
        out[16..24].copy_from_slice(&self.no.0.to_le_bytes());
        out[24..32].copy_from_slice(&self.base.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.salt.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..64].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, BadHeader> {
        let bytes = bytes.get(..FILE_HEADER_BYTES as usize).ok_or(BadHeader::Damaged)?;
        if &bytes[..8] != MAGIC || crc32c::crc32c(&bytes[..60]) != u32_at(bytes, 60) {
            return Err(BadHeader::Damaged);
        }
        if u32_at(bytes, 8) != FORMAT_VERSION {
            return Err(BadHeader::Version(u32_at(bytes, 8)));
        }
        let kind = match u32_at(bytes, 12) {
            1 => FileKind::Log,
            2 => FileKind::Clean,
            _ => return Err(BadHeader::Damaged),
        };
        // Whatever a checksum says, no log was ever that long.
        if u64_at(bytes, 24) > POSITION_MAX {
            return Err(BadHeader::Damaged);
        }
        Ok(Self {
            kind,
            no: FileNo(u64_at(bytes, 16)),
            base: LogPos(u64_at(bytes, 24)),
            salt: u64_at(bytes, 32),
        })
    }
}

/// Whether a file of number `no` begins with these bytes. Where the magic is damaged, kind, number and the
/// zeros before the checksum prove it.
pub(crate) fn is_begun_by(head: &[u8], no: FileNo) -> bool {
    let is_proven = |head: &[u8]| {
        u64_at(head, 16) == no.0
            && matches!(u32_at(head, 12), 1 | 2)
            && head[40..60].iter().all(|byte| *byte == 0)
    };
    MAGIC.starts_with(&head[..head.len().min(MAGIC.len())])
        || head.get(..FILE_HEADER_BYTES as usize).is_some_and(is_proven)
}

impl FileHeader {
    /// A header from its bytes, whatever their checksum: to be proven otherwise. `None` if some are not
    /// there.
    pub(crate) fn decode_unchecked(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..40)?;
        let kind = if u32_at(bytes, 12) == FileKind::Clean as u32 { FileKind::Clean } else { FileKind::Log };
        Some(Self {
            kind,
            no: FileNo(u64_at(bytes, 16)),
            base: LogPos(u64_at(bytes, 24)),
            salt: u64_at(bytes, 32),
        })
    }
}

/// The name of log file `no`.
pub(crate) fn log_name(no: FileNo) -> String {
    format!("{no:08}.log")
}

/// The name of checkpoint `no`.
pub(crate) fn checkpoint_name(no: FileNo) -> String {
    format!("{no:08}.checkpoint")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_any_flipped_bit_is_seen() {
        let header = FileHeader { kind: FileKind::Clean, no: FileNo(3), base: LogPos(4), salt: 5 };
        let bytes = header.encode();
        assert_eq!(FileHeader::decode(&bytes), Ok(header));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(FileHeader::decode(&bad), Err(BadHeader::Damaged), "bit {bit}");
        }
    }
}
