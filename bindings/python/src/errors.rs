//! Exceptions for the crate's errors: the classes of `libmq._errors`.

use libmq::Error;
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;

/// The class of exceptions for an error.
fn class_name(error: &Error) -> &'static str {
    match error {
        Error::Invalid(_) => "Invalid",
        Error::Locked { .. } => "Locked",
        Error::BufferFull => "BufferFull",
        Error::Timeout(_) => "Timeout",
        Error::Closed => "Closed",
        Error::Forked => "Forked",
        Error::Unsupported { .. } => "Unsupported",
        Error::Refused { .. } => "Refused",
        Error::Unknown { .. } => "Unknown",
        Error::Unreachable { .. } => "Unreachable",
        // An error that the crate has and this does not name yet.
        _ => "Error",
    }
}

fn broker(error: &Error) -> Option<&str> {
    match error {
        Error::Unsupported { broker, .. }
        | Error::Refused { broker, .. }
        | Error::Unknown { broker, .. }
        | Error::Unreachable { broker, .. } => Some(broker),
        _ => None,
    }
}

/// The exception for an error, not raised.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error) -> PyResult<Bound<'py, PyAny>> {
    exception_as(py, error, &error.to_string())
}

fn exception_as<'py>(py: Python<'py>, error: &Error, text: &str) -> PyResult<Bound<'py, PyAny>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module = MODULE.get_or_try_init(py, || py.import("libmq._errors").map(Bound::unbind))?;
    let class = module.bind(py).getattr(class_name(error))?.cast_into::<PyType>()?;
    let exception = class.call1((text,))?;
    exception.setattr("retry", error.retry())?;
    exception.setattr("broker", broker(error))?;
    Ok(exception)
}

/// The exception for an error, to raise.
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    raise_as(py, error, &error.to_string())
}

/// The same, in words that say more than the crate can.
pub(crate) fn raise_as(py: Python<'_>, error: &Error, text: &str) -> PyErr {
    match exception_as(py, error, text) {
        Ok(exception) => PyErr::from_value(exception),
        // The package is damaged: its reason is better than none.
        Err(other) => {
            let raised = PyRuntimeError::new_err(text.to_owned());
            raised.set_cause(py, Some(other));
            raised
        }
    }
}

/// Results of the crate as results of Python calls.
pub(crate) trait Raise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> Raise<T> for libmq::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raise(py, &error))
    }
}
