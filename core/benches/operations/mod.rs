//! The measured operations: each in one thread, on a real folder, with a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use mq_core::clock::Wall;
use mq_core::testkit::frame::{Header, Kind, Record, put_record};
use mq_core::testkit::nobody;
use mq_core::testkit::{LogPos, RealDisk};
use mq_core::{
    Attributes, Broker, ChannelName, Durability, ManualClock, MessageId, Offset, Options, Pulled, Step,
    StoreSizes, SubscribeOptions, TopicName, TopicNo,
};
use tempfile::TempDir;

/// Bytes of a message.
const BODY: [u8; 200] = [b'x'; 200];
/// Messages of a batch.
const BATCH: u64 = 200;
/// Messages that lie in the folder that is opened.
const BACKLOG: u64 = 20_000;

/// Longest delay of those that are delivered later.
const DELAY: Duration = Duration::from_secs(60);
/// Steps in which that time passes.
const STEPS: u32 = 60;

/// Operations whose cost for a message must not grow with the number of messages.
pub(crate) const SCALING: [&str; 3] = ["deferred", "requeued", "requeued_batch"];

/// Names of the others. What is counted is one message; of `open`, one opening of a folder with 20,000.
pub(crate) const NAMES: [&str; 8] = [
    "frame_header",
    "record",
    "publish_memory",
    "publish_flush",
    "publish_flush_200",
    "publish_deliver_finish",
    "spill",
    "open",
];

fn open(folder: &TempDir, durability: Durability) -> Broker {
    open_at(folder, durability).0
}

fn open_at(folder: &TempDir, durability: Durability) -> (Broker, Arc<ManualClock>) {
    let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
    let clock = Arc::new(ManualClock::new(Wall(1_800_000_000_000_000_000)));
    let options = Options { durability, ..Options::default() };
    (Broker::open_on(disk, clock.clone(), StoreSizes::default(), options).unwrap(), clock)
}

/// A delay up to [`DELAY`], as good as random.
fn delay(n: u64) -> Duration {
    DELAY.mul_f64(f64::from((n as u32).wrapping_mul(2_654_435_761)) / f64::from(u32::MAX))
}

/// Publishes `count` messages and finishes all of them the second time they could come: `deferred` to one
/// moment, `requeued` for a random time each, or requeued at once from one large batch.
fn deliver_later(folder: &TempDir, name: &str, count: u64) {
    let (broker, clock) = open_at(folder, Durability::Flush);
    let topic = broker.topic(&"topic".parse().unwrap()).unwrap();
    let (channel, _) = topic.channel(&"c".parse().unwrap(), None).unwrap();
    let mut subscription = channel.subscribe(SubscribeOptions::default(), nobody()).unwrap();
    subscription.acks().set_credit(u32::MAX);
    let per_batch = if name == "requeued_batch" { count } else { BATCH };
    for first in (0..count).step_by(per_batch as usize) {
        let mut batch = topic.batch();
        for _ in first..(first + per_batch).min(count) {
            let not_before = (name == "deferred").then(|| broker.wall().plus(DELAY.as_nanos() as u64 / 2));
            batch.push(&Attributes { not_before, ..Attributes::NONE }, b"ten bytes.").unwrap();
        }
        let _ = topic.publish(batch, None).unwrap();
        broker.commit();
    }
    let (mut left, mut again) = (count, Vec::new());
    for _ in 0..=STEPS {
        let mut done = Vec::new();
        loop {
            let pulled = subscription.pull(1 << 20, &mut |message| match message.attempts {
                1 if name != "deferred" => again.push(message.id),
                _ => done.push(message.id),
            });
            let mut acks = subscription.acks();
            for id in again.drain(..) {
                let delay = if name == "requeued" { delay(id.0) } else { Duration::ZERO };
                acks.requeue(id, delay).unwrap();
            }
            done.iter().for_each(|id| acks.finish(*id).unwrap());
            left -= done.drain(..).len() as u64;
            drop(acks);
            if pulled != Pulled::More && subscription.in_flight() == 0 && channel.stats().depth == 0 {
                break;
            }
        }
        broker.maintain(Step::State).unwrap();
        clock.advance((DELAY / STEPS).as_nanos() as u64);
        broker.maintain(Step::Timers).unwrap();
    }
    assert_eq!(left, 0);
}

