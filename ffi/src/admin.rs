//! Administration of an embedded broker: its topics and channels, its statistics, its clock. Their
//! settings are in `settings`.

use std::ffi::{CString, c_char};
use std::time::Duration;

use libmq::{Client, Result};

use crate::boundary::{guard, handle, put, required, text};
use crate::client::mq_client;
use crate::status::{Failure, c_string, mq_status};

/// Calls a function of the client with a topic's name.
///
/// # Safety
/// The pointers are those of the header's conventions.
unsafe fn of_topic(
    client: *const mq_client,
    topic: *const c_char,
    call: fn(&Client, &str) -> Result<()>,
) -> mq_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let (client, topic) = unsafe { (handle(client, "client")?, text(topic, "topic")?) };
        call(&client.inner, topic).map_err(|error| Failure::named(&error, topic, None))
    })
}

/// Calls a function of the client with a channel's name.
///
/// # Safety
/// The pointers are those of the header's conventions.
unsafe fn of_channel(
    client: *const mq_client,
    topic: *const c_char,
    channel: *const c_char,
    call: fn(&Client, &str, &str) -> Result<()>,
) -> mq_status {
    guard(|| {
        // SAFETY: the caller's promise.
        let client = unsafe { handle(client, "client") }?;
        // SAFETY: the caller's promise.
        let (topic, channel) = unsafe { (text(topic, "topic")?, text(channel, "channel")?) };
        call(&client.inner, topic, channel).map_err(|error| Failure::named(&error, topic, Some(channel)))
    })
}

/// Creates a topic of an embedded broker, if it is not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_topic_create(client: *mut mq_client, topic: *const c_char) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_topic(client, topic, Client::create_topic) }
}

/// Deletes a topic of an embedded broker with its channels and messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_topic_delete(client: *mut mq_client, topic: *const c_char) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_topic(client, topic, Client::delete_topic) }
}

/// Drops the messages of a topic of an embedded broker that no channel has taken.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_topic_empty(client: *mut mq_client, topic: *const c_char) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_topic(client, topic, Client::empty_topic) }
}

/// Pauses a topic of an embedded broker: its channels get no new messages.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_topic_pause(client: *mut mq_client, topic: *const c_char) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_topic(client, topic, Client::pause_topic) }
}

/// Ends the pause of a topic.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_topic_unpause(client: *mut mq_client, topic: *const c_char) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_topic(client, topic, Client::unpause_topic) }
}

/// Creates a channel of an embedded broker, and its topic, if they are not there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_channel_create(
    client: *mut mq_client,
    topic: *const c_char,
    channel: *const c_char,
) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_channel(client, topic, channel, Client::create_channel) }
}

/// Deletes a channel of an embedded broker: its subscriptions are closed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_channel_delete(
    client: *mut mq_client,
    topic: *const c_char,
    channel: *const c_char,
) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_channel(client, topic, channel, Client::delete_channel) }
}

/// Finishes all messages of a channel of an embedded broker.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_channel_empty(
    client: *mut mq_client,
    topic: *const c_char,
    channel: *const c_char,
) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_channel(client, topic, channel, Client::empty_channel) }
}

/// Pauses a channel of an embedded broker: it delivers nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_channel_pause(
    client: *mut mq_client,
    topic: *const c_char,
    channel: *const c_char,
) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_channel(client, topic, channel, Client::pause_channel) }
}

/// Ends the pause of a channel.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_channel_unpause(
    client: *mut mq_client,
    topic: *const c_char,
    channel: *const c_char,
) -> mq_status {
    // SAFETY: the header's conventions.
    unsafe { of_channel(client, topic, channel, Client::unpause_channel) }
}

/// Writes the statistics of an embedded broker as JSON, a text to free with mq_string_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_client_stats(client: *mut mq_client, json: *mut *mut c_char) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let client = unsafe { handle(client, "client") }?;
        required(json, "json")?;
        let stats = serde_json::to_string(&client.inner.stats()?);
        let stats = stats.map_err(|error| Failure::new(mq_status::Other, error.to_string()))?;
        // SAFETY: not NULL, and a place for a pointer.
        unsafe { put(json, c_string(stats).into_raw()) };
        Ok(())
    })
}

/// Advances the clock of "mq:memory?test_clock=true" by so many milliseconds: timeouts end and delays are
/// over, without waiting.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_client_advance(client: *mut mq_client, by_ms: u64) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let client = unsafe { handle(client, "client") }?;
        Ok(client.inner.advance(Duration::from_millis(by_ms))?)
    })
}

/// Frees a text of the library. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_string_free(string: *mut c_char) {
    guard(|| {
        if !string.is_null() {
            // SAFETY: the header's conventions: it is from `into_raw`, and freed once.
            drop(unsafe { CString::from_raw(string) });
        }
        Ok(())
    });
}
