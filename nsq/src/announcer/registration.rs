//! One lookup server as the broker sees it: connects, identifies, sends the names there are and their
//! changes, in order, and pings. Pure: bytes and a time in, bytes and the next time out.

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::names::{Change, Names};
use crate::wire::lookup::{self, ANSWER_BYTES_MAX, Identity, MAGIC};

/// Interval of pings while there is nothing else to send.
pub(super) const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Commands that wait for their answers at a time: few enough for the socket's buffers in both directions.
const WINDOW: usize = 256;

/// The first pause after a failure; each failure in a row doubles it. Clients find nobody at a server that
/// was restarted until brokers are back, so they come back soon.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Connect.
    Connect,
    /// Wait until bytes are received, names change, or this time has come.
    Wait(Instant),
}

/// A lookup server.
pub(super) struct Registration {
    /// IDENTIFY.
    identity: Arc<lookup::BrokerIdentity>,
    link: Link,
    /// Failures since it last knew everything.
    failures: u32,
    /// Names sent to the server, on this connection or the last one.
    announced: Arc<Names>,
    /// The latest names of which it has answered everything, on this connection.
    confirmed: Arc<Names>,
    /// Deletions it did not confirm on the last connection: it may remember what is gone.
    owed: Vec<Change>,
}

enum Link {
    Down { retry_at: Instant },
    Up(Box<Up>),
}

struct Up {
    /// The server, from its answer to IDENTIFY on.
    server: Option<Identity>,
    /// Bytes that are no whole answer yet.
    received: Vec<u8>,
    /// Changes to send next. Filled from the difference between the names there are and those sent, never
    /// beyond.
    queue: VecDeque<Change>,
    /// Commands without an answer and the times they were sent: answers come in order.
    unanswered: VecDeque<(Instant, Sent)>,
    /// Changes sent, and changes answered.
    sent: u64,
    answered: u64,
    /// Names, and how many changes are answered once the server knows them; rising.
    announcing: VecDeque<(u64, Arc<Names>)>,
    last_sent: Instant,
}

/// A command that was sent.
enum Sent {
    Identify,
    Change(Change),
    Ping,
}

impl fmt::Display for Sent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identify => f.write_str("IDENTIFY"),
            Self::Change(Change::Register(topic, _)) => write!(f, "REGISTER {topic}"),
            Self::Change(Change::Unregister(topic, _)) => write!(f, "UNREGISTER {topic}"),
            Self::Ping => f.write_str("PING"),
        }
    }
}

impl Registration {
    /// A server to connect to at once.
    pub(super) fn new(identity: Arc<lookup::BrokerIdentity>, now: Instant) -> Self {
        Self {
            identity,
            link: Link::Down { retry_at: now },
            failures: 0,
            announced: Arc::default(),
            confirmed: Arc::default(),
            owed: Vec::new(),
        }
    }

    /// Begins on a new connection: identifies the broker, and announces its names after the answer.
    pub(super) fn connected(&mut self, now: Instant, out: &mut Vec<u8>) {
        out.extend_from_slice(&MAGIC);
        lookup::put_identify(out, &self.identity);
        self.link = Link::Up(Box::new(Up {
            server: None,
            received: Vec::new(),
            queue: VecDeque::new(),
            unanswered: VecDeque::from([(now, Sent::Identify)]),
            sent: 0,
            answered: 0,
            announcing: VecDeque::new(),
            last_sent: now,
        }));
        self.confirmed = Arc::default();
    }

    /// The connection is gone, or was not made. `random`: 0 to 1, so that brokers do not come back all at
    /// once. Gives the pause before the next one.
    pub(super) fn lost(&mut self, now: Instant, random: f64) -> Duration {
        let doubled = BACKOFF_MIN.saturating_mul(1 << self.failures.min(16));
        let pause = doubled.min(BACKOFF_MAX).mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
        self.failures = self.failures.saturating_add(1);
        if let Link::Up(up) = std::mem::replace(&mut self.link, Link::Down { retry_at: now + pause }) {
            let sent = up.unanswered.into_iter().filter_map(|(_, sent)| match sent {
                Sent::Change(change) => Some(change),
                Sent::Identify | Sent::Ping => None,
            });
            let unsure = sent.chain(up.queue);
            self.owed.extend(unsure.filter(|change| matches!(change, Change::Unregister(..))));
        }
        pause
    }

    /// The server, once it has said who it is.
    pub(super) fn server(&self) -> Option<&Identity> {
        match &self.link {
            Link::Up(up) => up.server.as_ref(),
            Link::Down { .. } => None,
        }
    }

