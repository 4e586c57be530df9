//! GET and PUT /topic/config: a topic's settings, which are kept in the log.

use std::sync::Arc;

use mq_core::{Durability, ErrorKind, Topic};
use serde::{Deserialize, Serialize};

use super::Endpoints;
use super::admin::{blocking, settled};
use super::names::existing_topic;
use super::settle::refused;
use crate::http::{Answer, BodyError, Request, StatusCode};

/// Largest body of a change: settings are few and short.
const BODY_BYTES_MAX: u64 = 64 * 1024;

/// All settings of a topic.
#[derive(Debug, Serialize)]
struct TopicConfig {
    durability: &'static str,
}

/// A change: what is missing stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    durability: Option<String>,
}

fn show(topic: &Topic) -> Answer {
    Answer::json(&TopicConfig { durability: topic.durability().name() })
}

fn invalid(detail: &str) -> Answer {
    Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_CONFIG", detail)
}

/// For the test of its description.
#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    serde_json::to_value(TopicConfig { durability: Durability::Flush.name() }).unwrap()
}

/// GET /topic/config
pub(super) async fn get(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let topic = existing_topic(&api.broker, &request.query()?)?;
    match api.caller(&request).sees(topic.name().as_str()) {
        true => Ok(show(&topic)),
        false => Err(Answer::error(StatusCode::FORBIDDEN, "FORBIDDEN")),
    }
}

/// PUT /topic/config
pub(super) async fn put(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let topic = existing_topic(&api.broker, &request.query()?)?;
    api.caller(&request).publish(topic.name())?;
    let body = request.body(BODY_BYTES_MAX).await.map_err(|error| match error {
        BodyError::TooBig => Answer::error(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_BIG"),
        BodyError::Lost => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
    })?;
    let change: Change = serde_json::from_slice(&body).map_err(|error| {
        invalid(&format!("{error}: it must be an object such as {{\"durability\":\"flush\"}}"))
    })?;
    if let Some(level) = change.durability {
        let names = Durability::ALL.map(Durability::name).join(", ");
        let level = Durability::parse(&level)
            .ok_or_else(|| invalid(&format!("durability {level:?} is none of {names}")))?;
        let changed = Arc::clone(&topic);
        let ticket = blocking(move || changed.set_durability(level)).await;
        let ticket = ticket.map_err(|error| match error.kind() {
            ErrorKind::InvalidArgument => invalid(&error.to_string()),
            _ => refused(&error),
        })?;
        settled(&api.broker, ticket).await?;
    }
    Ok(show(&topic))
}
