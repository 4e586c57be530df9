//! Publishing messages with an id: each is stored once. One that is sent again within the window gets the
//! answer of the first.

use std::sync::Arc;

use crate::clock::Wall;
use crate::config::{Dedup, Durability};
use crate::error::Result;
use crate::message::Offset;
use crate::store::format::frame::Record;
use crate::store::format::ids::StoredId;
use crate::store::log::{Epoch, Ticket};
use crate::store::memory::batch::Payload;
use crate::store::memory::chunk::Residency;
use crate::store::memory::frame::Frame;
use crate::topic::dedup::{DedupState, Found};
use crate::topic::publish::{Published, Stored};
use crate::topic::{Topic, TopicState};
use crate::wake::Wake;

/// Settings in force.
struct InForce {
    /// Time up to which publishes are forgotten; `None` if nothing is remembered.
    until: Option<Wall>,
    max_ids: usize,
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
            remembered.expire(until);
            let found = remembered.look_up(&payload.ids, &self.shared.log, epoch);
            let stored = self.store_rest(state, payload, &found, time, wake, epoch);
            // It was put there above.
            let Some(remembered) = &mut state.ids else { continue };
            match stored {
                Ok(Some(stored)) => {
                    let (first, kept) = stored.published.stored(found.duplicates.len());
                    remembered.commit(first, kept, time, stored.published.ticket);
                    let new = payload.ids.len() - found.duplicates.len();
                    state.ids_evicted += remembered.make_room(new, max_ids);
                    state.duplicates += found.duplicates.len() as u64;
                    return Ok(stored);
                }
                // A write has failed since, and what was found may be gone.
                Ok(None) => remembered.roll_back(),
                Err(error) => {
                    remembered.roll_back();
                    return Err(error);
                }
            }
        }
    }

    /// Stores the messages of a batch that are no duplicates. `None` if `epoch` is over.
    fn store_rest(
        &self,
        state: &mut TopicState,
        payload: &Payload,
        found: &Found,
        time: Wall,
        wake: Option<&Arc<dyn Wake>>,
        epoch: Epoch,
    ) -> Result<Option<Stored>> {
        if found.duplicates.is_empty() {
            return self.try_store(state, payload, time, wake, Some(epoch));
        }
        if found.duplicates.len() < payload.count as usize {
            let residency = if state.is_in_memory() { Residency::MemoryOnly } else { Residency::Logged };
            let rest = self.without(payload, found, residency)?;
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

    /// The batch without its duplicates.
    fn without(&self, payload: &Payload, found: &Found, residency: Residency) -> Result<Payload> {
        let mut batch = self.shared.pool.batch(residency);
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
            until: (window > 0).then(|| now.before(window)),
            max_ids: usize::try_from(max_ids).unwrap_or(usize::MAX),
        }
    }

    /// Removes ids that are older than the window, and the oldest of those that are too many.
    pub(in crate::topic) fn forget(&self, state: &mut TopicState) {
        let InForce { until, max_ids } = self.in_force(state, self.shared.clock.wall().max(state.time));
        let Some(until) = until else {
            state.ids = None;
            return;
        };
        let Some(remembered) = &mut state.ids else { return };
        state.ids_evicted += remembered.maintain(until, max_ids);
        if remembered.is_empty() {
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

    /// Adds the ids that recovery found, each once and in the order of their offsets.
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
        remembered.iter().filter(is_logged).collect()
    }
}

impl TopicState {
    /// Whether what is published now goes to memory alone.
    pub(in crate::topic) fn is_in_memory(&self) -> bool {
        self.level == Durability::Memory && self.queued == 0
    }

    /// Notes that a frame was written as its level wants it.
    pub(in crate::topic) fn ids_arrived(&mut self, frame: &Frame) {
        if frame.has_ids
            && let Some(remembered) = &mut self.ids
        {
            remembered.arrived(frame.first);
        }
    }

    /// Notes that a frame was not stored: its messages can be sent again.
    pub(in crate::topic) fn ids_failed(&mut self, frame: &Frame) {
        if frame.has_ids
            && let Some(remembered) = &mut self.ids
        {
            remembered.failed(frame);
        }
    }

    /// Number of ids in the window.
    pub(crate) fn ids_len(&self) -> u64 {
        self.ids.as_ref().map_or(0, |remembered| remembered.len() as u64)
    }
}
