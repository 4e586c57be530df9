//! One connection to one server. It has no task of its own: it reads, writes and answers heartbeats while one
//! of its futures is awaited, and every one of them may be dropped at any time without a loss.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::ops::Range;
use std::pin::pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use mq_core::{ChannelName, DeliveryToken, MessageId, Start, TopicName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Identify;
use super::error::Error;
use super::message::{Message, Peeked, Results};
use super::outbox::{Expected, Outbox};
use crate::wire::extension::{self, MESSAGES, StartText, TOKENS_MAX, put_record};
use crate::wire::frame::{self, CLOSE_WAIT, FRAME_HEADER_BYTES, Frame, HEARTBEAT, OK};
use crate::wire::identify::{Reply, ms};
use crate::wire::{MAGIC, Together};
use mq_net::transport::{Compression, Transport};

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
/// Refused acknowledgements kept for who asks for them: the newest.
const LATE_MAX: usize = 1000;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection {
    transport: Transport,
    input: BytesMut,
    outbox: Outbox,
    messages: VecDeque<Message>,
    peeked: Option<Result<Peeked, Error>>,
    server: Reply,
    silence: Duration,
    is_extended: bool,
    /// Whether SUBSCRIBE created its channel, once it was answered.
    created: Option<bool>,
    /// Answers to [`Connection::publish_records`] that nobody has taken yet.
    results: VecDeque<Results>,
    confirmed: Option<Result<(), Error>>,
    subscribed: bool,
    acknowledged: u64,
    late: VecDeque<Error>,
}

/// A message to publish with the extension.
#[derive(Clone, Copy, Debug)]
pub struct Outgoing<'a> {
    /// Delivered no earlier than so long after the publish; whole milliseconds.
    pub delay: Duration,
    /// An id of 1 to 255 bytes: a message whose id the topic remembers is not stored again.
    pub id: Option<&'a [u8]>,
    /// Names of at most 255 bytes, and values of at most 64 KiB in all.
    pub headers: &'a [(String, bytes::Bytes)],
    /// The body.
    pub body: &'a [u8],
}

impl Connection {
    /// Connects to `host:port` or the path of a unix socket, and says what `identify` says.
    ///
    /// # Errors
    /// If there is no server, or it takes more than 10 s, or refuses what `identify` asks for or shows; with
    /// TLS, if the server has none, or is not trusted.
    pub async fn connect(address: &str, identify: Identify) -> Result<Self, Error> {
        timeout(CONNECT_TIMEOUT, Self::open(address, identify)).await.map_err(|_| Error::Timeout)?
    }

