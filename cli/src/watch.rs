//! Connections of a subscription: what happens to them, in the log of a command that runs on.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use libmq::{ConnectionEvent, Start, Subscription};
use tokio::time::timeout;

use crate::log::Log;

/// Interval at which a subscription is looked at.
pub(crate) const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Interval at which a broker that is still not there is named again.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The record of what a command has said about the connections of one subscription.
pub(crate) struct Watch {
    log: Log,
    /// Topic and channel, for people.
    name: String,
    start: Start,
    /// Brokers and lookup servers that can't be reached, and when that was said last.
    down: BTreeMap<Arc<str>, Instant>,
    /// Whether it is known, and said, that the channel is new.
    is_new_known: bool,
}

impl Watch {
    pub(crate) fn new(log: &Log, name: &str, start: Start) -> Self {
        let (log, name) = (log.clone(), name.to_owned());
        Self { log, name, start, down: BTreeMap::new(), is_new_known: false }
    }

    /// Looks at the subscription: says where a new channel begins, and which brokers are still not there.
    pub(crate) fn look(&mut self, subscription: &Subscription, now: Instant) {
        if !self.is_new_known {
            self.is_new(subscription.is_new());
        }
        let (log, name) = (&self.log, &self.name);
        for (broker, said) in &mut self.down {
            if now.saturating_duration_since(*said) >= REMIND_EVERY {
                *said = now;
                log.warn(format_args!("{name}: {broker} is still not reached: it is tried again and again"));
            }
        }
    }

    /// Notes events.
    pub(crate) fn note(&mut self, events: Vec<ConnectionEvent>, now: Instant) {
        for event in events {
            match event {
                ConnectionEvent::Connected { broker, .. } => {
                    if self.down.remove(&broker).is_some() {
                        self.log.info(format_args!("{}: connected to {broker}", self.name));
                    }
                }
                ConnectionEvent::Failed(failure) => {
                    if self.log.failure(&failure) {
                        self.down.insert(failure.broker, now);
                    }
                }
                // Its failure, which came before, says why.
                ConnectionEvent::Closed { .. } => {}
            }
        }
    }

    /// Notes the last events of a subscription that ends.
    pub(crate) async fn end(&mut self, subscription: &Subscription) {
        if let Ok(Ok(events)) = timeout(Duration::ZERO, subscription.events_async()).await {
            self.note(events, Instant::now());
        }
    }

    fn is_new(&mut self, is_new: Option<bool>) {
        self.is_new_known = is_new.is_some();
        if is_new != Some(true) {
            return;
        }
        let begins = match self.start {
            Start::Waiting => {
                "the messages that wait for the topic's first channel, or else with the next one"
            }
            Start::Earliest => "the oldest message that is kept",
            Start::Latest => "the next message",
            Start::Offset(_) | Start::Time(_) => "the place that was asked for",
        };
        self.log.info(format_args!("{}: the channel is new, and begins with {begins}", self.name));
    }
}
