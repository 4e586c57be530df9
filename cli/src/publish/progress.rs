//! Progress of publishing.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mq_core::TopicName;
use mq_server::config::units;
use mq_server::config::value::Size;

use crate::words::count;

/// Interval between two writes of the progress line.
const EVERY: Duration = Duration::from_millis(200);
/// Lines left out that are named one by one; the others are counted.
const LEFT_OUT_NAMED_MAX: u64 = 10;

/// The line on stderr that says how far the run is: rewritten in place on a terminal, else only the last one.
pub(super) struct Progress {
    topic: TopicName,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
    messages_read: u64,
    bytes_read: u64,
    /// Lines that were too long.
    pub(super) lines_left_out: u64,
    /// Lines without a byte, which are no messages.
    pub(super) lines_empty: u64,
}

impl Progress {
    pub(super) fn new(topic: &TopicName) -> Self {
        Self {
            topic: topic.clone(),
            started: Instant::now(),
            shown: None,
            terminal: std::io::stderr().is_terminal(),
            messages_read: 0,
            bytes_read: 0,
            lines_left_out: 0,
            lines_empty: 0,
        }
    }

    pub(super) fn read(&mut self, batch: &[Bytes]) {
        self.messages_read += batch.len() as u64;
        self.bytes_read += batch.iter().map(|body| body.len() as u64).sum::<u64>();
    }

    /// Names the lines that are too long, the first few one by one.
    pub(super) fn left_out(&mut self, lines: &[u64], max: Size) {
        for line in lines {
            self.lines_left_out += 1;
            let start = if self.shown.is_some() { "\r\x1b[K" } else { "" };
            let what = match self.lines_left_out {
                ..=LEFT_OUT_NAMED_MAX => {
                    format!("line {line} is longer than --max-msg-size ({} bytes), and left out", max.0)
                }
                n if n == LEFT_OUT_NAMED_MAX + 1 => "more such lines are counted only".to_owned(),
                _ => continue,
            };
            let _ = writeln!(std::io::stderr(), "{start}mq pub: {what}");
        }
    }

    pub(super) fn show(&mut self, acknowledged: u64) {
        if self.terminal && self.shown.is_none_or(|shown| shown.elapsed() >= EVERY) {
            self.shown = Some(Instant::now());
            // A closed stderr is no reason to stop publishing.
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", self.line(acknowledged));
        }
    }

    pub(super) fn finish(&mut self, acknowledged: u64) {
        let (start, end) = if self.shown.is_some() { ("\r", "\x1b[K") } else { ("", "") };
        let _ = writeln!(std::io::stderr(), "{start}{}{end}", self.line(acknowledged));
        if self.lines_empty > 0 {
            let skipped = count(self.lines_empty, "empty line was", "empty lines were");
            let _ = writeln!(std::io::stderr(), "mq pub: {skipped} skipped: a message has at least one byte");
        }
    }

    fn line(&self, acknowledged: u64) -> String {
        let seconds = self.started.elapsed().as_secs_f64();
        let rate = acknowledged as f64 / seconds.max(1e-3);
        format!(
            "{} acknowledged by {}, {} read, {seconds:.1} s, {rate:.0}/s",
            count(acknowledged, "message", "messages"),
            self.topic,
            units::show_size(self.bytes_read)
        )
    }

    /// `error`, with how far the run came.
    pub(super) fn failure(&self, error: &str, acknowledged: u64) -> String {
        format!(
            "{error}: {acknowledged} of {} acknowledged",
            count(self.messages_read, "message read was", "messages read were")
        )
    }
}
