//! /pub and /mpub: batches to their topics, answered when the log has them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use mq_core::{Attributes, Batch, HeadersBuf, TopicName};

use super::Endpoints;
use super::names::{bad_request, switch, topic};
use super::refused::refused;
use crate::wire::Limits;
use mq_net::http::{Answer, Query, Request, StatusCode};
use mq_net::log_wait::LogWait;

/// The header with a message's id, for [`Attributes::dedup_id`].
pub(super) const MESSAGE_ID: &str = "Mq-Message-Id";
/// Headers that are stored with a message.
pub(super) const ANY_HEADER: &str = "Mq-Header-*";
/// The longest id.
const MESSAGE_ID_BYTES_MAX: usize = 1024;

fn too_large(code: &str) -> Answer {
    Answer::error(StatusCode::PAYLOAD_TOO_LARGE, code)
}

/// The id that the request gives its message.
fn message_id(request: &Request) -> Result<Option<Vec<u8>>, Answer> {
    let mut ids = request.headers().get_all(MESSAGE_ID).iter();
    let (Some(id), more) = (ids.next(), ids.next()) else { return Ok(None) };
    let fits = (1..=MESSAGE_ID_BYTES_MAX).contains(&id.len());
    if more.is_some() || !fits {
        return Err(invalid_id(&format!(
            "{MESSAGE_ID} is one id of 1 to {MESSAGE_ID_BYTES_MAX} bytes, this one has {}",
            if more.is_some() { "another beside it".to_owned() } else { id.len().to_string() }
        )));
    }
    Ok(Some(id.as_bytes().to_vec()))
}

fn invalid_id(detail: &str) -> Answer {
    Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_MESSAGE_ID", detail)
}

/// The headers that the request gives its messages.
fn message_headers(request: &Request) -> Result<HeadersBuf, Answer> {
    let prefix = ANY_HEADER.trim_end_matches('*').to_ascii_lowercase();
    let mut headers = HeadersBuf::new();
    for (name, value) in request.headers() {
        if let Some(name) = name.as_str().strip_prefix(&prefix) {
            headers.push(name, value.as_bytes()).map_err(|error| {
                Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_HEADER", &error.to_string())
            })?;
        }
    }
    Ok(headers)
}

/// POST /pub
pub(super) async fn publish(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let started = Instant::now();
    let (caller, query) = (api.caller(&request), request.query());
    let (id, headers) = (message_id(&request), message_headers(&request));
    let body = request.body(api.limits.max_msg_size.into()).await;
    let body = body.map_err(|error| error.answer("MSG_TOO_BIG"))?;
    if body.is_empty() {
        return Err(bad_request("MSG_EMPTY"));
    }
    let query = query?;
    let name = topic(&query, "INVALID_TOPIC")?;
    caller.publish(&name)?;
    let defer = query.get("defer").map(|text| defer(&api, text)).transpose()?;
    let not_before = defer.and_then(|delay| api.broker.wall_after(delay));
    let (id, headers) = (id?, headers?);
    let attributes = Attributes { not_before, dedup_id: id.as_deref(), headers: headers.as_attribute() };
    let fill = |batch: &mut Batch| batch.push(&attributes, &body).map_err(|e| refused(&e));
    store(&api, &name, fill, started).await
}

/// A delay in milliseconds, written as Go reads numbers.
fn defer(api: &Endpoints, text: &str) -> Result<Duration, Answer> {
    let delay = text.parse::<i64>().ok().and_then(|ms| u64::try_from(ms).ok()).map(Duration::from_millis);
    delay.filter(|delay| *delay <= api.limits.max_req_timeout).ok_or_else(|| bad_request("INVALID_DEFER"))
}

