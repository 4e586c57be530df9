//! The writing end of the log: rounds of writes, the next file, fsync.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::store::disk::{Disk, File, OpenMode};
use crate::store::file::{FILE_HEADER_BYTES, FileHeader, FileKind, log_name};
use crate::store::file_index;
use crate::store::log::{Entry, Item, Landed, Landing, Log, Wake};
use crate::store::manifest::Manifest;

/// A write that takes longer moves writing to the log's own thread.
const SLOW_WRITE: Duration = Duration::from_millis(5);
/// Bytes of frames that go into one write.
const WRITE_BYTES_MAX: u64 = 4 << 20;
/// Rounds one caller writes for others before it leaves the rest to the log's thread.
const ROUNDS_MAX: usize = 16;

/// The file being written. Behind the log's writer lock.
pub(crate) struct Writer {
    pub(super) file: Arc<dyn File>,
    pub(super) header: FileHeader,
    /// Where the next frame goes in the file. 0 until the header is written, which goes with the first frame.
    at: u64,
    /// The queue being written; kept for its memory.
    round: VecDeque<Item>,
    landed: Vec<Landed>,
}

/// Which files may hold unsynced frames.
pub(super) struct Files {
    current: Arc<dyn File>,
    /// Files that were followed by another and have no index yet.
    full: Vec<(FileHeader, Arc<dyn File>)>,
    /// A file created ahead of its need, and named in the manifest.
    spare: Option<(u64, Arc<dyn File>)>,
}

impl Writer {
    /// Goes on in `file`, whose frames end at `at` (0: not even the header is written).
    pub(crate) fn new(file: Arc<dyn File>, header: FileHeader, at: u64) -> Self {
        Self { file, header, at, round: VecDeque::new(), landed: Vec::new() }
    }

    /// Position after the last written frame.
    fn position(&self) -> u64 {
        if self.at == 0 { self.header.base } else { self.header.position(self.at) }
    }
}

impl Files {
    pub(super) fn new(writer: &Writer, full: Vec<(FileHeader, Arc<dyn File>)>) -> Self {
        Self { current: writer.file.clone(), full, spare: None }
    }
}

impl Log {
    /// Writes all that is queued, unless another thread is writing: then that one does it.
    pub(crate) fn commit(&self) {
        if self.slow.load(Ordering::Relaxed) && self.has_thread.load(Ordering::Relaxed) {
            self.bell.ring();
            return;
        }
        self.write_queued();
    }

    /// [`Log::commit`] on the log's own thread, however slow the disk is.
    pub(crate) fn write_queued(&self) {
        for _ in 0..ROUNDS_MAX {
            let Some(mut writer) = self.writer.try_lock() else { return };
            self.write_round(&mut writer);
            drop(writer);
            if !self.has_queued() {
                return;
            }
        }
        self.bell.ring();
    }

    /// Writes all that is queued, waiting for whoever is writing.
    ///
    /// # Errors
    /// `Io` if the log is closed to writes.
    pub(crate) fn finish_writing(&self) -> Result<()> {
        self.wait_written();
        self.check()
    }

    /// Waits until what is queued was written, or refused.
    pub(crate) fn wait_written(&self) {
        let mut writer = self.writer.lock();
        self.write_round(&mut writer);
    }

    /// Writes what was queued when it began.
    fn write_round(&self, writer: &mut Writer) {
        let mut round = std::mem::take(&mut writer.round);
        std::mem::swap(&mut round, &mut self.assign.lock().queue);
        while let Some(item) = round.front() {
            let result = match item {
                Item::Roll { base, salt } => {
                    let (base, salt) = (*base, *salt);
                    let rolled = self.roll(writer, base, salt);
                    if rolled.is_ok() {
                        round.pop_front();
                    }
                    rolled
                }
                Item::Frame(_) => self.write_frames(writer, &mut round),
            };
            if let Err(error) = result {
                self.fail(writer, &mut round, &error);
                break;
            }
        }
        writer.round = round;
    }

