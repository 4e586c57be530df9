//! Settings of topics and channels.

use libmq::{ChannelSettings, Dedup, Durability, Limits, Overflow, TopicSettings};
use mq_core::TopicName;
use napi_derive::napi;

use crate::client::{NativeClient, check_names, milliseconds};
use crate::problem::Problem;

/// Words of JavaScript for the levels.
const DURABILITIES: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("flush", Durability::Flush), ("sync", Durability::Sync)];
/// Words of JavaScript for the action at a limit.
const OVERFLOWS: [(&str, Overflow); 2] =
    [("refuse", Overflow::Refuse), ("drop-oldest", Overflow::DropOldest)];

/// The word for a value.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// The value that a word stands for.
fn value_of<T: Copy>(name: &str, word: &str, words: &[(&str, T)]) -> Result<T, Problem> {
    words.iter().find(|(known, _)| *known == word).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(known, _)| format!("{known:?}")).collect();
        libmq::Error::Invalid(format!("{name} is {word:?}: one of {}", known.join(", "))).into()
    })
}

/// Settings of a topic, as `lib/client.js` gives them.
#[napi(object)]
pub struct TopicValues {
    /// Absent: as it is.
    pub durability: Option<String>,
    /// A whole number from 0 on, as the other numbers are.
    pub max_messages: f64,
    pub max_bytes: f64,
    pub max_age_ms: f64,
    pub overflow: String,
    /// Absent where the broker's own is in force.
    pub dedup_window_ms: Option<f64>,
    pub dedup_max_ids: Option<f64>,
}

impl TopicValues {
    /// The settings, and whether they say the level.
    fn settings(self) -> Result<(TopicSettings, bool), Problem> {
        let durability =
            self.durability.map(|word| value_of("durability", &word, &DURABILITIES)).transpose()?;
        let settings = TopicSettings {
            durability: durability.unwrap_or_default(),
            limits: Limits {
                max_messages: self.max_messages as u64,
                max_bytes: self.max_bytes as u64,
                max_age: milliseconds(self.max_age_ms),
                overflow: value_of("overflow", &self.overflow, &OVERFLOWS)?,
            },
            dedup: Dedup {
                window: self.dedup_window_ms.map(milliseconds),
                max_ids: self.dedup_max_ids.map(|max| max as u64),
            },
        };
        Ok((settings, durability.is_some()))
    }
}

#[napi]
impl NativeClient {
    /// The settings of a topic. Returns the task's number; its value is JSON: the level, the most messages
    /// and bytes, the greatest age in milliseconds, the action at a limit, the time for which ids are
    /// remembered in milliseconds, and their number; `null` for these two where the broker's own are in
    /// force.
    #[napi]
    pub fn topic_settings(&self, topic: String) -> u32 {
        if let Err(problem) = check_names(&topic, None) {
            return self.failed(problem);
        }
        self.call_client(move |client| {
            let TopicSettings { durability, limits, dedup } = client.topic_settings(&topic)?;
            let values = serde_json::json!([
                word(&DURABILITIES, &durability),
                limits.max_messages,
                limits.max_bytes,
                limits.max_age.as_secs_f64() * 1000.0,
                word(&OVERFLOWS, &limits.overflow),
                dedup.window.map(|window| window.as_secs_f64() * 1000.0),
                dedup.max_ids,
            ]);
            Ok(Some(values.to_string()))
        })
    }

    /// Changes the settings of a topic, all at once. Returns the task's number.
    #[napi]
    pub fn set_topic_settings(&self, topic: String, values: TopicValues) -> u32 {
        let settings = check_names(&topic, None).and_then(|()| values.settings());
        let (mut settings, has_level) = match settings {
            Ok(settings) => settings,
            Err(problem) => return self.failed(problem),
        };
        self.call_client(move |client| {
            if !has_level {
                settings.durability = client.topic_settings(&topic)?.durability;
            }
            client.set_topic_settings(&topic, settings)?;
            Ok(None)
        })
    }

    /// The settings of a channel. Returns the task's number; its value is JSON: the most attempts, the dead
    /// letter topic, `null` for none, and the delay in milliseconds.
    #[napi]
    pub fn channel_settings(&self, topic: String, channel: String) -> u32 {
        if let Err(problem) = check_names(&topic, Some(&channel)) {
            return self.failed(problem);
        }
        self.call_client(move |client| {
            let ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay } =
                client.channel_settings(&topic, &channel)?;
            let dead_letter_topic = dead_letter_topic.as_ref().map(TopicName::as_str);
            let delay_ms = redelivery_delay.as_secs_f64() * 1000.0;
            Ok(Some(serde_json::json!([max_attempts, dead_letter_topic, delay_ms]).to_string()))
        })
    }

    /// Changes the settings of a channel, all at once. Returns the task's number.
    #[napi]
    pub fn set_channel_settings(
        &self,
        topic: String,
        channel: String,
        max_attempts: u16,
        dead_letter_topic: Option<String>,
        redelivery_delay_ms: f64,
    ) -> u32 {
        if let Err(problem) = check_names(&topic, Some(&channel)) {
            return self.failed(problem);
        }
        let dead_letter_topic = match dead_letter_topic.map(|name| name.parse()).transpose() {
            Ok(name) => name,
            Err(error) => return self.failed(Problem::name(format!("deadLetterTopic: {error}"))),
        };
        let redelivery_delay = milliseconds(redelivery_delay_ms);
        let settings = ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay };
        self.call_client(move |client| {
            client.set_channel_settings(&topic, &channel, settings)?;
            Ok(None)
        })
    }
}
