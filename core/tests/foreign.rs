//! Other people's files in the data folder: never changed, never in the way, and named once a start.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::{Debug, Write};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::{Arc, Mutex};

use mq_core::repair::inspect::inspect_on;
use mq_core::repair::repair_on;
use mq_core::testkit::{
    self, Crash, CrashDisk, Disk, Fault, Op, RealDisk, channel_name, finish, is_done, options, subscribe,
    texts, topic,
};
use mq_core::{Broker, ErrorKind, Step, StoreSizes};
use tracing::field::{Field, Visit};
use tracing::span;

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 2 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 64 };

fn open(disk: Arc<dyn Disk>) -> mq_core::Result<Broker> {
    testkit::open(disk, SIZES, options())
}

fn publish(broker: &Broker, body: &str) {
    let topic = topic(broker, "t");
    let (_, created) = topic.channel(&channel_name("c"), None).unwrap();
    let ticket = testkit::publish(broker, &topic, &[body]).unwrap().ticket;
    assert!(is_done(broker, created) && is_done(broker, ticket));
}

/// The bodies that wait, in order; about half of them are finished.
fn consume(broker: &Broker) -> Vec<String> {
    let channel = topic(broker, "t").find_channel(&channel_name("c")).unwrap();
    let mut sub = subscribe(&channel, 10_000);
    let got = testkit::pull(&mut sub);
    finish(&mut sub, &got[..got.len() / 2]);
    texts(&got).into_iter().map(str::to_owned).collect()
}

/// Fills several files, takes checkpoints, removes what is done, and stops: all that creates and removes
/// files.
fn live(broker: &Broker, round: u32) {
    for n in 0..60 {
        publish(broker, &format!("{round}-{n}-{}", "x".repeat(100)));
    }
    let before = consume(broker);
    for step in [Step::State, Step::Sync, Step::Checkpoint, Step::Clean, Step::Maintain, Step::Maintain] {
        broker.maintain(step).unwrap();
    }
    let half = before.len() / 2;
    assert_eq!(consume(broker), before[half..], "round {round}");
    broker.maintain(Step::State).unwrap();
}

fn foreign() -> BTreeMap<String, Vec<u8>> {
    let names = [
        "app.log",
        "nsqd.log",
        "old.checkpoint",
        "notes.txt",
        "1.log",
        "manifest.old",
        "00000001.log",
        "00000002.log",
        "00000004.log",
        "00000005.log",
        "00000007.checkpoint",
        "00000008.checkpoint",
        "00000009.log",
        "manifest.new",
        "manifest.new.1",
        "reserve",
        "doubt",
        "00000001.log.damaged",
    ];
    names.iter().map(|name| ((*name).to_owned(), format!("the precious {name}").into_bytes())).collect()
}

fn check(disk: &CrashDisk, foreign: &BTreeMap<String, Vec<u8>>, when: &str) {
    let all = disk.dump();
    for (name, bytes) in foreign {
        assert_eq!(all.get(name), Some(bytes), "{name} {when}");
    }
}

#[test]
fn foreign_files_survive_every_start_and_stop_and_are_in_nobodys_way() {
    let (disk, foreign) = (CrashDisk::new(), foreign());
    foreign.iter().for_each(|(name, bytes)| disk.set_bytes(name, bytes.clone()));
    for round in 0..4 {
        let broker = open(Arc::new(disk.clone())).unwrap();
        assert_eq!(broker.damage(), [] as [String; 0]);
        live(&broker, round);
        check(&disk, &foreign, "while it runs");
        if round % 2 == 0 {
            broker.close().unwrap();
        } else {
            std::mem::forget(broker);
        }
        check(&disk, &foreign, "after it has run");
    }
    let inspected = inspect_on(&disk, &mut |_, _| {}).unwrap();
    assert_eq!(inspected.damage, []);
}

#[test]
fn word_of_a_failed_fsync_finds_a_name_beside_a_foreign_one() {
    let (disk, foreign) = (CrashDisk::new(), foreign());
    foreign.iter().for_each(|(name, bytes)| disk.set_bytes(name, bytes.clone()));
    let broker = open(Arc::new(disk.clone())).unwrap();
    publish(&broker, "a");
    disk.set_faults(Box::new(|call| (call.op == Op::Sync).then_some(Fault::SyncFails)));
    broker.maintain(Step::Sync).unwrap_err();
    assert!(disk.dump().contains_key("doubt.1"));
    disk.clear_faults();
    broker.maintain(Step::Maintain).unwrap();
    assert!(!disk.dump().contains_key("doubt.1"));
    check(&disk, &foreign, "after a failed fsync");
    assert_eq!(consume(&broker), ["a"]);
}

#[test]
fn what_a_torn_start_left_is_removed_and_files_of_ours_that_nothing_names_too() {
    let disk = CrashDisk::new();
    // A first start that got no further.
    disk.set_bytes("00000001.log", []);
    disk.set_bytes("manifest.new", [0; 100]);
    let broker = open(Arc::new(disk.clone())).unwrap();
    assert!(!disk.dump().contains_key("manifest.new") && !disk.dump().contains_key("00000001.log.1"));
    publish(&broker, "a");
    broker.close().unwrap();
    let log =
        disk.dump().into_iter().find(|(name, bytes)| name.ends_with(".log") && !bytes.is_empty()).unwrap().1;
    // What a cleaner had not named yet.
    disk.set_bytes("00000077.log", log.clone());
    disk.set_bytes("00000078.log", vec![0; 5000]);
    disk.set_bytes("00000079.checkpoint", *b"libmqckp and more");
    // Under another name it is a copy that somebody made.
    disk.set_bytes("copy.log", log);
    let broker = open(Arc::new(disk.clone())).unwrap();
    let names: Vec<String> =
        disk.dump().into_keys().filter(|name| name.contains("7") || name == "copy.log").collect();
    assert_eq!(names, ["copy.log"]);
    assert_eq!(consume(&broker), ["a"]);
}