    /// Writes the frames at the front of `round` that go into one file and one write, and removes them from it.
    fn write_frames(&self, writer: &mut Writer, round: &mut VecDeque<Item>) -> Result<()> {
        let header = writer.header.encode();
        let mut slices = Vec::with_capacity(2 * round.len().min(512) + 1);
        if writer.at == 0 {
            slices.push(IoSlice::new(&header));
        }
        let (mut len, mut frames) = (0, 0);
        for item in round.iter() {
            let Item::Frame(entry) = item else { break };
            slices.push(IoSlice::new(&entry.header));
            if !entry.payload.is_empty() {
                slices.push(IoSlice::new(&entry.payload));
            }
            len += entry.len();
            frames += 1;
            if len >= WRITE_BYTES_MAX {
                break;
            }
        }
        let begun = Instant::now();
        let written = writer.file.write_at(&mut slices, writer.at);
        self.slow.store(begun.elapsed() > SLOW_WRITE, Ordering::Relaxed);
        drop(slices);
        written.map_err(|e| Error::io("could not write the log", e))?;

        let from = writer.at.max(FILE_HEADER_BYTES);
        writer.at = from + len;
        let entries = round.iter().take(frames).filter_map(|item| match item {
            Item::Frame(Entry { landing: Some((_, topic, landed)), position, payload, .. }) => {
                let frame_len = crate::store::frame::HEADER_BYTES as u64 + payload.len() as u64;
                Some((
                    writer.header.at(*position),
                    frame_len,
                    *topic,
                    landed.frame.first,
                    landed.frame.last(),
                ))
            }
            _ => None,
        });
        self.catalog.wrote(writer.header.no, writer.at, entries);
        let position = writer.position();
        let mut wakes = Vec::new();
        self.land(writer, round, frames, true, &mut wakes);
        self.written.store(position, Ordering::Release);
        self.unwritten.fetch_sub(len, Ordering::Relaxed);
        wakes.iter().for_each(|w| w.wake());
        self.tell_room();
        Ok(())
    }

    /// Tells the owners of the first `count` items of `round` what became of them, and removes them. Collects who is to
    /// be woken.
    fn land(
        &self,
        writer: &mut Writer,
        round: &mut VecDeque<Item>,
        count: usize,
        written: bool,
        wakes: &mut Vec<Arc<dyn Wake>>,
    ) {
        let tell = |to: &Arc<dyn Landing>, landed: &mut Vec<Landed>| match written {
            true => to.written(landed),
            false => to.failed(landed),
        };
        let mut owner: Option<Arc<dyn Landing>> = None;
        for item in round.drain(..count) {
            let Item::Frame(entry) = item else { continue };
            if let Some(wake) = entry.wake
                && !wakes.last().is_some_and(|last| Arc::ptr_eq(last, &wake))
            {
                wakes.push(wake);
            }
            let Some((landing, _, landed)) = entry.landing else { continue };
            match &owner {
                Some(same) if Arc::ptr_eq(same, &landing) => {}
                _ => {
                    if let Some(other) = owner.replace(landing) {
                        tell(&other, &mut writer.landed);
                    }
                }
            }
            writer.landed.push(landed);
        }
        if let Some(last) = owner {
            tell(&last, &mut writer.landed);
        }
    }

    /// Fails all that is queued: cuts file and queue back to the last whole frame.
    fn fail(&self, writer: &mut Writer, round: &mut VecDeque<Item>, error: &Error) {
        self.counters.write_failed();
        let position = writer.position();
        if let Err(e) = writer.file.truncate(writer.at) {
            self.break_down(format!("{error}; and the log could not be cut back: {e}"));
        }
        let mut assign = self.assign.lock();
        round.append(&mut assign.queue);
        assign.end = position;
        assign.data_end = assign.data_end.min(position);
        (assign.base, assign.salt) = (writer.header.base, writer.header.salt);
        self.cut(position, error.kind());
        let len: u64 = round
            .iter()
            .map(|item| match item {
                Item::Frame(entry) => entry.len(),
                Item::Roll { .. } => 0,
            })
            .sum();
        self.unwritten.fetch_sub(len, Ordering::Relaxed);
        drop(assign);
        tracing::error!("{} queued frames were refused: {error}", round.len());
        let mut wakes = Vec::new();
        let count = round.len();
        self.land(writer, round, count, false, &mut wakes);
        wakes.iter().for_each(|w| w.wake());
        self.tell_room();
    }

