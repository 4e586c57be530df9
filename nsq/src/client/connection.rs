//! One connection to one server. It has no task of its own: it reads, writes and answers heartbeats while one
//! of its futures is awaited, and every one of them may be dropped at any time without a loss.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use mq_core::{ChannelName, DeliveryToken, MessageId, Start, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Sleep, sleep, timeout};

use super::Identify;
use super::error::Error;
use super::handshake::{self, Opened};
use super::inbox::Inbox;
use super::message::{Message, Peeked, Results};
use super::outbox::{Expected, Outbox};
use crate::wire::Together;
use crate::wire::extension::StartText;
use crate::wire::identify::Reply;
use mq_net::transport::Transport;

/// Commands without an answer while more are sent: enough for the way there and back, and for the server to
/// write many at once.
const UNANSWERED_MAX: usize = 32;
/// Bytes published without an answer while more are sent.
const UNANSWERED_BYTES_MAX: usize = 4 * 1024 * 1024;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Twice the heartbeat interval that servers have where a client does not choose.
const SILENCE: Duration = Duration::from_secs(60);

/// Room that a read makes, in bytes.
const READ_BYTES: usize = 64 * 1024;
/// Acknowledgements are written when there are this many bytes of them, or they are this old, or nothing is
/// to be read.
const ACKS_BYTES: usize = 4096;
const ACKS_AGE: Duration = Duration::from_millis(100);

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    inbox: Inbox,
    outbox: Outbox,
    /// The server's description of itself.
    server: Reply,
    /// Longest time in which nothing comes.
    silence: Duration,
    /// Longest time in which the server takes nothing of what is to be written.
    write_timeout: Option<Duration>,
    /// The end of that time, while something can't be written: made then, and not for each write.
    stuck: Option<Pin<Box<Sleep>>>,
    /// Why nothing can be written any more. A server that hangs up has said before what there was to say:
    /// that is read first, to the connection's end.
    broken: Option<Error>,
    is_extended: bool,
    subscribed: bool,
}

impl Connection {
    /// Connects to `host:port` or the path of a unix socket, and says what `identify` says.
    ///
    /// # Errors
    /// If there is no server, or it takes more than 10 s, or refuses what `identify` asks for or shows; with
    /// TLS, if the server has none, or is not trusted.
    pub async fn connect(address: &str, identify: Identify) -> Result<Self, Error> {
        let silence = identify.heartbeat_interval.map_or(SILENCE, |interval| (2 * interval).max(SILENCE / 4));
        let silence = identify.read_timeout.unwrap_or(silence);
        let (write_timeout, frame_bytes_max) = (identify.write_timeout, identify.frame_bytes_max);
        let opening = timeout(CONNECT_TIMEOUT, handshake::open(address, identify));
        let Opened { transport, input, server, is_extended } =
            opening.await.map_err(|_| Error::Timeout)??;
        let inbox = Inbox::new(input, is_extended, frame_bytes_max);
        let (outbox, stuck, broken, subscribed) = (Outbox::new(), None, None, false);
        Ok(Self {
            transport,
            inbox,
            outbox,
            server,
            silence,
            write_timeout,
            stuck,
            broken,
            is_extended,
            subscribed,
        })
    }

    /// The server's version; empty if it did not say.
    pub fn server_version(&self) -> &str {
        &self.server.version
    }

    /// The largest RDY the server takes; 0 if it did not say.
    pub fn max_rdy(&self) -> u32 {
        u32::try_from(self.server.max_rdy_count).unwrap_or(0)
    }

    /// The time that the server gives each message of this connection, and the longest that renewing makes
    /// it; zero if it did not say.
    pub fn message_timeouts(&self) -> [Duration; 2] {
        let ms = |ms| Duration::from_millis(u64::try_from(ms).unwrap_or(0));
        [ms(self.server.msg_timeout), ms(self.server.max_msg_timeout)]
    }

    /// Whether it has libmq's extension.
    pub fn is_extended(&self) -> bool {
        self.is_extended
    }

