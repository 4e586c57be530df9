//! Limits of topics and of the data folder: what is refused, what is dropped, and that it stays so over a crash.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use mq_core::store::disk::crash_disk::{Crash, CrashDisk};
use mq_core::{
    Attributes, Broker, ChannelName, Durability, Error, ErrorKind, Limits, ManualClock, Options, Overflow,
    Pulled, Step, StoreSizes, SubscribeOptions, Subscription, Topic, TopicName, Wake,
};

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn nobody() -> Arc<dyn Wake> {
    Arc::new(Nobody)
}

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 8 << 10, chunk_bytes: 4 << 10, read_bytes: 4 << 10, blocks: 64 };

struct World {
    disk: CrashDisk,
    clock: Arc<ManualClock>,
    options: Options,
    broker: Broker,
}

impl World {
    fn new(options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(1_800_000_000_000_000_000));
        Self::open(CrashDisk::new(), clock, Options { memory_limit: 4 << 20, ..options })
    }

    fn open(disk: CrashDisk, clock: Arc<ManualClock>, options: Options) -> Self {
        let broker = Broker::open_on(Arc::new(disk.clone()), clock.clone(), SIZES, options.clone()).unwrap();
        Self { disk, clock, options, broker }
    }

    fn kill(self) -> Self {
        Self::open(self.disk.image(self.disk.events(), Crash::Kill), self.clock, self.options)
    }

    fn topic(&self) -> Arc<Topic> {
        self.broker.topic(&TopicName::parse("t").unwrap()).unwrap()
    }

    fn publish(&self, bodies: &[String]) -> Result<(), Error> {
        let topic = self.topic();
        let mut batch = topic.batch();
        bodies.iter().for_each(|body| batch.push(&Attributes::NONE, body.as_bytes()).unwrap());
        topic.publish(batch, &nobody())?;
        self.broker.commit();
        self.broker.maintain(Step::Sync)
    }

    fn publish_numbers(&self, numbers: std::ops::Range<u32>) -> Result<(), Error> {
        numbers.into_iter().try_for_each(|n| self.publish(&[n.to_string()]))
    }

    fn subscribe(&self, channel: &str, credit: u32) -> Subscription {
        let (channel, _) = self.topic().channel(&ChannelName::parse(channel).unwrap(), &nobody()).unwrap();
        let options = SubscribeOptions { msg_timeout: Duration::from_secs(60), sample_rate: 0 };
        let sub = channel.subscribe(options, nobody()).unwrap();
        sub.acks().set_credit(credit);
        sub
    }

    fn limit(&self, limits: Limits) {
        let ticket = self.topic().set_limits(limits).unwrap();
        self.broker.maintain(Step::Sync).unwrap();
        assert!(matches!(self.broker.outcome(ticket), mq_core::Outcome::Done));
    }

    fn skipped(&self, channel: &str) -> u64 {
        self.topic().find_channel(&ChannelName::parse(channel).unwrap()).unwrap().stats().skipped
    }
}

fn take(sub: &mut Subscription, finish: bool) -> Vec<String> {
    let mut got = Vec::new();
    let mut sink = |m: &mq_core::Delivery<'_>| got.push((m.id, String::from_utf8(m.body.to_vec()).unwrap()));
    while sub.pull(1 << 20, &mut sink) == Pulled::More {}
    let mut acks = sub.acks();
    got.iter().filter(|_| finish).for_each(|(id, _)| acks.finish(*id).unwrap());
    got.into_iter().map(|(_, body)| body).collect()
}

