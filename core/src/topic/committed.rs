//! Frames that were written, or never will be: the log reports both to their topic.

use std::sync::atomic::Ordering;

use crate::store::log::{CommitListener, QueuedFrame};
use crate::topic::Topic;
use crate::topic::cache::CachedFrame;

impl CommitListener for Topic {
    fn on_committed(&self, frames: &mut Vec<QueuedFrame>) {
        let mut wakes = Vec::new();
        let any_spilled = frames.iter().any(|f| f.spilled);
        let mut state = self.state.lock();
        if state.deleted {
            frames.clear();
            return;
        }
        for QueuedFrame { frame, chunk, spilled, synced } in frames.drain(..) {
            state.syncing -= u32::from(synced);
            state.spilled_end = state.spilled_end.max(frame.last().plus(1));
            if spilled {
                if let Some(cached) = state.ring.find_mut(frame.first) {
                    cached.spilling = cached.spilling.saturating_sub(1);
                    cached.on_disk = cached.spilling == 0;
                }
                continue;
            }
            state.dequeue(&frame);
            state.ids_arrived(&frame);
            wakes.extend(self.append(&mut state, CachedFrame { frame, chunk, on_disk: true, spilling: 0 }));
        }
        if any_spilled {
            state.ring.drop_on_disk();
        }
        let first = state.ring.first_last().map_or(u64::MAX, |last| last.0);
        self.trim_at.store(first, Ordering::Relaxed);
        drop(state);
        wakes.iter().for_each(|w| w.wake());
    }

    fn on_failed(&self, frames: &mut Vec<QueuedFrame>) {
        let mut state = self.state.lock();
        for QueuedFrame { frame, chunk, spilled, synced } in frames.drain(..) {
            state.syncing -= u32::from(synced);
            if !spilled {
                state.dequeue(&frame);
                state.ids_failed(&frame);
                state.message_count -= u64::from(frame.count);
                continue;
            }
            if let Some(cached) = state.ring.find_mut(frame.first) {
                cached.spilling = 0;
            }
            self.shared.pool.name_again(chunk, self.no);
        }
    }
}
