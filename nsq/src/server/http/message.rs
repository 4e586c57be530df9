//! POST /message/drop, requeue: one message of a channel, whoever holds it. A right of its own.

use std::sync::Arc;

use mq_core::{Channel, MessageId, PendingMessage, Ticket};
use mq_net::http::{Answer, Query, Request, StatusCode};
use mq_net::log_wait::LogWait;
use serde::Serialize;

use super::Endpoints;
use super::admin::{blocking, once_stored};
use super::names::{existing_channel, topic_and_channel};
use super::peek::state;
use super::refused::refused;

/// A change to one message.
#[derive(Clone, Copy)]
pub(super) enum MessageAction {
    Drop,
    Requeue,
}

/// Outcome of a change of one message.
#[derive(Debug, Serialize)]
struct Changed {
    id: String,
    /// The place of the message in its channel before: `waiting`, `in_flight` or `deferred`.
    was: &'static str,
    /// Deliveries of it.
    attempts: u16,
}

/// POST /message/drop, requeue
pub(super) async fn change_message(
    api: Arc<Endpoints>,
    request: Request,
    action: MessageAction,
) -> Result<Answer, Answer> {
    let query = request.query()?;
    let (topic, name) = topic_and_channel(&api.broker, &query)?;
    let channel = existing_channel(&topic, &name)?;
    let caller = api.caller(&request);
    caller.manage_messages(topic.name(), &name)?;
    let id = id(&query)?;
    let wake = LogWait::new(&api.broker).wake;
    let changed = blocking(move || -> mq_core::Result<(PendingMessage, Ticket)> {
        let was = match action {
            MessageAction::Drop => channel.drop_message(id)?,
            MessageAction::Requeue => channel.requeue_message(id)?,
        };
        Ok((was, Channel::log_acknowledged(&channel, &wake)?))
    });
    let (was, ticket) = changed.await.map_err(|error| match error.kind() {
        mq_core::ErrorKind::NotFound => {
            Answer::error_with(StatusCode::NOT_FOUND, "MESSAGE_NOT_FOUND", &error.to_string())
        }
        mq_core::ErrorKind::LimitReached => {
            Answer::error_with(StatusCode::CONFLICT, "TOO_FAR_BACK", &error.to_string())
        }
        _ => refused(&error),
    })?;
    let id = String::from_utf8_lossy(&id.to_hex()).into_owned();
    tracing::info!(
        action = match action {
            MessageAction::Drop => "drop",
            MessageAction::Requeue => "requeue",
        },
        topic = topic.name().as_str(),
        channel = name.as_str(),
        id,
        was = state(&was),
        by = caller.name().unwrap_or("anyone"),
        peer = request.peer().address,
        "message changed by an administrator"
    );
    once_stored(&api.broker, ticket).await?;
    Ok(Answer::json(&Changed { id, was: state(&was), attempts: was.attempts }))
}

fn id(query: &Query) -> Result<MessageId, Answer> {
    let invalid = |detail: &str| Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_ID", detail);
    let text = query.get_some("id").ok_or_else(|| invalid("id is missing: 16 hexadecimal digits"))?;
    let number =
        Some(text).filter(|text| text.len() == 16).and_then(|text| u64::from_str_radix(text, 16).ok());
    number.map(MessageId).ok_or_else(|| invalid(&format!("id {text:?} is no id: 16 hexadecimal digits")))
}

/// A sample for the test of the API's description.
#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    serde_json::to_value(Changed { id: String::new(), was: "waiting", attempts: 1 }).unwrap()
}
