//! The words and bodies of each command, checked in nsqd's order.

use std::time::Duration;

use mq_core::MessageId;

use super::body::Body;
use super::command::{Command, Context, PEEK_MAX, State, Together};
use super::error::{Code, WireError};
use super::extension::{EACH_MAX, Records, TOKEN_BYTES, TOKENS_MAX, parse_start};
use super::name::Name;
use super::stop::{Stage, Stop, invalid};
use super::tokens::Tokens;
use super::words::{Words, message_id, number, saturating_number, topic_of};

pub(super) fn publish<'a>(
    context: &Context<'_>,
    mut words: Words<'a>,
    body: Body<'a>,
) -> Result<(Command<'a>, usize), Stop<'a>> {
    let topic = topic_of("PUB", words.next())?;
    let (message, done) = body.message("PUB", context.limits.max_msg_size)?;
    Ok((Command::Publish(topic, message), done))
}

pub(super) fn publish_deferred<'a>(
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

pub(super) fn subscribe<'a>(context: &Context<'_>, words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
    let (topic, channel) = subscribed(context, "SUB", words)?;
    Ok(Command::Subscribe(topic, channel))
}

pub(super) fn subscribe_at<'a>(
    context: &Context<'_>,
    words: &mut Words<'a>,
) -> Result<Command<'a>, Stop<'a>> {
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
pub(super) fn subscribed<'a>(
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

pub(super) fn publish_records<'a>(
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

pub(super) fn requeue_deliveries<'a>(
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

pub(super) fn byte_credit<'a>(context: &Context<'_>, words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
    in_state(context.state != State::Init, "CREDIT")?;
    let word = words.next().unwrap_or_default();
    match saturating_number(word) {
        Some(bytes) => Ok(Command::ByteCredit(bytes)),
        None => Err(WireError::echo(Code::Invalid, "CREDIT could not parse bytes ", word).into()),
    }
}

/// The tokens of an acknowledgement, and where they end.
pub(super) fn tokens<'a>(
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

pub(super) fn ready<'a>(context: &Context<'_>, words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
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

pub(super) fn requeue<'a>(context: &Context<'_>, words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
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
pub(super) fn acknowledged<'a>(
    context: &Context<'_>,
    command: &'static str,
    words: &mut Words<'a>,
) -> Result<&'a [u8; 16], Stop<'a>> {
    in_state(context.state != State::Init, command)?;
    let id = words.next().ok_or_else(|| invalid(format!("{command} insufficient number of params")))?;
    message_id(id)
}

pub(super) fn peek<'a>(words: &mut Words<'a>) -> Result<Command<'a>, Stop<'a>> {
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

pub(super) fn in_state(fits: bool, command: &str) -> Result<(), Stop<'static>> {
    if fits { Ok(()) } else { Err(invalid(format!("cannot {command} in current state")).into()) }
}