fn drain(sub: &mut Subscription) -> Vec<String> {
    let mut all = Vec::new();
    loop {
        let got = take(sub, true);
        if got.is_empty() {
            return all;
        }
        all.extend(got);
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn refused(result: Result<(), Error>, word: &str) {
    let error = result.unwrap_err();
    assert!(error.kind() == ErrorKind::Full && error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains(word), "{error} lacks {word}");
}

const ANY: Limits =
    Limits { max_messages: 0, max_bytes: 0, max_age: Duration::ZERO, overflow: Overflow::Refuse };

#[test]
fn a_topic_refuses_what_is_above_its_messages_until_less_waits() {
    for level in Durability::ALL {
        let world = World::new(Options { durability: level, ..Options::default() });
        let (mut slow, mut fast) = (world.subscribe("slow", 3), world.subscribe("fast", 100));
        world.limit(Limits { max_messages: 10, ..ANY });
        world.publish_numbers(0..10).unwrap();
        refused(world.publish_numbers(10..11), "max-messages is 10");
        // One channel being empty does not help the other. What is in flight counts.
        assert_eq!(drain(&mut fast), numbers(0..10));
        assert_eq!(take(&mut slow, false), numbers(0..3));
        refused(world.publish_numbers(10..11), "max-messages");
        drop(slow);
        assert_eq!(take(&mut world.subscribe("slow", 4), true), numbers(0..4));
        world.publish_numbers(10..14).unwrap();
        refused(world.publish_numbers(14..15), "max-messages");
        refused(world.publish(&numbers(0..11)), "above its limits");
        world.limit(ANY);
        world.publish_numbers(14..40).unwrap();
    }
}

#[test]
fn what_waits_without_a_channel_counts() {
    let world = World::new(Options::default());
    world.limit(Limits { max_messages: 5, ..ANY });
    world.publish_numbers(0..5).unwrap();
    refused(world.publish_numbers(5..6), "max-messages");
    world.limit(Limits { max_messages: 5, overflow: Overflow::DropOldest, ..ANY });
    world.publish_numbers(5..8).unwrap();
    let world = world.kill();
    assert_eq!(world.topic().limits().overflow, Overflow::DropOldest);
    assert_eq!(drain(&mut world.subscribe("c", 100)).last().unwrap(), "7");
}

#[test]
fn the_oldest_are_dropped_where_that_is_asked_for_and_counted() {
    for level in Durability::ALL {
        let world = World::new(Options { durability: level, ..Options::default() });
        let (mut slow, mut fast) = (world.subscribe("slow", 2), world.subscribe("fast", 100));
        world.limit(Limits { max_messages: 10, overflow: Overflow::DropOldest, ..ANY });
        world.publish_numbers(0..5).unwrap();
        assert_eq!(drain(&mut fast), numbers(0..5));
        assert_eq!(take(&mut slow, false), numbers(0..2));
        world.publish_numbers(5..25).unwrap();
        // 0 and 1 are in flight, and of the others the newest 8 are left.
        assert_eq!(world.skipped("slow"), 15);
        assert_eq!(world.skipped("fast"), 10);
        assert_eq!(drain(&mut fast), numbers(15..25));
        drop(slow);
        let mut slow = world.subscribe("slow", 100);
        assert_eq!(drain(&mut slow), [numbers(0..2), numbers(17..25)].concat());
    }
}

#[test]
fn dropped_stays_dropped_once_the_log_knows() {
    let world = World::new(Options::default());
    let slow = world.subscribe("slow", 0);
    world.limit(Limits { max_messages: 3, overflow: Overflow::DropOldest, ..ANY });
    world.publish_numbers(0..9).unwrap();
    world.broker.maintain(Step::State).unwrap();
    drop(slow);
    let world = world.kill();
    assert_eq!(drain(&mut world.subscribe("slow", 100)), numbers(6..9));
    // The limit is known after a crash, and after a checkpoint.
    world.publish_numbers(9..20).unwrap();
    world.broker.maintain(Step::Checkpoint).unwrap();
    let world = world.kill();
    assert_eq!(world.topic().limits().max_messages, 3);
}

#[test]
fn requeued_and_deferred_messages_are_the_oldest() {
    let world = World::new(Options::default());
    let mut sub = world.subscribe("c", 3);
    world.publish_numbers(0..4).unwrap();
    let mut ids = Vec::new();
    while sub.pull(1 << 20, &mut |m| ids.push(m.id)) == Pulled::More {}
    let mut acks = sub.acks();
    acks.requeue(ids[0], Duration::ZERO).unwrap();
    acks.requeue(ids[1], Duration::from_secs(5)).unwrap();
    drop(acks);
    world.limit(Limits { max_messages: 4, overflow: Overflow::DropOldest, ..ANY });
    world.publish_numbers(4..6).unwrap();
    assert_eq!(world.skipped("c"), 2);
    drop(sub);
    world.clock.advance(10_000_000_000);
    world.broker.maintain(Step::Timers).unwrap();
    assert_eq!(drain(&mut world.subscribe("c", 100)), ["2", "3", "4", "5"]);
}

#[test]
fn bytes_are_limited() {
    for overflow in [Overflow::Refuse, Overflow::DropOldest] {
        let world = World::new(Options::default());
        let mut sub = world.subscribe("c", 1000);
        world.limit(Limits { max_bytes: 100_000, overflow, ..ANY });
        let body = "x".repeat(988);
        let stored =
            (0..300).take_while(|n| world.publish(&[format!("{n:03}{}", &body[3..])]).is_ok()).count();
        match overflow {
            Overflow::Refuse => {
                assert_eq!(stored, 100);
                let one = [body];
                refused(world.publish(&one), "max-bytes is 100000");
                assert_eq!(drain(&mut sub).len(), 100);
                world.publish(&one).unwrap();
            }
            Overflow::DropOldest => {
                assert_eq!(stored, 300);
                let got = drain(&mut sub);
                assert!((95..=100).contains(&got.len()), "{}", got.len());
                assert!(got.last().unwrap().starts_with("299"));
            }
        }
        // After a restart what is on disk counts, by what the files' indexes tell.
        (0..60).for_each(|_| world.publish(&["y".repeat(988)]).unwrap());
        drop(sub);
        world.broker.maintain(Step::State).unwrap();
        let world = world.kill();
        let more = (0..60).take_while(|_| world.publish(&["z".repeat(988)]).is_ok()).count();
        if overflow == Overflow::Refuse {
            assert!((30..=45).contains(&more), "{more}");
        }
    }
}

#[test]
fn age_is_limited() {
    let world = World::new(Options::default());
    let mut sub = world.subscribe("c", 1000);
    let age = Duration::from_secs(60);
    world.limit(Limits { max_age: age, ..ANY });
    let minute = 60_000_000_000;
    world.publish_numbers(0..5).unwrap();
    world.clock.advance(minute / 2);
    world.publish_numbers(5..10).unwrap();
    world.clock.advance(minute / 2 + 2_000_000_000);
    refused(world.publish_numbers(10..11), "max-age");
    world.limit(Limits { max_age: age, overflow: Overflow::DropOldest, ..ANY });
    world.broker.maintain(Step::Memory).unwrap();
    assert_eq!(world.skipped("c"), 5);
    assert_eq!(drain(&mut sub), numbers(5..10));
    world.publish_numbers(10..12).unwrap();
    drop(sub);
    world.broker.maintain(Step::State).unwrap();
    let world = world.kill();
    world.broker.maintain(Step::Memory).unwrap();
    assert_eq!(world.skipped("c"), 0);
    world.clock.advance(minute + 2_000_000_000);
    world.broker.maintain(Step::Memory).unwrap();
    assert_eq!(drain(&mut world.subscribe("c", 1000)), [] as [String; 0]);
}

#[test]
fn an_ephemeral_topic_has_no_limits() {
    let world = World::new(Options::default());
    let topic = world.broker.topic(&TopicName::parse("t#ephemeral").unwrap()).unwrap();
    assert_eq!(
        topic.set_limits(Limits { max_messages: 1, ..ANY }).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn what_is_written_takes_a_quarter_of_the_memory_and_is_read_back() {
    for level in [Durability::Flush, Durability::Sync] {
        let world = World::new(Options { durability: level, ..Options::default() });
        let mut sub = world.subscribe("c", 100);
        let bodies: Vec<_> = (0..4000).map(|n| format!("{n:01000}")).collect();
        for bodies in bodies.chunks(20) {
            world.publish(bodies).unwrap();
            let used = world.broker.memory_used();
            // And the chunks given up last, free until they are used again.
            assert!(used < (1 << 20) + (192 << 10), "{used}");
        }
        assert!(world.broker.memory_used() > 1 << 19, "the newest are kept");
        assert!(drain(&mut sub) == bodies, "{level:?}");
    }
}

#[test]
fn the_data_folder_stays_within_its_budget() {
    let max = 16 * SIZES.file_bytes;
    for overflow in [Overflow::Refuse, Overflow::DropOldest] {
        let world = World::new(Options { max_disk_bytes: max, ..Options::default() });
        let mut sub = world.subscribe("c", 10_000);
        world.limit(Limits { overflow, ..ANY });
        let body = "x".repeat(1000);
        let mut stored = 0;
        for n in 0..1000 {
            match world.publish(&[format!("{n:04}{body}")]) {
                Ok(()) => stored += 1,
                Err(error) if overflow == Overflow::Refuse => {
                    assert!(error.to_string().contains("max-disk-bytes is 131072"), "{error}");
                    break;
                }
                Err(error) => panic!("{error}"),
            }
            world.broker.maintain(Step::KeepHouse).unwrap();
            assert!(world.broker.stats().log_bytes <= max, "{:?}", world.broker.stats());
        }
        let got = drain(&mut sub);
        if overflow == Overflow::Refuse {
            assert!(stored > 70, "{stored}");
            assert_eq!(got.len(), stored);
        } else {
            assert!(got.len() > 40 && got.last().unwrap().starts_with("0999"), "{}", got.len());
            assert_eq!(world.skipped("c") + got.len() as u64, 1000);
        }
        // What never touches the disk is not measured by it.
        let ephemeral = world.broker.topic(&TopicName::parse("e#ephemeral").unwrap()).unwrap();
        let mut batch = ephemeral.batch();
        batch.push(&Attributes::NONE, b"x").unwrap();
        ephemeral.publish(batch, &nobody()).unwrap();
        world.broker.maintain(Step::KeepHouse).unwrap();
        world.broker.maintain(Step::KeepHouse).unwrap();
        world.publish(&[body]).unwrap();
    }
}

#[test]
fn a_budget_too_small_to_clean_in_is_refused_by_name() {
    let options = Options { max_disk_bytes: 7 * SIZES.file_bytes, ..Options::default() };
    let clock = Arc::new(ManualClock::new(1));
    let error = Broker::open_on(Arc::new(CrashDisk::new()), clock, SIZES, options).err().unwrap();
    assert!(
        error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("max disk bytes"),
        "{error}"
    );
}
