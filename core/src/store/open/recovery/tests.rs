use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::*;
use crate::channel::Pulled;
use crate::clock::{ManualClock, Wall};
use crate::config::{Options, StoreSizes};
use crate::maintenance::Step;
use crate::message::{Attributes, Delivery};
use crate::name::{ChannelName, TopicName};
use crate::store::disk::crash_disk::{Crash, CrashDisk, Fault, Op};
use crate::store::format::file::FILE_HEADER_BYTES;
use crate::store::format::frame::{Header, Kind};
use crate::store::format::frame_file::FrameFile;
use crate::store::format::log_pos::LogPos;
use crate::store::repair::inspect;
use crate::store::repair::survey::Survey;
use crate::testkit::nobody;
use crate::wake::Wake;
use crate::{Broker, SubscribeOptions};

/// A folder of many files: two topics, one with ids, a checkpoint in the midst, finishes, fsyncs now and
/// then.
fn folder(seed: u64) -> CrashDisk {
    let disk = history(seed);
    disk.image(disk.events(), Crash::Kill)
}

/// The disk of such a folder, with all that happened on it.
fn history(seed: u64) -> CrashDisk {
    let mut random = fastrand::Rng::with_seed(seed);
    let disk = CrashDisk::new();
    let clock = Arc::new(ManualClock::new(Wall(1_800_000_000_000_000_000)));
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
    std::mem::forget(broker);
    disk
}

/// The recovered state, in words, and the folder after.
fn recovered(disk: &CrashDisk, prefetch_bytes_min: u64) -> (Vec<String>, BTreeMap<String, Vec<u8>>) {
    let copy = disk.image(disk.events(), Crash::Kill);
    fastrand::seed(1);
    let opened = recover_with(&(Arc::new(copy.clone()) as Arc<dyn Disk>), prefetch_bytes_min);
    let words = opened.map_or_else(
        |error| vec![error.to_string()],
        |Recovered { mut replay, catalog, opened, clean_stop, damage }| {
            let requeued =
                replay.channels.values_mut().map(|channel| BTreeMap::from_iter(channel.requeued.drain()));
            let requeued: Vec<_> = requeued.collect();
            let spans: Vec<_> = (0..replay.next_topic.0).map(|no| catalog.spans(TopicNo(no))).collect();
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
fn prefetched_files_give_what_files_read_in_turn_do() {
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
            let (in_turn, prefetched) = (recovered(&disk, u64::MAX), recovered(&disk, 0));
            assert_eq!(in_turn.0, prefetched.0, "seed {seed}, {flips} flips");
            assert!(in_turn.1 == prefetched.1, "seed {seed}, {flips} flips");
            damaged += usize::from(in_turn.0.iter().any(|words| words.contains("at byte")));
        }
    }
    assert!((20..120).contains(&damaged), "{damaged} were damaged");
}

/// The system reports a failed fsync once, whoever asks first.
#[test]
fn an_fsync_that_fails_while_files_are_prefetched_is_reported() {
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
        assert!(has_doubt_file(&disk).unwrap());
        assert!(recover_with(&shared, 0).is_ok(), "what was suspect is written again");
    }
}

/// Changes `disk` as a failing one would, or somebody who does not know better. Returns what was done.
fn change(disk: &CrashDisk, random: &mut fastrand::Rng) -> String {
    let files: Vec<(String, Vec<u8>)> = disk.dump().into_iter().collect();
    let (name, mut bytes) = files[random.usize(..files.len())].clone();
    let len = bytes.len();
    if len == 0 || random.u8(..12) == 0 {
        disk.remove(&name).unwrap();
        return format!("{name} removed");
    }
    let at = if random.u8(..4) == 0 { random.usize(..len.min(100)) } else { random.usize(..len) };
    let to = (at + random.usize(1..600)).min(len);
    let done = match random.u8(..10) {
        0..5 => {
            bytes[at] ^= 1 << random.u8(..8);
            format!("{name}: a bit of byte {at}")
        }
        5 => {
            bytes.truncate(at);
            format!("{name} cut at {at}")
        }
        6 => {
            bytes[at..to].fill(0);
            format!("{name}: zeros from {at} to {to}")
        }
        7 => {
            bytes[at..to].iter_mut().for_each(|byte| *byte = random.u8(..));
            format!("{name}: noise from {at} to {to}")
        }
        8 => {
            bytes.extend((0..random.usize(1..600)).map(|_| random.u8(..)));
            format!("{name}: noise at the end")
        }
        _ => {
            let from = random.usize(..len);
            let part = bytes[from..(from + to - at).min(len)].to_vec();
            bytes.splice(at..at, part);
            format!("{name}: a part of it again at {at}")
        }
    };
    disk.set_bytes(&name, bytes);
    done
}

