//! A data folder that is moved, removed or replaced under a running broker, and files that are.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::sync::Arc;

use mq_core::testkit::{
    self, Crash, CrashDisk, Disk, RealDisk, channel, is_done, options, subscribe, texts, topic,
};
use mq_core::{Broker, Durability, ErrorKind, Options, Step, StoreSizes, Ticket};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 2 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 64 };

fn open(disk: Arc<dyn Disk>, durability: Durability) -> Broker {
    testkit::open(disk, SIZES, Options { durability, ..options() }).unwrap()
}

fn publish(broker: &Broker, body: &str) -> mq_core::Result<Ticket> {
    Ok(testkit::publish(broker, &topic(broker, "t"), &[body])?.ticket)
}

/// The messages of the topic, in order.
fn messages(broker: &Broker) -> Vec<String> {
    let mut sub = subscribe(&channel(&topic(broker, "t"), "c"), 10_000);
    texts(&testkit::pull(&mut sub)).into_iter().map(str::to_owned).collect()
}

fn after(disk: &CrashDisk, crash: Crash) -> Vec<String> {
    let broker = open(Arc::new(disk.image(disk.events(), crash)), Durability::Flush);
    assert_eq!(broker.damage(), [] as [String; 0]);
    messages(&broker)
}

/// Names of the log files with something in them, the current one last.
fn logs(disk: &CrashDisk) -> Vec<String> {
    let files = disk.dump().into_iter().filter(|(name, bytes)| name.ends_with(".log") && !bytes.is_empty());
    files.map(|(name, _)| name).collect()
}

/// The next log file, with nothing in it yet.
fn spare(disk: &CrashDisk) -> String {
    let files = disk.dump().into_iter().filter(|(name, bytes)| name.ends_with(".log") && bytes.is_empty());
    files.map(|(name, _)| name).next().expect("it was made ahead")
}

#[test]
fn while_the_folder_is_away_nothing_is_acknowledged_and_with_it_back_all_is() {
    let disk = CrashDisk::new();
    let broker = open(Arc::new(disk.clone()), Durability::Sync);
    let waiting = publish(&broker, "a").unwrap();
    disk.move_away(true);
    assert_eq!(broker.maintain(Step::Sync).unwrap_err().kind(), ErrorKind::Io);
    assert!(!is_done(&broker, waiting), "it would be gone after a kill");
    let refused = publish(&broker, "b").unwrap_err();
    assert!(refused.kind() == ErrorKind::Io && refused.to_string().contains("data folder"), "{refused}");
    let sick = broker.health().unwrap_err();
    assert!(sick.to_string().contains("data folder"), "{sick}");
    broker.maintain(Step::Maintain).unwrap_err();
    assert!(!is_done(&broker, waiting));
    disk.move_away(false);
    broker.maintain(Step::Maintain).unwrap();
    broker.health().unwrap();
    assert!(is_done(&broker, waiting));
    let _ = publish(&broker, "c").unwrap();
    broker.maintain(Step::Sync).unwrap();
    assert_eq!(after(&disk, Crash::Power { seed: 1 }), ["a", "c"]);
}

#[test]
fn at_sync_the_file_being_written_is_found_by_its_name_when_a_publish_is_acknowledged() {
    for replaced in [false, true] {
        let disk = CrashDisk::new();
        let broker = open(Arc::new(disk.clone()), Durability::Sync);
        let _ = publish(&broker, "a").unwrap();
        broker.maintain(Step::Sync).unwrap();
        let name = logs(&disk).pop().unwrap();
        disk.remove(&name).unwrap();
        if replaced {
            disk.set_bytes(&name, *b"somebody else's");
        }
        let ticket = publish(&broker, "b").unwrap();
        broker.maintain(Step::Sync).unwrap();
        assert!(is_done(&broker, ticket));
        assert_eq!(after(&disk, Crash::Power { seed: 1 }), ["a", "b"], "replaced: {replaced}");
        assert_eq!(disk.dump().contains_key(&name), replaced, "what is foreign is left alone");
    }
}

#[test]
fn at_sync_older_files_are_found_by_their_names_when_a_publish_is_acknowledged() {
    let disk = CrashDisk::new();
    let broker = open(Arc::new(disk.clone()), Durability::Sync);
    let mut bodies: Vec<_> = (0..30).map(|n| format!("{n}-{}", "x".repeat(200))).collect();
    for body in &bodies {
        let _ = publish(&broker, body).unwrap();
    }
    broker.maintain(Step::Sync).unwrap();
    let name = logs(&disk).swap_remove(0);
    disk.remove(&name).unwrap();
    bodies.push("last".into());
    let ticket = publish(&broker, "last").unwrap();
    broker.maintain(Step::Sync).unwrap();
    assert!(is_done(&broker, ticket));
    assert_eq!(after(&disk, Crash::Kill), bodies);
}