    /// Time for which the server remembers the ids of messages; zero without the extension.
    pub fn dedup_window(&self) -> Duration {
        let offer = self.server.libmq.as_ref().filter(|_| self.is_extended);
        Duration::from_millis(offer.map_or(0, |offer| offer.dedup_window))
    }

    /// Longest delay of a requeue that the server takes, where it says so.
    pub fn requeue_delay_max(&self) -> Option<Duration> {
        let offer = self.server.libmq.as_ref().filter(|offer| self.is_extended && offer.max_req_timeout > 0);
        offer.map(|offer| Duration::from_millis(offer.max_req_timeout))
    }

    /// Publishes `messages` messages with all that the extension has: all or none of them, or each by itself.
    /// `records` are they, encoded by [`put_record`](crate::wire::extension::put_record). Goes out with what
    /// is awaited next; their outcome comes by [`Connection::take_results`], in the order of the calls. A
    /// refusal ends nothing.
    ///
    /// # Errors
    /// `Input` for 4 GiB or more: nothing is sent then. Only for connections that
    /// [are extended](Connection::is_extended).
    pub fn put_records<'a>(
        &mut self,
        topic: &TopicName,
        together: Together,
        messages: usize,
        records: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Error> {
        self.outbox.put_records(topic, together, messages, records)
    }

    /// Results of the oldest call of [`Connection::put_records`] whose outcome was not taken yet.
    pub fn take_results(&mut self) -> Option<Results> {
        self.inbox.results.pop_front()
    }

    /// Publishes messages as one batch, all or nothing. Returns when it is on its way, and few enough are
    /// unanswered: [`Connection::flush`] waits for the answers.
    ///
    /// # Errors
    /// `Input` for an empty body. What the server says to this or an earlier batch ends the connection.
    pub async fn publish_batch<B: AsRef<[u8]>>(
        &mut self,
        topic: &TopicName,
        bodies: &[B],
    ) -> Result<(), Error> {
        self.put_batch(topic, bodies)?;
        self.published().await
    }

    /// Queues a publish of a batch, which goes out with what is awaited next, however much is unanswered.
    ///
    /// # Errors
    /// `Input` for an empty body, or 4 GiB or more: nothing is sent then.
    pub fn put_batch<B: AsRef<[u8]>>(&mut self, topic: &TopicName, bodies: &[B]) -> Result<(), Error> {
        self.outbox.put_batch(topic, bodies)
    }

    /// Publishes one message; else as [`Connection::publish_batch`].
    ///
    /// # Errors
    /// As [`Connection::publish_batch`].
    pub async fn publish(&mut self, topic: &TopicName, body: &[u8]) -> Result<(), Error> {
        self.put_one(topic, body, Duration::ZERO)?;
        self.published().await
    }

    /// Publishes one message that is delivered only after `delay`; else as [`Connection::publish_batch`].
    ///
    /// # Errors
    /// As [`Connection::publish_batch`].
    pub async fn publish_deferred(
        &mut self,
        topic: &TopicName,
        body: &[u8],
        delay: Duration,
    ) -> Result<(), Error> {
        self.put_one(topic, body, delay)?;
        self.published().await
    }

    /// Publishes one message that is delivered only after `delay`; else as [`Connection::put_batch`].
    ///
    /// # Errors
    /// As [`Connection::put_batch`].
    pub fn put_one(&mut self, topic: &TopicName, body: &[u8], delay: Duration) -> Result<(), Error> {
        self.outbox.put_one(topic, body, delay)
    }

    /// Waits until few enough publishes are unanswered.
    async fn published(&mut self) -> Result<(), Error> {
        self.nudge().await?;
        while self.outbox.unanswered() >= UNANSWERED_MAX
            || self.outbox.unanswered_bytes() > UNANSWERED_BYTES_MAX
        {
            self.progress().await?;
        }
        Ok(())
    }

