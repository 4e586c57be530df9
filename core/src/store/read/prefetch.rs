//! Reading files ahead of their replay, on several threads, and fsyncing them meanwhile: what takes time
//! there are the copies from the page cache, the checksums and the disk.
//!
//! A thread gives the frames of its file in order, up to the first place that is not a whole frame, or can't
//! be read. What that is, who replays finds out by itself: it goes on from there with a [`Scanner`] of its
//! own.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

use crate::sync::Mutex;

use crate::store::disk::File;
use crate::store::format::file::{FILE_HEADER_BYTES, FileHeader};
use crate::store::format::frame::Header;
use crate::store::read::reader::{Scanned, Scanner};

/// Threads that read, where there are so many processors.
const THREADS_MAX: usize = 4;
/// Frames given at a time.
const BATCH_FRAMES: usize = 512;
/// Batches of a file that may wait for replay: all frames of a file, unless they are small, in 10 MB.
const BATCHES_MAX: usize = 256;

/// A file to read: its frames, up to where it is known to end.
pub(crate) struct Reading {
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: FileHeader,
    pub(crate) until: u64,
    pub(crate) sync_error: EarlySyncError,
}

/// The error of an fsync that failed before it was asked for: the system reports it once.
pub(crate) type EarlySyncError = Arc<Mutex<Option<io::Error>>>;

/// Whole frames of a file in order, each with where it stands.
#[derive(Default)]
pub(crate) struct Frames {
    /// `None`: the file is not prefetched.
    batches: Option<Receiver<Vec<(u64, Header)>>>,
    batch: std::vec::IntoIter<(u64, Header)>,
}

impl Iterator for Frames {
    type Item = (u64, Header);

    fn next(&mut self) -> Option<(u64, Header)> {
        loop {
            if let Some(found) = self.batch.next() {
                return Some(found);
            }
            self.batch = self.batches.as_ref()?.recv().ok()?.into_iter();
        }
    }
}

/// Starts to read and to fsync `files`. Their frames are to be taken in this order, and dropped before
/// `scope` ends.
pub(crate) fn start<'scope>(scope: &'scope Scope<'scope, '_>, files: Vec<Reading>) -> Vec<Frames> {
    let syncing: Vec<_> =
        files.iter().map(|file| (Arc::clone(&file.file), Arc::clone(&file.sync_error))).collect();
    let sync_all = move || {
        for (file, sync_error) in syncing {
            if let Err(error) = file.sync() {
                *sync_error.lock() = Some(error);
            }
        }
    };
    // Should there be no thread for it, it takes longer later.
    let _ = thread::Builder::new().name("mq-open".into()).spawn_scoped(scope, sync_all);
    let (frames, queue): (Vec<_>, VecDeque<_>) = files
        .into_iter()
        .map(|file| {
            let (sender, receiver) = sync_channel(BATCHES_MAX);
            (Frames { batches: Some(receiver), ..Frames::default() }, (file, sender))
        })
        .unzip();
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX).min(queue.len());
    let queue = Arc::new(Mutex::new(queue));
    let mut started = false;
    for _ in 0..threads {
        let queue = Arc::clone(&queue);
        // Files are begun in the order they are taken in: the one that is waited for has its thread.
        let read_all = move || {
            while let Some((file, sender)) = take(&queue)
                && read(&file, &sender)
            {}
        };
        started |= thread::Builder::new().name("mq-open".into()).spawn_scoped(scope, read_all).is_ok();
    }
    if !started {
        queue.lock().clear();
    }
    frames
}

fn take<T>(queue: &Mutex<VecDeque<T>>) -> Option<T> {
    queue.lock().pop_front()
}

/// Gives the frames of a file. `false` if nobody takes them.
fn read(file: &Reading, sender: &SyncSender<Vec<(u64, Header)>>) -> bool {
    let mut scan = Scanner::new(&file.file, file.header, FILE_HEADER_BYTES, file.until);
    let mut batch = Vec::with_capacity(BATCH_FRAMES);
    while let Ok(Scanned::Frame(at, header)) = scan.next() {
        batch.push((at, header));
        if batch.len() == BATCH_FRAMES
            && sender.send(std::mem::replace(&mut batch, Vec::with_capacity(BATCH_FRAMES))).is_err()
        {
            return false;
        }
    }
    batch.is_empty() || sender.send(batch).is_ok()
}
