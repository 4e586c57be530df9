//! How long publishes took, from the moment they were read to the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mq_core::Histogram;
use parking_lot::Mutex;

/// The times of all connections of a server, once somebody asks. Measured per round of a session: the publishes of a
/// round share the log's write and their answer's time.
#[derive(Debug, Default)]
pub(in crate::server) struct Publishing {
    on: AtomicBool,
    histogram: Mutex<Histogram>,
}

impl Publishing {
    pub(in crate::server) fn start(&self) {
        self.on.store(true, Ordering::Relaxed);
    }

    pub(in crate::server) fn is_on(&self) -> bool {
        self.on.load(Ordering::Relaxed)
    }

    /// `n` publishes were answered after `took`.
    pub(in crate::server) fn add(&self, took: Duration, n: u64) {
        self.histogram.lock().add(took, n);
    }

    pub(in crate::server) fn histogram(&self) -> Histogram {
        *self.histogram.lock()
    }
}
