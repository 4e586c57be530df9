//! A topic: its names, its frames on their way to the channels, and what it forgets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use crate::store::format::numbers::TopicNo;
use crate::sync::Mutex;

use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, Pos};
use crate::name::TopicName;
use crate::shared::Shared;
use crate::store::format::event::Event;
use crate::store::log::Ticket;
use crate::store::memory::batch::Batch;
use crate::store::memory::chunk::Residency;
use crate::store::memory::frame::Frame;
use crate::store::read::record_index::RecordIndexes;
use crate::topic::TopicState;
use crate::topic::announcement::Announcement;
use crate::topic::cache::CachedFrame;
use crate::wake::Wake;

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
    /// Its number, which no other topic ever gets.
    pub(crate) no: TopicNo,
    pub(super) name: TopicName,
    pub(crate) shared: Arc<Shared>,
    pub(super) me: Weak<Topic>,
    pub(crate) state: Mutex<TopicState>,
    /// Last offset of the oldest frame in memory; `u64::MAX` if there is none. What finishes past it trims
    /// memory.
    pub(crate) trim_at: AtomicU64,
    /// Places on disk of the messages that are delivered again.
    pub(crate) indexes: RecordIndexes,
    pub(crate) announcement: Announcement,
}

impl Topic {
    /// A new topic.
    pub(crate) fn new(no: TopicNo, name: TopicName, level: Durability, shared: &Arc<Shared>) -> Arc<Self> {
        let level = if name.is_ephemeral() { Durability::Memory } else { level };
        let state = TopicState { is_held: shared.watch.holds(), ..TopicState::new(level, shared) };
        Self::with_state(no, name, shared, state)
    }

    pub(super) fn with_state(
        no: TopicNo,
        name: TopicName,
        shared: &Arc<Shared>,
        state: TopicState,
    ) -> Arc<Self> {
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
    pub fn no(&self) -> TopicNo {
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
        let residency = match self.state.lock().level {
            Durability::Memory => Residency::MemoryOnly,
            Durability::Flush | Durability::Sync => Residency::Logged,
        };
        self.shared.pool.batch(residency)
    }

    pub(super) fn check(&self, state: &TopicState) -> Result<()> {
        if state.deleted || self.shared.is_closed() {
            return Err(Error::new(ErrorKind::Closed, format!("topic {} is closed", self.name)));
        }
        if let Some(damage) = &state.damage {
            return Err(damage.error(&self.name));
        }
        Ok(())
    }

    /// Makes a frame readable. Returns who is to be woken.
    pub(super) fn append(&self, state: &mut TopicState, cached: CachedFrame) -> Vec<Arc<dyn Wake>> {
        let (first, count) = (cached.frame.first, u64::from(cached.frame.count));
        let at = Pos { offset: first, rank: state.end.rank };
        state.extents.note(at);
        state.volume.note(at.rank, cached.frame.payload.len() as u64, cached.frame.time);
        state.end = Pos { offset: first.plus(count), rank: at.rank + count };
        let deferred = cached.frame.deferred.then(|| cached.frame.clone());
        if !(cached.on_disk && self.shared.pool.was_evicted(cached.chunk)) {
            if state.ring.is_empty() {
                self.trim_at.store(cached.frame.last().0, Ordering::Relaxed);
            }
            state.ring.push(cached);
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
        let may_redeliver = state.channels.iter().any(|channel| channel.may_redeliver());
        drop(state);
        self.indexes.tidy(may_redeliver, |file| self.shared.catalog.has(file));
    }

    pub(super) fn trim_locked(&self, state: &mut TopicState) {
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
