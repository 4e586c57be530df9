//! The broker log: every frame of every topic gets a position here, in order, and is written by whoever comes
//! first.
//!
//! A caller enqueues frames (a short lock that assigns positions) and then commits: who gets the writer's
//! lock writes for all who queued, one write a round; nobody waits for that lock. What level `sync` queued
//! then waits for the next fsync, which takes all that was written by its start. A [`Ticket`] shows when its
//! frame is acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::TopicNo;
use crate::sync::Mutex;
use bytes::Bytes;

use crate::clock::Wall;
use crate::error::{Error, ErrorKind, Result};
use crate::message::Offset;
use crate::parker::Parker;
use crate::stats::Counters;
use crate::store::disk::{Disk, File};
use crate::store::format::file::{FileHeader, FileNo};
use crate::store::format::frame::{Header, Kind};
use crate::store::format::manifest::Manifest;
use crate::store::log::files::{Files, Writer};
use crate::store::log::health::{Health, Task};
use crate::store::log::queue::{Assign, CommitListener, Entry, Item, QueuedFrame, Unsynced, mark};
use crate::store::log::reserve::Reserve;
use crate::store::log::ticket::{Epoch, Outcome, Ticket};
use crate::store::memory::frame::Frame;
use crate::store::read::catalog::Catalog;
use crate::wake::Wake;

/// Unwritten bytes above which sessions stop reading.
const UNWRITTEN_BYTES_MAX: u64 = 16 << 20;
/// Failures whose position is remembered. A ticket older than that many failures counts as failed: its
/// connection had that many chances to ask.
const CUTS_MAX: usize = 4096;

/// The log.
///
/// The order of core's locks, outermost first. A thread that holds one takes only later ones, and waits for
/// `syncing` and `writer` only while it holds no topic:
/// 1. `syncing`, held over a whole fsync; then `writer`, held over a round of writes
/// 2. `preparing`, then `manifest`, then `left_over`
/// 3. the broker's `threads`, those of `IoPool`, `Timers::serving`, `maintenance`: none under another; then
///    `changing` of a channel, then the registry
/// 4. a topic, then one of its channels, then `Blocks`; frames are committed to their topics under 1
/// 5. `assign`, then `cuts`
/// 6. `files`, `unsynced`, `room`, the reserve's then the health's, `RecordIndexes` then `Pool`, and those of
///    `Catalog`, the heap of `Timers`, the queue of `IoPool`, `Dirty`, `Watch` and `Announcement`
///
/// A `Wake` is called under those of 1 and `Timers::serving` at most, never under a topic, a channel or the
/// queue: it may take locks of its own, and waits for nothing.
pub(crate) struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) catalog: Arc<Catalog>,
    /// Bytes of frames after which a file is full, and the next begins.
    pub(super) file_bytes: u64,
    pub(super) manifest: Mutex<Manifest>,
    /// Names of files that no manifest to come will name.
    pub(super) left_over: Mutex<Vec<String>>,
    pub(super) assign: Mutex<Assign>,
    pub(super) writer: Mutex<Writer>,
    /// Files that may hold unsynced frames. Innermost.
    pub(super) files: Mutex<Files>,
    /// Held while the next file is made.
    pub(super) preparing: Mutex<()>,
    /// Held during an fsync.
    pub(super) syncing: Mutex<()>,
    /// Position up to which everything is written.
    pub(super) written: AtomicU64,
    /// Position up to which everything is fsync'd.
    pub(super) synced: AtomicU64,
    /// Frames that are written and wait for an fsync, in the order of their positions.
    pub(super) unsynced: Mutex<VecDeque<Unsynced>>,
    /// Bytes queued and not committed.
    pub(super) unwritten: AtomicU64,
    /// Wakers of those who wait for something to be written, or memory to be freed, by their address: who
    /// asks again is found at once, however many wait. The writer takes this lock after each write.
    room: Mutex<BTreeMap<usize, Arc<dyn Wake>>>,
    pub(super) epoch: AtomicU64,
    /// Positions at which the log was cut at each failure, with the epoch it ended.
    cuts: Mutex<VecDeque<(Epoch, LogPos, ErrorKind)>>,
    /// Faults that keep the log from its work.
    pub(super) health: Health,
    /// Whether the folder has a file that says so, see [`DOUBT_NAME`](super::rewrite::DOUBT_NAME).
    pub(super) has_doubt_file: AtomicBool,
    /// [`Disk::version`] when all files were last found by their names.
    pub(super) names_seen: AtomicU64,
    /// See [`Log::set_replaces_checkpoint`].
    pub(super) replaces_checkpoint: AtomicBool,
    /// Space for what must be written on a full disk.
    pub(super) reserve: Reserve,
    /// Whether the last write took long: then the log's own thread writes.
    pub(super) slow: AtomicBool,
    /// Whether the log has a thread of its own.
    pub(super) has_thread: AtomicBool,
    /// The log's own thread, unparked when it has something to do.
    pub(crate) log_thread: Arc<Parker>,
    /// The thread that fsyncs, unparked when something waits for it.
    pub(crate) sync_thread: Parker,
    pub(crate) counters: Counters,
}

