//! Maintenance in the background: finishes to the log every 100 ms, fsync every second, checkpoints,
//! cleaning, timers.
//!
//! Each is a function that can be called at any time; the threads only decide when. Tests call them by hand.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::broker::Shared;
use crate::channel::Delta;
use crate::config::Durability;
use crate::error::{Error, Result};
use crate::picture::Picture;
use crate::store::clean::cleaner;
use crate::store::format::event::Event;
use crate::store::log::names::Missing;
use crate::store::log::trouble::Task;

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
    /// Memory that is not needed is given back.
    Memory,
    /// All full chunks are evicted, as where memory is short: messages that are only there are spilled.
    Spill,
}

/// Progress of the maintenance.
pub(crate) struct Maintenance {
    /// Log position of the last checkpoint, and its size.
    checkpoint_at: u64,
    checkpoint_bytes: u64,
    delta: Delta,
}

/// Longest a finish stays out of the log.
const STATE_EVERY: Duration = Duration::from_millis(100);
/// Longest a written frame stays unsynced at level `flush`.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Interval of trimming memory while there is traffic.
const MEMORY_EVERY: Duration = Duration::from_secs(1);
/// Bytes of events in one state frame, about.
const STATE_BYTES: usize = 64 * 1024;
/// Shortest time between two looks at the timers, so that a channel in which messages time out one after the
/// other is not scanned for each.
const TIMERS_EVERY: Duration = Duration::from_millis(4);

impl Maintenance {
    pub(crate) fn new(checkpoint_at: u64) -> Self {
        Self { checkpoint_at, checkpoint_bytes: 0, delta: Delta::default() }
    }
}

