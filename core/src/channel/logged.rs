//! The events that a channel writes to the log.

use crate::channel::{Channel, Delta, Unfinished};
use crate::clock::{Mono, Wall};
use crate::config::Durability;
use crate::message::Offset;
use crate::store::format::event::{self, Event};

impl Channel {
    /// The events that tell the whole cursor, for a checkpoint.
    pub(crate) fn snapshot(&self, topic: u32) -> Vec<Event> {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        let inner = self.inner.lock();
        let mut unfinished = Vec::new();
        inner.state.unfinished(&mut unfinished);
        let gaps = inner.state.gaps();
        let ranges: Vec<_> = gaps.map(|(from, to)| (from.offset, Offset(to.offset.0 - 1))).collect();
        let (next, paused) = (inner.state.next().offset, inner.state.is_paused());
        let lost = inner.lost.clone();
        drop(inner);
        let mut unfinished: Vec<_> = unfinished
            .iter()
            .map(|u| stored(u, wall, mono))
            .chain(lost)
            .filter(|u| u.offset < next)
            .collect();
        unfinished.sort_unstable_by_key(|u| u.offset);
        let mut events =
            vec![self.event(topic, paused), Event::Cursor { channel: self.no, next, unfinished }];
        if !ranges.is_empty() {
            events.push(Event::Finished { channel: self.no, ranges });
        }
        events
    }

    /// The events that tell which of the messages from `first` to before `end` are finished or were handed out, for
    /// what is spilled.
    pub(crate) fn spill_events(&self, first: Offset, end: Offset) -> Vec<Event> {
        let (mono, wall) = (self.shared.clock.mono(), self.shared.clock.wall());
        let inner = self.inner.lock();
        let mut unfinished = Vec::new();
        inner.state.unfinished(&mut unfinished);
        let next = inner.state.next().offset;
        drop(inner);
        unfinished.retain(|u| first <= u.offset && u.offset < end);
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

    /// Moves what the log must learn into `delta`, and appends it to `out`. At level `memory` only what may stand on
    /// disk, below `spilled_end`, needs to be known.
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
        0 => 0,
        due => wall.saturating_add(due.saturating_sub(mono)).max(1),
    };
    event::Unfinished { offset: message.offset, attempts: message.attempts, due }
}
