//! Subscriptions.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use libmq::{Error, OPENING_MAX};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyTuple, PyType};

use crate::errors::{Raise, exception, raise, raise_as};
use crate::log::{Feed, Log};
use crate::message::{Batch, Message};
use crate::operation::{Operation, Outcome};
use crate::values::{timeout, whole};
use crate::wait::in_turns;

/// A subscription to a channel: what Client.subscribe() returns. Iterating gives one message after the other,
/// and finishes none of them; several threads may do so at once. As a context manager it closes itself.
///
/// >>> import libmq
/// >>> with libmq.connect("mq:memory") as client:
/// ...     receipts = client.publish("orders", ["one pizza", "two pizzas"])
/// ...     with client.subscribe("orders", "billing") as billing:
/// ...         for message in billing:
/// ...             print(message.text)
/// ...             message.finish()
/// ...             if message.text == "two pizzas":
/// ...                 break
/// one pizza
/// two pizzas
#[pyclass(module = "libmq", frozen)]
pub(crate) struct Subscription {
    /// Makes log lines of its connections.
    _feed: Feed,
    inner: libmq::Subscription,
    /// The client's.
    log: Arc<Log>,
    topic: Box<str>,
    channel: Box<str>,
    /// Whether it was closed here, or its client was. Else its end is that of its channel.
    is_closed: AtomicBool,
    is_client_closed: Arc<AtomicBool>,
}

impl Subscription {
    pub(crate) fn new(
        inner: libmq::Subscription,
        topic: &str,
        channel: &str,
        log: Arc<Log>,
        is_client_closed: Arc<AtomicBool>,
    ) -> Self {
        let watched = inner.clone();
        let feed = log.follow(move || {
            let subscription = watched.clone();
            async move { subscription.events_async().await }
        });
        Self {
            _feed: feed,
            inner,
            log,
            topic: topic.into(),
            channel: channel.into(),
            is_closed: AtomicBool::new(false),
            is_client_closed,
        }
    }

    /// Waits for the first attempt at each broker, as `libmq::Client::subscribe` does.
    pub(crate) fn wait_opened(&self, py: Python<'_>) -> PyResult<()> {
        // In this process, and most often where it is asked again, there is nothing to wait for.
        if self.inner.opened(Duration::ZERO).or_raise(py)? {
            return Ok(());
        }
        // Brokers that do not answer by then are tried on in the background.
        let _ = in_turns(py, OPENING_MAX, &self.log, |turn| match self.inner.opened(turn) {
            Ok(false) => None,
            other => Some(other),
        })?;
        Ok(())
    }

    /// The end of an iteration: silent if it is the program's wish, and an error if the channel is gone.
    fn end<T>(&self, py: Python<'_>) -> PyResult<Option<T>> {
        if self.is_closed_here() { Ok(None) } else { Err(self.raise(py, &Error::Closed)) }
    }

    /// The next message, and nothing once it is closed.
    fn take(&self, py: Python<'_>, timeout: Duration) -> libmq::Result<PyResult<Option<Message>>> {
        // Most often there is one: then nothing is detached for it.
        if let Some(message) = self.inner.next(Duration::ZERO)? {
            return Ok(Ok(Some(Message::new(message))));
        }
        let waited = in_turns(py, timeout, &self.log, |turn| self.inner.next(turn).transpose());
        match waited {
            Ok(message) => Ok(Ok(message.transpose()?.map(Message::new))),
            Err(signal) => Ok(Err(signal)),
        }
    }

    /// The exception for an error. Closed says what is.
    fn raise(&self, py: Python<'_>, error: &Error) -> PyErr {
        let Error::Closed = error else { return raise(py, error) };
        let why = if self.is_closed.load(Ordering::Acquire) {
            "is closed"
        } else if self.is_client_closed.load(Ordering::Acquire) {
            "has ended: its client is closed"
        } else {
            "has ended: its channel or topic was deleted"
        };
        raise_as(py, error, &format!("the subscription to {}/{} {why}", self.topic, self.channel))
    }
}

