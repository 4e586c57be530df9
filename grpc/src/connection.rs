//! A client's socket, as tonic wants it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mq_net::budget::Closed;
use mq_net::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use crate::link::Link;

/// Bytes of the preface that HTTP/2 begins with. Once they are there, keepalive finds out whether the client
/// is.
const PREFACE_BYTES: usize = 24;

/// A connection that was accepted, its TLS handshake done.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    link: Arc<Link>,
    /// Bytes of the preface that have not come.
    missing: usize,
    /// The time by which the preface has to be there; `None` once it is.
    deadline: Option<Pin<Box<Sleep>>>,
    /// One of those that bound how many there are.
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    /// One whose client has `patience` to begin.
    pub(crate) fn new(
        transport: Transport,
        link: Arc<Link>,
        patience: Duration,
        permit: OwnedSemaphorePermit,
    ) -> Self {
        Self {
            link,
            transport,
            missing: PREFACE_BYTES,
            deadline: Some(Box::pin(sleep(patience))),
            _permit: permit,
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Arc<Link>;

    fn connect_info(&self) -> Arc<Link> {
        Arc::clone(&self.link)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.link.is_closed(cx) {
            tracing::debug!(peer = self.link.peer().address, "gRPC connection closed: {Closed}");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, Closed)));
        }
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.transport).poll_read(cx, buf);
        if let Some(deadline) = &mut self.deadline {
            if polled.is_pending() && deadline.as_mut().poll(cx).is_ready() {
                let text = "the client does not begin to speak HTTP/2";
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
            }
            self.missing = self.missing.saturating_sub(buf.filled().len() - before);
            if self.missing == 0 {
                self.deadline = None;
            }
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.transport).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
