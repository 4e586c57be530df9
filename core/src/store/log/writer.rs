//! The writing end of the log: rounds of writes, the next file, fsync.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::store::disk::File;
use crate::store::format::file::{FILE_HEADER_BYTES, FileHeader, FileKind, log_name};
use crate::store::format::file_index;
use crate::store::format::frame::{HEADER_BYTES, Kind};
use crate::store::format::manifest::Manifest;
use crate::store::format::own;
use crate::store::log::log::{Entry, Item, Unsynced};
use crate::store::log::trouble::Task;
use crate::store::log::{Landed, Landing, Log, Wake};

/// A write that takes longer moves writing to the log's own thread.
const SLOW_WRITE: Duration = Duration::from_millis(5);
/// Bytes of frames that go into one write.
const WRITE_BYTES_MAX: u64 = 4 << 20;
/// Rounds one caller writes for others before it leaves the rest to the log's thread.
const ROUNDS_MAX: usize = 16;

/// The file being written. Behind the log's writer lock.
pub(crate) struct Writer {
    pub(in crate::store) file: Arc<dyn File>,
    pub(in crate::store) header: FileHeader,
    /// Byte of the file that the next frame goes to. 0 until the header is written, which goes with the
    /// first frame.
    at: u64,
    /// The queue being written; kept for its memory.
    round: VecDeque<Item>,
    /// Headers of the frames of one write, kept for its memory.
    headers: Vec<[u8; HEADER_BYTES]>,
    teller: Teller,
}

/// Files that may hold unsynced frames.
pub(super) struct Files {
    /// The file being written, and its number.
    pub(super) current: (u64, Arc<dyn File>),
    /// Files that were followed by another and have no index yet.
    pub(super) full: Vec<(FileHeader, Arc<dyn File>)>,
    /// A file created ahead of its need.
    spare: Option<Spare>,
    /// Whether a file was filled since the log was opened: then the next is likely to be too.
    has_rolled: bool,
}

/// The file that will be written next.
#[derive(Clone)]
struct Spare {
    no: u64,
    file: Arc<dyn File>,
    /// Whether the manifest names it for sure. If storing the manifest failed, the one on disk may or may
    /// not.
    is_named: bool,
}

impl Writer {
    /// Goes on in `file`, whose frames end at `at` (0: not even the header is written).
    pub(crate) fn new(file: Arc<dyn File>, header: FileHeader, at: u64) -> Self {
        Self { file, header, at, round: VecDeque::new(), headers: Vec::new(), teller: Teller::default() }
    }

    /// Goes on in another file that holds the same frames, which end at `at`.
    pub(super) fn go_on_in(&mut self, file: Arc<dyn File>, header: FileHeader, at: u64) {
        (self.file, self.header, self.at) = (file, header, at);
    }

    /// Position after the last written frame.
    fn position(&self) -> u64 {
        if self.at == 0 { self.header.base } else { self.header.position(self.at) }
    }
}

impl Files {
    pub(super) fn new(writer: &Writer, full: Vec<(FileHeader, Arc<dyn File>)>) -> Self {
        Self { current: (writer.header.no, writer.file.clone()), full, spare: None, has_rolled: false }
    }

    /// The next file, if it is file `no`.
    pub(super) fn spare(&self, no: u64) -> Option<Arc<dyn File>> {
        self.spare.as_ref().filter(|spare| spare.no == no).map(|spare| spare.file.clone())
    }
}

impl Log {
    /// Writes all that is queued, unless another thread is writing: then that one does it.
    pub(crate) fn commit(&self) {
        if self.slow.load(Ordering::Relaxed) && self.has_thread.load(Ordering::Relaxed) {
            self.bell.unpark();
            return;
        }
        self.write_queued();
    }

    /// [`Log::commit`] on the log's own thread, however slow the disk is.
    pub(crate) fn write_queued(&self) {
        for _ in 0..ROUNDS_MAX {
            let Some(mut writer) = self.writer.try_lock() else { return };
            let written = self.write_round(&mut writer);
            drop(writer);
            if !written || !self.has_queued() {
                return;
            }
        }
        self.bell.unpark();
    }