    /// Waits until everything published is answered.
    ///
    /// # Errors
    /// What the server said to one of the publishes.
    pub async fn flush(&mut self) -> Result<(), Error> {
        self.nudge().await?;
        while self.outbox.unanswered_messages() > 0 {
            self.progress().await?;
        }
        poll_fn(|cx| self.outbox.poll_write(&mut self.transport, cx)).await?;
        Ok(())
    }

    /// Messages the server has taken.
    pub fn acknowledged(&self) -> u64 {
        self.inbox.acknowledged
    }

    /// Messages published and not answered.
    pub fn unanswered(&self) -> u64 {
        self.outbox.unanswered_messages()
    }

    /// Bytes published and not answered.
    pub fn unanswered_bytes(&self) -> usize {
        self.outbox.unanswered_bytes()
    }

    /// Bytes that go out with what is awaited next.
    pub fn unsent_bytes(&self) -> usize {
        self.outbox.unsent()
    }

    /// Takes in answers and messages and answers heartbeats until the connection ends. To be raced against
    /// whatever else there is to wait for.
    pub async fn drive(&mut self) -> Error {
        loop {
            if let Err(error) = self.progress().await {
                return error;
            }
        }
    }

    /// Subscribes, asks for up to `rdy` messages in flight, and waits for the answer.
    ///
    /// # Errors
    /// What the server says against it.
    pub async fn subscribe(
        &mut self,
        topic: &TopicName,
        channel: &ChannelName,
        rdy: u32,
    ) -> Result<(), Error> {
        self.outbox.put(format!("SUB {topic} {channel}\nRDY {rdy}\n").as_bytes());
        self.outbox.expect(Expected::Subscribed);
        while self.outbox.expects(Expected::Subscribed) {
            self.progress().await?;
        }
        self.subscribed = true;
        Ok(())
    }

    /// Subscribes with the extension: messages have offset, headers and token, and a channel that this
    /// creates begins at `start`. With `bytes_max`, messages of more bytes of body and headers are left to
    /// others. Returns whether it was created. Else as [`Connection::subscribe`].
    ///
    /// # Errors
    /// As [`Connection::subscribe`]. Only for connections that [are extended](Connection::is_extended).
    pub async fn subscribe_at(
        &mut self,
        topic: &TopicName,
        channel: &ChannelName,
        start: Start,
        bytes_max: Option<u32>,
        rdy: u32,
    ) -> Result<bool, Error> {
        let start = StartText(start);
        let bytes_max = bytes_max.map_or(String::new(), |bytes| format!(" {bytes}"));
        self.outbox.put(format!("SUBSCRIBE {topic} {channel} {start}{bytes_max}\nRDY {rdy}\n").as_bytes());
        self.outbox.expect(Expected::Subscribed);
        while self.outbox.expects(Expected::Subscribed) {
            self.progress().await?;
        }
        self.subscribed = true;
        Ok(self.inbox.created.unwrap_or(false))
    }

    /// Waits until the acknowledgements before it are in the server's log. Only for connections that
    /// [are extended](Connection::is_extended).
    ///
    /// # Errors
    /// What the server says against it; the connection survives it if they can't be written.
    pub async fn confirm(&mut self) -> Result<(), Error> {
        self.start_confirm();
        loop {
            if let Some(confirmed) = self.take_confirmed() {
                return confirmed;
            }
            self.progress().await?;
        }
    }

    /// Asks for what [`Connection::confirm`] waits for. Goes out with what is awaited next.
    pub fn start_confirm(&mut self) {
        self.inbox.confirmed = None;
        self.outbox.put(b"CONFIRM\n");
        self.outbox.expect(Expected::Confirmed);
    }

    /// The answer to the newest [`Connection::start_confirm`], if it came.
    pub fn take_confirmed(&mut self) -> Option<Result<(), Error>> {
        self.inbox.confirmed.take_if(|_| !self.outbox.expects(Expected::Confirmed))
    }

