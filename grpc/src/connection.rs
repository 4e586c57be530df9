//! A client's socket as tonic serves it: with a deadline for HTTP/2's preface, and its bytes counted.

use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use mq_net::accept::Place;
use mq_net::budget::{Beginning, Closed};
use mq_net::transport::Transport;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::Connected;

use crate::frame_meter::FrameMeter;
use crate::link::Link;

/// The preface of HTTP/2 (RFC 9113, section 3.4). Once it is there, keepalive finds out whether the client
/// is.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A connection that was accepted, its TLS handshake done.
#[derive(Debug)]
pub(crate) struct Connection {
    transport: Transport,
    link: Arc<Link>,
    /// Bytes of the preface of HTTP/2 that have not come.
    missing: usize,
    /// `None` once the client is known to speak HTTP/1: its frames are none.
    frames: Option<FrameMeter>,
    /// The frame, or the block of headers, that is being read.
    beginning: Beginning,
    /// The time by which the preface has to be there; `None` once it is.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Bytes that are counted of what TLS holds until the socket takes them.
    unsent: usize,
    _place: Place,
}

impl Connection {
    /// A connection whose client must have sent the preface within `patience`.
    pub(crate) fn new(transport: Transport, link: Arc<Link>, patience: Duration, place: Place) -> Self {
        Self {
            transport,
            missing: PREFACE.len(),
            frames: Some(FrameMeter::default()),
            beginning: link.beginning(),
            deadline: Some(Box::pin(sleep(patience))),
            link,
            unsent: 0,
            _place: place,
        }
    }
}

impl Connection {
    /// Counts what TLS holds after a write or a flush.
    fn counted<T>(&mut self, polled: Poll<T>) -> Poll<T> {
        let unsent = self.transport.held();
        if unsent != self.unsent {
            self.unsent = unsent;
            self.link.set_unsent(unsent);
        }
        polled
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
        if let Some(deadline) = &mut self.deadline
            && polled.is_pending()
            && deadline.as_mut().poll(cx).is_ready()
        {
            let text = "the client does not begin to speak HTTP/2";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, text)));
        }
        let read = &buf.filled()[before..];
        let (preface, frames) = read.split_at(read.len().min(self.missing));
        if !PREFACE[PREFACE.len() - self.missing..].starts_with(preface) {
            (self.frames, self.missing) = (None, 0);
        }
        self.missing = self.missing.saturating_sub(preface.len());
        if self.missing == 0 {
            self.deadline = None;
        }
        let held = self.frames.as_mut().map_or(0, |meter| {
            meter.take(frames);
            meter.held()
        });
        match (held, polled.is_pending()) {
            (0, _) => self.beginning.release(),
            (held, true) => {
                if let Err(closed) = self.beginning.hold(held, cx) {
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::OutOfMemory, closed)));
                }
            }
            _ => {}
        }
        polled
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write(cx, buf);
        self.counted(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.transport).poll_write_vectored(cx, bufs);
        self.counted(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.transport).poll_flush(cx);
        self.counted(polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.transport).poll_shutdown(cx)
    }
}
