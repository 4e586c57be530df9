//! A data folder after random traffic, and what a broker on it has to deliver.

use mq_core::clock::Wall;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use mq_core::testkit::nobody;
use mq_core::testkit::{Crash, CrashDisk};
use mq_core::{
    Attributes, Broker, ChannelName, Delivery, Durability, ManualClock, MessageId, Options, Outcome, Pulled,
    Step, StoreSizes, SubscribeOptions, Topic, TopicName,
};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 4 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 4 };
const FOREVER: SubscribeOptions = SubscribeOptions { msg_timeout: Duration::from_secs(9000), sample_rate: 0 };
/// Numbers from here on are given to what is published after a repair.
const FRESH: u64 = 1 << 40;

/// A broker and its clock.
pub(crate) struct Open {
    broker: Broker,
    clock: Arc<ManualClock>,
}

impl std::ops::Deref for Open {
    type Target = Broker;

    fn deref(&self) -> &Broker {
        &self.broker
    }
}

const DAY: u64 = 86_400_000_000_000;

/// Opens the folder so many days after its beginning.
pub(crate) fn open_at(disk: &CrashDisk, days: u64) -> mq_core::Result<Open> {
    let clock = Arc::new(ManualClock::new(Wall(1_800_000_000_000_000_000 + days * DAY)));
    let options = Options { memory_limit: 4 << 20, ..Options::default() };
    let broker = Broker::open_on(Arc::new(disk.clone()), clock.clone(), SIZES, options)?;
    Ok(Open { broker, clock })
}

#[track_caller]
pub(crate) fn open(disk: &CrashDisk) -> Open {
    open_at(disk, 0).unwrap()
}

/// The body of message `number`: its number and some filling that depends on it.
fn body(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let len = if random.u8(0..20) == 0 { random.usize(300..1500) } else { random.usize(0..60) };
    let mut body = number.to_le_bytes().to_vec();
    body.extend((0..len).map(|_| random.u8(..)));
    body
}

/// The number of a message, from its body, all of which must be right (I8).
pub(crate) fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(*bytes.first_chunk().expect("a body begins with its number"));
    assert_eq!(bytes, body(number), "the body of message {number} is wrong");
    number
}

/// A folder, killed in the middle of its life.
pub(crate) struct Folder {
    pub(crate) disk: CrashDisk,
    /// The messages to be delivered.
    pub(crate) due: Drained,
    /// The ids of all messages that were ever seen.
    pub(crate) ids: BTreeMap<u64, MessageId>,
}

/// The messages that came out of a broker, in order.
#[derive(Default)]
pub(crate) struct Drained {
    pub(crate) topics: BTreeSet<String>,
    /// By topic and channel; a topic without one was given `probe`.
    pub(crate) messages: BTreeMap<(String, String), Vec<(MessageId, u64)>>,
}

fn topic(broker: &Broker, name: &str) -> Arc<Topic> {
    broker.topic(&TopicName::parse(name).unwrap()).unwrap()
}

impl Folder {
    pub(crate) fn build(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = CrashDisk::new();
        let mut broker = open(&disk);
        let mut next = 0;
        let mut ids = BTreeMap::new();
        for action in 0..random.usize(60..260) {
            // The first topics are never deleted, so that there is something to look for.
            let name = format!("t{}", random.u8(0..5));
            match random.u8(0..40) {
                0..22 => publish(&broker, &topic(&broker, &name), &mut random, &mut next),
                22..25 => {
                    let channel = ChannelName::parse(&format!("c{}", random.u8(0..3))).unwrap();
                    let _ = topic(&broker, &name).channel(&channel, &nobody()).unwrap();
                }
                25..31 => consume(&topic(&broker, &name), &mut random, &mut ids),
                31 => broker.maintain(Step::State).unwrap(),
                32..35 => sync(&broker),
                35 => broker.maintain(Step::Checkpoint).unwrap(),
                36 => broker.maintain(Step::Clean).unwrap(),
                37 if action > 20 => {
                    let other = topic(&broker, &format!("gone{}", random.u8(0..2)));
                    publish(&broker, &other, &mut random, &mut next);
                    if random.bool() {
                        let _ = broker.delete_topic(other.name()).unwrap();
                    }
                }
                38 => {
                    let levels = [Durability::Memory, Durability::Flush];
                    let t = topic(&broker, "levels");
                    let level = levels[random.usize(..2)];
                    let _ = t.update(|s| s.durability = level).unwrap();
                    publish(&broker, &t, &mut random, &mut next);
                    broker.maintain(Step::Spill).unwrap();
                }
                _ if random.u8(0..4) == 0 => {
                    broker.close().unwrap();
                    broker = open(&disk);
                }
                _ => {}
            }
        }
        broker.maintain(Step::State).unwrap();
        if random.u8(0..4) > 0 {
            sync(&broker);
        }
        let disk = disk.image(disk.events(), Crash::Kill);
        let due = drain(&open(&disk.image(disk.events(), Crash::Kill)));
        for (id, number) in due.messages.values().flatten() {
            assert_eq!(ids.entry(*number).or_insert(*id), id);
        }
        Self { disk, due, ids }
    }

