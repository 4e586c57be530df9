//! The end of a stream, whatever it is at: the server stops, or the call's deadline passes.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::time::{Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::{Request, Status};

use crate::call::Deadline;
use crate::status::Refusal;

/// Both.
pub(crate) struct Ending {
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    deadline: Option<Pin<Box<Sleep>>>,
}

impl Ending {
    /// The ending of a call.
    pub(super) fn of<T>(request: &Request<T>, stop: &CancellationToken) -> Self {
        let deadline = request.extensions().get().map(|Deadline(at)| Box::pin(sleep_until(*at)));
        Self { stopped: Box::pin(stop.clone().cancelled_owned()), deadline }
    }

    /// The reason why the stream ends, once it has to.
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
