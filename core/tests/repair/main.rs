//! Damaged data folders, repaired: whatever is flipped, zeroed, cut off or removed, every message that is
//! whole is delivered after `repair`, with the body and the id it had, in order; and nothing is left to
//! repair.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod folder;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mq_core::ErrorKind;
use mq_core::repair::damage::What;
use mq_core::repair::inspect::inspect_on;
use mq_core::repair::{Repair, repair_on};
use mq_core::testkit::{Crash, CrashDisk, Fault};
use mq_core::testkit::{Disk, OpenMode};

use folder::{Drained, Folder, drain, open, open_at};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default)
}

/// A disk on which nothing is unsynced.
fn durable(disk: &CrashDisk) -> CrashDisk {
    let copy = CrashDisk::new();
    disk.dump().into_iter().for_each(|(name, bytes)| copy.set_bytes(&name, bytes));
    copy
}

/// Damages a place or a few, and gives their description.
fn damage(disk: &CrashDisk, random: &mut fastrand::Rng) -> Vec<String> {
    (0..random.usize(1..4)).map(|_| damage_one(disk, random)).collect()
}

fn damage_one(disk: &CrashDisk, random: &mut fastrand::Rng) -> String {
    let files = disk.dump();
    let (name, bytes) = files.iter().nth(random.usize(..files.len())).unwrap();
    let mut bytes = bytes.clone();
    if bytes.is_empty() {
        return format!("{name} is empty");
    }
    let at = random.usize(..bytes.len());
    match random.u8(0..10) {
        0..5 => {
            bytes[at] ^= 1 << random.u8(0..8);
            disk.set_bytes(name, bytes);
            format!("{name}: a bit of byte {at}")
        }
        5..7 => {
            let (from, to) = (at / 512 * 512, (at / 512 * 512 + 512).min(bytes.len()));
            bytes[from..to].fill(0);
            disk.set_bytes(name, bytes);
            format!("{name}: zeros from {from} to {to}")
        }
        7 => {
            let len = random.usize(1..200).min(bytes.len() - at);
            bytes[at..at + len].iter_mut().for_each(|b| *b = random.u8(..));
            disk.set_bytes(name, bytes);
            format!("{name}: {len} random bytes from {at}")
        }
        8 => {
            bytes.truncate(at);
            disk.set_bytes(name, bytes);
            format!("{name}: cut at {at}")
        }
        _ => {
            disk.remove(name).unwrap();
            disk.sync_dir().unwrap();
            format!("{name}: removed")
        }
    }
}

fn repaired(disk: &CrashDisk, write: bool) -> Repair {
    repair_on(disk, write, &mut |_, _| {}).unwrap()
}

/// Holds a folder that was damaged and repaired against what it was before.
fn check(folder: &Folder, damaged: &CrashDisk, disk: &CrashDisk, repair: &Repair) {
    let sound = records::sound(&folder.disk, damaged);
    let again = repaired(disk, false);
    assert!(!again.is_needed, "a second repair finds {:?} {:?}", again.damage, again.tail);
    let report = inspect_on(disk, &mut |_, _| {}).unwrap();
    assert!(report.damage.is_empty(), "{:?}", report.damage);
    // Twice: what a repair has given up stays given up over checkpoints.
    for round in 0..2 {
        let broker = open_at(disk, round + 1).unwrap();
        assert_eq!(broker.damage(), [] as [String; 0], "round {round}");
        let drained = drain(&broker);
        for ((topic, channel), got) in &drained.messages {
            for (id, number) in got {
                if let Some(before) = folder.ids.get(number) {
                    assert_eq!(before, id, "{topic}/{channel}: message {number} has another id");
                }
            }
        }
        check_delivered(folder, &sound, &drained, repair);
        let fresh = folder::fresh_ids(&broker);
        for id in &fresh {
            assert!(!folder.ids.values().any(|used| used == id), "{id:?} was used before");
        }
        broker.maintain(mq_core::Step::State).unwrap();
        broker.maintain(mq_core::Step::Checkpoint).unwrap();
        broker.maintain(mq_core::Step::Clean).unwrap();
        broker.close().unwrap();
    }
    assert!(!repaired(disk, false).is_needed);
}

