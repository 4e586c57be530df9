//! The log: lines on stderr, as text or JSON.

use std::io::IsTerminal;

use crate::setting::{LogFormat, LogLevel};

/// How the process logs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Telemetry {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

impl Telemetry {
    /// Installs the process's log. Once in a process: later calls change nothing.
    pub(crate) fn install(self) {
        let builder = tracing_subscriber::fmt()
            .with_max_level(self.level.0)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        // An error here means that a log is there already, which is what is wanted.
        let _ = match self.format {
            LogFormat::Text => builder.try_init(),
            LogFormat::Json => builder.json().flatten_event(true).try_init(),
        };
    }
}
