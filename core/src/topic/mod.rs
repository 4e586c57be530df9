//! Topics: offsets and the pump position.
//!
//! - `publish`, `limits`: publishing, and what may wait; `dedup`: messages sent again are stored once
//! - `cache`: the frames in memory, and eviction to the log; `landing`: frames that were written, or refused
//! - `channels`: finding and creating channels; `admin`: changes by administrators
//! - `peek`: reading without consuming; `stats`: numbers
//! - `recovered`: a topic as it is opened; `damage`: a topic that is stopped
//!
//! A topic's state is plain data under one short mutex. Locks are taken in the order topic, channel, blocks,
//! log; the log's writer takes a topic's lock to land what was written, so nobody waits for the writer while
//! holding one.

mod admin;
pub(crate) mod cache;
mod channels;
mod damage;
mod dedup;
mod landing;
mod limits;
mod peek;
mod publish;
mod recovered;
mod settings;
mod stats;

pub use channels::{OpenedChannel, Start};
pub use damage::TopicDamage;
pub use publish::Published;
pub(crate) use recovered::OnDisk;
pub use settings::TopicSettings;
pub use stats::{ChannelReport, TopicStats};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::sync::Mutex;

use crate::broker::Shared;
use crate::channel::Channel;
use crate::clock::Wall;
use crate::config::{Dedup, Durability, Limits};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, Pos};
use crate::name::TopicName;
use crate::store::format::event::Event;
use crate::store::log::{Frame, Ticket, Wake};
use crate::store::memory::batch::Batch;
use crate::store::memory::chunk::Ring;
use crate::store::read::record_index::RecordIndexes;
use crate::topic::cache::{CachedFrame, Extents, RingFrames, Volume};
use crate::topic::dedup::DedupState;
use crate::topic::limits::Allowance;
use crate::watch::Announcement;

/// A topic: one log in logic, which its channels are cursors over.
///
/// ```
/// # use mq_core::{Attributes, Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let mut batch = orders.batch();
/// batch.push(&Attributes::NONE, b"one pizza")?;
/// batch.push(&Attributes::NONE, b"two salads")?;
/// orders.publish(batch, None)?.wait(&broker)?;
/// // They wait for a first channel.
/// assert_eq!(orders.depth(), 2);
/// # broker.close()
/// # }
/// ```
pub struct Topic {
    /// Never used again.
    pub(crate) no: u32,
    name: TopicName,
    pub(crate) shared: Arc<Shared>,
    me: Weak<Topic>,
    pub(crate) state: Mutex<TopicState>,
    /// Last offset of the oldest frame in memory; `u64::MAX` if there is none. What finishes past it trims
    /// memory.
    pub(crate) trim_at: AtomicU64,
    /// Places on disk of the messages that are delivered again.
    pub(crate) indexes: RecordIndexes,
    pub(crate) announcement: Announcement,
}

pub(crate) struct TopicState {
    pub(crate) level: Durability,
    /// Ticket of the frame that records the topic.
    pub(crate) created: Ticket,
    pub(crate) paused: bool,
    /// See [`Broker::hold_new_topics`](crate::Broker::hold_new_topics). Never outlives the process.
    pub(crate) is_held: bool,
    pub(crate) deleted: bool,
    /// The reason why the topic is stopped, if it is.
    pub(crate) damage: Option<TopicDamage>,
    /// Time of the newest message: a topic's time never goes back (I10).
    time: Wall,
    /// Next offset to hand out, and where its block ends; equal if a block must be drawn first.
    next: Offset,
    block_end: Offset,
    /// The log's epoch when the block was drawn: after a failed write offsets are lost, and a fresh block
    /// makes the gap one that no reader takes for damage.
    epoch: u64,
    /// Frames in the log's queue that have not landed. Level `memory` starts when there are none: order
    /// (I2).
    queued: u32,
    /// The part of them that lands only once it is fsync'd; with any, later ones do too, whatever the level
    /// is by then.
    syncing: u32,
    /// Messages and bytes in frames that are queued.
    queued_messages: u64,
    queued_bytes: u64,
    pub(crate) limits: Limits,
    pub(crate) dedup: Dedup,
    /// There while any is remembered.
    ids: Option<Box<DedupState>>,
    allowance: Allowance,
    /// After the last message that channels may see.
    pub(crate) end: Pos,
    /// Position at which a new channel starts. Equals `end` where the topic flows.
    pub(crate) pump: Pos,
    /// The pump position that the log knows, for topics without a lasting channel.
    pub(crate) pump_logged: Offset,
    pub(crate) ring: RingFrames,
    pub(crate) extents: Extents,
    pub(crate) volume: Volume,
    pub(crate) channels: Vec<Arc<Channel>>,
    /// Offsets from here on stand in no file: at level `memory`, their finishes need not be logged.
    pub(crate) spilled_end: Offset,
    pub(crate) message_count: u64,
    pub(crate) message_bytes: u64,
    /// Messages dropped at a limit before any channel had them.
    pub(crate) skipped: u64,
    /// Messages not stored because one with their id was.
    pub(crate) duplicates: u64,
    /// Ids forgotten before their time, since there were too many.
    pub(crate) ids_evicted: u64,
}

