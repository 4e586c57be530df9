//! Eviction from memory: frames that are on disk are dropped, pending messages that are only in memory are
//! spilled to the log.

use std::sync::Arc;

use crate::config::Durability;
use crate::message::Offset;
use crate::store::format::event::Event;
use crate::store::format::frame::{self, Record};
use crate::store::log::{Frame, Landed, Landing};
use crate::store::memory::chunk::Victims;
use crate::store::memory::marks::Marks;
use crate::topic::{Topic, TopicState};

impl Topic {
    /// Evicts the frames in the victims: drops those on disk, spills the others and all before them, so that
    /// offsets on disk rise. Memory is free once the log has written them.
    pub(crate) fn evict(&self, victims: &Victims) {
        let mut state = self.state.lock();
        let low = Self::low(&state);
        state.ring.trim(low);
        let logged = self.is_logged();
        let until = state.ring.evict(victims, |held| held.on_disk || !logged);
        if !logged {
            self.skip_dropped(&mut state);
        } else if let Some(until) = until {
            self.spill(&mut state, until);
        }
    }

    /// Spills everything that is only in memory.
    pub(crate) fn spill_all(&self) {
        let mut state = self.state.lock();
        if self.is_logged() {
            self.spill(&mut state, Offset(u64::MAX));
        }
    }

    /// Pending messages that are not on disk, though they are to be.
    pub(crate) fn only_in_memory(&self) -> u64 {
        let state = self.state.lock();
        if !self.is_logged() {
            return 0;
        }
        let pending = Pending::of(&state);
        let held = state.ring.not_on_disk();
        held.map(|frame| pending.count(frame.first, frame.last())).sum()
    }

    /// Queues what is pending of the frames that begin at or before `until` and are only in memory, with the
    /// same offsets, after what says which channel has finished which of them: a finished message never
    /// touches the disk.
    pub(in crate::topic) fn spill(&self, state: &mut TopicState, until: Offset) {
        let Some(me) = self.me.upgrade() else { return };
        let mut waiting = state
            .ring
            .iter_mut()
            .take_while(|h| h.frame.first <= until)
            .filter(|h| !h.on_disk && h.spilling == 0);
        let Some(first) = waiting.next() else { return };
        let spill_start = first.frame.first;
        let first_end = first.frame.last().plus(1);
        let spill_end = waiting.last().map_or(first_end, |h| h.frame.last().plus(1));
        state.spilled_end = state.spilled_end.max(spill_end);
        let pending = Pending::of(state);
        let events: Vec<Event> = state
            .channels
            .iter()
            .filter(|c| !c.is_ephemeral())
            .flat_map(|c| c.spill_events(spill_start, spill_end))
            .collect();
        let mut events_due = true;
        let waiting = state.ring.iter_mut().take_while(|h| h.frame.first <= until);
        for held in waiting.filter(|h| !h.on_disk && h.spilling == 0) {
            let runs = runs(&held.frame, &pending);
            if runs.is_empty() {
                // Nothing needs it: as good as on disk.
                held.on_disk = true;
                continue;
            }
            if std::mem::take(&mut events_due) {
                let _ = self.shared.log_events(&events, Durability::Flush, None);
            }
            held.spilling = runs.len() as u32;
            for frame in runs {
                let crc = frame::records_crc(&frame.payload);
                let landed = Landed { frame, chunk: held.chunk, spilled: true, synced: false };
                let landing: Arc<dyn Landing> = me.clone();
                self.shared.log.enqueue(self.no, crc, landed, landing, None, None);
            }
        }
        state.ring.drop_on_disk();
    }

    /// An ephemeral topic is never written: its channels go on after what was dropped.
    fn skip_dropped(&self, state: &mut TopicState) {
        let from = state.ring.after(Offset(0)).map_or(state.end.offset, |f| f.first);
        let to = state.extents.seek(from, state.end);
        if state.pump.rank < to.rank {
            state.pump = to;
        }
        for channel in &state.channels {
            channel.jump(to);
        }
    }
}

