//! Waiting for the broker's log, and the one map from the core's errors to answers.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use mq_core::{Broker, Error, ErrorKind, Outcome, Ticket, Wake};
use tokio::task::yield_now;

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
        {
            let _commit = Commit { broker: &self.broker, ticket };
            if !ticket.is_done() {
                // The requests that are ready shall be in the same write: the first that comes around again does it for all.
                yield_now().await;
            }
        }
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

/// Has the log write what waits for it when it is dropped, be it that nobody asks any more.
struct Commit<'a> {
    broker: &'a Broker,
    ticket: Ticket,
}

impl Drop for Commit<'_> {
    fn drop(&mut self) {
        if self.ticket.is_done() || matches!(self.broker.outcome(self.ticket), Outcome::Pending) {
            self.broker.commit();
        }
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use mq_core::{Attributes, Options, TopicName};
    use tempfile::TempDir;

    use super::*;

    fn publish(broker: &Broker, settle: &Settle) -> Ticket {
        let topic = broker.topic(&TopicName::parse("t").unwrap()).unwrap();
        let mut batch = topic.batch();
        batch.push(&Attributes::NONE, b"x").unwrap();
        topic.publish(batch, &settle.wake).unwrap().ticket
    }

    fn is_written(broker: &Broker, ticket: Ticket) -> bool {
        matches!(broker.outcome(ticket), Outcome::Done)
    }

    #[tokio::test]
    async fn one_write_is_for_all_that_are_ready_and_needs_nobody_who_waits() {
        let folder = TempDir::new().unwrap();
        let options = Options { data_path: folder.path().join("data"), ..Options::default() };
        let broker = Broker::open(options).unwrap();
        let settles = [(); 3].map(|()| Settle::new(&broker));
        let tickets = settles.each_ref().map(|settle| publish(&broker, settle));
        let mut first = pin!(settles[0].ticket(tickets[0]));
        let mut second = pin!(settles[1].ticket(tickets[1]));
        poll_fn(|cx| {
            assert!(first.as_mut().poll(cx).is_pending());
            assert!(second.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(!tickets.iter().any(|ticket| is_written(&broker, *ticket)));
        first.await.unwrap();
        assert!(tickets.iter().all(|ticket| is_written(&broker, *ticket)));
        second.await.unwrap();

        let ticket = publish(&broker, &settles[2]);
        {
            let mut given_up = pin!(settles[2].ticket(ticket));
            assert!(poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await);
            assert!(!is_written(&broker, ticket));
        }
        assert!(is_written(&broker, ticket));
        broker.close().unwrap();
    }
}
