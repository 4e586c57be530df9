//! State that the threads of a run share.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// A run: the number its messages carry, and how far it is.
pub(crate) struct Run {
    pub(crate) number: u32,
    /// Origin of all times.
    began: Instant,
    /// Nanoseconds from there to the beginning of the phase.
    started_ns: AtomicU64,
    /// Messages that were acknowledged.
    pub(crate) published: AtomicU64,
    /// Deliveries of this run's messages to all channels.
    pub(crate) delivered: AtomicU64,
    /// Publishers that have not ended.
    pub(crate) publishers: AtomicUsize,
    /// One of the threads gave up.
    pub(crate) failed: AtomicBool,
    /// The run ends early.
    stopped: AtomicBool,
}

/// Condition under which the consumers of a channel are done.
pub(crate) struct Goal {
    /// `None`: all that is published in this run.
    pub(crate) messages: Option<u64>,
    /// Longest silence, after which missing messages count as lost.
    pub(crate) patience: Duration,
    received: AtomicU64,
    /// Nanoseconds from the run's beginning to the last message.
    last_ns: AtomicU64,
}

impl Run {
    pub(crate) fn new() -> Self {
        Self {
            number: fastrand::u32(..),
            began: Instant::now(),
            started_ns: AtomicU64::new(0),
            published: AtomicU64::new(0),
            delivered: AtomicU64::new(0),
            publishers: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        }
    }

    /// Ends the run early: what was measured until then is a result too.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Whether the run ends early.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Begins a phase.
    pub(crate) fn start(&self) -> Instant {
        self.started_ns.store(self.now_ns(), Ordering::Relaxed);
        Instant::now()
    }

    /// From the run's beginning to that of the phase.
    pub(crate) fn started(&self) -> Duration {
        Duration::from_nanos(self.started_ns.load(Ordering::Relaxed))
    }

    /// Since the run began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(crate) fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }
}

impl Goal {
    pub(crate) fn new(messages: Option<u64>, patience: Duration) -> Self {
        Self { messages, patience, received: AtomicU64::new(0), last_ns: AtomicU64::new(0) }
    }

    /// Notes what one consumer got.
    pub(crate) fn received(&self, messages: u64, run: &Run) {
        self.received.fetch_add(messages, Ordering::Relaxed);
        self.last_ns.fetch_max(run.now_ns(), Ordering::Relaxed);
        run.delivered.fetch_add(messages, Ordering::Relaxed);
    }

    /// Whether all came.
    pub(crate) fn is_met(&self, run: &Run) -> bool {
        let received = self.received.load(Ordering::Relaxed);
        match self.messages {
            Some(messages) => received >= messages,
            None => {
                run.publishers.load(Ordering::Acquire) == 0
                    && received >= run.published.load(Ordering::Relaxed)
            }
        }
    }

    /// Whether what is missing will not come any more. `since` is when this consumer began to wait.
    pub(crate) fn is_hopeless(&self, run: &Run, since: Instant) -> bool {
        let last = run.began + Duration::from_nanos(self.last_ns.load(Ordering::Relaxed));
        run.publishers.load(Ordering::Acquire) == 0 && last.max(since).elapsed() >= self.patience
    }
}
