//! The ground of a broker: what its topics, channels and threads share.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::TopicNo;
use crate::sync::Mutex;

use crate::blocks::Blocks;
use crate::channel::{Channel, Delta, Load};
use crate::clock::Clock;
use crate::config::{Durability, Options, StoreSizes};
use crate::dirty::Dirty;
use crate::error::{Error, ErrorKind, Result};
use crate::io_pool::IoPool;
use crate::latency::Measuring;
use crate::name::TopicName;
use crate::parker::Parker;
use crate::stats::BrokerStats;
use crate::store::clean::cleaner;
use crate::store::clean::pending::Pending;
use crate::store::disk::Disk;
use crate::store::format::event::Event;
use crate::store::log::{Log, Ticket};
use crate::store::memory::chunk::{Pool, Residency};
use crate::store::read::catalog::{Catalog, FileFacts};
use crate::timers::Timers;
use crate::topic::{Topic, TopicDamage, TopicSettings, TopicState};
use crate::wake::Wake;
use crate::watch::Watch;

/// The ground that all topics stand on.
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) sizes: StoreSizes,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) pool: Arc<Pool>,
    pub(crate) log: Arc<Log>,
    pub(crate) blocks: Mutex<Blocks>,
    pub(crate) timers: Timers<Channel>,
    pub(crate) dirty: Dirty,
    pub(crate) measuring: Measuring,
    pub(crate) maintenance: Mutex<MaintenanceState>,
    pub(crate) io: IoPool<Load>,
    /// The cleaner: unparked when there may be files to clean or a checkpoint to take.
    pub(crate) cleaner_thread: Parker,
    pub(crate) watch: Watch,
    pub(crate) registry: Mutex<Registry>,
    pub(crate) next_topic: AtomicU32,
    pub(crate) next_channel: AtomicU32,
    /// Whether any topic was ever given a limit of age.
    pub(crate) ages: AtomicBool,
    /// Whether any topic was ever stopped for damage.
    pub(crate) any_damage: AtomicBool,
    pub(crate) closed: AtomicBool,
    /// Set at the end of closing: what is undecided then stays so.
    pub(crate) stopped: AtomicBool,
    pub(crate) draining: AtomicBool,
    /// Damage found when the folder was opened.
    pub(crate) damage: Vec<String>,
    /// Whether the folder was new or left by a clean stop.
    pub(crate) clean_stop: bool,
}

/// All topics.
#[derive(Default)]
pub(crate) struct Registry {
    pub(crate) by_name: HashMap<TopicName, Arc<Topic>>,
    pub(crate) by_no: HashMap<TopicNo, Arc<Topic>>,
}

/// Progress of the maintenance.
pub(crate) struct MaintenanceState {
    /// Log position of the last checkpoint, and its size.
    pub(crate) checkpoint_at: LogPos,
    pub(crate) checkpoint_bytes: u64,
    /// The changes of one channel; kept for its memory.
    pub(crate) delta: Delta,
}

