//! Where a new channel begins, and reading without consuming.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use mq_core::store::disk::crash_disk::{Crash, CrashDisk};
use mq_core::{
    Attributes, Broker, Channel, ChannelName, Durability, Headers, HeadersBuf, ManualClock, Offset, Options,
    Pulled, Start, Step, StoreSizes, SubscribeOptions, Subscription, Topic, TopicName, Wake,
};

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn nobody() -> Arc<dyn Wake> {
    Arc::new(Nobody)
}

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 2 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 64 };
const WALL: u64 = 1_800_000_000_000_000_000;
const SECOND: u64 = 1_000_000_000;

struct World {
    disk: CrashDisk,
    clock: Arc<ManualClock>,
    broker: Broker,
    topic: Arc<Topic>,
}

fn open(disk: &CrashDisk, clock: &Arc<ManualClock>, durability: Durability) -> Broker {
    let options = Options { durability, memory_limit: 4 << 20, ..Options::default() };
    Broker::open_on(Arc::new(disk.clone()), clock.clone(), SIZES, options).unwrap()
}

fn name(channel: &str) -> ChannelName {
    ChannelName::parse(channel).unwrap()
}

impl World {
    fn new(durability: Durability) -> Self {
        let (disk, clock) = (CrashDisk::new(), Arc::new(ManualClock::new(WALL)));
        let broker = open(&disk, &clock, durability);
        let topic = broker.topic(&TopicName::parse("t").unwrap()).unwrap();
        Self { disk, clock, broker, topic }
    }

    /// What a broker has that is started after a kill of this one.
    fn killed(&self, durability: Durability) -> Self {
        let (disk, clock) = (self.disk.image(self.disk.events(), Crash::Kill), self.clock.clone());
        let broker = open(&disk, &clock, durability);
        assert_eq!(broker.damage(), [] as [String; 0]);
        let topic = broker.topic(&TopicName::parse("t").unwrap()).unwrap();
        Self { disk, clock, broker, topic }
    }

    /// Publishes one message, a second after the last. Returns its offset.
    fn publish(&self, body: &str) -> Offset {
        self.clock.advance(SECOND);
        let mut batch = self.topic.batch();
        batch.push(&Attributes::NONE, body.as_bytes()).unwrap();
        let published = self.topic.publish(batch, &nobody()).unwrap();
        self.broker.commit();
        published.offsets().next().unwrap().0
    }

    fn publish_all(&self, numbers: std::ops::Range<u32>) -> Vec<Offset> {
        numbers.map(|n| self.publish(&format!("{n:03}{}", "x".repeat(50)))).collect()
    }

    fn channel(&self, channel: &str, start: Start) -> Arc<Channel> {
        self.topic.channel_at(&name(channel), start, &nobody()).unwrap().0
    }

    /// The numbers a channel has to give, none of them finished.
    fn rest(&self, channel: &str) -> Vec<u32> {
        let found = self.topic.find_channel(&name(channel)).unwrap();
        let mut sub = subscribe(&found);
        // What came more than once backs off.
        self.clock.advance(100 * SECOND);
        self.broker.maintain(Step::Timers).unwrap();
        let mut got = Vec::new();
        pull(&mut sub, &mut |n, _| got.push(n));
        got.sort_unstable();
        got
    }

    fn clean(&self) {
        for step in [Step::State, Step::Sync, Step::Checkpoint, Step::Clean, Step::Clean, Step::Memory] {
            self.broker.maintain(step).unwrap();
        }
    }
}

fn subscribe(channel: &Arc<Channel>) -> Subscription {
    let options = SubscribeOptions { msg_timeout: Duration::from_secs(60), sample_rate: 0 };
    let sub = channel.subscribe(options, nobody()).unwrap();
    sub.acks().set_credit(100_000);
    sub
}

fn pull(sub: &mut Subscription, sink: &mut dyn FnMut(u32, mq_core::MessageId)) {
    let mut take =
        |m: &mq_core::Delivery<'_>| sink(std::str::from_utf8(&m.body[..3]).unwrap().parse().unwrap(), m.id);
    while sub.pull(1 << 20, &mut take) == Pulled::More {}
}

/// Finishes those of a channel's messages for which `done` is true.
fn finish(channel: &Arc<Channel>, done: impl Fn(u32) -> bool) {
    let mut sub = subscribe(channel);
    let mut got = Vec::new();
    pull(&mut sub, &mut |n, id| got.push((n, id)));
    let mut acks = sub.acks();
    got.iter().filter(|(n, _)| done(*n)).for_each(|(_, id)| acks.finish(*id).unwrap());
}

fn numbers(range: impl IntoIterator<Item = u32>) -> Vec<u32> {
    range.into_iter().collect()
}

