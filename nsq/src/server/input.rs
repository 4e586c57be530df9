//! From the socket to commands, and each to what executes it.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::BufMut;
use mq_core::{Start, TopicName};
use mq_net::budget::FREE_BYTES;
use mq_net::clients::Identity;
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::time::Instant;

use super::auth::Permission;
use super::authorize::Check;
use super::buffers;
use super::peek::peek;
use super::phase::{End, Phase};
use super::session::Session;
use crate::wire;
use crate::wire::command::Command;
use crate::wire::error::{Code, WireError};
use crate::wire::frame::OK;
use crate::wire::identify::{Request, Settings};
use crate::wire::name::Name;
use crate::wire::{MAGIC, Parse, Parser, Stage};

/// Bytes taken in at once while the end of a line is looked for.
const LINE_BYTES: usize = 256;

/// Bytes read at once of one who sends commands without answers: what some thousand of them take, a tenth of
/// a millisecond's work. Nothing is gained by more at once, and others wait for their turn meanwhile.
const QUIET_BYTES: usize = 16 * 1024;

/// Part of a large command that has to be there before memory for all of it is taken: one in four.
const BELIEVED: usize = 4;

/// Bytes read and not executed. Has a buffer only while there are any.
pub(super) struct Input {
    /// Starts with a command.
    held: Vec<u8>,
    /// Bytes that the command has at least.
    need: usize,
    stage: Stage,
    parser: Parser,
    /// Whether `held` may have whole commands: they wait for answers to be given.
    stalled: bool,
    /// Whether the commands executed last brought about no answer.
    quiet: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            held: Vec::new(),
            need: 0,
            stage: Stage::Line,
            parser: Parser::new(),
            stalled: false,
            quiet: false,
        }
    }

    /// Drops all bytes that were read and not executed.
    pub(super) fn clear(&mut self) {
        self.held = Vec::new();
        self.stalled = false;
    }

    /// Bytes that a large command misses, once enough are there for its length to be believed: they need no
    /// other buffer in between.
    fn missing_much(&self) -> Option<usize> {
        let missing = self.need.saturating_sub(self.held.len());
        let is_believed = self.need <= BELIEVED * self.held.len();
        (is_believed && !self.stalled && missing >= buffers::INPUT_BYTES).then_some(missing)
    }

    /// Bytes that it holds.
    pub(super) fn bytes(&self) -> usize {
        self.held.capacity()
    }

    /// Bytes that the buffer has room for without growing.
    pub(super) fn room(&self) -> usize {
        self.held.capacity() - self.held.len()
    }

    /// Whether it holds part of a large command.
    pub(super) fn is_large(&self) -> bool {
        self.bytes() > FREE_BYTES
    }
}

/// A piece of input that is being executed.
pub(super) struct Burst<'a> {
    buf: &'a [u8],
    /// Start of the next command.
    at: usize,
    /// Start of the last command.
    start: usize,
}

