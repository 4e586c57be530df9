//! Messages that came, one by one and in batches.

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use libmq::Delivery;
use pyo3::exceptions::{PyIndexError, PyUnicodeDecodeError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyBytes, PyDict, PyList, PyString, PyTuple};

use crate::errors::Raise;
use crate::values::delay_or_none;

/// A message, in flight until it is finished or requeued, or its timeout is over. Answers are plain calls
/// that only queue: what becomes of them is in Subscription.failures(). An answer after the first does
/// nothing. It outlives its subscription and client; dropped without an answer it goes back to its channel.
///
/// As a context manager it finishes itself on success; on an exception it is requeued, and the exception goes
/// on.
///
/// >>> import libmq
/// >>> with libmq.connect("mq:memory") as client:
/// ...     billing = client.subscribe("orders", "billing")
/// ...     receipt = client.publish("orders", '{"pizzas": 1}', headers={"colour": "red"})
/// ...     with billing.next(timeout=1) as message:
/// ...         message.json(), message.attempts, message.headers
/// ({'pizzas': 1}, 1, {'colour': 'red'})
#[pyclass(module = "libmq", frozen)]
pub(crate) struct Message {
    inner: Inner,
}

enum Inner {
    Alone(libmq::Message),
    /// A place in a batch.
    InBatch(Arc<libmq::Batch>, usize),
}

impl Deref for Inner {
    type Target = Delivery;

    fn deref(&self) -> &Delivery {
        match self {
            Self::Alone(message) => message,
            Self::InBatch(batch, at) => &batch[*at],
        }
    }
}

impl Message {
    pub(crate) fn new(message: libmq::Message) -> Self {
        Self { inner: Inner::Alone(message) }
    }

    /// Raises Forked in a child of fork, where an answer would do nothing.
    fn check_process(&self, py: Python<'_>) -> PyResult<()> {
        match &self.inner {
            Inner::Alone(message) => message.check_process(),
            Inner::InBatch(batch, _) => batch.check_process(),
        }
        .or_raise(py)
    }

    fn requeue_after(&self, py: Python<'_>, delay: Duration) -> PyResult<()> {
        self.check_process(py)?;
        match &self.inner {
            Inner::Alone(message) => message.requeue(delay),
            Inner::InBatch(batch, at) => batch.requeue(*at..=*at, delay),
        }
        Ok(())
    }
}

