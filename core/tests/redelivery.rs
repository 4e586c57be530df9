//! Messages that are delivered again in another order than they were published: how much is read for them
//! from a disk, and that they are the right ones.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mq_core::testkit::{self, Crash, CrashDisk, Got, Op, SECOND, World, options};
use mq_core::{
    Attributes, Clock, Durability, ErrorKind, ManualClock, Options, Step, StoreSizes, Subscription,
};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 1 << 20, chunk_bytes: 64 << 10, read_bytes: 64 << 10, blocks: 64 };

/// A broker on a disk that counts what is read.
struct Counted {
    world: World,
    read: Arc<AtomicU64>,
}

impl Counted {
    fn new(memory_limit: u64) -> Self {
        let options = Options { durability: Durability::Flush, memory_limit, ..options() };
        Self::on(CrashDisk::new(), Arc::new(ManualClock::new(testkit::WALL)), options)
    }

    fn on(disk: CrashDisk, clock: Arc<ManualClock>, options: Options) -> Self {
        let world = World::on(disk, clock, SIZES, options);
        let read = Arc::new(AtomicU64::new(0));
        let counted = read.clone();
        world.disk.set_faults(Box::new(move |call| {
            if matches!(call.op, Op::Read | Op::ReadNowait) {
                counted.fetch_add(call.len, Ordering::Relaxed);
            }
            None
        }));
        Self { world, read }
    }

    /// Kills the process and opens again. Nothing counts as read by then.
    fn kill(self) -> Self {
        self.disk.clear_faults();
        let disk = self.disk.image(self.disk.events(), Crash::Kill);
        Self::on(disk, self.clock.clone(), self.options.clone())
    }

    /// Publishes messages 0 to `count` in batches of `batch`, message `n` for `delay(n)` later.
    fn publish(&self, count: u32, batch: usize, delay: impl Fn(u32) -> u64) {
        let topic = self.topic("t");
        let numbers: Vec<u32> = (0..count).collect();
        for numbers in numbers.chunks(batch) {
            let mut batch = topic.batch();
            for &n in numbers {
                let not_before = Some(self.clock.wall().plus(delay(n))).filter(|_| delay(n) > 0);
                batch.push(&Attributes { not_before, ..Attributes::NONE }, &body(n)).unwrap();
            }
            let _ = topic.publish(batch, None).unwrap();
            self.broker.commit();
        }
    }

    fn subscribe(&self) -> Subscription {
        self.world.subscribe("t", "c", 100_000)
    }

    /// Lets a second pass, with all that the broker's threads do in one.
    fn second(&self) {
        self.clock.advance(SECOND);
        self.steps(&[Step::Timers, Step::State, Step::Sync, Step::Maintain, Step::Memory]);
    }

    fn stored(&self) -> u64 {
        self.disk_used().0
    }

    fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Deref for Counted {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

fn body(n: u32) -> Vec<u8> {
    n.to_le_bytes().repeat(2 + n as usize % 3)
}

/// A delay of up to a minute in whole seconds, as good as random.
fn delay(n: u32) -> u64 {
    (1 + u64::from(n.wrapping_mul(2_654_435_761) >> 8) % 60) * SECOND
}

fn number(message: &Got) -> u32 {
    let n = u32::from_le_bytes(*message.body.first_chunk().unwrap());
    assert_eq!(message.body, body(n));
    n
}

/// Finishes all that is there, and returns how many messages that were. None may be in `seen`.
fn drain(sub: &mut Subscription, seen: &mut HashSet<u32>) -> usize {
    let got = testkit::drain(sub);
    assert!(got.iter().all(|message| seen.insert(number(message))), "a message came twice");
    got.len()
}

/// Requeues all that is there, each message with its own delay.
fn requeue_all(sub: &mut Subscription) {
    for message in testkit::pull(sub) {
        sub.acks().requeue(message.id, Duration::from_nanos(delay(number(&message)))).unwrap();
    }
}

#[test]
fn delayed_messages_in_random_order_after_a_kill_read_at_most_four_times_what_is_stored() {
    for batch in [1, 100, 5_000] {
        let broker = Counted::new(64 << 20);
        drop(broker.subscribe());
        broker.publish(20_000, batch, delay);
        let broker = broker.kill();
        let mut sub = broker.subscribe();
        let (stored, mut seen) = (broker.stored(), HashSet::new());
        for second in 0..=60 {
            let due = (0..20_000).filter(|n| delay(*n) == second * SECOND).count();
            assert_eq!(drain(&mut sub, &mut seen), due, "batches of {batch}, second {second}");
            broker.second();
        }
        assert_eq!(seen.len(), 20_000);
        let read = broker.read();
        assert!(read <= 4 * stored, "batches of {batch}: {read} bytes read of {stored}");
    }
}

#[test]
fn a_retry_storm_beyond_memory_reads_at_most_four_times_what_is_stored() {
    let broker = Counted::new(4 << 20);
    let mut sub = broker.subscribe();
    broker.publish(50_000, 100, |_| 0);
    let stored = broker.stored();
    requeue_all(&mut sub);
    let mut seen = HashSet::new();
    for _ in 0..=60 {
        broker.second();
        drain(&mut sub, &mut seen);
    }
    assert_eq!(seen.len(), 50_000);
    let read = broker.read();
    assert!(read <= 4 * stored, "{read} bytes read of {stored}");
    assert!(broker.memory_used() <= 4 << 20);
}

#[test]
fn bytes_read_grow_with_the_messages_not_faster() {
    let read = |count: u32| {
        let broker = Counted::new(64 << 20);
        drop(broker.subscribe());
        broker.publish(count, 50, delay);
        let broker = broker.kill();
        let (mut sub, mut seen) = (broker.subscribe(), HashSet::new());
        for _ in 0..=60 {
            drain(&mut sub, &mut seen);
            broker.second();
        }
        assert_eq!(seen.len(), count as usize);
        broker.read()
    };
    let (few, many) = (read(5_000), read(40_000));
    assert!(many <= 10 * few, "{few} bytes for 5,000 messages, {many} for eight times as many");
}

#[test]
fn requeued_messages_come_right_from_the_middle_of_a_large_batch_in_memory() {
    let broker = Counted::new(64 << 20);
    let mut sub = broker.subscribe();
    broker.publish(10_000, 10_000, |_| 0);
    requeue_all(&mut sub);
    let mut seen = HashSet::new();
    for _ in 0..=60 {
        broker.second();
        drain(&mut sub, &mut seen);
    }
    assert_eq!((seen.len(), broker.read()), (10_000, 0));
}

#[test]
fn a_damaged_message_among_those_that_come_again_stops_its_topic() {
    let broker = Counted::new(64 << 20);
    drop(broker.subscribe());
    broker.publish(2_000, 100, delay);
    let broker = broker.kill();
    let (mut sub, mut seen) = (broker.subscribe(), HashSet::new());
    // By then the positions of all are known.
    for _ in 0..20 {
        drain(&mut sub, &mut seen);
        broker.second();
    }
    let last = (0..2_000).filter(|n| delay(*n) == 60 * SECOND).max().unwrap();
    let found = broker.disk.dump().into_iter().find_map(|(name, bytes)| {
        let at = bytes.windows(body(last).len()).position(|bytes| bytes == body(last))?;
        Some((name, at as u64))
    });
    let (name, at) = found.unwrap();
    broker.disk.flip_bit(&name, 8 * at);
    for _ in 0..60 {
        drain(&mut sub, &mut seen);
        broker.clock.advance(SECOND);
        broker.steps(&[Step::Timers]);
    }
    assert!(!seen.contains(&last));
    assert_eq!(broker.try_publish("t", &["x"]).unwrap_err().kind(), ErrorKind::Damaged);
}

#[test]
fn an_ephemeral_channel_skips_messages_that_come_again_and_are_gone() {
    let broker = Counted::new(4 << 20);
    let mut sub = broker.world.subscribe("t#ephemeral", "c#ephemeral", 100);
    broker.world.publish("t#ephemeral", &["first"; 3]);
    let got = testkit::pull(&mut sub);
    assert_eq!(got.len(), 3);
    got.iter().for_each(|message| sub.acks().requeue(message.id, Duration::from_secs(1)).unwrap());
    // Far more than memory has room for: the first are gone.
    (0..9_000).for_each(|_| broker.world.publish("t#ephemeral", &[[b'x'; 1_000]]));
    broker.second();
    let got = testkit::drain(&mut sub);
    assert!(got.len() > 100 && got.iter().all(|message| message.text() != "first"), "{}", got.len());
    let stats = sub.channel().stats();
    assert_eq!((stats.depth, stats.deferred, stats.in_flight), (0, 0, 0));
    assert_eq!(stats.skipped + got.len() as u64, 9_003);
}
