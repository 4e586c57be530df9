//! A bar on stderr for work that takes long, once it has taken a while: drawn in place on a terminal, else a
//! line at a time.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use mq_server::config::units;

/// Work that ends sooner shows nothing.
const QUIET: Duration = Duration::from_millis(500);
/// Interval between two drawings of the bar.
const EVERY: Duration = Duration::from_millis(100);
/// Interval between two lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);
/// Characters of the bar.
const WIDTH: u64 = 30;

/// Unit of the work.
#[derive(Clone, Copy)]
pub(crate) enum Unit {
    /// Bytes that are read.
    BytesRead,
    Messages,
    Topics,
    Connections,
    Seconds,
}

/// A bar, erased when dropped.
pub(crate) struct Bar {
    unit: Unit,
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    pub(crate) fn new(unit: Unit) -> Self {
        Self { unit, started: Instant::now(), shown: None, terminal: std::io::stderr().is_terminal() }
    }

    /// Shows that `done` of `total` is done.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        let (quiet, every) = if self.terminal { (QUIET, EVERY) } else { (LINE_EVERY, LINE_EVERY) };
        if self.shown.map_or(self.started.elapsed() >= quiet, |shown| shown.elapsed() >= every) {
            self.shown = Some(Instant::now());
            let line = line(self.unit, done, total);
            // A closed stderr is no reason to stop.
            let _ = match self.terminal {
                true => write!(std::io::stderr(), "\r{line}\x1b[K"),
                false => writeln!(std::io::stderr(), "{line}"),
            };
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.terminal && self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(unit: Unit, done: u64, total: u64) -> String {
    let part = |of: u64| (u128::from(done.min(total)) * u128::from(of) / u128::from(total.max(1))) as u64;
    let full = "#".repeat(part(WIDTH) as usize);
    let (percent, width) = (part(100), WIDTH as usize);
    let bar = format!("[{full:<width$}] {percent:3}%");
    match unit {
        Unit::BytesRead => format!("{bar}, {} of {} read", units::show_size(done), units::show_size(total)),
        Unit::Messages => format!("{bar}, {done} of {total} messages"),
        Unit::Topics => format!("{bar}, {done} of {total} topics"),
        Unit::Connections => format!("{bar}, {done} of {total} connections"),
        Unit::Seconds => format!("{bar}, {done} of {total} s"),
    }
}

#[cfg(test)]
mod tests {
    use super::{Unit, line};

    #[test]
    fn a_bar_fills_up() {
        assert_eq!(line(Unit::BytesRead, 0, 0), "[                              ]   0%, 0 B of 0 B read");
        assert_eq!(
            line(Unit::BytesRead, 512, 1024),
            "[###############               ]  50%, 512 B of 1.0 KiB read"
        );
        assert_eq!(line(Unit::BytesRead, 9, 9), "[##############################] 100%, 9 B of 9 B read");
        assert_eq!(line(Unit::Messages, 1, 2), "[###############               ]  50%, 1 of 2 messages");
    }
}
