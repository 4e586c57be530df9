//! The seam for tests: the disk that a broker is opened on, one that keeps what a crash would leave and fails
//! on demand, and a broker on it. Behind the feature `testkit`; nothing here is for a running broker.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};

use crate::broker::Broker;
use crate::channel::{Channel, Pulled, SubscribeOptions, Subscription};
use crate::clock::{Clock, ManualClock, Wall};
use crate::config::{Durability, Options, StoreSizes};
use crate::error::Result;
use crate::maintenance::Step;
use crate::message::{Attributes, Delivery, MessageId};
use crate::name::{ChannelName, TopicName};
use crate::parker::Parker;
use crate::store::log::{Outcome, Ticket};
use crate::topic::{Published, Topic};
use crate::wake::Wake;

pub use crate::store::disk::crash_disk::{Call, Crash, CrashDisk, Fault, FaultHook, Op, Replay};
pub use crate::store::disk::real_disk::RealDisk;
pub use crate::store::disk::{Disk, File, FileId, OpenMode};
pub use crate::store::format::{event, frame, log_pos::LogPos};

/// One second of a clock.
pub const SECOND: u64 = 1_000_000_000;
/// Wall time at which a test's clock begins.
pub const WALL: Wall = Wall(1_800_000_000 * SECOND);
/// Sizes that make a few messages fill files and chunks.
pub const SIZES: StoreSizes =
    StoreSizes { file_bytes: 8 << 10, chunk_bytes: 4 << 10, read_bytes: 4 << 10, blocks: 64 };

impl Broker {
    /// Opens a broker on any disk and clock, without threads: their work is done by [`Broker::maintain`], or
    /// by them after [`Broker::start`].
    ///
    /// # Errors
    /// As [`Broker::open`].
    pub fn open_on(
        disk: Arc<dyn Disk>,
        clock: Arc<dyn Clock>,
        sizes: StoreSizes,
        options: Options,
    ) -> Result<Self> {
        Self::open_with(disk, clock, sizes, options)
    }

    /// Starts the threads of a broker that [`Broker::open_on`] opened. A second call does nothing.
    ///
    /// # Errors
    /// `Io` if the system has no threads left.
    pub fn start(&self) -> Result<()> {
        self.start_threads()
    }

    /// Does a part of what the broker's threads would do by now.
    ///
    /// # Errors
    /// `Io`, `Full`.
    pub fn maintain(&self, step: Step) -> Result<()> {
        self.shared().maintain(step)
    }
}

/// A broker without threads on a disk in memory and a clock that stands still.
pub struct World {
    /// The disk.
    pub disk: CrashDisk,
    /// The clock.
    pub clock: Arc<ManualClock>,
    /// Sizes of the store.
    pub sizes: StoreSizes,
    /// Settings of the broker.
    pub options: Options,
    /// The broker, which the world dereferences to.
    pub broker: Broker,
}

impl World {
    /// A new broker whose topics are at `durability`.
    pub fn new(durability: Durability) -> Self {
        Self::with(SIZES, Options { durability, ..options() })
    }

    /// A new broker with these sizes and settings.
    pub fn with(sizes: StoreSizes, options: Options) -> Self {
        Self::on(CrashDisk::new(), Arc::new(ManualClock::new(WALL)), sizes, options)
    }

    /// A broker on this disk and clock, which finds no damage.
    #[track_caller]
    pub fn on(disk: CrashDisk, clock: Arc<ManualClock>, sizes: StoreSizes, options: Options) -> Self {
        let world = Self::try_on(disk, clock, sizes, options).unwrap();
        assert_eq!(world.damage(), [] as [String; 0]);
        world
    }

    /// A broker on this disk and clock.
    ///
    /// # Errors
    /// As [`Broker::open_on`].
    pub fn try_on(
        disk: CrashDisk,
        clock: Arc<ManualClock>,
        sizes: StoreSizes,
        options: Options,
    ) -> Result<Self> {
        let broker = Broker::open_on(Arc::new(disk.clone()), clock.clone(), sizes, options.clone())?;
        Ok(Self { disk, clock, sizes, options, broker })
    }

    /// The broker that starts on what a crash leaves at this moment.
    #[track_caller]
    pub fn after(&self, crash: Crash) -> Self {
        let disk = self.disk.image(self.disk.events(), crash);
        Self::on(disk, self.clock.clone(), self.sizes, self.options.clone())
    }

    /// Kills the broker, and opens it again.
    #[track_caller]
    pub fn kill(self) -> Self {
        self.after(Crash::Kill)
    }

    /// Stops the broker cleanly, and opens it again.
    #[track_caller]
    pub fn reopen(self) -> Self {
        self.broker.close().unwrap();
        self.kill()
    }

    /// The topic of that name, made where it is missing.
    #[track_caller]
    pub fn topic(&self, name: &str) -> Arc<Topic> {
        topic(&self.broker, name)
    }

    /// The channel of that name, made where it is missing, as is its topic.
    #[track_caller]
    pub fn channel(&self, topic: &str, name: &str) -> Arc<Channel> {
        channel(&self.topic(topic), name)
    }

    /// Publishes bodies as one batch, and writes it.
    #[track_caller]
    pub fn publish(&self, topic: &str, bodies: &[impl AsRef<[u8]>]) {
        let _ = self.try_publish(topic, bodies).unwrap();
    }

    /// [`World::publish`], which may fail.
    ///
    /// # Errors
    /// As [`Topic::publish`].
    pub fn try_publish(&self, topic: &str, bodies: &[impl AsRef<[u8]>]) -> Result<Published> {
        publish(&self.broker, &self.topic(topic), bodies)
    }

