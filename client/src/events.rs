//! Events of connections, for programs that watch them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use mq_core::sync::Mutex;

use crate::signal::Signal;
use crate::subscription::Failure;

/// Events kept until they are asked for: the newest.
const EVENTS_MAX: usize = 1000;

/// An event of a connection to a broker over the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConnectionEvent {
    /// A connection is ready: that of a subscription is subscribed.
    Connected {
        /// The broker.
        broker: Arc<str>,
        /// The time that the broker gives each message; zero if it did not say.
        msg_timeout: Duration,
        /// The longest time that a message can be given by renewing it; zero if it did not say.
        max_msg_timeout: Duration,
    },
    /// A connection that was ready ended. What ended it failed before.
    Closed {
        /// The broker.
        broker: Arc<str>,
    },
    /// Something failed.
    Failed(Failure),
}

/// Events until they are asked for.
#[derive(Default)]
pub(crate) struct Events {
    newest: Mutex<VecDeque<ConnectionEvent>>,
    signal: Signal,
}

impl Events {
    pub(crate) fn push(&self, event: ConnectionEvent) {
        let mut newest = self.newest.lock();
        if newest.len() == EVENTS_MAX {
            newest.pop_front();
        }
        newest.push_back(event);
        drop(newest);
        self.signal.notify();
    }

    /// Waits until there are some. Dropping the future takes none.
    pub(crate) async fn take(&self) -> Vec<ConnectionEvent> {
        let some = || {
            let mut newest = self.newest.lock();
            (!newest.is_empty()).then(|| std::mem::take(&mut *newest).into())
        };
        self.signal.until(some).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::Future;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    #[test]
    fn the_newest_events_are_kept_and_taken_once() {
        let events = Events::default();
        let closed = |n: usize| ConnectionEvent::Closed { broker: n.to_string().into() };
        (0..EVENTS_MAX + 2).for_each(|n| events.push(closed(n)));
        let mut cx = Context::from_waker(Waker::noop());
        let Poll::Ready(taken) = pin!(events.take()).poll(&mut cx) else { panic!("there are some") };
        assert_eq!((taken.len(), &taken[0]), (EVENTS_MAX, &closed(2)));
        assert!(pin!(events.take()).poll(&mut cx).is_pending());
    }
}
