//! Maintenance in the background: finishes to the log every 100 ms, fsync every second, checkpoints,
//! cleaning, timers.
//!
//! Each is a function that can be called at any time; the threads only decide when. Tests call them by hand.

use crate::config::Durability;
use crate::error::Result;
use crate::shared::Shared;
use crate::snapshot::Snapshot;
use crate::store::clean::cleaner;
use crate::store::format::event::Event;
use crate::store::log::health::Task;
use crate::store::log::names::Missing;

/// A part of the threads' work, done by hand on a broker without threads.
#[cfg(any(test, feature = "testkit"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Messages that timed out or came due.
    Timers,
    /// Finishes, requeues and deferrals to the log.
    State,
    /// An fsync, if one is due, and the mark that records it.
    Sync,
    /// A checkpoint, whether due or not.
    Checkpoint,
    /// Removal and cleaning of files.
    Clean,
    /// The next log file, checkpoints and cleaning where they are due, and repairs of a failing log.
    Maintain,
    /// Memory that is not needed is returned to the system.
    Memory,
    /// All full chunks are evicted, as where memory is short: messages that are only there are spilled.
    Spill,
}

/// Bytes of events in one state frame, about.
const STATE_BYTES: usize = 64 * 1024;
impl Shared {
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn maintain(&self, step: Step) -> Result<()> {
        match step {
            Step::Timers => self.run_timers(),
            Step::State => self.write_state(),
            Step::Sync => self.sync_if_due()?,
            Step::Checkpoint => self.checkpoint(false)?,
            Step::Clean => self.clean()?,
            Step::Maintain => self.maintain_disk()?,
            Step::Memory => self.trim_memory(),
            Step::Spill => {
                while self.evict_oldest() {}
                self.log.write_queued();
            }
        }
        Ok(())
    }

    /// Returns messages that timed out or came due to their channels.
    pub(crate) fn run_timers(&self) {
        let _serving = self.timers.serving.lock();
        let now = self.clock.mono();
        while let Some((at, channel)) = self.timers.pop(now) {
            channel.expire(at, now);
        }
    }

    /// Writes the changes of channels and pump positions that are not in the log yet.
    pub(crate) fn write_state(&self) {
        if self.log.is_failing() {
            self.log.write_queued();
            if self.log.has_queued() {
                // Channels keep their changes, in less space than the log's queue would.
                return;
            }
        }
        let mut maintenance = self.maintenance.lock();
        let (channels, topics) = self.dirty.take();
        let mut events = Vec::new();
        for channel in channels.iter().filter_map(std::sync::Weak::upgrade) {
            let facts = channel.topic().map(|topic| {
                let state = topic.state.lock();
                (topic.is_logged(), state.level, state.spilled_end)
            });
            let (logged, level, spilled_end) =
                facts.unwrap_or((false, Durability::Memory, Default::default()));
            let before = events.len();
            channel.take_events(level, spilled_end, &mut maintenance.delta, &mut events);
            if !logged {
                events.truncate(before);
            }
        }
        for topic in topics.iter().filter_map(std::sync::Weak::upgrade) {
            let mut state = topic.state.lock();
            if state.pump.offset != state.pump_logged && !state.deleted {
                state.pump_logged = state.pump.offset;
                events.push(topic.event(&state));
            }
        }
        self.log_in_parts(&events);
        drop(maintenance);
        self.log.write_queued();
    }

    /// Queues events in frames of about [`STATE_BYTES`]. Nobody waits for them: a state frame is never
    /// dropped.
    fn log_in_parts(&self, events: &[Event]) {
        let (mut bytes, mut count) = (Vec::new(), 0);
        for event in events {
            event.encode(&mut bytes);
            count += 1;
            if bytes.len() >= STATE_BYTES {
                let _ =
                    self.log.enqueue_state(std::mem::take(&mut bytes), count, self.clock.wall(), None, false);
                count = 0;
            }
        }
        if count > 0 {
            let _ = self.log.enqueue_state(bytes, count, self.clock.wall(), None, false);
        }
    }

    pub(crate) fn sync_if_due(&self) -> Result<()> {
        let reserve = self.blocks.lock().top_up(&self.log, self.clock.wall());
        if reserve {
            self.log.write_queued();
        }
        if self.log.needs_sync() || self.log.has_unsynced() {
            self.log.sync()?;
        } else if self.log.enqueue_mark(self.clock.wall()) {
            self.log.write_queued();
        }
        Ok(())
    }

