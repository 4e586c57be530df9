//! Commands that a client has to write, and the responses it expects to them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;
use tokio::time::Instant;

use mq_net::transport::Transport;

/// The command of the next response: responses come in the order of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A publish of so many messages in so many bytes.
    Published { messages: u64, bytes: usize },
    /// CONFIRM.
    Confirmed,
    /// SUB.
    Subscribed,
    /// CLS.
    Closed,
    /// PEEK.
    Peeked,
}

/// Commands on their way out, and those without an answer.
#[derive(Debug)]
pub(super) struct Outbox {
    buf: Vec<u8>,
    sent: usize,
    /// Whether the transport may hold some of what it took.
    unflushed: bool,
    pub(super) last_write: Instant,
    expected: VecDeque<Expected>,
    unanswered_messages: u64,
    unanswered_bytes: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self {
            buf: Vec::new(),
            sent: 0,
            unflushed: false,
            last_write: Instant::now(),
            expected: VecDeque::new(),
            unanswered_messages: 0,
            unanswered_bytes: 0,
        }
    }

    /// Appends a command that has no answer, or whose answer is noted with [`Outbox::expect`].
    pub(super) fn put(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Appends a line, the length of what `put` appends, and that. Returns how many bytes it is; `Err` with
    /// their number, and nothing appended, if they are too many for a length.
    pub(super) fn put_sized(&mut self, line: &str, put: impl FnOnce(&mut Vec<u8>)) -> Result<usize, usize> {
        let before = self.buf.len();
        self.buf.extend_from_slice(line.as_bytes());
        let start = self.buf.len() + 4;
        self.buf.extend_from_slice(&[0; 4]);
        put(&mut self.buf);
        let bytes = self.buf.len() - start;
        let Ok(length) = u32::try_from(bytes) else {
            self.buf.truncate(before);
            return Err(bytes);
        };
        self.buf[start - 4..start].copy_from_slice(&length.to_be_bytes());
        Ok(bytes)
    }

    /// Notes what the answer to the command just put is about.
    pub(super) fn expect(&mut self, expected: Expected) {
        if let Expected::Published { messages, bytes } = expected {
            self.unanswered_messages += messages;
            self.unanswered_bytes += bytes;
        }
        self.expected.push_back(expected);
    }

    /// Takes what the response that came is about.
    pub(super) fn answered(&mut self) -> Option<Expected> {
        let expected = self.expected.pop_front()?;
        if let Expected::Published { messages, bytes } = expected {
            self.unanswered_messages -= messages;
            self.unanswered_bytes -= bytes;
        }
        Some(expected)
    }

    pub(super) fn expects(&self, expected: Expected) -> bool {
        self.expected.contains(&expected)
    }

    /// Commands without an answer.
    pub(super) fn unanswered(&self) -> usize {
        self.expected.len()
    }

    /// Messages published without an answer.
    pub(super) fn unanswered_messages(&self) -> u64 {
        self.unanswered_messages
    }

    /// Bytes published without an answer.
    pub(super) fn unanswered_bytes(&self) -> usize {
        self.unanswered_bytes
    }

    /// Bytes not written.
    pub(super) fn unsent(&self) -> usize {
        self.buf.len() - self.sent
    }

    /// Writes what the transport takes. Ready when all is written and flushed.
    pub(super) fn poll_write(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.unsent() > 0 {
            match Pin::new(&mut *transport).poll_write(cx, &self.buf[self.sent..])? {
                Poll::Ready(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(n) => {
                    self.sent += n;
                    self.unflushed = true;
                    self.last_write = Instant::now();
                }
                Poll::Pending => {
                    // What is sent goes, once moving the rest costs less than was written.
                    if self.sent > self.unsent() {
                        self.buf.drain(..self.sent);
                        self.sent = 0;
                    }
                    return Poll::Pending;
                }
            }
        }
        self.buf.clear();
        self.sent = 0;
        if self.unflushed {
            ready!(Pin::new(transport).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }
}
