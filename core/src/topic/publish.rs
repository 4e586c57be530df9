//! Publishing: a batch becomes one frame, in the log's queue or in memory.

use std::sync::Arc;

use crate::blocks;
use crate::clock::Wall;
use crate::config::Durability;
use crate::error::{Error, ErrorKind, Result};
use crate::message::{Offset, SEQ_BITS};
use crate::store::chunk::{Batch, Payload};
use crate::store::log::{Frame, Landed, Ticket, Wake};
use crate::topic::ring::Held;
use crate::topic::{Topic, TopicState};

/// What became of the messages of a batch: where each of them stands, and when that holds.
#[derive(Clone, Debug)]
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

    /// Messages of the batch.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether the batch was empty.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many of them were not stored, because a message with their id was before, or stands earlier in the batch.
    pub fn duplicates(&self) -> usize {
        self.placed.iter().flatten().filter(|(_, is_duplicate)| *is_duplicate).count()
    }

    /// Of each message of the batch, in order, its offset and whether it is a duplicate. A duplicate has the offset of the
    /// message that was stored. The offsets are consecutive where there is no duplicate.
    pub fn offsets(&self) -> impl ExactSizeIterator<Item = (Offset, bool)> + '_ {
        (0..self.count).map(|at| match &self.placed {
            Some(placed) => placed.get(at as usize).copied().unwrap_or_default(),
            None => (self.first.plus(u64::from(at)), false),
        })
    }
}

impl Topic {
    /// Publishes a batch as one frame, all or nothing, and gives its messages their offsets at once.
    ///
    /// The ticket is done when the topic's level is met; call [`Broker::commit`](crate::Broker::commit) after the last
    /// batch of a burst. `wake` is called when another thread decided the outcome. An empty batch is done at once.
    ///
    /// # Errors
    /// `Draining`; `Closed` if the topic was deleted or the broker is closing; `Damaged` if the topic is stopped; `Full`, `Io` if
    /// nothing can be stored.
    pub fn publish(&self, batch: Batch, wake: &Arc<dyn Wake>) -> Result<Published> {
        if batch.is_empty() {
            return Ok(Published::whole(Ticket::DONE, Offset(0), 0));
        }
        self.shared.check_draining()?;
        let payload = batch.finish(self.no);
        let blocks = u64::from(payload.count).div_ceil(1 << SEQ_BITS);
        blocks::reserve(&self.shared.blocks, blocks, &self.shared.log, self.shared.clock.wall())?;
        let (messages, bytes) = (u64::from(payload.count), payload.body_bytes());
        let now = self.shared.clock.wall();
        let mut state = self.state.lock();
        self.check(&state)?;
        let time = now.max(state.time);
        let in_memory = state.level == Durability::Memory && state.queued == 0;
        if !in_memory {
            self.shared.log.check()?;
        }
        let dropped = self.admit(&mut state, messages, payload.bytes.len() as u64)?;
        let count = payload.count;
        let (ticket, first) = if in_memory {
            if self.shared.pool.is_over() && !self.name.is_ephemeral() {
                return Err(Error::new(ErrorKind::Full, "memory is full and could not be spilled to disk"));
            }
            let first = self.allocate(&mut state, payload.count)?;
            let wakes = self.take_in(&mut state, payload, first, time);
            drop(state);
            wakes.iter().for_each(|w| w.wake());
            state = self.state.lock();
            (Ticket::DONE, first)
        } else {
            self.enqueue(&mut state, payload, time, wake)?
        };
        state.time = time;
        state.message_count += messages;
        state.message_bytes += bytes;
        drop(state);
        dropped.iter().for_each(|wake| wake.wake());
        Ok(Published::whole(ticket, first, count))
    }

    /// Gives a batch its offsets and queues it for the log.
    fn enqueue(
        &self,
        state: &mut TopicState,
        payload: Payload,
        time: Wall,
        wake: &Arc<dyn Wake>,
    ) -> Result<(Ticket, Offset)> {
        let Some(me) = self.me.upgrade() else {
            return Err(Error::new(ErrorKind::Closed, format!("topic {} is closed", self.name)));
        };
        let Payload { bytes, count, crc, deferred, chunk } = payload;
        let synced = state.level == Durability::Sync || state.syncing > 0;
        loop {
            let first = self.allocate(state, count)?;
            let frame = Frame { first, count, time, deferred, payload: bytes.clone() };
            let landed = Landed { frame, chunk, spilled: false, synced };
            let ticket = self.shared.log.enqueue(
                self.no,
                crc,
                landed,
                me.clone(),
                Some(wake.clone()),
                Some(state.epoch),
            );
            if let Some(ticket) = ticket {
                state.queued += 1;
                state.syncing += u32::from(synced);
                state.queued_messages += u64::from(count);
                state.queued_bytes += bytes.len() as u64;
                return Ok((ticket, first));
            }
            // A write failed just now: these offsets stay unused, and so does the rest of the block.
            state.next = state.block_end;
        }
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
        payload: Payload,
        first: Offset,
        time: Wall,
    ) -> Vec<Arc<dyn Wake>> {
        let Payload { bytes, count, deferred, chunk, .. } = payload;
        let frame = Frame { first, count, time, deferred, payload: bytes };
        self.append(state, Held { frame, chunk, on_disk: false, spilling: 0 })
    }
}
