//! A data folder with known bodies, for properties of damaged folders.

use mq_core::clock::Wall;
use std::collections::BTreeMap;
use std::sync::Arc;

use mq_core::testkit::{Crash, CrashDisk, nobody};
use mq_core::{
    Attributes, Broker, ChannelName, Delivery, ManualClock, Options, Pulled, Step, StoreSizes,
    SubscribeOptions, TopicName,
};

const FOREVER: SubscribeOptions =
    SubscribeOptions { msg_timeout: std::time::Duration::from_secs(9000), sample_rate: 0 };

/// Opens the folder with log files of `file_bytes`.
pub(crate) fn open(disk: &CrashDisk, file_bytes: u64) -> mq_core::Result<Broker> {
    let sizes = StoreSizes { file_bytes, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 4 };
    let clock = Arc::new(ManualClock::new(Wall(1_800_000_000_000_000_000)));
    Broker::open_on(
        Arc::new(disk.clone()),
        clock,
        sizes,
        Options { memory_limit: 4 << 20, ..Options::default() },
    )
}

/// The body of a message: its number, as often as the number says.
fn body(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + number as usize % 9)
}

/// The files of a folder with two topics, some finishes and, in the middle of `rounds`, a checkpoint.
pub(crate) fn dump(file_bytes: u64, rounds: u32) -> BTreeMap<String, Vec<u8>> {
    let disk = CrashDisk::new();
    let broker = open(&disk, file_bytes).unwrap();
    let wake = nobody();
    for round in 0..rounds {
        for name in ["a", "b"] {
            let topic = broker.topic(&TopicName::parse(name).unwrap()).unwrap();
            let (channel, _) = topic.channel(&ChannelName::parse("c").unwrap(), &wake).unwrap();
            let mut batch = topic.batch();
            for i in 0..10 {
                batch.push(&Attributes::NONE, &body(round * 10 + i)).unwrap();
            }
            let _ = topic.publish(batch, &wake).unwrap();
            broker.commit();
            let mut sub = channel.subscribe(FOREVER, wake.clone()).unwrap();
            sub.acks().set_credit(4);
            let mut ids = Vec::new();
            let _ = sub.pull(10_000, &mut |m| ids.push(m.id));
            ids.iter().for_each(|id| sub.acks().finish(*id).unwrap());
        }
        broker.maintain(Step::State).unwrap();
        broker.maintain(Step::Sync).unwrap();
        if round == rounds * 3 / 5 {
            broker.maintain(Step::Checkpoint).unwrap();
        }
    }
    disk.image(disk.events(), Crash::Kill).dump()
}

/// A disk that holds these files.
pub(crate) fn disk_with(files: &BTreeMap<String, Vec<u8>>) -> CrashDisk {
    let disk = CrashDisk::new();
    files.iter().for_each(|(name, bytes)| disk.set_bytes(name, bytes.clone()));
    disk
}

/// Changes files of `disk`. An edit is five bytes: the file, a place (two bytes), the kind of change (one of
/// `kinds`) and a byte for it. Kind 0 cuts the file at the place, 1 extends it to there, 2 overwrites a
/// sector where there are more than four kinds, the others flip bits.
pub(crate) fn damage(disk: &CrashDisk, edits: &[u8], kinds: u8) {
    let names: Vec<String> = disk.dump().into_keys().collect();
    for edit in edits.chunks_exact(5).take(64) {
        let name = &names[usize::from(edit[0]) % names.len()];
        let mut content = disk.bytes(name);
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]]));
        match edit[3] % kinds {
            0 => content.truncate(at),
            1 => content.resize(content.len().max(at), edit[4]),
            _ if content.is_empty() => {}
            2 if kinds > 4 => {
                let from = at % content.len() / 512 * 512;
                let to = (from + 512).min(content.len());
                content[from..to].fill(edit[4]);
            }
            _ => {
                let at = at % content.len();
                content[at] ^= edit[4];
            }
        }
        disk.set_bytes(name, content);
    }
}

/// Reads every message that the broker has.
///
/// # Panics
/// At a body that was never published.
pub(crate) fn assert_bodies(broker: &Broker) {
    let wake = nobody();
    for topic in broker.topics() {
        for channel in topic.channels() {
            // A topic that was stopped for damage has no subscribers.
            let Ok(mut sub) = channel.subscribe(FOREVER, wake.clone()) else { continue };
            sub.acks().set_credit(100_000);
            let mut check = |m: &Delivery<'_>| {
                let number = u32::from_le_bytes(*m.body.first_chunk().expect("a whole body"));
                assert_eq!(m.body, body(number), "a wrong body was served");
            };
            while sub.pull(1 << 20, &mut check) == Pulled::More {}
        }
    }
}