/// Most messages of a batch: 100 unless it is given.
fn batch_max(max: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
    max.map_or(Ok(100), |max| whole("max", max))
}

#[pymethods]
impl Subscription {
    /// The next message; None if none came within the timeout.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.subscribe("orders", "billing").next(timeout=0.01) is None
    /// True
    #[pyo3(signature = (timeout=None))]
    fn next(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<Option<Message>> {
        self.take(py, self::timeout(timeout)?).map_err(|error| self.raise(py, &error))?
    }

    /// The messages that are there, at most `max`, once there is one; an empty batch if none came within the
    /// timeout.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipts = client.publish("orders", ["one pizza", "two pizzas"])
    /// ...     batch = billing.next_batch(timeout=1)
    /// ...     batch.bodies
    /// ...     batch.finish()
    /// [b'one pizza', b'two pizzas']
    #[pyo3(signature = (max=None, timeout=None), text_signature = "(self, max=100, timeout=None)")]
    fn next_batch(
        &self,
        py: Python<'_>,
        max: Option<&Bound<'_, PyAny>>,
        timeout: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Batch> {
        let max = batch_max(max)?;
        let batch = in_turns(py, self::timeout(timeout)?, &self.log, |turn| {
            match self.inner.next_batch(max, turn) {
                Ok(batch) if batch.is_empty() && max > 0 => None,
                batch => Some(batch),
            }
        })?;
        let batch = batch.unwrap_or_else(|| self.inner.next_batch(0, Duration::ZERO));
        batch.map(Batch::new).map_err(|error| self.raise(py, &error))
    }

    /// Batches of the messages that are there, at most `max` each, until the subscription is closed.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipts = client.publish("orders", ["one pizza", "two pizzas"])
    /// ...     for batch in billing.batches():
    /// ...         batch.finish()
    /// ...         len(batch)
    /// ...         break
    /// 2
    #[pyo3(signature = (max=None), text_signature = "(self, max=100)")]
    fn batches(slf: Py<Self>, max: Option<&Bound<'_, PyAny>>) -> PyResult<BatchesIterator> {
        Ok(BatchesIterator { subscription: slf, max: batch_max(max)?.max(1) })
    }

    /// Changes how many messages are here without an answer at most, from now on. 0 pauses the subscription.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     billing.set_max_in_flight(0)
    /// ...     print(billing.next(timeout=0.01))
    /// ...     billing.set_max_in_flight(10)
    /// ...     billing.next(timeout=1).text
    /// None
    /// 'one pizza'
    fn set_max_in_flight(&self, py: Python<'_>, max: &Bound<'_, PyAny>) -> PyResult<()> {
        self.inner.set_max_in_flight(whole("max", max)?).or_raise(py)
    }

    /// Whether this subscription created its channel. None if the broker does not say.
    #[getter]
    fn is_new(&self) -> Option<bool> {
        self.inner.is_new()
    }

    /// The failures since they were asked for last, as libmq.Failure: answers that came too late or were lost
    /// with their connection, and servers that can't be reached.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory", test_clock=True) as client:
    /// ...     billing = client.subscribe("orders", "billing", msg_timeout=60)
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     late = billing.next(timeout=1)
    /// ...     client.advance(61)
    /// ...     late.finish()
    /// ...     [failure.message == late.id for failure in billing.failures()]
    /// [True]
    fn failures<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let class = py.import("libmq._failure")?.getattr("Failure")?.cast_into::<PyType>()?;
        let failures = PyList::empty(py);
        for failure in self.inner.failures() {
            let message = failure.message.map(|id| id.to_string());
            let error = exception(py, &failure.error)?;
            failures.append(class.call1((&*failure.broker, message, error))?)?;
        }
        Ok(failures)
    }

    /// Waits until the answers given so far are in the log of their broker, where a crash does not undo them
    /// as its level promises. Returns whether the timeout was enough for it; answers that came too late are
    /// in failures(). Unsupported of nsqd, which confirms nothing.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     billing.next(timeout=1).finish()
    /// ...     billing.flush(timeout=5)
    /// True
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let flushed =
            in_turns(py, self::timeout(timeout)?, &self.log, |turn| match self.inner.flush(turn) {
                Ok(false) => None,
                other => Some(other),
            })?;
        flushed.unwrap_or(Ok(false)).or_raise(py)
    }

