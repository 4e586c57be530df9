//! Words on stderr that say which broker a publish waits for.

use std::collections::BTreeSet;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use libmq::{Client, ConnectionEvent, Error};
use mq_bench::plain_words::plain;
use tokio::time::{Instant, sleep_until};

/// Time without any broker after which that is said: a broker that restarts takes less.
const PATIENCE: Duration = Duration::from_secs(2);

/// Says once, where no broker is reached for a while, why, and once when one is. Ends only if the client is
/// of no more use.
pub(super) async fn report(client: &Client) -> Error {
    let mut waiting = Waiting::default();
    loop {
        let due = waiting.due();
        let line = tokio::select! {
            events = client.events_async() => match events {
                Ok(events) => waiting.note(events, Instant::now()),
                Err(error) => return error,
            },
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => waiting.say(),
        };
        // The line of progress on a terminal is written anew.
        let start = if std::io::stderr().is_terminal() { "\r\x1b[K" } else { "" };
        if let Some(line) = line {
            // A closed stderr is no reason to stop publishing.
            let _ = writeln!(std::io::stderr(), "{start}mq pub: {line}");
        }
    }
}

/// The brokers that are reached, and what is known of the others. Pure.
#[derive(Default)]
struct Waiting {
    connected: BTreeSet<Arc<str>>,
    /// Time since which none is reached, and the last reason.
    missing: Option<(Instant, String)>,
    is_said: bool,
}

impl Waiting {
    /// Time at which something is to be said.
    fn due(&self) -> Option<Instant> {
        let (since, _) = self.missing.as_ref().filter(|_| !self.is_said)?;
        Some(*since + PATIENCE)
    }

    /// Notes events. Returns what is to be said at once.
    fn note(&mut self, events: Vec<ConnectionEvent>, now: Instant) -> Option<String> {
        let mut line = None;
        for event in events {
            match event {
                ConnectionEvent::Connected { broker, .. } => {
                    self.missing = None;
                    if std::mem::take(&mut self.is_said) {
                        line = Some(format!("connected to {broker}: it goes on"));
                    }
                    self.connected.insert(broker);
                }
                ConnectionEvent::Closed { broker } => {
                    self.connected.remove(&broker);
                }
                ConnectionEvent::Failed(failure) => {
                    if self.connected.is_empty() {
                        let since = self.missing.take().map_or(now, |(since, _)| since);
                        self.missing = Some((since, plain(&failure.to_string())));
                    }
                }
            }
        }
        line
    }

    /// The line about what is waited for.
    fn say(&mut self) -> Option<String> {
        self.is_said = true;
        let (_, why) = self.missing.as_ref()?;
        Some(format!("{why}: waiting for a broker, which is tried again and again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libmq::Failure;

    fn failed(broker: &str) -> ConnectionEvent {
        let why = "Connection refused (os error 111)".to_owned();
        let error = Error::Unreachable { broker: broker.to_owned(), why };
        ConnectionEvent::Failed(Failure { broker: broker.into(), message: None, error })
    }

    fn connected(broker: &str) -> ConnectionEvent {
        ConnectionEvent::Connected {
            broker: broker.into(),
            msg_timeout: Duration::ZERO,
            max_msg_timeout: Duration::ZERO,
        }
    }

    #[test]
    fn a_broker_out_of_reach_is_named_once_and_so_is_its_return() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        assert_eq!(waiting.due(), None);
        assert_eq!(waiting.note(vec![failed("a:1")], start), None);
        waiting.note(vec![failed("a:1")], start + Duration::from_secs(1));
        assert_eq!(waiting.due(), Some(start + PATIENCE), "since the first failure");
        let line = waiting.say().unwrap();
        assert!(line.contains("a:1") && line.contains("Connection refused: waiting"), "{line}");
        waiting.note(vec![failed("a:1")], start + Duration::from_secs(9));
        assert_eq!(waiting.due(), None, "once");
        assert_eq!(waiting.note(vec![connected("a:1")], start).unwrap(), "connected to a:1: it goes on");
        assert_eq!(waiting.note(vec![connected("a:1")], start), None);
    }

    #[test]
    fn a_broker_that_is_gone_is_not_waited_for_while_another_is_there() {
        let (mut waiting, start) = (Waiting::default(), Instant::now());
        waiting.note(vec![failed("a:1"), connected("b:1"), failed("a:1")], start);
        assert_eq!(waiting.due(), None);
        let closed = ConnectionEvent::Closed { broker: "b:1".into() };
        waiting.note(vec![closed, failed("b:1")], start);
        assert_eq!(waiting.due(), Some(start + PATIENCE));
        assert_eq!(waiting.note(vec![connected("b:1")], start), None, "nothing was said");
        assert_eq!(waiting.due(), None);
    }
}
