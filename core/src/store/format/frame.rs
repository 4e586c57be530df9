//! Frames and records: the bytes of the log. The layout is repeated, with the rest of the format, in
//! `docs/format.md`.
//!
//! ```text
//! frame (little-endian)                             record of a data frame
//!  0 u32 header CRC: CRC-32C of the file's salt,     0 u32 CRC-32C of all that follows in the record
//!        the frame's position, then bytes 4..48      4 u32 body length
//!  4 u8  kind: 1 data, 2 state, 3 mark               8 u16 attributes length
//!  5 u8  1 if any record has an id, 6 u8[2] zero    10 u16 zero
//!  8 u32 payload length                             12 attributes: (u8 tag, u16 length, value)*
//! 12 u32 count of records or entries                .. body
//! 16 u32 topic number (data), else 0
//! 20 u32 payload CRC-32C: of the records' CRCs, one after the other (data), of the payload (state)
//! 24 u64 offset of the first record (data), else 0
//! 32 u64 wall time, ns
//! 40 u64 synced_to: the position known fsync'd when the frame was written
//! 48 payload
//! ```
//!
//! The salt and the position in the header's CRC make a frame valid only where it was written: a body that
//! holds the bytes of a frame is never taken for one. The payload CRC ties the records to their header, so
//! that a torn write over older bytes can't mix two frames.

use crate::clock::Wall;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Attributes, OFFSET_BITS, Offset};
use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::TopicNo;

/// Bytes of a frame's header.
pub const HEADER_BYTES: usize = 48;
/// Bytes of a record before its attributes.
pub const RECORD_HEADER_BYTES: usize = 12;
/// Largest payload of a frame: what an MPUB may hold, with room. Bounds every allocation made for a frame.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

/// Contents of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Records of one topic, with consecutive offsets.
    Data,
    /// Entries of `event.rs`.
    State,
    /// Nothing: carries `synced_to`.
    Mark,
}

/// A decoded frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Contents of the frame.
    pub kind: Kind,
    /// Bytes after the header.
    pub payload_len: u32,
    /// Records or entries in the payload.
    pub count: u32,
    /// The topic's number; 0 unless `Data`.
    pub topic: TopicNo,
    /// See the module's drawing.
    pub payload_crc: u32,
    /// Offset of the first record; 0 unless `Data`.
    pub first: Offset,
    /// Time at which the frame was made; the publish time of all its records.
    pub time: Wall,
    /// Whether any record may have a publisher's id (data).
    pub has_ids: bool,
    /// Position known fsync'd when the frame was written.
    pub synced_to: LogPos,
}

impl Header {
    /// The header's bytes for a frame at `position` of a file with `salt`.
    pub fn encode(&self, salt: u64, position: LogPos) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        out[4] = match self.kind {
            Kind::Data => 1,
            Kind::State => 2,
            Kind::Mark => 3,
        };
        out[5] = u8::from(self.has_ids);
        out[8..12].copy_from_slice(&self.payload_len.to_le_bytes());
        out[12..16].copy_from_slice(&self.count.to_le_bytes());
        out[16..20].copy_from_slice(&self.topic.0.to_le_bytes());
        out[20..24].copy_from_slice(&self.payload_crc.to_le_bytes());
        out[24..32].copy_from_slice(&self.first.0.to_le_bytes());
        out[32..40].copy_from_slice(&self.time.0.to_le_bytes());
        out[40..48].copy_from_slice(&self.synced_to.0.to_le_bytes());
        let crc = header_crc(&out, salt, position);
        out[0..4].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header. `None` unless the bytes were written as a header at `position` of a file with `salt`.
    pub fn decode(bytes: &[u8], salt: u64, position: LogPos) -> Option<Self> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let kind = match bytes[4] {
            1 => Kind::Data,
            2 => Kind::State,
            3 => Kind::Mark,
            _ => return None,
        };
        if header_crc(bytes, salt, position) != u32_at(bytes, 0) {
            return None;
        }
        // Whatever a checksum says, no message lies past the last offset there is.
        let (count, first) = (u32_at(bytes, 12), u64_at(bytes, 24));
        if first.checked_add(u64::from(count)).is_none_or(|end| end > 1 << OFFSET_BITS) {
            return None;
        }
        Some(Self {
            kind,
            payload_len: u32_at(bytes, 8),
            count,
            topic: TopicNo(u32_at(bytes, 16)),
            payload_crc: u32_at(bytes, 20),
            first: Offset(first),
            time: Wall(u64_at(bytes, 32)),
            has_ids: bytes[5] & 1 != 0,
            synced_to: LogPos(u64_at(bytes, 40)),
        })
    }

    /// Bytes of the whole frame.
    pub fn frame_len(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.payload_len)
    }

    /// Offset of the last record of a data frame.
    pub fn last(&self) -> Offset {
        self.first.plus(u64::from(self.count).saturating_sub(1))
    }

    /// Whether `payload` is whole and belongs to this header: every CRC, every length, the count.
    pub fn payload_is_whole(&self, payload: &[u8]) -> bool {
        if payload.len() != self.payload_len as usize {
            return false;
        }
        match self.kind {
            Kind::State => crc32c::crc32c(payload) == self.payload_crc,
            Kind::Mark => payload.is_empty(),
            Kind::Data => {
                let (mut rest, mut chain, mut count) = (payload, 0, 0u32);
                while !rest.is_empty() {
                    let Some(record) = Record::parse(rest).filter(|r| r.is_whole(rest)) else { return false };
                    chain = crc32c::crc32c_append(chain, &rest[..4]);
                    count += 1;
                    rest = &rest[record.len..];
                }
                count == self.count && chain == self.payload_crc
            }
        }
    }
}

