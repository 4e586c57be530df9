//! Publishing: a batch becomes one frame, in the log's queue or in memory.

use std::sync::Arc;

use crate::blocks;
use crate::clock::Wall;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, SEQ_BITS};
use crate::store::log::{Epoch, QueuedFrame, Ticket};
use crate::store::memory::batch::{Batch, Payload};
use crate::store::memory::frame::Frame;
use crate::topic::cache::CachedFrame;
use crate::topic::dedup::Known;
use crate::topic::{Topic, TopicState};
use crate::wake::Wake;

/// The messages of a published batch: the offset of each, and the ticket that says when they are stored.
///
/// ```
/// # use mq_core::{Broker, Options};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// let orders = broker.topic(&"orders".parse()?)?;
/// let published = orders.publish_one(b"one pizza")?;
/// let (offset, is_duplicate) = published.offsets().next().unwrap();
/// assert!(!is_duplicate);
/// published.wait(&broker)?;
/// println!("stored at offset {}", offset.0);
/// # broker.close()
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "the messages are stored once the ticket is done"]
pub struct Published {
    /// Done when all of them are stored as the topic's level wants it, those that were stored before too.
    pub ticket: Ticket,
    /// Offset of the first message that was stored; those stored after it have the offsets that follow.
    first: Offset,
    count: u32,
    /// There only if some message was stored before: of each message its offset, and whether it was.
    placed: Option<Box<[(Offset, bool)]>>,
}

impl Published {
    /// A batch that was stored whole.
    pub(super) fn whole(ticket: Ticket, first: Offset, count: u32) -> Self {
        Self { ticket, first, count, placed: None }
    }

    /// The first that was stored and how many were, where so many are duplicates.
    pub(super) fn stored(&self, duplicates: usize) -> (Offset, u32) {
        (self.first, self.count - duplicates as u32)
    }

    /// Messages of the batch.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the batch was empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Number of them that were not stored, because a message with their id was before, or stands earlier in
    /// the batch.
    pub fn duplicates(&self) -> usize {
        self.placed.iter().flatten().filter(|(_, is_duplicate)| *is_duplicate).count()
    }

    /// The offset of each message of the batch, in order, and whether it is a duplicate. A duplicate has the
    /// offset of the message that was stored. The offsets are consecutive where there is no duplicate.
    pub fn offsets(&self) -> impl ExactSizeIterator<Item = (Offset, bool)> + '_ {
        (0..self.count).map(|at| match &self.placed {
            Some(placed) => placed.get(at as usize).copied().unwrap_or_default(),
            None => (self.first.plus(u64::from(at)), false),
        })
    }
}

/// A stored batch and the wakes that follow.
pub(super) struct Stored {
    pub(super) published: Published,
    /// The wakes to call once the topic's lock is released.
    pub(super) wakes: Vec<Arc<dyn Wake>>,
}

impl Stored {
    /// This, of the messages of a batch of `count` that are no duplicates.
    pub(super) fn with(mut self, count: u32, duplicates: &[(u32, Known)]) -> Self {
        let first = self.published.first;
        let mut known = duplicates.iter().peekable();
        let mut stored = 0;
        let place = |at| match known.next_if(|(duplicate, _)| *duplicate == at) {
            Some((_, Known::Stored(offset))) => (*offset, true),
            Some((_, Known::Staged(earlier))) => (first.plus(u64::from(*earlier)), true),
            None => {
                stored += 1;
                (first.plus(stored - 1), false)
            }
        };
        self.published.placed = Some((0..count).map(place).collect());
        self.published.count = count;
        self
    }
}

