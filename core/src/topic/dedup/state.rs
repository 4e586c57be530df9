//! Messages with an id are stored once: one that is sent again within the window gets the answer of the
//! first.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Wall;
use crate::config::{Dedup, Durability};
use crate::error::Result;
use crate::message::Offset;
use crate::store::format::frame::Record;
use crate::store::format::ids::{self, IdHash, StoredId};
use crate::store::log::{Frame, Log, Outcome, Ticket, Wake};
use crate::store::memory::batch::Payload;
use crate::store::memory::chunk::{Pool, Ring};
use crate::topic::dedup::window::{DedupWindow, Known};
use crate::topic::publish::{Published, Stored};
use crate::topic::{Topic, TopicState};

/// The ids of a topic's messages.
pub(crate) struct DedupState {
    window: DedupWindow,
    /// First and last offset of each frame with ids that is on its way to the log, in order.
    on_way: VecDeque<(Offset, Offset, Ticket)>,
    pool: Arc<Pool>,
    /// Bytes the pool counts.
    charged: usize,
}

/// Facts known of a batch's messages. The others are staged in the window.
struct Found {
    /// Duplicates, in order, with what they are duplicates of.
    duplicates: Vec<(u32, Known)>,
    /// Whether any original is not acknowledged yet; if so, whether it waits for an fsync.
    waits: Option<bool>,
}

/// Settings in force.
struct InForce {
    /// Time up to which publishes are forgotten; `None` if nothing is remembered.
    until: Option<Wall>,
    max_ids: usize,
}

impl DedupState {
    fn new(ids: Vec<StoredId>, pool: Arc<Pool>) -> Self {
        let mut new = Self { window: DedupWindow::new(ids), on_way: VecDeque::new(), pool, charged: 0 };
        new.recharge();
        new
    }

    fn recharge(&mut self) {
        let bytes = self.window.bytes();
        match bytes.checked_sub(self.charged) {
            Some(more) => self.pool.charge_ids(more),
            None => self.pool.discharge_ids(self.charged - bytes),
        }
        self.charged = bytes;
    }

    /// Looks for the ids of a batch, and stages those that are new.
    fn look_up(&mut self, ids: &[(u32, IdHash)], log: &Log, epoch: u64) -> Found {
        let mut found = Found { duplicates: Vec::new(), waits: None };
        for &(at, hash) in ids {
            let known = match self.window.find(hash) {
                Some(Known::Stored(offset)) => match self.fate(offset, log, epoch) {
                    // It has failed, and the topic is yet to hear of it.
                    Some(Outcome::Failed(_)) => {
                        self.window.remove(hash, offset);
                        None
                    }
                    Some(_) => {
                        let synced = self.ticket(offset).is_some_and(Ticket::is_synced);
                        found.waits = Some(found.waits.unwrap_or_default() | synced);
                        Some(Known::Stored(offset))
                    }
                    None => Some(Known::Stored(offset)),
                },
                known => known,
            };
            match known {
                Some(known) => found.duplicates.push((at, known)),
                None => self.window.stage(hash, at - found.duplicates.len() as u32),
            }
        }
        found
    }

    /// The ticket of the message at `offset`, if it is on its way to the log.
    fn ticket(&self, offset: Offset) -> Option<Ticket> {
        let at = self.on_way.partition_point(|(_, last, _)| *last < offset);
        self.on_way.get(at).filter(|(first, ..)| *first <= offset).map(|(.., ticket)| *ticket)
    }

    /// The outcome of the message at `offset`, if it is on its way. While `epoch` holds, it has not failed.
    fn fate(&self, offset: Offset, log: &Log, epoch: u64) -> Option<Outcome> {
        let ticket = self.ticket(offset)?;
        Some(if ticket.is_of(epoch) { Outcome::Pending } else { log.outcome(ticket) })
    }

    /// A frame has come to its end.
    fn arrived(&mut self, first: Offset) {
        let at = self.on_way.partition_point(|(other, ..)| *other < first);
        if self.on_way.get(at).is_some_and(|(other, ..)| *other == first) {
            self.on_way.remove(at);
        }
    }
}