    /// The next message. `None`: the server closed the connection.
    ///
    /// # Errors
    /// If the connection fails, or the server says something that ends it.
    pub async fn next(&mut self) -> Result<Option<Message>, Error> {
        let late = || self.outbox.last_write.elapsed() >= ACKS_AGE;
        if self.outbox.unsent() >= ACKS_BYTES || (self.outbox.unsent() > 0 && late()) {
            self.nudge_out().await?;
        }
        loop {
            if let Some(message) = self.inbox.messages.pop_front() {
                return Ok(Some(message));
            }
            match self.progress().await {
                Ok(()) => {}
                Err(Error::Closed) => return Ok(None),
                Err(error) => return Err(error),
            }
        }
    }

    /// The next message that is here already, for callers of [`Connection::progress`].
    pub fn take_message(&mut self) -> Option<Message> {
        self.inbox.messages.pop_front()
    }

    /// The number of messages that are here.
    pub fn messages(&self) -> usize {
        self.inbox.messages.len()
    }

    /// An acknowledgement that the server refused, oldest first: the newest 1,000 since the last call are
    /// kept. They end nothing.
    pub fn take_late(&mut self) -> Option<Error> {
        self.inbox.late.pop_front()
    }

    /// Finishes a message. Goes out with what is awaited next.
    pub fn finish(&mut self, id: MessageId) {
        self.outbox.put_id("FIN", id, "");
    }

    /// Gives a message back, to be delivered again after `delay`. Goes out with what is awaited next.
    pub fn requeue(&mut self, id: MessageId, delay: Duration) {
        self.outbox.put_id("REQ", id, &format!(" {}", delay.as_millis()));
    }

    /// Asks for the whole message timeout again. Goes out with what is awaited next.
    pub fn touch(&mut self, id: MessageId) {
        self.outbox.put_id("TOUCH", id, "");
    }

    /// Finishes deliveries. Goes out with what is awaited next.
    pub fn finish_deliveries(&mut self, tokens: &[DeliveryToken]) {
        self.outbox.put_tokens("FINISH", tokens, "");
    }

    /// Gives deliveries back, to be delivered again after `delay`. Goes out with what is awaited next.
    pub fn requeue_deliveries(&mut self, tokens: &[DeliveryToken], delay: Duration) {
        self.outbox.put_tokens("REQUEUE", tokens, &format!(" {}", delay.as_millis()));
    }

    /// Gives deliveries back that nobody looked at: they do not count. Goes out with what is awaited next.
    pub fn release_deliveries(&mut self, tokens: &[DeliveryToken]) {
        self.outbox.put_tokens("RELEASE", tokens, "");
    }

    /// Asks for the whole message timeout of deliveries again. Goes out with what is awaited next.
    pub fn extend_deliveries(&mut self, tokens: &[DeliveryToken]) {
        self.outbox.put_tokens("EXTEND", tokens, "");
    }

    /// Sets how many messages may be in flight. Goes out with what is awaited next.
    pub fn ready(&mut self, n: u32) {
        self.outbox.put_line(format_args!("RDY {n}\n"));
    }

    /// Sets how many bytes of bodies may be in flight; 0: any number. A single message that is larger comes
    /// when nothing else is in flight. Goes out with what is awaited next; only for connections that
    /// [are extended](Connection::is_extended).
    pub fn set_byte_credit(&mut self, bytes: u64) {
        self.outbox.put_line(format_args!("CREDIT {bytes}\n"));
        self.outbox.expect(Expected::ByteCredit);
    }

    /// Calls of [`Connection::set_byte_credit`], oldest first, that the server has gone by since it was asked
    /// last: what comes from now on does.
    pub fn take_byte_credits(&mut self) -> usize {
        std::mem::take(&mut self.inbox.byte_credits)
    }

