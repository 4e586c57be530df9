//! Arguments: bodies, headers, durations.

use std::ptr;
use std::time::Duration;

use bytes::Bytes;
use libmq::{Borrowed, Error, IntoMessage, NewMessage, Outgoing, OutgoingBatch};
use pyo3::exceptions::{PyOverflowError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyByteArray, PyBytes, PyDict, PyList, PyMemoryView, PyString, PyTuple};

use crate::errors::{Raise, raise};

/// Seconds that stand for "for ever".
const FOR_EVER: Duration = Duration::from_secs(1 << 40);

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

fn must_be_bytes(what: &str, value: &Bound<'_, PyAny>) -> PyErr {
    PyTypeError::new_err(format!("{what} is bytes, bytearray, memoryview or str, not {}", type_name(value)))
}

pub(crate) fn type_name(value: &Bound<'_, PyAny>) -> String {
    value.get_type().name().map_or_else(|_| "?".to_owned(), |name| name.to_string())
}

/// Messages to publish, encoded from where Python has them, and whether they were given as many.
pub(crate) struct Bodies {
    pub(crate) messages: Outgoing,
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
        let py = body.py();
        let like = extras.like()?;
        let one = with_bytes(body, |body| {
            let id = match extras.id {
                Some(id) => Some(bytes(id)?.ok_or_else(|| must_be_bytes("an id", id))?),
                None => None,
            };
            let message = Borrowed { body, id: id.as_deref(), like: &like };
            Outgoing::fill(1, |batch| message.append_to(batch)).or_raise(py)
        })?;
        if let Some(messages) = one {
            return Ok(Self { messages: messages?, are_many: false });
        }
        if body.cast::<PyDict>().is_ok() {
            return Err(PyTypeError::new_err("a body is bytes or str, not dict: use json.dumps()"));
        }
        if let Ok(list) = body.cast::<PyList>()
            && extras.are_none()
        {
            let messages = Outgoing::fill(list.len(), |batch| append_bodies(batch, list))?;
            return Ok(Self { messages, are_many: true });
        }
        let ids = extras.id.map(ids).transpose()?;
        let (mut left, mut bodies) = (ids.iter().flatten(), 0);
        let Ok(mut items) = body.try_iter() else { return Err(must_be_bytes("a body", body)) };
        let expected = body.cast::<PyList>().map_or(0, |list| list.len());
        let messages = Outgoing::fill(expected, |batch| {
            items.try_for_each(|body| {
                let (body, id) = (body?, left.next().map(|id| &id[..]));
                bodies += 1;
                let appended = with_bytes(&body, |body| Borrowed { body, id, like: &like }.append_to(batch))?;
                appended.ok_or_else(|| must_be_bytes("a body", &body))?.or_raise(py)
            })
        })?;
        if let Some(ids) = &ids
            && ids.len() != bodies
        {
            let why = format!("{bodies} bodies have {} ids: one for each", ids.len());
            return Err(raise(py, &Error::Invalid(why)));
        }
        Ok(Self { messages, are_many: true })
    }
}

/// Appends the bodies of a list, which are all that their messages have. Nothing is made for one that is
/// bytes, not even a reference: of a list of many, that would be most of the work.
#[allow(unsafe_code, reason = "references that are borrowed have no other interface")]
fn append_bodies(batch: &mut OutgoingBatch, list: &Bound<'_, PyList>) -> PyResult<()> {
    let py = list.py();
    let mut at = 0_usize;
    // Asked for each time, as a list is iterated: what is no bytes could run code of the program.
    while at < list.len() {
        // SAFETY: a place in the list, with the interpreter's lock held.
        let body = unsafe { ffi::PyList_GetItem(list.as_ptr(), at.cast_signed()) };
        at += 1;
        let (mut data, mut length) = (ptr::null_mut(), 0);
        // SAFETY: an element of the list, which keeps it alive as long as no code of the program runs; the
        // places are those of a pointer and a length.
        let is_bytes = unsafe {
            ffi::PyBytes_CheckExact(body) != 0
                && ffi::PyBytes_AsStringAndSize(body, &raw mut data, &raw mut length) == 0
        };
        if is_bytes {
            // SAFETY: so many bytes stand there, never null, and never change; no code of the program runs.
            let bytes = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), length.unsigned_abs()) };
            bytes.append_to(batch).or_raise(py)?;
            continue;
        }
        // SAFETY: an element, as above, with a reference of its own from here on.
        let body = unsafe { Bound::from_borrowed_ptr(py, body) };
        let appended = with_bytes(&body, |bytes| bytes.append_to(batch))?;
        appended.ok_or_else(|| must_be_bytes("a body", &body))?.or_raise(py)?;
    }
    Ok(())
}

