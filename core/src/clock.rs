//! Time is injected: the system's in a broker, a hand-turned one in tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::sync::Mutex;

use crate::parker::Parker;

/// Nanoseconds on a scale that starts with the clock and never goes back. For deadlines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mono(pub u64);

impl Mono {
    /// Later than any time: a deadline that never comes.
    pub const MAX: Self = Self(u64::MAX);

    /// The time `ns` nanoseconds later.
    #[must_use]
    pub const fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// The time `ns` nanoseconds earlier, or the beginning.
    #[must_use]
    pub const fn before(self, ns: u64) -> Self {
        Self(self.0.saturating_sub(ns))
    }

    /// Nanoseconds since `earlier`; 0 if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Nanoseconds since 1970-01-01 UTC, as the machine believes; may jump. For timestamps and stored deferrals.
///
/// A type of its own, as [`Mono`] is: a time of one clock means nothing on the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Wall(pub u64);

impl Wall {
    /// Later than any time.
    pub const MAX: Self = Self(u64::MAX);

    /// The time `ns` nanoseconds later.
    #[must_use]
    pub const fn plus(self, ns: u64) -> Self {
        Self(self.0.saturating_add(ns))
    }

    /// The time `ns` nanoseconds earlier, or 1970.
    #[must_use]
    pub const fn before(self, ns: u64) -> Self {
        Self(self.0.saturating_sub(ns))
    }

    /// Nanoseconds since `earlier`; 0 if that is later.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Nanoseconds of `duration`.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// A source of time.
///
/// ```
/// use mq_core::{Clock, ManualClock, SystemClock, clock::Wall};
///
/// fn age_ns(clock: &dyn Clock, published: Wall) -> u64 {
///     clock.wall().since(published)
/// }
/// assert_eq!(age_ns(&ManualClock::new(Wall(1_000)), Wall(400)), 600);
/// assert!(age_ns(&SystemClock::new(), Wall(0)) > 0);
/// ```
pub trait Clock: Send + Sync {
    /// The monotonic time.
    fn mono(&self) -> Mono;
    /// The wall time.
    fn wall(&self) -> Wall;
    /// Sleeps on `parker` until it is woken or this clock's monotonic time has reached `until`. May return
    /// early.
    fn park(&self, parker: &Arc<Parker>, until: Mono);
}

/// The system's clocks.
///
/// ```
/// use mq_core::{Clock, SystemClock};
///
/// let clock = SystemClock::new();
/// assert!(clock.mono() <= clock.mono());
/// ```
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
        Mono(nanos(self.start.elapsed()))
    }

    fn wall(&self) -> Wall {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Wall(nanos(since))
    }

    fn park(&self, parker: &Arc<Parker>, until: Mono) {
        let left = until.since(self.mono());
        if left > 0 {
            parker.park(Some(Duration::from_nanos(left)));
        }
    }
}

/// A clock that stands still until it is moved, for tests and simulation.
///
/// ```
/// use mq_core::{Clock, ManualClock};
/// use mq_core::clock::{Mono, Wall};
///
/// let clock = ManualClock::new(Wall(1_700_000_000_000_000_000));
/// clock.advance(5);
/// assert_eq!((clock.mono(), clock.wall()), (Mono(5), Wall(1_700_000_000_000_000_005)));
/// ```
pub struct ManualClock {
    mono: AtomicU64,
    wall: AtomicU64,
    /// Threads that sleep until a time of this clock.
    parked: Mutex<Vec<Arc<Parker>>>,
}

impl ManualClock {
    /// A clock at monotonic 0 and wall time `wall`.
    pub fn new(wall: Wall) -> Self {
        Self { mono: AtomicU64::new(0), wall: AtomicU64::new(wall.0), parked: Mutex::default() }
    }

    /// Moves both scales on by `ns`, and wakes the threads that sleep by this clock.
    pub fn advance(&self, ns: u64) {
        self.mono.fetch_add(ns, Ordering::SeqCst);
        self.wall.fetch_add(ns, Ordering::SeqCst);
        self.parked.lock().iter().for_each(|parker| parker.unpark());
    }

    /// Threads that sleep by this clock.
    pub fn parked(&self) -> usize {
        self.parked.lock().len()
    }

    /// Steps the wall clock, as an administrator or NTP may; the monotonic scale is untouched.
    pub fn step_wall(&self, wall: Wall) {
        self.wall.store(wall.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn mono(&self) -> Mono {
        Mono(self.mono.load(Ordering::SeqCst))
    }

    fn wall(&self) -> Wall {
        Wall(self.wall.load(Ordering::SeqCst))
    }

    fn park(&self, parker: &Arc<Parker>, until: Mono) {
        let mut parked = self.parked.lock();
        // Under the lock: a step after this look wakes the thread.
        if self.mono() >= until {
            return;
        }
        parked.push(Arc::clone(parker));
        drop(parked);
        parker.park(None);
        let mut parked = self.parked.lock();
        if let Some(at) = parked.iter().position(|other| Arc::ptr_eq(other, parker)) {
            parked.swap_remove(at);
        }
    }
}
