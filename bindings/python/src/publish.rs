//! Receipts, and messages on their way.

use std::sync::Arc;

use libmq::{Error, PublishState, Stored};
use pyo3::prelude::*;
use pyo3::types::PyList;

use crate::errors::{Raise, raise};
use crate::log::Log;
use crate::operation::{Operation, Outcome};
use crate::values::timeout;
use crate::wait::in_turns;

/// A broker's answer for a message that is stored.
///
/// >>> import libmq
/// >>> with libmq.connect("mq:memory") as client:
/// ...     client.publish("orders", "one pizza", id="order-1").duplicate
/// ...     client.publish("orders", "one pizza", id="order-1").duplicate
/// False
/// True
#[pyclass(module = "libmq", frozen, eq)]
#[derive(Clone, PartialEq)]
pub(crate) struct Receipt {
    /// The message's place in its topic, that of the first with its id if it is a duplicate. None from
    /// nsqd, which does not say.
    #[pyo3(get)]
    offset: Option<u64>,
    /// Whether it was not stored again, because one with its id was before.
    #[pyo3(get)]
    duplicate: bool,
    name: Arc<str>,
}

#[pymethods]
impl Receipt {
    /// The broker: its address or folder.
    #[getter]
    fn broker(&self) -> &str {
        &self.name
    }

    fn __repr__(&self) -> String {
        let offset = self.offset.map_or_else(|| "None".to_owned(), |offset| offset.to_string());
        let duplicate = if self.duplicate { "True" } else { "False" };
        format!("Receipt(offset={offset}, duplicate={duplicate}, broker={:?})", &*self.name)
    }
}

/// Receipts as Python values: one, or a list.
pub(crate) fn receipts<'py>(py: Python<'py>, stored: &Stored, are_many: bool) -> PyResult<Bound<'py, PyAny>> {
    let one = |(offset, duplicate)| Receipt { offset, duplicate, name: stored.broker() };
    if are_many {
        return Ok(PyList::new(py, stored.places().map(one))?.into_any());
    }
    let mut places = stored.places();
    let first = places.next().ok_or_else(|| raise(py, &Error::Invalid("no message was published".into())))?;
    Ok(Bound::new(py, one(first))?.into_any())
}

/// A message, or a list of them, on its way: what Client.send() returns. Dropping it changes nothing for the
/// message.
///
/// >>> import libmq
/// >>> with libmq.connect("mq:memory") as client:
/// ...     pending = client.send("orders", "one pizza")
/// ...     client.flush()
/// ...     pending.state
/// 0
/// 'stored'
#[pyclass(module = "libmq", frozen)]
pub(crate) struct Pending {
    inner: libmq::Pending,
    are_many: bool,
    /// The client's.
    log: Arc<Log>,
}

impl Pending {
    pub(crate) fn new(inner: libmq::Pending, are_many: bool, log: Arc<Log>) -> Self {
        Self { inner, are_many, log }
    }
}

#[pymethods]
impl Pending {
    /// Its stage: "queued", "sent", "stored", "duplicate", "refused" or "unknown".
    #[getter]
    fn state(&self) -> &'static str {
        match self.inner.state() {
            PublishState::Queued => "queued",
            PublishState::Sent => "sent",
            PublishState::Stored => "stored",
            PublishState::Duplicate => "duplicate",
            PublishState::Refused => "refused",
            PublishState::Unknown => "unknown",
        }
    }

    /// Whether it has its outcome.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     pending = client.send("orders", "one pizza")
    /// ...     receipt = pending.result(timeout=5)
    /// ...     pending.done()
    /// True
    fn done(&self) -> bool {
        !matches!(self.inner.state(), PublishState::Queued | PublishState::Sent)
    }

    /// Waits for the outcome: a receipt, or a list of them if a list was sent. Raises what keeps the message
    /// from being stored; Timeout if there is no outcome yet.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     len(client.send("orders", ["one pizza", "two pizzas"]).result(timeout=5))
    /// 2
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let timeout = self::timeout(timeout)?;
        let outcome = in_turns(py, timeout, &self.log, |turn| match self.inner.wait_stored(turn) {
            Err(Error::Timeout(_)) if !self.done() => None,
            outcome => Some(outcome),
        })?;
        let none = || Err(Error::Timeout("the publish has no outcome yet".to_owned()));
        receipts(py, &outcome.unwrap_or_else(none).or_raise(py)?, self.are_many)
    }

    /// The outcome for an event loop.
    fn _operation(&self) -> Operation {
        let (pending, are_many) = (self.inner.clone(), self.are_many);
        Operation::new(&self.log, async move { Ok(Outcome::Receipts(pending.stored().await?, are_many)) })
    }

    fn __repr__(&self) -> String {
        format!("<libmq.Pending {}>", self.state())
    }
}