fn check_delivered(folder: &Folder, sound: &records::Sound, drained: &Drained, repair: &Repair) {
    // What a topic without a name has for a channel; `None` if some such topic has only others, which had
    // more recorded.
    let in_recovered = |channel: &str| -> Option<Vec<u64>> {
        let mut out = Vec::new();
        for topic in drained.topics.iter().filter(|topic| topic.starts_with("recovered-")) {
            let of = |channel: &str| drained.messages.get(&(topic.clone(), channel.to_owned()));
            out.extend(of(channel).or_else(|| of("probe"))?.iter().map(|(_, number)| *number));
        }
        Some(out)
    };
    for ((topic, channel), due) in &folder.due.messages {
        let due = due.iter().map(|(_, number)| *number);
        let due: Vec<u64> = due.filter(|number| sound.numbers.contains(number)).collect();
        let topic_is_there = drained.topics.contains(topic);
        match drained.messages.get(&(topic.clone(), channel.clone())) {
            Some(got) => {
                let order: BTreeMap<u64, usize> =
                    got.iter().enumerate().map(|(i, (_, number))| (*number, i)).collect();
                assert_eq!(order.len(), got.len(), "{topic}/{channel}: a message came twice");
                let mut last = None;
                for number in due {
                    let at = order.get(&number);
                    let at = *at.unwrap_or_else(|| panic!("{topic}/{channel}: message {number} is lost"));
                    assert!(last < Some(at), "{topic}/{channel}: message {number} is out of order");
                    last = Some(at);
                }
            }
            None => {
                let is_told = repair.is_state_lost || repair.tail.is_some();
                assert!(is_told, "{topic}/{channel} is gone, and nothing says so");
                let Some(kept) = in_recovered(channel).filter(|_| !topic_is_there) else { continue };
                for number in due {
                    assert!(kept.contains(&number), "message {number} of lost topic {topic} is lost");
                }
            }
        }
    }
}

#[test]
fn all_that_is_whole_is_delivered_after_a_repair() {
    let (from, seeds) = (number("MQ_REPAIR_FROM", 1), number("MQ_REPAIR_SEEDS", 40));
    let (mut needed, mut kept, mut lost) = (0, 0, 0);
    for seed in from..from + seeds {
        let folder = Folder::build(seed);
        for round in 0..10 {
            let mut random = fastrand::Rng::with_seed(seed << 8 | round);
            let disk = durable(&folder.disk);
            let done = damage(&disk, &mut random);
            let damaged = durable(&disk);
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let planned = repaired(&disk, false);
                assert_eq!(disk.dump(), damaged.dump(), "a dry run changes nothing");
                let repair = repaired(&disk, true);
                assert_eq!(
                    format!("{:?}", Repair { is_written: planned.is_needed, ..planned }),
                    format!("{repair:?}")
                );
                check(&folder, &damaged, &disk, &repair);
                repair
            }));
            match outcome {
                Ok(repair) => {
                    needed += u64::from(repair.is_needed);
                    kept += repair.kept_messages;
                    lost += repair.losses.iter().map(|loss| loss.messages).sum::<u64>();
                }
                Err(panic) => {
                    eprintln!("MQ_REPAIR_FROM={seed} MQ_REPAIR_SEEDS=1, round {round}: {done:?}");
                    std::panic::resume_unwind(panic);
                }
            }
        }
    }
    println!("{} folders, {needed} repaired: {kept} messages kept, {lost} lost", seeds * 10);
    assert!(needed > 0);
}

