//! The rest of a request's body that a handler leaves unread: passed over if that costs nothing, so that the
//! connection can go on.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use parking_lot::Mutex;
use tokio::task::yield_now;

/// A rest up to this size is passed over, as by Go's server.
const PASSED_OVER_MAX: usize = 256 * 1024;

/// Turns that the connection gets to pass on what it has read already.
const TURNS: usize = 4;

/// A body that its handler reads, or not. What is left goes back when it is dropped.
pub(super) struct UnreadBody {
    body: Option<Incoming>,
    is_begun: bool,
    left: LeftBody,
}

/// The place for the body of one request once its handler has ended.
#[derive(Clone, Default)]
pub(super) struct LeftBody(Arc<Mutex<Option<Left>>>);

struct Left {
    body: Incoming,
    is_begun: bool,
}

impl UnreadBody {
    pub(super) fn new(body: Incoming, left: &LeftBody) -> Self {
        Self { body: Some(body), is_begun: false, left: left.clone() }
    }
}

impl Body for UnreadBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        self.is_begun = true;
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(Incoming::size_hint).unwrap_or_default()
    }
}

impl Drop for UnreadBody {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            *self.left.0.lock() = Some(Left { body, is_begun: self.is_begun });
        }
    }
}

impl LeftBody {
    /// Passes over a small rest that has arrived. Returns whether the body is read to its end; if not, the
    /// next request can't be read: the connection has to end. `waits`: the client sends the body only
    /// once somebody begins to read it.
    pub(super) async fn pass_over(self, waits: bool) -> bool {
        let Some(Left { mut body, is_begun }) = self.0.lock().take() else { return false };
        if body.is_end_stream() {
            return true;
        }
        if waits && !is_begun {
            return false;
        }
        let (mut bytes, mut turns) = (0, 0);
        while bytes <= PASSED_OVER_MAX && turns < TURNS {
            let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut body).poll_frame(cx))).await;
            match polled {
                Poll::Ready(None) => return true,
                Poll::Ready(Some(Ok(frame))) => {
                    bytes += frame.data_ref().map_or(0, Bytes::len);
                    turns = 0;
                }
                Poll::Ready(Some(Err(_))) => return false,
                Poll::Pending => {
                    turns += 1;
                    yield_now().await;
                }
            }
        }
        false
    }
}