    /// Reads up to `max` messages (at most 1000) of a topic and moves nothing. Only `mq` knows how. `from`:
    /// `None` for the oldest that no channel has got, or what the last answer had as `next`.
    ///
    /// # Errors
    /// What the server says against it; the connection survives it if the topic can't be read.
    pub async fn peek(
        &mut self,
        topic: &TopicName,
        from: Option<MessageId>,
        max: u16,
    ) -> Result<Peeked, Error> {
        let from = from.map(MessageId::to_hex);
        let from = from.as_ref().map_or(&b"0"[..], |hex| hex).escape_ascii();
        self.inbox.peeked = None;
        self.outbox.put(format!("PEEK {topic} {from} {max}\n").as_bytes());
        self.outbox.expect(Expected::Peeked);
        loop {
            // The answer to one that was given up may come first.
            if let Some(peeked) = self.inbox.peeked.take()
                && !self.outbox.expects(Expected::Peeked)
            {
                return peeked;
            }
            self.progress().await?;
        }
    }

    /// Ends the connection: unsubscribes, writes what there is to write, and waits for the server 5 s at
    /// most. Messages that come meanwhile return to their channel.
    ///
    /// # Errors
    /// If the last commands can't be written.
    pub async fn close(mut self) -> Result<(), Error> {
        let closing = async {
            if self.subscribed {
                self.outbox.put(b"CLS\n");
                self.outbox.expect(Expected::Closed);
            }
            self.nudge().await?;
            while self.outbox.unanswered() > 0 {
                self.progress().await?;
            }
            poll_fn(|cx| self.outbox.poll_write(&mut self.transport, cx)).await?;
            self.transport.shutdown().await?;
            Ok(())
        };
        timeout(CLOSE_TIMEOUT, closing).await.map_err(|_| Error::Timeout)?
    }

    /// Waits until something came from the server: an answer to a publish or a message, among others. Writes
    /// and answers heartbeats meanwhile.
    ///
    /// # Errors
    /// If the connection fails, or the server says something that ends it.
    pub async fn progress(&mut self) -> Result<(), Error> {
        let silence = self.silence;
        timeout(silence, poll_fn(|cx| self.poll_progress(cx))).await.map_err(|_| Error::Timeout)?
    }

    /// Writes and reads what can be without waiting.
    ///
    /// # Errors
    /// As [`Connection::progress`].
    pub async fn nudge(&mut self) -> Result<(), Error> {
        poll_fn(|cx| match self.poll_progress(cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            ready => ready,
        })
        .await
    }

    /// Writes what can be without waiting.
    async fn nudge_out(&mut self) -> Result<(), Error> {
        poll_fn(|cx| match self.outbox.poll_write(&mut self.transport, cx) {
            Poll::Pending => Poll::Ready(Ok(())),
            ready => ready,
        })
        .await?;
        Ok(())
    }

    /// Writes and reads. Ready when a frame came.
    fn poll_progress(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // Frames that came with IDENTIFY's answer.
        let mut came = self.inbox.take_frames(&mut self.outbox)?;
        loop {
            if self.broken.is_none() {
                match self.write_some(cx) {
                    Ok(()) => {}
                    Err(Error::Timeout) => return Poll::Ready(Err(Error::Timeout)),
                    Err(error) => self.broken = Some(error),
                }
            }
            if came {
                return Poll::Ready(Ok(()));
            }
            self.inbox.input.reserve(READ_BYTES);
            let read = pin!(self.transport.read_buf(&mut self.inbox.input)).poll(cx);
            let ended = match read {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(1..)) => {
                    came = self.inbox.take_frames(&mut self.outbox)?;
                    continue;
                }
                Poll::Ready(Ok(0)) => Error::Closed,
                Poll::Ready(Err(error)) => error.into(),
            };
            return Poll::Ready(Err(self.broken.take().unwrap_or(ended)));
        }
    }

    /// Writes what the server takes; this is polled again when it takes more.
    fn write_some(&mut self, cx: &mut Context<'_>) -> Result<(), Error> {
        let before = self.outbox.unsent();
        let written = self.outbox.poll_write(&mut self.transport, cx);
        let (Poll::Pending, Some(longest)) = (written?, self.write_timeout) else {
            self.stuck = None;
            return Ok(());
        };
        if self.outbox.unsent() < before {
            self.stuck = None;
        }
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(sleep(longest)));
        if stuck.as_mut().poll(cx).is_ready() { Err(Error::Timeout) } else { Ok(()) }
    }
}
