//! Any bytes as the files of a data folder, and a folder with some bytes changed: it is inspected and repaired; what a
//! broker then serves has the right bodies, and nothing is left to repair.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use mq_core::store::disk::crash_disk::{Crash, CrashDisk};
use mq_core::store::repair::inspect::inspect_on;
use mq_core::store::repair::repair_on;
use mq_core::{
    Attributes, Broker, ChannelName, ManualClock, Options, Pulled, Step, StoreSizes, SubscribeOptions, TopicName, Wake,
};

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 2 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 4 };
const FOREVER: SubscribeOptions =
    SubscribeOptions { msg_timeout: std::time::Duration::from_secs(9000), sample_rate: 0 };
/// Names for files of any bytes.
const NAMES: [&str; 6] =
    ["manifest", "00000001.log", "00000002.log", "00000003.checkpoint", "00000004.log", "manifest.new"];

fn open(disk: &CrashDisk) -> mq_core::Result<Broker> {
    let clock = Arc::new(ManualClock::new(1_800_000_000_000_000_000));
    Broker::open_on(Arc::new(disk.clone()), clock, SIZES, Options { memory_limit: 4 << 20, ..Options::default() })
}

fn body(number: u32) -> Vec<u8> {
    number.to_le_bytes().repeat(1 + number as usize % 9)
}

/// A folder with several files, a checkpoint, two topics and some finishes.
fn folder() -> &'static CrashDisk {
    static FOLDER: OnceLock<CrashDisk> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let disk = CrashDisk::new();
        let broker = open(&disk).unwrap();
        let wake: Arc<dyn Wake> = Arc::new(Nobody);
        for round in 0..8 {
            for name in ["a", "b"] {
                let topic = broker.topic(&TopicName::parse(name).unwrap()).unwrap();
                let (channel, _) = topic.channel(&ChannelName::parse("c").unwrap(), &wake).unwrap();
                let mut batch = topic.batch();
                for i in 0..10 {
                    batch.push(&Attributes::NONE, &body(round * 10 + i)).unwrap();
                }
                topic.publish(batch, &wake).unwrap();
                broker.commit();
                let mut sub = channel.subscribe(FOREVER, wake.clone()).unwrap();
                sub.acks().set_credit(4);
                let mut ids = Vec::new();
                let _ = sub.pull(10_000, &mut |m| ids.push(m.id));
                ids.iter().for_each(|id| sub.acks().finish(*id).unwrap());
            }
            broker.maintain(Step::State).unwrap();
            broker.maintain(Step::Sync).unwrap();
            if round == 4 {
                broker.maintain(Step::Checkpoint).unwrap();
            }
        }
        let image = disk.image(disk.events(), Crash::Kill);
        let whole = CrashDisk::new();
        image.dump().into_iter().for_each(|(name, bytes)| whole.set_bytes(&name, bytes));
        whole
    })
}

fn damaged(edits: &[u8]) -> CrashDisk {
    let disk = folder().image(folder().events(), Crash::Kill);
    let names: Vec<String> = disk.dump().into_keys().collect();
    // Each edit: which file, where, what.
    for edit in edits.chunks_exact(5).take(64) {
        let name = &names[usize::from(edit[0]) % names.len()];
        let mut content = disk.bytes(name);
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]]));
        match edit[3] % 8 {
            0 => content.truncate(at),
            1 => content.resize(content.len().max(at), edit[4]),
            2 if !content.is_empty() => {
                let from = at % content.len() / 512 * 512;
                let to = (from + 512).min(content.len());
                content[from..to].fill(edit[4]);
            }
            _ if !content.is_empty() => {
                let at = at % content.len();
                content[at] ^= edit[4];
            }
            _ => {}
        }
        disk.set_bytes(name, content);
    }
    disk
}

fn invented(bytes: &[u8]) -> CrashDisk {
    let disk = CrashDisk::new();
    for (name, part) in NAMES.iter().zip(bytes.chunks(bytes.len().div_ceil(NAMES.len()).max(1))) {
        disk.set_bytes(name, part);
    }
    disk
}

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let is_real = kind % 4 > 0;
    let disk = if is_real { damaged(rest) } else { invented(rest) };
    let _ = inspect_on(&disk, &mut |_, _| {});
    if repair_on(&disk, true, &mut |_, _| {}).is_err() {
        return;
    }
    let again = repair_on(&disk, false, &mut |_, _| {}).expect("what was repaired can be read");
    assert!(!again.is_needed, "a second repair finds {:?}", again.damage);
    let broker = open(&disk).expect("what was repaired opens");
    assert!(broker.damage().is_empty(), "{:?}", broker.damage());
    let wake: Arc<dyn Wake> = Arc::new(Nobody);
    for topic in broker.topics() {
        for channel in topic.channels() {
            let mut sub = channel.subscribe(FOREVER, wake.clone()).unwrap();
            sub.acks().set_credit(100_000);
            let mut check = |m: &mq_core::Delivery<'_>| {
                let number = u32::from_le_bytes(*m.body.first_chunk().expect("a whole body"));
                assert_eq!(m.body, body(number), "a wrong body was served");
            };
            while sub.pull(1 << 20, &mut check) == Pulled::More {}
        }
    }
});