    /// Writes all that is queued, waiting for whoever is writing.
    ///
    /// # Errors
    /// `Full`, `Io`: some of what was queued since `epoch` is not written.
    pub(crate) fn finish_writing(&self, epoch: u64) -> Result<()> {
        self.wait_written();
        if self.has_queued() || self.epoch() != epoch {
            self.health()?;
            return Err(Error::new(ErrorKind::Io, "the log could not be written to its end"));
        }
        Ok(())
    }

    /// Waits until what is queued was written, or refused.
    pub(crate) fn wait_written(&self) {
        let mut writer = self.writer.lock();
        self.write_round(&mut writer);
    }

    /// Writes what was queued when it began. `false` if that failed, and an epoch ended.
    fn write_round(&self, writer: &mut Writer) -> bool {
        let mut round = std::mem::take(&mut writer.round);
        std::mem::swap(&mut round, &mut self.assign.lock().queue);
        let mut result = Ok(());
        while let Some(item) = round.front() {
            result = match item {
                _ if self.doubts(writer.header.no) => self.check(),
                Item::Roll { base } => {
                    let rolled = self.roll(writer, *base);
                    if rolled.is_ok() {
                        round.pop_front();
                    }
                    rolled
                }
                Item::Frame(_) => self.write_frames(writer, &mut round),
            };
            if let Err(error) = &result {
                self.fail(writer, &mut round, error);
                break;
            }
        }
        writer.round = round;
        self.trouble.report(Task::Write, &result);
        result.is_ok()
    }

    /// Writes the frames at the front of `round` that go into one file and one write, and removes them from
    /// it.
    fn write_frames(&self, writer: &mut Writer, round: &mut VecDeque<Item>) -> Result<()> {
        let (mut len, mut frames) = (0, 0);
        writer.headers.clear();
        for item in round.iter() {
            let Item::Frame(entry) = item else { break };
            writer.headers.push(entry.header.encode(writer.header.salt, entry.position));
            len += entry.len();
            frames += 1;
            if len >= WRITE_BYTES_MAX {
                break;
            }
        }
        let file_header = writer.header.encode();
        let mut slices = Vec::with_capacity(2 * frames + 1);
        if writer.at == 0 {
            slices.push(IoSlice::new(&file_header));
        }
        for (item, header) in round.iter().zip(&writer.headers) {
            slices.push(IoSlice::new(header));
            if let Item::Frame(entry) = item
                && !entry.payload.is_empty()
            {
                slices.push(IoSlice::new(&entry.payload));
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
            Item::Frame(Entry { landing: Some((_, landed)), position, header, .. }) => {
                let at = writer.header.at(*position);
                Some((at, header.frame_len(), header.topic, landed.frame.first, landed.frame.last()))
            }
            _ => None,
        });
        self.catalog.wrote(writer.header.no, writer.at, entries);
        let position = writer.position();
        let unsynced = self.land(writer, round, frames);
        self.written.store(position, Ordering::Release);
        self.unwritten.fetch_sub(len - unsynced, Ordering::Relaxed);
        writer.teller.wake();
        if unsynced > 0 {
            self.sync_bell.unpark();
        }
        self.tell_room();
        Ok(())
    }

    /// Takes the first `count` items off `round`, which are written: reports to their owners, but for those
    /// that wait for an fsync. Returns how many bytes these are.
    fn land(&self, writer: &mut Writer, round: &mut VecDeque<Item>, count: usize) -> u64 {
        let mut unsynced = 0;
        for item in round.drain(..count) {
            let Item::Frame(entry) = item else { continue };
            if entry.synced {
                let (len, end) = (entry.len(), entry.position + entry.len());
                unsynced += len;
                let Entry { landing, wake, .. } = entry;
                self.unsynced.lock().push_back(Unsynced { end, len, landing, wake });
            } else {
                writer.teller.add(entry.landing, entry.wake);
            }
        }
        writer.teller.tell(true);
        unsynced
    }

    /// Lands what waited for an fsync, up to the position `target`.
    fn land_synced(&self, target: u64) {
        let mut teller = Teller::default();
        let mut len = 0;
        loop {
            let mut unsynced = self.unsynced.lock();
            let Some(next) = unsynced.pop_front_if(|next| next.end <= target) else { break };
            drop(unsynced);
            len += next.len;
            teller.add(next.landing, next.wake);
        }
        teller.tell(true);
        self.synced.fetch_max(target, Ordering::AcqRel);
        self.unwritten.fetch_sub(len, Ordering::Relaxed);
        teller.wake();
        if len > 0 {
            self.tell_room();
        }
    }

