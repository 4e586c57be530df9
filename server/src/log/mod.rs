//! The log: lines on stderr, as text, in nsqd's form or as JSON, whose level can change while the process
//! runs.
//!
//! - `detached_writer`: writes lines without making anybody wait; `log_throttle`: holds back repeated
//!   lines
//! - `nsqd_format`: nsqd's form

pub(crate) mod detached_writer;
mod log_throttle;
mod nsqd_format;

use std::io::{self, IsTerminal, Write};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt, reload};

use self::detached_writer::DetachedWriter;
use self::log_throttle::{REPORT, RepeatLimit, Repeats};
use self::nsqd_format::NsqdFormat;
use crate::config::value::{LogFormat, LogLevel};
use crate::invoked_as::InvokedAs;

/// Longest wait at the end of a process for the last lines to be written.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Target of the line about what ends a process.
const FATAL: &str = "mq_server::fatal";

/// The log of this process, once a server has begun one.
static LOG: OnceLock<Log> = OnceLock::new();

/// Options of the log.
#[derive(Clone, Debug)]
pub(crate) struct LogOptions {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
    /// Beginning of each line of a text log.
    pub(crate) prefix: String,
}

/// The running log. Clones share it.
#[derive(Clone)]
pub(crate) struct Log {
    level: reload::Handle<LevelFilter, Registry>,
    repeats: Arc<Repeats>,
    writer: DetachedWriter,
    /// Whether its lines are plain text, for people.
    is_plain: bool,
}

impl LogOptions {
    /// Installs the process's log. There is one in a process: of later calls only the level counts.
    pub(crate) fn install(self, invoked_as: InvokedAs) -> Log {
        let level = self.level;
        let log = LOG.get_or_init(|| self.start(invoked_as));
        log.set_level(level);
        log.clone()
    }

    fn start(self, invoked_as: InvokedAs) -> Log {
        let (filter, level) = reload::Layer::new(self.level.0);
        let repeats = Arc::new(Repeats::default());
        let writer = DetachedWriter::start(io::stderr(), |lines| {
            tracing::error!(target: REPORT, lines, "log lines lost: nobody read them in time");
        });
        let sink = LineSink { prefix: Arc::from(self.prefix), writer: writer.clone() };
        let lines = fmt::layer().with_ansi(io::stderr().is_terminal());
        let lines = match (self.format, invoked_as) {
            (LogFormat::Json, _) => {
                let sink = LineSink { prefix: Arc::from(""), ..sink };
                lines.with_writer(move || sink.clone()).json().flatten_event(true).boxed()
            }
            (LogFormat::Text, InvokedAs::Mq) => lines.with_writer(move || sink.clone()).boxed(),
            (LogFormat::Text, InvokedAs::Nsqd | InvokedAs::Nsqlookupd | InvokedAs::Nsqadmin) => {
                lines.event_format(NsqdFormat).with_writer(move || sink.clone()).boxed()
            }
        };
        let limited = lines.with_filter(RepeatLimit(Arc::clone(&repeats)));
        // An error here means that the program around this one has a log already, which is what is wanted.
        let _ = tracing_subscriber::registry().with(filter).with(limited).try_init();
        let is_plain = matches!((self.format, invoked_as), (LogFormat::Text, InvokedAs::Mq));
        Log { level, repeats, writer, is_plain }
    }
}

impl Log {
    /// Changes the least severe lines that are written.
    pub(crate) fn set_level(&self, level: LogLevel) {
        // It fails only when the log is gone, and then nobody reads this either.
        let _ = self.level.reload(level.0);
    }

    /// Reports from time to time how many lines were held back. Never ends.
    pub(crate) fn report_repeats(&self) -> impl Future<Output = ()> + use<> {
        Arc::clone(&self.repeats).report()
    }

    /// Waits until the lines so far are written, for a second at most.
    pub(crate) fn flush(&self) {
        self.writer.flush(LAST_LINES);
    }
}

/// Writes what has ended the server called `name`: as a line of its log, where programs may read that.
pub fn complain_of_end(name: &str, why: &str) {
    match LOG.get() {
        Some(log) if !log.is_plain => {
            tracing::error!(target: FATAL, "{why}");
            log.flush();
        }
        _ => complain(&format!("{name}: {why}\n")),
    }
}

/// Writes `text` to stderr, waiting a second at most for it to be taken: nobody may read there.
pub fn complain(text: &str) {
    let writer = DetachedWriter::start(io::stderr(), |_| {});
    writer.write(text.as_bytes());
    writer.flush(LAST_LINES);
}

/// Queues lines with a word before each, in one piece so that lines do not mix.
#[derive(Clone)]
struct LineSink {
    prefix: Arc<str>,
    writer: DetachedWriter,
}

impl Write for LineSink {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.prefix.is_empty() {
            self.writer.write(line);
        } else {
            self.writer.write(&[self.prefix.as_bytes(), line].concat());
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
