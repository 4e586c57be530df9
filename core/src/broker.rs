//! The broker: the handle that users hold.

use std::os::fd::RawFd;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sync::Mutex;

use crate::clock::{Clock, SystemClock, Wall};
use crate::config::{Durability, Options, StoreSizes};
use crate::error::{Error, ErrorKind, Result};
use crate::name::TopicName;
use crate::shared::Shared;
use crate::stats::BrokerStats;
use crate::store::disk::Disk;
use crate::store::disk::memory_disk::MemoryDisk;
use crate::store::disk::real_disk::RealDisk;
use crate::store::log::{Outcome, Ticket};
use crate::threads::Threads;
use crate::topic::{Topic, TopicDamage, TopicSettings};
use crate::wake::Wake;
use crate::watch::TopicNames;

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
        let shared = Shared::open(Arc::new(disk), clock, StoreSizes::default(), options)?;
        let broker = Self::of(shared, locks);
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
        Shared::open(disk, clock, sizes, options).map(|shared| Self::of(shared, Vec::new()))
    }

    fn of(shared: Arc<Shared>, lock_descriptors: Vec<RawFd>) -> Self {
        Self { handle: Arc::new(Handle { shared, lock_descriptors, threads: Mutex::new(None) }) }
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

    /// The topic of that name. A new one has settings of its own from its beginning: what `settings` makes of
    /// the broker's. Also says whether the topic is new.
    ///
    /// # Errors
    /// As [`Broker::topic`]; `InvalidArgument` for settings that the topic can't have.
    pub fn create_topic(
        &self,
        name: &TopicName,
        settings: impl FnOnce(&mut TopicSettings),
    ) -> Result<(Arc<Topic>, bool)> {
        self.handle.shared.create_topic(name, settings)
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
        // Asked again after the wake is known: what changed in between would wake nobody.
        shared.is_congested() && {
            shared.log.wait_for_room(wake);
            shared.is_congested()
        }
    }

    /// Nanoseconds since 1970, by the broker's clock.
    pub fn wall(&self) -> Wall {
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

    /// Wakes `watcher` whenever a topic or channel is created or deleted. There is one watcher; `None` ends
    /// it.
    pub fn watch(&self, watcher: Option<Arc<dyn Wake>>) {
        self.shared().watch.set_watcher(watcher);
    }

    /// All topics and channels by name, sorted.
    pub fn names(&self) -> Vec<TopicNames> {
        self.topics().iter().map(|topic| topic.names()).collect()
    }

    /// Whether topics created from now on stand still until [`Topic::release`]: what is published waits in
    /// them. So channels can be created before the first message passes. They also count as unknown to
    /// discovery until [`Topic::set_announced`]. Switching it off releases all, and counts them as
    /// announced.
    pub fn hold_new_topics(&self, hold: bool) {
        let shared = self.shared();
        shared.set_holds_new_topics(hold);
        if !hold {
            for topic in shared.topics() {
                topic.release();
                topic.set_announced();
            }
        }
    }

    /// Begins to measure how long messages take from publish to finish: one message of each pull, at no cost
    /// for the others. With `window`, quantiles over that time too. See [`Topic::stats`].
    pub fn measure_latency(&self, window: Option<Duration>) {
        self.handle.shared.measuring.start(window);
    }

    /// Stops the broker: refuses publishes, spills what is pending in memory, and leaves everything fsync'd.
    /// Messages in flight are delivered again after the next start, for which the folder is free. A second
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
        self.shared.log.wake_waiting();
        self.shared.log.drop_queued();
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