fn header_crc(bytes: &[u8], salt: u64, position: LogPos) -> u32 {
    let mut place = [0; 16];
    place[..8].copy_from_slice(&salt.to_le_bytes());
    place[8..].copy_from_slice(&position.0.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c(&place), &bytes[4..HEADER_BYTES])
}

/// One record within a payload.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Its attributes, encoded.
    attributes: &'a [u8],
    /// Its body.
    pub body: &'a [u8],
    /// Bytes of the whole record.
    pub len: usize,
}

impl<'a> Record<'a> {
    /// The record at the start of `bytes`, its CRC unchecked. `None` if the lengths reach past the end.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.len() < RECORD_HEADER_BYTES {
            return None;
        }
        let attributes_len = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        let body_at = RECORD_HEADER_BYTES + attributes_len;
        let len = body_at.checked_add(u32_at(bytes, 4) as usize)?;
        let record = bytes.get(..len)?;
        Some(Self { attributes: &record[RECORD_HEADER_BYTES..body_at], body: &record[body_at..], len })
    }

    /// Whether the CRC at the start of `bytes`, from which this record was parsed, is right.
    pub(crate) fn is_whole(&self, bytes: &[u8]) -> bool {
        crc32c::crc32c(&bytes[4..self.len]) == u32_at(bytes, 0)
    }

    /// The attributes. Those this version does not know are passed over.
    pub fn attributes(&self) -> Attributes<'a> {
        let mut out = Attributes::NONE;
        let mut rest = self.attributes;
        while let [tag, low, high, after @ ..] = rest {
            let len = usize::from(u16::from_le_bytes([*low, *high]));
            let Some((value, after)) = after.split_at_checked(len) else { break };
            match (*tag, value.len()) {
                (TAG_NOT_BEFORE, 8) => out.not_before = Some(Wall(u64_at(value, 0))),
                (TAG_DEDUP_ID, _) => out.dedup_id = Some(value),
                (TAG_HEADERS, _) => out.headers = Some(value),
                _ => {}
            }
            rest = after;
        }
        out
    }

    /// Whether the record has no attribute at all, so that [`Record::attributes`] need not be called.
    pub fn is_plain(&self) -> bool {
        self.attributes.is_empty()
    }
}

// 2 and 4 are kept free for an expiry and a priority.
const TAG_NOT_BEFORE: u8 = 1;
const TAG_DEDUP_ID: u8 = 3;
const TAG_HEADERS: u8 = 5;

/// Bytes a record with `attributes` and a body of `body_len` takes.
///
/// # Errors
/// `TooBig` if the attributes pass 64 KiB, or the record could not stand in a frame.
pub fn record_len(attributes: &Attributes<'_>, body_len: usize) -> Result<usize> {
    let attributes_len = attributes_len(attributes);
    if attributes_len > usize::from(u16::MAX) {
        return Err(Error::new(
            ErrorKind::TooBig,
            format!("attributes take {attributes_len} bytes, at most 65535 fit"),
        ));
    }
    let len = RECORD_HEADER_BYTES + attributes_len + body_len;
    if len > PAYLOAD_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::TooBig,
            format!("message takes {len} bytes, at most {PAYLOAD_BYTES_MAX} fit a frame"),
        ));
    }
    Ok(len)
}

fn attributes_len(attributes: &Attributes<'_>) -> usize {
    let bytes = |value: Option<&[u8]>| value.map_or(0, |v| 3 + v.len());
    attributes.not_before.map_or(0, |_| 3 + 8) + bytes(attributes.dedup_id) + bytes(attributes.headers)
}