/// The pending messages of a topic: all from `from` on, and some below.
pub(crate) struct Pending {
    pub(crate) from: Offset,
    /// Sorted.
    pub(crate) below: Vec<Offset>,
}

/// The pending messages of a topic as they were collected under its lock, in no order: sorting a million of
/// them takes too long for that lock.
pub(crate) struct Collected {
    from: Offset,
    below: Vec<Offset>,
}

impl Collected {
    /// The messages that are pending now.
    pub(crate) fn of(state: &TopicState) -> Self {
        let mut from = state.pump.offset;
        let mut below = Vec::new();
        for channel in &state.channels {
            from = from.min(channel.pending(&mut below));
        }
        Self { from, below }
    }

    /// The same in order.
    pub(crate) fn sort(self) -> Pending {
        let Self { from, mut below } = self;
        below.retain(|offset| *offset < from);
        below.sort_unstable();
        below.dedup();
        Pending { from, below }
    }
}

impl Pending {
    /// The messages that are pending now.
    pub(crate) fn of(state: &TopicState) -> Self {
        Collected::of(state).sort()
    }

    /// Counts the pending messages of the dense range `first..=last`.
    pub(crate) fn count(&self, first: Offset, last: Offset) -> u64 {
        if first >= self.from {
            return last.0 - first.0 + 1;
        }
        let from_here = (last.0 + 1).saturating_sub(self.from.0);
        let below = self.below.partition_point(|o| *o <= last) - self.below.partition_point(|o| *o < first);
        from_here + below as u64
    }

    /// Whether the message is pending.
    pub(crate) fn contains(&self, offset: Offset) -> bool {
        offset >= self.from || self.below.binary_search(&offset).is_ok()
    }
}

/// The parts of a frame that are pending, each a run of neighbouring messages.
pub(crate) fn runs(frame: &Frame, pending: &Pending) -> Vec<Frame> {
    if frame.first >= pending.from {
        return vec![frame.clone()];
    }
    if pending.count(frame.first, frame.last()) == 0 {
        return Vec::new();
    }
    let mut out: Vec<Frame> = Vec::new();
    let (mut at, mut offset) = (0, frame.first);
    let mut begun: Option<(Offset, usize)> = None;
    let end = |begun: Option<(Offset, usize)>, at: usize, offset: Offset, out: &mut Vec<Frame>| {
        let Some((first, from)) = begun else { return };
        let count = (offset.0 - first.0) as u32;
        let payload = frame.payload.slice(from..at);
        out.push(Frame { first, count, payload, marks: Marks::default(), ..frame.clone() });
    };
    while let Some(record) = Record::parse(&frame.payload[at..]) {
        if pending.contains(offset) {
            begun = begun.or(Some((offset, at)));
        } else {
            end(begun.take(), at, offset, &mut out);
        }
        at += record.len;
        offset = offset.plus(1);
    }
    end(begun, at, offset, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Attributes;
    use bytes::BytesMut;

    #[test]
    fn only_what_is_pending_is_spilled() {
        let mut payload = BytesMut::new();
        for body in [&b"a"[..], b"bb", b"ccc", b"dddd", b"eeeee"] {
            frame::put_record(&mut payload, &Attributes::NONE, body);
        }
        let frame = Frame {
            first: Offset(10),
            count: 5,
            time: 1,
            deferred: false,
            has_ids: false,
            payload: payload.freeze(),
            marks: Marks::default(),
        };
        let pending = Pending { from: Offset(14), below: vec![Offset(3), Offset(11), Offset(12)] };
        let runs = runs(&frame, &pending);
        let facts: Vec<_> = runs.iter().map(|f| (f.first.0, f.count, f.payload.len())).collect();
        assert_eq!(facts, [(11, 2, 12 + 2 + 12 + 3), (14, 1, 12 + 5)]);
        assert_eq!(pending.count(Offset(10), Offset(14)), 3);
        assert_eq!(pending.count(Offset(4), Offset(10)), 0);
    }
}
