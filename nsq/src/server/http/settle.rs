//! Waiting for the broker's log, and the one map from the core's errors to answers.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use mq_core::{Broker, Error, ErrorKind, Outcome, Ticket, Wake};

use crate::http::{Answer, StatusCode};
use crate::server::signal::Signal;

/// Seconds after which what failed for want of room may be tried again.
const RETRY_AFTER: u32 = 5;

/// One request's wait for the broker's log.
pub struct Settle {
    broker: Broker,
    signal: Arc<Signal>,
    /// What the broker is to wake.
    pub wake: Arc<dyn Wake>,
}

impl Settle {
    /// Nothing is waited for yet.
    pub fn new(broker: &Broker) -> Self {
        let signal = Arc::new(Signal::default());
        Self { broker: broker.clone(), wake: Arc::clone(&signal) as Arc<dyn Wake>, signal }
    }

    /// Waits until publishers may go on.
    pub async fn room(&self) {
        poll_fn(|cx| {
            self.signal.register(cx.waker());
            if self.broker.is_congested(&self.wake) { Poll::Pending } else { Poll::Ready(()) }
        })
        .await;
    }

    /// Waits until it is known what became of a ticket that was given with this wake.
    ///
    /// # Errors
    /// It was not stored.
    pub async fn ticket(&self, ticket: Ticket) -> Result<(), Error> {
        self.broker.commit();
        poll_fn(|cx| {
            self.signal.register(cx.waker());
            match self.broker.outcome(ticket) {
                Outcome::Pending => Poll::Pending,
                Outcome::Done => Poll::Ready(Ok(())),
                Outcome::Failed(error) => Poll::Ready(Err(error)),
            }
        })
        .await
    }

    /// [`Settle::ticket`] for one that wakes nobody.
    ///
    /// # Errors
    /// It was not stored.
    pub async fn follow(&self, ticket: Ticket) -> Result<(), Error> {
        let mine = self.broker.follow(ticket, &self.wake);
        // Of this one only when it is decided counts.
        let _ = self.ticket(mine).await;
        self.ticket(ticket).await
    }
}

/// What the core refused a request with.
pub(super) fn refused(error: &Error) -> Answer {
    let (status, code) = match error.kind() {
        ErrorKind::InvalidName | ErrorKind::InvalidArgument => (StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
        ErrorKind::TooBig => (StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_BIG"),
        ErrorKind::NotFound => (StatusCode::NOT_FOUND, "NOT_FOUND"),
        ErrorKind::LimitReached => (StatusCode::SERVICE_UNAVAILABLE, "LIMIT_REACHED"),
        ErrorKind::Closed => (StatusCode::SERVICE_UNAVAILABLE, "EXITING"),
        ErrorKind::Draining => (StatusCode::SERVICE_UNAVAILABLE, "DRAINING"),
        ErrorKind::Full | ErrorKind::Io | ErrorKind::Locked => {
            (StatusCode::SERVICE_UNAVAILABLE, "UNAVAILABLE")
        }
        ErrorKind::NotInFlight | ErrorKind::NotOwner | ErrorKind::Damaged | ErrorKind::Version => {
            (StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR")
        }
    };
    let answer = Answer::error_with(status, code, &error.to_string());
    if error.is_retryable() { answer.retry_after(RETRY_AFTER) } else { answer }
}

/// What the core refused messages with: nsqd has one word for all.
pub(super) fn publish_refused(error: &Error) -> Answer {
    let answer = refused(error);
    if answer.code() == StatusCode::PAYLOAD_TOO_LARGE || error.kind() == ErrorKind::Draining {
        return answer;
    }
    let exiting = Answer::error_with(StatusCode::SERVICE_UNAVAILABLE, "EXITING", &error.to_string());
    if error.is_retryable() { exiting.retry_after(RETRY_AFTER) } else { exiting }
}
