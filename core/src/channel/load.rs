//! Reads from disk for a channel.

use std::collections::HashSet;
use std::sync::Arc;

use crate::channel::channel::Inner;
use crate::channel::{Channel, DeadLetter};
use crate::io_pool;
use crate::message::Offset;
use crate::store::read::{reader, records};
use crate::topic::{Topic, TopicDamage, TopicState};

/// A read that a channel waits for.
pub(crate) struct Load {
    pub(crate) channel: Arc<Channel>,
    pub(crate) wanted: Wanted,
}

/// The messages that a channel wants read.
pub(crate) enum Wanted {
    /// The first at or after this offset, and those that follow: to be delivered for the first time.
    FirstDelivery(Offset),
    /// These, in the order in which they are to be delivered again.
    Redeliveries(Vec<Offset>),
    /// These, to be moved to the dead letter topic.
    DeadLetters(Vec<DeadLetter>),
}

/// Redeliveries that are read together, at most.
const REDELIVERIES_MAX: usize = 1_000;

impl io_pool::Read for Load {
    fn run(&self) {
        self.read(false);
    }
}

impl Load {
    /// Reads, and hands the channel what was read. `false` if `nowait` and a disk would have to be waited
    /// for.
    pub(super) fn read(&self, nowait: bool) -> bool {
        let Some(topic) = self.channel.topic() else { return true };
        match &self.wanted {
            Wanted::FirstDelivery(from) => self.read_on(&topic, *from, nowait),
            Wanted::Redeliveries(offsets) => self.read_redeliveries(&topic, offsets, nowait),
            Wanted::DeadLetters(dead) => {
                self.channel.move_dead_letters(&topic, dead);
                true
            }
        }
    }

    fn read_on(&self, topic: &Topic, from: Offset, nowait: bool) -> bool {
        let shared = &self.channel.shared;
        // Where some messages come again, those that are read now are likely to.
        let some_are_deferred = self.channel.inner.lock().state.deferred() > 0;
        let indexes = some_are_deferred.then_some(&topic.indexes);
        let read = reader::read(&shared.catalog, indexes, topic.no, from, shared.read_bytes(), nowait);
        let frames = match read {
            Ok(None) => return false,
            Ok(Some(frames)) => frames,
            Err(error) => {
                topic.stop(TopicDamage::met(from, &error.to_string()));
                Vec::new()
            }
        };
        if frames.first().is_none_or(|f| f.first > from) {
            self.channel.missing(topic, from);
        }
        self.channel.loaded(|inner| inner.first_delivery.fill(frames, &shared.pool));
        true
    }

    fn read_redeliveries(&self, topic: &Topic, offsets: &[Offset], nowait: bool) -> bool {
        let shared = &self.channel.shared;
        let kept = self.channel.inner.lock().redelivery.bytes() as u64;
        let room = shared.read_bytes().saturating_sub(kept);
        let read = records::read(&shared.catalog, &topic.indexes, topic.no, offsets, room, nowait);
        let found = match read {
            Ok(None) => return false,
            Ok(Some(found)) => found,
            Err(error) => {
                let first = offsets.iter().min().copied().unwrap_or_default();
                topic.stop(TopicDamage::met(first, &error.to_string()));
                records::Found::default()
            }
        };
        if !found.missing.is_empty() {
            self.channel.missing_redeliveries(topic, &found.missing);
        }
        self.channel.loaded(|inner| inner.redelivery.add(found.frames, &shared.pool));
        true
    }
}

impl Inner {
    /// The messages to be delivered again next that are neither in memory nor read ahead, in that order. What
    /// was read ahead and is not among the next is dropped.
    pub(super) fn wanted_redeliveries(&mut self, topic: &TopicState) -> Vec<Offset> {
        let mut next = self.state.upcoming(REDELIVERIES_MAX);
        let mut sorted = next.clone();
        sorted.sort_unstable();
        self.redelivery.keep(&sorted);
        next.retain(|offset| topic.ring.find(*offset).is_none() && !self.redelivery.has(*offset));
        next
    }
}

impl Channel {
    /// `offset` was to be delivered but stands in no file. An ephemeral channel goes on after it; for any
    /// other it is damage, unless it was emptied meanwhile.
    fn missing(&self, topic: &Topic, offset: Offset) {
        let state = topic.state.lock();
        if state.ring.find(offset).is_some() {
            return;
        }
        if self.is_ephemeral() || !topic.is_logged() {
            let from = state.ring.after(offset).map_or(state.end.offset, |f| f.first);
            self.jump(state.extents.seek(from, state.end));
            return;
        }
        drop(state);
        self.stop_if_pending(topic, &[offset]);
    }

    /// `offsets` were to be delivered again but stand in no file. An ephemeral channel drops them; for any
    /// other they are damage, unless they were emptied meanwhile.
    fn missing_redeliveries(&self, topic: &Topic, offsets: &[Offset]) {
        if !self.is_ephemeral() && topic.is_logged() {
            self.stop_if_pending(topic, offsets);
            return;
        }
        let state = topic.state.lock();
        let mut inner = self.inner.lock();
        for offset in offsets.iter().filter(|offset| state.ring.find(**offset).is_none()) {
            inner.skipped += u64::from(inner.state.drop_first(*offset));
        }
        drop(state);
        self.notify_and_unlock(inner);
    }

    pub(super) fn stop_if_pending(&self, topic: &Topic, offsets: &[Offset]) {
        let mut below = Vec::new();
        let next = self.pending(&mut below);
        let below: HashSet<Offset> = below.into_iter().collect();
        let is_in_memory = |offset: Offset| topic.state.lock().ring.find(offset).is_some();
        let is_lost =
            |offset: &&Offset| (next <= **offset || below.contains(offset)) && !is_in_memory(**offset);
        if let Some(lost) = offsets.iter().find(is_lost) {
            let why = format!("message {:#x} stands in no file", lost.0);
            topic.stop(TopicDamage::met(*lost, &why));
        }
    }

    /// Ends a read: takes in what was read by `take_in`, and wakes who waits for it.
    fn loaded(&self, take_in: impl FnOnce(&mut Inner)) {
        let mut inner = self.inner.lock();
        inner.loading = false;
        take_in(&mut inner);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.iter().for_each(|w| w.wake());
    }
}