    /// Fails what is queued: cuts file and queue back to the last whole frame, and reports to the frames'
    /// owners. State frames are queued again, for what they record holds, whoever was refused.
    fn fail(&self, writer: &mut Writer, round: &mut VecDeque<Item>, error: &Error) {
        self.counters.write_failed();
        if error.kind() == ErrorKind::Full {
            self.release_reserve();
        }
        let position = writer.position();
        let no = writer.header.no;
        if !self.doubts(no)
            && let Err(e) = writer.file.truncate(writer.at)
        {
            tracing::error!("log file {no} could not be cut back after a failed write: {e}");
            self.distrust(no);
        }
        let mut assign = self.assign.lock();
        round.append(&mut assign.queue);
        assign.end = position;
        assign.data_end = assign.data_end.min(position);
        assign.base = writer.header.base;
        self.cut(position, error.kind());
        let mut refused = 0;
        for item in round.drain(..) {
            let Item::Frame(mut entry) = item else { continue };
            self.unwritten.fetch_sub(entry.len(), Ordering::Relaxed);
            let wake = entry.wake.take();
            let landing = entry.landing.take();
            if entry.header.kind == Kind::State {
                self.place(&mut assign, entry);
            } else {
                refused += 1;
            }
            writer.teller.add(landing, wake);
        }
        drop(assign);
        tracing::debug!("{refused} queued frames were refused: {error}");
        writer.teller.tell(false);
        writer.teller.wake();
        self.tell_room();
    }

    /// Goes on in the next file.
    fn roll(&self, writer: &mut Writer, base: u64) -> Result<()> {
        let Spare { no, file, .. } = self.spare()?;
        self.files.lock().spare = None;
        let header = FileHeader { kind: FileKind::Log, no, base, salt: fastrand::u64(..) };
        self.catalog.open_file(header, file.clone());
        let mut files = self.files.lock();
        files.full.push((writer.header, writer.file.clone()));
        files.current = (no, file.clone());
        files.has_rolled = true;
        drop(files);
        writer.go_on_in(file, header, 0);
        self.sync_bell.unpark();
        Ok(())
    }

    /// Creates the next file ahead of its need, so that no publish waits for it.
    pub(crate) fn prepare_next(&self) -> Result<()> {
        self.spare().map(|_| ())
    }

    /// The next file, created and named in the manifest if it was not yet.
    fn spare(&self) -> Result<Spare> {
        let _one = self.preparing.lock();
        let files = self.files.lock();
        let (made, has_rolled) = (files.spare.clone(), files.has_rolled);
        drop(files);
        let mut spare = match made {
            Some(spare) if spare.is_named => return Ok(spare),
            Some(spare) => spare,
            None => {
                let (no, file) = own::create_numbered(&*self.disk, log_name, || self.take_file_no())?;
                if has_rolled {
                    self.take_space(&*file);
                }
                Spare { no, file, is_named: false }
            }
        };
        // Kept should the manifest fail: what may be named on disk must stay.
        self.files.lock().spare = Some(spare.clone());
        self.change_manifest(|manifest| {
            manifest.files.push((spare.no, FileKind::Log));
            Ok(())
        })?;
        spare.is_named = true;
        self.files.lock().spare = Some(spare.clone());
        Ok(spare)
    }

    /// Gives up the next file, whose name is gone: another is made.
    pub(crate) fn forget_spare(&self, no: u64) -> Result<()> {
        let _one = self.preparing.lock();
        if self.files.lock().spare.take_if(|spare| spare.no == no).is_none() {
            return Ok(());
        }
        self.change_manifest(|manifest| {
            manifest.files.retain(|(other, _)| *other != no);
            Ok(())
        })
    }

    /// Takes the space that the file will need: writing costs a fifth less so. Where there is little, it is
    /// left to those who make more, and taken as the file is written.
    fn take_space(&self, file: &dyn File) {
        if !self.is_full() && file.allocate(self.file_bytes).is_err() {
            // Some of it may have been taken.
            let _ = file.truncate(0);
        }
    }

