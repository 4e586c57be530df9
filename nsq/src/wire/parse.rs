//! The incremental parser of commands: the order of its checks is nsqd's.

use super::arguments::{
    acknowledged, byte_credit, in_state, peek, publish, publish_deferred, publish_records, ready, requeue,
    requeue_deliveries, subscribe, subscribe_at, tokens,
};
use super::body::{Body, usize_of};
use super::command::{Command, Context, LINE_BYTES_MAX, State};
use super::error::{Code, WireError};
use super::mpub::Bodies;
use super::name::Name;
use super::stop::{Stage, Stop, invalid, too_big};
use super::words::{Words, topic_of};
use mq_net::secret::Secret;

/// The command or error at the front of a buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Parse<'a> {
    /// The start of a command, and nothing wrong with it so far.
    Incomplete {
        /// Bytes from the command's start that it has at least; always more than there are.
        need: usize,
        /// The part of the command that is still to come.
        stage: Stage,
    },
    /// A command, and how many bytes it took.
    Command(Command<'a>, usize),
    /// The line of an MPUB to this topic. Goes on once the context says that it was checked.
    Batch(Name<'a>),
    /// The fault of a command, maybe found before all of it arrived. The end of its line is lost with a fatal
    /// error, and all of the parser's are.
    Error(WireError),
    /// A line over the limit: nsqd closes such a connection without a word.
    LineTooLong,
}

/// Parses one command after the other. Remembers how far it came in one that was incomplete, so that a
/// command that arrives in many pieces costs no more than one that arrives whole: between an `Incomplete` and
/// the next call, the buffer may only grow at its end.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bytes of the line known to hold no end.
    scanned: usize,
    /// Progress in an MPUB: place in the buffer, number of the body there.
    walked: Option<(usize, u32)>,
}

impl Parser {
    /// A parser at the start of a command.
    pub fn new() -> Self {
        Self::default()
    }

    /// Parses the command at the front of `buf`.
    pub fn parse<'a>(&mut self, buf: &'a [u8], context: &Context<'_>) -> Parse<'a> {
        match self.step(buf, context) {
            Ok((command, consumed)) => {
                *self = Self::default();
                Parse::Command(command, consumed)
            }
            Err(Stop::Check(topic)) => Parse::Batch(topic),
            Err(Stop::Incomplete { need, stage }) => Parse::Incomplete { need, stage },
            Err(Stop::Error(error)) => Parse::Error(error),
            Err(Stop::LineTooLong) => Parse::LineTooLong,
        }
    }