#[pymethods]
impl Message {
    /// The body.
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.inner.body())
    }

    /// The body as text: it is UTF-8.
    #[getter]
    fn text<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyString>> {
        text(py, self.inner.body())
    }

    /// The value that the body is as JSON.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipt = client.publish("orders", '{"pizzas": 1}')
    /// ...     billing.next(timeout=1).json()
    /// {'pizzas': 1}
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static LOADS: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let loads =
            LOADS.get_or_try_init(py, || Ok::<_, PyErr>(py.import("json")?.getattr("loads")?.unbind()))?;
        loads.bind(py).call1((self.body(py),))
    }

    /// The id that its broker gave it: 16 hex digits.
    #[getter]
    fn id(&self) -> String {
        self.inner.id().to_string()
    }

    /// 1 on the first delivery to this channel.
    #[getter]
    fn attempts(&self) -> u16 {
        self.inner.attempts()
    }

    /// Time of its publish, in UTC, to the microsecond.
    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        static TIMESTAMP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let get = || Ok::<_, PyErr>(py.import("libmq._time")?.getattr("timestamp")?.unbind());
        TIMESTAMP.get_or_try_init(py, get)?.bind(py).call1((self.inner.timestamp(),))
    }

    /// The same in nanoseconds since 1970.
    #[getter]
    fn timestamp_ns(&self) -> u64 {
        self.inner.timestamp()
    }

    /// Its place in its topic; None from nsqd, which does not say.
    #[getter]
    fn offset(&self) -> Option<u64> {
        self.inner.offset()
    }

    /// Its headers as text. Of a name that is repeated, the last value; of bytes that are not UTF-8, what can
    /// be read.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let headers = PyDict::new(py);
        for (name, value) in self.inner.headers() {
            headers.set_item(name, String::from_utf8_lossy(value))?;
        }
        Ok(headers)
    }

    /// Its headers as pairs of str and bytes, in the order in which they were published.
    #[getter]
    fn raw_headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let pairs = self.inner.headers().iter().map(|(name, value)| (name, PyBytes::new(py, value)));
        PyList::new(py, pairs.collect::<Vec<_>>())
    }

    /// Its broker: the address or folder.
    #[getter]
    fn broker(&self) -> &str {
        self.inner.broker()
    }

    /// Whether it was finished or requeued here.
    #[getter]
    fn is_answered(&self) -> bool {
        match &self.inner {
            Inner::Alone(message) => message.is_answered(),
            Inner::InBatch(batch, at) => batch.is_answered(*at),
        }
    }

    /// Finishes the message: the channel is done with it.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     message = billing.next(timeout=1)
    /// ...     message.finish()
    /// ...     message.is_answered
    /// True
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.check_process(py)?;
        match &self.inner {
            Inner::Alone(message) => message.finish(),
            Inner::InBatch(batch, at) => batch.finish(*at..=*at),
        }
        Ok(())
    }

    /// Returns the message to the channel, to be delivered again after `delay` seconds, or a timedelta. A
    /// delay beyond the broker's bound is cut to it.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     billing.next(timeout=1).requeue()
    /// ...     billing.next(timeout=1).attempts
    /// 2
    #[pyo3(signature = (delay=None))]
    fn requeue(&self, py: Python<'_>, delay: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.requeue_after(py, delay_or_none(delay)?)
    }

    /// Returns the message to the channel as one that nobody looked at: it is delivered again at once, before
    /// others, and this delivery does not count as an attempt. For nsqd it is a requeue without a delay.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     billing.next(timeout=1).release()
    /// ...     billing.next(timeout=1).attempts
    /// 1
    fn release(&self) {
        match &self.inner {
            Inner::Alone(message) => message.release(),
            Inner::InBatch(batch, at) => batch.release(*at..=*at),
        }
    }

    /// Starts the message's timeout anew.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     with billing.next(timeout=1) as message:
    /// ...         message.touch()
    fn touch(&self, py: Python<'_>) -> PyResult<()> {
        self.check_process(py)?;
        match &self.inner {
            Inner::Alone(message) => message.touch(),
            Inner::InBatch(batch, at) => batch.touch(*at..=*at),
        }
        Ok(())
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (kind, *_exception))]
    fn __exit__(&self, kind: &Bound<'_, PyAny>, _exception: &Bound<'_, PyTuple>) -> PyResult<()> {
        let py = kind.py();
        if kind.is_none() { self.finish(py) } else { self.requeue_after(py, Duration::ZERO) }
    }

    fn __repr__(&self) -> String {
        let (id, attempts, bytes) = (self.inner.id(), self.inner.attempts(), self.inner.body().len());
        format!("<libmq.Message {id} attempts={attempts} bytes={bytes}>")
    }
}

fn text<'py>(py: Python<'py>, body: &Bytes) -> PyResult<Bound<'py, PyString>> {
    match std::str::from_utf8(body) {
        Ok(text) => Ok(PyString::new(py, text)),
        Err(error) => Err(PyErr::from_value(PyUnicodeDecodeError::new_utf8(py, body, error)?.into_any())),
    }
}

/// Messages that came together. Iterating gives them one by one, each to be answered by itself; finish(),
/// requeue() and touch() answer all that have no answer yet, at the price of one.
///
/// >>> import libmq
/// >>> with libmq.connect("mq:memory") as client:
/// ...     billing = client.subscribe("orders", "billing")
/// ...     receipts = client.publish("orders", ["one pizza", "two pizzas", "three pizzas"])
/// ...     batch = billing.next_batch(timeout=1)
/// ...     len(batch), batch[0].text, batch[-1].text
/// ...     batch.finish()
/// (3, 'one pizza', 'three pizzas')
#[pyclass(module = "libmq", frozen)]
pub(crate) struct Batch {
    inner: Arc<libmq::Batch>,
}