impl Topic {
    /// Publishes a batch as one frame, all or nothing, and gives its messages their offsets at once.
    ///
    /// A message with an id ([`Attributes::dedup_id`](crate::Attributes::dedup_id)) that the topic remembers
    /// is not stored again: it is answered as the one that was, no earlier than that is stored as its
    /// level wanted it. So a publish whose answer was lost can be sent again, until the window is over
    /// ([`Options::dedup_window`](crate::Options)), also after a crash.
    ///
    /// The ticket is done when the topic's level is met; call [`Broker::commit`](crate::Broker::commit) after
    /// the last batch of a burst, or [`Published::wait`]. `wake`, where one is given, is called when
    /// another thread decided the outcome. An empty batch is done at once.
    ///
    /// # Errors
    /// `Draining`; `Closed` if the topic was deleted or the broker is closing; `Damaged` if the topic is
    /// stopped; `Full`, `Io` if nothing can be stored.
    pub fn publish<'a>(&self, batch: Batch, wake: impl Into<Option<&'a Arc<dyn Wake>>>) -> Result<Published> {
        if !batch.is_empty() {
            self.shared.check_draining()?;
        }
        self.publish_batch(batch, wake.into())
    }

    /// [`Topic::publish`] of messages that the broker has already: one that is being emptied takes them too.
    pub(crate) fn publish_within(&self, batch: Batch) -> Result<Published> {
        self.publish_batch(batch, None)
    }

    fn publish_batch(&self, batch: Batch, wake: Option<&Arc<dyn Wake>>) -> Result<Published> {
        if batch.is_empty() {
            return Ok(Published::whole(Ticket::DONE, Offset(0), 0));
        }
        let payload = batch.finish(self.no);
        let blocks = u64::from(payload.count).div_ceil(1 << SEQ_BITS);
        blocks::reserve(&self.shared.blocks, blocks, &self.shared.log, self.shared.clock.wall())?;
        let now = self.shared.clock.wall();
        let mut state = self.state.lock();
        self.check(&state)?;
        let time = now.max(state.time);
        let Stored { published, wakes } = match payload.ids.is_empty() {
            true => self.store(&mut state, &payload, time, wake)?,
            false => self.store_once(&mut state, &payload, time, wake)?,
        };
        drop(state);
        wakes.iter().for_each(|wake| wake.wake());
        Ok(published)
    }

    /// Stores a batch whole, whatever ids it has.
    pub(super) fn store(
        &self,
        state: &mut TopicState,
        payload: &Payload,
        time: Wall,
        wake: Option<&Arc<dyn Wake>>,
    ) -> Result<Stored> {
        loop {
            if let Some(stored) = self.try_store(state, payload, time, wake, None)? {
                return Ok(stored);
            }
        }
    }

    /// [`Topic::store`], once. `None` if `epoch` is over, or a write has failed just now.
    pub(super) fn try_store(
        &self,
        state: &mut TopicState,
        payload: &Payload,
        time: Wall,
        wake: Option<&Arc<dyn Wake>>,
        epoch: Option<Epoch>,
    ) -> Result<Option<Stored>> {
        let (messages, bytes) = (u64::from(payload.count), payload.body_bytes());
        let in_memory = state.is_in_memory();
        if !in_memory {
            self.shared.log.check()?;
        }
        let mut wakes = self.admit(state, messages, payload.bytes.len() as u64)?;
        let (ticket, first) = if in_memory {
            if self.shared.pool.is_over() && !self.name.is_ephemeral() {
                return Err(Error::new(ErrorKind::Full, "memory is full and could not be spilled to disk"));
            }
            let first = self.allocate(state, payload.count)?;
            let more = self.take_in(state, payload, first, time);
            wakes = if wakes.is_empty() { more } else { wakes.into_iter().chain(more).collect() };
            (Ticket::DONE, first)
        } else {
            match self.enqueue(state, payload, time, wake, epoch)? {
                Some(queued) => queued,
                None => return Ok(None),
            }
        };
        state.time = time;
        state.message_count += messages;
        state.message_bytes += bytes;
        Ok(Some(Stored { published: Published::whole(ticket, first, payload.count), wakes }))
    }

    /// Gives a batch its offsets and queues it for the log. `None` if `epoch` is over, or a write has failed
    /// just now.
    fn enqueue(
        &self,
        state: &mut TopicState,
        payload: &Payload,
        time: Wall,
        wake: Option<&Arc<dyn Wake>>,
        epoch: Option<Epoch>,
    ) -> Result<Option<(Ticket, Offset)>> {
        let Some(me) = self.me.upgrade() else {
            return Err(Error::new(ErrorKind::Closed, format!("topic {} is closed", self.name)));
        };
        let synced = state.level == Durability::Sync || state.syncing > 0;
        let first = self.allocate(state, payload.count)?;
        if epoch.is_some_and(|epoch| epoch != state.epoch) {
            state.next = first;
            return Ok(None);
        }
        let queued =
            QueuedFrame { frame: payload.frame(first, time), chunk: payload.chunk, spilled: false, synced };
        let ticket =
            self.shared.log.enqueue(self.no, payload.crc, queued, me, wake.cloned(), Some(state.epoch));
        let Some(ticket) = ticket else {
            // These offsets stay unused, and so does the rest of the block.
            state.next = state.block_end;
            return Ok(None);
        };
        state.queued += 1;
        state.syncing += u32::from(synced);
        state.queued_messages += u64::from(payload.count);
        state.queued_bytes += payload.bytes.len() as u64;
        Ok(Some((ticket, first)))
    }

    /// Hands out `count` neighbouring offsets, from a fresh block where they don't fit the current one.
    fn allocate(&self, state: &mut TopicState, count: u32) -> Result<Offset> {
        let count = u64::from(count);
        let epoch = self.shared.log.epoch();
        if state.next.0 + count > state.block_end.0 || state.epoch != epoch {
            let blocks = count.div_ceil(1 << SEQ_BITS);
            let first = self.shared.blocks.lock().draw(blocks, &self.shared.log)?;
            state.next = Offset::of_block(first);
            state.block_end = Offset::of_block(first + blocks);
            state.epoch = epoch;
        }
        let first = state.next;
        state.next = first.plus(count);
        Ok(first)
    }

    /// Takes a published batch in at level `memory`. Returns who is to be woken.
    fn take_in(
        &self,
        state: &mut TopicState,
        payload: &Payload,
        first: Offset,
        time: Wall,
    ) -> Vec<Arc<dyn Wake>> {
        let frame = payload.frame(first, time);
        self.append(state, CachedFrame { frame, chunk: payload.chunk, on_disk: false, spilling: 0 })
    }
}

impl Payload {
    fn frame(&self, first: Offset, time: Wall) -> Frame {
        Frame {
            first,
            count: self.count,
            time,
            deferred: self.deferred,
            has_ids: !self.ids.is_empty(),
            payload: self.bytes.clone(),
            marks: self.marks.clone(),
        }
    }
}
