//! Responses on their way from a session to its connection. The session is polled whether the connection
//! takes any or not: so it goes on reading acknowledgements, and lets others have the messages that it has no
//! room for.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio_stream::Stream;
use tonic::Status;

use crate::link::Counted;

/// Responses that wait for the connection: one that it sends, and one behind that.
const RESPONSES_MAX: usize = 2;

/// A new queue: its two ends.
pub(super) fn response_queue<T>() -> (ResponseSender<T>, ResponseStream<T>) {
    let queue = Arc::new(Mutex::new(Queue {
        responses: VecDeque::new(),
        end: None,
        reader_gone: false,
        reader: None,
        writer: None,
    }));
    (ResponseSender(Arc::clone(&queue)), ResponseStream(queue))
}

struct Queue<T> {
    /// Each counted while it waits.
    responses: VecDeque<(T, Option<Counted>)>,
    /// The result that ends the stream; `None` while responses may still come.
    end: Option<Result<(), Status>>,
    reader_gone: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// The end of the session, which puts responses in.
pub(super) struct ResponseSender<T>(Arc<Mutex<Queue<T>>>);

/// The end of the connection, which takes responses out. Dropping it ends the session.
pub(crate) struct ResponseStream<T>(Arc<Mutex<Queue<T>>>);

/// Room in the queue for one more response.
pub(super) enum Capacity {
    Free,
    Full,
    /// The connection's end was dropped.
    Closed,
}

impl<T> ResponseSender<T> {
    /// Whether there is room. `cx` is woken when that changes.
    pub(super) fn capacity(&self, cx: &Context<'_>) -> Capacity {
        let mut queue = self.0.lock();
        if queue.reader_gone {
            return Capacity::Closed;
        }
        if !queue.writer.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            queue.writer = Some(cx.waker().clone());
        }
        if queue.responses.len() < RESPONSES_MAX { Capacity::Free } else { Capacity::Full }
    }

    /// Puts a response in.
    pub(super) fn put(&self, response: T, counted: Option<Counted>) {
        let mut queue = self.0.lock();
        queue.responses.push_back((response, counted));
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Takes back the responses that the connection has not taken and that `is_wanted` picks.
    pub(super) fn take_unsent(&self, is_wanted: impl Fn(&T) -> bool) -> Vec<T> {
        let mut queue = self.0.lock();
        let responses = std::mem::take(&mut queue.responses);
        let (wanted, others): (VecDeque<_>, _) =
            responses.into_iter().partition(|(response, _)| is_wanted(response));
        queue.responses = others;
        wanted.into_iter().map(|(response, _)| response).collect()
    }

    /// Ends the stream behind the responses in the queue. Of several reasons the first counts.
    pub(super) fn end(&self, end: Result<(), Status>) {
        let mut queue = self.0.lock();
        queue.end.get_or_insert(end);
        let reader = queue.reader.take();
        drop(queue);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}

impl<T> Drop for ResponseSender<T> {
    fn drop(&mut self) {
        self.end(Err(Status::internal("the stream was lost")));
    }
}

impl<T> Stream for ResponseStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut queue = self.0.lock();
        if let Some((response, _)) = queue.responses.pop_front() {
            let writer = queue.writer.take();
            drop(queue);
            if let Some(writer) = writer {
                writer.wake();
            }
            return Poll::Ready(Some(Ok(response)));
        }
        match &mut queue.end {
            Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
            None => {
                queue.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for ResponseStream<T> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.reader_gone = true;
        let writer = queue.writer.take();
        drop(queue);
        if let Some(writer) = writer {
            writer.wake();
        }
    }
}
