//! Numbers about a broker, for people and for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A broker's numbers. Counts and times are since the start.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// broker.topic(&"orders".parse()?)?.publish_one(b"one pizza")?.wait(&broker)?;
/// let stats = broker.stats();
/// assert!(stats.topics == 1 && stats.memory_used <= stats.memory_limit);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerStats {
    /// Topics.
    pub topics: u64,
    /// Topics that are stopped for damage: see [`Broker::damaged_topics`](crate::Broker::damaged_topics).
    pub damaged_topics: u64,
    /// Bytes of memory that messages may take.
    pub memory_limit: u64,
    /// Bytes of memory held for messages.
    pub memory_used: u64,
    /// Most bytes that the log's files may take; 0: no limit.
    pub disk_limit: u64,
    /// Bytes free on the disk that the log is on; `None` where nobody knows.
    pub disk_free: Option<u64>,
    /// Files of the log.
    pub log_files: u64,
    /// Bytes of frames in them.
    pub log_bytes: u64,
    /// The part of these bytes whose messages are pending; the rest is dead.
    pub live_bytes: u64,
    /// Bytes queued for the log and not acknowledged yet.
    pub unwritten_bytes: u64,
    /// Position up to which the log is written, in bytes since the folder was made.
    pub written: u64,
    /// Position up to which it is fsync'd. `written - synced` is what a power loss could take.
    pub synced: u64,
    /// Calls of fsync on the log.
    pub syncs: u64,
    /// Time spent in them.
    pub sync_time: Duration,
    /// Writes of the log that failed.
    pub write_failures: u64,
    /// Calls of fsync on the log that failed.
    pub sync_failures: u64,
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Files the cleaner removed.
    pub cleaned_files: u64,
    /// Bytes the cleaner copied to free the rest of their files.
    pub cleaned_bytes: u64,
}

/// Counts what happens to the log. Nothing is ordered by these.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    syncs: AtomicU64,
    sync_nanos: AtomicU64,
    write_failures: AtomicU64,
    sync_failures: AtomicU64,
    checkpoints: AtomicU64,
    cleaned_files: AtomicU64,
    cleaned_bytes: AtomicU64,
}

fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

impl Counters {
    pub(crate) fn synced(&self, took: Duration, failed: bool) {
        add(&self.syncs, 1);
        add(&self.sync_nanos, u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
        add(&self.sync_failures, u64::from(failed));
    }

    pub(crate) fn write_failed(&self) {
        add(&self.write_failures, 1);
    }

    pub(crate) fn checkpoint_taken(&self) {
        add(&self.checkpoints, 1);
    }

    pub(crate) fn cleaned(&self, files: u64, bytes: u64) {
        add(&self.cleaned_files, files);
        add(&self.cleaned_bytes, bytes);
    }

    /// Copies the counts to `stats`.
    pub(crate) fn fill(&self, stats: &mut BrokerStats) {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.syncs = of(&self.syncs);
        stats.sync_time = Duration::from_nanos(of(&self.sync_nanos));
        stats.write_failures = of(&self.write_failures);
        stats.sync_failures = of(&self.sync_failures);
        stats.checkpoints = of(&self.checkpoints);
        stats.cleaned_files = of(&self.cleaned_files);
        stats.cleaned_bytes = of(&self.cleaned_bytes);
    }
}
