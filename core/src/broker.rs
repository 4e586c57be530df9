//! The broker: what its topics share, and the handle users hold.

use std::collections::{BTreeSet, HashMap};
use std::os::fd::RawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::sync::Mutex;

use crate::blocks::{self, Blocks};
use crate::channel::{Channel, Load};
use crate::clock::{Clock, SystemClock};
use crate::config::{Durability, Options, StoreSizes};
use crate::error::{Error, ErrorKind, Result};
use crate::io_pool::IoPool;
use crate::latency::Measuring;
use crate::maintenance::{Maintenance, Threads};
use crate::name::TopicName;
use crate::parker::Parker;
use crate::stats::BrokerStats;
use crate::store::clean::cleaner;
use crate::store::disk::Disk;
use crate::store::disk::memory_disk::MemoryDisk;
use crate::store::disk::real_disk::RealDisk;
use crate::store::format::event::Event;
use crate::store::format::range_set::RangeSet;
use crate::store::log::{Log, Outcome, Ticket, Wake};
use crate::store::memory::chunk::{Pool, Ring};
use crate::store::open::recovery::{self, Recovered};
use crate::store::read::catalog::{Catalog, FileFacts};
use crate::timers::Timers;
use crate::topic::cache::{Collected, Pending};
use crate::topic::{OnDisk, Topic, TopicDamage, TopicSettings, TopicState};
use crate::watch::Watch;

/// A broker: topics, channels and the log, open on one data folder. A handle, cheap to clone; the last one
/// dropped stops the broker cleanly, as [`Broker::close`] does.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// assert_eq!(broker.topics().len(), 1);
/// assert_eq!(broker.pending(), 1);
/// # broker.close()
/// # }
/// ```
#[derive(Clone)]
pub struct Broker {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    lock_descriptors: Vec<RawFd>,
    threads: Mutex<Option<Threads>>,
}

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
    pub(crate) timers: Timers,
    pub(crate) dirty: Dirty,
    pub(crate) measuring: Measuring,
    pub(crate) maintenance: Mutex<Maintenance>,
    pub(crate) io: IoPool,
    /// Rung when there may be files to clean or a checkpoint to take.
    pub(crate) cleaner_bell: Parker,
    pub(crate) watch: Watch,
    registry: Mutex<Registry>,
    next_topic: AtomicU32,
    pub(crate) next_channel: AtomicU32,
    /// Whether any topic was ever given a limit of age.
    pub(crate) ages: AtomicBool,
    /// Whether any topic was ever stopped for damage.
    pub(crate) any_damage: AtomicBool,
    closed: AtomicBool,
    /// Set at the end of closing: what is undecided then stays so.
    stopped: AtomicBool,
    pub(crate) draining: AtomicBool,
    /// Damage found when the folder was opened.
    damage: Vec<String>,
    /// Whether the folder was new or left by a clean stop.
    clean_stop: bool,
}

#[derive(Default)]
struct Registry {
    by_name: HashMap<TopicName, Arc<Topic>>,
    by_no: HashMap<u32, Arc<Topic>>,
}

/// Channels and topics whose changes are not in the log yet; the log's thread writes them at most 100 ms
/// later.
#[derive(Default)]
pub(crate) struct Dirty {
    channels: Mutex<Vec<Weak<Channel>>>,
    topics: Mutex<Vec<Weak<Topic>>>,
    /// Wakes the log's thread.
    bell: Arc<Parker>,
}

impl Dirty {
    /// Adds a channel, which makes sure that it is added once.
    pub(crate) fn channel(&self, channel: &Weak<Channel>) {
        let mut channels = self.channels.lock();
        channels.push(channel.clone());
        let first = channels.len() == 1;
        drop(channels);
        if first {
            self.bell.unpark();
        }
    }

    /// Adds a topic whose pump position moved without a lasting channel.
    pub(crate) fn topic(&self, topic: &Weak<Topic>) {
        let mut topics = self.topics.lock();
        if topics.iter().any(|t| t.ptr_eq(topic)) {
            return;
        }
        topics.push(topic.clone());
        drop(topics);
        self.bell.unpark();
    }