fn later(folder: TempDir, name: &str) -> Box<dyn FnMut(u64)> {
    let name = name.to_owned();
    Box::new(move |count| deliver_later(&folder, &name, count))
}

fn publish(broker: &Broker, name: &TopicName, messages: u64, batch: u64) {
    let topic = broker.topic(name).unwrap();
    let wake = nobody();
    for _ in 0..messages.div_ceil(batch) {
        let mut frame = topic.batch();
        for _ in 0..batch {
            frame.push(&Attributes::NONE, &BODY).unwrap();
        }
        let _ = topic.publish(frame, &wake).unwrap();
        broker.commit();
    }
}

/// The operation of that name, ready to be done any number of times.
pub(crate) fn operation(name: &str) -> Box<dyn FnMut(u64)> {
    let topic = TopicName::parse("topic").unwrap();
    let folder = TempDir::new().unwrap();
    let level =
        if matches!(name, "publish_memory" | "spill") { Durability::Memory } else { Durability::Flush };
    match name {
        "frame_header" => {
            let header = Header {
                kind: Kind::Data,
                payload_len: 212,
                count: 1,
                topic: TopicNo(1),
                payload_crc: 1,
                first: Offset(1),
                time: Wall(1),
                has_ids: false,
                synced_to: LogPos(0),
            };
            Box::new(move |count| {
                for position in (0..count).map(LogPos) {
                    let bytes = std::hint::black_box(header.encode(7, position));
                    assert!(Header::decode(&bytes, 7, position).is_some());
                }
            })
        }
        "record" => {
            let mut bytes = bytes::BytesMut::new();
            Box::new(move |count| {
                for _ in 0..count {
                    bytes.clear();
                    put_record(&mut bytes, &Attributes::NONE, std::hint::black_box(&BODY));
                    assert!(Record::parse(&bytes).is_some());
                }
            })
        }
        "publish_memory" | "publish_flush" | "publish_flush_200" => {
            let broker = open(&folder, level);
            let batch = if name == "publish_flush_200" { BATCH } else { 1 };
            Box::new(move |count| {
                let _in_use = &folder;
                publish(&broker, &topic, count, batch);
            })
        }
        "publish_deliver_finish" => {
            let broker = open(&folder, level);
            let (channel, _) =
                broker.topic(&topic).unwrap().channel(&ChannelName::parse("c").unwrap(), &nobody()).unwrap();
            let options = SubscribeOptions { msg_timeout: Duration::from_secs(60), sample_rate: 0 };
            let mut subscription = channel.subscribe(options, nobody()).unwrap();
            subscription.acks().set_credit(2500);
            Box::new(move |count| {
                let _in_use = &folder;
                publish(&broker, &topic, count, BATCH);
                let mut ids: Vec<MessageId> = Vec::new();
                let mut left = count.next_multiple_of(BATCH);
                while left > 0 {
                    subscription.pull(1 << 20, &mut |message| ids.push(message.id));
                    left -= ids.len() as u64;
                    let mut acks = subscription.acks();
                    for id in ids.drain(..) {
                        acks.finish(id).unwrap();
                    }
                }
            })
        }
        "spill" => {
            let broker = open(&folder, level);
            Box::new(move |count| {
                let _in_use = &folder;
                publish(&broker, &topic, count, BATCH);
                broker.maintain(Step::Spill).unwrap();
            })
        }
        "open" => {
            let broker = open(&folder, level);
            let _ =
                broker.topic(&topic).unwrap().channel(&ChannelName::parse("c").unwrap(), &nobody()).unwrap();
            publish(&broker, &topic, BACKLOG, BATCH);
            drop(broker);
            Box::new(move |count| {
                for _ in 0..count {
                    let broker = open(&folder, level);
                    assert_eq!(broker.find_topic(&topic).unwrap().channels().len(), 1);
                }
            })
        }
        "deferred" | "requeued" | "requeued_batch" => later(folder, name),
        _ => panic!("no operation {name}: there are {NAMES:?} and {SCALING:?}"),
    }
}