impl Extras<'_, '_> {
    fn are_none(&self) -> bool {
        self.headers.is_none() && self.id.is_none() && self.delay.is_none()
    }

    /// A message with the headers and the delay that all have.
    fn like(&self) -> PyResult<NewMessage> {
        let mut like = NewMessage::default();
        if let Some(headers) = self.headers {
            for (name, value) in self::headers(headers)? {
                like = like.header(name, value);
            }
        }
        if let Some(delay) = self.delay {
            like = like.delay(seconds("delay", delay)?);
        }
        Ok(like)
    }
}

/// The ids of many bodies.
fn ids(ids: &Bound<'_, PyAny>) -> PyResult<Vec<Bytes>> {
    if ids.cast::<PyList>().is_err() && ids.cast::<PyTuple>().is_err() {
        let why = "many bodies have a list of ids, one for each".to_owned();
        return Err(raise(ids.py(), &Error::Invalid(why)));
    }
    let each = |id: Bound<'_, PyAny>| bytes(&id)?.ok_or_else(|| must_be_bytes("an id", &id));
    ids.try_iter()?.map(|id| each(id?)).collect()
}

/// A dict, or pairs, of names and values.
fn headers(value: &Bound<'_, PyAny>) -> PyResult<Vec<(String, Bytes)>> {
    let items = match value.cast::<PyDict>() {
        Ok(dict) => dict.items().into_any(),
        Err(_) => value.clone(),
    };
    let mut headers = Vec::new();
    let not_pairs = || PyTypeError::new_err("headers are a dict, or pairs of a name and a value");
    for pair in items.try_iter().map_err(|_| not_pairs())? {
        let (name, value): (Bound<'_, PyAny>, Bound<'_, PyAny>) = pair?.extract().map_err(|_| not_pairs())?;
        let Ok(name) = name.cast::<PyString>() else {
            return Err(PyTypeError::new_err(format!("a header's name is str, not {}", type_name(&name))));
        };
        let name = name.to_str()?.to_owned();
        headers.push((name, bytes(&value)?.ok_or_else(|| must_be_bytes("a header", &value))?));
    }
    Ok(headers)
}

/// A whole number of an argument called `name`.
pub(crate) fn whole<'py, T>(name: &str, value: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr>,
{
    value.extract().map_err(|error: PyErr| {
        if error.is_instance_of::<PyOverflowError>(value.py()) {
            let bits = 8 * size_of::<T>();
            return PyOverflowError::new_err(format!("{name} is {value}: at least 0, in {bits} bits"));
        }
        PyTypeError::new_err(format!("{name} is a whole number, not {}", type_name(value)))
    })
}

/// Seconds as a number, or a `timedelta`, of an argument called `name`.
pub(crate) fn seconds(name: &str, value: &Bound<'_, PyAny>) -> PyResult<Duration> {
    let wrong = || {
        let given = type_name(value);
        PyTypeError::new_err(format!("{name} is seconds or a timedelta, not {given}"))
    };
    let seconds: f64 = match value.extract() {
        Ok(seconds) => seconds,
        Err(_) => match value.call_method0("total_seconds") {
            Ok(seconds) => seconds.extract()?,
            Err(_) => return Err(wrong()),
        },
    };
    if seconds.is_nan() || seconds < 0.0 {
        let why = format!("{name} is {seconds} s: at least 0");
        return Err(raise(value.py(), &Error::Invalid(why)));
    }
    Ok(Duration::try_from_secs_f64(seconds).unwrap_or(FOR_EVER).min(FOR_EVER))
}

/// The same; `None` is for ever.
pub(crate) fn timeout(value: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
    value.map_or(Ok(FOR_EVER), |value| seconds("timeout", value))
}

/// The delay of a requeue; `None` is none.
pub(crate) fn delay_or_none(value: Option<&Bound<'_, PyAny>>) -> PyResult<Duration> {
    value.map_or(Ok(Duration::ZERO), |value| seconds("delay", value))
}