    /// Takes all.
    pub(crate) fn take(&self) -> (Vec<Weak<Channel>>, Vec<Weak<Topic>>) {
        (std::mem::take(&mut self.channels.lock()), std::mem::take(&mut self.topics.lock()))
    }

    /// Whether there is any.
    pub(crate) fn any(&self) -> bool {
        !self.channels.lock().is_empty() || !self.topics.lock().is_empty()
    }
}

impl Broker {
    /// Opens the data folder, recovers what is in it, and starts the broker's threads.
    ///
    /// # Errors
    /// `Locked` if the folder is open elsewhere; `Damaged` if its manifest or checkpoint is; `Version`;
    /// `InvalidArgument`; `Io`, `Full`.
    pub fn open(options: Options) -> Result<Self> {
        let path: &Path = &options.data_path;
        let disk = RealDisk::open(path)?;
        let locks = disk.lock_descriptors();
        let clock = Arc::new(SystemClock::new());
        let mut handle = Self::opened(Arc::new(disk), clock, StoreSizes::default(), options)?;
        handle.lock_descriptors = locks;
        let broker = Self { handle: Arc::new(handle) };
        broker.start_threads()?;
        Ok(broker)
    }

    /// Opens a broker without a folder: what it would write is in memory, beside the memory limit, and gone
    /// with its last handle. With a [`ManualClock`](crate::ManualClock) its time stands still: see
    /// [`Broker::run_timers`].
    ///
    /// # Errors
    /// `InvalidArgument` for options that it can't have; `Io` if the system has no threads left.
    pub fn open_in_memory(options: Options, clock: Arc<dyn Clock>) -> Result<Self> {
        let disk = Arc::new(MemoryDisk::default());
        let broker = Self::open_with(disk, clock, StoreSizes::default(), options)?;
        broker.start_threads()?;
        Ok(broker)
    }

    /// The descriptors that hold the data folder's lock. The folder stays locked as long as any process has
    /// one of them: a child of `fork` that must not keep it closes them.
    pub fn lock_descriptors(&self) -> &[RawFd] {
        &self.handle.lock_descriptors
    }

    /// Returns what timed out or came due by now to its channels, which the broker's threads do too, a little
    /// later: for those who moved the clock, and go on as if that time had passed.
    pub fn run_timers(&self) {
        self.handle.shared.run_timers();
    }

    /// Opens a broker on any disk and clock, without threads. The errors are those of [`Broker::open`].
    pub(crate) fn open_with(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        sizes: StoreSizes,
        options: Options,
    ) -> Result<Self> {
        Ok(Self { handle: Arc::new(Self::opened(disk, clock, sizes, options)?) })
    }

