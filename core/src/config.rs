//! Settings of a broker and of its topics.

use std::path::PathBuf;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::name::TopicName;
use crate::store::format::ids::IDS_MAX;

/// Settings of a broker. `Default` is what `mq serve` runs with.
///
/// ```
/// # use mq_core::{Broker, Durability, Options};
/// # let folder = tempfile::tempdir().unwrap();
/// let options = Options {
///     data_path: folder.path().join("data"),
///     durability: Durability::Sync,
///     memory_limit: 64 << 20,
///     ..Options::default()
/// };
/// let broker = Broker::open(options)?;
/// # broker.close()?;
/// # Ok::<(), mq_core::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Options {
    /// The data folder; created if missing. Default `mq-data`.
    pub data_path: PathBuf,
    /// Bytes of memory for messages. Default 256 MiB, at least 4 MiB.
    pub memory_limit: u64,
    /// Level of topics that are created. Default [`Durability::Flush`].
    pub durability: Durability,
    /// Bytes of files in the data folder above which publishes are refused, or drop the oldest messages of
    /// topics that want that; 0 is no limit, the default. At least 8 log files (512 MiB): a log cleaned
    /// of what is finished takes up to twice what is pending, and some files.
    pub max_disk_bytes: u64,
    /// Delay of an fsync that level `sync` waits for, so that it takes more with it. Default 0: the next
    /// begins when the last returns. More is for disks whose fsync is slow.
    pub sync_wait: Duration,
    /// Time for which a topic remembers the ids that publishers give messages: one sent again is not stored
    /// again. Default 2 minutes, at most 7 days; zero for not at all. A topic can have its own:
    /// [`Dedup`].
    pub dedup_window: Duration,
    /// Most ids that a topic remembers: the newest. Default 100,000, at most 10,000,000. Each takes up to 64
    /// bytes of memory; all topics' together at most a quarter of the memory limit, beyond which a topic
    /// that gets new ones forgets as many of its oldest.
    pub dedup_max_ids: u64,
    /// The broker's part of message ids, below 1024. Ids are unique across brokers whose nodes differ.
    pub node_id: u16,
    /// Most messages that wait for an ephemeral channel; older ones are skipped. Default 10,000.
    pub ephemeral_queue: u64,
    /// Longest time a message can stay in flight, however often it is touched. Default 15 minutes.
    pub max_msg_timeout: Duration,
    /// Subscribers of one channel; 0 is no limit, the default.
    pub max_channel_consumers: u64,
    /// Topics. Default 100,000.
    pub max_topics: usize,
    /// Channels of one topic. Default 10,000.
    pub max_channels: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            data_path: "mq-data".into(),
            memory_limit: 256 << 20,
            durability: Durability::Flush,
            max_disk_bytes: 0,
            sync_wait: Duration::ZERO,
            dedup_window: Duration::from_secs(120),
            dedup_max_ids: 100_000,
            node_id: 0,
            ephemeral_queue: 10_000,
            max_msg_timeout: Duration::from_secs(15 * 60),
            max_channel_consumers: 0,
            max_topics: 100_000,
            max_channels: 10_000,
        }
    }
}

/// A disk budget of fewer log files than this could refuse everything for good.
const DISK_FILES_MIN: u64 = 8;

impl Options {
    /// The deduplication of topics without settings of their own.
    pub(crate) fn dedup(&self) -> Dedup {
        Dedup { window: Some(self.dedup_window), max_ids: Some(self.dedup_max_ids) }
    }

    /// # Errors
    /// `InvalidArgument` names the setting and its range.
    pub(crate) fn check(&self, sizes: &StoreSizes) -> Result<()> {
        let invalid = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
        if self.memory_limit < 4 << 20 {
            return invalid(format!("memory limit {} is below 4 MiB", self.memory_limit));
        }
        if self.node_id >= 1024 {
            return invalid(format!("node id {} is not below 1024", self.node_id));
        }
        let disk_min = DISK_FILES_MIN * sizes.file_bytes;
        if self.max_disk_bytes > 0 && self.max_disk_bytes < disk_min {
            return invalid(format!("max disk bytes {} is below {disk_min}", self.max_disk_bytes));
        }
        if self.sync_wait > Duration::from_secs(10) {
            return invalid(format!("sync wait {:?} is above 10 s", self.sync_wait));
        }
        self.dedup().check()?;
        if self.max_msg_timeout.is_zero() {
            return invalid("the longest message timeout must be above 0".into());
        }
        Ok(())
    }
}

/// Promise that the answer to a publish makes. The numbers are part of the file format.
///
/// ```
/// # use mq_core::{Durability};
/// assert_eq!(Durability::parse("sync"), Some(Durability::Sync));
/// assert_eq!(Durability::default().name(), "flush");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Durability {
    /// Held in memory; spilled to disk when memory is short and on a clean stop. A crash loses it.
    Memory = 0,
    /// Written to the operating system; fsync'd every second. Survives `kill -9`.
    #[default]
    Flush = 1,
    /// Fsync'd, together with all that waited. Survives power loss.
    Sync = 2,
}

impl Durability {
    /// All levels, the weakest first.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Flush, Self::Sync];

    /// The level's name, as settings have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Flush => "flush",
            Self::Sync => "sync",
        }
    }

    /// The level of that name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|level| level.name() == name)
    }
}

