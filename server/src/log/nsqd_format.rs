//! Lines in nsqd's form: prefix, date, time, level, text.

use std::fmt;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::registry::LookupSpan;

use super::FATAL;

/// `2026/01/31 12:00:00.000000 INFO: text`, the time in UTC. The prefix is the writer's.
pub(crate) struct NsqdFormat;

impl<S, N> FormatEvent<S, N> for NsqdFormat
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        // `2026-01-31T12:00:00.000000Z`
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let time = time.trim_end_matches('Z').replace('-', "/").replace('T', " ");
        let level = match *event.metadata().level() {
            Level::TRACE | Level::DEBUG => "DEBUG",
            Level::INFO => "INFO",
            Level::WARN => "WARNING",
            Level::ERROR if event.metadata().target() == FATAL => "FATAL",
            Level::ERROR => "ERROR",
        };
        write!(writer, "{time} {level}: ")?;
        context.format_fields(writer.by_ref(), event)?;
        writer.write_char('\n')
    }
}
