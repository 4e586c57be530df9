use std::collections::BTreeSet;

use fastrand::Rng;

use super::*;

const SEEDS: u64 = 200;

fn write(file: &dyn File, at: u64, bytes: &[u8]) -> io::Result<()> {
    file.write_at(&mut [IoSlice::new(bytes)], at)
}

/// A disk with a durable file `f` of these bytes.
fn disk_with(bytes: &[u8]) -> (CrashDisk, Arc<dyn File>) {
    let disk = CrashDisk::new();
    let file = disk.open("f", OpenMode::Create).unwrap();
    write(&*file, 0, bytes).unwrap();
    file.sync().unwrap();
    disk.sync_dir().unwrap();
    (disk, file)
}

/// All that may be left after a power loss now.
fn power(disk: &CrashDisk) -> BTreeSet<BTreeMap<String, Vec<u8>>> {
    let now = disk.events();
    (0..SEEDS).map(|seed| disk.image(now, Crash::Power { seed }).dump()).collect()
}

/// The same for `f`, which must be there.
fn power_f(disk: &CrashDisk) -> BTreeSet<Vec<u8>> {
    power(disk).into_iter().map(|mut files| files.remove("f").unwrap()).collect()
}

fn kill(disk: &CrashDisk) -> CrashDisk {
    disk.image(disk.events(), Crash::Kill)
}

/// Some of everything, chosen by `seed`.
fn busy_disk(seed: u64) -> CrashDisk {
    let mut rng = Rng::with_seed(seed);
    let disk = CrashDisk::new();
    for _ in 0..150 {
        let name = ["a", "b", "c"][rng.usize(..3)];
        let file = disk.open(name, OpenMode::Write).or_else(|_| disk.open(name, OpenMode::Create)).unwrap();
        match rng.u8(..8) {
            0..3 => write(&*file, rng.u64(..3000), &vec![rng.u8(1..); rng.usize(..3000)]).unwrap(),
            3 => file.truncate(rng.u64(..3000)).unwrap(),
            4 => file.sync().unwrap(),
            5 => disk.sync_dir().unwrap(),
            6 => disk.remove(name).unwrap(),
            _ => disk.rename(name, ["a", "b", "c"][rng.usize(..3)]).unwrap(),
        }
    }
    disk
}

#[test]
fn what_was_synced_always_survives() {
    let (disk, file) = disk_with(b"kept");
    assert_eq!(power_f(&disk), [b"kept".to_vec()].into());
    write(&*file, 4, &[1; 2000]).unwrap();
    file.sync().unwrap();
    write(&*file, 2004, &[2; 2000]).unwrap();
    for survived in power_f(&disk) {
        assert_eq!(survived[..4], *b"kept");
        assert_eq!(survived[4..2004], [1; 2000]);
    }
}

#[test]
fn an_unsynced_write_survives_or_not_or_is_torn() {
    let (disk, file) = disk_with(&[1; 1100]);
    write(&*file, 500, &[2; 1000]).unwrap();
    let images = power_f(&disk);
    assert!(images.contains(&vec![1; 1100]), "lost");
    assert!(images.contains(&[vec![1; 500], vec![2; 1000]].concat()), "whole");

    let torn = [vec![1; 500], vec![2; 12], vec![1; 512], vec![2; 476]].concat();
    assert!(images.contains(&torn), "torn in the middle: a later sector without the one before");
    assert!(images.contains(&[vec![1; 1100], vec![0; 400]].concat()), "the length without the bytes");
    for image in images {
        let sectors = [0..500, 500..512, 512..1024, 1024..1100.min(image.len()), 1100..image.len()];
        for sector in sectors {
            let bytes: BTreeSet<_> = image[sector.clone()].iter().collect();
            assert!(bytes.len() <= 1, "sector {sector:?} is half new: {bytes:?}");
        }
    }
}

#[test]
fn writes_survive_out_of_order_with_zeros_between() {
    let (disk, file) = disk_with(b"");
    write(&*file, 0, &[1; 512]).unwrap();
    write(&*file, 512, &[2; 512]).unwrap();
    assert!(power_f(&disk).contains(&[vec![0; 512], vec![2; 512]].concat()));
}

#[test]
fn an_unsynced_truncate_survives_or_not() {
    let (disk, file) = disk_with(b"abcdef");
    file.truncate(2).unwrap();
    write(&*file, 4, b"x").unwrap();
    let images = power_f(&disk);
    for left in [&b"abcdef"[..], b"ab", b"abcdxf", b"ab\0\0x"] {
        assert!(images.contains(left), "{left:?} not in {images:?}");
    }
    file.sync().unwrap();
    assert_eq!(power_f(&disk), [b"ab\0\0x".to_vec()].into());
}

#[test]
fn a_name_is_durable_after_the_folder_is_synced_not_the_file() {
    let disk = CrashDisk::new();
    let file = disk.open("f", OpenMode::Create).unwrap();
    write(&*file, 0, b"x").unwrap();
    file.sync().unwrap();
    let there = BTreeMap::from([("f".to_owned(), b"x".to_vec())]);
    assert_eq!(power(&disk), [BTreeMap::new(), there.clone()].into());
    disk.sync_dir().unwrap();
    assert_eq!(power(&disk), [there].into());
}

