//! Settings of topics and channels, as `libmq.TopicSettings` and `libmq.ChannelSettings` have them.

use std::time::Duration;

use libmq::{ChannelSettings, Dedup, Durability, Error, Limits, Overflow, TopicSettings};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::raise;
use crate::values::{seconds, type_name, whole};

/// Words of Python for the levels.
const DURABILITIES: [(&str, Durability); 3] =
    [("memory", Durability::Memory), ("flush", Durability::Flush), ("sync", Durability::Sync)];
/// Words of Python for the action at a limit.
const OVERFLOWS: [(&str, Overflow); 2] =
    [("refuse", Overflow::Refuse), ("drop-oldest", Overflow::DropOldest)];

/// A class of the package's own module.
fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyAny>> {
    py.import("libmq._settings")?.getattr(name)
}

/// Refuses what is no settings of that class.
fn check(settings: &Bound<'_, PyAny>, name: &str) -> PyResult<()> {
    if settings.is_instance(&class(settings.py(), name)?)? {
        return Ok(());
    }
    Err(PyTypeError::new_err(format!("settings are a libmq.{name}, not {}", type_name(settings))))
}

/// The word for a value.
fn word<T: PartialEq>(words: &[(&'static str, T)], value: &T) -> &'static str {
    words.iter().find(|(_, known)| known == value).map_or("", |(word, _)| word)
}

/// The value that the word of a field called `name` stands for.
fn value_of<T: Copy>(name: &str, given: &Bound<'_, PyAny>, words: &[(&str, T)]) -> PyResult<T> {
    let Ok(text) = given.cast::<PyString>() else {
        return Err(PyTypeError::new_err(format!("{name} is str, not {}", type_name(given))));
    };
    let text = text.to_str()?;
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| format!("{word:?}")).collect();
        raise(given.py(), &Error::Invalid(format!("{name} is {text:?}: one of {}", known.join(", "))))
    })
}

/// What `read` makes of a field, unless it is None.
fn optional<'py, T>(
    settings: &Bound<'py, PyAny>,
    name: &str,
    read: impl FnOnce(&str, &Bound<'py, PyAny>) -> PyResult<T>,
) -> PyResult<Option<T>> {
    let value = settings.getattr(name)?;
    if value.is_none() { Ok(None) } else { read(name, &value).map(Some) }
}

/// The crate's settings of a topic for Python.
pub(crate) fn give_topic<'py>(py: Python<'py>, settings: &TopicSettings) -> PyResult<Bound<'py, PyAny>> {
    let TopicSettings { durability, limits, dedup } = settings;
    class(py, "TopicSettings")?.call1((
        word(&DURABILITIES, durability),
        limits.max_messages,
        limits.max_bytes,
        limits.max_age.as_secs_f64(),
        word(&OVERFLOWS, &limits.overflow),
        dedup.window.map(|window| window.as_secs_f64()),
        dedup.max_ids,
    ))
}

/// Python's settings of a topic for the crate, and whether they say its level.
pub(crate) fn take_topic(settings: &Bound<'_, PyAny>) -> PyResult<(TopicSettings, bool)> {
    check(settings, "TopicSettings")?;
    let field = |name| settings.getattr(name);
    let limits = Limits {
        max_messages: whole("max_messages", &field("max_messages")?)?,
        max_bytes: whole("max_bytes", &field("max_bytes")?)?,
        max_age: seconds("max_age", &field("max_age")?)?,
        overflow: value_of("overflow", &field("overflow")?, &OVERFLOWS)?,
    };
    let window: Option<Duration> = optional(settings, "dedup_window", seconds)?;
    let dedup = Dedup { window, max_ids: optional(settings, "dedup_max_ids", whole)? };
    let durability = optional(settings, "durability", |name, value| value_of(name, value, &DURABILITIES))?;
    let settings = TopicSettings { durability: durability.unwrap_or_default(), limits, dedup };
    Ok((settings, durability.is_some()))
}

/// The crate's settings of a channel for Python.
pub(crate) fn give_channel<'py>(py: Python<'py>, settings: &ChannelSettings) -> PyResult<Bound<'py, PyAny>> {
    let ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay } = settings;
    let topic = dead_letter_topic.as_ref().map(ToString::to_string);
    class(py, "ChannelSettings")?.call1((*max_attempts, topic, redelivery_delay.as_secs_f64()))
}

/// Python's settings of a channel for the crate.
pub(crate) fn take_channel(settings: &Bound<'_, PyAny>) -> PyResult<ChannelSettings> {
    check(settings, "ChannelSettings")?;
    let dead_letter_topic = optional(settings, "dead_letter_topic", |name, topic| {
        let Ok(text) = topic.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("{name} is str or None, not {}", type_name(topic))));
        };
        let parsed = text.to_str()?.parse();
        parsed.map_err(|error| raise(topic.py(), &Error::Invalid(format!("{name}: {error}"))))
    })?;
    Ok(ChannelSettings {
        max_attempts: whole("max_attempts", &settings.getattr("max_attempts")?)?,
        dead_letter_topic,
        redelivery_delay: seconds("redelivery_delay", &settings.getattr("redelivery_delay")?)?,
    })
}
