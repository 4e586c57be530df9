//! GET and PUT /topic/config: a topic's settings, which are kept in the log.

use std::sync::Arc;
use std::time::Duration;

use mq_core::{Dedup, Durability, Error, ErrorKind, Limits, Overflow, Topic, TopicSettings};
use serde::{Deserialize, Deserializer, Serialize};

use super::Endpoints;
use super::admin::{blocking, once_stored};
use super::names::existing_topic;
use super::refused::refused;
use mq_net::http::{Answer, Request, StatusCode};

/// Largest body of a change: settings are few and short.
pub(super) const BODY_BYTES_MAX: u64 = 64 * 1024;

/// All settings of a topic. Limits of 0 are none.
#[derive(Debug, Serialize)]
struct TopicConfig {
    durability: &'static str,
    max_messages: u64,
    max_bytes: u64,
    /// Milliseconds.
    max_age: u64,
    overflow: &'static str,
    /// Milliseconds; the topic's own, or the broker's.
    dedup_window: u64,
    dedup_max_ids: u64,
}

/// Actions at a limit, by the words of the API.
const OVERFLOWS: [(&str, Overflow); 2] =
    [("refuse", Overflow::Refuse), ("drop-oldest", Overflow::DropOldest)];

impl TopicConfig {
    fn new(durability: Durability, limits: Limits, dedup: Dedup) -> Self {
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let overflow = OVERFLOWS.iter().find(|(_, overflow)| *overflow == limits.overflow);
        Self {
            durability: durability.name(),
            max_messages: limits.max_messages,
            max_bytes: limits.max_bytes,
            max_age: millis(limits.max_age),
            overflow: overflow.map_or("", |(name, _)| name),
            dedup_window: dedup.window.map_or(0, millis),
            dedup_max_ids: dedup.max_ids.unwrap_or_default(),
        }
    }
}

/// A change: what is missing stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    durability: Option<String>,
    max_messages: Option<u64>,
    max_bytes: Option<u64>,
    max_age: Option<u64>,
    overflow: Option<String>,
    /// `null` is as the broker has it.
    #[serde(default, deserialize_with = "given")]
    dedup_window: Option<Option<u64>>,
    #[serde(default, deserialize_with = "given")]
    dedup_max_ids: Option<Option<u64>>,
}

/// Deserializes a key that is present, if only as `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<u64>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl Change {
    /// The change as the core takes it.
    fn checked(self) -> Result<impl FnOnce(&mut TopicSettings) + Send + 'static, Answer> {
        let overflow = match &self.overflow {
            None => None,
            Some(name) => {
                let overflow = OVERFLOWS.iter().find(|(known, _)| known == name);
                let unknown = || invalid(&format!("overflow {name:?} is none of refuse, drop-oldest"));
                Some(overflow.ok_or_else(unknown)?.1)
            }
        };
        let durability = self.durability.as_deref().map(level).transpose()?;
        Ok(move |settings: &mut TopicSettings| {
            let TopicSettings { durability: level, limits, dedup } = settings;
            *level = durability.unwrap_or(*level);
            limits.max_messages = self.max_messages.unwrap_or(limits.max_messages);
            limits.max_bytes = self.max_bytes.unwrap_or(limits.max_bytes);
            limits.max_age = self.max_age.map_or(limits.max_age, Duration::from_millis);
            limits.overflow = overflow.unwrap_or(limits.overflow);
            let window = self.dedup_window.map(|window| window.map(Duration::from_millis));
            dedup.window = window.unwrap_or(dedup.window);
            dedup.max_ids = self.dedup_max_ids.unwrap_or(dedup.max_ids);
        })
    }
}

fn show(topic: &Topic) -> Answer {
    Answer::json(&TopicConfig::new(topic.durability(), topic.limits(), topic.dedup_in_force()))
}

pub(super) fn invalid(detail: &str) -> Answer {
    Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_CONFIG", detail)
}

/// A sample for the test of the API's description.
#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    serde_json::to_value(TopicConfig::new(Durability::Flush, Limits::default(), Dedup::default())).unwrap()
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
    let body = request.body(BODY_BYTES_MAX).await.map_err(|error| error.answer("BODY_TOO_BIG"))?;
    let change: Change = serde_json::from_slice(&body).map_err(|error| {
        invalid(&format!("{error}: it must be an object such as {{\"durability\":\"flush\"}}"))
    })?;
    let (change, changed) = (change.checked()?, Arc::clone(&topic));
    let ticket = blocking(move || changed.update(change)).await;
    once_stored(&api.broker, ticket.map_err(|error| not_set(&error))?).await?;
    Ok(show(&topic))
}

fn level(name: &str) -> Result<Durability, Answer> {
    let names = Durability::ALL.map(Durability::name).join(", ");
    Durability::parse(name).ok_or_else(|| invalid(&format!("durability {name:?} is none of {names}")))
}

pub(super) fn not_set(error: &Error) -> Answer {
    match error.kind() {
        ErrorKind::InvalidArgument => invalid(&error.to_string()),
        _ => refused(error),
    }
}
