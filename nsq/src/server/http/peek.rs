//! GET /peek: reads messages of a topic or a channel and moves nothing. A right of its own.

use std::sync::Arc;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use mq_core::{ChannelName, Delivery, Headers, MessageId, Offset, PendingMessage};
use serde::{Serialize, Serializer};

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

/// The object `{"messages": [...], "next": "..."}`, messages oldest first and `next` the id to go on from,
/// while it is written: a message's body is copied once.
struct Peeked(Vec<u8>);

#[derive(Debug, Serialize)]
struct PeekedMessage<'a> {
    id: String,
    /// Time of its publish, in nanoseconds since 1970.
    timestamp: u64,
    /// Deliveries of it, where they are known.
    attempts: u16,
    body: Base64<'a>,
    headers: Vec<PeekedHeader<'a>>,
    /// The place of the message in its channel: `waiting`, `in_flight` or `deferred`.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
}

#[derive(Debug, Serialize)]
struct PeekedHeader<'a> {
    name: &'a str,
    value: Base64<'a>,
}

/// Bytes, in base64.
#[derive(Debug)]
struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

impl Default for Peeked {
    fn default() -> Self {
        Self(br#"{"messages":["#.to_vec())
    }
}

impl Peeked {
    fn add(&mut self, message: &PeekedMessage<'_>) {
        if self.0.last() != Some(&b'[') {
            self.0.push(b',');
        }
        // A vector takes all that is written to it, and these fields have a form in JSON.
        let _ = serde_json::to_writer(&mut self.0, message);
    }

    fn finish(mut self, next: Offset) -> Vec<u8> {
        self.0.extend_from_slice(format!(r#"],"next":"{}"}}"#, hex(MessageId(next.0))).as_bytes());
        self.0
    }
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
    let turn = request.sole_turn().await;
    let made_in = turn.clone();
    let read = blocking(move || {
        // Given up with the work: who asked may be gone before it is done.
        let _turn = turn;
        let mut answer = Peeked::default();
        let from = from.map_or(Offset(0), |id| MessageId(id).offset());
        let next = match channel {
            Some(channel) => channel.peek(from, max, BYTES_MAX, &mut |message, pending| {
                answer.add(&PeekedMessage { state: Some(state(&pending)), ..peeked(&message) });
            })?,
            None => topic.peek(Some(from), max, BYTES_MAX, &mut |message| answer.add(&peeked(&message)))?,
        };
        Ok(answer.finish(next))
    });
    Ok(Answer::raw_json(read.await.map_err(|error| refused(&error))?).made_in(made_in))
}

/// An id as clients see it.
fn hex(id: MessageId) -> String {
    String::from_utf8_lossy(&id.to_hex()).into_owned()
}

/// The place of a message in its channel.
pub(super) fn state(pending: &PendingMessage) -> &'static str {
    match (pending.due, pending.in_flight) {
        (Some(_), _) => "deferred",
        (None, true) => "in_flight",
        (None, false) => "waiting",
    }
}

fn peeked<'a>(message: &Delivery<'a>) -> PeekedMessage<'a> {
    let header = |(name, value)| PeekedHeader { name, value: Base64(value) };
    PeekedMessage {
        id: hex(message.id),
        timestamp: message.time.0,
        attempts: message.attempts,
        body: Base64(message.body),
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
    let header = PeekedHeader { name: "h", value: Base64(b"") };
    let message = PeekedMessage {
        id: String::new(),
        timestamp: 1,
        attempts: 1,
        body: Base64(b""),
        headers: vec![header],
        state,
    };
    let mut answer = Peeked::default();
    answer.add(&message);
    serde_json::from_slice(&answer.finish(Offset(0))).unwrap()
}
