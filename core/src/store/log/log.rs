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

use crate::sync::Mutex;
use bytes::Bytes;

use crate::clock::Wall;
use crate::error::{Error, ErrorKind};
use crate::message::Offset;
use crate::parker::Parker;
use crate::stats::Counters;
use crate::store::disk::{Disk, File};
use crate::store::format::file::FileHeader;
use crate::store::format::frame::{Header, Kind};
use crate::store::format::manifest::Manifest;
use crate::store::log::reserve::Reserve;
use crate::store::log::trouble::Trouble;
use crate::store::log::writer::{Files, Writer};
use crate::store::memory::marks::Marks;
use crate::store::read::catalog::Catalog;

/// Something that waits for the broker: called when what it waits for may have happened.
/// [`Parker`](crate::Parker) is the one of a caller that blocks.
///
/// Calls must be cheap and never block. They come from any thread and may be spurious.
pub trait Wake: Send + Sync {
    /// Lets the waiting one look again.
    fn wake(&self);
}

/// Takes the frames of one topic as they are written, or fail to be.
pub(crate) trait Landing: Send + Sync {
    /// `frames` were written, or fsync'd where they waited for that, in order. The call empties the list.
    fn written(&self, frames: &mut Vec<Landed>);
    /// `frames` were not written and never will be. The call empties the list.
    fn failed(&self, frames: &mut Vec<Landed>);
}

/// A data frame on its way through the log.
pub(crate) struct Landed {
    pub(crate) frame: Frame,
    /// The chunk whose memory the frame uses.
    pub(crate) chunk: u64,
    /// Whether it was published at level `memory` and is only now written, as all or part of a frame in
    /// memory.
    pub(crate) spilled: bool,
    /// Whether it lands only once it is fsync'd.
    pub(crate) synced: bool,
}

/// The messages of a data frame in memory.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) first: Offset,
    pub(crate) count: u32,
    pub(crate) time: Wall,
    /// Whether any message may have a not-before time.
    pub(crate) deferred: bool,
    /// Whether any message may have a publisher's id.
    pub(crate) has_ids: bool,
    /// Its records.
    pub(crate) payload: Bytes,
    /// Positions of some of them.
    pub(crate) marks: Marks,
}

impl Frame {
    pub(crate) fn last(&self) -> Offset {
        self.first.plus(u64::from(self.count) - 1)
    }

    /// A record at or before that of `offset`, as near as the marks get: its place in the payload, and its
    /// offset.
    pub(crate) fn near(&self, offset: Offset) -> (usize, Offset) {
        let (index, at) = self.marks.before(offset.0 - self.first.0);
        (at, self.first.plus(index))
    }
}

/// A change on its way to the log. It is done once the change is stored as its topic's durability level wants
/// it: [`Ticket::wait`] blocks until then, [`Broker::outcome`](crate::Broker::outcome) looks.
///
/// ```
/// # use mq_core::{Broker, Options, Outcome};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let ticket = orders.pause()?;
/// ticket.wait(&broker)?;
/// assert!(matches!(broker.outcome(ticket), Outcome::Done));
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "nothing is stored before the ticket is done"]
pub struct Ticket {
    /// Number of failures to write before the frame was queued: positions are handed out again after a
    /// failure.
    epoch: u64,
    /// The position after the frame; 0 if it was acknowledged at once.
    position: u64,
    /// Whether it is acknowledged only once it is fsync'd.
    synced: bool,
}

impl Ticket {
    /// Done from the start.
    pub(crate) const DONE: Self = Self { epoch: 0, position: 0, synced: false };

    /// Whether it was done from the start: nothing has to be written.
    pub fn is_done(self) -> bool {
        self.position == 0
    }

    /// Whether it was given in `epoch`.
    pub(crate) fn is_of(self, epoch: u64) -> bool {
        self.epoch == epoch
    }

