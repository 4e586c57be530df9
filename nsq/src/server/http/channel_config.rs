//! GET and PUT /channel/config: a channel's settings, which are kept in the log.

use std::sync::Arc;
use std::time::Duration;

use mq_core::{Channel, ChannelSettings, TopicName};
use serde::{Deserialize, Deserializer, Serialize};

use super::Endpoints;
use super::admin::{blocking, once_stored};
use super::names::{existing_channel, topic_and_channel};
use super::topic_config::{BODY_BYTES_MAX, invalid, not_set};
use mq_net::http::{Answer, Request, StatusCode};

/// All settings of a channel.
#[derive(Debug, Serialize)]
struct ChannelConfig {
    /// Deliveries of one message at most; 0 is no limit.
    max_attempts: u16,
    /// Topic of what was delivered so often; `null` where there is no limit.
    dead_letter_topic: Option<String>,
    /// Milliseconds.
    redelivery_delay: u64,
}

impl ChannelConfig {
    fn new(settings: ChannelSettings) -> Self {
        let ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay } = settings;
        Self {
            max_attempts,
            dead_letter_topic: dead_letter_topic.map(|name| name.to_string()),
            redelivery_delay: u64::try_from(redelivery_delay.as_millis()).unwrap_or(u64::MAX),
        }
    }
}

/// A change: what is missing stays as it is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    max_attempts: Option<u16>,
    /// `null` is none.
    #[serde(default, deserialize_with = "given")]
    dead_letter_topic: Option<Option<String>>,
    redelivery_delay: Option<u64>,
}

/// Deserializes a key that is present, if only as `null`.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<String>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

fn show(channel: &Channel) -> Answer {
    Answer::json(&ChannelConfig::new(channel.settings()))
}

/// A sample for the test of the API's description.
#[cfg(test)]
pub(super) fn sample() -> serde_json::Value {
    let dead_letter_topic = Some(TopicName::parse("dead").unwrap());
    let settings = ChannelSettings { max_attempts: 5, dead_letter_topic, ..ChannelSettings::default() };
    serde_json::to_value(ChannelConfig::new(settings)).unwrap()
}

/// GET /channel/config
pub(super) async fn get(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let (topic, name) = topic_and_channel(&api.broker, &request.query()?)?;
    let channel = existing_channel(&topic, &name)?;
    match api.caller(&request).sees(topic.name().as_str()) {
        true => Ok(show(&channel)),
        false => Err(Answer::error(StatusCode::FORBIDDEN, "FORBIDDEN")),
    }
}

/// PUT /channel/config
pub(super) async fn put(api: Arc<Endpoints>, request: Request) -> Result<Answer, Answer> {
    let (topic, name) = topic_and_channel(&api.broker, &request.query()?)?;
    let channel = existing_channel(&topic, &name)?;
    let caller = api.caller(&request);
    caller.consume(topic.name(), &name)?;
    let body = request.body(BODY_BYTES_MAX).await.map_err(|error| error.answer("BODY_TOO_BIG"))?;
    let change: Change = serde_json::from_slice(&body).map_err(|error| {
        let example = "{\"max_attempts\":5,\"dead_letter_topic\":\"orders.dead\"}";
        invalid(&format!("{error}: it must be an object such as {example}"))
    })?;
    let named = match &change.dead_letter_topic {
        Some(Some(name)) => Some(Some(TopicName::parse(name).map_err(|error| invalid(&error.to_string()))?)),
        Some(None) => Some(None),
        None => None,
    };
    // What is moved there is published there.
    if let Some(Some(dead)) = &named {
        caller.publish(dead)?;
    }
    let changed = Arc::clone(&channel);
    let ticket = blocking(move || {
        changed.update(|settings| {
            settings.max_attempts = change.max_attempts.unwrap_or(settings.max_attempts);
            if let Some(topic) = named {
                settings.dead_letter_topic = topic;
            }
            let delay = change.redelivery_delay.map(Duration::from_millis);
            settings.redelivery_delay = delay.unwrap_or(settings.redelivery_delay);
        })
    });
    let ticket = ticket.await.map_err(|error| not_set(&error))?;
    once_stored(&api.broker, ticket).await?;
    Ok(show(&channel))
}
