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

/// Most bytes that are reserved for bodies before they are seen, 1 MiB: far more than a batch has most often.
const RESERVE_MAX: usize = 1 << 20;

/// Calls `read` with the bytes of a body, header value or id. `None` if it is nothing that has bytes.
fn with_bytes<T>(value: &Bound<'_, PyAny>, read: impl FnOnce(&[u8]) -> T) -> PyResult<Option<T>> {
    let result = if let Ok(bytes) = value.cast::<PyBytes>() {
        read(bytes.as_bytes())
    } else if let Ok(text) = value.cast::<PyString>() {
        read(text.to_str()?.as_bytes())
    } else if let Ok(array) = value.cast::<PyByteArray>() {
        read(&array.to_vec())
    } else if value.cast::<PyMemoryView>().is_ok() {
        read(value.call_method0("tobytes")?.cast_into::<PyBytes>()?.as_bytes())
    } else {
        return Ok(None);
    };
    Ok(Some(result))
}

/// The same bytes, copied.
fn bytes(value: &Bound<'_, PyAny>) -> PyResult<Option<Bytes>> {
    with_bytes(value, Bytes::copy_from_slice)
}

/// Bodies of one publish, copied into one piece of memory: an allocation for each would cost more than the
/// rest of a small message.
#[derive(Default)]
struct Packed {
    bytes: Vec<u8>,
    /// The end of each body.
    ends: Vec<usize>,
}

impl Packed {
    fn push(&mut self, body: &Bound<'_, PyAny>) -> PyResult<()> {
        let (all, expected) = (&mut self.bytes, self.ends.capacity());
        let copied = with_bytes(body, |bytes| {
            if all.capacity() == 0 {
                // Bodies of a list are most often of like size.
                all.reserve(bytes.len().saturating_mul(expected).min(RESERVE_MAX));
            }
            all.extend_from_slice(bytes);
        })?;
        self.ends.push(self.bytes.len());
        copied.ok_or_else(|| must_be_bytes("a body", body))
    }

    fn unpack(self) -> impl ExactSizeIterator<Item = Bytes> {
        let bytes = Bytes::from(self.bytes);
        let mut start = 0;
        self.ends.into_iter().map(move |end| bytes.slice(std::mem::replace(&mut start, end)..end))
    }
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
            let mut message = NewMessage::new(body);
            if !delay.is_zero() {
                message = message.delay(delay);
            }
            for (name, value) in &headers {
                message = message.header(name.clone(), value.clone());
            }
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
        if body.cast::<PyDict>().is_ok() {
            return Err(PyTypeError::new_err("a body is bytes or str, not dict: use json.dumps()"));
        }
        let mut packed = Packed::default();
        if let Ok(list) = body.cast::<PyList>() {
            packed.ends.reserve(list.len());
            list.iter().try_for_each(|body| packed.push(&body))?;
        } else if let Ok(mut items) = body.try_iter() {
            items.try_for_each(|body| packed.push(&body?))?;
        } else {
            return Err(must_be_bytes("a body", body));
        }
        let bodies = packed.unpack();
        let messages = match extras.id {
            None => bodies.map(|body| message(body, None)).collect(),
            Some(id) => {
                let ids = ids(id, bodies.len())?;
                bodies.zip(ids).map(|(body, id)| message(body, Some(id))).collect()
            }
        };
        Ok(Self { messages, are_many: true })
    }
}

/// As many ids as there are bodies.
fn ids(ids: &Bound<'_, PyAny>, bodies: usize) -> PyResult<Vec<Bytes>> {
    let invalid = |why: String| raise(ids.py(), &Error::Invalid(why));
    if ids.cast::<PyList>().is_err() && ids.cast::<PyTuple>().is_err() {
        return Err(invalid("many bodies have a list of ids, one for each".to_owned()));
    }
    let each = |id: Bound<'_, PyAny>| bytes(&id)?.ok_or_else(|| must_be_bytes("an id", &id));
    let ids: Vec<Bytes> = ids.try_iter()?.map(|id| each(id?)).collect::<PyResult<_>>()?;
    if ids.len() != bodies {
        return Err(invalid(format!("{bodies} bodies have {} ids: one for each", ids.len())));
    }
    Ok(ids)
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