/// Places that a start has no reason to look at: files that the checkpoint or their index make needless.
fn is_passed_over(survey: &Survey, damage: &inspect::Damage) -> bool {
    if matches!(damage.what, inspect::What::Index) {
        return true;
    }
    let Some(file) = survey.files.iter().find(|file| Some(log_name(file.no)) == damage.file) else {
        return false;
    };
    let Some(header) = file.header.filter(|_| !file.is_header_damaged) else { return false };
    let from = survey.checkpoint.map_or(LogPos(0), |(_, position)| position);
    file.until < file.len && (file.kind == FileKind::Clean || header.position(file.until) < from)
}

/// Holds what a start does with the folder against what an inspection says of it.
fn agree(disk: &CrashDisk, when: &str) -> bool {
    let mut survey = Survey::read(disk, &mut |_, _| {}).unwrap();
    let copy: Arc<dyn Disk> = Arc::new(disk.image(disk.events(), Crash::Kill));
    let (passed_over, mut seen): (Vec<_>, Vec<_>) =
        survey.damage.iter().partition(|damage| is_passed_over(&survey, damage));
    // Messages that a damaged place held are missing, too.
    let is_telling = |damage: &&inspect::Damage| !matches!(damage.what, inspect::What::Index);
    let passes_over_messages = passed_over.iter().any(is_telling);
    if passes_over_messages {
        seen.retain(|damage| !matches!(damage.what, inspect::What::Missing { .. }));
    }
    let Recovered { mut replay, catalog, opened, damage, .. } = match recover_with(&copy, u64::MAX) {
        Ok(recovered) => recovered,
        Err(error) => {
            let is_told = |damage: &&inspect::Damage| {
                let name = damage.file.as_deref().unwrap_or_default();
                name == "manifest" || name.ends_with(".checkpoint")
            };
            assert!(survey.damage.iter().any(|damage| is_told(&damage)), "{when}: {error}");
            return true;
        }
    };
    assert_eq!(
        damage.places.is_empty(),
        seen.is_empty(),
        "{when}: {:?}, {seen:?} {:?} {:?} {:?} {:?}",
        damage.places,
        survey.tail,
        survey.synced_to,
        survey.checkpoint,
        survey.spans(TopicNo(2))
    );
    if !seen.is_empty() || passes_over_messages {
        return true;
    }
    let tail = survey.tail.as_ref();
    if let Some(tail) = tail {
        let file = survey.files.iter().find(|file| log_name(file.no) == tail.file);
        let cut = match file.and_then(|file| file.header) {
            Some(header) => header.position(tail.at),
            // A file whose first write was cut short, or that does not follow: the log ends before it.
            None => opened.end,
        };
        assert_eq!(opened.end, cut, "{when}: {tail:?}");
    } else {
        assert_eq!(opened.end, survey.end, "{when}");
    }
    // What follows the cut is whole, and counts for a repair only.
    if tail.is_some_and(|tail| tail.frames > 0) {
        return false;
    }
    holes::keep_between_messages(&mut survey.replay, &catalog);
    let spans = |spans: Vec<(crate::message::Offset, crate::message::Offset)>| {
        let mut set = RangeSet::default();
        spans.into_iter().for_each(|(first, last)| set.insert(first, last));
        set
    };
    for topic in (0..replay.next_topic.0).map(TopicNo) {
        assert_eq!(spans(catalog.spans(topic)), spans(survey.spans(topic)), "{when}: topic {topic}");
    }
    let words = |replay: &mut Replay| {
        let requeued =
            replay.channels.values_mut().map(|channel| BTreeMap::from_iter(channel.requeued.drain()));
        let requeued: Vec<_> = requeued.collect();
        format!("{requeued:?} {replay:?}")
    };
    assert_eq!(words(&mut replay), words(&mut survey.replay), "{when}");
    false
}

