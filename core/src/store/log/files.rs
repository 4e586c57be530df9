//! The log's open files: the one being written, those that are full, and the next.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::store::disk::File;
use crate::store::format::file::{FileHeader, FileNo};
use crate::store::format::frame::HEADER_BYTES;
use crate::store::format::log_pos::LogPos;
use crate::store::log::completions::Completions;
use crate::store::log::queue::Item;

/// The file being written. Behind the log's writer lock.
pub(crate) struct Writer {
    pub(in crate::store) file: Arc<dyn File>,
    pub(in crate::store) header: FileHeader,
    /// Byte of the file that the next frame goes to. 0 until the header is written, which goes with the
    /// first frame.
    pub(super) at: u64,
    /// The queue being written; kept for its memory.
    pub(super) round: VecDeque<Item>,
    /// Headers of the frames of one write, kept for its memory.
    pub(super) headers: Vec<[u8; HEADER_BYTES]>,
    pub(super) completions: Completions,
}

/// Files that may hold unsynced frames.
pub(super) struct Files {
    /// The file being written, and its number.
    pub(super) current: (FileNo, Arc<dyn File>),
    /// Files that were followed by another and have no index yet.
    pub(super) full: Vec<(FileHeader, Arc<dyn File>)>,
    /// A file created ahead of its need.
    pub(super) spare: Option<Spare>,
    /// Whether a file was filled since the log was opened: then the next is likely to be too.
    pub(super) has_rolled: bool,
}

/// The file that will be written next.
#[derive(Clone)]
pub(super) struct Spare {
    pub(super) no: FileNo,
    pub(super) file: Arc<dyn File>,
    /// Whether the manifest names it for sure. If storing the manifest failed, the one on disk may or may
    /// not.
    pub(super) is_named: bool,
    /// Whether the space that the file will need was taken ahead: it can be written on a full disk.
    pub(super) has_space: bool,
}

impl Writer {
    /// Goes on in `file`, whose frames end at `at` (0: not even the header is written).
    pub(crate) fn new(file: Arc<dyn File>, header: FileHeader, at: u64) -> Self {
        Self {
            file,
            header,
            at,
            round: VecDeque::new(),
            headers: Vec::new(),
            completions: Completions::default(),
        }
    }

    /// Goes on in another file that holds the same frames, which end at `at`.
    pub(super) fn go_on_in(&mut self, file: Arc<dyn File>, header: FileHeader, at: u64) {
        (self.file, self.header, self.at) = (file, header, at);
    }

    /// Position after the last written frame.
    pub(super) fn position(&self) -> LogPos {
        if self.at == 0 { self.header.base } else { self.header.position(self.at) }
    }
}

impl Files {
    pub(super) fn new(writer: &Writer, full: Vec<(FileHeader, Arc<dyn File>)>) -> Self {
        Self { current: (writer.header.no, writer.file.clone()), full, spare: None, has_rolled: false }
    }

    /// The next file, if it is file `no`.
    pub(super) fn spare(&self, no: FileNo) -> Option<Arc<dyn File>> {
        self.spare.as_ref().filter(|spare| spare.no == no).map(|spare| spare.file.clone())
    }
}