    /// Changes the manifest and stores it; on an error it is as before.
    pub(crate) fn change_manifest<T>(&self, change: impl FnOnce(&mut Manifest) -> Result<T>) -> Result<T> {
        let mut manifest = self.manifest.lock();
        let mut changed = manifest.clone();
        let out = change(&mut changed)?;
        changed.store(&*self.disk)?;
        *manifest = changed;
        for name in std::mem::take(&mut *self.left_over.lock()) {
            // If it can't be removed now, it is at the next open.
            let _ = self.disk.remove(&name);
        }
        Ok(out)
    }

    /// A file that the manifest on disk may name or not, since storing it failed: it is removed once that is
    /// known.
    pub(crate) fn leave_over(&self, name: String) {
        self.left_over.lock().push(name);
    }

    /// Makes everything written before the call durable: gives full files their index, and fsyncs. What
    /// waited for it lands.
    ///
    /// # Errors
    /// `Full`, `Io`, `Damaged`: nothing more is acknowledged at level `sync` until a later call succeeds.
    pub(crate) fn sync(&self) -> Result<()> {
        let _one = self.syncing.lock();
        let mut result = self.sync_once();
        if let Err(error) = &result {
            let has_room = error.kind() == ErrorKind::Full && self.release_reserve();
            if has_room || self.trouble.doubtful().is_some() {
                result = self.sync_once();
            }
        }
        self.trouble.report(Task::Sync, &result);
        result
    }

    fn sync_once(&self) -> Result<()> {
        if self.is_troubled() {
            self.check_folder()?;
        }
        self.heal()?;
        let target = self.written();
        let (full, (no, current)) = {
            let files = self.files.lock();
            (files.full.clone(), files.current.clone())
        };
        for (header, file) in full {
            self.seal(&header, &file)?;
            self.files.lock().full.retain(|(h, _)| h.no != header.no);
        }
        self.fsync(no, &current)?;
        self.check_names(no, &current)?;
        self.land_synced(target);
        self.forget_doubt();
        Ok(())
    }

    /// Writes the index of a full file and fsyncs it.
    fn seal(&self, header: &FileHeader, file: &Arc<dyn File>) -> Result<()> {
        let Some((runs, frames_end)) = self.catalog.open_runs(header.no) else { return Ok(()) };
        let (index, table) = file_index::encode(&runs, frames_end);
        file.write_at(&mut [IoSlice::new(&index)], frames_end)
            .map_err(|e| Error::io("could not write a file's index", e))?;
        self.fsync(header.no, file)?;
        self.catalog.seal(header.no, table);
        Ok(())
    }

    fn fsync(&self, no: u64, file: &Arc<dyn File>) -> Result<()> {
        let begun = Instant::now();
        let result = file.sync();
        self.counters.synced(begun.elapsed(), result.is_err());
        result.map_err(|error| {
            self.distrust(no);
            self.tell_doubt();
            Error::io(format!("could not fsync log file {no}"), error)
        })
    }
}

/// Reports to owners of frames what became of them, neighbours of one owner together, and then wakes who
/// waits.
#[derive(Default)]
struct Teller {
    told: Vec<(Arc<dyn Landing>, Landed)>,
    /// Frames of one owner.
    landed: Vec<Landed>,
    wakes: Vec<Arc<dyn Wake>>,
}

impl Teller {
    fn add(&mut self, landing: Option<(Arc<dyn Landing>, Landed)>, wake: Option<Arc<dyn Wake>>) {
        self.told.extend(landing);
        if let Some(wake) = wake
            && !self.wakes.last().is_some_and(|last| Arc::ptr_eq(last, &wake))
        {
            self.wakes.push(wake);
        }
    }

    /// Reports that all frames added were written, or failed.
    fn tell(&mut self, written: bool) {
        let tell = |to: Arc<dyn Landing>, landed: &mut Vec<Landed>| match written {
            true => to.written(landed),
            false => to.failed(landed),
        };
        let mut owner: Option<Arc<dyn Landing>> = None;
        for (landing, landed) in self.told.drain(..) {
            match &owner {
                Some(same) if Arc::ptr_eq(same, &landing) => {}
                _ => {
                    if let Some(other) = owner.replace(landing) {
                        tell(other, &mut self.landed);
                    }
                }
            }
            self.landed.push(landed);
        }
        if let Some(last) = owner {
            tell(last, &mut self.landed);
        }
    }

    fn wake(&mut self) {
        self.wakes.drain(..).for_each(|wake| wake.wake());
    }
}

impl Entry {
    fn len(&self) -> u64 {
        self.header.frame_len()
    }
}
