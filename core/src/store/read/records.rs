//! Reads single messages of a topic from log files: those that are delivered again, in the order they come
//! due.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;

use crate::clock::Wall;
use crate::error::Result;
use crate::message::Offset;
use crate::store::format::file::{FileHeader, FileNo};
use crate::store::format::file_index::Run;
use crate::store::format::frame::{HEADER_BYTES, Header, Record};
use crate::store::format::numbers::TopicNo;
use crate::store::memory::frame::Frame;
use crate::store::memory::marks::Marks;
use crate::store::read::catalog::{Catalog, Site, SiteFile};
use crate::store::read::reader::{damaged, fetch};
use crate::store::read::record_index::{RecordIndexes, RunIndex, Spot};

/// Reads that the caller's thread does itself, if nothing has to be waited for: some 10 us.
const READS_AT_ONCE: usize = 16;

/// The messages that were read.
#[derive(Default)]
pub(crate) struct Found {
    /// One frame for each message, in offset order.
    pub(crate) frames: Vec<Frame>,
    /// Messages asked for that stand in no file.
    pub(crate) missing: Vec<Offset>,
}

/// The reads of one run.
struct Part {
    run: Run,
    index: Arc<RunIndex>,
    offsets: Vec<Offset>,
}

/// Reads messages of `topic`: of `offsets`, in the order in which they are wanted, as many as `bytes_max`
/// allows, at least one. Runs that are not in `indexes` are read whole and come there. With `nowait`, `None`
/// if a disk would have to be waited for, or the work is more than a thread should do that others wait for.
///
/// # Errors
/// `Io`; `Damaged` if what the catalog promises does not stand there.
pub(crate) fn read(
    catalog: &Catalog,
    indexes: &RecordIndexes,
    topic: TopicNo,
    offsets: &[Offset],
    bytes_max: u64,
    nowait: bool,
) -> Result<Option<Found>> {
    let (sites, files) = catalog.sites(topic, offsets);
    let mut reading = Reading { indexes, topic, nowait, files, out: Output::default() };
    let mut found = Found::default();
    let mut parts: BTreeMap<(FileNo, u64), Part> = BTreeMap::new();
    let mut bytes = 0;
    for (offset, site) in offsets.iter().zip(sites) {
        let Some(site) = site else {
            found.missing.push(*offset);
            continue;
        };
        let Some(run) = reading.run(site, *offset)? else { return Ok(None) };
        let key = (site.file, run.at);
        let part = parts.entry(key).or_insert_with(|| {
            let index = indexes.run(site.file, run.at).unwrap_or_default();
            Part { run, index, offsets: Vec::new() }
        });
        let cost = match part.index.find(*offset) {
            Some(spot) => spot.len,
            // The rest of the run is read, once.
            None if part.offsets.is_empty() => run.len - part.index.covered().min(run.len),
            None => 0,
        } + size_of::<Frame>() as u64;
        if bytes > 0 && bytes + cost > bytes_max {
            break;
        }
        bytes += cost;
        part.offsets.push(*offset);
    }
    parts.retain(|_, part| !part.offsets.is_empty());
    if nowait && parts.values().map(Part::reads).sum::<usize>() > READS_AT_ONCE {
        return Ok(None);
    }
    for ((file, _), part) in parts {
        if !reading.part(file, part)? {
            return Ok(None);
        }
    }
    found.frames = reading.out.frames();
    Ok(Some(found))
}

impl Part {
    fn is_covered(&self) -> bool {
        self.index.covered() >= self.run.len
    }

    /// The records that the index knows, in the order they stand.
    fn spots(&self) -> Vec<Spot> {
        let mut spots: Vec<_> = self.offsets.iter().filter_map(|offset| self.index.find(*offset)).collect();
        spots.sort_unstable_by_key(|spot| spot.at);
        spots
    }

    /// Number of reads it takes.
    fn reads(&self) -> usize {
        usize::from(!self.is_covered()) + joined(&self.spots()).count()
    }
}

struct Reading<'a> {
    indexes: &'a RecordIndexes,
    topic: TopicNo,
    nowait: bool,
    files: HashMap<FileNo, SiteFile>,
    out: Output,
}

