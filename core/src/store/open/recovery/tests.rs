use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::channel::Pulled;
use crate::clock::ManualClock;
use crate::config::{Options, StoreSizes};
use crate::maintenance::Step;
use crate::message::{Attributes, Delivery};
use crate::name::{ChannelName, TopicName};
use crate::store::disk::crash_disk::{Crash, CrashDisk, Fault, Op};
use crate::store::log::Wake;
use crate::testkit::nobody;
use crate::{Broker, SubscribeOptions};

/// A folder of many files: two topics, one with ids, a checkpoint in the midst, finishes, fsyncs now and then.
fn folder(seed: u64) -> CrashDisk {
    let mut random = fastrand::Rng::with_seed(seed);
    let disk = CrashDisk::new();
    let clock = Arc::new(ManualClock::new(1_800_000_000_000_000_000));
    let sizes = StoreSizes { file_bytes: 8 << 10, chunk_bytes: 4 << 10, read_bytes: 4 << 10, blocks: 64 };
    let options = Options { memory_limit: 4 << 20, ..Options::default() };
    let broker = Broker::open_on(Arc::new(disk.clone()), clock, sizes, options).unwrap();
    let nobody: Arc<dyn Wake> = nobody();
    let topics = ["a", "b"].map(|name| broker.topic(&TopicName::parse(name).unwrap()).unwrap());
    let (channel, _) = topics[0].channel(&ChannelName::parse("c").unwrap(), &nobody).unwrap();
    let options = SubscribeOptions { msg_timeout: Duration::from_secs(60), sample_rate: 0 };
    let mut sub = channel.subscribe(options, nobody.clone()).unwrap();
    sub.acks().set_credit(50);
    for round in 0..200 {
        let topic = &topics[random.usize(..2)];
        let mut batch = topic.batch();
        for _ in 0..random.usize(1..5) {
            let id = random.u64(..).to_le_bytes();
            let with_id = Attributes { dedup_id: Some(&id), ..Attributes::NONE };
            let attributes = if topic.name().as_str() == "b" { with_id } else { Attributes::NONE };
            batch.push(&attributes, &vec![7; random.usize(..200)]).unwrap();
        }
        let _ = topic.publish(batch, &nobody).unwrap();
        broker.commit();
        let mut got = Vec::new();
        while sub.pull(1 << 20, &mut |m: &Delivery<'_>| got.push(m.id)) == Pulled::More {}
        got.iter().filter(|_| random.bool()).for_each(|id| sub.acks().finish(*id).unwrap());
        match random.u8(..40) {
            _ if round == 60 => broker.maintain(Step::Checkpoint).unwrap(),
            0 => broker.maintain(Step::Sync).unwrap(),
            1 => broker.maintain(Step::State).unwrap(),
            _ => {}
        }
    }
    disk.image(disk.events(), Crash::Kill)
}

/// What was recovered, in words, and the folder after.
fn recovered(disk: &CrashDisk, ahead_bytes_min: u64) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
    let copy = disk.image(disk.events(), Crash::Kill);
    fastrand::seed(1);
    let opened = recover_with(&(Arc::new(copy.clone()) as Arc<dyn Disk>), ahead_bytes_min);
    let words = opened.map_or_else(
        |error| vec![error.to_string()],
        |Recovered { mut replay, catalog, opened, clean_stop, damage }| {
            let requeued =
                replay.channels.values_mut().map(|channel| BTreeMap::from_iter(channel.requeued.drain()));
            let requeued: Vec<_> = requeued.collect();
            let spans: Vec<_> = (0..replay.next_topic).map(|no| catalog.spans(no)).collect();
            vec![
                format!("{replay:?}"),
                format!("{requeued:?} {spans:?}"),
                format!("{:?} {} {clean_stop}", opened.manifest, opened.end),
                format!("{damage:?} {:?}", catalog.totals()),
            ]
        },
    );
    (words, copy.dump())
}

#[test]
fn files_read_ahead_give_what_files_read_in_turn_do() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut damaged = 0;
    for seed in 0..40 {
        let disk = folder(seed);
        let names: Vec<_> = disk.dump().into_iter().filter(|(name, _)| name.ends_with(".log")).collect();
        for flips in 0..4 {
            if flips > 0 {
                let (name, bytes) = &names[random.usize(..names.len())];
                if bytes.is_empty() {
                    continue;
                }
                disk.flip_bit(name, random.u64(..8 * bytes.len() as u64));
            }
            let (in_turn, ahead) = (recovered(&disk, u64::MAX), recovered(&disk, 0));
            assert_eq!(in_turn.0, ahead.0, "seed {seed}, {flips} flips");
            assert!(in_turn.1 == ahead.1, "seed {seed}, {flips} flips");
            damaged += usize::from(in_turn.0.iter().any(|words| words.contains("at byte")));
        }
    }
    assert!((20..120).contains(&damaged), "{damaged} were damaged");
}

/// The system tells of a failed fsync once, whoever asks first.
#[test]
fn an_fsync_that_fails_while_files_are_read_ahead_is_told() {
    for seed in 0..10 {
        let disk = folder(seed);
        let failed = AtomicBool::new(false);
        disk.set_faults(Box::new(move |call| {
            let fails = call.op == Op::Sync && call.file.ends_with(".log") && !failed.swap(true, Relaxed);
            fails.then_some(Fault::SyncFails)
        }));
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let Err(error) = recover_with(&shared, 0) else { panic!("opened") };
        assert!(error.to_string().contains("could not fsync"), "{error}");
        assert!(disk.list().unwrap().iter().any(|name| name == DOUBT_NAME));
        assert!(recover_with(&shared, 0).is_ok(), "what is in doubt was written again");
    }
}
