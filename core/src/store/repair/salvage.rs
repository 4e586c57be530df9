//! Finds the records of a damaged data frame that are still sound, and which offsets they have.
//!
//! A record's checksum says that its bytes are right, not that it is one: a body may hold the bytes of a
//! record. So places count, not finds. If the lengths lead from record to record through the whole payload,
//! and the frame's checksum over the records' checksums agrees, each is where it was. Else lengths are
//! damaged too, and could lead anywhere: then only those records count that follow sound ones from the front,
//! and those in a row of sound ones that ends where the payload does.

use std::collections::HashMap;
use std::ops::Range;

use crate::store::format::frame::{self, Header, RECORD_HEADER_BYTES, Record, u32_at};

/// Neighbouring sound records of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sound {
    /// Number of records of the frame before it.
    pub(crate) index: u32,
    pub(crate) count: u32,
    /// Their place in the payload.
    pub(crate) bytes: Range<usize>,
}

/// Bytes checked while looking for the end of a row, as a multiple of the payload: bounds the time bytes made
/// for it could take.
const LOOK_FACTOR: usize = 64;

/// A record as its lengths have it.
struct Walked {
    at: usize,
    len: usize,
    is_sound: bool,
}

/// The sound records of the frame with this (sound) header, of whose payload at least some is damaged or cut
/// off.
pub(crate) fn sound_records(header: &Header, payload: &[u8]) -> Vec<Sound> {
    let walked = walk(payload);
    let end = walked.last().map_or(0, |r| r.at + r.len);
    let is_complete = payload.len() == header.payload_len as usize && end == payload.len();
    if is_complete && walked.len() == header.count as usize {
        if chain(walked.iter().map(|r| stored(payload, r.at))) == header.payload_crc {
            if walked.iter().all(|r| r.is_sound) {
                return Vec::new();
            }
            return rows(&walked, |r| r.is_sound);
        }
        match walked.iter().filter(|r| !r.is_sound).count() {
            // All sound, yet not what the header was made for: a frame that stood here before.
            0 => return Vec::new(),
            // Perhaps it is the checksum that is damaged, and not what it covers.
            1 => {
                let crcs = walked.iter().map(|r| match r.is_sound {
                    true => stored(payload, r.at),
                    false => crc32c::crc32c(&payload[r.at + 4..r.at + r.len]),
                });
                if chain(crcs) == header.payload_crc {
                    return rows(&walked, |_| true);
                }
            }
            _ => {}
        }
    }
    let before = walked.iter().take_while(|r| r.is_sound).count().min(header.count as usize);
    let mut out = rows(&walked[..before], |_| true);
    if payload.len() == header.payload_len as usize && before < header.count as usize {
        out.extend(row_at_end(header, payload, &walked[..before]));
    }
    out
}

/// Reads records one after the other by their lengths.
fn walk(payload: &[u8]) -> Vec<Walked> {
    let (mut at, mut out) = (0, Vec::new());
    while let Some(record) = Record::parse(&payload[at..]) {
        out.push(Walked { at, len: record.len, is_sound: record.is_whole(&payload[at..]) });
        at += record.len;
    }
    out
}

/// Rows of neighbours among `walked` that are `taken`.
fn rows(walked: &[Walked], taken: impl Fn(&Walked) -> bool) -> Vec<Sound> {
    let mut out: Vec<Sound> = Vec::new();
    for (index, record) in (0..).zip(walked).filter(|(_, record)| taken(record)) {
        match out.last_mut() {
            Some(row) if row.bytes.end == record.at => {
                row.count += 1;
                row.bytes.end += record.len;
            }
            _ => out.push(Sound { index, count: 1, bytes: record.at..record.at + record.len }),
        }
    }
    out
}

/// The row of sound records at the end of the payload, after those `before` and at least one that is damaged.
fn row_at_end(header: &Header, payload: &[u8], before: &[Walked]) -> Option<Sound> {
    let damaged_at = before.last().map_or(0, |r| r.at + r.len);
    let found = rows_to_end(payload, damaged_at + 1)?;
    let count_max = header.count - before.len() as u32 - 1;
    let crc = chain(before.iter().map(|r| r.at).chain([damaged_at]).map(|at| stored(payload, at)));
    let is_proven = |at: usize| frame::records_crc_after(crc, &payload[at..]) == header.payload_crc;
    let proven = found.iter().find(|(at, count)| **count == count_max && is_proven(**at));
    let longest = || found.iter().filter(|(_, count)| **count <= count_max).min_by_key(|(at, _)| **at);
    let (&at, &count) = proven.or_else(longest)?;
    Some(Sound { index: header.count - count, count, bytes: at..payload.len() })
}

