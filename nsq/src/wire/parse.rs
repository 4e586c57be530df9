//! The incremental parser of commands: the order of its checks is nsqd's.

use std::time::Duration;

use mq_core::MessageId;

use super::command::{Command, Context, LINE_BYTES_MAX, PEEK_MAX, State, Together};
use super::error::{Code, WireError};
use super::extension::{EACH_MAX, Records, TOKEN_BYTES, TOKENS_MAX, parse_start};
use super::mpub::Bodies;
use super::name::Name;
use super::tokens::Tokens;
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

/// The part of an incomplete command that is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// In the line, or before it.
    Line,
    /// The length of the body of the command `.0`.
    Size(&'static str),
    /// In the body of the command `.0`.
    Body(&'static str),
    /// The number of bodies of an MPUB.
    Count,
    /// The length of the body numbered `.0` of an MPUB.
    ItemSize(u32),
    /// In a body of an MPUB.
    ItemBody,
}

impl Stage {
    /// The error if the client stopped sending here. `None` between commands, or in a line.
    pub fn at_end(self) -> Option<WireError> {
        let (code, text) = match self {
            Self::Line => return None,
            Self::Size(command @ ("IDENTIFY" | "AUTH")) => {
                (Code::BadBody, format!("{command} failed to read body size"))
            }
            Self::Body(command @ ("IDENTIFY" | "AUTH")) => {
                (Code::BadBody, format!("{command} failed to read body"))
            }
            Self::Size("MPUB") => (Code::BadBody, "MPUB failed to read body size".to_owned()),
            Self::Size(command) => (Code::BadMessage, format!("{command} failed to read message body size")),
            Self::Body(command) => (Code::BadMessage, format!("{command} failed to read message body")),
            Self::Count => (Code::BadBody, "MPUB failed to read message count".to_owned()),
            Self::ItemSize(i) => (Code::BadMessage, format!("MPUB failed to read message({i}) body size")),
            Self::ItemBody => (Code::BadMessage, "MPUB failed to read message body".to_owned()),
        };
        Some(WireError::new(code, text))
    }
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

    fn step<'a>(&mut self, buf: &'a [u8], context: &Context<'_>) -> Result<(Command<'a>, usize), Stop<'a>> {
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
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut words = Words(Some(line));
        let word = words.next().unwrap_or_default();
        let body = Body { buf, at: end + 1 };
        if context.tls_required && word != b"IDENTIFY" {
            let text = [b"cannot ".as_slice(), word, b" in current state (TLS required)"].concat();
            return Err(WireError::new(Code::Invalid, text).into());
        }
        let done = end + 1;
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

/// Reason why there is no command.
enum Stop<'a> {
    Check(Name<'a>),
    Incomplete { need: usize, stage: Stage },
    Error(WireError),
    LineTooLong,
}

impl Stop<'_> {
    /// The same, with `more` bytes certain to follow.
    fn and(self, more: usize) -> Self {
        match self {
            Self::Incomplete { need, stage } => Self::Incomplete { need: need + more, stage },
            stop => stop,
        }
    }
}

impl From<WireError> for Stop<'_> {
    fn from(error: WireError) -> Self {
        Self::Error(error)
    }
}

/// A line's words: split at single spaces, so two spaces hold an empty one between them.
struct Words<'a>(Option<&'a [u8]>);

impl<'a> Words<'a> {
    /// All words that are left.
    fn rest(self) -> &'a [u8] {
        self.0.unwrap_or_default()
    }
}

impl<'a> Iterator for Words<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let line = self.0?;
        match line.iter().position(|&b| b == b' ') {
            Some(space) => {
                self.0 = Some(&line[space + 1..]);
                Some(&line[..space])
            }
            None => {
                self.0 = None;
                Some(line)
            }
        }
    }
}

/// The body that follows a line.
#[derive(Clone, Copy)]
struct Body<'a> {
    buf: &'a [u8],
    at: usize,
}