    /// Whether it waits for an fsync.
    pub(crate) fn is_synced(self) -> bool {
        self.synced
    }
}

/// The outcome of a frame.
#[derive(Debug)]
pub enum Outcome {
    /// Not decided yet.
    Pending,
    /// The topic's level is met.
    Done,
    /// It was not stored and never will be.
    Failed(Error),
}

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
/// 3. the broker's `maintenance`, then its registry
/// 4. a topic, then its channels, then `Blocks`; frames are landed in their topics under 1
/// 5. `assign`, then `cuts`
/// 6. `files`, `unsynced`, `room`, the reserve's then the trouble's, and those of `Catalog`, `Pool`, `Timers`
///    and `Dirty`
pub(crate) struct Log {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) catalog: Arc<Catalog>,
    /// Bytes of frames after which a file is followed by the next.
    pub(super) file_bytes: u64,
    pub(super) manifest: Mutex<Manifest>,
    /// Names of files that no manifest to come will name.
    pub(super) left_over: Mutex<Vec<String>>,
    pub(super) assign: Mutex<Assign>,
    pub(super) writer: Mutex<Writer>,
    /// Files that may hold unsynced frames. Innermost.
    pub(super) files: Mutex<Files>,
    /// Held by who makes the next file.
    pub(super) preparing: Mutex<()>,
    /// Held by who fsyncs.
    pub(super) syncing: Mutex<()>,
    /// Position up to which everything is written.
    pub(super) written: AtomicU64,
    /// Position up to which everything is fsync'd.
    pub(super) synced: AtomicU64,
    /// Frames that are written and wait for an fsync to land, in the order of their positions.
    pub(super) unsynced: Mutex<VecDeque<Unsynced>>,
    /// Bytes queued and not landed.
    pub(super) unwritten: AtomicU64,
    /// Wakers of those who wait for something to be written, or given up, by their address: who asks again is
    /// found at once, however many wait. The writer takes this lock after each write.
    room: Mutex<BTreeMap<usize, Arc<dyn Wake>>>,
    pub(super) epoch: AtomicU64,
    /// Positions at which the log was cut at each failure, with the epoch it ended.
    cuts: Mutex<VecDeque<(u64, u64, ErrorKind)>>,
    /// Faults that keep the log from its work.
    pub(super) trouble: Trouble,
    /// Whether the folder has a file that says so, see [`DOUBT_NAME`](super::healing::DOUBT_NAME).
    pub(super) doubt_told: AtomicBool,
    /// [`Disk::version`] when all files were last found by their names.
    pub(super) names_seen: AtomicU64,
    /// See [`Log::set_replaces_checkpoint`].
    pub(super) replaces_checkpoint: AtomicBool,
    /// Space for what must be written on a full disk.
    pub(super) reserve: Reserve,
    /// The last write took long: the log's own thread writes.
    pub(super) slow: AtomicBool,
    /// Whether there is such a thread.
    pub(super) has_thread: AtomicBool,
    /// Rung when the log's thread has something to do.
    pub(crate) bell: Arc<Parker>,
    /// Rung when something waits for an fsync.
    pub(crate) sync_bell: Parker,
    pub(crate) counters: Counters,
}

/// Numbers to be handed out next.
pub(super) struct Assign {
    /// Position after the last queued frame.
    pub(super) end: u64,
    /// Base of the file that frame went to.
    pub(super) base: u64,
    pub(super) queue: VecDeque<Item>,
    /// Position after the last queued frame that is no mark.
    pub(super) data_end: u64,
    /// Greatest `synced_to` that a queued frame carries.
    pub(super) marked: u64,
}

/// One thing for the writer to do.
pub(super) enum Item {
    /// Go on in a new file.
    Roll { base: u64 },
    /// Write a frame.
    Frame(Entry),
}

