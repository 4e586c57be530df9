//! The invariants that no crash decides: I3, I6 and I7 of the design, from outside.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use mq_core::testkit::{self, Crash, CrashDisk, channel_name, nobody, topic, try_subscribe};
use mq_core::{
    Attributes, Broker, Durability, ManualClock, Options, Pulled, Step, StoreSizes, Subscription, Topic, Wake,
};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 64 << 10, chunk_bytes: 16 << 10, read_bytes: 16 << 10, blocks: 64 };
const LIMIT: u64 = 4 << 20;

fn open(disk: &CrashDisk, durability: Durability) -> Broker {
    open_with(disk, Options { durability, ..Options::default() })
}

fn open_with(disk: &CrashDisk, options: Options) -> Broker {
    let options = Options { memory_limit: LIMIT, ..options };
    testkit::open(Arc::new(disk.clone()), SIZES, options).unwrap()
}

fn publish(broker: &Broker, topic: &Topic, body: &[u8]) {
    let _ = testkit::publish(broker, topic, &[body]).unwrap();
}

fn subscribe(topic: &Topic, channel: &str, credit: u32, wake: Arc<dyn Wake>) -> Subscription {
    try_subscribe(topic, channel, credit, wake).unwrap()
}

/// Pulls and finishes until nothing comes; how many came.
fn drain(sub: &mut Subscription) -> usize {
    testkit::drain(sub).len()
}

/// I3: what is done to one channel changes nothing in another, and a slow one holds no fast one up.
#[test]
fn channels_do_not_touch_each_other() {
    for level in [Durability::Memory, Durability::Flush] {
        let broker = open(&CrashDisk::new(), level);
        let t = topic(&broker, "t");
        let _slow = subscribe(&t, "slow", 0, nobody());
        let _paused = subscribe(&t, "paused", 10, nobody());
        let paused = t.find_channel(&channel_name("paused")).unwrap();
        let _ = paused.pause().unwrap();
        let mut fast = subscribe(&t, "fast", 100, nobody());
        let mut emptied = subscribe(&t, "emptied", 100, nobody());
        let body = [7; 1000];
        for round in 0..100 {
            for _ in 0..100 {
                publish(&broker, &t, &body);
            }
            assert_eq!(drain(&mut fast), 100, "round {round}");
            let _ = emptied.channel().empty().unwrap();
            assert_eq!(drain(&mut emptied), 0);
        }
        let depth = |name: &str| t.find_channel(&channel_name(name)).unwrap().depth();
        assert_eq!((depth("slow"), depth("paused"), depth("fast"), depth("emptied")), (10_000, 10_000, 0, 0));
        assert!(broker.memory_used() <= LIMIT);
    }
}

/// I6: messages, channels and slow readers beyond count, and memory stays within the limit; disk within twice
/// what is pending and four files.
#[test]
fn memory_and_disk_stay_within_their_bounds() {
    for level in [Durability::Memory, Durability::Flush] {
        let broker = open(&CrashDisk::new(), level);
        let topics: Vec<_> = (0..10).map(|i| topic(&broker, &format!("t{i}"))).collect();
        // Each channel stands somewhere else, far behind, and reads from disk what the others do not.
        let mut readers: Vec<_> = topics
            .iter()
            .flat_map(|t| {
                (0..10).map(|c| subscribe(t, &format!("c{c}"), 1 + c, nobody())).collect::<Vec<_>>()
            })
            .collect();
        let mut most = 0;
        for round in 0..60usize {
            for (i, t) in topics.iter().enumerate() {
                publish(&broker, t, &vec![1; 500 + 3000 * ((round + i) % 7)]);
                publish(&broker, t, &[2; 100]);
            }
            for (_, reader) in readers.iter_mut().enumerate().filter(|(i, _)| (i + round).is_multiple_of(9)) {
                let mut ids = Vec::new();
                let _ = reader.pull(1 << 14, &mut |m| ids.push(m.id));
                let mut acks = reader.acks();
                ids.iter().for_each(|id| acks.finish(*id).unwrap());
            }
            for step in [Step::State, Step::Sync, Step::Clean, Step::Memory] {
                broker.maintain(step).unwrap();
            }
            most = most.max(broker.memory_used());
            assert!(most <= LIMIT, "{most} bytes in round {round}");
        }
        for reader in &mut readers {
            drain(reader);
        }
        for step in [Step::State, Step::Sync, Step::Checkpoint, Step::Clean, Step::Memory, Step::Memory] {
            broker.maintain(step).unwrap();
        }
        let (bytes, files) = broker.disk_used();
        assert!(
            bytes <= 4 * SIZES.file_bytes && files <= 4,
            "{bytes} bytes in {files} files, nothing pending"
        );
        assert!(broker.memory_used() <= 4 * SIZES.chunk_bytes as u64, "{} bytes held", broker.memory_used());
    }
}