impl<'a> Body<'a> {
    /// The length that stands `skip` bytes on: signed, as nsqd reads it.
    fn length(&self, skip: usize, stage: Stage) -> Result<i32, Stop<'a>> {
        let at = self.at + skip;
        match self.buf.get(at..).and_then(|rest| rest.first_chunk::<4>()) {
            Some(bytes) => Ok(i32::from_be_bytes(*bytes)),
            None => Err(Stop::Incomplete { need: at + 4, stage }),
        }
    }

    /// `length` bytes behind the length, and where they end.
    fn take(&self, length: i32, stage: Stage) -> Result<(&'a [u8], usize), Stop<'a>> {
        let start = self.at + 4;
        let end = start + usize_of(length.unsigned_abs());
        match self.buf.get(start..end) {
            Some(bytes) => Ok((bytes, end)),
            None => Err(Stop::Incomplete { need: end, stage }),
        }
    }

    /// The body of an IDENTIFY or AUTH.
    fn bounded(&self, command: &'static str, max: u32) -> Result<(&'a [u8], usize), Stop<'a>> {
        let length = self.length(0, Stage::Size(command))?;
        if i64::from(length) > i64::from(max) {
            return Err(too_big(Code::BadBody, &format!("{command} body"), i64::from(length), max).into());
        }
        if length <= 0 {
            let text = format!("{command} invalid body size {length}");
            return Err(WireError::new(Code::BadBody, text).into());
        }
        self.take(length, Stage::Body(command))
    }

    /// The body of a PUB or DPUB.
    fn message(&self, command: &'static str, max: u32) -> Result<(&'a [u8], usize), Stop<'a>> {
        let length = self.length(0, Stage::Size(command))?;
        if length <= 0 {
            let text = format!("{command} invalid message body size {length}");
            return Err(WireError::new(Code::BadMessage, text).into());
        }
        if i64::from(length) > i64::from(max) {
            let what = format!("{command} message");
            return Err(too_big(Code::BadMessage, &what, i64::from(length), max).into());
        }
        self.take(length, Stage::Body(command))
    }
}

fn publish<'a>(
    context: &Context<'_>,
    mut words: Words<'a>,
    body: Body<'a>,
) -> Result<(Command<'a>, usize), Stop<'a>> {
    let topic = topic_of("PUB", words.next())?;
    let (message, done) = body.message("PUB", context.limits.max_msg_size)?;
    Ok((Command::Publish(topic, message), done))
}

fn publish_deferred<'a>(
    context: &Context<'_>,
    mut words: Words<'a>,
    body: Body<'a>,
) -> Result<(Command<'a>, usize), Stop<'a>> {
    let (Some(topic), Some(delay)) = (words.next(), words.next()) else {
        return Err(invalid("DPUB insufficient number of parameters").into());
    };
    let topic = topic_of("DPUB", Some(topic))?;
    let Some(ms) = number(delay) else {
        return Err(WireError::echo(Code::Invalid, "DPUB could not parse timeout ", delay).into());
    };
    let max = context.limits.max_req_timeout;
    let delay = Duration::from_millis(ms);
    if delay > max {
        let text = format!("DPUB timeout {ms} out of range 0-{}", max.as_millis());
        return Err(invalid(text).into());
    }
    let (message, done) = body.message("DPUB", context.limits.max_msg_size)?;
    Ok((Command::PublishDeferred(topic, delay, message), done))
}

fn subscribe<'a>(context: &Context<'_>, words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
    let (topic, channel) = subscribed(context, "SUB", words)?;
    Ok(Command::Subscribe(topic, channel))
}

