//! Opening a damaged data folder.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use crate::data_folder;

/// Size of log files, so small that there are several.
const FILE_BYTES: u64 = 4 << 10;

/// A data folder in which some bytes were changed opens, or is refused; what it serves has the right bodies.
///
/// The input is edits of five bytes each.
pub fn folder(edits: &[u8]) {
    static FOLDER: OnceLock<BTreeMap<String, Vec<u8>>> = OnceLock::new();
    let disk = data_folder::disk_with(FOLDER.get_or_init(|| data_folder::dump(FILE_BYTES, 20)));
    data_folder::damage(&disk, edits, 4);
    if let Ok(broker) = data_folder::open(&disk, FILE_BYTES) {
        data_folder::assert_bodies(&broker);
    }
}
