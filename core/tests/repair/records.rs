//! The whole messages of a damaged folder, found without the code under test: by comparing bytes with the
//! folder as it was.

use std::collections::BTreeSet;

use mq_core::testkit::frame::{HEADER_BYTES, Header, Kind, Record};
use mq_core::testkit::{CrashDisk, LogPos};

use crate::folder::number;

pub(crate) struct Sound {
    /// Numbers of messages that stand somewhere in one piece.
    pub(crate) numbers: BTreeSet<u64>,
}

struct Frame {
    at: usize,
    header: Header,
    position: LogPos,
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().unwrap())
}

fn frames(bytes: &[u8]) -> Vec<Frame> {
    let (mut at, mut out) = (64, Vec::new());
    if bytes.len() < at {
        return out;
    }
    let (base, salt) = (u64_at(bytes, 24), u64_at(bytes, 32));
    loop {
        let position = LogPos(base + at as u64 - 64);
        let Some(header) = Header::decode(&bytes[at.min(bytes.len())..], salt, position) else { return out };
        out.push(Frame { at, header, position });
        at += HEADER_BYTES + header.payload_len as usize;
    }
}

/// Which records of a frame are whole and can be distinguished from others: `(number, is whole, has its
/// head)` of each. Where a record's head is damaged, what lies between it and another damaged one can't be.
fn placed(records: &[(u64, bool, bool)], has_end: bool) -> BTreeSet<u64> {
    let all_heads = has_end && records.iter().all(|(_, _, has_head)| *has_head);
    let front = records.iter().take_while(|(_, is_whole, _)| *is_whole || all_heads);
    let back = records.iter().rev().take_while(|(_, is_whole, _)| *is_whole && has_end);
    front.chain(back).filter(|(_, is_whole, _)| *is_whole).map(|(number, ..)| *number).collect()
}

/// The messages of `before` that `after` still holds whole. Of frames that were not known fsync'd, all of it
/// must be.
pub(crate) fn sound(before: &CrashDisk, after: &CrashDisk) -> Sound {
    let after = after.dump();
    let mut synced_to = LogPos(0);
    let mut candidates = Vec::new();
    for (name, bytes) in before.dump().into_iter().filter(|(name, _)| name.ends_with(".log")) {
        let Some(now) = after.get(&name) else { continue };
        let same = |from: usize, len: usize| now.get(from..from + len) == bytes.get(from..from + len);
        // Base and salt, which distinguish frames.
        if bytes.len() < 64 || !same(24, 16) {
            continue;
        }
        let is_log = bytes[12] == 1;
        for Frame { at, header, position } in frames(&bytes).into_iter().filter(|f| same(f.at, HEADER_BYTES))
        {
            if is_log {
                synced_to = synced_to.max(header.synced_to);
            }
            if header.kind != Kind::Data {
                continue;
            }
            let whole = same(at, HEADER_BYTES + header.payload_len as usize);
            let mut place = at + HEADER_BYTES;
            let mut records = Vec::new();
            for _ in 0..header.count {
                let record = Record::parse(&bytes[place..]).unwrap();
                records.push((number(record.body), same(place, record.len), same(place, 12)));
                place += record.len;
            }
            let is_there = now.len() >= place;
            for number in placed(&records, is_there) {
                candidates.push((number, whole || !is_log, position));
            }
        }
    }
    let sure = candidates.into_iter().filter(|(_, whole, position)| *whole || *position < synced_to);
    Sound { numbers: sure.map(|(number, ..)| number).collect() }
}
