//! The broker's threads: they decide when maintenance is done, and sleep while none is due.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::shared::Shared;

/// Longest a finish stays out of the log.
const STATE_EVERY: Duration = Duration::from_millis(100);
/// Longest a written frame stays unsynced at level `flush`.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// Interval of trimming memory while there is traffic.
const MEMORY_EVERY: Duration = Duration::from_secs(1);
/// Shortest time between two looks at the timers, so that a channel in which messages time out one after the
/// other is not scanned for each.
const TIMERS_EVERY: Duration = Duration::from_millis(4);

/// The broker's threads.
pub(crate) struct Threads {
    threads: Vec<JoinHandle<()>>,
}

impl Threads {
    /// Starts them. Their log lines go where those of the thread that opens the broker go.
    ///
    /// # Errors
    /// `Io` if the system refuses a thread.
    pub(crate) fn start(shared: &Arc<Shared>) -> Result<Self> {
        let mut threads = Vec::new();
        let lines = tracing::dispatcher::get_default(Clone::clone);
        let mut start = |name: &str, run: fn(&Shared)| {
            let (shared, lines) = (shared.clone(), lines.clone());
            let run = move || tracing::dispatcher::with_default(&lines, || run(&shared));
            let spawned = std::thread::Builder::new().name(name.into()).spawn(run);
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

    /// Ends the threads and waits for them. The broker has been marked closed before.
    pub(crate) fn stop(self, shared: &Shared) {
        shared.log.set_thread(false);
        shared.log.log_thread.unpark();
        shared.log.sync_thread.unpark();
        shared.timers.thread.unpark();
        shared.cleaner_thread.unpark();
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
        shared.log.log_thread.park(due.map(|at| at.saturating_duration_since(Instant::now())));
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
        let is_wanted = || (shared.log.has_unsynced() || shared.log.has_full()) && !shared.log.is_failing();
        if !is_wanted() {
            shared.log.sync_thread.park(due.map(|at| at.saturating_duration_since(Instant::now())));
        }
        if shared.is_closed() {
            return;
        }
        let in_rhythm = due.is_some_and(|at| at <= Instant::now());
        if !is_wanted() && !in_rhythm {
            continue;
        }
        if shared.log.has_unsynced() && !shared.log.is_failing() {
            std::thread::sleep(shared.options.sync_wait);
        }
        let is_full = shared.log.has_full();
        if is_full {
            // The next file is needed before this one is on the disk.
            shared.cleaner_thread.unpark();
        }
        // The log reports what went wrong.
        let _ = shared.sync_if_due();
        // A failed one is tried again in rhythm.
        sync_at = Instant::now();
        if in_rhythm || is_full {
            shared.cleaner_thread.unpark();
        }
    }
}

fn serve_timers(shared: &Shared) {
    loop {
        let wait = shared.timers.next().map(|at| Duration::from_nanos(at.since(shared.clock.mono())));
        shared.timers.thread.park(wait);
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
        // The log reports what went wrong.
        let _ = shared.maintain_disk();
        shared.cleaner_thread.park(shared.log.is_failing().then_some(SYNC_EVERY));
        if shared.is_closed() {
            return;
        }
    }
}
