//! Positions of single records in stored runs, remembered for messages that are delivered again.
//!
//! Messages come due in any order, and a log file's index finds no more than the run that holds one: up to 64
//! KiB, or a larger frame. A run is therefore read whole the first time a message of it is delivered again,
//! or indexed when it is read for first deliveries while others wait to come again; the positions of its
//! records are kept, 4 bytes each, and from then on exactly the records that are wanted are read.

use std::collections::HashMap;
use std::sync::Arc;

use crate::store::format::numbers::TopicNo;
use crate::sync::Mutex;

use crate::clock::Wall;
use crate::error::Result;
use crate::message::Offset;
use crate::store::format::file::{FileHeader, FileNo};
use crate::store::format::file_index::Run;
use crate::store::format::frame::{HEADER_BYTES, Record};
use crate::store::memory::chunk::Pool;
use crate::store::read::reader;

/// The positions of one run's records.
#[derive(Clone, Default)]
pub(crate) struct RunIndex {
    /// Bytes of the run that were indexed. A run at the end of the file being written may have grown since.
    covered: u64,
    /// Position of each record from the start of the run, in the order of their offsets.
    records: Vec<u32>,
    /// Dense ranges of offsets: the first of each, and the index of its record.
    ranges: Vec<(Offset, u32)>,
    /// The frames with more than one record. Any other record stands right behind the header of its frame.
    frames: Vec<Shared>,
}

/// A frame with more than one record.
#[derive(Clone, Copy)]
struct Shared {
    /// Index of its first record.
    first: u32,
    count: u32,
    /// The publish time of all its records.
    time: Wall,
}

/// The bytes to read for one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spot {
    pub(crate) offset: Offset,
    /// Position from the start of the run.
    pub(crate) at: u64,
    pub(crate) len: u64,
    /// The publish time; `None` if the bytes are a whole frame, whose header has it.
    pub(crate) time: Option<Wall>,
}

impl RunIndex {
    /// Bytes of the run that were indexed.
    pub(crate) fn covered(&self) -> u64 {
        self.covered
    }

    /// Indexes `part`, the bytes of the run from [`RunIndex::covered`] on. `run_at` is the place of the run
    /// in the file.
    ///
    /// # Errors
    /// `Damaged` if anything but whole frames of `topic` stands there.
    pub(crate) fn extend(
        &mut self,
        header: &FileHeader,
        topic: TopicNo,
        run_at: u64,
        part: &[u8],
    ) -> Result<()> {
        let mut done = 0;
        while done < part.len() {
            let at = self.covered + done as u64;
            let (frame, payload) = reader::whole_frame(header, topic, &part[done..], run_at + at)?;
            // A run is at most a frame of 1 GiB: positions and indexes fit.
            let first = self.records.len() as u32;
            let goes_on =
                |(offset, index): &(Offset, u32)| offset.plus(u64::from(first - index)) == frame.first;
            if !self.ranges.last().is_some_and(goes_on) {
                self.ranges.push((frame.first, first));
            }
            if frame.count > 1 {
                self.frames.push(Shared { first, count: frame.count, time: frame.time });
            }
            let (mut record_at, mut rest) = (at as u32 + HEADER_BYTES as u32, payload);
            while let Some(record) = Record::parse(rest) {
                self.records.push(record_at);
                record_at += record.len as u32;
                rest = &rest[record.len..];
            }
            done += HEADER_BYTES + payload.len();
        }
        self.covered += part.len() as u64;
        Ok(())
    }

    /// The bytes of the record with this offset. `None` if it does not stand in what was indexed.
    pub(crate) fn find(&self, offset: Offset) -> Option<Spot> {
        let range = self.ranges.partition_point(|(first, _)| *first <= offset).checked_sub(1)?;
        let (first, index) = self.ranges[range];
        let end =
            self.ranges.get(range + 1).map_or(self.records.len() as u64, |(_, index)| u64::from(*index));
        let index = u64::from(index) + (offset.0 - first.0);
        if index >= end {
            return None;
        }
        let at = u64::from(self.records[index as usize]);
        let before = self.frames.partition_point(|frame| u64::from(frame.first) <= index).checked_sub(1);
        let frame = before.map(|i| self.frames[i]).filter(|f| index < u64::from(f.first + f.count));
        let is_last = frame.is_none_or(|f| index + 1 == u64::from(f.first + f.count));
        let next = self.records.get(index as usize + 1).map(|at| u64::from(*at));
        let header = HEADER_BYTES as u64;
        let end = next.map_or(self.covered, |next| if is_last { next - header } else { next });
        let start = if frame.is_some() { at } else { at - header };
        Some(Spot { offset, at: start, len: end - start, time: frame.map(|f| f.time) })
    }

    /// Bytes of memory.
    fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.records.capacity() * size_of::<u32>()
            + self.ranges.capacity() * size_of::<(Offset, u32)>()
            + self.frames.capacity() * size_of::<Shared>()
    }

    fn shrink(&mut self) {
        self.records.shrink_to_fit();
        self.ranges.shrink_to_fit();
        self.frames.shrink_to_fit();
    }
}

/// The indexes of one topic's runs, with the runs of the files they stand in. Counted against the memory
/// budget, of which all topics' take at most an eighth; beyond that the least recently used go.
pub(crate) struct RecordIndexes {
    cache: Mutex<Cache>,
    pool: Arc<Pool>,
}

#[derive(Default)]
struct Cache {
    /// Indexes by the number of the file and the run's place in it.
    runs: HashMap<(FileNo, u64), Used<RunIndex>>,
    /// The topic's runs in sealed files, by the number of the file.
    files: HashMap<FileNo, Used<Vec<Run>>>,
    /// Counts uses.
    now: u64,
    bytes: usize,
}

