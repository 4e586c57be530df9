//! The events that a channel writes to the log.

use std::sync::Arc;

use crate::channel::{Channel, Delta, Unfinished};
use crate::clock::{Mono, Wall};
use crate::config::Durability;
use crate::error::Result;
use crate::message::Offset;
use crate::store::format::event::{self, Event};
use crate::store::format::numbers::TopicNo;
use crate::store::log::Ticket;
use crate::wake::Wake;

impl Channel {
    /// Has the log learn now what was acknowledged, which it learns within 100 ms anyway. The ticket is done
    /// once all of it is there, as the topic's durability wants it; `wake` is called when another thread
    /// has decided that. May wait for a checkpoint: call it where that hurts nobody.
    ///
    /// # Errors
    /// `Closed` if the channel was deleted; `Io`, `Full` while the log is failing: it keeps what it has to
    /// learn, so ask again later.
    pub fn log_acknowledged(&self, wake: &Arc<dyn Wake>) -> Result<Ticket> {
        let topic = self.open_topic()?;
        if !topic.is_logged() || self.is_ephemeral() {
            return Ok(Ticket::DONE);
        }
        if self.shared.log.is_failing() {
            self.shared.log.health()?;
        }
        let (level, spilled_end) = {
            let state = topic.state.lock();
            (state.level, state.spilled_end)
        };
        // The log's thread holds it too from taking to queueing: what it took before is queued before this.
        let (maintenance, mut delta) = (self.shared.maintenance.lock(), Delta::default());
        let was_dirty = self.inner.lock().dirty;
        // Harmless, and there even if nothing else is: so the ticket is always of a frame behind what was
        // taken before.
        let mut events = vec![self.event(topic.no, self.is_paused())];
        self.take_events(level, spilled_end, &mut delta, &mut events);
        // It stands in the list of the dirty still, once.
        self.inner.lock().dirty |= was_dirty;
        let ticket = self.shared.log_events(&events, level, Some(wake));
        drop(maintenance);
        self.shared.commit();
        Ok(ticket)
    }

    /// The events that record the whole cursor, for a checkpoint.
    pub(crate) fn snapshot(&self, topic: TopicNo) -> Vec<Event> {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        let inner = self.inner.lock();
        let unfinished = inner.state.unfinished();
        let gaps = inner.state.gaps();
        let ranges: Vec<_> = gaps.map(|(from, to)| (from.offset, Offset(to.offset.0 - 1))).collect();
        let (next, paused) = (inner.state.next().offset, inner.state.is_paused());
        let (lost, settings) = (inner.lost.clone(), inner.settings.clone());
        drop(inner);
        let mut unfinished: Vec<_> = unfinished
            .iter()
            .map(|u| stored(u, wall, mono))
            .chain(lost)
            .filter(|u| u.offset < next)
            .collect();
        unfinished.sort_unstable_by_key(|u| u.offset);
        let mut events = vec![self.event(topic, paused)];
        events.extend(self.settings_event(&settings, false));
        events.push(Event::Cursor { channel: self.no, next, unfinished });
        if !ranges.is_empty() {
            events.push(Event::Finished { channel: self.no, ranges });
        }
        events
    }

    /// The events that record which of the messages from `first` to before `end` are finished or were handed
    /// out, for what is spilled.
    pub(crate) fn spill_events(&self, first: Offset, end: Offset) -> Vec<Event> {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        let inner = self.inner.lock();
        let mut unfinished = inner.state.unfinished();
        let next = inner.state.next().offset;
        drop(inner);
        unfinished.retain(|u| first <= u.offset && u.offset < end);
        unfinished.sort_unstable_by_key(|u| u.offset);
        let mut ranges = Vec::new();
        let mut from = first;
        for offset in unfinished.iter().map(|u| u.offset).chain([next.min(end)]) {
            if from < offset {
                ranges.push((from, Offset(offset.0 - 1)));
            }
            from = from.max(offset.plus(1));
        }
        let mut events = Vec::new();
        if !ranges.is_empty() {
            events.push(Event::Finished { channel: self.no, ranges });
        }
        if !unfinished.is_empty() {
            let messages = unfinished.iter().map(|u| stored(u, wall, mono)).collect();
            events.push(Event::Requeued { channel: self.no, messages });
        }
        events
    }

    /// Moves what the log must learn into `delta`, and appends it to `out`. At level `memory` only what may
    /// stand on disk, below `spilled_end`, needs to be known.
    pub(crate) fn take_events(
        &self,
        level: Durability,
        spilled_end: Offset,
        delta: &mut Delta,
        out: &mut Vec<Event>,
    ) {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        {
            let mut inner = self.inner.lock();
            inner.dirty = false;
            inner.state.take_delta(delta);
        }
        if self.is_ephemeral() {
            return;
        }
        delta.normalize();
        if level == Durability::Memory {
            delta.finished.retain(|(first, _)| *first < spilled_end);
            delta.requeued.retain(|u| u.offset < spilled_end);
        }
        if !delta.finished.is_empty() {
            out.push(Event::Finished { channel: self.no, ranges: delta.finished.clone() });
        }
        if !delta.requeued.is_empty() {
            let messages = delta.requeued.iter().map(|u| stored(u, wall, mono)).collect();
            out.push(Event::Requeued { channel: self.no, messages });
        }
    }
}

/// The form that the log keeps: due by the wall clock, which outlives the process.
fn stored(message: &Unfinished, wall: Wall, mono: Mono) -> event::Unfinished {
    let due = match message.due {
        Mono(0) => Wall(0),
        due => wall.plus(due.since(mono)).max(Wall(1)),
    };
    event::Unfinished { offset: message.offset, attempts: message.attempts, due }
}
