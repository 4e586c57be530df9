//! A channel's settings, and changes of them.

use std::time::Duration;

use mq_core::{Channel, TopicName};
use mq_net::access::Caller;
use prost_types::FieldMask;

use super::settings::changes;
use super::topic_name;
use crate::status::Refusal;
use crate::v1::ChannelSettings;

/// All settings of a channel.
pub(super) fn of(channel: &Channel) -> ChannelSettings {
    let settings = channel.settings();
    let delay = u64::try_from(settings.redelivery_delay.as_millis()).unwrap_or(u64::MAX);
    ChannelSettings {
        max_attempts: Some(settings.max_attempts.into()),
        dead_letter_topic: Some(settings.dead_letter_topic.map(|name| name.to_string()).unwrap_or_default()),
        redelivery_delay_ms: Some(delay),
    }
}

/// The fields of `ChannelSettings`, as a mask names them.
const FIELDS: [&str; 3] = ["max_attempts", "dead_letter_topic", "redelivery_delay_ms"];

/// A change of settings that is checked.
pub(super) struct Change {
    max_attempts: Option<u16>,
    dead_letter_topic: Option<TopicName>,
    redelivery_delay: Option<Duration>,
    /// One flag for each of [`FIELDS`]: whether it changes.
    changes: [bool; FIELDS.len()],
}

impl Change {
    /// Checks `settings` and `update_mask` of a request, and that the caller may publish dead letters to
    /// their topic.
    pub(super) fn check(
        wanted: &ChannelSettings,
        mask: Option<&FieldMask>,
        caller: &Caller,
    ) -> Result<Self, Refusal> {
        let ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay_ms } = wanted;
        let has = [max_attempts.is_some(), dead_letter_topic.is_some(), redelivery_delay_ms.is_some()];
        let max_attempts = max_attempts.map(|max| {
            u16::try_from(max).map_err(|_| {
                Refusal::invalid("settings.max_attempts", format!("{max} is not 0 to {}", u16::MAX))
            })
        });
        let named = dead_letter_topic.as_deref().filter(|name| !name.is_empty());
        let dead_letter_topic =
            named.map(|name| topic_name(name, "settings.dead_letter_topic")).transpose()?;
        if let Some(dead) = &dead_letter_topic {
            caller.publish(dead)?;
        }
        Ok(Self {
            max_attempts: max_attempts.transpose()?,
            dead_letter_topic,
            redelivery_delay: redelivery_delay_ms.map(Duration::from_millis),
            changes: changes(has, FIELDS, mask)?,
        })
    }

    /// Makes the change. What it names without a value is as a new channel has it.
    pub(super) fn make(&self, settings: &mut mq_core::ChannelSettings) {
        let [attempts, dead, delay] = self.changes;
        let default = mq_core::ChannelSettings::default();
        if attempts {
            settings.max_attempts = self.max_attempts.unwrap_or_default();
        }
        if dead {
            settings.dead_letter_topic.clone_from(&self.dead_letter_topic);
        }
        if delay {
            settings.redelivery_delay = self.redelivery_delay.unwrap_or(default.redelivery_delay);
        }
    }
}
