//! A topic's settings, and changes of them.

use std::time::Duration;

use mq_core::{Dedup, Durability, Limits, Overflow, Result as CoreResult, Ticket, Topic};

use super::stats;
use crate::status::Refusal;
use crate::v1;
use crate::v1::TopicSettings;

/// One step of a change. All are looked at before the first is made.
pub(super) enum Change {
    Dedup(Dedup),
    Durability(Durability),
    Limits(Limits),
}

impl Change {
    pub(super) fn make(self, topic: &Topic) -> CoreResult<Ticket> {
        match self {
            Self::Dedup(dedup) => topic.set_dedup(dedup),
            Self::Durability(level) => topic.set_durability(level),
            Self::Limits(limits) => topic.set_limits(limits),
        }
    }
}

/// All settings of a topic, those of the broker where it has none of its own.
pub(super) fn of(topic: &Topic) -> TopicSettings {
    let (limits, dedup) = (topic.limits(), topic.dedup_in_force());
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let overflow = match limits.overflow {
        Overflow::Refuse => v1::Overflow::Refuse,
        Overflow::DropOldest => v1::Overflow::DropOldest,
    };
    TopicSettings {
        durability: Some(stats::durability(topic.durability()).into()),
        max_messages: Some(limits.max_messages),
        max_bytes: Some(limits.max_bytes),
        max_age_ms: Some(ms(limits.max_age)),
        overflow: Some(overflow.into()),
        dedup_window_ms: dedup.window.map(ms),
        dedup_max_ids: dedup.max_ids,
    }
}

/// The steps that lead to what is wanted: the one that can be refused for what it says first.
pub(super) fn changes(topic: &Topic, wanted: &TopicSettings) -> Result<Vec<Change>, Refusal> {
    let mut changes = Vec::new();
    if wanted.dedup_window_ms.is_some() || wanted.dedup_max_ids.is_some() {
        let own = topic.dedup();
        changes.push(Change::Dedup(Dedup {
            window: wanted.dedup_window_ms.map(Duration::from_millis).or(own.window),
            max_ids: wanted.dedup_max_ids.or(own.max_ids),
        }));
    }
    if let Some(level) = wanted.durability {
        let level = match v1::Durability::try_from(level) {
            Ok(v1::Durability::Memory) => Durability::Memory,
            Ok(v1::Durability::Flush) => Durability::Flush,
            Ok(v1::Durability::Sync) => Durability::Sync,
            Ok(v1::Durability::Unspecified) | Err(_) => {
                return Err(Refusal::invalid("settings.durability", format!("{level} is no durability")));
            }
        };
        changes.push(Change::Durability(level));
    }
    let before = topic.limits();
    let mut limits = before;
    limits.max_messages = wanted.max_messages.unwrap_or(limits.max_messages);
    limits.max_bytes = wanted.max_bytes.unwrap_or(limits.max_bytes);
    limits.max_age = wanted.max_age_ms.map_or(limits.max_age, Duration::from_millis);
    if let Some(overflow) = wanted.overflow {
        limits.overflow = match v1::Overflow::try_from(overflow) {
            Ok(v1::Overflow::Refuse) => Overflow::Refuse,
            Ok(v1::Overflow::DropOldest) => Overflow::DropOldest,
            Ok(v1::Overflow::Unspecified) | Err(_) => {
                return Err(Refusal::invalid("settings.overflow", format!("{overflow} is no overflow")));
            }
        };
    }
    if limits != before {
        changes.push(Change::Limits(limits));
    }
    Ok(changes)
}
