//! Messages of subscriptions, printed and finished as they come.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use libmq::{Error, Message, MessageId, Subscription};
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::line::{Form, Line, Shown};
use super::printer::Printer;
use crate::Outcome;
use crate::interrupt::Interrupt;
use crate::log::Log;

/// Interval at which failures of brokers are reported.
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Longest wait for what is finished to reach the brokers at the end.
const CLOSE: Duration = Duration::from_secs(5);

/// A subscription to a topic.
pub(super) struct Followed {
    topic: Arc<str>,
    subscription: Subscription,
    /// The first message, if it was taken already.
    first: Option<Message>,
    /// The number of the first id that was not shown yet, where that decides: on a channel shared with
    /// others a message that comes again was not finished, and is printed again.
    shown_before: Option<u64>,
}

impl Followed {
    pub(super) fn new(topic: &str, subscription: Subscription) -> Self {
        Self { topic: topic.into(), subscription, first: None, shown_before: None }
    }

    /// The id of the first message, if one is here.
    pub(super) fn first_id(&mut self) -> Result<Option<MessageId>, Error> {
        if self.first.is_none() {
            self.first = self.subscription.next(Duration::ZERO)?;
        }
        Ok(self.first.as_ref().map(|message| message.id()))
    }

    /// Shows no message with an id before this number, and none twice.
    pub(super) fn skip_before(&mut self, id: u64) {
        self.shown_before = Some(id);
    }

    /// Passes messages on until nobody wants them.
    async fn pass_on(mut self, form: Form, sender: mpsc::Sender<Result<Line, Error>>) {
        loop {
            let next = match self.first.take() {
                Some(first) => Ok(first),
                None => self.subscription.next_async().await,
            };
            let next = match next {
                Ok(message) if self.shown_before.is_some_and(|id| message.id().0 < id) => {
                    message.finish();
                    continue;
                }
                Ok(message) => {
                    self.shown_before = self.shown_before.map(|_| message.id().0 + 1);
                    Ok(Line { topic: Arc::clone(&self.topic), shown: Shown::InFlight(message), form })
                }
                Err(Error::Closed) => return,
                Err(error) => Err(error),
            };
            let is_last = next.is_err();
            if sender.send(next).await.is_err() || is_last {
                return;
            }
        }
    }
}

/// A command that prints what its subscriptions get.
pub(super) struct Follow {
    printer: Printer<Line>,
    form: Form,
    /// Most messages in flight, of each subscription.
    limit: u32,
    log: Log,
}

impl Follow {
    pub(super) fn new(command: &str, form: Form, limit: u32, printer: Printer<Line>) -> Self {
        Self { printer, form, limit, log: Log::new(command) }
    }

    /// Prints until a signal ends it, there were as many as asked for, or nobody reads any more.
    pub(super) async fn run(mut self, followed: Vec<Followed>, mut interrupt: Interrupt) -> Outcome {
        // One message: the others wait in the subscriptions.
        let (sender, mut messages) = mpsc::channel(1);
        let subscriptions: Vec<_> = followed.iter().map(|followed| followed.subscription.clone()).collect();
        for followed in followed {
            tokio::spawn(followed.pass_on(self.form, sender.clone()));
        }
        drop(sender);
        let mut report = interval(REPORT_EVERY);
        report.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            if self.printer.is_done() {
                break Ok(0);
            }
            tokio::select! {
                message = messages.recv(), if self.printer.has_room() => match message {
                    Some(Ok(line)) => self.printer.put(line).await,
                    Some(Err(error)) => break Err(error.to_string()),
                    None => break Ok(0),
                },
                printed = self.printer.printed() => match printed {
                    Ok(lines) => self.finish(&lines, &subscriptions),
                    // A reader that has seen enough (`| head`) is no failure.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => break Ok(0),
                    Err(error) => break Err(format!("stdout: {error}")),
                },
                _ = report.tick() => subscriptions.iter().for_each(|one| self.log.failures(one)),
                (_, status) = interrupt.next() => break Ok(status),
            }
        };
        // Waits for the brokers, so that the last answers are sure to have come. What was not printed comes
        // back.
        let closing = tokio::task::spawn_blocking(move || {
            subscriptions.iter().filter(|subscription| !subscription.close(CLOSE)).count()
        });
        match closing.await {
            Ok(0) => {}
            _ => {
                self.log.warn(format_args!("no answer within {CLOSE:?} at the end: messages may come again"))
            }
        }
        outcome
    }

    /// Finishes what was printed.
    fn finish(&self, lines: &[Line], subscriptions: &[Subscription]) {
        // Never more here than will be printed; said before the answers that would make room.
        let credit = self.printer.credit(self.limit);
        if credit < self.limit {
            for subscription in subscriptions {
                // It is in range, and this is the process that subscribed.
                let _ = subscription.set_max_in_flight(credit);
            }
        }
        lines.iter().for_each(Line::finish);
    }
}