#[test]
fn a_start_and_an_inspection_agree_on_any_bytes() {
    let mut damaged = 0;
    for seed in 0..60 {
        let sound = folder(seed);
        assert!(!agree(&sound, &format!("seed {seed}, sound")), "seed {seed} is sound");
        for round in 0..8 {
            let mut random = fastrand::Rng::with_seed(1000 * seed + round);
            let disk = sound.image(sound.events(), Crash::Kill);
            let done: Vec<_> = (0..random.usize(1..4)).map(|_| change(&disk, &mut random)).collect();
            damaged += usize::from(agree(&disk, &format!("seed {seed}, round {round}: {done:?}")));
        }
    }
    assert!((150..450).contains(&damaged), "{damaged} were damaged");
}

#[test]
fn a_start_and_an_inspection_agree_on_what_a_crash_left() {
    for seed in 0..10 {
        let disk = history(seed);
        for event in (0..=disk.events()).step_by(7) {
            for crash in [Crash::Kill, Crash::Power { seed: seed + event as u64 }] {
                let image = disk.image(event, crash);
                assert!(
                    !agree(&image, &format!("seed {seed}, event {event}, {crash:?}")),
                    "a crash is no damage"
                );
            }
        }
    }
}

#[test]
fn a_clean_file_that_ends_within_a_frame_is_damage_and_opens() {
    let disk = folder(3);
    let mut out = FrameFile::clean(&disk, || FileNo(999)).unwrap();
    let header = Header {
        kind: Kind::Data,
        payload_len: 40,
        count: 1,
        topic: TopicNo(1),
        payload_crc: 0,
        first: crate::message::Offset(7),
        time: Wall(0),
        has_ids: false,
        synced_to: LogPos(0),
    };
    out.put(&header, &[0; 40]).unwrap();
    out.finish(true).unwrap();
    let mut manifest = Manifest::load(&disk).unwrap().unwrap();
    manifest.files.push((FileNo(999), FileKind::Clean));
    manifest.store(&disk).unwrap();
    let bytes = disk.bytes(&log_name(FileNo(999)));
    disk.set_bytes(&log_name(FileNo(999)), &bytes[..140]);
    let opened = recover(&(Arc::new(disk) as Arc<dyn Disk>)).unwrap();
    assert!(opened.damage.places.iter().any(|place| place.contains("00000999.log")), "{:?}", opened.damage);
}

#[test]
fn a_damaged_header_of_the_newest_file_is_damage_though_nothing_follows_it() {
    let mut found = 0;
    for seed in 0..20 {
        let disk = folder(seed);
        let survey = Survey::read(&disk, &mut |_, _| {}).unwrap();
        let Some(newest) = survey.files.iter().rfind(|file| file.kind == FileKind::Log) else { continue };
        if newest.len > FILE_HEADER_BYTES {
            disk.flip_bit(&log_name(newest.no), 8 * 20);
            let before = disk.bytes(&log_name(newest.no));
            let opened = recover(&(Arc::new(disk.clone()) as Arc<dyn Disk>)).unwrap();
            assert!(opened.damage.all_topics, "seed {seed}");
            assert_eq!(disk.bytes(&log_name(newest.no)), before, "it is left to the repair");
            found += 1;
        }
    }
    assert!(found > 10, "{found}");
}