/// A crash at any moment of a repair leaves a folder that can be repaired as well.
#[test]
fn a_crash_during_a_repair_loses_nothing_more() {
    let mut images = 0;
    for seed in number("MQ_REPAIR_FROM", 1)..=number("MQ_REPAIR_CRASH_SEEDS", 6) {
        let folder = Folder::build(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = durable(&folder.disk);
        while !repaired(&disk, false).is_needed {
            damage(&disk, &mut random);
        }
        let damaged = durable(&disk);
        let disk = durable(&disk);
        let begun = disk.events();
        repaired(&disk, true);
        for event in begun..=disk.events() {
            for crash in [Crash::Kill, Crash::KillTorn { seed }, Crash::Power { seed }] {
                let image = disk.image(event, crash);
                let before = Repair { is_written: true, ..repaired(&damaged, false) };
                let repair = repaired(&image, true);
                // Either the old folder, in which all is to be done, or the new one.
                let is_named = !before.damage.iter().any(|d| d.file.as_deref() == Some("manifest"));
                assert!(!is_named || !repair.is_needed || repair == before, "event {event} {crash:?}");
                check(&folder, &damaged, &image, &before);
                images += 1;
            }
        }
    }
    println!("{images} crashes");
}

/// A repair that fails says so, leaves what there was, and can be done again; whatever call of the disk it
/// was that failed.
#[test]
fn a_repair_that_fails_can_be_done_again() {
    let mut failures = 0;
    for seed in number("MQ_REPAIR_FROM", 1)..=number("MQ_REPAIR_FAULT_SEEDS", 1) {
        let folder = Folder::build(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let damaged = durable(&folder.disk);
        while !repaired(&damaged, false).is_needed {
            damage(&damaged, &mut random);
        }
        let before = Repair { is_written: true, ..repaired(&damaged, false) };
        for fault in [Fault::Enospc, Fault::Eio, Fault::ShortWrite(100), Fault::SyncFails] {
            for index in 0.. {
                let disk = durable(&damaged);
                let met = Arc::new(AtomicU64::new(0));
                let calls = met.clone();
                disk.set_faults(Box::new(move |_| {
                    (calls.fetch_add(1, Ordering::Relaxed) == index).then_some(fault)
                }));
                let failed = repair_on(&disk, true, &mut |_, _| {});
                disk.clear_faults();
                if met.load(Ordering::Relaxed) <= index {
                    assert_eq!(failed.unwrap(), before);
                    break;
                }
                let Err(error) = failed else { panic!("seed {seed}, call {index}: {fault:?} went unseen") };
                assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Full), "{error}");
                for image in [disk.image(disk.events(), Crash::Power { seed }), disk] {
                    repaired(&image, true);
                    check(&folder, &damaged, &image, &before);
                }
                failures += 1;
            }
        }
    }
    println!("{failures} failures");
}

/// A sound folder is left alone, whether it was stopped or killed.
#[test]
fn nothing_is_done_where_nothing_is_wrong() {
    for seed in 100..130 {
        let folder = Folder::build(seed);
        for image in [folder.disk.clone(), folder.stopped()] {
            let before = image.dump();
            let repair = repaired(&image, true);
            assert!(!repair.is_needed && !repair.is_written, "{:?}", repair.damage);
            assert_eq!(image.dump(), before);
            let report = inspect_on(&image, &mut |_, _| {}).unwrap();
            assert!(report.damage.is_empty() && report.tail.is_none_or(|tail| tail.frames == 0));
            for ((topic, channel), due) in &folder.due.messages {
                let topic = report.topics.iter().find(|t| t.name == *topic).unwrap();
                let found = topic.channels.iter().find(|c| c.name == *channel);
                let depth = found.map_or(topic.depth, |channel| channel.depth);
                assert_eq!(depth, due.len() as u64, "{}/{channel}", topic.name);
            }
        }
    }
    let empty = CrashDisk::new();
    assert!(!repaired(&empty, true).is_needed && empty.dump().is_empty());
}

/// A folder without its manifest is no empty folder.
#[test]
fn a_lost_manifest_is_refused_and_rebuilt() {
    let folder = Folder::build(7);
    let disk = durable(&folder.disk);
    disk.remove("manifest").unwrap();
    let before = disk.dump();
    assert_eq!(open_at(&disk, 0).err().unwrap().kind(), ErrorKind::Damaged);
    assert_eq!(disk.dump(), before);
    let repair = repaired(&disk, true);
    assert_eq!(repair.damage.iter().map(|d| d.what.clone()).collect::<Vec<_>>(), [What::Gone]);
    assert!(repair.losses.is_empty() && repair.lost_entries == 0);
    check(&folder, &folder.disk, &disk, &repair);
}

/// A log that ends before its checkpoint is damage, though what follows looks like the end a crash left.
#[test]
fn a_log_that_is_too_short_is_damage() {
    for seed in 1..20 {
        let folder = Folder::build(seed);
        let disk = folder.stopped();
        let logs: Vec<String> = disk.dump().into_keys().filter(|name| name.ends_with(".log")).collect();
        for name in &logs {
            disk.set_bytes(name, []);
        }
        let damaged = durable(&disk);
        assert!(!open(&damaged).damage().is_empty());
        let repair = repaired(&disk, true);
        assert!(repair.is_needed && repair.is_state_lost);
        check(&folder, &damaged, &disk, &repair);
    }
}

