//! The writing end of the log: rounds of writes, and going on in the next file.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::store::format::file::{FILE_HEADER_BYTES, FileHeader, FileKind};
use crate::store::format::frame::Kind;
use crate::store::format::log_pos::LogPos;
use crate::store::log::Log;
use crate::store::log::files::{Spare, Writer};
use crate::store::log::health::Task;
use crate::store::log::queue::{Entry, Item, Unsynced};
use crate::store::log::ticket::Epoch;

/// A write that takes longer moves writing to the log's own thread.
const SLOW_WRITE: Duration = Duration::from_millis(5);
/// Bytes of frames that go into one write.
const WRITE_BYTES_MAX: u64 = 4 << 20;
/// Rounds one caller writes for others before it leaves the rest to the log's thread.
const ROUNDS_MAX: usize = 16;

impl Log {
    /// Writes all that is queued, unless another thread is writing: then that one does it.
    pub(crate) fn commit(&self) {
        if self.slow.load(Ordering::Relaxed) && self.has_thread.load(Ordering::Relaxed) {
            self.log_thread.unpark();
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
        self.log_thread.unpark();
    }

    /// Writes all that is queued, waiting for whoever is writing.
    ///
    /// # Errors
    /// `Full`, `Io`: some of what was queued since `epoch` is not written.
    pub(crate) fn finish_writing(&self, epoch: Epoch) -> Result<()> {
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
                _ if self.health.is_suspect(writer.header.no) => self.check(),
                Item::Roll { base } => {
                    let rolled = self.roll(writer, *base);
                    if rolled.is_ok() {
                        round.pop_front();
                    }
                    rolled
                }
                Item::Frame(_) => match self.write_frames(writer, &mut round) {
                    Err(error) if self.go_on_in_space_taken(writer, &error) => Ok(()),
                    written => written,
                },
            };
            if let Err(error) = &result {
                self.fail(writer, &mut round, error);
                break;
            }
        }
        writer.round = round;
        self.health.report(Task::Write, &result);
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
            Item::Frame(Entry { data: Some((_, queued)), position, header, .. }) => {
                let at = writer.header.at(*position);
                Some((at, header.frame_len(), header.topic, queued.frame.first, queued.frame.last()))
            }
            _ => None,
        });
        self.catalog.wrote(writer.header.no, writer.at, entries);
        let position = writer.position();
        let unsynced = self.complete(writer, round, frames);
        self.written.store(position.0, Ordering::Release);
        self.unwritten.fetch_sub(len - unsynced, Ordering::Relaxed);
        writer.completions.wake();
        if unsynced > 0 {
            self.sync_thread.unpark();
        }
        self.wake_waiting();
        Ok(())
    }

    /// Takes the first `count` items off `round`, which are written: reports to their owners, but for those
    /// that wait for an fsync. Returns how many bytes these are.
    fn complete(&self, writer: &mut Writer, round: &mut VecDeque<Item>, count: usize) -> u64 {
        let mut unsynced = 0;
        for item in round.drain(..count) {
            let Item::Frame(entry) = item else { continue };
            if entry.synced {
                let (len, end) = (entry.len(), entry.position.plus(entry.len()));
                unsynced += len;
                let Entry { data, wake, .. } = entry;
                self.unsynced.lock().push_back(Unsynced { end, len, data, wake });
            } else {
                writer.completions.add(entry.data, entry.wake);
            }
        }
        writer.completions.report(true);
        unsynced
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
        if !self.health.is_suspect(no)
            && let Err(e) = writer.file.truncate(writer.at)
        {
            tracing::error!("log file {no} could not be cut back after a failed write: {e}");
            self.mark_suspect(no);
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
            let data = entry.data.take();
            if entry.header.kind == Kind::State {
                self.place(&mut assign, entry);
            } else {
                refused += 1;
            }
            writer.completions.add(data, wake);
        }
        drop(assign);
        tracing::debug!("{refused} queued frames were refused: {error}");
        writer.completions.report(false);
        writer.completions.wake();
        self.wake_waiting();
    }

    /// On a full disk, goes on in the next file before this one is full, if the next file's space was taken
    /// ahead. `false` if it can't: the write has failed.
    fn go_on_in_space_taken(&self, writer: &mut Writer, error: &Error) -> bool {
        let has_space =
            || self.files.lock().spare.as_ref().is_some_and(|next| next.has_space && next.is_named);
        let (old_base, base) = (writer.header.base, writer.position());
        if error.kind() != ErrorKind::Full
            || base == old_base
            || !has_space()
            || writer.file.truncate(writer.at).is_err()
            || self.roll(writer, base).is_err()
        {
            return false;
        }
        // Unless a later file's beginning is queued already.
        let mut assign = self.assign.lock();
        if assign.base == old_base {
            assign.base = base;
        }
        true
    }

    /// Goes on in the next file.
    fn roll(&self, writer: &mut Writer, base: LogPos) -> Result<()> {
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
        self.sync_thread.unpark();
        Ok(())
    }
}