impl Reading<'_> {
    fn fetch(&self, stored: &SiteFile, buf: &mut [u8], at: u64) -> Result<bool> {
        fetch(&stored.file, &stored.header, buf, at, self.nowait)
    }

    /// The run that holds `offset`. `None` if a disk would have to be waited for.
    fn run(&self, site: Site, offset: Offset) -> Result<Option<Run>> {
        if let Some(run) = site.run {
            return Ok(Some(run));
        }
        let stored = &self.files[&site.file];
        let runs = match self.indexes.file(site.file) {
            Some(runs) => runs,
            None => {
                let Some(line) = &stored.line else { return Ok(None) };
                let mut bytes = vec![0; line.runs_len()];
                if !self.fetch(stored, &mut bytes, line.runs_at)? {
                    return Ok(None);
                }
                let runs = line.decode_runs(&bytes);
                let runs =
                    runs.ok_or_else(|| damaged(&stored.header, line.runs_at, "the index is damaged"))?;
                self.indexes.add_file(site.file, runs)
            }
        };
        let run = runs.partition_point(|run| run.first <= offset).checked_sub(1).map(|i| runs[i]);
        run.map(Some).ok_or_else(|| damaged(&stored.header, 0, "its index names no run for a message"))
    }

    /// Reads what is wanted of one run. `false` if a disk would have to be waited for.
    fn part(&mut self, file: FileNo, mut part: Part) -> Result<bool> {
        let stored = &self.files[&file];
        let Run { at: run_at, len, .. } = part.run;
        let mut spots = part.spots();
        if !part.is_covered() {
            let from = part.index.covered();
            let mut bytes = vec![0; (len - from) as usize];
            if !self.fetch(stored, &mut bytes, run_at + from)? {
                return Ok(false);
            }
            let mut index = RunIndex::clone(&part.index);
            index.extend(&stored.header, self.topic, run_at, &bytes)?;
            part.index = self.indexes.add_run(file, run_at, index);
            for spot in part.spots().iter().filter(|spot| spot.at >= from) {
                let start = (spot.at - from) as usize;
                let record = &bytes[start..start + spot.len as usize];
                self.out.add(&stored.header, self.topic, run_at, spot, record)?;
            }
            spots.retain(|spot| spot.at < from);
        }
        if part.spots().len() < part.offsets.len() {
            return Err(damaged(&stored.header, run_at, "messages named by the index are not there"));
        }
        for spots in joined(&spots) {
            let (first, last) = (spots[0], spots[spots.len() - 1]);
            let mut bytes = vec![0; (last.at + last.len - first.at) as usize];
            if !self.fetch(stored, &mut bytes, run_at + first.at)? {
                return Ok(false);
            }
            for spot in spots {
                let start = (spot.at - first.at) as usize;
                let record = &bytes[start..start + spot.len as usize];
                self.out.add(&stored.header, self.topic, run_at, spot, record)?;
            }
        }
        Ok(true)
    }
}

/// The records of a run that are read in one go each: those so near to each other that what lies between is
/// at most half of what is wanted. All reads together then take at most one and a half times the records'
/// bytes.
fn joined(spots: &[Spot]) -> impl Iterator<Item = &[Spot]> {
    let mut rest = spots;
    std::iter::from_fn(move || {
        let first = rest.first()?;
        let (mut wanted, mut count) = (first.len, 1);
        for spot in &rest[1..] {
            let between = spot.at - first.at - wanted;
            if 2 * between > wanted {
                break;
            }
            wanted += spot.len;
            count += 1;
        }
        let (together, others) = rest.split_at(count);
        rest = others;
        Some(together)
    })
}

/// Copies of the records that were read, without what stood around them.
#[derive(Default)]
struct Output {
    bytes: Vec<u8>,
    records: Vec<(Offset, Wall, std::ops::Range<usize>)>,
}

impl Output {
    /// Takes in one record, checked: `bytes` are those of `spot` in the run at `run_at`.
    fn add(
        &mut self,
        header: &FileHeader,
        topic: TopicNo,
        run_at: u64,
        spot: &Spot,
        bytes: &[u8],
    ) -> Result<()> {
        let whole = match spot.time {
            Some(time) => Record::parse(bytes)
                .filter(|record| record.len == bytes.len() && record.is_whole(bytes))
                .map(|_| (time, bytes)),
            None => Header::decode(bytes, header.salt, header.position(run_at + spot.at))
                .filter(|frame| frame.topic == topic && frame.first == spot.offset && frame.count == 1)
                .map(|frame| (frame, &bytes[HEADER_BYTES..]))
                .filter(|(frame, payload)| frame.payload_is_whole(payload))
                .map(|(frame, payload)| (frame.time, payload)),
        };
        let (time, record) =
            whole.ok_or_else(|| damaged(header, run_at + spot.at, "a message is damaged"))?;
        let start = self.bytes.len();
        self.bytes.extend_from_slice(record);
        self.records.push((spot.offset, time, start..self.bytes.len()));
        Ok(())
    }

    fn frames(mut self) -> Vec<Frame> {
        self.records.sort_unstable_by_key(|(offset, ..)| *offset);
        let bytes = Bytes::from(self.bytes);
        let frame = |(first, time, range)| Frame {
            first,
            count: 1,
            time,
            deferred: true,
            has_ids: false,
            payload: bytes.slice(range),
            marks: Marks::default(),
        };
        self.records.into_iter().map(frame).collect()
    }
}
