//! Frames of the broker log.

use mq_core::testkit::LogPos;
use mq_core::testkit::event::Event;
use mq_core::testkit::frame::{HEADER_BYTES, Header, Kind, Record};

use crate::data_folder;
use mq_core::clock::Wall;

/// Any bytes as a frame, its payload and state entries: read or refused, never a panic.
pub fn frames(bytes: &[u8]) {
    if let Some(header) = Header::decode(bytes, 1, LogPos(2)) {
        let _ = header.payload_is_whole(&bytes[HEADER_BYTES..]);
    }
    // Few inputs have the right checksum, so each is tried as a payload too, under a header of each kind.
    for kind in [Kind::Data, Kind::State, Kind::Mark] {
        let header = Header {
            kind,
            payload_len: bytes.len() as u32,
            count: 1,
            topic: mq_core::TopicNo(1),
            payload_crc: 0,
            first: mq_core::Offset(0),
            time: Wall(0),
            has_ids: false,
            synced_to: LogPos(0),
        };
        let _ = header.payload_is_whole(bytes);
    }
    let mut rest = bytes;
    while let Some(record) = Record::parse(rest) {
        let _ = record.attributes();
        rest = &rest[record.len..];
    }
    let _ = Event::decode_all(bytes);
}

/// Inputs for [`frames`] that no seed file can hold, since they change with the format: the files of a data
/// folder, from their first frame on.
pub fn frames_seeds() -> Vec<Vec<u8>> {
    let files = data_folder::dump(4 << 10, 2);
    files
        .into_values()
        .filter(|bytes| bytes.len() > HEADER_BYTES)
        .map(|bytes| bytes[HEADER_BYTES..].to_vec())
        .collect()
}
