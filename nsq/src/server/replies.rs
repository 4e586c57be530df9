//! Answers, in the order of the commands, each when what it says is true.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use mq_core::{Broker, Outcome, Ticket};
use mq_net::budget::{Account, Budget};
use tokio::time::Instant;

use super::results::{self, Part};
use super::stats::Measured;
use crate::wire::error::{Code, WireError};
use crate::wire::frame::{OK_FRAME, put_error, put_response, put_results};

/// Publishes of one connection that may wait for the log: some milliseconds of a producer that sends one by
/// one, and a bound for what a stalled disk can pile up.
pub(super) const UNANSWERED_MAX: usize = 4096;

/// Messages of a PUBLISH whose results may take as much memory as one that waits for its answer.
const RESULTS_PER_COMMAND: usize = 16;

/// A queue this short keeps its memory when it is empty.
const KEPT_MAX: usize = 16;

/// The answer to a command, or to a run of them.
enum Reply {
    /// `count` publishes that share a frame of the log. `refusal` is what to say if it could not be written.
    /// `read_at` is when they were read, where that is measured.
    Published { ticket: Ticket, count: u32, refusal: Refusal, read_at: Option<Instant> },
    /// A PUBLISH of the extension: `count` is its share of [`UNANSWERED_MAX`].
    Results { parts: Vec<Part>, count: usize },
    /// SUB or SUBSCRIBE, and the answer: its channel may have to be written first.
    Subscribed(Ticket, &'static [u8]),
    /// A response.
    Response(Vec<u8>),
    /// An error.
    Error(WireError),
    /// Blocking work that begins once all earlier replies are out.
    Later(Pin<Box<dyn Future<Output = Result<Made, WireError>> + Send>>),
}

/// A response's frame, and the account that a large one is counted in until the connection counts it.
struct Made {
    frame: Vec<u8>,
    account: Option<Account>,
}

/// Work that may block, and gives a response's frame.
pub(super) trait Work: FnOnce() -> Result<Vec<u8>, WireError> + Send + 'static {}

impl<W: FnOnce() -> Result<Vec<u8>, WireError> + Send + 'static> Work for W {}

/// Does the work off the async workers.
async fn blocking(work: impl Work) -> Result<Vec<u8>, WireError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err(WireError::new(Code::Invalid, "exiting")))
}

/// Code and command word of the error for a failed publish.
pub(super) type Refusal = (Code, &'static str);

/// Outcome of an attempt to answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Emitted {
    /// Answers only, none of which asks for more.
    Fine,
    /// The subscription's OK is out: messages may follow.
    Subscribed,
    /// An error that ends the connection is out.
    Fatal,
}

/// Answers not given yet.
#[derive(Default)]
pub(super) struct Replies {
    queue: VecDeque<Reply>,
    /// Publishes in the queue.
    unanswered: usize,
    /// Last frame handed to the log, if that was after the last commit.
    uncommitted: Option<Ticket>,
    /// Publishes answered in this round, where latency is measured.
    pub(super) measured: Measured,
    /// Whether a [`Reply::Later`] is in the queue.
    later: bool,
    /// Account of a large response in the output, until the connection counts that.
    made: Option<Account>,
}

impl Replies {
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Whether frames wait in the log for a commit that nobody has asked for.
    pub(super) fn wants_write(&self) -> bool {
        self.uncommitted.is_some_and(|ticket| !ticket.is_done())
    }

    /// Whether commands have to wait, since there are too many answers due already.
    pub(super) fn is_full(&self) -> bool {
        self.later || self.unanswered >= UNANSWERED_MAX || self.queue.len() >= UNANSWERED_MAX
    }

    pub(super) fn published(
        &mut self,
        ticket: Ticket,
        count: u32,
        refusal: Refusal,
        read_at: Option<Instant>,
    ) {
        self.unanswered += count as usize;
        self.uncommitted = Some(ticket);
        self.queue.push_back(Reply::Published { ticket, count, refusal, read_at });
    }

    /// Queues the results of a PUBLISH of `messages`, by the outcomes of its parts.
    pub(super) fn results(&mut self, parts: Vec<Part>, messages: usize) {
        let count = 1 + messages / RESULTS_PER_COMMAND;
        self.unanswered += count;
        if let Some(ticket) = parts.iter().rev().find_map(Part::ticket) {
            self.uncommitted = Some(ticket);
        }
        self.queue.push_back(Reply::Results { parts, count });
    }