    /// Subscribes, with credit, to a channel that is made where it is missing.
    #[track_caller]
    pub fn subscribe(&self, topic: &str, channel: &str, credit: u32) -> Subscription {
        subscribe(&self.channel(topic, channel), credit)
    }

    /// Does these steps of the broker's threads.
    #[track_caller]
    pub fn steps(&self, steps: &[Step]) {
        steps.iter().for_each(|step| self.broker.maintain(*step).unwrap());
    }

    /// Removes from the disk all that nothing needs.
    #[track_caller]
    pub fn clean(&self) {
        self.steps(&[Step::State, Step::Sync, Step::Checkpoint, Step::Clean, Step::Clean]);
    }
}

impl Deref for World {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

/// A broker without threads on this disk, whose clock stands still at [`WALL`].
///
/// # Errors
/// As [`Broker::open_on`].
pub fn open(disk: Arc<dyn Disk>, sizes: StoreSizes, options: Options) -> Result<Broker> {
    Broker::open_on(disk, Arc::new(ManualClock::new(WALL)), sizes, options)
}

/// Settings with little memory.
pub fn options() -> Options {
    Options { memory_limit: 4 << 20, ..Options::default() }
}

/// A wake for callers that look by themselves.
pub fn nobody() -> Arc<dyn Wake> {
    static NOBODY: LazyLock<Arc<Parker>> = LazyLock::new(Arc::default);
    Arc::clone(&NOBODY) as Arc<dyn Wake>
}

/// A wake that counts how often it is called.
#[derive(Default)]
pub struct WakeCount(AtomicUsize);

impl WakeCount {
    /// Calls so far.
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

impl Wake for WakeCount {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// A topic's name.
#[track_caller]
pub fn topic_name(name: &str) -> TopicName {
    name.parse().unwrap()
}

/// A channel's name.
#[track_caller]
pub fn channel_name(name: &str) -> ChannelName {
    name.parse().unwrap()
}

/// The topic of that name, made where it is missing.
#[track_caller]
pub fn topic(broker: &Broker, name: &str) -> Arc<Topic> {
    broker.topic(&topic_name(name)).unwrap()
}

/// The topic's channel of that name, made where it is missing.
#[track_caller]
pub fn channel(topic: &Topic, name: &str) -> Arc<Channel> {
    topic.channel(&channel_name(name), None).unwrap().0
}

/// Publishes bodies as one batch, and writes it.
///
/// # Errors
/// As [`Topic::publish`].
pub fn publish(broker: &Broker, topic: &Topic, bodies: &[impl AsRef<[u8]>]) -> Result<Published> {
    let mut batch = topic.batch();
    bodies.iter().for_each(|body| batch.push(&Attributes::NONE, body.as_ref()).unwrap());
    let published = topic.publish(batch, None)?;
    broker.commit();
    Ok(published)
}

/// Subscribes to a channel, with credit.
#[track_caller]
pub fn subscribe(channel: &Arc<Channel>, credit: u32) -> Subscription {
    let mut subscription = channel.subscribe(SubscribeOptions::default(), nobody()).unwrap();
    subscription.acks().set_credit(credit);
    subscription
}

/// Subscribes, with credit, to a channel that is made where it is missing.
///
/// # Errors
/// As [`Topic::channel`] and [`Channel::subscribe`].
pub fn try_subscribe(topic: &Topic, channel: &str, credit: u32, wake: Arc<dyn Wake>) -> Result<Subscription> {
    let (channel, _) = topic.channel(&channel_name(channel), None)?;
    let mut subscription = channel.subscribe(SubscribeOptions::default(), wake)?;
    subscription.acks().set_credit(credit);
    Ok(subscription)
}

/// Whether the ticket is done.
pub fn is_done(broker: &Broker, ticket: Ticket) -> bool {
    matches!(broker.outcome(ticket), Outcome::Done)
}

/// A message as it was delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Its id.
    pub id: MessageId,
    /// Wall time of its publish.
    pub time: Wall,
    /// Its attempts.
    pub attempts: u16,
    /// Its body.
    pub body: Vec<u8>,
}

impl Got {
    /// The body as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl From<&Delivery<'_>> for Got {
    fn from(delivery: &Delivery<'_>) -> Self {
        let Delivery { id, time, attempts, body, .. } = *delivery;
        Self { id, time, attempts, body: body.to_vec() }
    }
}

/// Pulls all that there is for now.
pub fn pull(subscription: &mut Subscription) -> Vec<Got> {
    let mut got = Vec::new();
    while subscription.pull(1 << 20, &mut |delivery| got.push(delivery.into())) == Pulled::More {}
    got
}

/// Finishes messages.
#[track_caller]
pub fn finish<'a>(subscription: &mut Subscription, messages: impl IntoIterator<Item = &'a Got>) {
    let mut acks = subscription.acks();
    messages.into_iter().for_each(|message| acks.finish(message.id).unwrap());
}

/// Pulls and finishes until nothing comes.
#[track_caller]
pub fn drain(subscription: &mut Subscription) -> Vec<Got> {
    let mut all = Vec::new();
    loop {
        let got = pull(subscription);
        if got.is_empty() {
            return all;
        }
        finish(subscription, &got);
        all.extend(got);
    }
}

/// The bodies as text.
#[track_caller]
pub fn texts(messages: &[Got]) -> Vec<&str> {
    messages.iter().map(Got::text).collect()
}
