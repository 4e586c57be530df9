//! The ids of a topic's messages: those in the window, and those that are on their way to the log.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::clock::Wall;
use crate::message::Offset;
use crate::store::format::ids::{self, IdHash, StoredId};
use crate::store::log::{Epoch, Log, Outcome, Ticket};
use crate::store::memory::chunk::Pool;
use crate::store::memory::frame::Frame;
use crate::topic::dedup::window::{DedupWindow, Known};

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
pub(in crate::topic) struct Found {
    /// Duplicates, in order, with what they are duplicates of.
    pub(in crate::topic) duplicates: Vec<(u32, Known)>,
    /// Whether any original is not acknowledged yet; if so, whether it waits for an fsync.
    pub(in crate::topic) waits: Option<bool>,
}

impl DedupState {
    /// The state of a topic whose log has `ids`, each once and in the order of their offsets.
    pub(in crate::topic) fn new(ids: Vec<StoredId>, pool: Arc<Pool>) -> Self {
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

    /// Removes the ids of publishes up to `until`.
    pub(in crate::topic) fn expire(&mut self, until: Wall) {
        self.window.expire(until);
    }

    /// Looks for the ids of a batch, and stages those that are new.
    pub(in crate::topic) fn look_up(&mut self, ids: &[(u32, IdHash)], log: &Log, epoch: Epoch) -> Found {
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

    /// Keeps the staged ids: their messages are `kept` ones from `first` on, in the frame of `ticket`.
    pub(in crate::topic) fn commit(&mut self, first: Offset, kept: u32, time: Wall, ticket: Ticket) {
        self.window.commit(first, time);
        if kept > 0 && !ticket.is_done() {
            let last = first.plus(u64::from(kept) - 1);
            self.on_way.push_back((first, last, ticket));
        }
    }

    /// Drops the staged ids: their messages were not stored.
    pub(in crate::topic) fn roll_back(&mut self) {
        self.window.roll_back();
    }

    /// Evicts the oldest ids beyond `max`; where memory for ids is short, at least as many as the `new` ones.
    /// Returns how many.
    pub(in crate::topic) fn make_room(&mut self, new: usize, max: usize) -> u64 {
        let max = match self.pool.is_full_of_ids() {
            true => max.min(self.window.len().saturating_sub(new)),
            false => max,
        };
        let evicted = self.window.trim(max) as u64;
        self.recharge();
        evicted
    }

    /// Removes the ids of publishes up to `until`, evicts the oldest beyond `max`, and gives memory back.
    /// Returns how many were evicted.
    pub(in crate::topic) fn maintain(&mut self, until: Wall, max: usize) -> u64 {
        self.window.expire(until);
        let evicted = self.window.trim(max) as u64;
        self.window.tidy();
        self.recharge();
        evicted
    }

    /// Number of ids in the window.
    pub(in crate::topic) fn len(&self) -> usize {
        self.window.len()
    }

    /// Whether there is no id, and none is on its way to the log.
    pub(in crate::topic) fn is_empty(&self) -> bool {
        self.window.len() == 0 && self.on_way.is_empty()
    }

    /// The ids in the window, in the order of their offsets.
    pub(in crate::topic) fn iter(&self) -> impl Iterator<Item = StoredId> {
        self.window.iter()
    }

    /// The ticket of the message at `offset`, if it is on its way to the log.
    fn ticket(&self, offset: Offset) -> Option<Ticket> {
        let at = self.on_way.partition_point(|(_, last, _)| *last < offset);
        self.on_way.get(at).filter(|(first, ..)| *first <= offset).map(|(.., ticket)| *ticket)
    }

    /// The outcome of the message at `offset`, if it is on its way. While `epoch` holds, it has not failed.
    fn fate(&self, offset: Offset, log: &Log, epoch: Epoch) -> Option<Outcome> {
        let ticket = self.ticket(offset)?;
        Some(if ticket.is_of(epoch) { Outcome::Pending } else { log.outcome(ticket) })
    }

    /// Notes that the frame that begins at `first` was written as its level wants it, or failed.
    pub(in crate::topic) fn arrived(&mut self, first: Offset) {
        let at = self.on_way.partition_point(|(other, ..)| *other < first);
        if self.on_way.get(at).is_some_and(|(other, ..)| *other == first) {
            self.on_way.remove(at);
        }
    }

    /// Removes the ids of a frame that was not stored: its messages can be sent again.
    pub(in crate::topic) fn failed(&mut self, frame: &Frame) {
        self.arrived(frame.first);
        for id in ids::in_records(&frame.payload, frame.first, frame.time) {
            self.window.remove(id.hash, id.offset);
        }
    }
}

impl Drop for DedupState {
    fn drop(&mut self) {
        self.pool.discharge_ids(self.charged);
    }
}
