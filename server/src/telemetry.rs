//! The log: lines on stderr, as text or JSON, whose level can change while it runs.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::value::{LogFormat, LogLevel};
use crate::log_throttle::{RepeatLimit, Repeats};

/// How the process logs.
#[derive(Clone, Debug)]
pub(crate) struct Telemetry {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
    /// What each line of a text log begins with.
    pub(crate) prefix: String,
}

/// The running log.
pub(crate) struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    repeats: Arc<Repeats>,
}

impl Telemetry {
    /// Installs the process's log. Once in a process: later calls change nothing.
    pub(crate) fn install(self) -> Log {
        let (filter, level) = reload::Layer::new(self.level.0);
        let repeats = Arc::new(Repeats::default());
        let lines = fmt::layer().with_ansi(io::stderr().is_terminal());
        let lines = match self.format {
            LogFormat::Text => lines.with_writer(move || Prefixed(self.prefix.clone())).boxed(),
            LogFormat::Json => lines.with_writer(io::stderr).json().flatten_event(true).boxed(),
        };
        let limited = lines.with_filter(RepeatLimit(Arc::clone(&repeats)));
        // An error here means that a log is there already, which is what is wanted.
        let _ = tracing_subscriber::registry().with(filter).with(limited).try_init();
        Log { level, repeats }
    }
}

impl Log {
    /// Changes the least severe lines that are written.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // It fails only when the log is gone, and then nobody reads this either.
        let _ = self.level.reload(level.0);
    }

    /// Says from time to time which lines were held back. Never ends.
    pub(crate) fn report_repeats(&self) -> impl Future<Output = ()> + use<> {
        Arc::clone(&self.repeats).report()
    }
}

/// Writes to stderr with a word before each line, in one piece so that lines do not mix.
struct Prefixed(String);

impl Write for Prefixed {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            io::stderr().write_all(line)?;
        } else {
            io::stderr().write_all(&[self.0.as_bytes(), line].concat())?;
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
