//! Commands that a client has to write, and the responses it expects to them.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mq_core::{DeliveryToken, MessageId, TopicName};
use tokio::io::AsyncWrite;
use tokio::time::Instant;

use super::error::Error;
use crate::wire::Together;
use crate::wire::extension::TOKENS_MAX;
use mq_net::transport::Transport;

/// The command of the next response: responses come in the order of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
    /// A publish of `messages` in `bytes`.
    Published { messages: u64, bytes: usize },
    /// CONFIRM.
    Confirmed,
    /// CREDIT.
    ByteCredit,
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

    /// Appends a line. Nothing is allocated for it.
    pub(super) fn put_line(&mut self, line: std::fmt::Arguments<'_>) {
        // Memory takes what is written.
        let _ = io::Write::write_fmt(&mut self.buf, line);
    }

    /// Appends a line, the length of what `put` appends, and that. Returns how many bytes it is; `Err` with
    /// their number, and nothing appended, if they are too many for a length.
    fn put_sized(&mut self, line: &str, put: impl FnOnce(&mut Vec<u8>)) -> Result<usize, usize> {
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

    /// Publishes records of the extension, with one answer for all `messages` of them.
    pub(super) fn put_records<'a>(
        &mut self,
        topic: &TopicName,
        together: Together,
        messages: usize,
        records: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        let together = match together {
            Together::All => "all",
            Together::Each => "each",
        };
        let bytes = self.put_sized(&format!("PUBLISH {topic} {together}\n"), |out| {
            records.for_each(|record| out.extend_from_slice(record));
        });
        let bytes = bytes.map_err(|bytes| Error::Input(format!("{bytes} bytes are too many")))?;
        self.expect(Expected::Published { messages: messages as u64, bytes });
        Ok(())
    }

    /// Publishes messages as one batch.
    pub(super) fn put_batch<B: AsRef<[u8]>>(&mut self, topic: &TopicName, bodies: &[B]) -> Result<(), Error> {
        match bodies {
            [] => return Ok(()),
            [body] => return self.put_one(topic, body.as_ref(), Duration::ZERO),
            _ => {}
        }
        for body in bodies {
            check_body(body.as_ref())?;
        }
        let bytes = bodies.iter().map(|body| 4 + body.as_ref().len()).sum::<usize>() + 4;
        let length = wire_len(bytes)?;
        let count = wire_len(bodies.len())?;
        let mut head = format!("MPUB {topic}\n").into_bytes();
        head.extend_from_slice(&length);
        head.extend_from_slice(&count);
        self.put(&head);
        for body in bodies {
            self.put(&wire_len(body.as_ref().len())?);
            self.put(body.as_ref());
        }
        self.expect(Expected::Published { messages: bodies.len() as u64, bytes });
        Ok(())
    }

    /// Publishes one message that is delivered only after `delay`.
    pub(super) fn put_one(&mut self, topic: &TopicName, body: &[u8], delay: Duration) -> Result<(), Error> {
        check_body(body)?;
        let length = wire_len(body.len())?;
        let line = match delay.as_millis() {
            0 => format!("PUB {topic}\n"),
            ms => format!("DPUB {topic} {ms}\n"),
        };
        self.put(line.as_bytes());
        self.put(&length);
        self.put(body);
        self.expect(Expected::Published { messages: 1, bytes: body.len() });
        Ok(())
    }

    /// Appends a command about one message.
    pub(super) fn put_id(&mut self, command: &str, id: MessageId, rest: &str) {
        self.put(command.as_bytes());
        self.put(b" ");
        self.put(&id.to_hex());
        self.put(rest.as_bytes());
        self.put(b"\n");
    }

    /// Appends commands about deliveries, each of them about as many as one may name.
    pub(super) fn put_tokens(&mut self, command: &str, tokens: &[DeliveryToken], rest: &str) {
        for some in tokens.chunks(TOKENS_MAX as usize) {
            self.put_line(format_args!("{command} {}{rest}\n", some.len()));
            some.iter().for_each(|token| self.put(&token.to_bytes()));
        }
    }

    /// Queues what the answer to the last command stands for.
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

fn check_body(body: &[u8]) -> Result<(), Error> {
    if body.is_empty() { Err(Error::Input("a message can't be empty".to_owned())) } else { Ok(()) }
}

fn wire_len(len: usize) -> Result<[u8; 4], Error> {
    let len = u32::try_from(len).map_err(|_| Error::Input(format!("{len} bytes are too many")))?;
    Ok(len.to_be_bytes())
}