impl Shared {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Whether so much waits to be written, or is held in memory, that publishers should stop.
    pub(crate) fn is_congested(&self) -> bool {
        self.log.is_congested() || {
            self.make_room();
            self.pool.is_full()
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    pub(crate) fn commit(&self) {
        self.log.commit();
    }

    /// Queues events as one state frame, acknowledged as a topic at `level` wants it. `wake` is called when
    /// another thread decided that.
    pub(crate) fn log_events(
        &self,
        events: &[Event],
        level: Durability,
        wake: Option<&Arc<dyn Wake>>,
    ) -> Ticket {
        if events.is_empty() {
            return Ticket::DONE;
        }
        let mut bytes = Vec::new();
        events.iter().for_each(|event| event.encode(&mut bytes));
        let synced = level == Durability::Sync;
        self.log.enqueue_state(bytes, events.len() as u32, self.clock.wall(), wake.cloned(), synced)
    }

    pub(crate) fn stats(&self) -> BrokerStats {
        let files = self.catalog.files();
        let pending = self.pending(&files);
        let topics = self.registry.lock().by_no.len() as u64;
        let mut stats = BrokerStats {
            topics,
            damaged_topics: self.damaged_topics().len() as u64,
            memory_limit: self.options.memory_limit,
            memory_used: self.pool.used(),
            disk_limit: self.options.max_disk_bytes,
            disk_free: disk_free(&self.options.data_path),
            log_files: files.len() as u64,
            log_bytes: files.iter().map(|f| f.bytes).sum(),
            live_bytes: files.iter().map(|f| cleaner::live_bytes(f, &pending)).sum(),
            unwritten_bytes: self.log.unwritten(),
            written: self.log.written().0,
            synced: self.log.synced().0,
            ..BrokerStats::default()
        };
        self.log.counters.fill(&mut stats);
        stats
    }

    pub(crate) fn damaged_topics(&self) -> Vec<(TopicName, TopicDamage)> {
        if !self.any_damage.load(Ordering::Acquire) {
            return Vec::new();
        }
        let damage = |topic: &Arc<Topic>| topic.damage().map(|damage| (topic.name().clone(), damage));
        let mut damaged: Vec<_> = self.topics().iter().filter_map(damage).collect();
        damaged.sort_by(|(a, _), (b, _)| a.cmp(b));
        damaged
    }

    /// The pending messages of each topic that has any in the files: few of many may.
    pub(crate) fn pending(&self, files: &[FileFacts]) -> HashMap<TopicNo, Pending> {
        let parts = files.iter().flat_map(|file| &file.topics);
        let numbers: BTreeSet<TopicNo> = parts.map(|part| part.topic).collect();
        let registry = self.registry.lock();
        let topics: Vec<_> = numbers.iter().filter_map(|no| registry.by_no.get(no)).cloned().collect();
        drop(registry);
        let pending = topics.iter().map(|topic| {
            let collected = topic.state.lock().collect_pending();
            (topic.no, collected.sort())
        });
        pending.collect()
    }

    /// See [`Broker::hold_new_topics`]. Topics are created under the registry's lock: none slips through.
    pub(crate) fn set_holds_new_topics(&self, hold: bool) {
        let _registry = self.registry.lock();
        self.watch.set_holds(hold);
    }

    /// All topics, in no order.
    pub(crate) fn topics(&self) -> Vec<Arc<Topic>> {
        self.registry.lock().by_no.values().cloned().collect()
    }

    pub(crate) fn next_topic_no(&self) -> TopicNo {
        TopicNo(self.next_topic.load(Ordering::Relaxed))
    }

    /// Most messages that may wait for an ephemeral channel of a topic: few enough that they take at most
    /// 1/16 of the memory.
    pub(crate) fn ephemeral_limit(&self, topic: &TopicState) -> u64 {
        let average = topic.message_bytes / topic.message_count.max(1);
        self.options.ephemeral_queue.min(self.options.memory_limit / 16 / average.max(1)).max(1)
    }

    /// Whether the disk's budget has room for `bytes` more.
    ///
    /// # Errors
    /// `Full`.
    pub(crate) fn disk_room(&self, bytes: u64) -> Result<()> {
        let max = self.options.max_disk_bytes;
        if max == 0 {
            return Ok(());
        }
        // With the reserve, and a file's room for finishes and for cleaning.
        let used = self.catalog.bytes() + self.log.unwritten() + 2 * self.sizes.file_bytes;
        if used + bytes <= max {
            return Ok(());
        }
        let text = if self.disk.is_in_memory() {
            format!(
                "the memory of this broker is full: beyond its memory limit it holds {used} bytes, of {max} at most; there is room once messages are finished"
            )
        } else {
            format!("the data folder holds {used} bytes, max-disk-bytes is {max}")
        };
        Err(Error::new(ErrorKind::Full, text))
    }

    /// Whether any topic drops what is too old, so that time alone is reason to look.
    pub(crate) fn ages(&self) -> bool {
        self.ages.load(Ordering::Relaxed)
    }

    /// Whether so much of the disk's budget is used that cleaning pays before its time.
    pub(crate) fn is_short_of_disk(&self) -> bool {
        let max = self.options.max_disk_bytes;
        max > 0 && self.catalog.bytes() + 4 * self.sizes.file_bytes > max
    }

    /// See [`Broker::create_topic`](crate::Broker::create_topic).
    pub(crate) fn create_topic(
        self: &Arc<Self>,
        name: &TopicName,
        settings: impl FnOnce(&mut TopicSettings),
    ) -> Result<(Arc<Topic>, bool)> {
        let mut registry = self.registry.lock();
        if let Some(topic) = registry.by_name.get(name) {
            return Ok((topic.clone(), false));
        }
        if self.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the broker is closing"));
        }
        self.check_draining()?;
        let max = self.options.max_topics;
        if registry.by_name.len() >= max {
            return Err(Error::new(ErrorKind::LimitReached, format!("there are {max} topics, the limit")));
        }
        let no = TopicNo(self.next_topic.fetch_add(1, Ordering::Relaxed));
        let topic = Topic::new(no, name.clone(), self.options.durability, self);
        topic.begin(settings)?;
        registry.insert(topic.clone());
        drop(registry);
        self.commit();
        self.watch.changed();
        Ok((topic, true))
    }

    /// The topic for dead letters of a topic at `level`, made where it is missing: at that level or above.
    pub(crate) fn dead_letter_topic(
        self: &Arc<Self>,
        name: &TopicName,
        level: Durability,
    ) -> Result<Arc<Topic>> {
        self.create_topic(name, |settings| settings.raise(level)).map(|(topic, _)| topic)
    }

    /// Takes a topic out of the registry and ends it.
    pub(crate) fn remove_topic(&self, topic: &Topic) -> Ticket {
        {
            let mut registry = self.registry.lock();
            if registry.by_no.remove(&topic.no).is_none() {
                return Ticket::DONE;
            }
            registry.by_name.remove(topic.name());
        }
        let wakes = topic.close();
        let ticket = match topic.is_logged() {
            true => self.log_events(&[Event::TopicDeleted { topic: topic.no }], topic.durability(), None),
            false => Ticket::DONE,
        };
        self.commit();
        wakes.iter().for_each(|w| w.wake());
        self.watch.changed();
        ticket
    }

    /// Makes topics evict frames until another chunk fits the budget, or nothing more can be evicted now; and
    /// of written frames what is more than pays.
    pub(crate) fn make_room(&self) {
        while self.pool.is_full_of_written() && self.evict(Residency::Logged, 1) {
            self.pool.reclaim();
        }
        if !self.pool.is_full() {
            return;
        }
        self.pool.reclaim();
        let epoch = self.log.epoch();
        // Once a write has failed, the frames it was to spill are in memory again, and would be spilled again
        // for ever.
        while self.pool.is_full() && self.log.epoch() == epoch {
            if !self.evict_oldest() {
                break;
            }
            self.log.commit();
            self.pool.reclaim();
        }
    }

    /// Makes topics evict the oldest chunks: written ones first. `false` if there are none.
    pub(crate) fn evict_oldest(&self) -> bool {
        self.evict(Residency::Logged, 1) || self.evict(Residency::MemoryOnly, SPILL_CHUNKS)
    }

    /// Makes topics evict the oldest `chunks` of `residency`. `false` if there are none.
    fn evict(&self, residency: Residency, chunks: usize) -> bool {
        let Some(mut victims) = self.pool.victims(residency, chunks) else { return false };
        victims.topics.sort_unstable();
        victims.topics.dedup();
        for no in &victims.topics {
            let topic = self.registry.lock().by_no.get(no).cloned();
            if let Some(topic) = topic {
                topic.evict(&victims);
            }
        }
        true
    }

    /// Bytes a cold read fetches at once: less where many channels read ahead.
    pub(crate) fn read_bytes(&self) -> u64 {
        let many = self.pool.read_ahead() > self.options.memory_limit / 8;
        if many { self.sizes.read_bytes / 16 } else { self.sizes.read_bytes }
    }

    /// Queues a read that may wait for a disk, for the threads that do such reads.
    pub(crate) fn read_later(&self, load: Load) {
        self.io.submit(load);
    }
}

/// Chunks of unwritten messages spilled at a time: many chunks a write.
const SPILL_CHUNKS: usize = 8;

impl Registry {
    pub(crate) fn insert(&mut self, topic: Arc<Topic>) {
        self.by_name.insert(topic.name().clone(), topic.clone());
        self.by_no.insert(topic.no, topic);
    }
}

/// Bytes that the process may still write to the disk of `path`.
fn disk_free(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SystemClock;
    use crate::store::disk::crash_disk::CrashDisk;
    use crate::store::disk::memory_disk::MemoryDisk;
    use crate::testkit::SIZES;

    #[test]
    fn a_broker_without_a_folder_that_is_full_speaks_of_memory() {
        let full = |disk: Arc<dyn Disk>| {
            let options = Options { max_disk_bytes: 16 * SIZES.file_bytes, ..Options::default() };
            let shared = Shared::open(disk, Arc::new(SystemClock::new()), SIZES, options).unwrap();
            let error = shared.disk_room(1 << 30).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Full);
            error.to_string()
        };
        let text = full(Arc::new(MemoryDisk::default()));
        assert!(text.contains("of 131072 at most") && text.contains("memory"), "{text}");
        assert!(!text.contains("disk") && !text.contains("folder"), "{text}");
        assert!(full(Arc::new(CrashDisk::new())).contains("max-disk-bytes is 131072"));
    }
}