    /// The line at the front of `buf`, without its end, and the byte behind it.
    fn line<'a>(&mut self, buf: &'a [u8]) -> Result<(&'a [u8], usize), Stop<'a>> {
        let window = &buf[..buf.len().min(LINE_BYTES_MAX)];
        let Some(end) = window[self.scanned.min(window.len())..].iter().position(|&b| b == b'\n') else {
            if window.len() == LINE_BYTES_MAX {
                return Err(Stop::LineTooLong);
            }
            self.scanned = window.len();
            return Err(Stop::Incomplete { need: buf.len() + 1, stage: Stage::Line });
        };
        let end = self.scanned + end;
        // The end stays where it is: found again at once by the next call.
        self.scanned = end;
        let line = &buf[..end];
        Ok((line.strip_suffix(b"\r").unwrap_or(line), end + 1))
    }

    fn step<'a>(&mut self, buf: &'a [u8], context: &Context<'_>) -> Result<(Command<'a>, usize), Stop<'a>> {
        let (line, done) = self.line(buf)?;
        let mut words = Words(Some(line));
        let word = words.next().unwrap_or_default();
        let body = Body { buf, at: done };
        if context.tls_required && word != b"IDENTIFY" {
            let text = [b"cannot ".as_slice(), word, b" in current state (TLS required)"].concat();
            return Err(WireError::new(Code::Invalid, text).into());
        }
        let command = match word {
            b"FIN" => (Command::Finish(acknowledged(context, "FIN", &mut words)?), done),
            b"RDY" => (ready(context, &mut words)?, done),
            b"PUB" => publish(context, words, body)?,
            b"MPUB" => self.publish_many(context, words, body)?,
            b"NOP" => (Command::Nop, done),
            b"REQ" => (requeue(context, &mut words)?, done),
            b"TOUCH" => (Command::Touch(acknowledged(context, "TOUCH", &mut words)?), done),
            b"DPUB" => publish_deferred(context, words, body)?,
            b"SUB" => (subscribe(context, &mut words)?, done),
            b"CLS" => {
                in_state(context.state == State::Subscribed, "CLS")?;
                (Command::Close, done)
            }
            b"IDENTIFY" => {
                in_state(context.state == State::Init, "IDENTIFY")?;
                let (json, done) = body.bounded("IDENTIFY", context.limits.max_body_size)?;
                (Command::Identify(json), done)
            }
            b"AUTH" => {
                in_state(context.state == State::Init, "AUTH")?;
                if words.next().is_some() {
                    return Err(invalid("AUTH invalid number of parameters").into());
                }
                let (secret, done) = body.bounded("AUTH", context.limits.max_body_size)?;
                (Command::Auth(Secret::new(secret)), done)
            }
            b"PEEK" => (peek(&mut words)?, done),
            b"UPGRADE" => {
                in_state(context.state == State::Init, "UPGRADE")?;
                let nonce = words.next().unwrap_or_default();
                (Command::Upgrade(nonce, words.rest()), done)
            }
            b"PUBLISH" if context.extended => publish_records(context, words, body)?,
            b"SUBSCRIBE" if context.extended => (subscribe_at(context, &mut words)?, done),
            b"FINISH" if context.extended => {
                let (tokens, done) = tokens(context, "FINISH", &mut words, body)?;
                (Command::FinishDeliveries(tokens), done)
            }
            b"REQUEUE" if context.extended => requeue_deliveries(context, words, body)?,
            b"EXTEND" if context.extended => {
                let (tokens, done) = tokens(context, "EXTEND", &mut words, body)?;
                (Command::ExtendDeliveries(tokens), done)
            }
            b"RELEASE" if context.extended => {
                let (tokens, done) = tokens(context, "RELEASE", &mut words, body)?;
                (Command::ReleaseDeliveries(tokens), done)
            }
            b"CREDIT" if context.extended => (byte_credit(context, &mut words)?, done),
            b"CONFIRM" if context.extended => {
                in_state(context.state != State::Init, "CONFIRM")?;
                (Command::Confirm, done)
            }
            _ => return Err(WireError::echo(Code::Invalid, "invalid command ", word).into()),
        };
        Ok(command)
    }

    fn publish_many<'a>(
        &mut self,
        context: &Context<'_>,
        mut words: Words<'a>,
        body: Body<'a>,
    ) -> Result<(Command<'a>, usize), Stop<'a>> {
        let topic = topic_of("MPUB", words.next())?;
        if context.check_batches {
            return Err(Stop::Check(topic));
        }
        let size = body.length(0, Stage::Size("MPUB"))?;
        let max = context.limits.max_body_size;
        if size <= 0 {
            return Err(WireError::new(Code::BadBody, format!("MPUB invalid body size {size}")).into());
        }
        if i64::from(size) > i64::from(max) {
            return Err(too_big(Code::BadBody, "MPUB body", i64::from(size), max).into());
        }
        let count = body.length(4, Stage::Count)?;
        // As many as fit when each has one byte.
        let count_max = max.saturating_sub(4) / 5;
        let n = match u32::try_from(count) {
            Ok(n) if (1..=count_max).contains(&n) => n,
            _ => {
                let text = format!("MPUB invalid message count {count}");
                return Err(WireError::new(Code::BadBody, text).into());
            }
        };

        // From here on only the inner lengths count, as in nsqd; but where nsqd goes on without a bound, the
        // sum of them is held against the body's limit.
        let first = body.at + 8;
        let (mut at, mut index) = self.walked.unwrap_or((first, 0));
        while index < n {
            self.walked = Some((at, index));
            let rest = usize_of(n - index - 1) * 5;
            let item = Body { buf: body.buf, at };
            let length = item.length(0, Stage::ItemSize(index)).map_err(|e| e.and(rest + 1))?;
            if length <= 0 {
                let text = format!("MPUB invalid message({index}) body size {length}");
                return Err(WireError::new(Code::BadMessage, text).into());
            }
            let limit = context.limits.max_msg_size;
            if i64::from(length) > i64::from(limit) {
                return Err(too_big(Code::BadMessage, "MPUB message", i64::from(length), limit).into());
            }
            let next = at + 4 + usize_of(length.unsigned_abs());
            let sum = next - first + 4;
            if sum > usize_of(max) {
                let sum = i64::try_from(sum).unwrap_or(i64::MAX);
                return Err(too_big(Code::BadBody, "MPUB body", sum, max).into());
            }
            if body.buf.len() < next {
                return Err(Stop::Incomplete { need: next + rest, stage: Stage::ItemBody });
            }
            at = next;
            index += 1;
        }
        Ok((Command::PublishMany(topic, Bodies::new(&body.buf[first..at], n)), at))
    }
}