#[test]
fn a_foreign_manifest_is_refused_by_name_and_left_alone() {
    for bytes in [&b"Manifest-Version: 1.0\n"[..], b"x"] {
        let disk = CrashDisk::new();
        disk.set_bytes("manifest", bytes);
        disk.set_bytes("app.log", *b"started");
        let before = disk.dump();
        let error = open(Arc::new(disk.clone())).err().unwrap();
        assert!(
            error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("manifest"),
            "{error}"
        );
        assert_eq!(inspect_on(&disk, &mut |_, _| {}).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(repair_on(&disk, true, &mut |_, _| {}).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(disk.dump(), before);
    }
}

#[test]
fn a_repair_leaves_foreign_files_alone_and_sets_ours_aside_beside_them() {
    let disk = CrashDisk::new();
    let broker = open(Arc::new(disk.clone())).unwrap();
    (0..30).for_each(|n| publish(&broker, &format!("{n}-{}", "x".repeat(100))));
    broker.maintain(Step::Sync).unwrap();
    broker.close().unwrap();
    let disk = disk.image(disk.events(), Crash::Kill);
    let logs: Vec<String> = disk.dump().into_keys().filter(|name| name.ends_with(".log")).collect();
    disk.flip_bit(&logs[0], 8 * 150);
    for lost_manifest in [false, true] {
        let disk = disk.image(disk.events(), Crash::Kill);
        if lost_manifest {
            disk.remove("manifest").unwrap();
        }
        let mut foreign = foreign();
        foreign.retain(|name, _| !disk.dump().contains_key(name));
        foreign.insert(format!("{}.damaged", logs[0]), b"an earlier one".to_vec());
        foreign.insert("281474976710655.log".into(), b"the last number".to_vec());
        foreign.insert("18446744073709551615.log".into(), b"more than there are".to_vec());
        foreign.iter().for_each(|(name, bytes)| disk.set_bytes(name, bytes.clone()));
        let repair = repair_on(&disk, true, &mut |_, _| {}).unwrap();
        assert!(repair.is_written);
        check(&disk, &foreign, "after a repair");
        assert!(disk.dump().contains_key(&format!("{}.damaged.1", logs[0])));
        let broker = open(Arc::new(disk.clone())).unwrap();
        assert_eq!(broker.damage(), [] as [String; 0]);
        assert!(consume(&broker).len() >= 28);
        check(&disk, &foreign, "after a start");
    }
}

#[test]
fn links_and_folders_with_our_names_are_neither_followed_nor_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let (folder, precious) = (temp.path().join("data"), temp.path().join("precious"));
    fs::create_dir(&folder).unwrap();
    fs::write(&precious, "").unwrap();
    let links = ["00000001.log", "00000003.log", "00000004.checkpoint", "manifest.new", "reserve", "doubt"];
    links.iter().for_each(|name| symlink(&precious, folder.join(name)).unwrap());
    let folders = ["00000002.log", "00000005.checkpoint", "manifest.new.1"];
    folders.iter().for_each(|name| fs::create_dir(folder.join(name)).unwrap());
    for round in 0..3 {
        let broker = open(Arc::new(RealDisk::open(&folder).unwrap())).unwrap();
        live(&broker, round);
        broker.close().unwrap();
    }
    assert_eq!(fs::read(&precious).unwrap(), b"");
    let is_link = |name: &&str| Path::new(&folder).join(name).symlink_metadata().unwrap().is_symlink();
    assert!(links.iter().all(is_link));
    assert!(folders.iter().all(|name| folder.join(name).is_dir()));

    let other = temp.path().join("other");
    fs::create_dir(&other).unwrap();
    symlink(&precious, other.join("manifest")).unwrap();
    let error = open(Arc::new(RealDisk::open(&other).unwrap())).err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(other.join("manifest").symlink_metadata().unwrap().is_symlink());
}

/// Collects warnings.
#[derive(Clone, Default)]
struct Warnings(Arc<Mutex<Vec<String>>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, _: &Field, value: &dyn Debug) {
        write!(self.0, "{value:?}").unwrap();
    }
}

impl tracing::Subscriber for Warnings {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        *metadata.level() == tracing::Level::WARN
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut text = String::new();
        event.record(&mut Text(&mut text));
        self.0.lock().unwrap().push(text);
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

#[test]
fn foreign_files_are_named_in_one_warning_and_nsqds_data_in_another() {
    let disk = CrashDisk::new();
    for name in ["app.log", "00000009.log", "nsqd.dat", "t.diskqueue.meta.dat", "t;c.diskqueue.000000.dat"] {
        disk.set_bytes(name, *b"precious");
    }
    let warnings = Warnings::default();
    tracing::subscriber::with_default(warnings.clone(), || {
        let broker = open(Arc::new(disk.clone())).unwrap();
        live(&broker, 0);
        broker.close().unwrap();
    });
    let lines = warnings.0.lock().unwrap().clone();
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].ends_with("left alone: 00000009.log, app.log"), "{}", lines[0]);
    let nsqd = "not read: nsqd.dat, t.diskqueue.meta.dat, t;c.diskqueue.000000.dat";
    assert!(lines[1].contains(nsqd), "{}", lines[1]);
}