impl TopicState {
    /// A frame has left the log's queue.
    fn dequeue(&mut self, frame: &Frame) {
        self.queued -= 1;
        self.queued_messages -= u64::from(frame.count);
        self.queued_bytes -= frame.payload.len() as u64;
    }

    /// The state of a topic without messages.
    fn new(level: Durability, shared: &Shared) -> Self {
        Self {
            level,
            created: Ticket::DONE,
            paused: false,
            is_held: false,
            deleted: false,
            damage: None,
            time: 0,
            next: Offset(0),
            block_end: Offset(0),
            epoch: shared.log.epoch(),
            queued: 0,
            syncing: 0,
            queued_messages: 0,
            queued_bytes: 0,
            limits: Limits::default(),
            dedup: Dedup::default(),
            ids: None,
            allowance: Allowance::default(),
            end: Pos::default(),
            pump: Pos::default(),
            pump_logged: Offset(0),
            ring: RingFrames::new(shared.pool.clone()),
            extents: Extents::default(),
            volume: Volume::default(),
            channels: Vec::new(),
            spilled_end: Offset(0),
            message_count: 0,
            message_bytes: 0,
            skipped: 0,
            duplicates: 0,
            ids_evicted: 0,
        }
    }
}

impl Topic {
    /// A new topic.
    pub(crate) fn new(no: u32, name: TopicName, level: Durability, shared: &Arc<Shared>) -> Arc<Self> {
        let level = if name.is_ephemeral() { Durability::Memory } else { level };
        let state = TopicState { is_held: shared.watch.holds(), ..TopicState::new(level, shared) };
        Self::with_state(no, name, shared, state)
    }

    fn with_state(no: u32, name: TopicName, shared: &Arc<Shared>, state: TopicState) -> Arc<Self> {
        let announcement = Announcement::new(state.is_held);
        Arc::new_cyclic(|me| Self {
            no,
            name,
            shared: shared.clone(),
            me: me.clone(),
            state: Mutex::new(state),
            trim_at: AtomicU64::new(u64::MAX),
            indexes: RecordIndexes::new(shared.pool.clone()),
            announcement,
        })
    }

    /// The topic's name.
    pub fn name(&self) -> &TopicName {
        &self.name
    }

    /// The topic's number. Another topic of the same name, after a deletion, has another number.
    pub fn no(&self) -> u32 {
        self.no
    }

    /// Ticket of the frame that records the topic: for those who answer for its creation. Nobody is woken for
    /// it (see [`Broker::follow`](crate::Broker::follow)).
    pub fn created(&self) -> Ticket {
        self.state.lock().created
    }

    /// An empty batch for this topic. Makes room in memory first, so call it without holding another batch.
    pub fn batch(&self) -> Batch {
        self.shared.make_room();
        let ring = match self.state.lock().level {
            Durability::Memory => Ring::Held,
            Durability::Flush | Durability::Sync => Ring::Written,
        };
        self.shared.pool.batch(ring)
    }

