//! The cleaner: removes files in which nothing is pending, and fills one new file from many that are mostly
//! dead.
//!
//! It acts on a snapshot of what is pending whose finishes are fsync'd: what is dead only in memory counts as
//! alive. What is dead stays dead, so the snapshot can be old but never wrong.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::error::Result;
use crate::message::Offset;
use crate::store::clean::pending::{Pending, runs};
use crate::store::disk::Disk;
use crate::store::format::file::{FILE_HEADER_BYTES, FileKind, FileNo, log_name};
use crate::store::format::frame::{self, Header, Kind};
use crate::store::format::frame_file::{Filled, FrameFile};
use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::TopicNo;
use crate::store::log::Log;
use crate::store::memory::frame::Frame;
use crate::store::read::catalog::{Catalog, FileFacts, TopicPart};
use crate::store::read::reader;

/// Files to be removed, and files to be copied.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Files to remove: nothing in them is pending.
    pub(crate) remove: Vec<FileNo>,
    /// Files to copy what is pending from, then remove.
    pub(crate) copy: Vec<FileNo>,
}

/// Decides which files to remove and which to copy. `checkpoint` is the log position below which state frames
/// are dead. Where the disk is `short`, what is dead is removed even if it is little.
pub(crate) fn plan(
    files: &[FileFacts],
    pending: &HashMap<TopicNo, Pending>,
    checkpoint: LogPos,
    file_bytes: u64,
    short: bool,
) -> Plan {
    let mut plan = Plan::default();
    let mut total = 0;
    let mut live_total = 0;
    let mut candidates = Vec::new();
    for file in files.iter().filter(|f| f.sealed) {
        let live = live_bytes(file, pending);
        // A file that ends right at the checkpoint shows that the log is whole up to there: what follows may
        // be lost yet.
        let free = file.kind == FileKind::Clean || file.end < checkpoint;
        if live == 0 && free {
            plan.remove.push(file.no);
            continue;
        }
        total += file.bytes;
        live_total += live;
        if free {
            candidates.push((file, live));
        }
    }
    if !short && total <= 2 * live_total + 2 * file_bytes {
        return plan;
    }
    // The deadest first; what is almost all alive is not worth a copy.
    candidates.sort_by(|(a, a_live), (b, b_live)| {
        let (a_share, b_share) = (a_live * b.bytes.max(1), b_live * a.bytes.max(1));
        a_share.cmp(&b_share).then(a.no.cmp(&b.no))
    });
    let mut taken = 0;
    for (file, live) in candidates {
        if taken + live > file_bytes && !plan.copy.is_empty() {
            break;
        }
        if live * 10 > file.bytes * 9 && (short || file.bytes * 2 > file_bytes) {
            break;
        }
        taken += live;
        plan.copy.push(file.no);
    }
    plan
}

/// Bytes of a file's frames that are pending, to the nearest message of average size.
pub(crate) fn live_bytes(file: &FileFacts, pending: &HashMap<TopicNo, Pending>) -> u64 {
    let topics = file.topics.iter().filter_map(|TopicPart { topic, bytes, spans }| {
        let pending = pending.get(topic)?;
        let count: u64 = spans.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
        let live: u64 = spans.iter().map(|(first, last)| pending.count(*first, *last)).sum();
        (live > 0).then(|| (u128::from(*bytes) * u128::from(live)).div_ceil(u128::from(count.max(1))) as u64)
    });
    topics.sum()
}

/// Carries a plan out.
///
/// # Errors
/// `Full`, `Io`, `Damaged` (a file to copy from can't be read); the files are then as they were.
pub(crate) fn run(
    plan: &Plan,
    pending: &HashMap<TopicNo, Pending>,
    log: &Log,
    catalog: &Catalog,
    disk: &dyn Disk,
) -> Result<()> {
    let old: Vec<FileNo> = plan.remove.iter().chain(&plan.copy).copied().collect();
    if old.is_empty() {
        return Ok(());
    }
    let new = if plan.copy.is_empty() { None } else { copy(plan, pending, log, catalog, disk)? };
    let named = new.as_ref().map(|new| new.header.no);
    let copied = new.as_ref().map_or(0, |new| new.frames_end - FILE_HEADER_BYTES);
    let changed = log.change_manifest(|manifest| {
        manifest.files.retain(|(no, _)| !old.contains(no));
        manifest.files.extend(named.map(|no| (no, FileKind::Clean)));
        Ok(())
    });
    changed.inspect_err(|_| named.into_iter().for_each(|no| log.leave_over(log_name(no))))?;
    catalog.replace(&old, new.map(|new| (new.header, new.file, new.frames_end, new.table)));
    log.counters.cleaned(old.len() as u64, copied);
    for no in old {
        let name = log_name(no);
        // It is not named any more: at worst it is removed at the next open.
        if let Err(error) = disk.remove(&name) {
            tracing::warn!("could not remove {name}, which nothing needs any more: {error}");
        }
    }
    Ok(())
}