    fn checkpoint_is_due(&self) -> bool {
        let maintenance = self.maintenance.lock();
        let grown = self.log.written().since(maintenance.checkpoint_at);
        let (file, last) = (self.sizes.file_bytes, maintenance.checkpoint_bytes);
        // Of many topics it takes longer than reading some files again, which only a crash makes necessary.
        // But files after it are not cleaned: not where publishes would be refused for want of that.
        let most = if self.is_short_of_disk() { file } else { 4 * file };
        grown >= (256 * last).clamp(file, most).max(4 * last)
    }

    /// Stores the whole state, so that the log before it need not be replayed.
    pub(crate) fn checkpoint(&self, clean_stop: bool) -> Result<()> {
        let mut snapshot = Snapshot::begin(self);
        self.topics().iter().filter(|t| t.is_logged()).for_each(|topic| snapshot.add(self, topic));
        let stored = snapshot.store(self, clean_stop)?;
        let mut maintenance = self.maintenance.lock();
        (maintenance.checkpoint_at, maintenance.checkpoint_bytes) = (stored.position, stored.bytes);
        Ok(())
    }

    /// Removes what nothing needs from the disk.
    pub(crate) fn clean(&self) -> Result<()> {
        // The files before the snapshot, which then knows every topic with messages in them; and the snapshot
        // before the fsync: everything it calls finished is then durable.
        let files = self.catalog.files();
        let pending = self.pending(&files);
        let checkpoint = self.log.checkpoint_position();
        let plan =
            cleaner::plan(&files, &pending, checkpoint, self.sizes.file_bytes, self.is_short_of_disk());
        if plan == cleaner::Plan::default() {
            return Ok(());
        }
        self.write_state();
        let end = self.log.end();
        let epoch = self.log.epoch();
        while self.log.written() < end && self.log.epoch() == epoch {
            self.log.wait_written();
        }
        if self.log.epoch() != epoch {
            return Ok(());
        }
        if self.log.synced() < end {
            self.log.sync()?;
        }
        cleaner::run(&plan, &pending, &self.log, &self.catalog, &*self.disk)
    }

    /// Maintains the files, at most every second: repairs a failing log, makes the next file, takes a
    /// checkpoint if one is due, removes and cleans files. The log's health follows from the result.
    ///
    /// # Errors
    /// The first failure; the rest is done the next time.
    pub(crate) fn maintain_disk(&self) -> Result<()> {
        let result = self.try_maintain_disk();
        self.log.report(Task::Maintain, &result);
        result
    }

    fn try_maintain_disk(&self) -> Result<()> {
        self.replace_missing()?;
        if self.log.is_failing() {
            self.log.sync()?;
            // What was refused while a file was suspect or the disk full.
            self.write_state();
        }
        self.log.prepare_next()?;
        if self.checkpoint_is_due() || self.log.is_full() {
            self.checkpoint(false)?;
        }
        // Where a file can't be cleaned, room may have come from elsewhere.
        let cleaned = self.clean();
        self.log.take_reserve()?;
        cleaned
    }

    /// Has what was removed behind our back written again: as long as it is open, it can be read.
    fn replace_missing(&self) -> Result<()> {
        self.log.check_folder()?;
        let missing = self.log.missing()?;
        if missing == Missing::default() {
            return Ok(());
        }
        let Missing { logs, spare, checkpoint, manifest } = missing;
        tracing::error!(
            "files of the data folder were removed, and are written again as far as they are open"
        );
        if manifest {
            self.log.change_manifest(|_| Ok(()))?;
        }
        if let Some(no) = spare {
            self.log.forget_spare(no)?;
        }
        logs.into_iter().for_each(|no| self.log.mark_suspect(no));
        self.log.set_replaces_checkpoint(checkpoint);
        let replaced =
            self.log.sync().and_then(|()| if checkpoint { self.checkpoint(false) } else { Ok(()) });
        self.log.set_replaces_checkpoint(false);
        replaced
    }

    pub(crate) fn trim_memory(&self) {
        for topic in self.topics() {
            topic.expire();
            topic.forget_ids();
            topic.trim();
            topic.tidy_indexes();
            for channel in &topic.state.lock().channels {
                channel.tidy();
            }
        }
        self.pool.release_idle();
    }

    /// Leaves everything on disk: what is pending in memory too.
    pub(crate) fn stop_cleanly(&self) -> Result<()> {
        // Once more where the disk was full: the reserve has been released then.
        self.write_all().or_else(|_| self.write_all())?;
        self.checkpoint(true)
    }

    fn write_all(&self) -> Result<()> {
        let epoch = self.log.epoch();
        for topic in self.topics() {
            topic.spill_all();
        }
        self.write_state();
        self.log.finish_writing(epoch)
    }
}