    /// The latest names that the server is known to know all of.
    pub(super) fn confirmed(&self) -> &Arc<Names> {
        &self.confirmed
    }

    /// Takes in what the server sent. Gives what it complains of, if it does: it may go on after that, or
    /// close.
    ///
    /// # Errors
    /// Why the connection is of no use.
    pub(super) fn receive(&mut self, bytes: &[u8], names: &Arc<Names>) -> Result<Option<String>, String> {
        let Link::Up(up) = &mut self.link else { return Err("bytes without a connection".to_owned()) };
        up.received.extend_from_slice(bytes);
        let mut complaint = None;
        let mut at = 0;
        loop {
            let rest = &up.received[at..];
            let answer = lookup::answer(rest);
            let answer = answer.map_err(|length| {
                format!("an answer of {length} bytes, more than {ANSWER_BYTES_MAX}: no lookup server?")
            })?;
            let Some((data, consumed)) = answer else { break };
            at += consumed;
            let Some((_, command)) = up.unanswered.pop_front() else {
                return Err("an answer to nothing".to_owned());
            };
            if up.server.is_none() {
                let Some(server) = Identity::parse(data) else {
                    return Err(format!("IDENTIFY: {}", data.escape_ascii()));
                };
                up.server = Some(server);
                up.queue = std::mem::take(&mut self.owed).into();
                up.queue.extend(names.announcement(&self.announced));
                up.announce(names);
                self.announced = names.clone();
            } else if data != lookup::OK {
                complaint = Some(format!("{command}: {}", data.escape_ascii()));
            }
            up.answered += u64::from(matches!(command, Sent::Change(_)));
        }
        up.received.drain(..at);
        up.confirm(&mut self.confirmed);
        if up.server.is_some() && up.queue.is_empty() && up.unanswered.is_empty() {
            self.failures = 0;
        }
        Ok(complaint)
    }

    /// Appends what is to be sent now. `names` is what there is.
    ///
    /// # Errors
    /// Why the connection is of no use any more.
    pub(super) fn step(
        &mut self,
        now: Instant,
        names: &Arc<Names>,
        out: &mut Vec<u8>,
    ) -> Result<Next, String> {
        let up = match &mut self.link {
            Link::Down { retry_at } if *retry_at <= now => return Ok(Next::Connect),
            Link::Down { retry_at } => return Ok(Next::Wait(*retry_at)),
            Link::Up(up) => up,
        };
        if let Some((sent, command)) = up.unanswered.front()
            && now >= *sent + ANSWER_TIMEOUT
        {
            return Err(format!("no answer to {command} within {ANSWER_TIMEOUT:?}"));
        }
        if up.server.is_some() {
            while up.unanswered.len() < WINDOW {
                if up.queue.is_empty() && !Arc::ptr_eq(&self.announced, names) {
                    up.queue = names.changes_since(&self.announced).into();
                    up.announce(names);
                    up.confirm(&mut self.confirmed);
                    self.announced = names.clone();
                }
                let Some(change) = up.queue.pop_front() else { break };
                match &change {
                    Change::Register(topic, channel) => {
                        lookup::put_register(out, topic, channel.as_ref());
                    }
                    Change::Unregister(topic, channel) => {
                        lookup::put_unregister(out, topic, channel.as_ref());
                    }
                }
                up.sent += 1;
                up.unanswered.push_back((now, Sent::Change(change)));
                up.last_sent = now;
            }
            if now >= up.last_sent + PING_INTERVAL && up.unanswered.is_empty() {
                out.extend_from_slice(lookup::PING);
                up.unanswered.push_back((now, Sent::Ping));
                up.last_sent = now;
            }
        }
        let next = match up.unanswered.front() {
            Some((sent, _)) => *sent + ANSWER_TIMEOUT,
            None => up.last_sent + PING_INTERVAL,
        };
        Ok(Next::Wait(next))
    }
}

impl Up {
    /// Notes that the queue brings the server to `names`.
    fn announce(&mut self, names: &Arc<Names>) {
        self.announcing.push_back((self.sent + self.queue.len() as u64, names.clone()));
    }

    /// Records the latest names of which the server has answered every change.
    fn confirm(&mut self, confirmed: &mut Arc<Names>) {
        while self.announcing.front().is_some_and(|(count, _)| *count <= self.answered) {
            if let Some((_, names)) = self.announcing.pop_front() {
                *confirmed = names;
            }
        }
    }
}