    fn opened(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        sizes: StoreSizes,
        options: Options,
    ) -> Result<Handle> {
        options.check(&sizes)?;
        let Recovered { replay, catalog, opened, clean_stop, damage } = recovery::recover(&disk)?;
        let bell = Arc::new(Parker::default());
        let position = opened.manifest.checkpoint.map_or(0, |(_, position)| position);
        let log = Log::new(disk.clone(), catalog.clone(), sizes.file_bytes, opened, bell.clone());
        for place in &damage.places {
            tracing::error!("damage in the data folder: {place}");
        }
        let shared = Arc::new(Shared {
            pool: Pool::new(options.memory_limit, sizes.chunk_bytes),
            blocks: Mutex::new(Blocks::new(replay.next_block, clock.wall(), sizes.blocks)),
            timers: Timers::default(),
            dirty: Dirty { bell, ..Dirty::default() },
            measuring: Measuring::default(),
            maintenance: Mutex::new(Maintenance::new(position)),
            io: IoPool::default(),
            cleaner_bell: Parker::default(),
            watch: Watch::default(),
            registry: Mutex::default(),
            next_topic: AtomicU32::new(replay.next_topic.max(1)),
            next_channel: AtomicU32::new(replay.next_channel.max(1)),
            ages: AtomicBool::new(replay.topics.values().any(|topic| !topic.limits.max_age.is_zero())),
            any_damage: AtomicBool::new(damage.all_topics || !damage.topics.is_empty()),
            closed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            damage: damage.places.clone(),
            clean_stop,
            options,
            sizes,
            clock,
            disk,
            catalog,
            log,
        });
        blocks::reserve(&shared.blocks, 1, &shared.log, shared.clock.wall())?;
        if let Err(error) = shared.log.take_reserve() {
            tracing::error!("publishes are refused until there is room on the disk: {error}");
        }
        let mut volumes = shared.catalog.volumes();
        for (&no, told) in &replay.topics {
            let channels: Vec<_> =
                replay.channels.iter().filter(|(_, c)| c.topic == no).map(|(no, c)| (*no, c)).collect();
            let ranges = damage.topics.get(&no);
            let stopped = damage.all_topics || ranges.is_some();
            let damaged: Vec<_> = ranges.into_iter().flat_map(RangeSet::iter).collect();
            let why = stopped.then(|| TopicDamage::found(damaged.iter().copied()));
            let topic = Topic::recovered(
                no,
                told,
                &channels,
                clean_stop,
                why,
                OnDisk { bytes: volumes.remove(&no).unwrap_or_default(), ids: replay.ids.of(no), damaged },
                &shared,
            )?;
            shared.registry.lock().insert(topic);
        }
        Ok(Handle { shared, lock_descriptors: Vec::new(), threads: Mutex::new(None) })
    }

    /// Starts the threads, once. An `Io` error if the system has no threads left.
    pub(crate) fn start_threads(&self) -> Result<()> {
        let mut threads = self.handle.threads.lock();
        if threads.is_none() && !self.handle.shared.is_closed() {
            self.handle.shared.io.start();
            *threads = Some(Threads::start(&self.handle.shared)?);
        }
        Ok(())
    }

    /// Finds or creates a topic, at the broker's level.
    ///
    /// # Errors
    /// `LimitReached` at the limit of topics; `Closed` while the broker is closing; `Draining` where it would
    /// be new.
    pub fn topic(&self, name: &TopicName) -> Result<Arc<Topic>> {
        self.create_topic(name, |_| {}).map(|(topic, _)| topic)
    }

    /// The same, with settings that a new topic has from its beginning: what `settings` makes of the
    /// broker's. Also says whether the topic is new.
    ///
    /// # Errors
    /// As [`Broker::topic`]; `InvalidArgument` for settings that the topic can't have.
    pub fn create_topic(
        &self,
        name: &TopicName,
        settings: impl FnOnce(&mut TopicSettings),
    ) -> Result<(Arc<Topic>, bool)> {
        let shared = &self.handle.shared;
        let mut registry = shared.registry.lock();
        if let Some(topic) = registry.by_name.get(name) {
            return Ok((topic.clone(), false));
        }
        if shared.is_closed() {
            return Err(Error::new(ErrorKind::Closed, "the broker is closing"));
        }
        shared.check_draining()?;
        let max = shared.options.max_topics;
        if registry.by_name.len() >= max {
            return Err(Error::new(ErrorKind::LimitReached, format!("there are {max} topics, the limit")));
        }
        let no = shared.next_topic.fetch_add(1, Ordering::Relaxed);
        let topic = Topic::new(no, name.clone(), shared.options.durability, shared);
        topic.begin(settings)?;
        registry.insert(topic.clone());
        drop(registry);
        shared.commit();
        shared.watch.changed();
        Ok((topic, true))
    }

    /// The topic of that name, if there is one.
    pub fn find_topic(&self, name: &TopicName) -> Option<Arc<Topic>> {
        self.handle.shared.registry.lock().by_name.get(name).cloned()
    }

    /// The level of topics that have none of their own.
    pub fn default_durability(&self) -> Durability {
        self.handle.shared.options.durability
    }

