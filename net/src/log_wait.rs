//! Waiting for the broker's log.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use mq_core::{Broker, Error, Outcome, Ticket, Topic, Wake};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::signal::Signal;

/// One request's wait for the broker's log.
pub struct LogWait {
    broker: Broker,
    signal: Arc<Signal>,
    /// The handle that the broker wakes.
    pub wake: Arc<dyn Wake>,
}

impl LogWait {
    /// A wait for `broker`'s log, for any number of tickets.
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

    /// Waits until discovery knows of a new topic, so that who looks for it after the answer finds it. After
    /// `limit` nobody waits for that any longer.
    pub async fn announced(&self, topic: &Topic, limit: Duration) {
        if !topic.is_unannounced() {
            return;
        }
        let known = poll_fn(|cx| {
            self.signal.register(cx.waker());
            if topic.is_announced(&self.wake) { Poll::Ready(()) } else { Poll::Pending }
        });
        if timeout(limit, known).await.is_err() {
            topic.set_announced();
        }
    }

    /// Waits until it is known what became of a ticket that was given with this wake.
    ///
    /// # Errors
    /// It was not stored.
    pub async fn ticket(&self, ticket: Ticket) -> Result<(), Error> {
        {
            let _commit = Commit { broker: &self.broker, ticket };
            if !ticket.is_done() {
                // The requests that are ready shall be in the same write: the first that comes around again
                // does it for all.
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

    /// Waits as [`LogWait::ticket`] does, for a ticket whose outcome wakes nobody.
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

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::pin;

    use mq_core::testkit::World;
    use mq_core::{Attributes, Durability, TopicName};

    use super::*;

    fn publish(broker: &Broker, wait: &LogWait) -> Ticket {
        let topic = broker.topic(&TopicName::parse("t").unwrap()).unwrap();
        let mut batch = topic.batch();
        batch.push(&Attributes::NONE, b"x").unwrap();
        topic.publish(batch, &wait.wake).unwrap().ticket
    }

    fn is_written(broker: &Broker, ticket: Ticket) -> bool {
        matches!(broker.outcome(ticket), Outcome::Done)
    }

    #[tokio::test]
    async fn one_write_is_for_all_that_are_ready_and_needs_nobody_who_waits() {
        // Without threads, one of which would write the log after 100 ms.
        let broker = World::new(Durability::Flush);
        let waits = [(); 3].map(|()| LogWait::new(&broker));
        let tickets = waits.each_ref().map(|wait| publish(&broker, wait));
        let mut first = pin!(waits[0].ticket(tickets[0]));
        let mut second = pin!(waits[1].ticket(tickets[1]));
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

        let ticket = publish(&broker, &waits[2]);
        {
            let mut given_up = pin!(waits[2].ticket(ticket));
            assert!(poll_fn(|cx| Poll::Ready(given_up.as_mut().poll(cx).is_pending())).await);
            assert!(!is_written(&broker, ticket));
        }
        assert!(is_written(&broker, ticket));
        broker.close().unwrap();
    }
}