#[test]
fn the_next_file_is_made_again_if_it_is_removed() {
    let disk = CrashDisk::new();
    let broker = open(Arc::new(disk.clone()), Durability::Flush);
    let _ = publish(&broker, "a").unwrap();
    broker.maintain(Step::Maintain).unwrap();
    let name = spare(&disk);
    disk.remove(&name).unwrap();
    broker.maintain(Step::Maintain).unwrap();
    assert_ne!(spare(&disk), name);
    broker.maintain(Step::Sync).unwrap();
    assert_eq!(after(&disk, Crash::Power { seed: 3 }), ["a"]);
}

#[test]
fn a_next_file_removed_before_a_clean_stop_is_no_damage_but_after_a_kill_it_is() {
    let disk = CrashDisk::new();
    let broker = open(Arc::new(disk.clone()), Durability::Flush);
    let _ = publish(&broker, "a").unwrap();
    broker.maintain(Step::Maintain).unwrap();
    broker.maintain(Step::Sync).unwrap();
    let name = spare(&disk);
    let killed = disk.image(disk.events(), Crash::Kill);
    killed.remove(&name).unwrap();
    assert!(!open(Arc::new(killed), Durability::Flush).damage().is_empty());
    disk.remove(&name).unwrap();
    broker.close().unwrap();
    assert_eq!(after(&disk, Crash::Kill), ["a"]);
    // The last file with messages in it held something.
    let stopped = disk.image(disk.events(), Crash::Kill);
    stopped.remove(&logs(&stopped).pop().unwrap()).unwrap();
    assert!(!open(Arc::new(stopped), Durability::Flush).damage().is_empty());
}

/// A real folder; `away` is what is done to it while a broker runs.
fn on_a_real_disk(away: impl Fn(&Path), back: Option<&dyn Fn(&Path)>) {
    let temp = tempfile::tempdir().unwrap();
    let folder = temp.path().join("data");
    let broker = open(Arc::new(RealDisk::open(&folder).unwrap()), Durability::Sync);
    let first = publish(&broker, "a").unwrap();
    broker.maintain(Step::Maintain).unwrap();
    broker.maintain(Step::Sync).unwrap();
    assert!(is_done(&broker, first));
    away(&folder);
    let waiting = publish(&broker, "b").unwrap();
    broker.maintain(Step::Sync).unwrap_err();
    assert!(!is_done(&broker, waiting));
    assert_eq!(publish(&broker, "c").unwrap_err().kind(), ErrorKind::Io);
    broker.maintain(Step::Maintain).unwrap_err();
    let Some(back) = back else {
        assert!(!is_done(&broker, waiting));
        broker.close().unwrap_err();
        return;
    };
    back(&folder);
    broker.maintain(Step::Maintain).unwrap();
    assert!(is_done(&broker, waiting));
    broker.health().unwrap();
    broker.close().unwrap();
    drop(broker);
    let broker = open(Arc::new(RealDisk::open(&folder).unwrap()), Durability::Sync);
    assert_eq!(broker.damage(), [] as [String; 0]);
    assert_eq!(messages(&broker), ["a", "b"]);
}

#[test]
fn a_real_folder_that_is_moved_stops_acknowledgements_until_it_is_back() {
    let elsewhere = |folder: &Path| folder.with_extension("elsewhere");
    on_a_real_disk(
        |folder| fs::rename(folder, elsewhere(folder)).unwrap(),
        Some(&|folder| {
            fs::rename(elsewhere(folder), folder).unwrap();
        }),
    );
    // Another folder in its place is not it.
    let replace = |folder: &Path| {
        fs::rename(folder, elsewhere(folder)).unwrap();
        fs::create_dir(folder).unwrap();
    };
    on_a_real_disk(replace, None);
    on_a_real_disk(
        replace,
        Some(&|folder| {
            fs::remove_dir(folder).unwrap();
            fs::rename(elsewhere(folder), folder).unwrap();
        }),
    );
}

#[test]
fn a_real_folder_that_is_removed_stops_acknowledgements_for_good() {
    on_a_real_disk(|folder| fs::remove_dir_all(folder).unwrap(), None);
    on_a_real_disk(
        |folder| {
            fs::remove_dir_all(folder).unwrap();
            fs::create_dir(folder).unwrap();
        },
        None,
    );
}

#[test]
fn a_broker_that_ends_without_its_folder_keeps_no_memory() {
    let disk = CrashDisk::new();
    let broker = open(Arc::new(disk.clone()), Durability::Sync);
    let topic = Arc::downgrade(&topic(&broker, "t"));
    let waiting = publish(&broker, "a").unwrap();
    disk.move_away(true);
    broker.maintain(Step::Sync).unwrap_err();
    assert!(!is_done(&broker, waiting));
    broker.close().unwrap_err();
    drop(broker);
    assert!(topic.upgrade().is_none());
}
