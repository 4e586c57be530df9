//! Frames read ahead from disk for one channel: a small window of its own, so that a lagging reader never evicts what
//! others have in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::Offset;
use crate::store::log::Frame;
use crate::store::memory::chunk::Pool;

/// The window.
#[derive(Default)]
pub(super) struct Window {
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Counts the bytes; absent while there are none.
    pool: Option<Arc<Pool>>,
}

impl Window {
    /// The frame that holds `offset`. Frames that end before `keep_from` are dropped.
    pub(super) fn find(&mut self, offset: Offset, keep_from: Offset) -> Option<&Frame> {
        self.trim(keep_from);
        let at = self.frames.partition_point(|f| f.last() < offset);
        self.frames.get(at).filter(|f| f.first <= offset)
    }

    /// Puts `frames` in the place of what was there.
    pub(super) fn fill(&mut self, frames: Vec<Frame>, pool: &Arc<Pool>) {
        self.clear();
        self.bytes = frames.iter().map(|f| f.payload.len()).sum();
        self.frames = frames.into();
        pool.charge_read_ahead(self.bytes);
        self.pool = Some(pool.clone());
    }

    /// Drops the frames that end before `low`.
    pub(super) fn trim(&mut self, low: Offset) {
        while self.frames.front().is_some_and(|f| f.last() < low) {
            self.frames.pop_front();
        }
        if self.frames.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.frames = VecDeque::new();
        if let Some(pool) = self.pool.take() {
            pool.discharge_read_ahead(std::mem::take(&mut self.bytes));
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.clear();
    }
}