    /// Time for which topics remember the ids of messages, unless they are set otherwise: see
    /// [`Options::dedup_window`](crate::Options::dedup_window).
    pub fn dedup_window(&self) -> Duration {
        self.handle.shared.options.dedup_window
    }

    /// All topics, sorted by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let mut topics = self.handle.shared.topics();
        topics.sort_by(|a, b| a.name().cmp(b.name()));
        topics
    }

    /// Deletes a topic, its channels and all that waits in them. Wait for the ticket before answering for it.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn delete_topic(&self, name: &TopicName) -> Result<Ticket> {
        let topic = self
            .find_topic(name)
            .ok_or_else(|| Error::new(ErrorKind::NotFound, format!("there is no topic {name}")))?;
        Ok(self.handle.shared.remove_topic(&topic))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Writes all that was published since, in one go, unless another thread is at it. Call it after a burst.
    pub fn commit(&self) {
        self.handle.shared.commit();
    }

    /// The outcome of a publish or another change, as it is known now.
    pub fn outcome(&self, ticket: Ticket) -> Outcome {
        self.handle.shared.log.outcome(ticket)
    }

    /// A ticket that is pending as long as `earlier` is, if that is pending; `wake` is called when another
    /// thread has decided that. For tickets that nobody is woken for. Call [`Broker::commit`] after it.
    pub fn follow(&self, earlier: Ticket, wake: &Arc<dyn Wake>) -> Ticket {
        let shared = &self.handle.shared;
        shared.log.follow(earlier, shared.clock.wall(), wake)
    }

    /// Whether so much waits to be written, or is held in memory, that publishers should stop: sessions that
    /// publish read no further. If so, `wake` is called when that may have changed.
    pub fn is_congested(&self, wake: &Arc<dyn Wake>) -> bool {
        let shared = &self.handle.shared;
        let congested = || {
            shared.log.is_congested() || {
                shared.make_room();
                shared.pool.is_full()
            }
        };
        // Asked again after the wake is known: what changed in between would wake nobody.
        congested() && {
            shared.log.wait_for_room(wake);
            congested()
        }
    }

    /// Nanoseconds since 1970, by the broker's clock.
    pub fn wall(&self) -> u64 {
        self.handle.shared.clock.wall()
    }

    /// Damage found when the folder was opened, one line for each place.
    pub fn damage(&self) -> &[String] {
        &self.handle.shared.damage
    }

    /// The topics that are stopped for damage, sorted by name: found when the folder was opened, or since.
    /// The others go on. Looks at every topic where any was ever stopped.
    pub fn damaged_topics(&self) -> Vec<(TopicName, TopicDamage)> {
        self.handle.shared.damaged_topics()
    }

    /// Whether the data folder was new, or the broker that had it before stopped cleanly.
    pub fn had_clean_stop(&self) -> bool {
        self.handle.shared.clean_stop
    }

    /// Bytes of memory held for messages.
    pub fn memory_used(&self) -> u64 {
        self.handle.shared.pool.used()
    }

    /// Bytes of frames in log files, and how many files there are.
    pub fn disk_used(&self) -> (u64, usize) {
        self.handle.shared.catalog.totals()
    }

    /// The broker's numbers. Looks at every topic.
    pub fn stats(&self) -> BrokerStats {
        self.handle.shared.stats()
    }

    /// Whether everything that is asked of the broker can be done.
    ///
    /// # Errors
    /// `Full` while the disk is full; `Io` while the log can't be written or fsync'd; `Damaged` while topics
    /// are stopped for damage. What is wrong is in the text.
    pub fn health(&self) -> Result<()> {
        self.handle.shared.log.health()?;
        let damaged = self.damaged_topics();
        match &damaged[..] {
            [] => Ok(()),
            [(name, damage)] => Err(damage.error(name)),
            [(name, damage), others @ ..] => {
                let text =
                    format!("{} topics are stopped, {name} among them: {}", others.len() + 1, damage.text);
                Err(Error::new(ErrorKind::Damaged, text))
            }
        }
    }

    /// Begins to measure how long messages take from publish to finish: one message of each pull, at no cost
    /// for the others. With `window`, quantiles over that time too. See [`Topic::stats`].
    pub fn measure_latency(&self, window: Option<Duration>) {
        self.handle.shared.measuring.start(window);
    }

    /// Stops the broker: refuses publishes, spills what is pending in memory, and leaves everything fsync'd.
    /// What was in flight is delivered again after the next start, for which the folder is free. A second
    /// call does nothing.
    ///
    /// # Errors
    /// `Io`, `Full`: what could not be stored is lost as by a kill.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }
}