/// A folder that was stopped cleanly with 60 messages of topic `a`, then 30 of topic `b`, in more than one
/// log file.
fn two_topics() -> CrashDisk {
    use mq_core::testkit::{publish, topic};
    let disk = CrashDisk::new();
    let broker = open(&disk);
    for (name, count) in [("a", 60), ("b", 30)] {
        let topic = topic(&broker, name);
        let body = "x".repeat(200);
        (0..count).for_each(|_| _ = publish(&broker, &topic, &[&body]).unwrap());
    }
    broker.close().unwrap();
    disk
}

#[test]
fn messages_of_a_topic_that_stood_in_missing_files_only_are_counted_as_gone() {
    let disk = two_topics();
    let logs: Vec<String> = disk.dump().into_keys().filter(|name| name.ends_with(".log")).collect();
    for name in &logs[..logs.len() - 1] {
        disk.remove(name).unwrap();
    }
    let repair = repaired(&disk, true);
    let log_gap = repair.damage.iter().find_map(|damage| match damage.what {
        What::Log { from, to } => Some((from, to)),
        _ => None,
    });
    assert!(matches!(log_gap, Some((0, 1..))), "{:?}", repair.damage);
    assert!(repair.is_lower_bound);
    let lost: u64 = repair.losses.iter().map(|loss| loss.messages).sum();
    assert_eq!((repair.losses[0].name.as_str(), repair.losses[0].messages), ("a", 60));
    assert_eq!(lost + repair.kept_messages, 90, "{:?}", repair.losses);
    assert!(!repaired(&disk, false).is_needed);
    assert_eq!(open(&disk).damage(), [] as [String; 0]);
}

#[test]
fn a_folder_without_any_of_its_log_files_has_lost_what_its_checkpoint_speaks_of() {
    let disk = two_topics();
    let logs: Vec<String> = disk.dump().into_keys().filter(|name| name.ends_with(".log")).collect();
    for name in &logs {
        disk.remove(name).unwrap();
    }
    let repair = repaired(&disk, true);
    for name in &logs {
        assert!(repair.damage.iter().any(|d| d.what == What::Gone && d.file.as_ref() == Some(name)));
    }
    let lost: Vec<_> = repair.losses.iter().map(|loss| (loss.name.as_str(), loss.messages)).collect();
    assert_eq!(lost, [("a", 60), ("b", 30)]);
    assert!(repair.is_lower_bound && repair.kept_messages == 0);
    assert!(!repaired(&disk, false).is_needed);
    let broker = open(&disk);
    assert_eq!((broker.damage().len(), broker.topics().len()), (0, 2));
}

/// A damaged file stays as it is, however long the broker that found it runs on.
#[test]
fn a_broker_leaves_damaged_files_to_the_repair() {
    let mut salvaged = 0;
    for seed in 1..20 {
        let folder = Folder::build(seed);
        let mut random = fastrand::Rng::with_seed(seed);
        let disk = durable(&folder.disk);
        let logs: Vec<String> = disk.dump().into_keys().filter(|name| name.ends_with(".log")).collect();
        let name = &logs[random.usize(..logs.len())];
        let len = disk.bytes(name).len() as u64;
        if len == 0 {
            continue;
        }
        disk.flip_bit(name, random.u64(..len * 8));
        let damaged = durable(&disk);
        let broker = open(&disk);
        if broker.damage().is_empty() {
            continue;
        }
        for _ in 0..3 {
            for step in [mq_core::Step::Sync, mq_core::Step::Checkpoint, mq_core::Step::Clean] {
                broker.maintain(step).unwrap();
            }
        }
        drop(broker);
        let repair = repaired(&disk, true);
        check(&folder, &damaged, &disk, &repair);
        salvaged += 1;
    }
    assert!(salvaged > 0);
}

