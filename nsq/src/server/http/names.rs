//! The parameters that name topics and channels, and nsqd's words for what is wrong with them.

use std::sync::Arc;

use mq_core::{Broker, Channel, ChannelName, Topic, TopicName};

use mq_net::http::{Answer, Query, StatusCode};

pub(super) fn bad_request(code: &str) -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, code)
}

/// The parameter `topic`; what breaks the naming rule is `invalid`.
pub(super) fn topic(query: &Query, invalid: &str) -> Result<TopicName, Answer> {
    let name = query.get("topic").ok_or_else(|| bad_request("MISSING_ARG_TOPIC"))?;
    TopicName::parse(name).map_err(|_| bad_request(invalid))
}

/// The topic of that name. What breaks the naming rule can't be there.
pub(super) fn existing_topic(broker: &Broker, query: &Query) -> Result<Arc<Topic>, Answer> {
    let missing = || Answer::error(StatusCode::NOT_FOUND, "TOPIC_NOT_FOUND");
    let name = query.get("topic").ok_or_else(|| bad_request("MISSING_ARG_TOPIC"))?;
    let name = TopicName::parse(name).map_err(|_| missing())?;
    broker.find_topic(&name).ok_or_else(missing)
}

/// The topic, and the name of a channel, that need not be there.
pub(super) fn topic_and_channel(broker: &Broker, query: &Query) -> Result<(Arc<Topic>, ChannelName), Answer> {
    let (topic, channel) = (query.get("topic"), query.get("channel"));
    let topic = topic.ok_or_else(|| bad_request("MISSING_ARG_TOPIC"))?;
    let topic = TopicName::parse(topic).map_err(|_| bad_request("INVALID_ARG_TOPIC"))?;
    let channel = channel.ok_or_else(|| bad_request("MISSING_ARG_CHANNEL"))?;
    let channel = ChannelName::parse(channel).map_err(|_| bad_request("INVALID_ARG_CHANNEL"))?;
    let missing = || Answer::error(StatusCode::NOT_FOUND, "TOPIC_NOT_FOUND");
    Ok((broker.find_topic(&topic).ok_or_else(missing)?, channel))
}

/// The channel of that name.
pub(super) fn existing_channel(topic: &Topic, channel: &ChannelName) -> Result<Arc<Channel>, Answer> {
    let missing = || Answer::error(StatusCode::NOT_FOUND, "CHANNEL_NOT_FOUND");
    topic.find_channel(channel).ok_or_else(missing)
}

/// A switch: `None` if it is none of nsqd's words.
pub(super) fn switch(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}
