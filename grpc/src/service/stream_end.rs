//! Reasons for which every stream ends: the server stops, or the call's deadline passes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Status};

use crate::call::Deadline;
use crate::status::Refusal;

/// Waits for the server's stop and for the deadline of one call.
pub(crate) struct StreamEnd {
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl StreamEnd {
    /// The end of a call's stream; without a deadline only `stop` ends it.
    pub(super) fn of<T>(request: &Request<T>, stop: &CancellationToken) -> Self {
        let deadline = request.extensions().get().map(|Deadline(at)| Box::pin(sleep_until(*at)));
        Self { stopped: Box::pin(stop.clone().cancelled_owned()), deadline }
    }

    /// The status that the stream has to end with; pending while it may go on.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Refusal::stopping().into());
        }
        if self.deadline.as_mut().is_some_and(|deadline| deadline.as_mut().poll(cx).is_ready()) {
            return Poll::Ready(Refusal::late().into());
        }
        Poll::Pending
    }
}