    async fn open(address: &str, identify: Identify) -> Result<Self, Error> {
        let mut transport = Transport::connect(address).await?;
        let silence = identify.heartbeat_interval.map_or(SILENCE, |interval| (2 * interval).max(SILENCE / 4));
        let mut json = serde_json::json!({
            "client_id": identify.client_id,
            "hostname": identify.hostname,
            "user_agent": concat!("mq/", env!("CARGO_PKG_VERSION")),
            "feature_negotiation": true,
            "heartbeat_interval": identify.heartbeat_interval.map_or(0, ms),
            "msg_timeout": identify.msg_timeout.map_or(0, ms),
            "sample_rate": identify.sample_rate,
            "tls_v1": identify.tls.is_some(),
            "snappy": identify.snappy,
            "deflate": identify.deflate.is_some(),
            "deflate_level": identify.deflate.unwrap_or(0),
        });
        if !identify.user_agent.is_empty() {
            json["user_agent"] = identify.user_agent.into();
        }
        if identify.extension {
            json["libmq"] = serde_json::json!([MESSAGES]);
        }
        let json = json.to_string();
        let mut hello = [&MAGIC[..], b"IDENTIFY\n"].concat();
        put_body(&mut hello, json.as_bytes());
        transport.write_all(&hello).await?;

        let mut input = BytesMut::new();
        let server = match read_response(&mut transport, &mut input).await?.as_slice() {
            OK => Reply::default(),
            json => serde_json::from_slice(json)
                .map_err(|error| Error::Protocol(format!("IDENTIFY's answer: {error}")))?,
        };
        if let Some(tls) = &identify.tls {
            if !server.tls_v1 {
                return Err(Error::Protocol("the server has no TLS".to_owned()));
            }
            // Nothing from outside TLS may be taken for something from inside.
            if !input.is_empty() {
                return Err(unexpected("more than an answer to IDENTIFY"));
            }
            transport = tls.connect(transport, address).await?;
            confirm(&mut transport, &mut input).await?;
        }
        let compression = match &server {
            Reply { snappy: true, .. } => Some(Compression::Snappy),
            Reply { deflate: true, deflate_level, .. } => {
                Some(Compression::Deflate(u8::try_from(*deflate_level).unwrap_or(6)))
            }
            _ => None,
        };
        if let Some(compression) = compression {
            // The server does not wait between its answer and the first compressed bytes.
            transport.compress(compression, input.split().to_vec());
            confirm(&mut transport, &mut input).await?;
        }
        if let (Some(secret), true) = (&identify.auth_secret, server.auth_required) {
            let mut auth = b"AUTH\n".to_vec();
            put_body(&mut auth, secret.expose());
            transport.write_all(&auth).await?;
            transport.flush().await?;
            // Its answer says who the client is taken for.
            read_response(&mut transport, &mut input).await?;
        }
        let offer = server.libmq.as_ref().filter(|offer| offer.has_messages());
        let is_extended = identify.extension && offer.is_some();
        if let Some(offer) = offer.filter(|_| is_extended) {
            upgrade(&mut transport, &mut input, offer)
                .await
                .map_err(|error| Error::NotUpgraded(error.to_string()))?;
        }
        Ok(Self {
            transport,
            input,
            outbox: Outbox::new(),
            messages: VecDeque::new(),
            peeked: None,
            server,
            silence,
            is_extended,
            created: None,
            results: VecDeque::new(),
            confirmed: None,
            subscribed: false,
            acknowledged: 0,
            late: VecDeque::new(),
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

    /// Publishes messages with all that the extension has: all or none of them, or each by itself. Returns
    /// when they are on their way, and few enough are unanswered; their outcome comes by
    /// [`Connection::take_results`], in the order of the calls. A refusal ends nothing.
    ///
    /// # Errors
    /// `Input` for 4 GiB or more. What the server says against the form of this or an earlier command ends
    /// the connection. Only for connections that [are extended](Connection::is_extended).
    pub async fn publish_records<'a>(
        &mut self,
        topic: &TopicName,
        together: Together,
        records: impl Iterator<Item = Outgoing<'a>>,
    ) -> Result<(), Error> {
        let together = match together {
            Together::All => "all",
            Together::Each => "each",
        };
        let mut messages = 0;
        let bytes = self.outbox.put_sized(&format!("PUBLISH {topic} {together}\n"), |out| {
            for record in records {
                messages += 1;
                let headers = record.headers.iter().map(|(name, value)| (name.as_str(), &value[..]));
                put_record(out, record.delay, record.id, headers, record.body);
            }
        });
        let bytes = bytes.map_err(|bytes| Error::Input(format!("{bytes} bytes are too many")))?;
        self.published(messages, bytes).await
    }

    /// Results of the oldest call of [`Connection::publish_records`] whose outcome was not taken yet.
    pub fn take_results(&mut self) -> Option<Results> {
        self.results.pop_front()
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
        match bodies {
            [] => return Ok(()),
            [body] => return self.publish(topic, body.as_ref()).await,
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
        self.outbox.put(&head);
        for body in bodies {
            self.outbox.put(&wire_len(body.as_ref().len())?);
            self.outbox.put(body.as_ref());
        }
        self.published(bodies.len() as u64, bytes).await
    }

    /// Publishes one message; else as [`Connection::publish_batch`].
    ///
    /// # Errors
    /// As [`Connection::publish_batch`].
    pub async fn publish(&mut self, topic: &TopicName, body: &[u8]) -> Result<(), Error> {
        self.publish_line(format!("PUB {topic}\n"), body).await
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
        self.publish_line(format!("DPUB {topic} {}\n", delay.as_millis()), body).await
    }

    async fn publish_line(&mut self, line: String, body: &[u8]) -> Result<(), Error> {
        check_body(body)?;
        let length = wire_len(body.len())?;
        self.outbox.put(line.as_bytes());
        self.outbox.put(&length);
        self.outbox.put(body);
        self.published(1, body.len()).await
    }

    async fn published(&mut self, messages: u64, bytes: usize) -> Result<(), Error> {
        self.outbox.expect(Expected::Published { messages, bytes });
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
        self.acknowledged
    }

    /// Messages published and not answered.
    pub fn unanswered(&self) -> u64 {
        self.outbox.unanswered_messages()
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
    /// creates begins at `start`. Returns whether it was created. Else as [`Connection::subscribe`].
    ///
    /// # Errors
    /// As [`Connection::subscribe`]. Only for connections that [are extended](Connection::is_extended).
    pub async fn subscribe_at(
        &mut self,
        topic: &TopicName,
        channel: &ChannelName,
        start: Start,
        rdy: u32,
    ) -> Result<bool, Error> {
        let start = StartText(start);
        self.outbox.put(format!("SUBSCRIBE {topic} {channel} {start}\nRDY {rdy}\n").as_bytes());
        self.outbox.expect(Expected::Subscribed);
        while self.outbox.expects(Expected::Subscribed) {
            self.progress().await?;
        }
        self.subscribed = true;
        Ok(self.created.unwrap_or(false))
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
        self.confirmed = None;
        self.outbox.put(b"CONFIRM\n");
        self.outbox.expect(Expected::Confirmed);
    }

    /// The answer to the newest [`Connection::start_confirm`], if it came.
    pub fn take_confirmed(&mut self) -> Option<Result<(), Error>> {
        self.confirmed.take_if(|_| !self.outbox.expects(Expected::Confirmed))
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
            if let Some(message) = self.messages.pop_front() {
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
        self.messages.pop_front()
    }

    /// An acknowledgement that the server refused, oldest first: the newest 1,000 since the last call are
    /// kept. They end nothing.
    pub fn take_late(&mut self) -> Option<Error> {
        self.late.pop_front()
    }

    /// Finishes a message. Goes out with what is awaited next.
    pub fn finish(&mut self, id: MessageId) {
        self.put_id("FIN", id, "");
    }

    /// Gives a message back, to be delivered again after `delay`. Goes out with what is awaited next.
    pub fn requeue(&mut self, id: MessageId, delay: Duration) {
        self.put_id("REQ", id, &format!(" {}", delay.as_millis()));
    }

    /// Asks for the whole message timeout again. Goes out with what is awaited next.
    pub fn touch(&mut self, id: MessageId) {
        self.put_id("TOUCH", id, "");
    }

    /// Finishes deliveries. Goes out with what is awaited next.
    pub fn finish_deliveries(&mut self, tokens: &[DeliveryToken]) {
        self.put_tokens("FINISH", tokens, "");
    }

    /// Gives deliveries back, to be delivered again after `delay`. Goes out with what is awaited next.
    pub fn requeue_deliveries(&mut self, tokens: &[DeliveryToken], delay: Duration) {
        self.put_tokens("REQUEUE", tokens, &format!(" {}", delay.as_millis()));
    }

    /// Asks for the whole message timeout of deliveries again. Goes out with what is awaited next.
    pub fn extend_deliveries(&mut self, tokens: &[DeliveryToken]) {
        self.put_tokens("EXTEND", tokens, "");
    }

    fn put_tokens(&mut self, command: &str, tokens: &[DeliveryToken], rest: &str) {
        for some in tokens.chunks(TOKENS_MAX as usize) {
            self.outbox.put(format!("{command} {}{rest}\n", some.len()).as_bytes());
            some.iter().for_each(|token| self.outbox.put(&token.to_bytes()));
        }
    }

    /// Sets how many messages may be in flight. Goes out with what is awaited next.
    pub fn ready(&mut self, n: u32) {
        self.outbox.put(format!("RDY {n}\n").as_bytes());
    }

    fn put_id(&mut self, command: &str, id: MessageId, rest: &str) {
        self.outbox.put(command.as_bytes());
        self.outbox.put(b" ");
        self.outbox.put(&id.to_hex());
        self.outbox.put(rest.as_bytes());
        self.outbox.put(b"\n");
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
        self.peeked = None;
        self.outbox.put(format!("PEEK {topic} {from} {max}\n").as_bytes());
        self.outbox.expect(Expected::Peeked);
        loop {
            // The answer to one that was given up may come first.
            if let Some(peeked) = self.peeked.take()
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
    /// If what was to be written could not be.
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
    async fn nudge(&mut self) -> Result<(), Error> {
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
        let mut came = self.take_frames()?;
        loop {
            // To be woken when there is room is all that matters here.
            if let Poll::Ready(Err(error)) = self.outbox.poll_write(&mut self.transport, cx) {
                return Poll::Ready(Err(error.into()));
            }
            if came {
                return Poll::Ready(Ok(()));
            }
            self.input.reserve(READ_BYTES);
            let read = pin!(self.transport.read_buf(&mut self.input)).poll(cx);
            match read? {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(0) => return Poll::Ready(Err(Error::Closed)),
                Poll::Ready(_) => came = self.take_frames()?,
            }
        }
    }

    /// Takes in every whole frame. Returns whether there was one.
    fn take_frames(&mut self) -> Result<bool, Error> {
        let mut end = 0;
        while let Ok(length) = frame::length(&self.input[end..])? {
            end += length;
        }
        // One piece of memory for all of them: each message shares it.
        let frames = self.input.split_to(end).freeze();
        let mut at = 0;
        while let Ok(length) = frame::length(&frames[at..])? {
            let data = at + FRAME_HEADER_BYTES..at + length;
            match frames[data.start - 1] {
                0 => self.take_response(&frames, data)?,
                1 => self.take_error(&frames[data])?,
                2 => self.messages.push_back(Message::decode(&frames.slice(data))?),
                3 => self.messages.push_back(Message::decode_delivery(&frames.slice(data))?),
                _ => self.take_published(Results::decode(frames.slice(data))?)?,
            }
            at += length;
        }
        Ok(end > 0)
    }

    fn take_published(&mut self, results: Results) -> Result<(), Error> {
        let Some(Expected::Published { messages, .. }) = self.outbox.answered() else {
            return Err(unexpected("results of a publish"));
        };
        let count: u64 = results.runs().map(|run| u64::from(run.count())).sum();
        if count != messages {
            return Err(Error::Protocol(format!("{count} results for {messages} messages")));
        }
        let stored = results.runs().filter(|run| matches!(run, extension::Run::Stored { .. }));
        self.acknowledged += stored.map(|run| u64::from(run.count())).sum::<u64>();
        self.results.push_back(results);
        Ok(())
    }

    fn take_response(&mut self, frames: &bytes::Bytes, range: Range<usize>) -> Result<(), Error> {
        let data = &frames[range.clone()];
        if data == HEARTBEAT {
            self.outbox.put(b"NOP\n");
            return Ok(());
        }
        match self.outbox.answered() {
            Some(Expected::Published { messages, .. }) if data == OK => self.acknowledged += messages,
            Some(Expected::Subscribed) if data == OK => {}
            Some(Expected::Subscribed) if self.is_extended => {
                let created: Created = serde_json::from_slice(data)
                    .map_err(|error| Error::Protocol(format!("SUBSCRIBE's answer: {error}")))?;
                self.created = Some(created.created);
            }
            Some(Expected::Closed) if data == CLOSE_WAIT => {}
            Some(Expected::Confirmed) if data == OK => self.confirmed = Some(Ok(())),
            Some(Expected::Peeked) => self.peeked = Some(Peeked::decode(&frames.slice(range))),
            _ => return Err(unexpected(&format!("the response {}", data.escape_ascii()))),
        }
        Ok(())
    }

    fn take_error(&mut self, data: &[u8]) -> Result<(), Error> {
        let error = Error::server(data);
        let Error::Server { code, .. } = &error else {
            return Err(error);
        };
        match code.as_str() {
            "E_FIN_FAILED" | "E_REQ_FAILED" | "E_TOUCH_FAILED" => {
                tracing::warn!(%error, "an acknowledgement came too late");
                if self.late.len() == LATE_MAX {
                    self.late.pop_front();
                }
                self.late.push_back(error);
                Ok(())
            }
            "E_PEEK_FAILED" if self.outbox.answered() == Some(Expected::Peeked) => {
                self.peeked = Some(Err(error));
                Ok(())
            }
            "E_CONFIRM_FAILED" if self.outbox.answered() == Some(Expected::Confirmed) => {
                self.confirmed = Some(Err(error));
                Ok(())
            }
            _ => Err(error),
        }
    }
}

/// The answer to SUBSCRIBE.
#[derive(serde::Deserialize)]
struct Created {
    created: bool,
}

/// Switches the extension on.
async fn upgrade(
    transport: &mut Transport,
    input: &mut BytesMut,
    offer: &extension::Offer,
) -> Result<(), Error> {
    transport.write_all(format!("UPGRADE {} {MESSAGES}\n", offer.nonce).as_bytes()).await?;
    transport.flush().await?;
    confirm(transport, input).await
}

/// Waits for the server to say that it switched something on.
async fn confirm(transport: &mut Transport, input: &mut BytesMut) -> Result<(), Error> {
    match read_response(transport, input).await?.as_slice() {
        OK => Ok(()),
        other => Err(unexpected(&format!("the response {}", other.escape_ascii()))),
    }
}

/// Waits for a response.
async fn read_response(transport: &mut Transport, input: &mut BytesMut) -> Result<Vec<u8>, Error> {
    loop {
        if let Some(other) = other_protocol(input) {
            return Err(Error::Protocol(format!("the server speaks {other}")));
        }
        if let Ok((frame, consumed)) = frame::decode(input)? {
            let data = match frame {
                Frame::Response(data) => data.to_vec(),
                Frame::Error(data) => return Err(Error::server(data)),
                Frame::Message(_) => return Err(unexpected("a message")),
            };
            let _ = input.split_to(consumed);
            return Ok(data);
        }
        if transport.read_buf(input).await? == 0 {
            return Err(Error::Closed);
        }
    }
}

/// The protocol that the first bytes of a server's answer belong to, if it is not NSQ's.
fn other_protocol(input: &[u8]) -> Option<&'static str> {
    // HTTP/2 begins with SETTINGS: a length of 3 bytes, the type 4, no flags, stream 0. As a frame of NSQ's
    // it would be kilobytes long and never end.
    const SETTINGS: [u8; 6] = [4, 0, 0, 0, 0, 0];
    if input.starts_with(b"HTTP/") {
        Some("HTTP: is this its HTTP port?")
    } else if input.get(3..9) == Some(&SETTINGS) {
        Some("HTTP/2: is this its gRPC port?")
    } else if input.starts_with(b"\x15\x03") {
        Some("TLS from the first byte on: is this its HTTPS port?")
    } else {
        None
    }
}

fn put_body(out: &mut Vec<u8>, body: &[u8]) {
    out.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(body);
}

fn check_body(body: &[u8]) -> Result<(), Error> {
    if body.is_empty() { Err(Error::Input("a message can't be empty".to_owned())) } else { Ok(()) }
}

fn wire_len(len: usize) -> Result<[u8; 4], Error> {
    let len = u32::try_from(len).map_err(|_| Error::Input(format!("{len} bytes are too many")))?;
    Ok(len.to_be_bytes())
}

fn unexpected(what: &str) -> Error {
    Error::Protocol(format!("{what} came unexpected"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answers_of_other_protocols_are_known() {
        for (input, name) in [
            (&b"HTTP/1.1 400 Bad Request\r\n"[..], "HTTP port"),
            (b"\0\0\x24\x04\0\0\0\0\0\0\x02", "gRPC port"),
            (b"\x15\x03\x03\0\x02\x02\x46", "HTTPS port"),
        ] {
            let other = other_protocol(input);
            assert!(other.is_some_and(|other| other.contains(name)), "{input:?}: {other:?}");
        }
        for input in [&b""[..], b"\0\0\0\x06\0\0\0\0OK", b"\0\0\x01\x20\0\0\0\0{", b"\0\0\0\x04\0\0\0\0"] {
            assert_eq!(other_protocol(input), None, "{input:?}");
        }
    }
}
