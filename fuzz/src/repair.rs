//! Inspecting and repairing a damaged data folder.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use mq_core::repair::inspect::inspect_on;
use mq_core::repair::repair_on;
use mq_core::testkit::CrashDisk;

use crate::data_folder;

/// Size of log files, so small that there are several.
const FILE_BYTES: u64 = 2 << 10;
/// Names for files of any bytes.
const NAMES: [&str; 6] =
    ["manifest", "00000001.log", "00000002.log", "00000003.checkpoint", "00000004.log", "manifest.new"];

fn damaged(edits: &[u8]) -> CrashDisk {
    static FOLDER: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let disk = data_folder::disk_with(FOLDER.get_or_init(|| data_folder::dump(FILE_BYTES, 8)));
    data_folder::damage(&disk, edits, 8);
    disk
}

fn invented(bytes: &[u8]) -> CrashDisk {
    let disk = CrashDisk::new();
    for (name, part) in NAMES.iter().zip(bytes.chunks(bytes.len().div_ceil(NAMES.len()).max(1))) {
        disk.set_bytes(name, part);
    }
    disk
}

/// Any bytes as the files of a data folder, and a folder with some bytes changed, can be inspected and
/// repaired; what a broker then serves has the right bodies, and nothing is left to repair.
///
/// The first byte of the input says which; the rest is the files' bytes or edits of five bytes each.
pub fn repair(input: &[u8]) {
    let Some((kind, rest)) = input.split_first() else { return };
    let is_real = kind % 4 > 0;
    let disk = if is_real { damaged(rest) } else { invented(rest) };
    let _ = inspect_on(&disk, &mut |_, _| {});
    if repair_on(&disk, true, &mut |_, _| {}).is_err() {
        return;
    }
    let again = repair_on(&disk, false, &mut |_, _| {}).expect("what was repaired can be read");
    assert!(!again.is_needed, "a second repair finds {:?}", again.damage);
    let broker = data_folder::open(&disk, FILE_BYTES).expect("what was repaired opens");
    assert!(broker.damage().is_empty(), "{:?}", broker.damage());
    data_folder::assert_bodies(&broker);
}