#[test]
fn with_many_idle_topics_checkpoints_are_rare_and_the_cleaner_skips_them() {
    let checkpoints = |idle: usize, max_disk_bytes: u64| {
        let disk = CrashDisk::new();
        let broker = open_with(&disk, Options { max_disk_bytes, ..Options::default() });
        (0..idle).for_each(|n| drop(topic(&broker, &format!("idle{n}"))));
        let unread = topic(&broker, "unread");
        let _unread = subscribe(&unread, "c", 0, nobody());
        if max_disk_bytes > 0 {
            (0..12).for_each(|_| publish(&broker, &unread, &[b'x'; 16 << 10]));
        }
        broker.maintain(Step::Checkpoint).unwrap();
        let before = broker.stats();
        assert_eq!(before.topics, idle as u64 + 1);
        let busy = topic(&broker, "busy");
        let mut sub = subscribe(&busy, "c", 100, nobody());
        // Twelve files, a quarter of one at a time.
        for _ in 0..48 {
            publish(&broker, &busy, &[b'x'; 16 << 10]);
            assert_eq!(drain(&mut sub), 1);
            broker.maintain(Step::Maintain).unwrap();
        }
        let after = broker.stats();
        assert_eq!(after.topics, idle as u64 + 2);
        // What is finished is gone but for what no checkpoint covers yet.
        assert!(after.log_files <= 7, "{}", after.log_files);
        after.checkpoints - before.checkpoints
    };
    let (few, many) = (checkpoints(1, 0), checkpoints(50, 0));
    assert!((9..=12).contains(&few) && (2..=3).contains(&many), "{few}, {many}");
    // Of eight files two are kept free and three unread: nothing is refused for want of a checkpoint.
    checkpoints(50, 8 * SIZES.file_bytes);
}

/// I6: what is counted for a message in flight, requeued or deferred is some 32 bytes.
#[test]
fn a_message_in_flight_is_small() {
    let broker = open(&CrashDisk::new(), Durability::Flush);
    let t = topic(&broker, "t");
    let mut sub = subscribe(&t, "c", 100_000, nobody());
    let body = [7; 10];
    for _ in 0..50_000 {
        publish(&broker, &t, &body);
    }
    let mut ids = Vec::new();
    while sub.pull(1 << 20, &mut |m| ids.push(m.id)) == Pulled::More {}
    assert_eq!(ids.len(), 50_000);
    let per_message = |sub: &Subscription| sub.channel().stats().memory / 50_000;
    assert!(per_message(&sub) <= 32, "{} in flight", per_message(&sub));
    let mut acks = sub.acks();
    ids.iter().for_each(|id| acks.requeue(*id, Duration::from_secs(60)).unwrap());
    drop(acks);
    broker.maintain(Step::State).unwrap();
    broker.maintain(Step::Memory).unwrap();
    assert!(per_message(&sub) <= 32, "{} deferred", per_message(&sub));
}