/// Copies what is pending in the plan's files into a new file, fsync'd but not yet named.
fn copy(
    plan: &Plan,
    pending: &HashMap<TopicNo, Pending>,
    log: &Log,
    catalog: &Catalog,
    disk: &dyn Disk,
) -> Result<Option<Filled>> {
    let sources: BTreeSet<FileNo> = plan.copy.iter().copied().collect();
    let mut spans: BTreeMap<TopicNo, Vec<(Offset, Offset)>> = BTreeMap::new();
    for file in catalog.files().into_iter().filter(|f| sources.contains(&f.no)) {
        for part in file.topics {
            spans.entry(part.topic).or_default().extend(part.spans);
        }
    }
    let mut out = FrameFile::clean(disk, || log.take_file_no())?;
    let synced_to = log.synced();
    for (topic, mut parts) in spans {
        let Some(pending) = pending.get(&topic) else { continue };
        parts.sort_unstable();
        for (first, last) in parts {
            copy_span(&mut out, catalog, topic, first, last, pending, synced_to)?;
        }
    }
    if out.has_no_messages() {
        return Ok(None);
    }
    out.finish(true).map(Some)
}

/// Bytes that are read at a time.
const READ_BYTES: u64 = 1 << 20;

/// Copies what is pending of `first..=last`.
fn copy_span(
    out: &mut FrameFile<'_>,
    catalog: &Catalog,
    topic: TopicNo,
    first: Offset,
    last: Offset,
    pending: &Pending,
    synced_to: LogPos,
) -> Result<()> {
    let mut from = first;
    while from <= last && pending.count(from, last) > 0 {
        let frames = reader::read(catalog, None, topic, from, READ_BYTES, false)?.unwrap_or_default();
        let Some(end) = frames.last().map(|f| f.last().plus(1)) else { break };
        for frame in frames {
            let Some(frame) = clip(frame, from, last) else { continue };
            for run in runs(&frame, pending) {
                put(out, topic, &run, synced_to)?;
            }
        }
        from = end;
    }
    Ok(())
}

fn put(out: &mut FrameFile<'_>, topic: TopicNo, frame: &Frame, synced_to: LogPos) -> Result<()> {
    let header = Header {
        kind: Kind::Data,
        payload_len: frame.payload.len() as u32,
        count: frame.count,
        topic,
        payload_crc: frame::records_crc(&frame.payload),
        first: frame.first,
        time: frame.time,
        has_ids: frame.has_ids,
        synced_to,
    };
    out.put(&header, &frame.payload)
}

/// The part of `frame` within `first..=last`.
fn clip(frame: Frame, first: Offset, last: Offset) -> Option<Frame> {
    if frame.first >= first && frame.last() <= last {
        return Some(frame);
    }
    if frame.last() < first || frame.first > last {
        return None;
    }
    let wanted = Pending {
        from: Offset(u64::MAX),
        below: (first.0.max(frame.first.0)..=last.0.min(frame.last().0)).map(Offset).collect(),
    };
    runs(&frame, &wanted).into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(no: u64, end: u64, bytes: u64, first: u64, last: u64) -> FileFacts {
        FileFacts {
            no: FileNo(no),
            kind: FileKind::Log,
            bytes,
            end: LogPos(end),
            sealed: true,
            topics: vec![TopicPart { topic: TopicNo(1), bytes, spans: vec![(Offset(first), Offset(last))] }],
        }
    }

    fn pending(from: u64, below: &[u64]) -> HashMap<TopicNo, Pending> {
        let below = below.iter().map(|o| Offset(*o)).collect();
        HashMap::from([(TopicNo(1), Pending { from: Offset(from), below })])
    }

    #[test]
    fn a_file_with_nothing_pending_is_removed_once_its_state_is_in_a_checkpoint() {
        let files = [facts(1, 100, 100, 0, 9), facts(2, 200, 100, 10, 19), facts(3, 300, 100, 20, 29)];
        let plan = plan(&files, &pending(20, &[]), LogPos(150), 100, false);
        assert_eq!(plan, Plan { remove: vec![FileNo(1)], copy: vec![] });
    }

    #[test]
    fn a_file_that_ends_at_the_checkpoint_stays() {
        let files = [facts(1, 100, 100, 0, 9), facts(2, 200, 100, 10, 19)];
        for short in [false, true] {
            let plan = plan(&files, &pending(1000, &[]), LogPos(200), 100, short);
            assert_eq!(
                plan,
                Plan { remove: vec![FileNo(1)], copy: vec![] },
                "the log is whole up to the checkpoint"
            );
        }
    }

    #[test]
    fn a_stuck_message_costs_a_copy_only_when_much_is_dead() {
        let file = |no| facts(no, no * 100, 100, no * 10, no * 10 + 9);
        let stuck: Vec<u64> = (1..9).map(|no| no * 10).collect();
        let few: Vec<_> = (1..3).map(file).collect();
        assert_eq!(plan(&few, &pending(1000, &stuck), LogPos(10_000), 100, false), Plan::default());
        let many: Vec<_> = (1..9).map(file).collect();
        let plan = plan(&many, &pending(1000, &stuck), LogPos(10_000), 100, false);
        assert_eq!(plan, Plan { remove: vec![], copy: (1..9).map(FileNo).collect() });
    }
}
