//! A connection that consumes: a FIN for each message, those of one read written at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use mq_nsq::wire::frame::{CLOSE_WAIT, Frame, HEARTBEAT};

use super::body::Stamp;
use super::connection::Connection;
use super::frames::UNASKED;
use super::run::{Goal, Run};
use super::seen::{Seen, Sight};

/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;
/// Longest wait for the server's answer to CLS, which follows the last FIN.
const CLOSE: Duration = Duration::from_secs(10);

/// One who consumes.
pub(crate) struct Consumer {
    pub(crate) connection: Connection,
    /// Messages in flight at most.
    pub(crate) rdy: u32,
    pub(crate) goal: Arc<Goal>,
    /// Index of the channel it consumes.
    pub(crate) channel: usize,
    /// Only messages of this run count; others are finished and counted as strangers.
    pub(crate) only_this_run: bool,
    /// Notes how old messages are, but for those of the first so much of the phase.
    pub(crate) warm_up: Option<Duration>,
}

/// Results of one consumer.
pub(crate) struct Consumed {
    pub(crate) channel: usize,
    pub(crate) messages: u64,
    /// Bytes of their bodies.
    pub(crate) bytes: u64,
    /// Messages that were not ours.
    pub(crate) strangers: u64,
    pub(crate) seen: Seen,
    /// Nanoseconds from the intended time of sending.
    pub(crate) latency_ns: Option<Histogram<u64>>,
    /// Time at which the last message came.
    pub(crate) last: Option<Instant>,
}

/// Longer latencies count as this: an hour.
const LATENCY_NS_MAX: u64 = 3_600_000_000_000;

/// A histogram of nanoseconds, to three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>, String> {
    Histogram::new_with_bounds(1, LATENCY_NS_MAX, 3).map_err(|error| format!("histogram: {error}"))
}

impl Consumer {
    /// Consumes until its channel's goal is met, or nothing more comes.
    pub(crate) fn run(mut self, run: &Run) -> Result<Consumed, String> {
        let mut got = Consumed {
            channel: self.channel,
            messages: 0,
            bytes: 0,
            strangers: 0,
            seen: Seen::default(),
            latency_ns: self.warm_up.map(|_| histogram()).transpose()?,
            last: None,
        };
        self.connection.frames.reserve(READ_BYTES);
        self.connection.send(format!("RDY {}\n", self.rdy).as_bytes())?;
        let began = Instant::now();
        let latency_from = self.warm_up.map_or(Duration::MAX, |warm_up| run.started() + warm_up);
        let latency_from_ns = u64::try_from(latency_from.as_nanos()).unwrap_or(u64::MAX);
        let mut commands = Vec::with_capacity(READ_BYTES / 4);
        loop {
            if self.connection.wait()? {
                let now_ns = run.now_ns();
                let before = got.messages;
                while let Some(frame) = self.connection.frames.next_frame()? {
                    match frame {
                        Frame::Message(message) => {
                            commands.extend_from_slice(b"FIN ");
                            commands.extend_from_slice(message.id);
                            commands.push(b'\n');
                            let age_ns = |intended_ns| {
                                (intended_ns >= latency_from_ns).then(|| now_ns.saturating_sub(intended_ns))
                            };
                            got.note(message.body, run, self.only_this_run, age_ns);
                        }
                        other => answer(&other, &mut commands)?,
                    }
                }
                if !commands.is_empty() {
                    self.connection.send(&commands)?;
                    commands.clear();
                }
                if got.messages > before {
                    got.last = Some(Instant::now());
                    self.goal.received(got.messages - before, run);
                }
            } else if self.goal.is_hopeless(run, began) || run.has_failed() {
                break;
            }
            // A run that publishes goes on until what it has published came.
            if self.goal.is_met(run) || (run.is_stopped() && self.goal.messages.is_some()) {
                break;
            }
        }
        self.close(run)?;
        Ok(got)
    }

    /// Makes sure that the server has taken every FIN. What was still on its way goes back to the channel.
    fn close(&mut self, run: &Run) -> Result<(), String> {
        self.connection.send(b"CLS\n")?;
        let deadline = Instant::now() + CLOSE;
        while Instant::now() < deadline && !run.has_failed() {
            self.connection.wait()?;
            while let Some(frame) = self.connection.frames.next_frame()? {
                match frame {
                    Frame::Response(CLOSE_WAIT) => return Ok(()),
                    other => answer(&other, &mut Vec::new())?,
                }
            }
        }
        if run.has_failed() {
            return Ok(());
        }
        Err(format!("CLS had no answer for {CLOSE:?}"))
    }
}

fn answer(frame: &Frame<'_>, commands: &mut Vec<u8>) -> Result<(), String> {
    match frame {
        Frame::Response(HEARTBEAT) => commands.extend_from_slice(b"NOP\n"),
        Frame::Response(other) => {
            return Err(format!("unexpected answer {:?}", String::from_utf8_lossy(other)));
        }
        // Its message timed out under way and comes again: a duplicate, and counted as one.
        Frame::Error(text) if text.starts_with(b"E_FIN_FAILED") => {}
        Frame::Error(text) => return Err(String::from_utf8_lossy(text).into_owned()),
        Frame::Message(_) => {}
        Frame::Delivery(_) | Frame::Results(_) => return Err(UNASKED.to_owned()),
    }
    Ok(())
}

impl Consumed {
    fn note(&mut self, body: &[u8], run: &Run, only_this_run: bool, age_ns: impl Fn(u64) -> Option<u64>) {
        let stamp = match Stamp::get(body) {
            Some(stamp) if !only_this_run || stamp.run == run.number => stamp,
            Some(_) => {
                self.strangers += 1;
                return;
            }
            None => {
                self.strangers += 1;
                // Whoever consumes what is there counts whatever is there.
                self.messages += u64::from(!only_this_run);
                self.bytes += if only_this_run { 0 } else { body.len() as u64 };
                return;
            }
        };
        self.bytes += body.len() as u64;
        match self.seen.note(stamp.run, stamp.connection, stamp.sequence) {
            Sight::First => self.messages += 1,
            Sight::Again => return,
            Sight::Unknown => {
                self.messages += 1;
                self.strangers += 1;
            }
        }
        if let Some(histogram) = &mut self.latency_ns
            && let Some(age_ns) = age_ns(stamp.intended_ns)
        {
            histogram.saturating_record(age_ns);
        }
    }
}