struct Used<T> {
    value: Arc<T>,
    /// Memory, the entry's own included.
    bytes: usize,
    last: u64,
}

impl<T> Used<T> {
    fn new(value: Arc<T>, bytes: usize, last: u64) -> Self {
        // A map is half full at worst.
        let entry = 2 * (size_of::<Self>() + size_of::<(FileNo, u64)>());
        Self { value, bytes: bytes + entry, last }
    }

    fn get(&mut self, now: u64) -> Arc<T> {
        self.last = now;
        self.value.clone()
    }
}

impl RecordIndexes {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { cache: Mutex::default(), pool }
    }

    /// The index of the run at `at` of file `file`.
    pub(crate) fn run(&self, file: FileNo, at: u64) -> Option<Arc<RunIndex>> {
        let mut cache = self.cache.lock();
        cache.now += 1;
        let now = cache.now;
        cache.runs.get_mut(&(file, at)).map(|used| used.get(now))
    }

    /// The topic's runs in a sealed file.
    pub(crate) fn file(&self, file: FileNo) -> Option<Arc<Vec<Run>>> {
        let mut cache = self.cache.lock();
        cache.now += 1;
        let now = cache.now;
        cache.files.get_mut(&file).map(|used| used.get(now))
    }

    /// Remembers the index of a run.
    pub(crate) fn add_run(&self, file: FileNo, at: u64, mut index: RunIndex) -> Arc<RunIndex> {
        index.shrink();
        let bytes = index.bytes();
        let value = Arc::new(index);
        let mut cache = self.cache.lock();
        let before = cache.bytes;
        let used = Used::new(value.clone(), bytes, cache.now);
        cache.bytes += used.bytes;
        if let Some(old) = cache.runs.insert((file, at), used) {
            cache.bytes -= old.bytes;
        }
        self.count(&mut cache, before);
        value
    }

    /// Indexes a run of a topic that was read whole, unless it is indexed.
    ///
    /// # Errors
    /// `Damaged` if anything but whole frames of `topic` stands there.
    pub(crate) fn index(&self, header: &FileHeader, topic: TopicNo, run: &Run, bytes: &[u8]) -> Result<()> {
        if self.run(header.no, run.at).is_some_and(|index| index.covered() >= run.len) {
            return Ok(());
        }
        let mut index = RunIndex::default();
        index.extend(header, topic, run.at, bytes)?;
        self.add_run(header.no, run.at, index);
        Ok(())
    }

    /// Remembers the topic's runs in a sealed file.
    pub(crate) fn add_file(&self, file: FileNo, runs: Vec<Run>) -> Arc<Vec<Run>> {
        let bytes = runs.capacity() * size_of::<Run>();
        let value = Arc::new(runs);
        let mut cache = self.cache.lock();
        let before = cache.bytes;
        let used = Used::new(value.clone(), bytes, cache.now);
        cache.bytes += used.bytes;
        if let Some(old) = cache.files.insert(file, used) {
            cache.bytes -= old.bytes;
        }
        self.count(&mut cache, before);
        value
    }

    /// Counts what changed, and forgets as much as is too much.
    fn count(&self, cache: &mut Cache, before: usize) {
        self.pool.charge_indexes(cache.bytes);
        self.pool.discharge_indexes(before);
        while self.pool.is_full_of_indexes() && cache.bytes > 0 {
            let before = cache.bytes;
            cache.forget_quarter();
            self.pool.discharge_indexes(before - cache.bytes);
        }
    }

    /// Forgets the indexes of files that are gone; all of them if nothing `may_come_again`. For a tick.
    pub(crate) fn tidy(&self, may_come_again: bool, is_there: impl Fn(FileNo) -> bool) {
        let mut cache = self.cache.lock();
        let before = cache.bytes;
        let mut freed = 0;
        let mut keeps = |file: FileNo, bytes: usize| {
            let keeps = may_come_again && is_there(file);
            freed += if keeps { 0 } else { bytes };
            keeps
        };
        cache.runs.retain(|(file, _), used| keeps(*file, used.bytes));
        cache.files.retain(|file, used| keeps(*file, used.bytes));
        cache.bytes -= freed;
        if cache.bytes == 0 && before > 0 {
            *cache = Cache::default();
        }
        self.pool.discharge_indexes(before - cache.bytes);
    }

    /// Whether nothing is remembered.
    pub(crate) fn is_empty(&self) -> bool {
        self.cache.lock().bytes == 0
    }
}

impl Cache {
    /// Forgets the least recently used quarter, at least one: so many at once that the search for them costs
    /// little.
    fn forget_quarter(&mut self) {
        let of_runs = self.runs.values().map(|used| used.last);
        let mut uses: Vec<u64> = of_runs.chain(self.files.values().map(|used| used.last)).collect();
        if uses.is_empty() {
            self.bytes = 0;
            return;
        }
        let quarter = uses.len() / 4;
        let limit = *uses.select_nth_unstable(quarter).1;
        let mut freed = 0;
        let mut keeps = |last: u64, bytes: usize| {
            freed += if last > limit { 0 } else { bytes };
            last > limit
        };
        self.runs.retain(|_, used| keeps(used.last, used.bytes));
        self.files.retain(|_, used| keeps(used.last, used.bytes));
        self.bytes -= freed;
    }
}

impl Drop for RecordIndexes {
    fn drop(&mut self) {
        self.pool.discharge_indexes(self.cache.lock().bytes);
    }
}