/// I8: whatever bit is flipped in whatever file, the folder opens or is refused, and what is served is right:
/// all that is whole, or the topic is stopped and named.
#[test]
fn a_flipped_bit_serves_no_wrong_body_and_loses_nothing_unnamed() {
    let body = |number: u32| number.to_le_bytes().repeat(1 + number as usize % 9);
    let disk = CrashDisk::new();
    let broker = open(&disk, Durability::Flush);
    let t = topic(&broker, "t");
    let mut sub = subscribe(&t, "c", 7, nobody());
    for number in 0..3000 {
        publish(&broker, &t, &body(number));
        if number == 1500 {
            broker.maintain(Step::Checkpoint).unwrap();
        }
    }
    let mut finished = Vec::new();
    let _ = sub.pull(1 << 16, &mut |m| finished.push(m.id));
    finished.iter().for_each(|id| sub.acks().finish(*id).unwrap());
    for step in [Step::State, Step::Sync, Step::Sync] {
        broker.maintain(step).unwrap();
    }
    let events = disk.events();
    let mut random = fastrand::Rng::with_seed(7);
    let (mut stopped, mut refused) = (0, 0);
    for _ in 0..400 {
        let image = disk.image(events, Crash::Kill);
        let files = image.dump();
        let name = files.keys().nth(random.usize(..files.len())).unwrap();
        if files[name].is_empty() {
            continue;
        }
        let bit = random.u64(..files[name].len() as u64 * 8);
        image.flip_bit(name, bit);
        let clock = Arc::new(ManualClock::new(testkit::WALL));
        let options = Options { memory_limit: LIMIT, ..Options::default() };
        let Ok(broker) = Broker::open_on(Arc::new(image.clone()), clock, SIZES, options) else {
            refused += 1;
            continue;
        };
        let t = topic(&broker, "t");
        let mut sub = match try_subscribe(&t, "c", 10_000, nobody()) {
            Ok(sub) => sub,
            Err(error) => {
                assert_eq!(error.kind(), mq_core::ErrorKind::Damaged, "bit {bit} of {name}");
                stopped += 1;
                continue;
            }
        };
        let mut got = 0;
        let mut check = |m: &mq_core::Delivery<'_>| {
            let number = u32::from_le_bytes(*m.body.first_chunk().unwrap());
            assert_eq!(m.body, body(number), "bit {bit} of {name}");
            got += 1;
        };
        while sub.pull(1 << 20, &mut check) == Pulled::More {}
        let all = 3000 - finished.len();
        if got < all {
            let mut batch = t.batch();
            batch.push(&Attributes::NONE, b"x").unwrap();
            let error = t.publish(batch, &nobody()).expect_err("messages are gone, and nothing says so");
            assert_eq!(error.kind(), mq_core::ErrorKind::Damaged, "bit {bit} of {name}");
            stopped += 1;
        }
    }
    assert!(stopped > 0 && refused > 0, "{stopped} stopped, {refused} refused");
}

/// Offsets are reserved on disk some at a time; running out waits for the next reservation, with frames still
/// queued.
#[test]
fn more_topics_than_blocks_were_reserved_at_once() {
    let disk = CrashDisk::new();
    let broker = open(&disk, Durability::Flush);
    let topics: Vec<_> = (0..500).map(|i| topic(&broker, &format!("t{i}"))).collect();
    for t in &topics {
        let mut batch = t.batch();
        batch.push(&Attributes::NONE, t.name().as_str().as_bytes()).unwrap();
        let _ = t.publish(batch, &nobody()).unwrap();
    }
    broker.commit();
    let broker = open(&disk.image(disk.events(), Crash::Kill), Durability::Flush);
    for t in broker.topics() {
        let mut sub = subscribe(&t, "c", 10, nobody());
        let mut got = Vec::new();
        let _ = sub.pull(1000, &mut |m| got.push(m.body.to_vec()));
        assert_eq!(got, [t.name().as_str().as_bytes()]);
    }
    assert_eq!(broker.topics().len(), 500);
}
