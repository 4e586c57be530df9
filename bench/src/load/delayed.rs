//! Messages that come due in another order than they were published: how late they come, and what the server
//! reads from its files for them. Two commands, between which the server can be killed.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mq_core::{ChannelName, TopicName};
use mq_nsq::wire::frame::{Frame, HEARTBEAT};
use mq_server::config::value::Size;

use super::body::{STAMP_BYTES, Stamp, filler};
use super::connection::{Connection, PATIENCE};
use super::consumer::histogram;
use super::options::{Server, duration, size};
use super::phase::Meter;
use super::report::{self, Check, Phase, Report};
use super::seen::{Seen, Sight};
use crate::{Front, Unit};

/// Commands on the connection that are not answered.
const WINDOW: u64 = 1_000;
/// Bytes read at a time.
const READ_BYTES: usize = 256 << 10;

/// Flags of `mq bench defer`.
#[derive(clap::Args)]
pub(crate) struct Defer {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Topic; made if there is none
    #[arg(long, value_name = "TOPIC", default_value = "bench", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Channel of it that is made first, so that messages wait there
    #[arg(long, value_name = "CHANNEL", default_value = "bench", value_parser = |text: &str| ChannelName::parse(text))]
    channel: ChannelName,
    /// Messages
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Longest delay of a message; each has a random one
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    spread: Duration,
    /// Bytes of a message
    #[arg(long, value_name = "SIZE", default_value = "200", value_parser = size)]
    size: Size,
}

/// Flags of `mq bench due`.
#[derive(clap::Args)]
pub(crate) struct ConsumeDue {
    #[command(flatten)]
    pub(crate) server: Server,
    /// Topic
    #[arg(long, value_name = "TOPIC", default_value = "bench", value_parser = |text: &str| TopicName::parse(text))]
    topic: TopicName,
    /// Channel
    #[arg(long, value_name = "CHANNEL", default_value = "bench", value_parser = |text: &str| ChannelName::parse(text))]
    channel: ChannelName,
    /// Messages to finish
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    messages: u64,
    /// Requeue each message once, with a random delay up to this long
    #[arg(long, value_name = "TIME", value_parser = duration)]
    requeue: Option<Duration>,
    /// Messages in flight at most
    #[arg(long, value_name = "COUNT", default_value_t = 2500, value_parser = clap::value_parser!(u32).range(1..))]
    rdy: u32,
    /// Silence after which missing messages count as lost
    #[arg(long, value_name = "TIME", default_value = "70s", value_parser = duration)]
    patience: Duration,
}

/// Nanoseconds of the wall clock: the two commands, and a server that was started in between, share it.
fn wall_ns() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}

fn random_ms(longest: Duration) -> u64 {
    fastrand::u64(0..=u64::try_from(longest.as_millis()).unwrap_or(u64::MAX))
}

impl Defer {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let body_bytes = usize::try_from(self.size.0).unwrap_or(usize::MAX);
        if body_bytes < STAMP_BYTES {
            return Err(format!("--size {body_bytes} is too small: at least {STAMP_BYTES}"));
        }
        let (target, process) = (self.server.target()?, self.server.process()?);
        target.subscribe(self.topic.as_str(), self.channel.as_str())?;
        let mut connection = target.connect()?;
        let mut body = filler(body_bytes);
        let length = u32::try_from(body_bytes).map_err(|_| "--size is too large")?.to_be_bytes();
        let mut bar = (front.bar)(Unit::Messages);
        let run = fastrand::u32(..);
        let (meter, began) = (Meter::start(process)?, Instant::now());
        let (mut sent, mut answered) = (0, 0);
        let mut commands = Vec::new();
        while answered < self.messages && !front.stopped.load(std::sync::atomic::Ordering::Relaxed) {
            while sent < self.messages && sent - answered < WINDOW {
                let delay_ms = random_ms(self.spread);
                let intended_ns = wall_ns() + delay_ms * 1_000_000;
                Stamp { run, connection: 0, sequence: sent, intended_ns }.put(&mut body);
                commands.extend_from_slice(format!("DPUB {} {delay_ms}\n", self.topic).as_bytes());
                commands.extend_from_slice(&length);
                commands.extend_from_slice(&body);
                sent += 1;
            }
            connection.send(&commands)?;
            commands.clear();
            answered += wait_for_answers(&mut connection)?;
            bar(answered, self.messages);
        }
        let seconds = began.elapsed().as_secs_f64();
        let mut phase = Phase {
            name: "defer",
            seconds,
            published: answered,
            operations: answered,
            operations_per_second: answered as f64 / seconds.max(1e-9),
            bytes: answered * self.size.0,
            ..Phase::default()
        };
        meter.stop(&mut phase)?;
        Ok(Report::new("defer", target.address, vec![phase]))
    }
}

/// Waits until there are answers: how many.
fn wait_for_answers(connection: &mut Connection) -> Result<u64, String> {
    let began = Instant::now();
    loop {
        if connection.wait()? {
            match connection.answers()? {
                0 => {}
                answers => return Ok(answers),
            }
        }
        if began.elapsed() >= PATIENCE {
            return Err(format!("no answer for {PATIENCE:?}"));
        }
    }
}

/// The outcome of a delivery.
enum Verdict {
    Finish,
    Requeue(u64),
}

/// The messages that came.
struct Arrivals {
    requeue: Option<Duration>,
    /// Times at which requeued messages are due, by run and number.
    due: HashMap<(u32, u64), u64>,
    seen: Seen,
    finished: u64,
    bytes: u64,
    strangers: u64,
    late_ns: hdrhistogram::Histogram<u64>,
}