    pub(super) fn subscribed(&mut self, ticket: Ticket, answer: &'static [u8]) {
        self.uncommitted = Some(ticket);
        self.queue.push_back(Reply::Subscribed(ticket, answer));
    }

    pub(super) fn response(&mut self, data: impl Into<Vec<u8>>) {
        self.queue.push_back(Reply::Response(data.into()));
    }

    pub(super) fn error(&mut self, error: WireError) {
        self.queue.push_back(Reply::Error(error));
    }

    /// Drops the account of a response in the output: the connection counts that response now.
    pub(super) fn counted(&mut self) {
        self.made = None;
    }

    /// Answers with the frame that `work` gives. No command is executed until this one is answered.
    pub(super) fn later(&mut self, work: impl Work) {
        self.make(async move { Ok(Made { frame: blocking(work).await?, account: None }) });
    }

    /// [`Replies::later`] where the frame may be as large as a message: it is made when there is room for it
    /// in `budget`, no other beside it.
    pub(super) fn later_and_large(&mut self, budget: Budget, work: impl Work) {
        self.make(async move {
            let turn = budget.sole_turn().await;
            let _counted = turn.clone();
            let frame = blocking(move || {
                // Given up with the work: who asked may be gone before it is done.
                let _turn = turn;
                work()
            })
            .await?;
            // The connection's own wakes it, and is what is closed.
            let mut account = budget.standing_account();
            account.set(frame.len());
            Ok(Made { frame, account: Some(account) })
        });
    }

    fn make(&mut self, made: impl Future<Output = Result<Made, WireError>> + Send + 'static) {
        self.later = true;
        self.queue.push_back(Reply::Later(Box::pin(made)));
    }

    /// Lets the log write what was published, then appends to `out` every answer that is due. What did not
    /// end well is the last of them.
    pub(super) fn emit(&mut self, broker: &Broker, out: &mut Vec<u8>, cx: &mut Context<'_>) -> Emitted {
        if let Some(ticket) = self.uncommitted.take()
            && (ticket.is_done() || matches!(broker.outcome(ticket), Outcome::Pending))
        {
            broker.commit();
        }
        let mut emitted = Emitted::Fine;
        while let Some(reply) = self.queue.front_mut() {
            let error = match reply {
                Reply::Published { ticket, count, refusal, read_at } => match broker.outcome(*ticket) {
                    Outcome::Pending => break,
                    Outcome::Done => {
                        if let Some(read_at) = *read_at {
                            self.measured.add(read_at, (*count).into());
                        }
                        self.unanswered -= *count as usize;
                        for _ in 0..*count {
                            out.extend_from_slice(&OK_FRAME);
                        }
                        None
                    }
                    Outcome::Failed(error) => Some(WireError::refused(refusal.0, refusal.1, &error)),
                },
                Reply::Results { parts, count } => {
                    if !results::are_decided(parts, broker) {
                        break;
                    }
                    self.unanswered -= *count;
                    put_results(out, results::runs(parts));
                    None
                }
                Reply::Subscribed(ticket, answer) => match broker.outcome(*ticket) {
                    Outcome::Pending => break,
                    Outcome::Done => {
                        put_response(out, answer);
                        emitted = Emitted::Subscribed;
                        None
                    }
                    Outcome::Failed(error) => Some(WireError::refused(Code::SubFailed, "SUB", &error)),
                },
                Reply::Response(data) => {
                    put_response(out, data);
                    None
                }
                Reply::Error(error) => Some(error.clone()),
                Reply::Later(work) => match work.as_mut().poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(result) => {
                        self.later = false;
                        result.map_or_else(Some, |made| {
                            self.made = made.account;
                            match out.is_empty() {
                                // Not copied: it may be large.
                                true => *out = made.frame,
                                false => out.extend_from_slice(&made.frame),
                            }
                            None
                        })
                    }
                },
            };
            self.queue.pop_front();
            if let Some(error) = error {
                put_error(out, &error);
                if error.code().is_fatal() {
                    self.queue.clear();
                    self.unanswered = 0;
                    emitted = Emitted::Fatal;
                }
            }
        }
        if self.queue.is_empty() && self.queue.capacity() > KEPT_MAX {
            self.queue = VecDeque::new();
        }
        emitted
    }
}
