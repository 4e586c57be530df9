//! Settings of topics and channels of an embedded broker, as structs that grow by their size.

use std::ffi::{CStr, c_char};
use std::time::Duration;

use libmq::{ChannelSettings, Dedup, Durability, Limits, Overflow, TopicSettings};

use crate::boundary::{guard, handle, options, put_sized, required, size_of_output, text};
use crate::client::mq_client;
use crate::status::{Failure, Outcome, mq_status};
use crate::values::{
    MQ_DEDUP_OFF, MQ_NAME_SIZE, mq_channel_settings, mq_durability, mq_overflow, mq_topic_settings,
};

/// A time in milliseconds.
fn ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl mq_topic_settings {
    fn of(settings: &TopicSettings) -> Self {
        let TopicSettings { durability, limits, dedup } = settings;
        let durability = match durability {
            Durability::Memory => mq_durability::Memory,
            Durability::Flush => mq_durability::Flush,
            Durability::Sync => mq_durability::Sync,
        };
        let overflow = match limits.overflow {
            Overflow::Refuse => mq_overflow::Refuse,
            Overflow::DropOldest => mq_overflow::DropOldest,
        };
        Self {
            size: size_of::<Self>(),
            durability: durability as i32,
            overflow: overflow as i32,
            max_messages: limits.max_messages,
            max_bytes: limits.max_bytes,
            max_age_ms: ms(limits.max_age),
            dedup_window_ms: match dedup.window {
                None => 0,
                Some(Duration::ZERO) => MQ_DEDUP_OFF,
                Some(window) => ms(window),
            },
            dedup_max_ids: dedup.max_ids.unwrap_or(0),
        }
    }

    /// The settings, for a topic that has `now`.
    fn read(&self, now: TopicSettings) -> Outcome<TopicSettings> {
        let durability = match self.durability {
            0 => now.durability,
            1 => Durability::Memory,
            2 => Durability::Flush,
            3 => Durability::Sync,
            other => return Err(Failure::invalid(format!("durability is {other}: one of mq_durability"))),
        };
        let overflow = match self.overflow {
            0 => Overflow::Refuse,
            1 => Overflow::DropOldest,
            other => return Err(Failure::invalid(format!("overflow is {other}: one of mq_overflow"))),
        };
        let limits = Limits {
            max_messages: self.max_messages,
            max_bytes: self.max_bytes,
            max_age: Duration::from_millis(self.max_age_ms),
            overflow,
        };
        let window = match self.dedup_window_ms {
            0 => None,
            MQ_DEDUP_OFF => Some(Duration::ZERO),
            ms => Some(Duration::from_millis(ms)),
        };
        let dedup = Dedup { window, max_ids: Some(self.dedup_max_ids).filter(|max| *max != 0) };
        Ok(TopicSettings { durability, limits, dedup })
    }
}

/// Writes the settings of a topic of an embedded broker into settings, whose size is set before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_topic_get_settings(
    client: *mut mq_client,
    topic: *const c_char,
    settings: *mut mq_topic_settings,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (client, topic) = unsafe { (handle(client, "client")?, text(topic, "topic")?) };
        // SAFETY: the header's conventions.
        let size = unsafe { size_of_output(settings, "settings") }?;
        let found = client.inner.topic_settings(topic);
        let found = found.map_err(|error| Failure::named(&error, topic, None))?;
        // SAFETY: the header's conventions, and `size` is the one that was read there.
        unsafe { put_sized(settings, mq_topic_settings { size, ..mq_topic_settings::of(&found) }, size) };
        Ok(())
    })
}

/// Changes the settings of a topic of an embedded broker, all at once, for every publish from now on and over
/// restarts. What is to stay as it is comes from mq_topic_get_settings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_topic_set_settings(
    client: *mut mq_client,
    topic: *const c_char,
    settings: *const mq_topic_settings,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (client, topic) = unsafe { (handle(client, "client")?, text(topic, "topic")?) };
        required(settings, "settings")?;
        // SAFETY: the header's conventions.
        let wanted = unsafe { options(settings) }?;
        let named = |error| Failure::named(&error, topic, None);
        let wanted = wanted.read(client.inner.topic_settings(topic).map_err(named)?)?;
        client.inner.set_topic_settings(topic, wanted).map_err(named)
    })
}

impl mq_channel_settings {
    fn of(settings: &ChannelSettings) -> Self {
        let ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay } = settings;
        let mut name = [0; MQ_NAME_SIZE];
        let bytes = dead_letter_topic.as_ref().map_or(&b""[..], |topic| topic.as_str().as_bytes());
        // The last one stays 0: a name has 64 bytes at most.
        for (at, byte) in name.iter_mut().zip(bytes) {
            *at = *byte as c_char;
        }
        Self {
            size: size_of::<Self>(),
            redelivery_delay_ms: ms(*redelivery_delay),
            max_attempts: *max_attempts,
            dead_letter_topic: name,
        }
    }

    fn read(&self) -> Outcome<ChannelSettings> {
        let name = self.dead_letter_topic.map(|byte| byte as u8);
        let name = CStr::from_bytes_until_nul(&name);
        let name = name.map_err(|_| Failure::invalid("dead_letter_topic has no zero byte at its end"))?;
        let dead_letter_topic = match name.to_str() {
            Ok("") => None,
            Ok(name) => Some(name.parse().map_err(|error| {
                let message = format!("dead_letter_topic: {error}");
                Failure::new(mq_status::InvalidName, message)
            })?),
            Err(_) => return Err(Failure::new(mq_status::InvalidName, "dead_letter_topic is not UTF-8")),
        };
        let redelivery_delay = Duration::from_millis(self.redelivery_delay_ms);
        Ok(ChannelSettings { max_attempts: self.max_attempts, dead_letter_topic, redelivery_delay })
    }
}

/// Writes the settings of a channel of an embedded broker into settings, whose size is set before.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_channel_get_settings(
    client: *mut mq_client,
    topic: *const c_char,
    channel: *const c_char,
    settings: *mut mq_channel_settings,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (client, topic) = unsafe { (handle(client, "client")?, text(topic, "topic")?) };
        // SAFETY: the header's conventions.
        let (channel, size) = unsafe { (text(channel, "channel")?, size_of_output(settings, "settings")?) };
        let found = client.inner.channel_settings(topic, channel);
        let found = found.map_err(|error| Failure::named(&error, topic, Some(channel)))?;
        // SAFETY: the header's conventions, and `size` is the one that was read there.
        unsafe { put_sized(settings, mq_channel_settings { size, ..mq_channel_settings::of(&found) }, size) };
        Ok(())
    })
}

/// Changes the settings of a channel of an embedded broker, all at once, for every message that comes back
/// from now on and over restarts. What is to stay as it is comes from mq_channel_get_settings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_channel_set_settings(
    client: *mut mq_client,
    topic: *const c_char,
    channel: *const c_char,
    settings: *const mq_channel_settings,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (client, topic) = unsafe { (handle(client, "client")?, text(topic, "topic")?) };
        // SAFETY: the header's conventions.
        let channel = unsafe { text(channel, "channel") }?;
        required(settings, "settings")?;
        // SAFETY: the header's conventions.
        let wanted = unsafe { options(settings) }?.read()?;
        let changed = client.inner.set_channel_settings(topic, channel, wanted);
        changed.map_err(|error| Failure::named(&error, topic, Some(channel)))
    })
}
