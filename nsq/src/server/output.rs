//! Output of a session.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::buffers;
use mq_net::transport::Transport;

/// Messages are added until this many bytes are unsent: enough for a write to be worth its call, little
/// enough for any number of peers that do not read.
pub(super) const DELIVERY_BYTES: usize = 64 * 1024;

/// Unsent bytes above which the connection is not read: its peer sends commands but does not take the
/// answers.
pub(super) const UNSENT_BYTES_MAX: usize = 256 * 1024;

/// Bytes by which a peer's output has to move on for it to count as slow, not as stuck.
const MOVED_BYTES: usize = 16 * 1024;

/// Bytes on their way out. Has a buffer only while there are any.
#[derive(Debug, Default)]
pub(super) struct Output {
    buf: Vec<u8>,
    sent: usize,
    /// Bytes sent since somebody asked.
    moved: usize,
    /// Whether the transport may hold some of what it took.
    unflushed: bool,
    /// Since when the socket took nothing.
    stuck_since: Option<Instant>,
}

impl Output {
    /// Bytes not sent yet.
    pub(super) fn unsent(&self) -> usize {
        self.buf.len() - self.sent
    }

    /// Bytes that it holds, sent ones included.
    pub(super) fn bytes(&self) -> usize {
        self.buf.len()
    }

    /// Whether the socket took as much as [`MOVED_BYTES`] since it was last asked.
    pub(super) fn has_moved(&mut self) -> bool {
        let has_moved = self.moved >= MOVED_BYTES;
        if has_moved {
            self.moved = 0;
        }
        has_moved
    }

    /// Since when there is something to send, and the socket takes nothing of it.
    pub(super) fn stuck_since(&self) -> Option<Instant> {
        self.stuck_since
    }

    /// The buffer to append to.
    pub(super) fn buf(&mut self) -> &mut Vec<u8> {
        if self.buf.capacity() == 0 {
            self.buf = buffers::take_output();
        } else if self.sent >= DELIVERY_BYTES {
            self.buf.drain(..self.sent);
            self.sent = 0;
        }
        &mut self.buf
    }

    /// Writes what the transport takes. Ready when all is written and flushed; returns whether there was
    /// anything.
    pub(super) fn poll_write(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<bool>> {
        let mut wrote = false;
        while self.unsent() > 0 {
            match Pin::new(&mut *transport).poll_write(cx, &self.buf[self.sent..]) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(n)) => {
                    self.sent += n;
                    self.moved += n;
                    self.unflushed = true;
                    self.stuck_since = None;
                    wrote = true;
                }
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.stuck_since.get_or_insert_with(Instant::now);
                    return Poll::Pending;
                }
            }
        }
        if self.buf.capacity() > 0 {
            buffers::give(std::mem::take(&mut self.buf));
            self.sent = 0;
        }
        if self.unflushed {
            if Pin::new(transport).poll_flush(cx)?.is_pending() {
                self.stuck_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            }
            self.unflushed = false;
            self.stuck_since = None;
        }
        Poll::Ready(Ok(wrote))
    }
}