#[test]
fn a_channel_begins_where_it_is_told() {
    for durability in Durability::ALL {
        let world = World::new(durability);
        world.channel("old", Start::Now);
        let offsets = world.publish_all(0..60);
        world.broker.maintain(Step::Sync).unwrap();
        finish(&world.channel("old", Start::Now), |n| n < 20 || n % 3 == 0);
        world.clean();
        world.channel("earliest", Start::Earliest);
        world.channel("now", Start::Now);
        world.channel("offset", Start::Offset(offsets[30]));
        world.channel("later", Start::Offset(Offset(offsets[59].0 + 7)));
        world.channel("time", Start::Time(WALL + 41 * SECOND));
        world.channel("between", Start::Time(WALL + 41 * SECOND + 1));
        world.channel("past", Start::Time(WALL));
        world.channel("future", Start::Time(WALL + 4000 * SECOND));
        // One that exists stays where it is.
        world.channel("now", Start::Earliest);
        world.publish_all(60..62);
        world.broker.maintain(Step::Sync).unwrap();
        let kept = |from: u32| numbers((from..62).filter(|n| *n >= 60 || n % 3 != 0));
        let check = |world: &World| {
            assert_eq!(world.rest("old"), kept(20));
            assert_eq!(world.rest("earliest"), kept(20));
            assert_eq!(world.rest("now"), [60, 61]);
            assert_eq!(world.rest("offset"), kept(30));
            assert_eq!(world.rest("later"), [60, 61]);
            assert_eq!(world.rest("time"), kept(40));
            assert_eq!(world.rest("between"), kept(41));
            assert_eq!(world.rest("past"), kept(20));
            assert_eq!(world.rest("future"), [60, 61]);
        };
        check(&world);
        if durability != Durability::Memory {
            check(&world.killed(durability));
        }
        world.clean();
        // The old one has finished all; the others hold what they need, through cleaning and two starts.
        finish(&world.channel("old", Start::Now), |_| true);
        world.clean();
        assert_eq!(world.rest("earliest"), kept(20));
        world.broker.close().unwrap();
        let again = world.killed(durability).killed(durability);
        assert_eq!(again.rest("time"), kept(40));
        assert_eq!(again.rest("earliest"), kept(20));
    }
}

#[test]
fn the_first_channel_has_what_waits_or_less() {
    let world = World::new(Durability::Flush);
    let offsets = world.publish_all(0..10);
    world.topic.pause().unwrap();
    let late = world.channel("late", Start::Offset(offsets[6]));
    world.channel("all", Start::Earliest);
    assert_eq!(late.stats().depth, 0);
    world.topic.unpause().unwrap();
    assert_eq!(world.rest("late"), numbers(6..10));
    assert_eq!(world.rest("all"), numbers(0..10));
    let killed = world.killed(Durability::Flush);
    assert_eq!(killed.rest("late"), numbers(6..10));
}

/// What was emptied while the topic stood still is not brought back by a channel that begins before it.
#[test]
fn what_was_emptied_stays_so() {
    let world = World::new(Durability::Flush);
    world.channel("old", Start::Now);
    world.publish_all(0..4);
    world.topic.pause().unwrap();
    world.publish_all(4..8);
    world.topic.empty().unwrap();
    world.publish_all(8..10);
    world.channel("new", Start::Earliest);
    world.topic.unpause().unwrap();
    assert_eq!(world.rest("new"), [0, 1, 2, 3, 8, 9]);
    assert_eq!(world.killed(Durability::Flush).rest("new"), [0, 1, 2, 3, 8, 9]);
    assert_eq!(world.killed(Durability::Flush).rest("old"), [0, 1, 2, 3, 8, 9]);
}

#[test]
fn a_channel_takes_over_from_one_that_is_deleted() {
    let world = World::new(Durability::Flush);
    world.channel("old", Start::Now);
    world.publish_all(0..40);
    finish(&world.channel("old", Start::Now), |n| n % 2 == 0);
    world.channel("new", Start::Earliest);
    world.topic.delete_channel(&name("old")).unwrap();
    (0..3).for_each(|_| world.clean());
    assert_eq!(world.rest("new"), numbers((0..40).filter(|n| n % 2 == 1)));
    let killed = world.killed(Durability::Flush);
    assert_eq!(killed.rest("new"), numbers((0..40).filter(|n| n % 2 == 1)));
}

#[test]
fn a_peek_gives_all_of_a_message_and_stops_at_its_bounds() {
    for on_disk in [false, true] {
        let world = World::new(Durability::Flush);
        let mut headers = HeadersBuf::new();
        headers.push("trace", b"\x00\x01").unwrap();
        headers.push("trace", b"again").unwrap();
        let mut batch = world.topic.batch();
        for n in 0..10u8 {
            let attributes = Attributes { headers: headers.as_attribute(), ..Attributes::NONE };
            batch.push(&attributes, &[n; 100]).unwrap();
        }
        let published = world.topic.publish(batch, &nobody()).unwrap();
        let offsets: Vec<_> = published.offsets().map(|(offset, _)| offset).collect();
        assert_eq!((published.len(), published.duplicates()), (10, 0));
        world.broker.commit();
        if on_disk {
            world.publish_all(100..200);
            world.broker.maintain(Step::Spill).unwrap();
        }
        let peek = |from: Option<Offset>, max: usize, bytes: usize| {
            let mut got = Vec::new();
            let mut sink = |m: mq_core::Delivery<'_>| {
                let headers: Vec<_> =
                    Headers::new(m.attributes.headers).map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
                assert_eq!(headers, [("trace".into(), vec![0, 1]), ("trace".into(), b"again".to_vec())]);
                assert_eq!((m.time, m.attempts), (WALL, 0));
                got.push((m.id.offset(), m.body[0]));
            };
            let next = world.topic.peek(from, max, bytes, &mut sink).unwrap();
            (got, next)
        };
        let all = |range: std::ops::Range<usize>| -> Vec<(Offset, u8)> {
            range.map(|n| (offsets[n], n as u8)).collect()
        };
        assert_eq!(peek(None, 4, usize::MAX), (all(0..4), offsets[4]));
        assert_eq!(peek(Some(offsets[4]), 6, usize::MAX).0, all(4..10));
        assert_eq!(peek(Some(offsets[2]), 6, 300), (all(2..4), offsets[4]));
        assert_eq!(peek(Some(offsets[9]), 1, 1).0, all(9..10));
        assert_eq!(peek(Some(offsets[3]), 0, usize::MAX), (vec![], offsets[3]));
    }
}