impl Drop for DedupState {
    fn drop(&mut self) {
        self.pool.discharge_ids(self.charged);
    }
}

impl Topic {
    /// The topic's own settings for publishers' ids.
    pub fn dedup(&self) -> Dedup {
        self.state.lock().dedup
    }

    /// Settings in force: the topic's own, else the broker's.
    pub fn dedup_in_force(&self) -> Dedup {
        let own = self.dedup();
        let Dedup { window, max_ids } = self.shared.options.dedup();
        Dedup { window: own.window.or(window), max_ids: own.max_ids.or(max_ids) }
    }

    /// Stores those messages of a batch whose ids are new, and those without.
    pub(in crate::topic) fn store_once(
        &self,
        state: &mut TopicState,
        payload: &Payload,
        time: Wall,
        wake: Option<&Arc<dyn Wake>>,
    ) -> Result<Stored> {
        let InForce { until, max_ids } = self.in_force(state, time);
        let Some(until) = until else { return self.store(state, payload, time, wake) };
        let pool = &self.shared.pool;
        loop {
            let epoch = self.shared.log.epoch();
            let remembered =
                state.ids.get_or_insert_with(|| Box::new(DedupState::new(Vec::new(), pool.clone())));
            remembered.window.expire(until);
            let found = remembered.look_up(&payload.ids, &self.shared.log, epoch);
            let stored = self.store_rest(state, payload, &found, time, wake, epoch);
            // It was put there above.
            let Some(remembered) = &mut state.ids else { continue };
            match stored {
                Ok(Some(stored)) => {
                    let (first, kept) = stored.published.stored(found.duplicates.len());
                    remembered.window.commit(first, time);
                    if kept > 0 && !stored.published.ticket.is_done() {
                        let last = first.plus(u64::from(kept) - 1);
                        remembered.on_way.push_back((first, last, stored.published.ticket));
                    }
                    let mut max = max_ids;
                    if pool.is_full_of_ids() {
                        let new = payload.ids.len() - found.duplicates.len();
                        max = max.min(remembered.window.len().saturating_sub(new));
                    }
                    state.ids_evicted += remembered.window.trim(max) as u64;
                    remembered.recharge();
                    state.duplicates += found.duplicates.len() as u64;
                    return Ok(stored);
                }
                // A write has failed since, and what was found may be gone.
                Ok(None) => remembered.window.roll_back(),
                Err(error) => {
                    remembered.window.roll_back();
                    return Err(error);
                }
            }
        }
    }

    /// Stores what is new of a batch. `None` if `epoch` is over.
    fn store_rest(
        &self,
        state: &mut TopicState,
        payload: &Payload,
        found: &Found,
        time: Wall,
        wake: Option<&Arc<dyn Wake>>,
        epoch: u64,
    ) -> Result<Option<Stored>> {
        if found.duplicates.is_empty() {
            return self.try_store(state, payload, time, wake, Some(epoch));
        }
        if found.duplicates.len() < payload.count as usize {
            let ring = if state.is_in_memory() { Ring::Held } else { Ring::Written };
            let rest = self.without(payload, found, ring)?;
            let stored = self.try_store(state, &rest, time, wake, Some(epoch))?;
            // The ticket covers originals on their way too: its frame comes after theirs, and waits for an
            // fsync if they do.
            return Ok(stored.map(|stored| stored.with(payload.count, &found.duplicates)));
        }
        let ticket = match found.waits {
            None => Some(Ticket::DONE),
            Some(synced) => self.shared.log.follow_all(time, synced, wake, epoch),
        };
        Ok(ticket.map(|ticket| {
            let published = Published::whole(ticket, Offset(0), 0);
            Stored { published, wakes: Vec::new() }.with(payload.count, &found.duplicates)
        }))
    }