impl Shared {
    #[cfg(any(test, feature = "testkit"))]
    pub(crate) fn maintain(&self, step: Step) -> Result<()> {
        match step {
            Step::Timers => self.run_timers(),
            Step::State => self.write_state(),
            Step::Sync => self.sync_if_due()?,
            Step::Checkpoint => self.checkpoint(false)?,
            Step::Clean => self.clean()?,
            Step::Maintain => {
                let result = self.maintain_disk();
                self.log.report(Task::Housekeep, &result);
                result?;
            }
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
        if self.log.is_troubled() {
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

    /// Queues events in frames of about [`STATE_BYTES`]. Nobody waits for them: a state frame is never given
    /// up.
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

    fn sync_if_due(&self) -> Result<()> {
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
        let grown = self.log.written().saturating_sub(maintenance.checkpoint_at);
        let (file, picture) = (self.sizes.file_bytes, maintenance.checkpoint_bytes);
        // Of many topics it takes longer than reading some files again, which only a crash makes necessary.
        // But files after it are not cleaned: not where publishes would be refused for want of that.
        let most = if self.is_short_of_disk() { file } else { 4 * file };
        grown >= (256 * picture).clamp(file, most).max(4 * picture)
    }

    /// Stores the whole state, so that the log before it need not be replayed.
    pub(crate) fn checkpoint(&self, clean_stop: bool) -> Result<()> {
        let mut picture = Picture::begin(self);
        self.topics().iter().filter(|t| t.is_logged()).for_each(|topic| picture.add(self, topic));
        let stored = picture.store(self, clean_stop)?;
        let mut maintenance = self.maintenance.lock();
        (maintenance.checkpoint_at, maintenance.checkpoint_bytes) = (stored.position, stored.bytes);
        Ok(())
    }

    /// Removes what nothing needs from the disk.
    pub(crate) fn clean(&self) -> Result<()> {
        // The files before the picture, which then knows every topic with messages in them; and the picture
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
        let told = self.log.end();
        let epoch = self.log.epoch();
        while self.log.written() < told && self.log.epoch() == epoch {
            self.log.wait_written();
        }
        if self.log.epoch() != epoch {
            return Ok(());
        }
        if self.log.synced() < told {
            self.log.sync()?;
        }
        cleaner::run(&plan, &pending, &self.log, &self.catalog, &*self.disk)
    }

    /// Maintains the files, at most every second: repairs a failing log, makes the next file, takes a
    /// checkpoint if one is due, removes and cleans files.
    fn maintain_disk(&self) -> Result<()> {
        self.replace_missing()?;
        if self.log.is_troubled() {
            self.log.sync()?;
            // What was refused while a file was in doubt or the disk full.
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
        logs.into_iter().for_each(|no| self.log.distrust(no));
        self.log.set_replaces_checkpoint(checkpoint);
        let replaced =
            self.log.sync().and_then(|()| if checkpoint { self.checkpoint(false) } else { Ok(()) });
        self.log.set_replaces_checkpoint(false);
        replaced
    }

    fn trim_memory(&self) {
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
        // Once more where the disk was full: the reserve has been given up then.
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

/// The broker's threads.
pub(crate) struct Threads {
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them.
    ///
    /// # Errors
    /// `Io` if the system refuses a thread.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let mut threads = Vec::new();
        let mut start = |name: &str, run: fn(&Shared)| {
            let shared = shared.clone();
            let spawned = std::thread::Builder::new().name(name.into()).spawn(move || run(&shared));
            threads.push(spawned.map_err(|e| Error::io("could not start a thread", e))?);
            Ok::<_, Error>(())
        };
        start("mq-log", serve_log)?;
        start("mq-sync", serve_sync)?;
        shared.log.set_thread(true);
        start("mq-timers", serve_timers)?;
        start("mq-cleaner", serve_cleaner)?;
        Ok(Self { threads })
    }

    /// Ends them. The broker is marked closed already.
    pub(crate) fn stop(self, shared: &Shared) {
        shared.log.set_thread(false);
        shared.log.bell.unpark();
        shared.log.sync_bell.unpark();
        shared.timers.bell.unpark();
        shared.cleaner_bell.unpark();
        for thread in self.threads {
            // A panic there has been reported by its thread.
            let _ = thread.join();
        }
    }
}

/// Writes when the disk is slow, and keeps the rhythm of state and memory. Sleeps when nothing is due.
fn serve_log(shared: &Shared) {
    let (mut state_at, mut memory_at) = (Instant::now(), Instant::now());
    let mut idle_rounds = 0;
    loop {
        let state_due = shared.dirty.any().then(|| state_at + STATE_EVERY);
        let memory_due = (idle_rounds < 3 || shared.ages()).then(|| memory_at + MEMORY_EVERY);
        let due = [state_due, memory_due].into_iter().flatten().min();
        shared.log.bell.park(due.map(|at| at.saturating_duration_since(Instant::now())));
        if shared.is_closed() {
            return;
        }
        if shared.log.has_queued() {
            shared.log.write_queued();
        }
        let now = Instant::now();
        let reached = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if reached(state_due) {
            shared.write_state();
            state_at = now;
        }
        if state_due.is_some() || shared.log.needs_sync() {
            idle_rounds = 0;
        }
        if reached(memory_due) {
            shared.trim_memory();
            memory_at = now;
            idle_rounds += 1;
        }
    }
}

/// Fsyncs: at once where level `sync` waits for it or a file is full, else every second; and marks what was
/// fsync'd. Alone on its thread, since a disk can take its time.
fn serve_sync(shared: &Shared) {
    let mut sync_at = Instant::now();
    loop {
        let sync_due = shared.log.needs_sync().then(|| sync_at + SYNC_EVERY);
        let mark_due = shared.log.wants_mark().then(|| sync_at + STATE_EVERY);
        let due = [sync_due, mark_due].into_iter().flatten().min();
        let is_wanted = || (shared.log.has_unsynced() || shared.log.has_full()) && !shared.log.is_troubled();
        if !is_wanted() {
            shared.log.sync_bell.park(due.map(|at| at.saturating_duration_since(Instant::now())));
        }
        if shared.is_closed() {
            return;
        }
        let in_rhythm = due.is_some_and(|at| at <= Instant::now());
        if !is_wanted() && !in_rhythm {
            continue;
        }
        if shared.log.has_unsynced() && !shared.log.is_troubled() {
            std::thread::sleep(shared.options.sync_wait);
        }
        let is_full = shared.log.has_full();
        if is_full {
            // The next file is needed before this one is on the disk.
            shared.cleaner_bell.unpark();
        }
        // The log reports what went wrong.
        let _ = shared.sync_if_due();
        // A failed one is tried again in rhythm.
        sync_at = Instant::now();
        if in_rhythm || is_full {
            shared.cleaner_bell.unpark();
        }
    }
}

fn serve_timers(shared: &Shared) {
    loop {
        let wait =
            shared.timers.next().map(|at| Duration::from_nanos(at.saturating_sub(shared.clock.mono())));
        shared.timers.bell.park(wait);
        if shared.is_closed() {
            return;
        }
        let begun = Instant::now();
        let due = shared.timers.next().is_some_and(|at| at <= shared.clock.mono());
        if due {
            shared.run_timers();
            std::thread::sleep(TIMERS_EVERY.saturating_sub(begun.elapsed()));
        }
    }
}

/// Prepares the next file, takes checkpoints and cleans; and sees to it that the log works again.
fn serve_cleaner(shared: &Shared) {
    loop {
        let result = shared.maintain_disk();
        shared.log.report(Task::Housekeep, &result);
        shared.cleaner_bell.park(shared.log.is_troubled().then_some(SYNC_EVERY));
        if shared.is_closed() {
            return;
        }
    }
}