impl Batch {
    pub(crate) fn new(inner: libmq::Batch) -> Self {
        Self { inner: Arc::new(inner) }
    }

    fn message(&self, at: usize) -> Message {
        Message { inner: Inner::InBatch(Arc::clone(&self.inner), at) }
    }
}

#[pymethods]
impl Batch {
    /// The bodies of its messages.
    #[getter]
    fn bodies<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        PyList::new(py, self.inner.iter().map(|message| PyBytes::new(py, message.body())))
    }

    /// Finishes those of its messages that have no answer yet.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipts = client.publish("orders", ["one pizza", "two pizzas"])
    /// ...     batch = billing.next_batch(timeout=1)
    /// ...     batch[0].requeue()
    /// ...     batch.finish()
    /// ...     billing.next(timeout=1).text
    /// 'one pizza'
    fn finish(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.check_process().or_raise(py)?;
        self.inner.finish(..);
        Ok(())
    }

    /// Returns those of its messages that have no answer yet to the channel, to be delivered again after
    /// `delay`.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipts = client.publish("orders", ["one pizza", "two pizzas"])
    /// ...     batch = billing.next_batch(timeout=1)
    /// ...     batch.requeue(delay=0)
    /// ...     billing.next(timeout=1).attempts
    /// 2
    #[pyo3(signature = (delay=None))]
    fn requeue(&self, py: Python<'_>, delay: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        self.inner.check_process().or_raise(py)?;
        self.inner.requeue(.., delay_or_none(delay)?);
        Ok(())
    }

    /// Returns those of its messages that have no answer yet as ones that nobody looked at: see
    /// Message.release().
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipts = client.publish("orders", ["one pizza", "two pizzas"])
    /// ...     billing.next_batch(timeout=1).release()
    /// ...     billing.next(timeout=1).attempts
    /// 1
    fn release(&self) {
        self.inner.release(..);
    }

    /// Starts the timeout anew of those of its messages that have no answer yet.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     billing = client.subscribe("orders", "billing")
    /// ...     receipts = client.publish("orders", ["one pizza", "two pizzas"])
    /// ...     batch = billing.next_batch(timeout=1)
    /// ...     batch.touch()
    /// ...     batch.finish()
    fn touch(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.check_process().or_raise(py)?;
        self.inner.touch(..);
        Ok(())
    }

    fn __len__(&self) -> usize {
        self.inner.len()
    }

    fn __getitem__(&self, at: isize) -> PyResult<Message> {
        let len = self.inner.len();
        let from_start = if at < 0 { len.checked_sub(at.unsigned_abs()) } else { Some(at.unsigned_abs()) };
        match from_start.filter(|&at| at < len) {
            Some(at) => Ok(self.message(at)),
            None => Err(PyIndexError::new_err(format!("the batch has {len} messages"))),
        }
    }

    fn __iter__(slf: Py<Self>) -> BatchIterator {
        BatchIterator { batch: slf, next: AtomicUsize::new(0) }
    }

    fn __repr__(&self) -> String {
        format!("<libmq.Batch of {}>", self.inner.len())
    }
}

/// The messages of a batch, one by one.
#[pyclass(module = "libmq", frozen)]
pub(crate) struct BatchIterator {
    batch: Py<Batch>,
    next: AtomicUsize,
}

#[pymethods]
impl BatchIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __next__(&self) -> Option<Message> {
        let (batch, at) = (self.batch.get(), self.next.fetch_add(1, Ordering::Relaxed));
        (at < batch.inner.len()).then(|| batch.message(at))
    }
}
