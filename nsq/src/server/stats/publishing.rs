//! Latency of publishes, from the moment they were read to the answer.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mq_core::Histogram;
use parking_lot::Mutex;
use tokio::time::Instant;

/// The times of all connections of a server, once somebody asks. Measured per round of a session: the
/// publishes of a round share the log's write and their answer's time.
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

/// Publishes that one session answered in a round, by the time they were read.
#[derive(Debug, Default)]
pub(in crate::server) struct Measured {
    /// Times and how many publishes were read then; the times rise.
    answered: Vec<(Instant, u64)>,
}

impl Measured {
    pub(in crate::server) fn add(&mut self, read_at: Instant, n: u64) {
        match self.answered.last_mut() {
            Some((last, count)) if *last == read_at => *count += n,
            _ => self.answered.push((read_at, n)),
        }
    }

    /// Reports the publishes that are answered now.
    pub(in crate::server) fn report(&mut self, publishing: &Publishing) {
        if self.answered.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut histogram = publishing.histogram.lock();
        for (read_at, n) in std::mem::take(&mut self.answered) {
            histogram.add(now - read_at, n);
        }
    }
}