/// POST /mpub
pub(super) async fn publish_many(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let started = Instant::now();
    let (caller, query) = (api.caller(&request), request.query());
    // Refused by what it announces before its parameters are looked at, as by nsqd.
    let max = api.limits.max_body_size.into();
    if request.content_length().is_some_and(|length| length > max) {
        return Err(too_large("BODY_TOO_BIG"));
    }
    let query = query?;
    let name = topic(&query, "INVALID_TOPIC")?;
    caller.publish(&name)?;
    let binary = is_binary(&query);
    if request.headers().contains_key(MESSAGE_ID) {
        return Err(invalid_id(&format!("{MESSAGE_ID} is the id of one message: give it with /pub")));
    }
    let headers = message_headers(&request)?;
    let attributes = Attributes { headers: headers.as_attribute(), ..Attributes::NONE };
    let body = request.body(max).await.map_err(|error| error.answer("BODY_TOO_BIG"))?;
    let limits = &api.limits;
    let fill = |batch: &mut Batch| match binary {
        true => fill_binary(batch, &attributes, &body, limits),
        false => fill_lines(batch, &attributes, &body, limits),
    };
    store(&api, &name, fill, started).await
}

/// Publishes what `fill` makes of a batch, and answers when the topic's level is met.
async fn store(
    api: &Endpoints,
    name: &TopicName,
    fill: impl FnOnce(&mut Batch) -> Result<(), Answer>,
    started: Instant,
) -> Result<Answer, Answer> {
    let wait = LogWait::new(&api.broker);
    wait.room().await;
    let topic = api.broker.topic(name).map_err(|error| refused(&error))?;
    wait.announced(&topic, api.shared.config.announce_wait).await;
    let published = {
        let mut batch = topic.batch();
        fill(&mut batch)?;
        topic.publish(batch, &wait.wake)
    };
    let published = published.map_err(|error| refused(&error))?;
    wait.ticket(published.ticket).await.map_err(|error| refused(&error))?;
    if api.publishing.is_on() {
        api.publishing.add(started.elapsed(), 1);
    }
    Ok(Answer::text("OK"))
}

fn is_binary(query: &Query) -> bool {
    query.get("binary").is_some_and(|value| {
        switch(value).unwrap_or_else(|| {
            tracing::warn!("mpub: binary is neither true nor false, and taken for true");
            true
        })
    })
}

/// Each line is a message; empty ones are none.
fn fill_lines(
    batch: &mut Batch,
    attributes: &Attributes<'_>,
    body: &[u8],
    limits: &Limits,
) -> Result<(), Answer> {
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        if line.len() > limits.max_msg_size as usize {
            return Err(too_large("MSG_TOO_BIG"));
        }
        batch.push(attributes, line).map_err(|error| refused(&error))?;
    }
    Ok(())
}

/// `u32 count`, then for each message `u32 length` and its bytes. What follows is ignored.
fn fill_binary(
    batch: &mut Batch,
    attributes: &Attributes<'_>,
    body: &[u8],
    limits: &Limits,
) -> Result<(), Answer> {
    // As many as fit a body with a byte each.
    let counts = 1..=(limits.max_body_size.saturating_sub(4) / 5) as usize;
    let mut rest = body;
    let count = number(&mut rest).filter(|count| counts.contains(count));
    for _ in 0..count.ok_or_else(|| too_large("BAD_BODY"))? {
        let lengths = 1..=limits.max_msg_size as usize;
        let length = number(&mut rest).filter(|length| lengths.contains(length));
        let message = length.and_then(|length| rest.split_at_checked(length));
        let (message, after) = message.ok_or_else(|| too_large("BAD_MESSAGE"))?;
        batch.push(attributes, message).map_err(|error| refused(&error))?;
        rest = after;
    }
    Ok(())
}

/// Takes a number off the front. It is signed there.
fn number(bytes: &mut &[u8]) -> Option<usize> {
    let (first, rest) = bytes.split_first_chunk::<4>()?;
    *bytes = rest;
    usize::try_from(i32::from_be_bytes(*first)).ok()
}