/// Appends a record to `out` and returns its CRC. The caller has checked its size by [`record_len`].
pub fn put_record(out: &mut bytes::BytesMut, attributes: &Attributes<'_>, body: &[u8]) -> u32 {
    let at = out.len();
    let mut header = [0; RECORD_HEADER_BYTES];
    header[4..8].copy_from_slice(&(body.len() as u32).to_le_bytes());
    let plain = *attributes == Attributes::NONE;
    if !plain {
        header[8..10].copy_from_slice(&(attributes_len(attributes) as u16).to_le_bytes());
    }
    out.extend_from_slice(&header);
    if !plain {
        put_attributes(out, attributes);
    }
    out.extend_from_slice(body);
    let crc = crc32c::crc32c(&out[at + 4..]);
    out[at..at + 4].copy_from_slice(&crc.to_le_bytes());
    crc
}

fn put_attributes(out: &mut bytes::BytesMut, attributes: &Attributes<'_>) {
    let mut put = |tag: u8, value: &[u8]| {
        out.extend_from_slice(&[tag]);
        out.extend_from_slice(&(value.len() as u16).to_le_bytes());
        out.extend_from_slice(value);
    };
    if let Some(at) = attributes.not_before {
        put(TAG_NOT_BEFORE, &at.0.to_le_bytes());
    }
    if let Some(id) = attributes.dedup_id {
        put(TAG_DEDUP_ID, id);
    }
    if let Some(headers) = attributes.headers {
        put(TAG_HEADERS, headers);
    }
}

/// The payload CRC of a data frame that holds `records` (whole records, one after the other).
pub fn records_crc(records: &[u8]) -> u32 {
    records_crc_after(0, records)
}

/// [`records_crc`] of `records` after others whose is `chain`.
pub(crate) fn records_crc_after(mut chain: u32, records: &[u8]) -> u32 {
    let mut rest = records;
    while let Some(record) = Record::parse(rest) {
        chain = crc32c::crc32c_append(chain, &rest[..4]);
        rest = &rest[record.len..];
    }
    chain
}

/// The `u32` at `at`. The caller has checked the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The `u64` at `at`. The caller has checked the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn data_frame(bodies: &[&[u8]], attributes: &Attributes<'_>) -> (Header, BytesMut) {
        let mut payload = BytesMut::new();
        for body in bodies {
            put_record(&mut payload, attributes, body);
        }
        let header = Header {
            kind: Kind::Data,
            payload_len: payload.len() as u32,
            count: bodies.len() as u32,
            topic: TopicNo(7),
            payload_crc: records_crc(&payload),
            first: Offset(3 << 16),
            time: Wall(99),
            has_ids: attributes.dedup_id.is_some(),
            synced_to: LogPos(5),
        };
        (header, payload)
    }

    #[test]
    fn a_frame_comes_back_as_it_was_written() {
        let attributes = Attributes { not_before: Some(Wall(1)), dedup_id: Some(b"id"), headers: Some(b"h") };
        let (header, payload) = data_frame(&[b"one", b"", b"three"], &attributes);
        assert_eq!(Header::decode(&header.encode(1, LogPos(2)), 1, LogPos(2)), Some(header));
        assert!(header.payload_is_whole(&payload));
        let first = Record::parse(&payload).unwrap();
        assert_eq!((first.body, first.attributes()), (&b"one"[..], attributes));
        assert_eq!(record_len(&attributes, 3).unwrap(), first.len);
        assert_eq!(header.last(), Offset((3 << 16) + 2));
    }

    /// A header counts only in its own file and at its own position: bodies may hold frames.
    #[test]
    fn a_header_elsewhere_is_no_header() {
        let (header, _) = data_frame(&[b"x"], &Attributes::NONE);
        let bytes = header.encode(1, LogPos(2));
        assert_eq!(Header::decode(&bytes, 1, LogPos(3)), None);
        assert_eq!(Header::decode(&bytes, 2, LogPos(2)), None);
        assert_eq!(Header::decode(&bytes[..47], 1, LogPos(2)), None);
    }

    proptest! {
        /// I8: no flipped bit goes unseen.
        #[test]
        fn a_flipped_bit_is_seen(bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6), pick in any::<prop::sample::Index>()) {
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            let (header, payload) = data_frame(&bodies, &Attributes::NONE);
            let mut frame = header.encode(11, LogPos(22)).to_vec();
            frame.extend_from_slice(&payload);
            let bit = pick.index(frame.len() * 8);
            frame[bit / 8] ^= 1 << (bit % 8);
            let whole = Header::decode(&frame, 11, LogPos(22)).is_some_and(|h| h.payload_is_whole(&frame[HEADER_BYTES..]));
            prop_assert!(!whole);
        }

        /// I7, I8: any bytes are refused or read, never a panic.
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::decode(&bytes, 0, LogPos(0));
            let header = Header { kind: Kind::Data, payload_len: bytes.len() as u32, count: 1, topic: TopicNo(0), payload_crc: 0, first: Offset(0), time: Wall(0), has_ids: false, synced_to: LogPos(0) };
            let _ = header.payload_is_whole(&bytes);
            if let Some(record) = Record::parse(&bytes) {
                let _ = record.attributes();
            }
        }
    }
}
