//! Any bytes as a frame, its payload and state entries: read or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mq_core::store::format::event::Event;
use mq_core::store::format::frame::{HEADER_BYTES, Header, Kind, Record};

fuzz_target!(|bytes: &[u8]| {
    if let Some(header) = Header::decode(bytes, 1, 2) {
        let _ = header.payload_is_whole(&bytes[HEADER_BYTES..]);
    }
    // The checksum rarely lets the fuzzer pass, so the payload is tried under a header that says what it is.
    for kind in [Kind::Data, Kind::State, Kind::Mark] {
        let header = Header {
            kind,
            payload_len: bytes.len() as u32,
            count: 1,
            topic: 1,
            payload_crc: 0,
            first: mq_core::Offset(0),
            time: 0,
            has_ids: false,
            synced_to: 0,
        };
        let _ = header.payload_is_whole(bytes);
    }
    let mut rest = bytes;
    while let Some(record) = Record::parse(rest) {
        let _ = record.attributes();
        rest = &rest[record.len..];
    }
    let _ = Event::decode_all(bytes);
});