fn subscribe_at<'a>(context: &Context<'_>, words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
    let (topic, channel) = subscribed(context, "SUBSCRIBE", words)?;
    let start = words.next().unwrap_or_default();
    let Some(start) = parse_start(start) else {
        return Err(WireError::echo(Code::Invalid, "SUBSCRIBE could not parse start ", start).into());
    };
    let bytes_max = match words.next() {
        None => None,
        Some(word) => Some(number(word).and_then(|bytes| u32::try_from(bytes).ok()).ok_or_else(|| {
            WireError::echo(Code::Invalid, "SUBSCRIBE could not parse max message bytes ", word)
        })?),
    };
    Ok(Command::SubscribeAt(topic, channel, start, bytes_max))
}

/// Topic and channel of a subscription.
fn subscribed<'a>(
    context: &Context<'_>,
    command: &'static str,
    words: &mut Words<'a>,
) -> Result<(Name<'a>, Name<'a>), Stop<'a>> {
    in_state(context.state == State::Init, command)?;
    if !context.heartbeats {
        return Err(invalid(format!("cannot {command} with heartbeats disabled")).into());
    }
    let (Some(topic), Some(channel)) = (words.next(), words.next()) else {
        return Err(invalid(format!("{command} insufficient number of parameters")).into());
    };
    let topic = topic_of(command, Some(topic))?;
    let channel = Name::parse(channel)
        .ok_or_else(|| WireError::bad_name(Code::BadChannel, command, "channel", channel))?;
    Ok((topic, channel))
}

fn publish_records<'a>(
    context: &Context<'_>,
    mut words: Words<'a>,
    body: Body<'a>,
) -> Result<(Command<'a>, usize), Stop<'a>> {
    let topic = topic_of("PUBLISH", words.next())?;
    let together = match words.next() {
        Some(b"all") => Together::All,
        Some(b"each") => Together::Each,
        other => {
            let other = other.unwrap_or_default();
            return Err(WireError::echo(Code::Invalid, "PUBLISH is of all or each, not ", other).into());
        }
    };
    let (bytes, done) = body.bounded("PUBLISH", context.limits.max_body_size)?;
    let records = Records::decode(bytes)
        .map_err(|error| WireError::new(Code::BadMessage, format!("PUBLISH malformed: {error}")))?;
    if together == Together::Each && records.left() > EACH_MAX {
        let text = format!("PUBLISH of each takes at most {EACH_MAX} messages, not {}", records.left());
        return Err(WireError::new(Code::BadBody, text).into());
    }
    Ok((Command::PublishRecords(topic, together, records), done))
}

fn requeue_deliveries<'a>(
    context: &Context<'_>,
    mut words: Words<'a>,
    body: Body<'a>,
) -> Result<(Command<'a>, usize), Stop<'a>> {
    let (tokens, done) = tokens(context, "REQUEUE", &mut words, body)?;
    let delay = words.next().unwrap_or_default();
    let Some(ms) = saturating_number(delay) else {
        return Err(WireError::echo(Code::Invalid, "REQUEUE could not parse timeout ", delay).into());
    };
    Ok((Command::RequeueDeliveries(tokens, Duration::from_millis(ms)), done))
}

/// The tokens of an acknowledgement, and where they end.
fn tokens<'a>(
    context: &Context<'_>,
    command: &'static str,
    words: &mut Words<'a>,
    body: Body<'a>,
) -> Result<(Tokens<'a>, usize), Stop<'a>> {
    in_state(context.state != State::Init, command)?;
    let count = words.next().and_then(saturating_number).filter(|count| (1..=TOKENS_MAX).contains(count));
    let Some(count) = count else {
        return Err(invalid(format!("{command} takes 1 to {TOKENS_MAX} deliveries")).into());
    };
    let end = body.at + usize::try_from(count).unwrap_or(usize::MAX) * TOKEN_BYTES;
    match body.buf.get(body.at..end) {
        Some(bytes) => Ok((Tokens::new(bytes), end)),
        None => Err(Stop::Incomplete { need: end, stage: Stage::Body(command) }),
    }
}

fn ready<'a>(context: &Context<'_>, words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
    if context.state == State::Closing {
        // Whatever it says: a closing connection is sent nothing more.
        return Ok(Command::Nop);
    }
    in_state(context.state == State::Subscribed, "RDY")?;
    let Some(word) = words.next() else {
        return Ok(Command::Ready(1));
    };
    let Some(count) = number(word) else {
        return Err(WireError::echo(Code::Invalid, "RDY could not parse count ", word).into());
    };
    let max = context.limits.max_rdy_count;
    match u32::try_from(count) {
        Ok(count) if count <= max => Ok(Command::Ready(count)),
        // nsqd counts in signed numbers.
        _ => Err(invalid(format!("RDY count {} out of range 0-{max}", count.cast_signed())).into()),
    }
}

