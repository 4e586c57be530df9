//! Answers on their way from a subscription to its connections.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mq_core::sync::Mutex;
use mq_core::{DeliveryToken, MessageId};
use mq_nsq::client::Connection;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::delivery::{Answer, Delivery, DeliveryKey};
use crate::error::{Error, Result};
use crate::message::DELAY_MAX;
use crate::signal::Signal;

/// Commands taken at once, before messages get their turn.
const COMMANDS_MAX: usize = 1024;

/// Work for a connection. As many wait as there are messages in flight, and changes of credit.
pub(super) enum Command {
    Answer(DeliveryKey, Answer),
    /// One answer for more than one message.
    Answers(Vec<DeliveryKey>, Answer),
    /// Settles it once the answers before it are in the broker's log.
    Confirm(Arc<Confirmation>),
    Credit(u32),
    ByteCredit(u64),
    Close,
}

/// Messages of one connection that get one answer.
pub(super) struct Run {
    first: DeliveryKey,
    /// All of them, where they are more than one: nothing is allocated for one.
    keys: Vec<DeliveryKey>,
    /// Bytes of their bodies.
    pub(super) bytes: u64,
}

impl Run {
    pub(super) fn new(first: &Delivery) -> Self {
        Self { first: first.key, keys: Vec::new(), bytes: first.body.len() as u64 }
    }

    pub(super) fn push(&mut self, delivery: &Delivery) {
        if self.keys.is_empty() {
            self.keys.push(self.first);
        }
        self.keys.push(delivery.key);
        self.bytes += delivery.body.len() as u64;
    }

    pub(super) fn len(&self) -> usize {
        self.keys.len().max(1)
    }

    pub(super) fn command(self, answer: Answer) -> Command {
        if self.keys.is_empty() {
            Command::Answer(self.first, answer)
        } else {
            Command::Answers(self.keys, answer)
        }
    }
}

/// The connection's end: answers that follow each other and are alike go out as one command.
#[derive(Default)]
pub(super) struct Answers {
    /// Deliveries that get `answer`, and are not written yet.
    tokens: Vec<DeliveryToken>,
    answer: Option<Answer>,
    /// Confirmations that the broker has not given yet, nor refused.
    confirmations: Vec<Arc<Confirmation>>,
}

impl Answers {
    /// Passes on a command and those that wait behind it. Breaks where the connection is to be closed.
    pub(super) fn run(
        &mut self,
        first: Option<Command>,
        rest: &mut UnboundedReceiver<Command>,
        connection: &mut Connection,
    ) -> ControlFlow<()> {
        let mut next = first;
        for _ in 0..COMMANDS_MAX {
            match next {
                Some(Command::Answer(key, answer)) => self.add(key, answer, connection),
                Some(Command::Answers(keys, answer)) => {
                    keys.into_iter().for_each(|key| self.add(key, answer, connection));
                }
                Some(Command::Confirm(confirmation)) => {
                    self.write(connection);
                    connection.start_confirm();
                    self.confirmations.push(confirmation);
                }
                Some(Command::Credit(credit)) => {
                    self.write(connection);
                    connection.ready(credit);
                }
                Some(Command::ByteCredit(bytes)) => {
                    self.write(connection);
                    connection.set_byte_credit(bytes);
                }
                Some(Command::Close) | None => {
                    self.write(connection);
                    return ControlFlow::Break(());
                }
            }
            match rest.try_recv() {
                Ok(command) => next = Some(command),
                Err(_) => break,
            }
        }
        self.write(connection);
        ControlFlow::Continue(())
    }

    fn add(&mut self, key: DeliveryKey, answer: Answer, connection: &mut Connection) {
        let Some(token) = key.token else { return answer_by_id(connection, key.id, answer) };
        if self.answer != Some(answer) {
            self.write(connection);
            self.answer = Some(answer);
        }
        self.tokens.push(token);
    }

    fn write(&mut self, connection: &mut Connection) {
        match self.answer.take() {
            Some(Answer::Finish) => connection.finish_deliveries(&self.tokens),
            Some(Answer::Requeue(delay)) => connection.requeue_deliveries(&self.tokens, delay),
            Some(Answer::Return(delay)) => {
                let max = connection.requeue_delay_max().unwrap_or(Duration::MAX);
                connection.requeue_deliveries(&self.tokens, delay.min(max));
            }
            Some(Answer::Release) => connection.release_deliveries(&self.tokens),
            Some(Answer::Touch) => connection.extend_deliveries(&self.tokens),
            None => {}
        }
        self.tokens.clear();
    }

    /// Settles the confirmations that are answered. The newest answer is good for all of them.
    pub(super) fn confirm(&mut self, connection: &mut Connection, broker: &Arc<str>) {
        if self.confirmations.is_empty() {
            return;
        }
        let Some(confirmed) = connection.take_confirmed() else { return };
        let refused = |error: mq_nsq::client::Error| Error::Refused {
            why: error.to_string(),
            broker: broker.to_string(),
            retry: true,
        };
        let confirmed = confirmed.map_err(refused);
        self.confirmations.drain(..).for_each(|confirmation| confirmation.settle(confirmed.clone()));
    }

    /// The connection ended.
    pub(super) fn end(&mut self, broker: &Arc<str>) {
        self.confirmations.drain(..).for_each(|confirmation| confirmation.settle(Err(lost(broker))));
    }
}

/// An answer that its connection did not get out.
pub(super) fn lost(broker: &Arc<str>) -> Error {
    let why = "the connection ended before the message was finished".to_owned();
    Error::Unreachable { why, broker: broker.to_string() }
}

fn answer_by_id(connection: &mut Connection, id: MessageId, answer: Answer) {
    match answer {
        Answer::Finish => connection.finish(id),
        // It is cut further; without this it would wrap around in the end.
        Answer::Requeue(delay) | Answer::Return(delay) => connection.requeue(id, delay.min(DELAY_MAX)),
        // V2 has no word for it.
        Answer::Release => connection.requeue(id, Duration::ZERO),
        Answer::Touch => connection.touch(id),
    }
}

/// A wait for all connections of a subscription to confirm their answers.
#[derive(Default)]
pub(super) struct Confirmation {
    state: Mutex<Confirming>,
    signal: Signal,
}

#[derive(Default)]
struct Confirming {
    /// Connections that have not answered.
    left: usize,
    failed: Option<Error>,
}

impl Confirmation {
    /// One more connection is to answer.
    pub(super) fn expect(&self) {
        self.state.lock().left += 1;
    }

    pub(super) fn settle(&self, result: Result<()>) {
        let mut state = self.state.lock();
        state.left -= 1;
        if let Err(error) = result {
            state.failed.get_or_insert(error);
        }
        drop(state);
        self.signal.notify();
    }

    /// Waits until all have answered, or `deadline`. Returns whether that was enough.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        let is_done = || (self.state.lock().left == 0).then_some(());
        if self.signal.block_until(deadline, is_done).is_none() {
            return Ok(false);
        }
        self.state.lock().failed.take().map_or(Ok(true), Err)
    }
}
