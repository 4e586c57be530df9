//! A connection that publishes: as fast as its window allows, or at a fixed rate.

use std::hint;
use std::num::NonZeroU64;
use std::sync::atomic::Ordering;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::commands::Commands;
use super::connection::{Connection, PATIENCE};
use super::run::Run;

/// The scheduler may wake who sleeps so much later, in nanoseconds; its default of 50,000 is many latencies.
const TIMER_SLACK_NS: u64 = 1;
/// Before a command is due the clock is watched for so long, if that is a small part of the interval: a sleep
/// ends tens of microseconds late, which are no latency of the broker's.
const WATCH: Duration = Duration::from_micros(60);
const WATCH_PART: u32 = 10;
/// At a fixed rate, answers are taken in once there are about so many.
const ANSWERS_PER_POLL: u64 = 64;

/// One who publishes.
pub(crate) struct Publisher {
    pub(crate) connection: Connection,
    pub(crate) commands: Commands,
    /// Messages of a command.
    pub(crate) batch: u64,
    /// Commands to send.
    pub(crate) total: u64,
    /// Ends earlier once so much time has passed.
    pub(crate) duration: Option<Duration>,
    pub(crate) pace: Pace,
}

/// Results of one publisher.
pub(crate) struct Published {
    /// Bytes of the bodies that were acknowledged.
    pub(crate) bytes: u64,
    /// Time of the last one.
    pub(crate) last: Instant,
}

/// Pace at which commands go out.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// At most so many commands are unanswered. As a client that buffers does, it sends again when half are
    /// answered.
    Window(u64),
    /// Command `n` goes out `offset + n * interval` after the phase began, whatever was answered.
    Fixed { offset: Duration, interval: Duration },
}

impl Publisher {
    /// Publishes to the end.
    pub(crate) fn run(mut self, run: &Run) -> Result<Published, String> {
        let sent = match self.pace {
            Pace::Window(window) => self.saturate(window, run),
            Pace::Fixed { offset, interval } => self.keep_time(offset, interval, run),
        };
        // After all that was counted as published.
        run.publishers.fetch_sub(1, Ordering::Release);
        Ok(Published { bytes: sent? * self.batch * self.commands.message_bytes(), last: Instant::now() })
    }

    fn saturate(&mut self, window: u64, run: &Run) -> Result<u64, String> {
        let deadline = self.duration.map(|duration| Instant::now() + duration);
        let (mut left, mut unanswered, mut acknowledged) = (self.total, 0, 0);
        loop {
            if run.is_stopped() || deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                left = 0;
            }
            let room = window - unanswered;
            if room >= window.div_ceil(2) {
                let mut count = room.min(left);
                left -= count;
                unanswered += count;
                while count > 0 {
                    let (bytes, taken) = self.commands.take(count, 0);
                    self.connection.send(bytes)?;
                    count -= taken;
                }
            }
            if unanswered == 0 || run.has_failed() {
                return Ok(acknowledged);
            }
            let answered = self.answers(run)?;
            unanswered =
                unanswered.checked_sub(answered).ok_or_else(|| "more answers than commands".to_owned())?;
            acknowledged += answered;
        }
    }

    fn keep_time(&mut self, offset: Duration, interval: Duration, run: &Run) -> Result<u64, String> {
        // Without it the times are those of the timer; nothing is wrong but the figures, and only where that
        // fails.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS));
        let (mut answered, mut polled) = (0, 0);
        let offset = run.started() + offset;
        let watch = WATCH.min(interval / WATCH_PART);
        for n in 0..self.total {
            let intended = offset + interval.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
            if run.is_stopped() || self.duration.is_some_and(|duration| intended - offset >= duration) {
                self.total = n;
                break;
            }
            let left = intended.saturating_sub(run.elapsed());
            if left > watch {
                sleep(left - watch);
            }
            while run.elapsed() < intended {
                hint::spin_loop();
            }
            let intended_ns = u64::try_from(intended.as_nanos()).unwrap_or(u64::MAX);
            let (bytes, _) = self.commands.take(1, intended_ns);
            self.connection.send(bytes)?;
            if n >= polled + ANSWERS_PER_POLL {
                polled = n;
                self.connection.poll()?;
                answered += self.take_answers(run)?;
            }
            if run.has_failed() {
                return Ok(answered);
            }
        }
        while answered < self.total && !run.has_failed() {
            answered += self.answers(run)?;
        }
        Ok(answered)
    }

    /// Waits for answers: how many commands they are for.
    fn answers(&mut self, run: &Run) -> Result<u64, String> {
        let mut waiting: Option<Instant> = None;
        while !self.connection.wait()? {
            if run.has_failed() {
                return Ok(0);
            }
            if waiting.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
                return Err(format!("no answer for {PATIENCE:?}"));
            }
        }
        self.take_answers(run)
    }

    fn take_answers(&mut self, run: &Run) -> Result<u64, String> {
        let answers = self.connection.answers()?;
        run.published.fetch_add(answers * self.batch, Ordering::Relaxed);
        Ok(answers)
    }
}
