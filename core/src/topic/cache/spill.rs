//! Eviction from memory: frames that are on disk are dropped, pending messages that are only in memory are
//! spilled to the log.

use std::sync::Arc;

use crate::config::Durability;
use crate::message::Offset;
use crate::store::clean::pending::{Collected, Pending, runs};
use crate::store::format::event::Event;
use crate::store::format::frame;
use crate::store::log::{CommitListener, QueuedFrame};
use crate::store::memory::chunk::Victims;
use crate::topic::{Topic, TopicState};

impl Topic {
    /// Evicts the frames in the victims: drops those on disk, spills the others and all before them, so that
    /// offsets on disk rise. Memory is free once the log has written them.
    pub(crate) fn evict(&self, victims: &Victims) {
        let mut state = self.state.lock();
        let low = Self::low(&state);
        state.ring.trim(low);
        let logged = self.is_logged();
        let until = state.ring.evict(victims, |cached| cached.on_disk || !logged);
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
        let pending = state.pending();
        let cached = state.ring.not_on_disk();
        cached.map(|frame| pending.count(frame.first, frame.last())).sum()
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
        let pending = state.pending();
        let events: Vec<Event> = state
            .channels
            .iter()
            .filter(|c| !c.is_ephemeral())
            .flat_map(|c| c.spill_events(spill_start, spill_end))
            .collect();
        let mut events_due = true;
        let waiting = state.ring.iter_mut().take_while(|h| h.frame.first <= until);
        for cached in waiting.filter(|h| !h.on_disk && h.spilling == 0) {
            let runs = runs(&cached.frame, &pending);
            if runs.is_empty() {
                // Nothing needs it: as good as on disk.
                cached.on_disk = true;
                continue;
            }
            if std::mem::take(&mut events_due) {
                let _ = self.shared.log_events(&events, Durability::Flush, None);
            }
            cached.spilling = runs.len() as u32;
            for frame in runs {
                let crc = frame::records_crc(&frame.payload);
                let queued = QueuedFrame { frame, chunk: cached.chunk, spilled: true, synced: false };
                let listener: Arc<dyn CommitListener> = me.clone();
                self.shared.log.enqueue(self.no, crc, queued, listener, None, None);
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

impl TopicState {
    /// The messages that are pending now, in no order.
    pub(crate) fn collect_pending(&self) -> Collected {
        let mut from = self.pump.offset;
        let mut below = Vec::new();
        for channel in &self.channels {
            from = from.min(channel.pending(&mut below));
        }
        Collected { from, below }
    }

    /// The messages that are pending now.
    pub(in crate::topic) fn pending(&self) -> Pending {
        self.collect_pending().sort()
    }
}