#[test]
fn a_rename_happens_or_not() {
    let (disk, _) = disk_with(b"old");
    let new = disk.open("new", OpenMode::Create).unwrap();
    write(&*new, 0, b"new").unwrap();
    new.sync().unwrap();
    disk.sync_dir().unwrap();
    disk.rename("new", "f").unwrap();
    let before = BTreeMap::from([("f".to_owned(), b"old".to_vec()), ("new".to_owned(), b"new".to_vec())]);
    let after = BTreeMap::from([("f".to_owned(), b"new".to_vec())]);
    assert_eq!(power(&disk), [before, after.clone()].into());
    disk.sync_dir().unwrap();
    assert_eq!(power(&disk), [after].into());
}

#[test]
fn a_file_renamed_twice_has_one_name() {
    let (disk, _) = disk_with(b"x");
    disk.rename("f", "g").unwrap();
    disk.rename("g", "h").unwrap();
    let names: BTreeSet<Vec<String>> =
        power(&disk).into_iter().map(|files| files.into_keys().collect()).collect();
    assert_eq!(names, [vec!["f".to_owned()], vec!["g".to_owned()], vec!["h".to_owned()]].into());
}

#[test]
fn a_removed_file_may_come_back_until_the_folder_is_synced() {
    let (disk, file) = disk_with(b"x");
    disk.remove("f").unwrap();
    let mut buf = [0; 4];
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 1, "an open handle goes on reading");
    assert_eq!(disk.open("f", OpenMode::Read).map(|_| ()).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(power(&disk), [BTreeMap::new(), [("f".to_owned(), b"x".to_vec())].into()].into());
    disk.sync_dir().unwrap();
    assert_eq!(power(&disk), [BTreeMap::new()].into());
}

#[test]
fn a_kill_image_is_what_the_process_saw() {
    for seed in 0..20 {
        let disk = busy_disk(seed);
        assert_eq!(kill(&disk).dump(), disk.dump());
        assert_eq!(disk.image(0, Crash::Kill).dump(), BTreeMap::new());
    }
}

#[test]
fn a_replay_gives_the_images_of_each_event() {
    let disk = busy_disk(7);
    let mut replay = disk.replay();
    let mut seen = Vec::new();
    loop {
        let event = replay.event();
        seen.push((replay.kill_image().dump(), replay.power_image(3).dump()));
        assert_eq!(seen[event].0, disk.image(event, Crash::Kill).dump());
        assert_eq!(seen[event].1, disk.image(event, Crash::Power { seed: 3 }).dump());
        if !replay.step() {
            break;
        }
    }
    assert_eq!(seen.len(), disk.events() + 1);
    assert_eq!(disk.history().len(), disk.events());
}

#[test]
fn the_same_seed_gives_the_same_images() {
    let (one, two) = (busy_disk(5), busy_disk(5));
    assert_eq!(one.history(), two.history());
    for seed in 0..20 {
        for crash in [Crash::Power { seed }, Crash::KillTorn { seed }] {
            for event in 0..one.events() {
                assert_eq!(one.image(event, crash).dump(), two.image(event, crash).dump());
            }
        }
    }
}

#[test]
fn a_kill_in_the_middle_of_a_write_leaves_a_prefix() {
    let (disk, file) = disk_with(b"");
    let before = disk.events();
    write(&*file, 0, b"abcd").unwrap();
    let torn: BTreeSet<_> =
        (0..SEEDS).map(|seed| disk.image(before, Crash::KillTorn { seed }).bytes("f")).collect();
    assert_eq!(torn, [b"a".to_vec(), b"ab".to_vec(), b"abc".to_vec()].into());
    assert!(disk.image(disk.events(), Crash::KillTorn { seed: 0 }).bytes("f") == b"abcd", "nothing to tear");
}

#[test]
fn what_a_kill_left_unsynced_can_still_be_lost() {
    let (disk, file) = disk_with(b"old");
    write(&*file, 0, b"new").unwrap();
    let after_kill = kill(&disk);
    assert_eq!(after_kill.bytes("f"), b"new");
    assert_eq!(power_f(&after_kill), [b"old".to_vec(), b"new".to_vec()].into());

    after_kill.open("f", OpenMode::Write).unwrap().sync().unwrap();
    assert_eq!(power_f(&after_kill), [b"new".to_vec()].into());
    assert_eq!(disk.bytes("f"), b"new", "an image is a disk of its own");
}

#[test]
fn what_a_power_loss_left_is_durable() {
    let disk = busy_disk(1);
    let image = disk.image(100, Crash::Power { seed: 1 });
    assert_eq!(power(&image), [image.dump()].into());
    assert_eq!(kill(&image).dump(), image.dump());
}

