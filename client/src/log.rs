//! Log lines about a client, for the packages of other languages: events of its connections, and of a broker
//! in this process.

use std::fmt::{self, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Dispatch, Event, Level, Metadata, span};

use crate::events::ConnectionEvent;

/// Weight of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// Something is lost or refused until somebody acts.
    Error,
    /// Something failed, and is tried again or got around.
    Warning,
    /// Something happened as it should.
    Info,
}

impl ConnectionEvent {
    /// The event as a log line.
    #[doc(hidden)] // For the packages of other languages.
    pub fn line(&self) -> (LogLevel, String) {
        match self {
            Self::Connected { broker, .. } => (LogLevel::Info, format!("connected to {broker}")),
            Self::Closed { broker } => (LogLevel::Warning, format!("the connection to {broker} ended")),
            Self::Failed(failure) => (LogLevel::Warning, failure.to_string()),
        }
    }
}

/// A receiver that makes a line of each event of a broker in this process: for
/// [`tracing::dispatcher::with_default`], around the calls that open and close it.
pub fn broker_lines(push: impl Fn(LogLevel, String) + Send + Sync + 'static) -> Dispatch {
    Dispatch::new(BrokerLines(push))
}

struct BrokerLines<F>(F);

impl<F: Fn(LogLevel, String) + 'static> tracing::Subscriber for BrokerLines<F> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO && metadata.target().starts_with("mq_")
    }

    fn max_level_hint(&self) -> Option<tracing::level_filters::LevelFilter> {
        Some(tracing::level_filters::LevelFilter::INFO)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = Line(String::new());
        event.record(&mut line);
        let level = match *event.metadata().level() {
            Level::ERROR => LogLevel::Error,
            Level::WARN => LogLevel::Warning,
            _ => LogLevel::Info,
        };
        (self.0)(level, line.0);
    }

    // The broker has events alone.
    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// A line in the making: the message first, then each field as `name=value`.
struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a string succeeds.
        let _ = match field.name() {
            "message" => {
                let fields = std::mem::take(&mut self.0);
                write!(self.0, "{value:?}{fields}")
            }
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use mq_core::sync::Mutex;

    use super::*;

    #[test]
    fn a_brokers_event_is_a_line_with_its_message_first() {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let pushed = Arc::clone(&lines);
        let dispatch = broker_lines(move |level, line| pushed.lock().push((level, line)));
        tracing::dispatcher::with_default(&dispatch, || {
            tracing::warn!(target: "mq_core", file = 7, "it is {}", "full");
            tracing::debug!(target: "mq_core", "not a line");
            tracing::warn!(target: "other", "not ours");
        });
        assert_eq!(*lines.lock(), [(LogLevel::Warning, "it is full file=7".to_owned())]);
    }
}