fn requeue<'a>(context: &Context<'_>, words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
    in_state(context.state != State::Init, "REQ")?;
    let (Some(id), Some(delay)) = (words.next(), words.next()) else {
        return Err(invalid("REQ insufficient number of params").into());
    };
    let id = message_id(id)?;
    let Some(ms) = number(delay) else {
        return Err(WireError::echo(Code::Invalid, "REQ could not parse timeout ", delay).into());
    };
    Ok(Command::Requeue(id, Duration::from_millis(ms)))
}

/// The id of a FIN or TOUCH.
fn acknowledged<'a>(
    context: &Context<'_>,
    command: &'static str,
    words: &mut Words<'a>,
) -> Result<&'a [u8; 16], Stop<'a>> {
    in_state(context.state != State::Init, command)?;
    let id = words.next().ok_or_else(|| invalid(format!("{command} insufficient number of params")))?;
    message_id(id)
}

fn peek<'a>(words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
    let (Some(topic), Some(from), Some(max)) = (words.next(), words.next(), words.next()) else {
        return Err(invalid("PEEK insufficient number of parameters").into());
    };
    let topic = topic_of("PEEK", Some(topic))?;
    let from = match from {
        b"0" => None,
        id => Some(MessageId::from_hex(id).ok_or_else(|| invalid("invalid message ID"))?.0),
    };
    let max = match number(max) {
        Some(n) if (1..=PEEK_MAX).contains(&n) => n,
        Some(n) => return Err(invalid(format!("PEEK count {n} out of range 1-{PEEK_MAX}")).into()),
        None => return Err(WireError::echo(Code::Invalid, "PEEK could not parse count ", max).into()),
    };
    Ok(Command::Peek(topic, from, u16::try_from(max).unwrap_or(u16::MAX)))
}

fn topic_of<'a>(command: &'static str, word: Option<&'a [u8]>) -> Result<Name<'a>, Stop<'a>> {
    let Some(word) = word else {
        return Err(invalid(format!("{command} insufficient number of parameters")).into());
    };
    Name::parse(word).ok_or_else(|| WireError::bad_name(Code::BadTopic, command, "topic", word).into())
}

fn message_id(word: &[u8]) -> Result<&[u8; 16], Stop<'_>> {
    word.try_into().map_err(|_| invalid("invalid message ID").into())
}

fn in_state(fits: bool, command: &str) -> Result<(), Stop<'static>> {
    if fits { Ok(()) } else { Err(invalid(format!("cannot {command} in current state")).into()) }
}

/// Digits only; none are 0; too many wrap around.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0u64, |n, digit| {
        let value = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(n.wrapping_mul(10).wrapping_add(value))
    })
}

/// Digits only, at least one; too many are the largest number.
fn saturating_number(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let add = |n: u64, digit: &u8| n.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    is_number.then(|| digits.iter().fold(0, add))
}

fn too_big(code: Code, what: &str, size: i64, max: u32) -> WireError {
    WireError::new(code, format!("{what} too big {size} > {max}"))
}

fn invalid(text: impl Into<Vec<u8>>) -> WireError {
    WireError::new(Code::Invalid, text)
}

/// Lossless: no target of this crate has pointers under 32 bits.
fn usize_of(n: u32) -> usize {
    n as usize
}