    /// Whether it was closed here, or its client was.
    #[getter(_is_closed_here)]
    fn is_closed_here(&self) -> bool {
        self.is_closed.load(Ordering::Acquire) || self.is_client_closed.load(Ordering::Acquire)
    }

    /// Ends the subscription: answers given before go out, and what has none is given back. Returns whether
    /// the timeout was enough for it.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     billing.close(timeout=1)
    /// True
    #[pyo3(signature = (timeout=None))]
    fn close(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let timeout = self::timeout(timeout)?;
        // In a child of fork it never ends, and says so here.
        if let Err(Error::Forked) = self.inner.next_batch(0, Duration::ZERO) {
            return Err(raise(py, &Error::Forked));
        }
        self.is_closed.store(true, Ordering::Release);
        let closed = in_turns(py, timeout, &self.log, |turn| self.inner.close(turn).then_some(()))?;
        Ok(closed.is_some())
    }

    /// The wait for the first attempt at each broker, for an event loop: libmq.aio.
    fn _opened_operation(&self) -> Operation {
        let subscription = self.inner.clone();
        Operation::new(&self.log, async move { subscription.opened_async().await.map(|()| Outcome::Done) })
    }

    /// Most seconds of that wait.
    #[classattr]
    const _OPENING_MAX: f64 = OPENING_MAX.as_secs() as f64;

    /// The next message for an event loop: libmq.aio.
    fn _next_operation(&self) -> Operation {
        let subscription = self.inner.clone();
        Operation::new(&self.log, async move { subscription.next_async().await.map(Outcome::Message) })
    }

    /// The next batch for an event loop: libmq.aio.
    fn _batch_operation(&self, max: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let max = whole("max", max)?;
        let subscription = self.inner.clone();
        Ok(Operation::new(
            &self.log,
            async move { subscription.next_batch_async(max).await.map(Outcome::Batch) },
        ))
    }

    /// The next message if it is there.
    fn _next_now(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        let next = self.inner.next(Duration::ZERO).map_err(|error| self.raise(py, &error))?;
        Ok(next.map(Message::new))
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Message>> {
        match self.take(py, Duration::MAX) {
            Err(Error::Closed) => self.end(py),
            other => other.or_raise(py)?,
        }
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (*_exception))]
    fn __exit__(&self, py: Python<'_>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.close(py, None).map(drop)
    }

    fn __repr__(&self) -> String {
        format!("<libmq.Subscription {}/{}>", self.topic, self.channel)
    }
}

/// One batch after the other: what Subscription.batches() returns.
#[pyclass(module = "libmq", frozen)]
pub(crate) struct BatchesIterator {
    subscription: Py<Subscription>,
    max: usize,
}

#[pymethods]
impl BatchesIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Batch>> {
        let subscription = self.subscription.get();
        let inner = &subscription.inner;
        let batch =
            in_turns(py, Duration::MAX, &subscription.log, |turn| match inner.next_batch(self.max, turn) {
                Ok(batch) if batch.is_empty() => None,
                batch => Some(batch),
            })?;
        match batch {
            None => Ok(None),
            Some(Err(Error::Closed)) => subscription.end(py),
            Some(batch) => Ok(Some(Batch::new(batch.or_raise(py)?))),
        }
    }
}
