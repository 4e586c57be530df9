//! Reports of what became of queued frames, to the topics that queued them.

use std::sync::Arc;

use crate::store::log::{CommitListener, QueuedFrame};
use crate::wake::Wake;

/// Frames of one outcome. Each listener gets its neighbouring frames in one call; then all waiters are woken.
#[derive(Default)]
pub(super) struct Completions {
    frames: Vec<(Arc<dyn CommitListener>, QueuedFrame)>,
    /// The frames of one call of a listener; empty between reports, kept for its memory.
    of_one: Vec<QueuedFrame>,
    wakes: Vec<Arc<dyn Wake>>,
}

impl Completions {
    pub(super) fn add(
        &mut self,
        data: Option<(Arc<dyn CommitListener>, QueuedFrame)>,
        wake: Option<Arc<dyn Wake>>,
    ) {
        self.frames.extend(data);
        if let Some(wake) = wake
            && !self.wakes.last().is_some_and(|last| Arc::ptr_eq(last, &wake))
        {
            self.wakes.push(wake);
        }
    }

    /// Reports that all frames added were committed, or failed.
    pub(super) fn report(&mut self, committed: bool) {
        let report = |to: Arc<dyn CommitListener>, frames: &mut Vec<QueuedFrame>| match committed {
            true => to.on_committed(frames),
            false => to.on_failed(frames),
        };
        let mut current: Option<Arc<dyn CommitListener>> = None;
        for (listener, frame) in self.frames.drain(..) {
            match &current {
                Some(same) if Arc::ptr_eq(same, &listener) => {}
                _ => {
                    if let Some(other) = current.replace(listener) {
                        report(other, &mut self.of_one);
                    }
                }
            }
            self.of_one.push(frame);
        }
        if let Some(last) = current {
            report(last, &mut self.of_one);
        }
    }

    /// Wakes the waiters for these frames.
    pub(super) fn wake(&mut self) {
        self.wakes.drain(..).for_each(|wake| wake.wake());
    }
}