impl Handle {
    fn close(&self) -> Result<()> {
        if self.shared.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let threads = self.threads.lock().take();
        if let Some(threads) = threads {
            threads.stop(&self.shared);
        }
        self.shared.io.stop();
        let result = self.shared.stop_cleanly();
        self.shared.stopped.store(true, Ordering::Release);
        self.shared.log.tell_room();
        let topics = std::mem::take(&mut *self.shared.registry.lock());
        for topic in topics.by_no.into_values() {
            topic.close().iter().for_each(|w| w.wake());
        }
        self.shared.disk.release();
        result
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            tracing::error!("the broker could not stop cleanly: {error}");
        }
    }
}

impl Shared {
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
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

    fn stats(&self) -> BrokerStats {
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
            written: self.log.written(),
            synced: self.log.synced(),
            ..BrokerStats::default()
        };
        self.log.counters.fill(&mut stats);
        stats
    }

    fn damaged_topics(&self) -> Vec<(TopicName, TopicDamage)> {
        if !self.any_damage.load(Ordering::Acquire) {
            return Vec::new();
        }
        let damage = |topic: &Arc<Topic>| topic.damage().map(|damage| (topic.name().clone(), damage));
        let mut damaged: Vec<_> = self.topics().iter().filter_map(damage).collect();
        damaged.sort_by(|(a, _), (b, _)| a.cmp(b));
        damaged
    }

    /// The pending messages of each topic that has any in the files: few of many may.
    pub(crate) fn pending(&self, files: &[FileFacts]) -> HashMap<u32, Pending> {
        let parts = files.iter().flat_map(|file| &file.topics);
        let numbers: BTreeSet<u32> = parts.map(|part| part.topic).collect();
        let registry = self.registry.lock();
        let topics: Vec<_> = numbers.iter().filter_map(|no| registry.by_no.get(no)).cloned().collect();
        drop(registry);
        let pending = topics.iter().map(|topic| {
            let collected = Collected::of(&topic.state.lock());
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

    pub(crate) fn next_topic_no(&self) -> u32 {
        self.next_topic.load(Ordering::Relaxed)
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
        Err(Error::new(
            ErrorKind::Full,
            format!("the data folder holds {used} bytes, max-disk-bytes is {max}"),
        ))
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
        while self.pool.is_full_of_written() && self.evict(Ring::Written, 1) {
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
        self.evict(Ring::Written, 1) || self.evict(Ring::Held, SPILL_CHUNKS)
    }

    /// Makes topics evict the oldest `chunks` of `ring`. `false` if there are none.
    fn evict(&self, ring: Ring, chunks: usize) -> bool {
        let Some(mut victims) = self.pool.victims(ring, chunks) else { return false };
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

    /// Has a read done where waiting for a disk hurts nobody.
    pub(crate) fn read_later(&self, load: Load) {
        self.io.submit(load);
    }
}

/// Chunks of unwritten messages spilled at a time: many chunks a write.
const SPILL_CHUNKS: usize = 8;

impl Registry {
    fn insert(&mut self, topic: Arc<Topic>) {
        self.by_name.insert(topic.name().clone(), topic.clone());
        self.by_no.insert(topic.no, topic);
    }
}

/// Bytes that the process may still write to the disk of `path`.
fn disk_free(path: &Path) -> Option<u64> {
    let disk = rustix::fs::statvfs(path).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