#[test]
fn a_failed_sync_leaves_pages_suspect_whatever_a_later_one_says() {
    let (disk, file) = disk_with(b"old.");
    write(&*file, 0, b"new").unwrap();
    disk.fail_at(disk.calls(), Fault::SyncFails);
    assert!(file.sync().is_err());
    write(&*file, 1, b"EW").unwrap();
    file.sync().unwrap();
    assert_eq!(disk.bytes("f"), b"nEW.", "the process goes on seeing its bytes");
    assert_eq!(power_f(&disk), [b"oEW.".to_vec(), b"nEW.".to_vec()].into());
}

#[test]
fn faults_meet_the_calls_they_are_for() {
    let (disk, file) = disk_with(b"abc");
    disk.set_faults(Box::new(|call| (call.file == "f" && call.op == Op::Read).then_some(Fault::Eio)));
    assert_eq!(file.read_at(&mut [0; 3], 0).unwrap_err().kind(), io::ErrorKind::Other);
    assert_eq!(file.read_at_nowait(&mut [0; 3], 0).unwrap(), 3);
    disk.set_faults(Box::new(|call| (call.op == Op::ReadNowait).then_some(Fault::WouldBlock)));
    assert_eq!(file.read_at_nowait(&mut [0; 3], 0).unwrap_err().kind(), io::ErrorKind::WouldBlock);

    let (calls, events) = (disk.calls(), disk.events());
    disk.fail_at(calls + 1, Fault::ShortWrite(2));
    write(&*file, 0, b"x").unwrap();
    assert_eq!(write(&*file, 0, b"XYZ").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.bytes("f"), b"XYc");
    write(&*file, 0, b"xyz").unwrap();

    disk.fail_at(calls + 3, Fault::Enospc);
    assert_eq!(disk.open("g", OpenMode::Create).map(|_| ()).unwrap_err().kind(), io::ErrorKind::StorageFull);
    disk.fail_at(calls + 4, Fault::Eio);
    assert!(disk.rename("f", "g").is_err());
    assert_eq!((disk.calls(), disk.events()), (calls + 5, events + 3), "a call without effect is no event");
    disk.clear_faults();
    assert_eq!(disk.list().unwrap(), ["f"]);
}

#[test]
fn a_hook_may_look_at_the_disk() {
    let (disk, file) = disk_with(b"");
    let other = disk.clone();
    disk.set_faults(Box::new(move |_| (other.events() > 3).then_some(Fault::Enospc)));
    write(&*file, 0, b"x").unwrap();
    assert!(write(&*file, 0, b"y").is_err());
}

#[test]
fn a_full_disk_takes_what_fits() {
    let (disk, file) = disk_with(&[1; 60]);
    disk.capacity(Some(100));
    assert_eq!(write(&*file, 50, &[2; 60]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!((disk.used(), file.len().unwrap()), (100, 100));
    write(&*file, 0, &[3; 100]).unwrap();
    let events = disk.events();
    assert!(write(&*file, 100, b"x").is_err());
    assert!(file.truncate(101).is_err() && file.allocate(101).is_err());
    assert_eq!(disk.events(), events);

    file.truncate(20).unwrap();
    disk.open("reserve", OpenMode::Create).unwrap().allocate(50).unwrap();
    assert_eq!(disk.used(), 70);
    assert!(write(&*file, 20, &[4; 31]).is_err());
    let reserve = disk.open("reserve", OpenMode::Write).unwrap();
    reserve.truncate(0).unwrap();
    assert_eq!(disk.used(), 50, "truncating gives a reservation back");
    reserve.allocate(50).unwrap();
    disk.remove("reserve").unwrap();
    write(&*file, 50, &[4; 50]).unwrap();
    disk.capacity(None);
    write(&*file, 100, &[5; 100]).unwrap();
}

#[test]
fn an_absurd_length_is_refused() {
    let (_, file) = disk_with(b"");
    assert_eq!(write(&*file, u64::MAX, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.truncate(u64::MAX).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.read_at(&mut [0; 1], u64::MAX).unwrap(), 0);
}

#[test]
fn planted_bytes_are_durable_and_part_of_the_history() {
    let (disk, file) = disk_with(b"ab");
    write(&*file, 0, b"cd").unwrap();
    disk.flip_bit("f", 8);
    assert_eq!(disk.bytes("f"), b"ce");
    disk.set_bytes("g", "planted");
    let want = BTreeMap::from([("f".to_owned(), b"ce".to_vec()), ("g".to_owned(), b"planted".to_vec())]);
    assert_eq!(power(&disk), [want.clone()].into());
    assert_eq!(kill(&disk).dump(), want);
    let mut buf = [0; 2];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(&buf, b"ce", "open handles see it");
}

#[test]
fn nothing_older_takes_a_planted_file_back() {
    let disk = CrashDisk::new();
    disk.open("f", OpenMode::Create).unwrap();
    disk.remove("f").unwrap();
    disk.set_bytes("f", "planted");
    assert_eq!(power_f(&disk), [b"planted".to_vec()].into());
}