/// Positions of the log when it is opened.
pub(crate) struct Opened {
    pub(crate) manifest: Manifest,
    pub(crate) writer: Writer,
    /// Files before the writer's that have no index yet.
    pub(crate) full: Vec<(FileHeader, Arc<dyn File>)>,
    /// Position after the last frame; all below is fsync'd.
    pub(crate) end: LogPos,
}

impl Log {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        catalog: Arc<Catalog>,
        file_bytes: u64,
        opened: Opened,
        log_thread: Arc<Parker>,
    ) -> Arc<Self> {
        let Opened { manifest, writer, full, end } = opened;
        let base = writer.header.base;
        let files = Files::new(&writer, full);
        Arc::new(Self {
            disk,
            catalog,
            file_bytes,
            manifest: Mutex::new(manifest),
            left_over: Mutex::default(),
            assign: Mutex::new(Assign {
                end,
                base,
                queue: VecDeque::new(),
                data_end: end,
                marked: LogPos(0),
            }),
            writer: Mutex::new(writer),
            files: Mutex::new(files),
            preparing: Mutex::new(()),
            syncing: Mutex::new(()),
            written: AtomicU64::new(end.0),
            synced: AtomicU64::new(end.0),
            unsynced: Mutex::default(),
            unwritten: AtomicU64::new(0),
            room: Mutex::default(),
            epoch: AtomicU64::new(1),
            cuts: Mutex::default(),
            health: Health::default(),
            has_doubt_file: AtomicBool::new(false),
            names_seen: AtomicU64::new(u64::MAX),
            replaces_checkpoint: AtomicBool::new(false),
            reserve: Reserve::new(file_bytes),
            slow: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            log_thread,
            sync_thread: Parker::default(),
            counters: Counters::default(),
        })
    }

    /// Queues a data frame of `topic`. `listener` is called when it is written, or has failed. `None`, and
    /// nothing queued, if `epoch` is given and is over: a write has failed since.
    pub(crate) fn enqueue(
        &self,
        topic: TopicNo,
        payload_crc: u32,
        queued: QueuedFrame,
        listener: Arc<dyn CommitListener>,
        wake: Option<Arc<dyn Wake>>,
        epoch: Option<Epoch>,
    ) -> Option<Ticket> {
        let Frame { first, count, time, has_ids, ref payload, .. } = queued.frame;
        let header = Header {
            kind: Kind::Data,
            payload_len: payload.len() as u32,
            count,
            topic,
            payload_crc,
            first,
            time,
            has_ids,
            synced_to: LogPos(0),
        };
        let synced = queued.synced;
        self.push(header, payload.clone(), synced, Some((listener, queued)), wake, epoch)
    }

    /// Queues a state frame with `count` encoded events. A state frame is never dropped: should writing
    /// fail, its ticket fails, and the frame is queued again.
    pub(crate) fn enqueue_state(
        &self,
        events: Vec<u8>,
        count: u32,
        time: Wall,
        wake: Option<Arc<dyn Wake>>,
        synced: bool,
    ) -> Ticket {
        let header = Header {
            kind: Kind::State,
            payload_len: events.len() as u32,
            count,
            topic: TopicNo::NONE,
            payload_crc: crc32c::crc32c(&events),
            first: Offset(0),
            time,
            has_ids: false,
            synced_to: LogPos(0),
        };
        self.push(header, events.into(), synced, None, wake, None).unwrap_or(Ticket::DONE)
    }

    /// Queues a mark if the log's end is synced and no frame says so yet. Returns whether it did.
    pub(crate) fn enqueue_mark(&self, time: Wall) -> bool {
        self.wants_mark() && self.push(mark(time), Bytes::new(), false, None, None, None).is_some()
    }

    /// A ticket like `earlier`, if that is not decided: for another one who waits for it, who is woken by
    /// `wake`.
    pub(crate) fn follow(&self, earlier: Ticket, time: Wall, wake: &Arc<dyn Wake>) -> Ticket {
        match self.outcome(earlier) {
            Outcome::Pending => {
                let wake = Some(wake.clone());
                let mark = self.push(mark(time), Bytes::new(), earlier.synced, None, wake, None);
                mark.unwrap_or(Ticket::DONE)
            }
            Outcome::Done | Outcome::Failed(_) => earlier,
        }
    }

    /// A ticket for all that was queued so far, for one who is woken by `wake` if it is given; fsync'd, if
    /// `synced`. `None` if `epoch` is over: a write has failed since.
    pub(crate) fn follow_all(
        &self,
        time: Wall,
        synced: bool,
        wake: Option<&Arc<dyn Wake>>,
        epoch: Epoch,
    ) -> Option<Ticket> {
        self.push(mark(time), Bytes::new(), synced, None, wake.cloned(), Some(epoch))
    }

    fn push(
        &self,
        header: Header,
        payload: Bytes,
        synced: bool,
        data: Option<(Arc<dyn CommitListener>, QueuedFrame)>,
        wake: Option<Arc<dyn Wake>>,
        epoch: Option<Epoch>,
    ) -> Option<Ticket> {
        let mut assign = self.assign.lock();
        let epoch_now = self.epoch();
        if epoch.is_some_and(|epoch| epoch != epoch_now) {
            return None;
        }
        let was_clean = assign.data_end <= self.synced();
        let entry = Entry { header, payload, position: LogPos(0), synced, data, wake };
        self.place(&mut assign, entry);
        let ticket = Ticket { epoch: epoch_now, position: assign.end, synced };
        drop(assign);
        if was_clean {
            self.log_thread.unpark();
            self.sync_thread.unpark();
        }
        Some(ticket)
    }

    /// Queues a frame at the log's end, in a next file where it does not fit.
    pub(super) fn place(&self, assign: &mut Assign, mut entry: Entry) {
        let len = entry.header.frame_len();
        if assign.end > assign.base && assign.end.since(assign.base) + len > self.file_bytes {
            assign.base = assign.end;
            assign.queue.push_back(Item::Roll { base: assign.end });
        }
        entry.header.synced_to = self.synced();
        assign.marked = assign.marked.max(entry.header.synced_to);
        entry.position = assign.end;
        assign.end = assign.end.plus(len);
        if entry.header.kind != Kind::Mark {
            assign.data_end = assign.end;
        }
        self.unwritten.fetch_add(len, Ordering::Relaxed);
        assign.queue.push_back(Item::Frame(entry));
    }

    /// The outcome of the frame that `ticket` was given for.
    pub(crate) fn outcome(&self, ticket: Ticket) -> Outcome {
        // Before the epoch: what is reached in a later one is another frame.
        let reached = if ticket.synced { self.synced() } else { self.written() };
        let decided = || if reached >= ticket.position { Outcome::Done } else { Outcome::Pending };
        if ticket.position == LogPos(0) {
            return Outcome::Done;
        }
        if ticket.epoch == self.epoch() {
            return decided();
        }
        let cuts = self.cuts.lock();
        let cut = cuts.iter().find(|(epoch, ..)| *epoch == ticket.epoch);
        match cut {
            Some((_, position, _)) if *position >= ticket.position => decided(),
            Some((_, _, kind)) => Outcome::Failed(match kind {
                ErrorKind::Full => Error::new(*kind, "the disk is full; nothing of this was stored"),
                _ => Error::new(*kind, "writing the log failed; nothing of this was stored"),
            }),
            None => Outcome::Failed(Error::new(ErrorKind::Io, "writing the log failed since")),
        }
    }

    /// Ends the epoch: everything above `position` failed with an error of `kind`.
    pub(super) fn cut(&self, position: LogPos, kind: ErrorKind) {
        let mut cuts = self.cuts.lock();
        cuts.push_back((self.epoch(), position, kind));
        if cuts.len() > CUTS_MAX {
            cuts.pop_front();
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Position up to which everything is written.
    pub(crate) fn written(&self) -> LogPos {
        LogPos(self.written.load(Ordering::Acquire))
    }

    /// Position up to which everything is fsync'd.
    pub(crate) fn synced(&self) -> LogPos {
        LogPos(self.synced.load(Ordering::Acquire))
    }

    /// Position after the last queued frame.
    pub(crate) fn end(&self) -> LogPos {
        self.assign.lock().end
    }

    /// Whether something other than a mark waits for an fsync.
    pub(crate) fn needs_sync(&self) -> bool {
        self.assign.lock().data_end > self.synced()
    }

    /// Whether the log's end is fsync'd and no frame says so yet.
    pub(crate) fn wants_mark(&self) -> bool {
        let assign = self.assign.lock();
        assign.data_end <= self.synced() && assign.marked < assign.data_end && !self.is_failing()
    }

    /// Whether an fsync that began now would acknowledge something.
    pub(crate) fn has_unsynced(&self) -> bool {
        // A writer lists what it has written before it says up to where: until then an fsync would
        // commit nothing.
        self.unsynced.lock().front().is_some_and(|next| next.end <= self.written())
    }

    /// Whether a full file is not fsync'd.
    pub(crate) fn has_full(&self) -> bool {
        !self.files.lock().full.is_empty()
    }

    /// The epoch that lasts.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Notes that there is a log thread, or no longer.
    pub(crate) fn set_thread(&self, has_thread: bool) {
        self.has_thread.store(has_thread, Ordering::Relaxed);
    }

    /// Log position of the checkpoint in force.
    pub(crate) fn checkpoint_position(&self) -> LogPos {
        self.manifest.lock().checkpoint.map_or(LogPos(0), |(_, position)| position)
    }

    /// A number for a new file. It is not used again by this process, named or not.
    pub(crate) fn take_file_no(&self) -> FileNo {
        let mut manifest = self.manifest.lock();
        let no = manifest.next_no;
        manifest.next_no = no.next();
        no
    }

    /// Has `wake` called after the next write, or when memory was freed.
    pub(crate) fn wait_for_room(&self, wake: &Arc<dyn Wake>) {
        let address = Arc::as_ptr(wake).addr();
        self.room.lock().entry(address).or_insert_with(|| Arc::clone(wake));
    }

    /// Wakes all that wait for room.
    pub(crate) fn wake_waiting(&self) {
        let waiting = std::mem::take(&mut *self.room.lock());
        waiting.values().for_each(|wake| wake.wake());
    }

    /// Drops what could not be written or fsync'd, at the end of the broker, and wakes who waits for it. It
    /// holds topics, and they hold the log.
    pub(crate) fn drop_queued(&self) {
        let queued = std::mem::take(&mut self.assign.lock().queue);
        let unsynced = std::mem::take(&mut *self.unsynced.lock());
        let of_queued = queued.into_iter().filter_map(|item| match item {
            Item::Frame(entry) => entry.wake,
            Item::Roll { .. } => None,
        });
        let of_unsynced = unsynced.into_iter().filter_map(|entry| entry.wake);
        of_queued.chain(of_unsynced).for_each(|wake| wake.wake());
    }

    /// Whether so much is unwritten that sessions should stop reading.
    pub(crate) fn is_congested(&self) -> bool {
        self.unwritten.load(Ordering::Relaxed) > UNWRITTEN_BYTES_MAX
    }

    /// Bytes queued and not acknowledged yet.
    pub(crate) fn unwritten(&self) -> u64 {
        self.unwritten.load(Ordering::Relaxed)
    }

    /// Whether frames wait to be written.
    pub(crate) fn has_queued(&self) -> bool {
        !self.assign.lock().queue.is_empty()
    }

    /// Notes how a task ended that is not the log's own.
    pub(crate) fn report<T>(&self, task: Task, result: &Result<T>) {
        self.health.report(task, result);
    }

    /// Whether anything fails.
    pub(crate) fn is_failing(&self) -> bool {
        self.health.is_failing()
    }

    /// Whether the disk was full and the reserve is not back.
    pub(crate) fn is_full(&self) -> bool {
        self.health.is_full()
    }

    /// Checks that a publish could be acknowledged.
    ///
    /// # Errors
    /// `Full` while the disk is full, `Io` while a file is suspect or the folder is not in its place.
    pub(crate) fn check(&self) -> Result<()> {
        if self.health.refuses() { self.health.check() } else { Ok(()) }
    }

    /// Whether the log can be written and fsync'd.
    ///
    /// # Errors
    /// Why it can't.
    pub(crate) fn health(&self) -> Result<()> {
        self.health.check()
    }

    /// Takes the reserve, unless it is there. With it, publishes are accepted again.
    ///
    /// # Errors
    /// `Full`, `Io`: there is no room for it.
    pub(crate) fn take_reserve(&self) -> Result<()> {
        self.reserve.take(&*self.disk, &self.health)
    }

    /// Releases the reserve: the disk is full. `false` if it was released already.
    pub(super) fn release_reserve(&self) -> bool {
        self.reserve.release(&*self.disk, &self.health)
    }
}
