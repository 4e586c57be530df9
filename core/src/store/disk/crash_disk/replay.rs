//! The remains of a crash, at each point of a disk's history.

use fastrand::Rng;

use super::CrashDisk;
use super::model::{Event, Model};

/// The victim of a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process: what it did survives whole, synced or not. What was unsynced still is, for the next
    /// crash.
    Kill,
    /// The process, in the middle of the next write, of which a prefix survives. The same as [`Crash::Kill`]
    /// where the next event is no write.
    KillTorn {
        /// Chooses the length of the prefix.
        seed: u64,
    },
    /// The machine. What was synced survives; of the rest a random part, torn and out of order.
    Power {
        /// Chooses what survives.
        seed: u64,
    },
}

/// A walk through a disk's history, one event at a time. Images share what they hold with it and with each
/// other until one of them changes it, so one of each kind can be taken at every event.
pub struct Replay {
    model: Model,
    events: Vec<Event>,
    event: usize,
}

impl Replay {
    pub(super) fn new(model: Model, events: Vec<Event>) -> Self {
        Self { model, events, event: 0 }
    }

    /// Number of events that this has gone past.
    pub fn event(&self) -> usize {
        self.event
    }

    /// Goes past one more event; `false` if there is none. A new replay stands before the first, and images
    /// can be taken there too.
    pub fn step(&mut self) -> bool {
        let Some(event) = self.events.get(self.event) else { return false };
        self.model.apply(event);
        self.event += 1;
        true
    }

    /// See [`Crash::Kill`].
    pub fn kill_image(&self) -> CrashDisk {
        CrashDisk::holding(self.model.clone())
    }

    /// See [`Crash::KillTorn`]; `None` if the next event is no write, or too short to tear.
    pub fn torn_image(&self, seed: u64) -> Option<CrashDisk> {
        let mut event = self.events.get(self.event)?.clone();
        let Event::Write { bytes, .. } = &mut event else { return None };
        if bytes.len() < 2 {
            return None;
        }
        let kept = self.rng(seed).usize(1..bytes.len());
        *bytes = bytes[..kept].into();
        let mut model = self.model.clone();
        model.apply(&event);
        Some(CrashDisk::holding(model))
    }

    /// See [`Crash::Power`].
    pub fn power_image(&self, seed: u64) -> CrashDisk {
        CrashDisk::holding(self.model.after_power_loss(&mut self.rng(seed)))
    }

    /// The same seed makes other choices at other events; else a test with one seed would tear every image
    /// alike.
    fn rng(&self, seed: u64) -> Rng {
        let mut mix = Rng::with_seed(seed);
        Rng::with_seed(mix.u64(..) ^ Rng::with_seed(self.event as u64).u64(..).rotate_left(32))
    }
}
