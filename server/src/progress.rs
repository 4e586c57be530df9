//! A bar on stderr for work that takes long: only on a terminal, and only once it has taken a while.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use crate::units;

/// Work that ends sooner shows nothing.
const QUIET: Duration = Duration::from_millis(500);
/// How often the bar is drawn.
const EVERY: Duration = Duration::from_millis(100);
/// Characters of the bar.
const WIDTH: u64 = 30;

/// A bar, erased when dropped.
pub(crate) struct Bar {
    started: Instant,
    shown: Option<Instant>,
    terminal: bool,
}

impl Bar {
    pub(crate) fn new() -> Self {
        Self { started: Instant::now(), shown: None, terminal: std::io::stderr().is_terminal() }
    }

    /// Tells how much of how much is done, in bytes.
    pub(crate) fn show(&mut self, done: u64, total: u64) {
        let is_due = self.shown.map_or(self.started.elapsed() >= QUIET, |shown| shown.elapsed() >= EVERY);
        if self.terminal && is_due {
            self.shown = Some(Instant::now());
            // A closed stderr is no reason to stop.
            let _ = write!(std::io::stderr(), "\r{}\x1b[K", line(done, total));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown.is_some() {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn line(done: u64, total: u64) -> String {
    let part = |of: u64| (u128::from(done.min(total)) * u128::from(of) / u128::from(total.max(1))) as u64;
    let full = "#".repeat(part(WIDTH) as usize);
    let (percent, width) = (part(100), WIDTH as usize);
    format!("[{full:<width$}] {percent:3}%, {} of {} read", units::show_size(done), units::show_size(total))
}

#[cfg(test)]
mod tests {
    use super::line;

    #[test]
    fn a_bar_fills_up() {
        assert_eq!(line(0, 0), "[                              ]   0%, 0 B of 0 B read");
        assert_eq!(line(512, 1024), "[###############               ]  50%, 512 B of 1.0 KiB read");
        assert_eq!(line(9, 9), "[##############################] 100%, 9 B of 9 B read");
    }
}