/// A file of a later version is refused by name, by all that open a folder.
#[test]
fn a_later_version_is_refused_by_name() {
    let folder = Folder::build(3);
    // Where each kind of file has its version, and where the checksum over it stands.
    for (ending, checksum_at) in [("manifest", None), (".checkpoint", Some(32)), (".log", Some(60))] {
        let disk = durable(&folder.stopped());
        let name = disk.dump().into_iter().find(|(n, b)| n.ends_with(ending) && !b.is_empty()).unwrap().0;
        let mut bytes = disk.bytes(&name);
        bytes[8..12].copy_from_slice(&99u32.to_le_bytes());
        let end = checksum_at.unwrap_or(bytes.len() - 4);
        let crc = crc32c::crc32c(&bytes[..end]);
        bytes[end..end + 4].copy_from_slice(&crc.to_le_bytes());
        disk.set_bytes(&name, bytes);
        // Nothing is kept in it, and a broker gives it up to have room to open.
        disk.remove("reserve").unwrap();
        let before = disk.dump();
        let errors = [
            open_at(&disk, 0).err().unwrap(),
            inspect_on(&disk, &mut |_, _| {}).unwrap_err(),
            repair_on(&disk, true, &mut |_, _| {}).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Version, "{error}");
            assert!(error.to_string().contains("99"), "{error}");
        }
        assert_eq!(disk.dump(), before, "{name}");
    }
}

/// Permissions of everything a repair makes, on the real disk.
#[test]
fn a_repaired_folder_is_still_for_one_user() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::build(5);
    let temp = tempfile::TempDir::new().unwrap();
    let path = temp.path().join("data");
    let disk = mq_core::testkit::RealDisk::open(&path).unwrap();
    let fresh = |name: &str| disk.open(name, OpenMode::Create).unwrap();
    for (name, mut bytes) in folder.disk.dump() {
        if name.ends_with(".log") && bytes.len() > 200 {
            bytes[150] ^= 1;
        }
        fresh(&name).write_at(&mut [std::io::IoSlice::new(&bytes)], 0).unwrap();
    }
    let error = mq_core::repair::repair(&path, true, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Locked);
    drop(disk);
    let repair = mq_core::repair::repair(&path, true, &mut |_, _| {}).unwrap();
    assert!(repair.is_written && !repair.replaced.is_empty());
    let mode = |path: &std::path::Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    let mut set_aside = 0;
    for entry in std::fs::read_dir(&path).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(mode(&entry.path()), 0o600, "{entry:?}");
        set_aside += usize::from(entry.file_name().to_string_lossy().ends_with(".damaged"));
    }
    assert_eq!(set_aside, repair.replaced.len());
    assert!(!mq_core::repair::repair(&path, true, &mut |_, _| {}).unwrap().is_needed);
}

/// A disk whose files are replaced by others when the first log file is opened, as by a broker's cleaner and
/// checkpoint.
struct Changing {
    disk: CrashDisk,
    later: std::sync::Mutex<Option<CrashDisk>>,
}

impl Disk for Changing {
    fn open(&self, name: &str, mode: OpenMode) -> std::io::Result<Arc<dyn mq_core::testkit::File>> {
        if name.ends_with(".log")
            && let Some(later) = self.later.lock().unwrap().take()
        {
            self.disk.dump().keys().for_each(|name| self.disk.remove(name).unwrap());
            later.dump().into_iter().for_each(|(name, bytes)| self.disk.set_bytes(&name, bytes));
        }
        self.disk.open(name, mode)
    }

    fn rename(&self, from: &str, to: &str) -> std::io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove(&self, name: &str) -> std::io::Result<()> {
        self.disk.remove(name)
    }

    fn sync_dir(&self) -> std::io::Result<()> {
        self.disk.sync_dir()
    }

    fn list(&self) -> std::io::Result<Vec<String>> {
        self.disk.list()
    }
    fn id(&self, name: &str) -> std::io::Result<(u64, u64)> {
        self.disk.id(name)
    }
    fn is_in_place(&self) -> std::io::Result<bool> {
        self.disk.is_in_place()
    }
    fn version(&self) -> std::io::Result<u64> {
        self.disk.version()
    }
}

/// A report starts over when files of the manifest it has read are gone: a running broker is no damage.
#[test]
fn files_that_go_while_they_are_looked_for_are_no_damage() {
    for seed in 200..220 {
        let folder = Folder::build(seed);
        let later = folder.stopped();
        let report = |disk: &dyn Disk| inspect_on(disk, &mut |_, _| {}).unwrap();
        let expected = format!("{:?}", report(&later));
        let changing =
            Changing { disk: durable(&folder.disk), later: std::sync::Mutex::new(Some(durable(&later))) };
        let found = report(&changing);
        assert!(found.damage.is_empty(), "{:?}", found.damage);
        assert!(changing.later.lock().unwrap().is_none());
        // Unless everything it had read about was still there.
        assert!(format!("{found:?}") == expected || !found.clean_stop);
    }
}
