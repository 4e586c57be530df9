//! GET /peek: reads messages of a topic or a channel and moves nothing. A right of its own.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mq_core::{ChannelName, Delivery, Headers, Held, MessageId, Offset};
use serde::Serialize;

use super::Endpoints;
use super::admin::blocking;
use super::names::{bad_request, existing_channel, existing_topic};
use super::refused::refused;
use mq_net::http::{Answer, Query, Request, StatusCode};

/// Messages in an answer, unless the request says how many.
const MESSAGES: usize = 20;
/// Most messages in an answer.
const MESSAGES_MAX: usize = 1000;
/// Bytes of bodies in an answer, but for a single message.
const BYTES_MAX: usize = 1024 * 1024;

/// Messages, oldest first.
#[derive(Debug, Serialize)]
struct Peeked {
    messages: Vec<PeekedMessage>,
    /// The id to go on from.
    next: String,
}

#[derive(Debug, Serialize)]
struct PeekedMessage {
    id: String,
    /// Time of its publish, in nanoseconds since 1970.
    timestamp: u64,
    /// Deliveries of it, where they are known.
    attempts: u16,
    /// In base64.
    body: String,
    headers: Vec<PeekedHeader>,
    /// The place of the message in its channel: `waiting`, `in_flight` or `deferred`.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct PeekedHeader {
    name: String,
    /// In base64.
    value: String,
}

/// GET /peek
pub(super) async fn peek(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let query = request.query()?;
    let topic = existing_topic(&api.broker, &query)?;
    let caller = api.caller(&request);
    caller.peek(topic.name())?;
    let channel = query.get_some("channel").map(|name| {
        let name = ChannelName::parse(name).map_err(|_| bad_request("INVALID_ARG_CHANNEL"))?;
        existing_channel(&topic, &name)
    });
    let channel = channel.transpose()?;
    let (from, max) = (from(&query)?, max(&query)?);
    let name = topic.name().to_string();
    tracing::info!(
        topic = name,
        by = caller.name().unwrap_or("anyone"),
        peer = request.peer().address,
        "messages peeked at"
    );
    let _turn = request.turn().await;
    let read = blocking(move || {
        let mut messages = Vec::new();
        let from = from.map_or(Offset(0), |id| MessageId(id).offset());
        let next = match channel {
            Some(channel) => channel.peek(from, max, BYTES_MAX, &mut |message, held| {
                messages.push(PeekedMessage { state: Some(state(&held)), ..peeked(&message) });
            })?,
            None => topic.peek(Some(from), max, BYTES_MAX, &mut |message| messages.push(peeked(&message)))?,
        };
        Ok(Peeked { messages, next: hex(MessageId(next.0)) })
    });
    Ok(Answer::json(&read.await.map_err(|error| refused(&error))?))
}

/// An id as clients see it.
fn hex(id: MessageId) -> String {
    String::from_utf8_lossy(&id.to_hex()).into_owned()
}

fn state(held: &Held) -> &'static str {
    match (held.due, held.in_flight) {
        (Some(_), _) => "deferred",
        (None, true) => "in_flight",
        (None, false) => "waiting",
    }
}

fn peeked(message: &Delivery<'_>) -> PeekedMessage {
    let header =
        |(name, value): (&str, &[u8])| PeekedHeader { name: name.to_owned(), value: STANDARD.encode(value) };
    PeekedMessage {
        id: hex(message.id),
        timestamp: message.time,
        attempts: message.attempts,
        body: STANDARD.encode(message.body),
        headers: Headers::new(message.attributes.headers).map(header).collect(),
        state: None,
    }
}

fn invalid(code: &str, detail: &str) -> Answer {
    Answer::error_with(StatusCode::BAD_REQUEST, code, detail)
}

fn from(query: &Query) -> Result<Option<u64>, Answer> {
    let parse = |text: &str| {
        let id =
            Some(text).filter(|text| text.len() == 16).and_then(|text| u64::from_str_radix(text, 16).ok());
        id.ok_or_else(|| invalid("INVALID_FROM", &format!("from {text:?} is no id: 16 hexadecimal digits")))
    };
    query.get_some("from").map(parse).transpose()
}

fn max(query: &Query) -> Result<usize, Answer> {
    let parse = |text: &str| {
        let max = text.parse().ok().filter(|max| (1..=MESSAGES_MAX).contains(max));
        max.ok_or_else(|| {
            invalid("INVALID_MAX", &format!("max {text:?} is no number from 1 to {MESSAGES_MAX}"))
        })
    };
    Ok(query.get_some("max").map(parse).transpose()?.unwrap_or(MESSAGES))
}

/// A sample for the test of the API's description.
#[cfg(test)]
pub(super) fn sample(state: Option<&'static str>) -> serde_json::Value {
    let header = PeekedHeader { name: "h".to_owned(), value: String::new() };
    let message = PeekedMessage {
        id: String::new(),
        timestamp: 1,
        attempts: 1,
        body: String::new(),
        headers: vec![header],
        state,
    };
    serde_json::to_value(Peeked { messages: vec![message], next: String::new() }).unwrap()
}