    /// The batch but for its duplicates.
    fn without(&self, payload: &Payload, found: &Found, ring: Ring) -> Result<Payload> {
        let mut batch = self.shared.pool.batch(ring);
        let mut duplicates = found.duplicates.iter().map(|(at, _)| *at).peekable();
        let mut rest = &payload.bytes[..];
        for at in 0..payload.count {
            let Some(record) = Record::parse(rest) else { break };
            if duplicates.next_if_eq(&at).is_none() {
                batch.push_record(&record, rest)?;
            }
            rest = &rest[record.len..];
        }
        let mut kept = batch.finish(self.no);
        kept.ids = payload.ids.clone();
        kept.ids.retain(|(at, _)| found.duplicates.binary_search_by_key(at, |(at, _)| *at).is_err());
        Ok(kept)
    }

    fn in_force(&self, state: &TopicState, now: Wall) -> InForce {
        let Dedup { window, max_ids } = self.shared.options.dedup();
        let window = state.dedup.window.or(window).unwrap_or_default();
        let window = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        let max_ids = state.dedup.max_ids.or(max_ids).unwrap_or_default();
        InForce {
            until: (window > 0).then(|| now.saturating_sub(window)),
            max_ids: usize::try_from(max_ids).unwrap_or(usize::MAX),
        }
    }

    /// Forgets ids whose time is over, or that are too many.
    pub(in crate::topic) fn forget(&self, state: &mut TopicState) {
        let InForce { until, max_ids } = self.in_force(state, self.shared.clock.wall().max(state.time));
        let Some(until) = until else {
            state.ids = None;
            return;
        };
        let Some(remembered) = &mut state.ids else { return };
        remembered.window.expire(until);
        state.ids_evicted += remembered.window.trim(max_ids) as u64;
        remembered.window.tidy();
        remembered.recharge();
        if remembered.window.len() == 0 && remembered.on_way.is_empty() {
            state.ids = None;
        }
    }

    /// [`Topic::forget`], for a tick.
    pub(crate) fn forget_ids(&self) {
        let mut state = self.state.lock();
        if state.ids.is_some() {
            self.forget(&mut state);
        }
    }

    /// Takes in the ids that recovery found, each once and in the order of their offsets.
    pub(in crate::topic) fn remember(&self, state: &mut TopicState, ids: Vec<StoredId>) {
        let pool = &self.shared.pool;
        if ids.is_empty() {
            return;
        }
        state.ids = Some(Box::new(DedupState::new(ids, pool.clone())));
        self.forget(state);
        if pool.is_full_of_ids() {
            tracing::warn!(
                "topic {} forgets the ids of its messages: there is no memory for them",
                self.name
            );
            state.ids = None;
        }
    }

    /// The ids a checkpoint records: of messages that the log has, or had. Not of those that are only in
    /// memory: a crash that takes them must take their ids too.
    pub(crate) fn logged_ids(&self, state: &TopicState) -> Vec<StoredId> {
        let Some(remembered) = &state.ids else { return Vec::new() };
        let until = self.in_force(state, state.time).until.unwrap_or(Wall::MAX);
        let mut held = state.ring.only_in_memory().peekable();
        let is_logged = |id: &StoredId| {
            while held.next_if(|(_, last)| *last < id.offset).is_some() {}
            id.time > until && held.peek().is_none_or(|(first, _)| id.offset < *first)
        };
        remembered.window.iter().filter(is_logged).collect()
    }
}

impl TopicState {
    /// Whether what is published now goes to memory alone.
    pub(in crate::topic) fn is_in_memory(&self) -> bool {
        self.level == Durability::Memory && self.queued == 0
    }

    /// A frame was written as its level wants it.
    pub(in crate::topic) fn ids_arrived(&mut self, frame: &Frame) {
        if frame.has_ids
            && let Some(remembered) = &mut self.ids
        {
            remembered.arrived(frame.first);
        }
    }

    /// A frame was not stored: its messages can be sent again.
    pub(in crate::topic) fn ids_failed(&mut self, frame: &Frame) {
        if frame.has_ids
            && let Some(remembered) = &mut self.ids
        {
            remembered.arrived(frame.first);
            for id in ids::in_records(&frame.payload, frame.first, frame.time) {
                remembered.window.remove(id.hash, id.offset);
            }
        }
    }

    /// Ids that are remembered.
    pub(crate) fn ids_len(&self) -> u64 {
        self.ids.as_ref().map_or(0, |remembered| remembered.window.len() as u64)
    }
}
