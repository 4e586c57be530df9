//! A data folder in which some bytes were changed: it opens, or is refused; what it serves has the right bodies.
#![no_main]

use std::sync::{Arc, OnceLock};

use libfuzzer_sys::fuzz_target;
use mq_core::store::disk::crash_disk::{Crash, CrashDisk};
use mq_core::{
    Attributes, Broker, ChannelName, ManualClock, Options, Pulled, Step, StoreSizes, SubscribeOptions, TopicName, Wake,
};

struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 4 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 4 };
const FOREVER: SubscribeOptions =
    SubscribeOptions { msg_timeout: std::time::Duration::from_secs(9000), sample_rate: 0 };

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
        for round in 0..20 {
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
            if round == 12 {
                broker.maintain(Step::Checkpoint).unwrap();
            }
        }
        disk.image(disk.events(), Crash::Kill)
    })
}

fuzz_target!(|bytes: &[u8]| {
    let disk = folder().image(folder().events(), Crash::Kill);
    let names: Vec<String> = disk.dump().into_keys().collect();
    // Each edit: which file, where, what.
    for edit in bytes.chunks_exact(5).take(64) {
        let name = &names[usize::from(edit[0]) % names.len()];
        let mut content = disk.bytes(name);
        let at = usize::from(u16::from_le_bytes([edit[1], edit[2]]));
        match edit[3] % 4 {
            0 => content.truncate(at),
            1 => content.resize(content.len().max(at), edit[4]),
            _ if !content.is_empty() => {
                let at = at % content.len();
                content[at] ^= edit[4];
            }
            _ => {}
        }
        disk.set_bytes(name, content);
    }
    let Ok(broker) = open(&disk) else { return };
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
