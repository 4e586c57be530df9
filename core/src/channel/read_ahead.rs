//! Frames read ahead from disk for one channel: a small cache of its own, so that a lagging reader never
//! evicts what others have in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::message::Offset;
use crate::store::memory::chunk::Pool;
use crate::store::memory::frame::Frame;

/// The frames read ahead for first deliveries, or for redeliveries.
#[derive(Default)]
pub(super) struct ReadAhead {
    /// In offset order.
    frames: VecDeque<Frame>,
    bytes: usize,
    /// Whether anything was found since the last [`ReadAhead::tidy`].
    used: bool,
    /// Counts the bytes; absent while there are none.
    pool: Option<Arc<Pool>>,
}

impl ReadAhead {
    /// The frame that holds `offset`.
    pub(super) fn find(&mut self, offset: Offset) -> Option<&Frame> {
        let at = self.frames.partition_point(|f| f.last() < offset);
        let found = self.frames.get(at).filter(|f| f.first <= offset);
        self.used |= found.is_some();
        found
    }

    /// Whether a frame holds `offset`.
    pub(super) fn has(&self, offset: Offset) -> bool {
        let at = self.frames.partition_point(|f| f.last() < offset);
        self.frames.get(at).is_some_and(|f| f.first <= offset)
    }

    /// Puts `frames` in the place of what was there.
    pub(super) fn fill(&mut self, frames: Vec<Frame>, pool: &Arc<Pool>) {
        self.clear();
        self.bytes = frames.iter().map(bytes).sum();
        self.frames = frames.into();
        self.used = true;
        pool.charge_read_ahead(self.bytes);
        self.pool = Some(pool.clone());
    }

    /// Adds `frames`, of which it has none.
    pub(super) fn add(&mut self, frames: Vec<Frame>, pool: &Arc<Pool>) {
        let mut all: Vec<Frame> = std::mem::take(&mut self.frames).into();
        all.extend(frames);
        all.sort_unstable_by_key(|frame| frame.first);
        self.fill(all, pool);
    }

    /// Drops the frames that hold none of `offsets`, which are sorted.
    pub(super) fn keep(&mut self, offsets: &[Offset]) {
        let Some(pool) = self.pool.take() else { return };
        let wanted = |frame: &Frame| {
            let at = offsets.partition_point(|offset| *offset < frame.first);
            offsets.get(at).is_some_and(|offset| *offset <= frame.last())
        };
        let mut frames: Vec<Frame> = std::mem::take(&mut self.frames).into();
        frames.retain(wanted);
        self.pool = Some(pool.clone());
        self.fill(frames, &pool);
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

    /// Drops everything if nothing of it was used since the last call.
    pub(super) fn tidy(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.clear();
        }
    }

    /// Bytes that are counted for it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn clear(&mut self) {
        self.frames = VecDeque::new();
        if let Some(pool) = self.pool.take() {
            pool.discharge_read_ahead(std::mem::take(&mut self.bytes));
        }
    }
}

/// Bytes counted for a frame: the struct too, since many frames hold a single message.
fn bytes(frame: &Frame) -> usize {
    frame.payload.len() + size_of::<Frame>()
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        self.clear();
    }
}
