//! A topic's settings, and changes of them.

use std::time::Duration;

use mq_core::{Dedup, Durability, Overflow, Topic};
use prost_types::FieldMask;

use super::stats;
use crate::status::Refusal;
use crate::v1;
use crate::v1::TopicSettings;

/// All settings of a topic, those of the broker where it has none of its own.
pub(super) fn of(topic: &Topic) -> TopicSettings {
    let (settings, dedup) = (topic.settings(), topic.dedup_in_force());
    let limits = settings.limits;
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let overflow = match limits.overflow {
        Overflow::Refuse => v1::Overflow::Refuse,
        Overflow::DropOldest => v1::Overflow::DropOldest,
    };
    TopicSettings {
        durability: Some(stats::durability(settings.durability).into()),
        max_messages: Some(limits.max_messages),
        max_bytes: Some(limits.max_bytes),
        max_age_ms: Some(ms(limits.max_age)),
        overflow: Some(overflow.into()),
        dedup_window_ms: dedup.window.map(ms),
        dedup_max_ids: dedup.max_ids,
    }
}

/// The fields of `TopicSettings`, as a mask names them.
const FIELDS: [&str; 7] =
    ["durability", "max_messages", "max_bytes", "max_age_ms", "overflow", "dedup_window_ms", "dedup_max_ids"];

/// The fields of a message that a change is about, each by its place in `fields`: those that the mask names,
/// or without one those that it `has`.
pub(super) fn changes<const N: usize>(
    has: [bool; N],
    fields: [&str; N],
    mask: Option<&FieldMask>,
) -> Result<[bool; N], Refusal> {
    let Some(mask) = mask else { return Ok(has) };
    let mut changes = [false; N];
    for (at, path) in mask.paths.iter().enumerate() {
        match fields.iter().position(|field| field == path) {
            Some(field) => changes[field] = true,
            None => {
                let text = format!("{path:?} is none of {}", fields.join(", "));
                return Err(Refusal::invalid(format!("update_mask.paths[{at}]"), text));
            }
        }
    }
    Ok(changes)
}

/// A change of settings that is checked.
pub(super) struct Change {
    wanted: TopicSettings,
    durability: Option<Durability>,
    overflow: Option<Overflow>,
    /// One flag for each of [`FIELDS`]: whether it changes.
    changes: [bool; FIELDS.len()],
    /// The broker's level.
    default_durability: Durability,
}

impl Change {
    /// Checks `settings` and `update_mask` of a request.
    pub(super) fn check(
        wanted: TopicSettings,
        mask: Option<&FieldMask>,
        default_durability: Durability,
    ) -> Result<Self, Refusal> {
        let has = [
            wanted.durability.is_some(),
            wanted.max_messages.is_some(),
            wanted.max_bytes.is_some(),
            wanted.max_age_ms.is_some(),
            wanted.overflow.is_some(),
            wanted.dedup_window_ms.is_some(),
            wanted.dedup_max_ids.is_some(),
        ];
        let changes = changes(has, FIELDS, mask)?;
        let durability = wanted.durability.map(|level| match v1::Durability::try_from(level) {
            Ok(v1::Durability::Memory) => Ok(Durability::Memory),
            Ok(v1::Durability::Flush) => Ok(Durability::Flush),
            Ok(v1::Durability::Sync) => Ok(Durability::Sync),
            Ok(v1::Durability::Unspecified) | Err(_) => {
                let text = format!("{level} is no durability: 1 is memory, 2 flush, 3 sync");
                Err(Refusal::invalid("settings.durability", text))
            }
        });
        let overflow = wanted.overflow.map(|overflow| match v1::Overflow::try_from(overflow) {
            Ok(v1::Overflow::Refuse) => Ok(Overflow::Refuse),
            Ok(v1::Overflow::DropOldest) => Ok(Overflow::DropOldest),
            Ok(v1::Overflow::Unspecified) | Err(_) => {
                let text = format!("{overflow} is no overflow: 1 refuses, 2 drops the oldest");
                Err(Refusal::invalid("settings.overflow", text))
            }
        });
        let window = wanted.dedup_window_ms.map(Duration::from_millis);
        for (field, dedup) in [
            ("settings.dedup_window_ms", Dedup { window, max_ids: None }),
            ("settings.dedup_max_ids", Dedup { window: None, max_ids: wanted.dedup_max_ids }),
        ] {
            dedup.check().map_err(|error| Refusal::from(error).of(field))?;
        }
        let (durability, overflow) = (durability.transpose()?, overflow.transpose()?);
        Ok(Self { wanted, durability, overflow, changes, default_durability })
    }

    /// Makes the change. What it names without a value is as the broker has it.
    pub(super) fn make(&self, settings: &mut mq_core::TopicSettings) {
        let mq_core::TopicSettings { durability, limits, dedup } = settings;
        let wanted = &self.wanted;
        let [level, messages, bytes, age, overflow, window, ids] = self.changes;
        if level {
            *durability = self.durability.unwrap_or(self.default_durability);
        }
        if messages {
            limits.max_messages = wanted.max_messages.unwrap_or_default();
        }
        if bytes {
            limits.max_bytes = wanted.max_bytes.unwrap_or_default();
        }
        if age {
            limits.max_age = Duration::from_millis(wanted.max_age_ms.unwrap_or_default());
        }
        if overflow {
            limits.overflow = self.overflow.unwrap_or_default();
        }
        if window {
            dedup.window = wanted.dedup_window_ms.map(Duration::from_millis);
        }
        if ids {
            dedup.max_ids = wanted.dedup_max_ids;
        }
    }
}
