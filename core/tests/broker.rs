//! The broker as an embedding program uses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use mq_core::store::disk::crash_disk::{Crash, CrashDisk};
use mq_core::{
    Attributes, Broker, ChannelName, Clock, Durability, ErrorKind, ManualClock, MessageId, Options, Outcome,
    Pulled, Step, StoreSizes, SubscribeOptions, Subscription, Ticket, Topic, TopicName, Wake,
};

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

fn nobody() -> Arc<dyn Wake> {
    Arc::new(Nobody)
}

/// A broker on a disk in memory and a clock that stands still.
struct World {
    disk: CrashDisk,
    clock: Arc<ManualClock>,
    options: Options,
    broker: Broker,
}

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 16 << 10, chunk_bytes: 4 << 10, read_bytes: 4 << 10, blocks: 64 };

impl World {
    fn new(durability: Durability) -> Self {
        let options = Options { durability, memory_limit: 4 << 20, ..Options::default() };
        Self::on(CrashDisk::new(), options)
    }

    fn on(disk: CrashDisk, options: Options) -> Self {
        let clock = Arc::new(ManualClock::new(1_800_000_000_000_000_000));
        let broker = Broker::open_on(Arc::new(disk.clone()), clock.clone(), SIZES, options.clone()).unwrap();
        Self { disk, clock, options, broker }
    }

    fn topic(&self, name: &str) -> Arc<Topic> {
        self.broker.topic(&TopicName::parse(name).unwrap()).unwrap()
    }

    fn publish(&self, topic: &str, bodies: &[&str]) -> Ticket {
        let topic = self.topic(topic);
        let mut batch = topic.batch();
        for body in bodies {
            batch.push(&Attributes::NONE, body.as_bytes()).unwrap();
        }
        let ticket = topic.publish(batch, &nobody()).unwrap().ticket;
        self.broker.commit();
        ticket
    }

    fn publish_numbers(&self, topic: &str, numbers: std::ops::Range<u32>) {
        for number in numbers {
            let ticket = self.publish(topic, &[&number.to_string()]);
            assert!(matches!(self.broker.outcome(ticket), Outcome::Done));
        }
    }

    fn subscribe(&self, topic: &str, channel: &str, credit: u32) -> Subscription {
        let (channel, _) =
            self.topic(topic).channel(&ChannelName::parse(channel).unwrap(), &nobody()).unwrap();
        let options = SubscribeOptions { msg_timeout: Duration::from_secs(60), sample_rate: 0 };
        let sub = channel.subscribe(options, nobody()).unwrap();
        sub.acks().set_credit(credit);
        sub
    }

    fn maintain(&self, steps: &[Step]) {
        for step in steps {
            self.broker.maintain(*step).unwrap();
        }
    }

    /// Stops cleanly and opens again.
    fn reopen(self) -> Self {
        self.broker.close().unwrap();
        self.kill()
    }

    /// Kills the process and opens again.
    fn kill(self) -> Self {
        let image = self.disk.image(self.disk.events(), Crash::Kill);
        Self::on(image, self.options)
    }
}

fn pull(sub: &mut Subscription) -> Vec<(MessageId, u16, String)> {
    let mut got = Vec::new();
    let mut take = |m: &mq_core::Delivery<'_>| {
        got.push((m.id, m.attempts, String::from_utf8(m.body.to_vec()).unwrap()));
    };
    while sub.pull(1 << 20, &mut take) == Pulled::More {}
    got
}

fn bodies(sub: &mut Subscription) -> Vec<String> {
    pull(sub).into_iter().map(|(_, _, body)| body).collect()
}

