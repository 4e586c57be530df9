//! The bound on what one client has on its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::signal::Signal;

/// Bytes and publishes of one client that have no outcome.
#[derive(Debug)]
pub(crate) struct Buffer {
    max: usize,
    bytes: AtomicUsize,
    publishes: AtomicUsize,
    /// There is more room.
    room: Signal,
    /// No publish is without an outcome.
    idle: Signal,
}

impl Buffer {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        let (bytes, publishes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { max, bytes, publishes, room: Signal::default(), idle: Signal::default() })
    }

    /// Takes room for one publish, if there is some: one larger than the bound goes alone.
    pub(super) fn try_take(&self, bytes: usize) -> Option<()> {
        let fits = |held: usize| match held.checked_add(bytes) {
            Some(sum) if held == 0 || sum <= self.max => Some(sum),
            _ => None,
        };
        self.bytes.try_update(Ordering::SeqCst, Ordering::SeqCst, fits).ok()?;
        self.publishes.fetch_add(1, Ordering::SeqCst);
        Some(())
    }

    /// The same, waiting for room until `deadline` or until it is interrupted.
    pub(super) fn take_by(
        &self,
        bytes: usize,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Option<()> {
        self.room.block_until_interrupted(deadline, interrupted, || self.try_take(bytes))
    }

    /// The same as a future, without a deadline.
    pub(super) async fn take(&self, bytes: usize) {
        self.room.until(|| self.try_take(bytes)).await;
    }

    /// Gives back what so many publishes took that have their outcome now.
    pub(crate) fn give(&self, Freed { bytes, publishes }: Freed) {
        if publishes == 0 {
            return;
        }
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        let before = self.publishes.fetch_sub(publishes, Ordering::SeqCst);
        self.room.notify();
        if before == publishes {
            self.idle.notify();
        }
    }

    /// Publishes without an outcome.
    pub(crate) fn unfinished(&self) -> usize {
        self.publishes.load(Ordering::SeqCst)
    }

    /// Waits until there is none, or `deadline`. Returns how many there are.
    pub(crate) fn flush(&self, deadline: Option<Instant>) -> usize {
        let done = || (self.unfinished() == 0).then_some(());
        let _ = self.idle.block_until(deadline, done);
        self.unfinished()
    }

    /// The same as a future, without a deadline.
    pub(crate) async fn flushed(&self) {
        self.idle.until(|| (self.unfinished() == 0).then_some(())).await;
    }
}

/// A part of the buffer that publishes gave back.
#[derive(Debug, Default)]
pub(crate) struct Freed {
    pub(super) bytes: usize,
    pub(super) publishes: usize,
}

impl std::ops::AddAssign for Freed {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.publishes += other.publishes;
    }
}
