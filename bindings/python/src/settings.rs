//! Settings of channels, as `libmq.ChannelSettings` has them.

use libmq::{ChannelSettings, Error};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::errors::raise;
use crate::values::{seconds, type_name, whole};

fn class(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("libmq._settings")?.getattr("ChannelSettings")
}

/// The crate's settings for Python.
pub(crate) fn give<'py>(py: Python<'py>, settings: &ChannelSettings) -> PyResult<Bound<'py, PyAny>> {
    let ChannelSettings { max_attempts, dead_letter_topic, redelivery_delay } = settings;
    let topic = dead_letter_topic.as_ref().map(ToString::to_string);
    class(py)?.call1((*max_attempts, topic, redelivery_delay.as_secs_f64()))
}

/// Python's settings for the crate.
pub(crate) fn take(settings: &Bound<'_, PyAny>) -> PyResult<ChannelSettings> {
    let py = settings.py();
    if !settings.is_instance(&class(py)?)? {
        let given = type_name(settings);
        return Err(PyTypeError::new_err(format!("settings are a libmq.ChannelSettings, not {given}")));
    }
    let topic = settings.getattr("dead_letter_topic")?;
    let dead_letter_topic = if topic.is_none() {
        None
    } else if let Ok(name) = topic.cast::<PyString>() {
        let parsed = name.to_str()?.parse();
        Some(parsed.map_err(|error| raise(py, &Error::Invalid(format!("dead_letter_topic: {error}"))))?)
    } else {
        let given = type_name(&topic);
        return Err(PyTypeError::new_err(format!("dead_letter_topic is str or None, not {given}")));
    };
    Ok(ChannelSettings {
        max_attempts: whole("max_attempts", &settings.getattr("max_attempts")?)?,
        dead_letter_topic,
        redelivery_delay: seconds("redelivery_delay", &settings.getattr("redelivery_delay")?)?,
    })
}