/// A topic's own settings of deduplication; `None` is as [`Options`] have it.
///
/// ```
/// # use std::time::Duration;
/// # use mq_core::{Attributes, Broker, Dedup, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let hour = Dedup { window: Some(Duration::from_secs(3600)), ..Dedup::default() };
/// orders.update(move |s| s.dedup = hour)?.wait(&broker)?;
/// for _ in 0..2 {
///     let mut batch = orders.batch();
///     batch.push(&Attributes { dedup_id: Some(b"order 7"), ..Attributes::NONE }, b"one pizza")?;
///     orders.publish(batch, None)?.wait(&broker)?;
/// }
/// assert_eq!(orders.depth(), 1);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dedup {
    /// See [`Options::dedup_window`].
    pub window: Option<Duration>,
    /// See [`Options::dedup_max_ids`].
    pub max_ids: Option<u64>,
}

/// Longest time an id is remembered.
const DEDUP_WINDOW_MAX: Duration = Duration::from_secs(7 * 24 * 3600);

impl Dedup {
    /// Checks the ranges of what is set.
    ///
    /// # Errors
    /// `InvalidArgument` names the setting and its range.
    pub fn check(&self) -> Result<()> {
        let invalid = |text: String| Err(Error::new(ErrorKind::InvalidArgument, text));
        if let Some(window) = self.window.filter(|window| *window > DEDUP_WINDOW_MAX) {
            return invalid(format!("dedup window {window:?} is above 7 days"));
        }
        if let Some(max) = self.max_ids.filter(|max| !(1..=IDS_MAX).contains(max)) {
            return invalid(format!("dedup max ids {max} is not between 1 and {IDS_MAX}"));
        }
        Ok(())
    }
}

/// Limits of a topic. Each is met by each channel for itself, what waits in the topic included; what is in
/// flight or deferred counts. Ephemeral channels have their own limit and don't count.
///
/// ```
/// # use mq_core::{Broker, Limits, Options, Overflow};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let newest = Limits { max_messages: 2, overflow: Overflow::DropOldest, ..Limits::default() };
/// orders.update(move |s| s.limits = newest)?.wait(&broker)?;
/// for _ in 0..3 {
///     orders.publish_one(b"one pizza")?.wait(&broker)?;
/// }
/// assert_eq!(orders.depth(), 2);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Messages that may wait; 0 for any number.
    pub max_messages: u64,
    /// Bytes of messages that may wait, as they are stored, to the nearest message of average size; 0 for
    /// any number.
    pub max_bytes: u64,
    /// Greatest age of a message that waits, to a second or a thousandth of what waits; zero for any age.
    pub max_age: Duration,
    /// The action beyond a limit.
    pub overflow: Overflow,
}

/// The action at a limit of a topic.
///
/// ```
/// # use mq_core::{Broker, ErrorKind, Limits, Options, Overflow};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let one = Limits { max_messages: 1, overflow: Overflow::Refuse, ..Limits::default() };
/// orders.update(move |settings| settings.limits = one)?.wait(&broker)?;
/// orders.publish_one(b"one pizza")?.wait(&broker)?;
/// assert_eq!(orders.publish_one(b"and a salad").unwrap_err().kind(), ErrorKind::Full);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Publishes are refused until less waits.
    #[default]
    Refuse,
    /// The oldest messages that are not in flight are dropped: the named exception to the promise that
    /// nothing acknowledged is lost.
    DropOldest,
}

/// Sizes of the store, which tests make small.
#[derive(Clone, Copy, Debug)]
pub struct StoreSizes {
    /// Bytes of frames in a log file before the next begins.
    pub file_bytes: u64,
    /// Bytes of a chunk of memory.
    pub chunk_bytes: usize,
    /// Bytes a cold read fetches at once.
    pub read_bytes: u64,
    /// Blocks of offsets reserved at a time.
    pub blocks: u64,
}

impl Default for StoreSizes {
    fn default() -> Self {
        Self { file_bytes: 64 << 20, chunk_bytes: 256 << 10, read_bytes: 256 << 10, blocks: 1 << 14 }
    }
}

/// The settings of a channel, in force for every message that comes back from their change on.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let (billing, _) = broker.topic(&"orders".parse()?)?.channel(&"billing".parse()?, None)?;
/// let dead: mq_core::TopicName = "orders.dead".parse()?;
/// billing
///     .update(|settings| {
///         settings.max_attempts = 5;
///         settings.dead_letter_topic = Some(dead.clone());
///     })?
///     .wait(&broker)?;
/// assert_eq!(billing.settings().dead_letter_topic, Some(dead));
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelSettings {
    /// Deliveries of one message at most: one that comes back unfinished from so many is a dead letter. 0 is
    /// no limit. Counts what was requeued, timed out, or was left by its consumer; not what was given
    /// back unseen.
    pub max_attempts: u16,
    /// The topic that gets dead letters: present exactly where `max_attempts` is not 0. Another topic than
    /// the channel's, and not an ephemeral one.
    pub dead_letter_topic: Option<TopicName>,
    /// Time for which a message waits that was delivered more than once when its consumer was lost: so much
    /// for each delivery, at most its message timeout. 0 is no wait.
    pub redelivery_delay: Duration,
}

impl Default for ChannelSettings {
    /// Settings without a limit of attempts, and with a delay of a second.
    fn default() -> Self {
        Self { max_attempts: 0, dead_letter_topic: None, redelivery_delay: Duration::from_secs(1) }
    }
}
