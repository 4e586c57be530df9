//! What is measured: each operation in one thread, on a real folder, with a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use mq_core::testkit::RealDisk;
use mq_core::testkit::frame::{Header, Kind, Record, put_record};
use mq_core::testkit::nobody;
use mq_core::{
    Attributes, Broker, ChannelName, Durability, ManualClock, MessageId, Offset, Options, Step, StoreSizes,
    SubscribeOptions, TopicName,
};
use tempfile::TempDir;

/// Bytes of a message.
const BODY: [u8; 200] = [b'x'; 200];
/// Messages of a batch.
const BATCH: u64 = 200;
/// Messages that lie in the folder that is opened.
const BACKLOG: u64 = 20_000;

/// Their names. What is counted is one message; of `open`, one opening of a folder with 20,000.
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
    let disk = Arc::new(RealDisk::open(folder.path()).unwrap());
    let clock = Arc::new(ManualClock::new(1_800_000_000_000_000_000));
    let options = Options { durability, ..Options::default() };
    Broker::open_on(disk, clock, StoreSizes::default(), options).unwrap()
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
                topic: 1,
                payload_crc: 1,
                first: Offset(1),
                time: 1,
                has_ids: false,
                synced_to: 0,
            };
            Box::new(move |count| {
                for position in 0..count {
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
        _ => panic!("no operation {name}: there are {NAMES:?}"),
    }
}