    /// The folder after a clean stop.
    pub(crate) fn stopped(&self) -> CrashDisk {
        let disk = self.disk.image(self.disk.events(), Crash::Kill);
        open(&disk).close().unwrap();
        disk
    }
}

fn sync(broker: &Broker) {
    broker.maintain(Step::Sync).unwrap();
    broker.maintain(Step::Sync).unwrap();
}

fn publish(broker: &Broker, topic: &Topic, random: &mut fastrand::Rng, next: &mut u64) {
    let count = if random.u8(0..5) == 0 { random.u32(5..40) } else { random.u32(1..4) };
    let mut batch = topic.batch();
    for _ in 0..count {
        *next += 1;
        batch.push(&Attributes::NONE, &body(*next)).unwrap();
    }
    let ticket = topic.publish(batch, &nobody()).unwrap().ticket;
    broker.commit();
    assert!(matches!(broker.outcome(ticket), Outcome::Done));
}

/// Reads some messages of some channel, in order, and finishes most.
fn consume(topic: &Topic, random: &mut fastrand::Rng, ids: &mut BTreeMap<u64, MessageId>) {
    let channels = topic.channels();
    if channels.is_empty() {
        return;
    }
    let mut sub = channels[random.usize(..channels.len())].subscribe(FOREVER, nobody()).unwrap();
    sub.acks().set_credit(random.u32(1..40));
    let mut got = Vec::new();
    let _ = sub.pull(random.usize(100..4000), &mut |m| got.push((m.id, number(m.body))));
    for (id, number) in got {
        assert_eq!(*ids.entry(number).or_insert(id), id);
        if random.u8(0..8) > 0 {
            sub.acks().finish(id).unwrap();
        }
    }
}

/// Takes all there is out of every channel, finishing nothing for good.
pub(crate) fn drain(broker: &Open) -> Drained {
    let mut out = Drained::default();
    // Messages that were given back wait a little before they come again.
    broker.clock.advance(3_600_000_000_000);
    broker.maintain(Step::Timers).unwrap();
    for topic in broker.topics() {
        let name = topic.name().as_str().to_owned();
        out.topics.insert(name.clone());
        if topic.channels().is_empty() {
            let _ = topic.channel(&ChannelName::parse("probe").unwrap(), &nobody()).unwrap();
        }
        for channel in topic.channels() {
            let mut sub = channel.subscribe(FOREVER, nobody()).unwrap();
            sub.acks().set_credit(1_000_000);
            let mut got = Vec::new();
            let mut take = |m: &Delivery<'_>| got.push((m.id, number(m.body)));
            while sub.pull(1 << 20, &mut take) == Pulled::More {}
            // What was delivered before comes first; in the order of the ids it is comparable.
            got.sort_unstable();
            got.retain(|(_, number)| *number < FRESH);
            out.messages.insert((name.clone(), channel.name().as_str().to_owned()), got);
        }
    }
    out
}

/// Publishes to every topic, and gives the ids that got.
pub(crate) fn fresh_ids(broker: &Broker) -> Vec<MessageId> {
    let mut out = Vec::new();
    for topic in broker.topics() {
        let mut batch = topic.batch();
        batch.push(&Attributes::NONE, &body(FRESH)).unwrap();
        let ticket = topic.publish(batch, &nobody()).unwrap().ticket;
        broker.commit();
        assert!(matches!(broker.outcome(ticket), Outcome::Done), "a repaired topic takes publishes");
        let mut sub = topic.channels()[0].subscribe(FOREVER, nobody()).unwrap();
        sub.acks().set_credit(1_000_000);
        let mut take = |m: &Delivery<'_>| {
            if number(m.body) == FRESH {
                out.push(m.id);
            }
        };
        while sub.pull(1 << 20, &mut take) == Pulled::More {}
    }
    assert!(out.len() >= broker.topics().len(), "what is published after a repair is delivered");
    out
}