impl Arrivals {
    fn note(&mut self, body: &[u8], now_ns: u64) -> Verdict {
        let Some(stamp) = Stamp::get(body) else {
            self.strangers += 1;
            return Verdict::Finish;
        };
        let key = (stamp.run, stamp.sequence);
        if let Some(longest) = self.requeue
            && !self.due.contains_key(&key)
        {
            let delay_ms = random_ms(longest);
            self.due.insert(key, now_ns + delay_ms * 1_000_000);
            return Verdict::Requeue(delay_ms);
        }
        if self.seen.note(stamp.run, stamp.connection, stamp.sequence) != Sight::Again {
            let due_ns = self.due.get(&key).copied().unwrap_or(stamp.intended_ns);
            self.late_ns.saturating_record(now_ns.saturating_sub(due_ns).max(1));
            self.finished += 1;
            self.bytes += body.len() as u64;
        }
        Verdict::Finish
    }
}

impl ConsumeDue {
    pub(crate) fn run(&self, front: Front<'_>) -> Result<Report, String> {
        let (target, process) = (self.server.target()?, self.server.process()?);
        let mut connection = target.subscribe(self.topic.as_str(), self.channel.as_str())?;
        connection.frames.reserve(READ_BYTES);
        let mut got = Arrivals {
            requeue: self.requeue,
            due: HashMap::new(),
            seen: Seen::default(),
            finished: 0,
            bytes: 0,
            strangers: 0,
            late_ns: histogram()?,
        };
        let mut bar = (front.bar)(Unit::Messages);
        let (meter, began) = (Meter::start(process)?, Instant::now());
        let mut last = began;
        let mut commands = format!("RDY {}\n", self.rdy).into_bytes();
        while got.finished < self.messages
            && last.elapsed() < self.patience
            && !front.stopped.load(std::sync::atomic::Ordering::Relaxed)
        {
            if !commands.is_empty() {
                connection.send(&commands)?;
                commands.clear();
            }
            if !connection.wait()? {
                bar(got.finished, self.messages);
                continue;
            }
            let now_ns = wall_ns();
            while let Some(frame) = connection.frames.next_frame()? {
                match frame {
                    Frame::Message(message) => {
                        last = Instant::now();
                        match got.note(message.body, now_ns) {
                            Verdict::Finish => {
                                commands.extend_from_slice(b"FIN ");
                                commands.extend_from_slice(message.id);
                            }
                            Verdict::Requeue(delay_ms) => {
                                commands.extend_from_slice(b"REQ ");
                                commands.extend_from_slice(message.id);
                                commands.extend_from_slice(format!(" {delay_ms}").as_bytes());
                            }
                        }
                        commands.push(b'\n');
                    }
                    Frame::Response(HEARTBEAT) => commands.extend_from_slice(b"NOP\n"),
                    // It timed out under way and comes again: a duplicate, and counted as one.
                    Frame::Error(text) if text.starts_with(b"E_FIN_FAILED") => {}
                    Frame::Error(text) => return Err(String::from_utf8_lossy(text).into_owned()),
                    Frame::Response(other) => {
                        return Err(format!("unexpected answer {:?}", String::from_utf8_lossy(other)));
                    }
                }
            }
        }
        connection.send(&commands)?;
        let seconds = (last - began).as_secs_f64();
        let mut phase = Phase {
            name: "due",
            seconds,
            delivered: got.finished,
            operations: got.finished,
            operations_per_second: got.finished as f64 / seconds.max(1e-9),
            bytes: got.bytes,
            ..Phase::default()
        };
        meter.stop(&mut phase)?;
        let verdict = got.seen.verdict();
        let check = Check {
            lost: self.messages.saturating_sub(verdict.distinct),
            duplicates: verdict.duplicates,
            strangers: got.strangers,
        };
        let latency = (!got.late_ns.is_empty()).then(|| report::Latency::new(&got.late_ns));
        Ok(Report { check: Some(check), latency, ..Report::new("due", target.address, vec![phase]) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(requeue: Option<Duration>) -> Arrivals {
        Arrivals {
            requeue,
            due: HashMap::new(),
            seen: Seen::default(),
            finished: 0,
            bytes: 0,
            strangers: 0,
            late_ns: histogram().unwrap(),
        }
    }

    fn body(sequence: u64, intended_ns: u64) -> Vec<u8> {
        let mut body = vec![0; STAMP_BYTES];
        Stamp { run: 1, connection: 0, sequence, intended_ns }.put(&mut body);
        body
    }

    #[test]
    fn lateness_counts_from_when_a_message_was_due_and_duplicates_not_at_all() {
        let mut got = arrivals(None);
        for (sequence, due, now) in [(0, 5_000_000, 7_000_000), (1, 9_000_000, 8_000_000), (0, 5_000_000, 99)]
        {
            assert!(matches!(got.note(&body(sequence, due), now), Verdict::Finish));
        }
        assert_eq!((got.finished, got.late_ns.len(), got.seen.verdict().duplicates), (2, 2, 1));
        assert!((got.late_ns.max() as f64 - 2_000_000.0).abs() < 2_000_000.0 * 0.001);
        assert!(matches!(got.note(b"of another program", 0), Verdict::Finish));
        assert_eq!(got.strangers, 1);
    }

    #[test]
    fn each_message_is_requeued_once_and_then_due_when_its_delay_is_over() {
        let mut got = arrivals(Some(Duration::ZERO));
        assert!(matches!(got.note(&body(3, 0), 1_000_000), Verdict::Requeue(0)));
        assert!(matches!(got.note(&body(3, 0), 4_000_000), Verdict::Finish));
        assert_eq!((got.finished, got.late_ns.len()), (1, 1));
        assert!((got.late_ns.max() as f64 - 3_000_000.0).abs() < 3_000_000.0 * 0.001);
    }
}