/// The next command of a burst.
pub(super) enum Next<'a> {
    Command(Command<'a>),
    /// The line of an MPUB to this topic, to be allowed before its body is looked at.
    Batch(Name<'a>),
    Error(WireError),
    /// The input holds nothing whole, or nothing that may be executed now.
    End,
}

impl Session {
    /// Reads once, at most `room` bytes, and executes all that is whole. Returns whether there may be more to
    /// read.
    pub(super) fn poll_input(&mut self, room: usize, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        if let Some(missing) = self.input.missing_much() {
            let polled = self.poll_rest(missing.min(room), cx);
            self.count();
            return polled;
        }
        let mut buf = buffers::take_input();
        let room = room.min(if self.input.quiet { QUIET_BYTES } else { buf.len() });
        let mut read = ReadBuf::new(&mut buf[..room]);
        let polled = Pin::new(&mut self.transport).poll_read(cx, &mut read);
        let len = read.filled().len();
        if let Poll::Ready(Ok(())) = polled {
            if len == 0 {
                self.end_of_input()
            } else {
                self.take_in(&buf[..len])
            }
            self.count();
        }
        let full = len == room;
        buffers::give_input(buf);
        polled.map_ok(|()| full)
    }

    /// Reads once, of the rest of a large command, to where it is held.
    fn poll_rest(&mut self, missing: usize, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        buffers::reserve(&mut self.input.held, missing);
        let mut rest = (&mut self.input.held).limit(missing);
        let len = ready!(pin!(self.transport.read_buf(&mut rest)).poll(cx))?;
        if len == 0 {
            self.end_of_input();
        } else if self.input.held.len() >= self.input.need {
            self.execute_held();
        }
        Poll::Ready(Ok(len == missing))
    }

    /// Executes the commands that had to wait. Returns whether there were any.
    pub(super) fn take_in_rest(&mut self) -> bool {
        if !self.input.stalled || !self.may_read() {
            return false;
        }
        self.input.stalled = false;
        self.execute_held();
        self.count();
        true
    }

    fn take_in(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.is_draining() && !self.is_upgrading() {
            if self.input.stalled {
                self.input.held.extend_from_slice(bytes);
                return;
            }
            if self.input.held.is_empty() {
                let used = self.execute_all(bytes);
                self.hold(bytes[used..].to_vec());
                return;
            }
            // Only as much as ends the command, since the rest need not be copied; but a line's end may be
            // anywhere.
            let missing = self.input.need.saturating_sub(self.input.held.len());
            let least = if self.input.stage == Stage::Line { LINE_BYTES } else { 1 };
            let (more, rest) = bytes.split_at(missing.max(least).min(bytes.len()));
            bytes = rest;
            if self.input.held.len() + more.len() <= FREE_BYTES {
                // No more than is free, where that is all there is.
                self.input.held.reserve_exact(more.len());
            }
            self.input.held.extend_from_slice(more);
            if self.input.held.len() >= self.input.need {
                self.execute_held();
            }
        }
    }

    fn execute_held(&mut self) {
        let mut held = std::mem::take(&mut self.input.held);
        let used = self.execute_all(&held);
        held.drain(..used);
        self.hold(held);
    }

    /// Keeps bytes whose command can't be executed yet.
    fn hold(&mut self, rest: Vec<u8>) {
        if rest.is_empty() || self.is_draining() {
            buffers::give(rest);
        } else {
            self.input.held = rest;
        }
    }

    pub(super) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining(..))
    }

    fn is_upgrading(&self) -> bool {
        matches!(self.phase, Phase::Upgrading(_))
    }

    fn end_of_input(&mut self) {
        match self.input.stage.at_end().filter(|_| !self.input.held.is_empty()) {
            Some(error) => self.fail(error),
            None => self.drain(End::Eof),
        }
    }

    /// Executes the commands at the front of `buf`, which starts with one. Returns how many bytes they had.
    fn execute_all(&mut self, buf: &[u8]) -> usize {
        let mut burst = Burst { buf, at: 0, start: 0 };
        if self.phase == Phase::Magic && !self.check_magic(&mut burst) {
            return 0;
        }
        let mut next = self.next(&mut burst);
        loop {
            match self.check(&next) {
                Check::Allowed => {}
                Check::Refused(error) => {
                    self.fail(error);
                    break;
                }
                Check::Wait => {
                    self.put_off(&mut burst);
                    break;
                }
                Check::Skip => {
                    next = self.next(&mut burst);
                    continue;
                }
            }
            next = match next {
                Next::End => break,
                Next::Error(error) => {
                    self.fail(error);
                    break;
                }
                Next::Batch(_) => {
                    self.authorization.batch_allowed = true;
                    self.next(&mut burst)
                }
                Next::Command(command) => match command {
                    Command::Publish(topic, _) => {
                        let refusal = (Code::PubFailed, "PUB");
                        self.publish_run(topic, refusal, Next::Command(command), &mut burst)
                    }
                    Command::PublishDeferred(topic, ..) => {
                        let refusal = (Code::DpubFailed, "DPUB");
                        self.publish_run(topic, refusal, Next::Command(command), &mut burst)
                    }
                    Command::PublishMany(topic, bodies) => {
                        if self.publish_many(topic, bodies, &mut burst) {
                            break;
                        }
                        self.next(&mut burst)
                    }
                    _ if command.is_acknowledgement() => {
                        self.acknowledge_run(Next::Command(command), &mut burst)
                    }
                    Command::Identify(body) => {
                        self.identify(body);
                        self.next(&mut burst)
                    }
                    Command::Auth(secret) => {
                        self.authenticate(secret.expose());
                        self.input.stalled = true;
                        break;
                    }
                    Command::Subscribe(topic, channel) => {
                        self.subscribe("SUB", topic, channel, Start::Now, |_| OK);
                        self.next(&mut burst)
                    }
                    Command::Close => {
                        self.close();
                        self.next(&mut burst)
                    }
                    Command::Nop => self.next(&mut burst),
                    Command::Peek(topic, from, max) => {
                        self.peek(topic, from, max);
                        self.next(&mut burst)
                    }
                    _ => {
                        if self.execute_extension(command, &mut burst) {
                            break;
                        }
                        self.next(&mut burst)
                    }
                },
            };
        }
        if burst.at > 0 {
            self.last_command = Instant::now();
            self.input.quiet = self.replies.is_empty();
        }
        burst.at
    }

    /// Leaves the last command of `burst` to be executed when commands are taken in again.
    pub(super) fn put_off(&mut self, burst: &mut Burst<'_>) {
        burst.at = burst.start;
        self.input.stalled = true;
    }

    /// Whether what comes next may be executed. Of publishes that follow each other, the first answers for
    /// those to the same topic.
    fn check(&mut self, next: &Next<'_>) -> Check {
        let (command, permission, topic, channel) = match next {
            Next::Command(Command::Publish(topic, _)) => ("PUB", Permission::Publish, topic, ""),
            Next::Command(Command::PublishDeferred(topic, ..)) => ("DPUB", Permission::Publish, topic, ""),
            Next::Batch(topic) => ("MPUB", Permission::Publish, topic, ""),
            Next::Command(Command::Subscribe(topic, channel)) => {
                ("SUB", Permission::Subscribe, topic, channel.as_str())
            }
            Next::Command(Command::SubscribeAt(topic, channel, ..)) => {
                ("SUBSCRIBE", Permission::Subscribe, topic, channel.as_str())
            }
            Next::Command(Command::PublishRecords(topic, _, records)) => {
                return self.may_publish_records(*topic, records.left());
            }
            Next::Command(Command::Peek(topic, ..)) => ("PEEK", Permission::Subscribe, topic, ""),
            _ => return Check::Allowed,
        };
        self.authorize(command, permission, topic.as_str(), channel)
    }

    /// Whether the magic is there and right.
    fn check_magic(&mut self, burst: &mut Burst<'_>) -> bool {
        match burst.buf.first_chunk::<4>() {
            Some(&MAGIC) => {
                burst.at = MAGIC.len();
                self.phase = Phase::Open;
                true
            }
            Some(_) => {
                self.fail(WireError::new(Code::BadProtocol, ""));
                false
            }
            None => {
                self.input.need = MAGIC.len();
                false
            }
        }
    }

    /// Parses the next command. Touches no lock: a run of acknowledgements holds its channel's.
    pub(super) fn next<'a>(&mut self, burst: &mut Burst<'a>) -> Next<'a> {
        if self.is_upgrading() {
            // What came before TLS must not be taken for what came inside; nsqd drops it too.
            burst.at = burst.buf.len();
        }
        if self.is_draining() || burst.at == burst.buf.len() {
            self.input.need = 1;
            self.input.stage = Stage::Line;
            return Next::End;
        }
        if self.replies.is_full() {
            self.input.stalled = true;
            return Next::End;
        }
        let context = wire::Context {
            limits: &self.shared.limits,
            state: self.state,
            heartbeats: self.settings.heartbeat_interval.is_some(),
            tls_required: self.shared.tls_required && self.client.tls().is_none(),
            check_batches: self.shared.auth.is_some() && !self.authorization.batch_allowed,
            extended: self.extension.is_on,
        };
        burst.start = burst.at;
        match self.input.parser.parse(&burst.buf[burst.at..], &context) {
            Parse::Command(command, consumed) => {
                burst.at += consumed;
                self.authorization.batch_allowed = false;
                Next::Command(command)
            }
            Parse::Batch(topic) => Next::Batch(topic),
            Parse::Error(error) => Next::Error(error),
            Parse::Incomplete { need, stage } => {
                self.input.need = need;
                self.input.stage = stage;
                Next::End
            }
            Parse::LineTooLong => {
                self.drain(End::LineTooLong);
                Next::End
            }
        }
    }

    fn identify(&mut self, body: &[u8]) {
        let request = match Request::parse(body) {
            Ok(request) => request,
            Err(error) => return self.fail(error),
        };
        if let Err(error) = self.settings.apply(&request, &self.shared.bounds) {
            return self.fail(error);
        }
        let negotiated = request.feature_negotiation.then(|| self.negotiate(&request));
        self.client.identify(identity(request, &self.settings));
        self.log_identity();
        self.start_timer(Instant::now());
        let (reply, upgrade) = match negotiated {
            None => return self.replies.response(OK),
            Some(Ok(negotiated)) => negotiated,
            Some(Err(error)) => return self.fail(error),
        };
        match serde_json::to_vec(&reply) {
            Ok(json) => {
                self.replies.response(json);
                if let Some(upgrade) = upgrade {
                    self.phase = Phase::Upgrading(upgrade);
                }
            }
            Err(error) => {
                let text = format!("IDENTIFY failed {error}");
                self.fail(WireError::new(Code::IdentifyFailed, text));
            }
        }
    }

    fn log_identity(&self) {
        let identity = self.client.identity();
        tracing::debug!(
            client = self.client.id,
            client_id = identity.client_id,
            hostname = identity.hostname,
            user_agent = identity.user_agent,
            settings = ?self.settings,
            "IDENTIFY"
        );
    }

    /// Reads off the async workers, after what came before it.
    fn peek(&mut self, topic: Name<'_>, from: Option<u64>, max: u16) {
        match TopicName::parse(topic.as_str()) {
            Ok(topic) => {
                let broker = self.shared.broker.clone();
                let budget = self.shared.config.budget.clone();
                let extended = self.extension.is_on;
                let work = move || peek(&broker, &topic, from, max.into(), extended);
                self.replies.later_and_large(budget, work);
            }
            Err(error) => self.fail(WireError::refused(Code::PeekFailed, "PEEK", &error)),
        }
    }
}

/// The part of an IDENTIFY that statistics show, whatever the protocol.
fn identity(request: Request, settings: &Settings) -> Identity {
    Identity {
        client_id: request.client_id,
        hostname: request.hostname,
        user_agent: request.user_agent,
        topology_region: request.topology_region,
        topology_zone: request.topology_zone,
        sample_rate: settings.sample_rate,
    }
}
