//! Arguments: bodies, headers, durations.

use std::time::Duration;

use bytes::Bytes;
use libmq::{Error, NewMessage};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};

use crate::errors::raise;

/// Seconds that stand for "for ever".
const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// The bytes of a body, header value or id. `None` if it is nothing that has bytes.
fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Option<Bytes>> {
    let copied = if let Ok(bytes) = value.cast::<PyBytes>() {
        Bytes::copy_from_slice(bytes.as_bytes())
    } else if let Ok(text) = value.cast::<PyString>() {
        Bytes::copy_from_slice(text.to_str()?.as_bytes())
    } else if let Ok(array) = value.cast::<PyByteArray>() {
        array.to_vec().into()
    } else if value.cast::<PyMemoryView>().is_ok() {
        let bytes = value.call_method0("tobytes")?.cast_into::<PyBytes>()?;
        Bytes::copy_from_slice(bytes.as_bytes())
    } else {
        return Ok(None);
    };
    Ok(Some(copied))
}

fn must_be_bytes(what: &str, value: &Bound<'_, PyAny>) -> PyErr {
    let given = value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{what} is bytes, bytearray, memoryview or str, not {given}"))
}

/// Messages to publish, and whether they were given as many.
pub(crate) struct Bodies {
    pub(crate) messages: Vec<NewMessage>,
    pub(crate) are_many: bool,
}

/// The parts of messages besides their bodies: the same for each of one call, but for the id.
pub(crate) struct Extras<'a, 'py> {
    pub(crate) headers: Option<&'a Bound<'py, PyAny>>,
    pub(crate) id: Option<&'a Bound<'py, PyAny>>,
    pub(crate) delay: Option<&'a Bound<'py, PyAny>>,
}

impl Bodies {
    /// One body, or any iterable of them.
    pub(crate) fn extract(body: &Bound<'_, PyAny>, extras: &Extras<'_, '_>) -> PyResult<Self> {
        let headers = extras.headers.map_or_else(|| Ok(Vec::new()), headers)?;
        let delay = extras.delay.map(seconds).transpose()?.unwrap_or_default();
        let message = |body: Bytes, id: Option<Bytes>| {
            let message = NewMessage::new(body).delay(delay);
            let message = headers.iter().cloned().fold(message, |m, (name, value)| m.header(name, value));
            match id {
                Some(id) => message.id(id),
                None => message,
            }
        };
        if let Some(one) = bytes(body)? {
            let id = match extras.id {
                Some(id) => Some(bytes(id)?.ok_or_else(|| must_be_bytes("an id", id))?),
                None => None,
            };
            return Ok(Self { messages: vec![message(one, id)], are_many: false });
        }
        let each = |body: &Bound<'_, PyAny>| bytes(body)?.ok_or_else(|| must_be_bytes("a body", body));
        if body.cast::<PyDict>().is_ok() {
            return Err(PyTypeError::new_err("a body is bytes or str, not dict: use json.dumps()"));
        }
        let bodies: Vec<Bytes> = if let Ok(list) = body.cast::<PyList>() {
            list.iter().map(|body| each(&body)).collect::<PyResult<_>>()?
        } else if let Ok(items) = body.try_iter() {
            items.map(|body| each(&body?)).collect::<PyResult<_>>()?
        } else {
            return Err(must_be_bytes("a body", body));
        };
        let ids: Vec<Option<Bytes>> = match extras.id {
            None => vec![None; bodies.len()],
            Some(ids) if ids.cast::<PyList>().is_ok() || ids.cast::<PyTuple>().is_ok() => {
                let each = |id: Bound<'_, PyAny>| bytes(&id)?.ok_or_else(|| must_be_bytes("an id", &id));
                ids.try_iter()?.map(|id| each(id?).map(Some)).collect::<PyResult<_>>()?
            }
            Some(ids) => {
                let why = "many bodies have a list of ids, one for each".to_owned();
                return Err(raise(ids.py(), &Error::Invalid(why)));
            }
        };
        if ids.len() != bodies.len() {
            let why = format!("{} bodies have {} ids: one for each", bodies.len(), ids.len());
            return Err(raise(body.py(), &Error::Invalid(why)));
        }
        let messages = bodies.into_iter().zip(ids).map(|(body, id)| message(body, id)).collect();
        Ok(Self { messages, are_many: true })
    }
}

/// A dict, or pairs, of names and values.
fn headers(value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Bytes)>> {
    let items = match value.cast::<PyDict>() {
        Ok(dict) => dict.items().into_any(),
        Err(_) => value.clone(),
    };
    let mut headers = Vec::new();
    for pair in items.try_iter()? {
        let (name, value): (String, Bound<'_, PyAny>) = pair?.extract()?;
        headers.push((name, bytes(&value)?.ok_or_else(|| must_be_bytes("a header", &value))?));
    }
    Ok(headers)
}

/// Seconds as a number, or a `timedelta`.
pub(crate) fn seconds(value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let seconds: f64 = match value.extract() {
        Ok(seconds) => seconds,
        Err(_) => match value.call_method0("total_seconds") {
            Ok(seconds) => seconds.extract()?,
            Err(_) => return Err(PyTypeError::new_err("a duration is seconds or a timedelta")),
        },
    };
    if seconds.is_nan() || seconds < 0.0 {
        let why = format!("a duration is {seconds} s: at least 0");
        return Err(raise(value.py(), &Error::Invalid(why)));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(FOR_EVER).min(FOR_EVER))
}

/// The same; `None` is for ever.
pub(crate) fn timeout(value: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
    value.map_or(Ok(FOR_EVER), seconds)
}