pub(super) struct Entry {
    pub(super) header: Header,
    pub(super) payload: Bytes,
    /// Position of the frame.
    pub(super) position: u64,
    /// Whether it is acknowledged only once it is fsync'd.
    pub(super) synced: bool,
    pub(super) landing: Option<(Arc<dyn Landing>, Landed)>,
    pub(super) wake: Option<Arc<dyn Wake>>,
}

/// A written frame that waits for an fsync.
pub(super) struct Unsynced {
    /// Position after the frame.
    pub(super) end: u64,
    /// Its bytes.
    pub(super) len: u64,
    pub(super) landing: Option<(Arc<dyn Landing>, Landed)>,
    pub(super) wake: Option<Arc<dyn Wake>>,
}

/// Positions of the log when it is opened.
pub(crate) struct Opened {
    pub(crate) manifest: Manifest,
    pub(crate) writer: Writer,
    /// Files before the writer's that have no index yet.
    pub(crate) full: Vec<(FileHeader, Arc<dyn File>)>,
    /// Position after the last frame; all below is fsync'd.
    pub(crate) end: u64,
}

impl Log {
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        catalog: Arc<Catalog>,
        file_bytes: u64,
        opened: Opened,
        bell: Arc<Parker>,
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
            assign: Mutex::new(Assign { end, base, queue: VecDeque::new(), data_end: end, marked: 0 }),
            writer: Mutex::new(writer),
            files: Mutex::new(files),
            preparing: Mutex::new(()),
            syncing: Mutex::new(()),
            written: AtomicU64::new(end),
            synced: AtomicU64::new(end),
            unsynced: Mutex::default(),
            unwritten: AtomicU64::new(0),
            room: Mutex::default(),
            epoch: AtomicU64::new(1),
            cuts: Mutex::default(),
            trouble: Trouble::default(),
            doubt_told: AtomicBool::new(false),
            names_seen: AtomicU64::new(u64::MAX),
            replaces_checkpoint: AtomicBool::new(false),
            reserve: Reserve::new(file_bytes),
            slow: AtomicBool::new(false),
            has_thread: AtomicBool::new(false),
            bell,
            sync_bell: Parker::default(),
            counters: Counters::default(),
        })
    }

    /// Queues a data frame of `topic`. `landing` hears when it is written. `None`, and nothing queued, if
    /// `epoch` is given and is over: a write has failed since.
    pub(crate) fn enqueue(
        &self,
        topic: u32,
        payload_crc: u32,
        landed: Landed,
        landing: Arc<dyn Landing>,
        wake: Option<Arc<dyn Wake>>,
        epoch: Option<u64>,
    ) -> Option<Ticket> {
        let Frame { first, count, time, has_ids, ref payload, .. } = landed.frame;
        let header = Header {
            kind: Kind::Data,
            payload_len: payload.len() as u32,
            count,
            topic,
            payload_crc,
            first,
            time,
            has_ids,
            synced_to: 0,
        };
        let synced = landed.synced;
        self.push(header, payload.clone(), synced, Some((landing, landed)), wake, epoch)
    }

    /// Queues a state frame with `count` encoded events. A state frame is never given up: should writing
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
            topic: 0,
            payload_crc: crc32c::crc32c(&events),
            first: Offset(0),
            time,
            has_ids: false,
            synced_to: 0,
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
        epoch: u64,
    ) -> Option<Ticket> {
        self.push(mark(time), Bytes::new(), synced, None, wake.cloned(), Some(epoch))
    }

    fn push(
        &self,
        header: Header,
        payload: Bytes,
        synced: bool,
        landing: Option<(Arc<dyn Landing>, Landed)>,
        wake: Option<Arc<dyn Wake>>,
        epoch: Option<u64>,
    ) -> Option<Ticket> {
        let mut assign = self.assign.lock();
        let epoch_now = self.epoch();
        if epoch.is_some_and(|epoch| epoch != epoch_now) {
            return None;
        }
        let was_clean = assign.data_end <= self.synced();
        let entry = Entry { header, payload, position: 0, synced, landing, wake };
        self.place(&mut assign, entry);
        let ticket = Ticket { epoch: epoch_now, position: assign.end, synced };
        drop(assign);
        if was_clean {
            self.bell.unpark();
            self.sync_bell.unpark();
        }
        Some(ticket)
    }

    /// Queues a frame at the log's end, in a next file where it does not fit.
    pub(super) fn place(&self, assign: &mut Assign, mut entry: Entry) {
        let len = entry.header.frame_len();
        if assign.end > assign.base && assign.end - assign.base + len > self.file_bytes {
            assign.base = assign.end;
            assign.queue.push_back(Item::Roll { base: assign.end });
        }
        entry.header.synced_to = self.synced();
        assign.marked = assign.marked.max(entry.header.synced_to);
        entry.position = assign.end;
        assign.end += len;
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
        if ticket.position == 0 {
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
    pub(super) fn cut(&self, position: u64, kind: ErrorKind) {
        let mut cuts = self.cuts.lock();
        cuts.push_back((self.epoch(), position, kind));
        if cuts.len() > CUTS_MAX {
            cuts.pop_front();
        }
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Position up to which everything is written.
    pub(crate) fn written(&self) -> u64 {
        self.written.load(Ordering::Acquire)
    }

    /// Position up to which everything is fsync'd.
    pub(crate) fn synced(&self) -> u64 {
        self.synced.load(Ordering::Acquire)
    }

    /// Position after the last queued frame.
    pub(crate) fn end(&self) -> u64 {
        self.assign.lock().end
    }

    /// Whether something other than a mark waits for an fsync.
    pub(crate) fn needs_sync(&self) -> bool {
        self.assign.lock().data_end > self.synced()
    }

    /// Whether the log's end is fsync'd and no frame says so yet.
    pub(crate) fn wants_mark(&self) -> bool {
        let assign = self.assign.lock();
        assign.data_end <= self.synced() && assign.marked < assign.data_end && !self.is_troubled()
    }

    /// Whether an fsync that began now would acknowledge something.
    pub(crate) fn has_unsynced(&self) -> bool {
        // A writer lists what it has written before it says up to where: until then an fsync would land
        // nothing.
        self.unsynced.lock().front().is_some_and(|next| next.end <= self.written())
    }

    /// Whether a full file is not fsync'd.
    pub(crate) fn has_full(&self) -> bool {
        !self.files.lock().full.is_empty()
    }

    /// Number of failures to write so far, and one.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Notes that a thread listens to the bell, or no longer does.
    pub(crate) fn set_thread(&self, has_thread: bool) {
        self.has_thread.store(has_thread, Ordering::Relaxed);
    }

    /// Log position of the checkpoint in force.
    pub(crate) fn checkpoint_position(&self) -> u64 {
        self.manifest.lock().checkpoint.map_or(0, |(_, position)| position)
    }

    /// A number for a new file. It is not used again by this process, named or not.
    pub(crate) fn take_file_no(&self) -> u64 {
        let mut manifest = self.manifest.lock();
        manifest.next_no += 1;
        manifest.next_no - 1
    }

    /// Has `wake` called after the next write, or when memory was given up.
    pub(crate) fn wait_for_room(&self, wake: &Arc<dyn Wake>) {
        let address = Arc::as_ptr(wake).addr();
        self.room.lock().entry(address).or_insert_with(|| Arc::clone(wake));
    }

    /// Wakes who waits for room.
    pub(crate) fn tell_room(&self) {
        let waiting = std::mem::take(&mut *self.room.lock());
        waiting.values().for_each(|wake| wake.wake());
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
}

/// A frame that holds nothing.
fn mark(time: Wall) -> Header {
    Header {
        kind: Kind::Mark,
        payload_len: 0,
        count: 0,
        topic: 0,
        payload_crc: 0,
        first: Offset(0),
        time,
        has_ids: false,
        synced_to: 0,
    }
}