    fn check(&self, state: &TopicState) -> Result<()> {
        if state.deleted || self.shared.is_closed() {
            return Err(Error::new(ErrorKind::Closed, format!("topic {} is closed", self.name)));
        }
        if let Some(damage) = &state.damage {
            return Err(damage.error(&self.name));
        }
        Ok(())
    }

    /// Makes a frame readable. Returns who is to be woken.
    fn append(&self, state: &mut TopicState, held: CachedFrame) -> Vec<Arc<dyn Wake>> {
        let (first, count) = (held.frame.first, u64::from(held.frame.count));
        let at = Pos { offset: first, rank: state.end.rank };
        state.extents.note(at);
        state.volume.note(at.rank, held.frame.payload.len() as u64, held.frame.time);
        state.end = Pos { offset: first.plus(count), rank: at.rank + count };
        let deferred = held.frame.deferred.then(|| held.frame.clone());
        if !(held.on_disk && self.shared.pool.was_evicted(held.chunk)) {
            if state.ring.is_empty() {
                self.trim_at.store(held.frame.last().0, Ordering::Relaxed);
            }
            state.ring.push(held);
        }
        self.flow(state, deferred.as_ref())
    }

    /// Whether messages go on to the channels.
    pub(crate) fn flows(state: &TopicState) -> bool {
        !state.channels.is_empty() && !state.paused && !state.is_held
    }

    /// Moves the pump position to the end where the topic flows, and passes it on to the channels. Returns
    /// who is to be woken.
    pub(crate) fn flow(&self, state: &mut TopicState, deferred: Option<&Frame>) -> Vec<Arc<dyn Wake>> {
        let mut wakes = Vec::new();
        if !Self::flows(state) {
            return wakes;
        }
        state.pump = state.end;
        for channel in &state.channels {
            wakes.extend(channel.advance(state, deferred));
        }
        if state.channels.iter().all(|c| c.is_ephemeral()) && !self.name.is_ephemeral() {
            self.shared.dirty.topic(&self.me);
        }
        wakes
    }

    /// Drops what is finished everywhere from memory.
    pub(crate) fn trim(&self) {
        self.trim_locked(&mut self.state.lock());
    }

    /// Forgets where messages stand that are gone or will not be delivered again.
    pub(crate) fn tidy_indexes(&self) {
        if self.indexes.is_empty() {
            return;
        }
        let state = self.state.lock();
        let may_come_again = state.channels.iter().any(|channel| channel.has_again());
        drop(state);
        self.indexes.tidy(may_come_again, |file| self.shared.catalog.has(file));
    }

    fn trim_locked(&self, state: &mut TopicState) {
        let low = Self::low(state);
        state.ring.trim(low);
        let rank = state.extents.seek(low, state.end).rank;
        state.volume.trim(rank);
        state.extents.trim(low);
        let first = state.ring.first_last().map_or(u64::MAX, |last| last.0);
        self.trim_at.store(first, Ordering::Relaxed);
    }

    /// Below this offset nothing is pending.
    pub(crate) fn low(state: &TopicState) -> Offset {
        let floors = state.channels.iter().map(|c| Offset(c.floor.load(Ordering::Relaxed)));
        floors.chain([state.pump.offset]).min().unwrap_or_default()
    }

    /// Messages that wait for a first channel, or for the topic to be unpaused.
    pub fn depth(&self) -> u64 {
        let state = self.state.lock();
        state.end.rank - state.pump.rank
    }

    /// Whether what happens to the topic goes to the log.
    pub(crate) fn is_logged(&self) -> bool {
        !self.name.is_ephemeral()
    }

    /// The event that records the topic as it is.
    pub(crate) fn event(&self, state: &TopicState) -> Event {
        // After a failed write the rest of the block stays unused, after a clean stop too.
        let is_over = state.epoch != self.shared.log.epoch();
        let next = if is_over { state.block_end } else { state.next };
        Event::Topic {
            topic: self.no,
            name: self.name.to_string(),
            level: state.level,
            paused: state.paused,
            pump: state.pump.offset,
            end: next.max(state.end.offset),
        }
    }
}
