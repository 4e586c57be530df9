//! Time is injected: the system's in a broker, a hand-turned one in tests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds on a scale that starts with the clock and never goes back. For deadlines.
pub type Mono = u64;

/// Nanoseconds since 1970-01-01 UTC, as the machine believes; may jump. For timestamps and stored deferrals.
pub type Wall = u64;

/// A source of time.
pub trait Clock: Send + Sync {
    /// The monotonic time.
    fn mono(&self) -> Mono;
    /// The wall time.
    fn wall(&self) -> Wall;
}

/// The system's clocks.
pub struct SystemClock {
    start: Instant,
}

impl SystemClock {
    /// A clock whose monotonic scale starts now.
    pub fn new() -> Self {
        Self { start: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    fn mono(&self) -> Mono {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
    }
}

/// A clock that stands still until told otherwise, for tests and simulation.
pub struct ManualClock {
    mono: AtomicU64,
    wall: AtomicU64,
}

impl ManualClock {
    /// A clock at monotonic 0 and wall time `wall`.
    pub fn new(wall: Wall) -> Self {
        Self { mono: AtomicU64::new(0), wall: AtomicU64::new(wall) }
    }

    /// Moves both scales on by `ns`.
    pub fn advance(&self, ns: u64) {
        self.mono.fetch_add(ns, Ordering::SeqCst);
        self.wall.fetch_add(ns, Ordering::SeqCst);
    }

    /// Steps the wall clock, as an administrator or NTP may; the monotonic scale is untouched.
    pub fn step_wall(&self, wall: Wall) {
        self.wall.store(wall, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> Mono {
        self.mono.load(Ordering::SeqCst)
    }

    fn wall(&self) -> Wall {
        self.wall.load(Ordering::SeqCst)
    }
}
