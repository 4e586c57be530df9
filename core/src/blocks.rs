//! Blocks of offsets, from one persistent counter: what was handed out is never handed out again.

use crate::store::format::log_pos::LogPos;
use crate::store::format::numbers::{ChannelNo, TopicNo};
use crate::sync::Mutex;

use crate::clock::Wall;
use crate::error::{Error, ErrorKind, Result};
use crate::store::format::event::Event;
use crate::store::log::Log;

/// 2025-01-01T00:00:00Z in nanoseconds since 1970.
const EPOCH: Wall = Wall(1_735_689_600_000_000_000);
/// Blocks per second by which the counter follows the wall clock, so that a wiped folder does not repeat
/// offsets.
const PER_SECOND: u64 = 256;

/// Blocks kept for those who draw between a look and a draw: more than there are threads.
const SPARE: u64 = 64;
/// Most reservations one caller makes in a row because others were quicker to draw from them.
const TRIES: usize = 8;

/// Makes sure that `count` blocks can be drawn. Waits for an fsync only where reservations made ahead ran
/// out. Takes no lock while it waits: what is written meanwhile becomes readable in its topics.
///
/// # Errors
/// `Full`, `Io` if no reservation could be stored.
pub(crate) fn reserve(blocks: &Mutex<Blocks>, count: u64, log: &Log, now: Wall) -> Result<()> {
    for attempt in 0..TRIES {
        let mut state = blocks.lock();
        if state.has(count, log) {
            return Ok(());
        }
        // One who waits already waits for all, unless that was not enough.
        if attempt > 0 || !state.has_asked(count) {
            state.ask(count, log, now);
        }
        drop(state);
        log.wait_written();
        log.sync()?;
    }
    if blocks.lock().has(count, log) {
        return Ok(());
    }
    log.check()?;
    Err(Error::new(ErrorKind::Full, "no offsets could be reserved on disk"))
}

/// The counter. Behind a lock of its own, between topic and log.
pub(crate) struct Blocks {
    /// Next block to hand out.
    next: u64,
    /// Blocks below may be handed out: their reservation is fsync'd.
    reserved: u64,
    /// A reservation on its way: up to this block, in the log before this position.
    asked: Option<(u64, LogPos)>,
    /// Blocks reserved at a time.
    step: u64,
}

impl Blocks {
    /// Goes on above `next`, all below which may have been handed out.
    pub(crate) fn new(next: u64, now: Wall, step: u64) -> Self {
        let by_clock = now.since(EPOCH) / (1_000_000_000 / PER_SECOND);
        let next = next.max(by_clock).max(1);
        Self { next, reserved: next, asked: None, step }
    }

    /// Hands out `count` neighbouring blocks of those reserved, and waits for nothing: the caller holds a
    /// topic.
    ///
    /// # Errors
    /// `Full` if too few are reserved: call [`reserve`] first, without any lock.
    pub(crate) fn draw(&mut self, count: u64, log: &Log) -> Result<u64> {
        self.apply_reservation(log);
        if self.next + count > self.reserved {
            return Err(Error::new(ErrorKind::Full, "no offsets are reserved on disk; try again"));
        }
        let first = self.next;
        self.next += count;
        Ok(first)
    }

    /// Whether `count` can be drawn, and some more by others who come in between.
    fn has(&mut self, count: u64, log: &Log) -> bool {
        self.apply_reservation(log);
        self.next + count + SPARE <= self.reserved
    }

    /// Whether `count` blocks can be drawn once the reservation on its way is fsync'd.
    fn has_asked(&self, count: u64) -> bool {
        self.asked.is_some_and(|(upto, _)| self.next + count + SPARE <= upto)
    }

    /// Keeps enough reserved ahead; for a tick of maintenance. Returns whether an fsync is wanted soon.
    pub(crate) fn top_up(&mut self, log: &Log, now: Wall) -> bool {
        self.apply_reservation(log);
        let low = self.reserved - self.next < self.step / 2;
        if low && self.asked.is_none() {
            self.ask(0, log, now);
        }
        low
    }

    /// The first block above all reserved ones.
    pub(crate) fn ceiling(&self) -> u64 {
        self.asked.map_or(self.reserved, |(upto, _)| upto.max(self.reserved))
    }

    fn ask(&mut self, count: u64, log: &Log, now: Wall) {
        let upto = self.ceiling().max(self.next) + count + SPARE + self.step;
        let mut bytes = Vec::new();
        Event::Counters { topic: TopicNo::NONE, channel: ChannelNo::NONE, block: upto }.encode(&mut bytes);
        let _ = log.enqueue_state(bytes, 1, now, None, false);
        self.asked = Some((upto, log.end()));
    }

    /// Takes a reservation in force once it is fsync'd.
    fn apply_reservation(&mut self, log: &Log) {
        if let Some((upto, position)) = self.asked
            && log.synced() >= position
        {
            self.reserved = upto;
            self.asked = None;
        }
    }
}