/// Pulls and finishes all there is.
fn drain(sub: &mut Subscription) -> Vec<u32> {
    let mut all = Vec::new();
    loop {
        let got = pull(sub);
        if got.is_empty() {
            return all;
        }
        let mut acks = sub.acks();
        for (id, _, body) in got {
            acks.finish(id).unwrap();
            all.push(body.split(':').next().unwrap().parse().unwrap());
        }
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

#[test]
fn every_channel_gets_every_message_in_order() {
    for level in [Durability::Memory, Durability::Flush] {
        let world = World::new(level);
        let (mut a, mut b) = (world.subscribe("t", "a", 100), world.subscribe("t", "b", 10));
        world.publish("t", &["one", "two"]);
        world.publish("t", &["three"]);
        assert_eq!(bodies(&mut a), ["one", "two", "three"]);
        assert_eq!(bodies(&mut b), ["one", "two", "three"]);
    }
}

/// The design's pump rule: the first channel gets what waits, a later one what comes after it.
#[test]
fn a_new_channel_starts_at_the_pump_position() {
    let world = World::new(Durability::Flush);
    world.publish_numbers("t", 0..3);
    assert_eq!(world.topic("t").depth(), 3);
    let mut a = world.subscribe("t", "a", 100);
    assert_eq!(world.topic("t").depth(), 0);
    world.publish_numbers("t", 3..5);
    let mut b = world.subscribe("t", "b", 100);
    world.publish_numbers("t", 5..6);
    assert_eq!((drain(&mut a), drain(&mut b)), (numbers(0..6), numbers(5..6)));
    drop((a, b));
    for name in ["a", "b"] {
        world.topic("t").delete_channel(&ChannelName::parse(name).unwrap()).unwrap();
    }
    world.publish_numbers("t", 6..8);
    let mut c = world.subscribe("t", "c", 100);
    assert_eq!(drain(&mut c), numbers(6..8));
}

/// I1 at a clean stop for both levels, at a kill for `flush`.
#[test]
fn nothing_published_is_lost_by_a_clean_stop_or_at_flush_by_a_kill() {
    for (level, clean) in [(Durability::Memory, true), (Durability::Flush, true), (Durability::Flush, false)]
    {
        let world = World::new(level);
        let mut a = world.subscribe("t", "a", 10);
        world.publish_numbers("t", 0..200);
        let held = pull(&mut a);
        a.acks().finish(held[0].0).unwrap();
        a.acks().finish(held[3].0).unwrap();
        world.maintain(&[Step::State]);
        drop(a);
        let world = if clean { world.reopen() } else { world.kill() };
        let mut a = world.subscribe("t", "a", 1000);
        let expected: Vec<u32> = (0..200).filter(|n| ![0, 3].contains(n)).collect();
        assert_eq!(drain(&mut a), expected, "{level:?} clean {clean}");
        assert!(world.broker.damage().is_empty());
        world.publish_numbers("t", 200..210);
        assert_eq!(drain(&mut a), numbers(200..210));
    }
}

/// I6, I2: more than the memory limit goes through, in order, within the limit.
#[test]
fn what_does_not_fit_memory_is_read_back_from_disk_in_order() {
    for level in [Durability::Memory, Durability::Flush] {
        let world = World::new(level);
        let mut a = world.subscribe("t", "a", 100);
        let body = "x".repeat(2000);
        for number in 0..6000u32 {
            world.publish("t", &[&format!("{number}:{body}")]);
            let used = world.broker.memory_used();
            assert!(used <= world.options.memory_limit, "{used} bytes at message {number}");
        }
        assert_eq!(drain(&mut a), numbers(0..6000), "{level:?}");
        world.maintain(&[Step::State, Step::Sync, Step::Checkpoint, Step::Clean]);
        let (bytes, files) = world.broker.disk_used();
        assert!(files <= 3, "{files} files with {bytes} bytes are left of what is finished");
    }
}

#[test]
fn a_deferred_message_waits_for_its_time_through_a_kill() {
    let world = World::new(Durability::Flush);
    let mut a = world.subscribe("t", "a", 100);
    let topic = world.topic("t");
    let mut batch = topic.batch();
    let not_before = Some(world.clock.wall() + 5_000_000_000);
    batch.push(&Attributes { not_before, ..Attributes::NONE }, b"later").unwrap();
    topic.publish(batch, &nobody()).unwrap();
    world.broker.commit();
    assert!(pull(&mut a).is_empty());
    assert_eq!(a.channel().stats().deferred, 1);
    drop(a);
    let world = world.kill();
    let mut a = world.subscribe("t", "a", 100);
    assert!(pull(&mut a).is_empty());
    world.clock.advance(5_000_000_000);
    world.maintain(&[Step::Timers]);
    assert_eq!(bodies(&mut a), ["later"]);
}

#[test]
fn a_stuck_message_does_not_keep_the_log() {
    let world = World::new(Durability::Flush);
    let mut a = world.subscribe("t", "a", 2000);
    world.publish_numbers("t", 0..1);
    let stuck = pull(&mut a);
    for round in 1..40 {
        world.publish_numbers("t", round * 100..round * 100 + 100);
        drain(&mut a);
        world.maintain(&[Step::State, Step::Sync, Step::Checkpoint, Step::Clean]);
    }
    let (bytes, _) = world.broker.disk_used();
    assert!(bytes <= 4 * SIZES.file_bytes, "{bytes} bytes for one message");
    drop(a);
    let world = world.kill();
    let mut a = world.subscribe("t", "a", 2000);
    let again = pull(&mut a);
    assert_eq!((again.len(), again[0].0, &again[0].2), (1, stuck[0].0, &stuck[0].2));
}

#[test]
fn ephemeral_channels_keep_the_newest_and_go_with_their_last_subscriber() {
    let world = World::on(CrashDisk::new(), Options { ephemeral_queue: 10, ..Options::default() });
    let mut a = world.subscribe("t", "a#ephemeral", 1000);
    world.publish_numbers("t", 0..100);
    assert_eq!(drain(&mut a), numbers(90..100));
    drop(a);
    assert!(world.topic("t").channels().is_empty());
}

/// I9: offsets are never used again, not even by a topic re-created under the same name.
#[test]
fn a_deleted_topic_takes_its_messages_along_and_ends_its_subscriptions() {
    let world = World::new(Durability::Flush);
    let mut a = world.subscribe("t", "a", 10);
    world.publish_numbers("t", 0..3);
    let first = pull(&mut a)[0].0;
    let topic = world.topic("t");
    world.broker.delete_topic(&TopicName::parse("t").unwrap()).unwrap();
    assert_eq!(a.pull(100, &mut |_| panic!("it is gone")), Pulled::Closed);
    let mut batch = topic.batch();
    batch.push(&Attributes::NONE, b"x").unwrap();
    assert_eq!(topic.publish(batch, &nobody()).unwrap_err().kind(), ErrorKind::Closed);
    let mut b = world.subscribe("t", "a", 10);
    world.publish_numbers("t", 7..8);
    let again = pull(&mut b);
    assert_eq!(again[0].2, "7");
    assert!(again[0].0 > first);
}