/// The place, from `from` on, at which sound records begin that others follow to the end of the payload, and
/// how many from there on. `None` if looking for them would take too long.
fn rows_to_end(payload: &[u8], from: usize) -> Option<HashMap<usize, u32>> {
    let mut rows: HashMap<usize, u32> = HashMap::new();
    let mut left = payload.len().saturating_mul(LOOK_FACTOR);
    for at in (from..=payload.len().saturating_sub(RECORD_HEADER_BYTES)).rev() {
        let Some(record) = Record::parse(&payload[at..]) else { continue };
        let after = match at + record.len {
            end if end == payload.len() => 0,
            end => match rows.get(&end) {
                Some(count) => *count,
                None => continue,
            },
        };
        // Bytes 10 and 11 of a record are zero.
        if payload[at + 10..at + 12] == [0, 0] {
            left = left.checked_sub(record.len)?;
            if record.is_whole(&payload[at..]) {
                rows.insert(at, after + 1);
            }
        }
    }
    Some(rows)
}

/// The checksum that stands in front of the record at `at`; 0 where it is cut off.
fn stored(payload: &[u8], at: usize) -> u32 {
    if at + 4 <= payload.len() { u32_at(payload, at) } else { 0 }
}

/// The checksum over records' checksums, as a frame's header has it.
fn chain(crcs: impl Iterator<Item = u32>) -> u32 {
    crcs.fold(0, |chain, crc| crc32c::crc32c_append(chain, &crc.to_le_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Wall;
    use crate::message::{Attributes, Offset};
    use crate::store::format::frame::Kind;
    use crate::store::format::log_pos::LogPos;
    use crate::store::format::numbers::TopicNo;
    use bytes::BytesMut;
    use proptest::prelude::*;

    fn frame(bodies: &[Vec<u8>]) -> (Header, Vec<u8>) {
        let mut payload = BytesMut::new();
        for body in bodies {
            frame::put_record(&mut payload, &Attributes::NONE, body);
        }
        let header = Header {
            kind: Kind::Data,
            payload_len: payload.len() as u32,
            count: bodies.len() as u32,
            topic: TopicNo(1),
            payload_crc: frame::records_crc(&payload),
            first: Offset(0),
            time: Wall(0),
            has_ids: false,
            synced_to: LogPos(0),
        };
        (header, payload.to_vec())
    }

    /// Each found record with its index.
    fn found(header: &Header, payload: &[u8]) -> Vec<(u32, Vec<u8>)> {
        let mut out = Vec::new();
        for row in sound_records(header, payload) {
            let mut at = row.bytes.start;
            for index in row.index..row.index + row.count {
                let record = Record::parse(&payload[at..row.bytes.end]).unwrap();
                out.push((index, record.body.to_vec()));
                at += record.len;
            }
            assert_eq!(at, row.bytes.end);
        }
        out
    }

    fn without(bodies: &[Vec<u8>], lost: &[usize]) -> Vec<(u32, Vec<u8>)> {
        let all = bodies.iter().enumerate().filter(|(i, _)| !lost.contains(i));
        all.map(|(i, body)| (i as u32, body.clone())).collect()
    }

    #[test]
    fn one_damaged_record_costs_itself() {
        let bodies: Vec<Vec<u8>> = (0..5).map(|i| vec![i; 20]).collect();
        let (header, payload) = frame(&bodies);
        for byte in 2 * 32 + 4..3 * 32 {
            let mut bad = payload.clone();
            bad[byte] ^= 0x10;
            assert_eq!(found(&header, &bad), without(&bodies, &[2]), "byte {byte}");
        }
        let mut bad = payload.clone();
        bad[2 * 32] ^= 1;
        assert_eq!(found(&header, &bad), without(&bodies, &[]), "its checksum alone");
    }

    #[test]
    fn a_wiped_sector_costs_what_it_held() {
        let bodies: Vec<Vec<u8>> = (0..100).map(|i| vec![i; 20]).collect();
        let (header, mut payload) = frame(&bodies);
        payload[1024..1536].fill(0);
        assert_eq!(found(&header, &payload), without(&bodies, &(32..48).collect::<Vec<_>>()));
        let (header, mut payload) = frame(&bodies);
        payload[1000..1500].fill(0);
        assert_eq!(found(&header, &payload), without(&bodies, &(31..47).collect::<Vec<_>>()));
    }

    #[test]
    fn two_damaged_bodies_do_not_cost_what_lies_between() {
        let bodies: Vec<Vec<u8>> = (0..100).map(|i| vec![i; 20]).collect();
        let (header, mut payload) = frame(&bodies);
        payload[70 * 32 + 20] ^= 1;
        payload[5 * 32 + 20] ^= 1;
        assert_eq!(found(&header, &payload), without(&bodies, &[5, 70]));
    }

    /// A length that is damaged can lead to a record after the next: what follows must not get its offset.
    #[test]
    fn a_length_that_leads_too_far_moves_nothing() {
        let bodies: Vec<Vec<u8>> = (0..20).map(|i| vec![i; 20]).collect();
        let (header, mut payload) = frame(&bodies);
        payload[5 * 32 + 4] += 32;
        assert_eq!(found(&header, &payload), without(&bodies, &[5]));
        payload[12 * 32 + 20] ^= 1;
        let right: Vec<_> = without(&bodies, &[5, 12]);
        let found = found(&header, &payload);
        assert!(found.iter().all(|one| right.contains(one)) && found.len() >= 12, "{found:?}");
    }

    #[test]
    fn what_was_cut_off_leaves_what_stood_before() {
        let bodies: Vec<Vec<u8>> = (0..5).map(|i| vec![i; 20]).collect();
        let (header, payload) = frame(&bodies);
        assert_eq!(found(&header, &payload[..100]), without(&bodies, &[3, 4]));
        assert_eq!(found(&header, &[]), []);
    }

    #[test]
    fn another_frames_records_are_not_taken_for_this_ones() {
        let (header, _) = frame(&[vec![1; 20], vec![2; 20]]);
        let (_, other) = frame(&[vec![3; 20], vec![4; 20]]);
        assert_eq!(found(&header, &other), []);
    }

    /// Bodies that hold whole records are not taken apart.
    #[test]
    fn a_record_in_a_body_is_no_record() {
        let (_, inner) = frame(&[vec![9; 30]]);
        let bodies: Vec<Vec<u8>> = (0..4).map(|_| inner.clone()).collect();
        let (header, payload) = frame(&bodies);
        for bit in 0..payload.len() * 8 {
            let mut bad = payload.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            for (_, body) in found(&header, &bad) {
                assert_eq!(body, inner, "bit {bit}");
            }
        }
    }

    proptest! {
        /// I8: whatever is damaged, what is found has the body its offset had; one place costs one record.
        #[test]
        fn what_is_found_is_right(
            bodies in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..60), 1..12),
            at in any::<prop::sample::Index>(), len in 1usize..80, fill in any::<u8>(),
        ) {
            let (header, payload) = frame(&bodies);
            let from = at.index(payload.len());
            let to = (from + len).min(payload.len());
            let mut bad = payload.clone();
            bad[from..to].iter_mut().for_each(|b| *b ^= fill | 1);
            for (index, body) in found(&header, &bad) {
                prop_assert_eq!(&body, &bodies[index as usize]);
            }
            let found_all = found(&header, &bad).len();
            let touched = bodies.iter().scan(0, |at, body| { let from = *at; *at += 12 + body.len(); Some(from..*at) })
                .filter(|r| r.start < to && from < r.end).count();
            prop_assert!(found_all >= bodies.len() - touched, "{found_all} of {} with {touched} touched", bodies.len());
        }

        #[test]
        fn any_bytes_are_searched(bytes in proptest::collection::vec(any::<u8>(), 0..300), count in 0u32..9) {
            let (mut header, _) = frame(&[]);
            (header.payload_len, header.count) = (bytes.len() as u32, count);
            let _ = sound_records(&header, &bytes);
        }
    }
}