    /// Goes on in the next file.
    fn roll(&self, writer: &mut Writer, base: u64, salt: u64) -> Result<()> {
        let spare = self.files.lock().spare.take();
        let (no, file) = match spare {
            Some(spare) => spare,
            None => self.create_file()?,
        };
        let header = FileHeader { kind: FileKind::Log, no, base, salt };
        self.catalog.open_file(header, file.clone());
        let mut files = self.files.lock();
        files.full.push((writer.header, writer.file.clone()));
        files.current = file.clone();
        drop(files);
        (writer.file, writer.header, writer.at) = (file, header, 0);
        self.bell.ring();
        Ok(())
    }

    /// Creates a file for the log and names it in the manifest.
    fn create_file(&self) -> Result<(u64, Arc<dyn File>)> {
        self.change_manifest(|manifest| create_file(&*self.disk, manifest))
    }

    /// Creates the next file ahead of its need, so that no publish waits for it.
    pub(crate) fn prepare_next(&self) -> Result<()> {
        if self.files.lock().spare.is_none() {
            let spare = self.create_file()?;
            self.files.lock().spare = Some(spare);
        }
        Ok(())
    }

    /// Changes the manifest and stores it; on an error it is as before.
    pub(crate) fn change_manifest<T>(&self, change: impl FnOnce(&mut Manifest) -> Result<T>) -> Result<T> {
        let mut manifest = self.manifest.lock();
        let mut changed = manifest.clone();
        let out = change(&mut changed)?;
        changed.store(&*self.disk)?;
        *manifest = changed;
        Ok(out)
    }

    /// Makes everything written before the call durable: gives full files their index, and fsyncs.
    ///
    /// # Errors
    /// `Io`, `Full`. After a failed fsync the log is closed to writes: what the file holds can't be known.
    pub(crate) fn sync(&self) -> Result<()> {
        let _one = self.syncing.lock();
        self.check()?;
        let target = self.written();
        let (full, current) = {
            let files = self.files.lock();
            (files.full.clone(), files.current.clone())
        };
        for (header, file) in full {
            self.seal(&header, &file)?;
            self.files.lock().full.retain(|(h, _)| h.no != header.no);
        }
        self.fsync(&current)?;
        self.synced.fetch_max(target, Ordering::AcqRel);
        Ok(())
    }

    /// Writes the index of a full file and fsyncs it.
    fn seal(&self, header: &FileHeader, file: &Arc<dyn File>) -> Result<()> {
        let Some((runs, frames_end)) = self.catalog.open_runs(header.no) else { return Ok(()) };
        let (index, table) = file_index::encode(&runs, frames_end);
        file.write_at(&mut [IoSlice::new(&index)], frames_end)
            .map_err(|e| Error::io("could not write a file's index", e))?;
        self.fsync(file)?;
        self.catalog.seal(header.no, table);
        Ok(())
    }

    fn fsync(&self, file: &Arc<dyn File>) -> Result<()> {
        let begun = Instant::now();
        let result = file.sync();
        self.counters.synced(begun.elapsed(), result.is_err());
        result.map_err(|error| {
            self.break_down(format!("fsync failed: {error}"));
            Error::io("could not fsync the log", error)
        })
    }
}

impl Entry {
    fn len(&self) -> u64 {
        (self.header.len() + self.payload.len()) as u64
    }
}

/// Creates the next file on `disk`, its name durable, and names it in `manifest` (which the caller stores).
pub(crate) fn create_file(disk: &dyn Disk, manifest: &mut Manifest) -> Result<(u64, Arc<dyn File>)> {
    let no = manifest.next_no;
    let name = log_name(no);
    let create = || {
        // Left over from an attempt whose manifest could not be stored.
        if disk.list()?.contains(&name) {
            disk.remove(&name)?;
        }
        disk.open(&name, OpenMode::Create)
    };
    let file = create().map_err(|e| Error::io(format!("could not create {name}"), e))?;
    manifest.next_no += 1;
    manifest.files.push((no, FileKind::Log));
    Ok((no, file))
}
