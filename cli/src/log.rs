//! Lines on stderr of commands that run until they are stopped.

use std::fmt::Display;
use std::io::Write;

use jiff::Zoned;
use libmq::{Error, Failure, Subscription};
use mq_bench::plain_words::plain;

/// Importance of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Level {
    Debug,
    Info,
    Warn,
    Error,
    Fatal,
}

/// Log of a command: what is below its level is left out.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    prefix: String,
    level: Level,
    /// Whether a line has its time and level, as NSQ's tools write it.
    is_dated: bool,
}

impl Log {
    /// Lines that begin with the command's name.
    pub(crate) fn new(command: &str) -> Self {
        Self { prefix: format!("{command}: "), level: Level::Info, is_dated: false }
    }

    /// Lines in the form of NSQ's tools.
    pub(crate) fn dated(prefix: &str, level: Level) -> Self {
        Self { prefix: prefix.to_owned(), level, is_dated: true }
    }

    pub(crate) fn debug(&self, text: impl Display) {
        self.line(Level::Debug, text);
    }

    pub(crate) fn info(&self, text: impl Display) {
        self.line(Level::Info, text);
    }

    pub(crate) fn warn(&self, text: impl Display) {
        self.line(Level::Warn, text);
    }

    pub(crate) fn error(&self, text: impl Display) {
        self.line(Level::Error, text);
    }

    fn line(&self, level: Level, text: impl Display) {
        if level < self.level {
            return;
        }
        let prefix = &self.prefix;
        // A closed stderr is no reason to stop.
        let _ = match self.is_dated {
            false => writeln!(std::io::stderr(), "{prefix}{text}"),
            true => {
                let now = Zoned::now().strftime("%Y/%m/%d %H:%M:%S%.6f").to_string();
                let level = format!("{level:?}").to_uppercase();
                writeln!(std::io::stderr(), "{prefix}{now} {level}: {text}")
            }
        };
    }

    /// Writes what went wrong at brokers and lookup servers since the last time.
    pub(crate) fn failures(&self, subscription: &Subscription) {
        for failure in subscription.failures() {
            self.failure(&failure);
        }
    }

    /// Writes what went wrong. Returns whether a server can't be reached, which is tried again.
    pub(crate) fn failure(&self, failure: &Failure) -> bool {
        let text = plain(&failure.to_string());
        let is_down = failure.message.is_none() && matches!(failure.error, Error::Unreachable { .. });
        match is_down {
            true => {
                let hint = if text.contains("refused") { ": is a broker running there?" } else { "." };
                self.warn(format_args!("{text}{hint} It is tried again until it is reached"));
            }
            false => self.warn(text),
        }
        is_down
    }
}
