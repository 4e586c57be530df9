//! The client.

use std::time::{Duration, Instant};

use libmq::{Error, Start, SubscribeOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyType};

use crate::errors::{Raise, raise};
use crate::operation::{Operation, Outcome};
use crate::publish::{Pending, receipts};
use crate::subscription::Subscription;
use crate::values::{Bodies, Extras, seconds, timeout};
use crate::wait::in_turns;

/// Connects to brokers, or opens one in this process.
#[pyfunction]
#[pyo3(signature = (url, **settings))]
pub(crate) fn connect(py: Python<'_>, url: &str, settings: Option<&Bound<'_, PyDict>>) -> PyResult<Client> {
    let mut config = libmq::Config::default();
    for (key, value) in settings.into_iter().flatten() {
        let key: String = key.extract()?;
        let is_duration =
            ["publish_timeout", "max_reconnect_delay", "lookup_poll_interval", "heartbeat_interval"];
        let text = if is_duration.contains(&key.as_str()) {
            format!("{}ms", seconds(&value)?.as_millis())
        } else if let Ok(is_on) = value.extract::<bool>() {
            is_on.to_string()
        } else {
            value.str()?.to_string()
        };
        config.set(&key, &text).or_raise(py)?;
    }

    let inner = py.detach(|| libmq::connect_with(url, config)).or_raise(py)?;
    Ok(Client { inner })
}

/// A client of brokers, or of one in this process: what libmq.connect() returns. To be shared between
/// threads. As a context manager it closes itself.
///
/// >>> import libmq
/// >>> with libmq.connect("mq:memory") as client:
/// ...     receipt = client.publish("orders", "one pizza")
/// ...     client.subscribe("orders", "billing").next(timeout=1).text
/// 'one pizza'
#[pyclass(module = "libmq", frozen, weakref)]
pub(crate) struct Client {
    inner: libmq::Client,
}

#[pymethods]
impl Client {
    /// Publishes one body, or any iterable of bodies as one batch, and waits until a broker has stored it: at
    /// most the client's publish_timeout. Returns a receipt, or a list of them.
    ///
    /// A body is bytes, bytearray, memoryview or str. `id`: another message with that id is not stored again
    /// while the topic remembers it; many bodies have a list of ids. `delay`: it is delivered no earlier.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     receipt = client.publish("orders", "one pizza", headers={"colour": "red"})
    /// ...     len(client.publish("orders", [b"two pizzas", b"three pizzas"]))
    /// 2
    #[pyo3(signature = (topic, body, *, headers=None, id=None, delay=None))]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        body: &Bound<'py, PyAny>,
        headers: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Bodies { messages, are_many } = Bodies::extract(body, &Extras { headers, id, delay })?;
        let mut signal = None;
        let published = py.detach(|| {
            // At the end of the interpreter there is nothing left to ask.
            let interrupted = || {
                let check = |py: Python<'_>| py.check_signals().map_err(|e| signal = Some(e)).is_err();
                Python::try_attach(check).unwrap_or(true)
            };
            self.inner.publish_unless(topic, messages, interrupted)
        });
        match signal {
            Some(raised) => Err(raised),
            None => receipts(py, published.or_raise(py)?, are_many),
        }
    }

    /// Publishes in the background: the Pending says how far it is. Raises BufferFull if too much waits
    /// already. Else as publish().
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     pending = client.send("orders", "one pizza")
    /// ...     pending.result(timeout=5).duplicate
    /// False
    #[pyo3(signature = (topic, body, *, headers=None, id=None, delay=None))]
    fn send(
        &self,
        py: Python<'_>,
        topic: &str,
        body: &Bound<'_, PyAny>,
        headers: Option<&Bound<'_, PyAny>>,
        id: Option<&Bound<'_, PyAny>>,
        delay: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Pending> {
        let Bodies { messages, are_many } = Bodies::extract(body, &Extras { headers, id, delay })?;
        let sent = self.inner.send_many(topic, messages).or_raise(py)?;
        Ok(Pending::new(sent, are_many))
    }

    /// Waits until everything that was sent has its outcome. Returns how many publishes have none.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     pending = [client.send("orders", str(number)) for number in range(100)]
    /// ...     client.flush(timeout=5)
    /// 0
    #[pyo3(signature = (timeout=None))]
    fn flush(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<usize> {
        let flushed = in_turns(py, self::timeout(timeout)?, |turn| match self.inner.flush(turn) {
            Ok(1..) => None,
            other => Some(other),
        })?;
        flushed.unwrap_or_else(|| self.inner.flush(Duration::ZERO)).or_raise(py)
    }

    /// Subscribes to a channel, and creates it and its topic where they are missing.
    ///
    /// `max_in_flight`: most messages that are here without an answer. `msg_timeout`: longest time that one
    /// may be, before it is delivered again. `sample_rate`: percent of the messages that come, 0 for all.
    /// `start`, where a channel that is created begins: "waiting" (what waits in the topic), "earliest",
    /// "latest", an offset, or a datetime.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     with client.subscribe("orders", "billing") as billing:
    /// ...         receipt = client.publish("orders", "one pizza")
    /// ...         for message in billing:
    /// ...             print(message.text)
    /// ...             message.finish()
    /// ...             break
    /// one pizza
    #[expect(clippy::too_many_arguments, reason = "Python has names for them")]
    #[pyo3(signature = (topic, channel, *, max_in_flight=200, msg_timeout=None, sample_rate=0, start=None))]
    fn subscribe(
        &self,
        py: Python<'_>,
        topic: &str,
        channel: &str,
        max_in_flight: u32,
        msg_timeout: Option<&Bound<'_, PyAny>>,
        sample_rate: u8,
        start: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Subscription> {
        let mut options = SubscribeOptions { max_in_flight, sample_rate, ..SubscribeOptions::default() };
        if let Some(msg_timeout) = msg_timeout {
            options.msg_timeout = seconds(msg_timeout)?;
        }
        if let Some(start) = start {
            options.start = self::start(start)?;
        }
        let subscribed = py.detach(|| self.inner.subscribe(topic, channel, options));
        Ok(Subscription::new(subscribed.or_raise(py)?))
    }

    /// Closes the client: waits for the outcome of every publish, ends its subscriptions, and stops a broker
    /// in this process. Raises Timeout if publishes have no outcome by then; without a timeout this is
    /// after the client's publish_timeout. A second call does nothing.
    ///
    /// >>> import libmq
    /// >>> client = libmq.connect("mq:memory")
    /// >>> client.close(timeout=5)
    /// >>> client.publish("orders", "one pizza")
    /// Traceback (most recent call last):
    ///     ...
    /// libmq.Closed: the client or subscription is closed
    #[pyo3(signature = (timeout=None))]
    fn close(&self, py: Python<'_>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let timeout = match timeout {
            Some(timeout) => seconds(timeout)?,
            None => self.inner.publish_timeout().or_raise(py)?,
        };
        let began = Instant::now();
        // Outcomes first, so that what is sent goes on as long as there is time.
        in_turns(py, timeout, |turn| match self.inner.flush(turn) {
            Ok(1..) => None,
            _ => Some(()),
        })?;
        let left = timeout.saturating_sub(began.elapsed());
        py.detach(|| self.inner.close(left)).or_raise(py)
    }

    /// Creates a topic, if it is missing. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_topic("orders")
    /// ...     [topic.name for topic in client.stats().topics]
    /// ['orders']
    fn create_topic(&self, py: Python<'_>, topic: &str) -> PyResult<()> {
        py.detach(|| self.inner.create_topic(topic)).or_raise(py)
    }

    /// Deletes a topic, its channels and their messages. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_topic("orders")
    /// ...     client.delete_topic("orders")
    /// ...     client.stats().topics
    /// []
    fn delete_topic(&self, py: Python<'_>, topic: &str) -> PyResult<()> {
        py.detach(|| self.inner.delete_topic(topic)).or_raise(py)
    }

    /// Drops the messages of a topic that no channel has. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     client.empty_topic("orders")
    /// ...     client.stats().topics[0].depth
    /// 0
    fn empty_topic(&self, py: Python<'_>, topic: &str) -> PyResult<()> {
        py.detach(|| self.inner.empty_topic(topic)).or_raise(py)
    }

    /// Keeps what is published to a topic from its channels. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_topic("orders")
    /// ...     client.pause_topic("orders")
    /// ...     client.stats().topics[0].paused
    /// True
    fn pause_topic(&self, py: Python<'_>, topic: &str) -> PyResult<()> {
        py.detach(|| self.inner.pause_topic(topic)).or_raise(py)
    }

    /// Undoes pause_topic().
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_topic("orders")
    /// ...     client.pause_topic("orders")
    /// ...     client.unpause_topic("orders")
    /// ...     client.stats().topics[0].paused
    /// False
    fn unpause_topic(&self, py: Python<'_>, topic: &str) -> PyResult<()> {
        py.detach(|| self.inner.unpause_topic(topic)).or_raise(py)
    }

    /// Creates a channel and its topic, where they are missing. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_channel("orders", "billing")
    /// ...     client.stats().topics[0].channels[0].name
    /// 'billing'
    fn create_channel(&self, py: Python<'_>, topic: &str, channel: &str) -> PyResult<()> {
        py.detach(|| self.inner.create_channel(topic, channel)).or_raise(py)
    }

    /// Deletes a channel and its messages; its subscriptions end. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_channel("orders", "billing")
    /// ...     client.delete_channel("orders", "billing")
    /// ...     client.stats().topics[0].channels
    /// []
    fn delete_channel(&self, py: Python<'_>, topic: &str, channel: &str) -> PyResult<()> {
        py.detach(|| self.inner.delete_channel(topic, channel)).or_raise(py)
    }

    /// Drops the messages of a channel. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_channel("orders", "billing")
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     client.empty_channel("orders", "billing")
    /// ...     client.stats().topics[0].channels[0].depth
    /// 0
    fn empty_channel(&self, py: Python<'_>, topic: &str, channel: &str) -> PyResult<()> {
        py.detach(|| self.inner.empty_channel(topic, channel)).or_raise(py)
    }

    /// Stops delivery to the subscriptions of a channel. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_channel("orders", "billing")
    /// ...     client.pause_channel("orders", "billing")
    /// ...     client.stats().topics[0].channels[0].paused
    /// True
    fn pause_channel(&self, py: Python<'_>, topic: &str, channel: &str) -> PyResult<()> {
        py.detach(|| self.inner.pause_channel(topic, channel)).or_raise(py)
    }

    /// Undoes pause_channel().
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_channel("orders", "billing")
    /// ...     client.pause_channel("orders", "billing")
    /// ...     client.unpause_channel("orders", "billing")
    /// ...     client.stats().topics[0].channels[0].paused
    /// False
    fn unpause_channel(&self, py: Python<'_>, topic: &str, channel: &str) -> PyResult<()> {
        py.detach(|| self.inner.unpause_channel(topic, channel)).or_raise(py)
    }

    /// The numbers of all topics and channels, as libmq.Stats. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     receipt = client.publish("orders", "one pizza")
    /// ...     client.stats().topics[0].depth
    /// 1
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats = py.detach(|| self.inner.stats()).or_raise(py)?;
        let module = py.import("libmq._stats")?;
        let class = |name| module.getattr(name)?.cast_into::<PyType>().map_err(PyErr::from);
        let (channel_class, topic_class) = (class("ChannelStats")?, class("TopicStats")?);
        let mut topics = Vec::new();
        for topic in stats.topics {
            let mut channels = Vec::new();
            for c in topic.channels {
                let counts = (c.depth, c.in_flight, c.deferred, c.message_count, c.finished, c.requeued);
                let rest = (c.timed_out, c.subscribers, c.paused);
                channels.push(channel_class.call1((
                    c.name, counts.0, counts.1, counts.2, counts.3, counts.4, counts.5, rest.0, rest.1,
                    rest.2,
                ))?);
            }
            topics.push(topic_class.call1((
                topic.name,
                topic.depth,
                topic.message_count,
                topic.message_bytes,
                topic.duplicates,
                topic.paused,
                channels,
            ))?);
        }
        class("Stats")?.call1((topics,))
    }

    /// Serves a broker in this process to others, until the client is closed, as the flags of `mq serve` say.
    /// Without flags these are its default addresses, all of this machine alone. Returns the addresses, by
    /// "tcp", "http", "https" and "grpc".
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     served = client.serve("--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address=")
    /// ...     with libmq.connect(f"mq://{served['tcp']}") as other:
    /// ...         receipt = other.publish("orders", "one pizza")
    /// ...     client.stats().topics[0].depth
    /// 1
    #[pyo3(signature = (*flags))]
    fn serve<'py>(&self, py: Python<'py>, flags: Vec<String>) -> PyResult<Bound<'py, PyDict>> {
        let addresses = py.detach(|| self.inner.serve(flags)).or_raise(py)?;
        let served = PyDict::new(py);
        let others = [("http", addresses.http), ("https", addresses.https), ("grpc", addresses.grpc)];
        for (name, address) in [("tcp", Some(addresses.tcp))].into_iter().chain(others) {
            if let Some(address) = address {
                served.set_item(name, address)?;
            }
        }
        Ok(served)
    }

    /// Moves the time of a broker with a test clock on: see libmq.testing.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory", test_clock=True) as client:
    /// ...     receipt = client.publish("orders", "one pizza", delay=3600)
    /// ...     client.advance(3600)
    /// ...     client.subscribe("orders", "billing").next(timeout=0).text
    /// 'one pizza'
    fn advance(&self, py: Python<'_>, by: &Bound<'_, PyAny>) -> PyResult<()> {
        let by = seconds(by)?;
        py.detach(|| self.inner.advance(by)).or_raise(py)
    }

    /// A publish for an event loop: libmq.aio.
    #[pyo3(signature = (topic, body, *, headers=None, id=None, delay=None))]
    fn _publish_operation(
        &self,
        topic: String,
        body: &Bound<'_, PyAny>,
        headers: Option<&Bound<'_, PyAny>>,
        id: Option<&Bound<'_, PyAny>>,
        delay: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Operation> {
        let Bodies { messages, are_many } = Bodies::extract(body, &Extras { headers, id, delay })?;
        let client = self.inner.clone();
        Ok(Operation::new(async move {
            let receipts = client.publish_many_async(&topic, messages).await?;
            Ok(Outcome::Receipts(receipts, are_many))
        }))
    }

    /// A flush for an event loop: libmq.aio.
    fn _flush_operation(&self) -> Operation {
        let client = self.inner.clone();
        Operation::new(async move { client.flush_async().await.map(|()| Outcome::Flushed) })
    }

    fn __enter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[pyo3(signature = (kind, *_exception))]
    fn __exit__(
        &self,
        py: Python<'_>,
        kind: &Bound<'_, PyAny>,
        _exception: &Bound<'_, pyo3::types::PyTuple>,
    ) -> PyResult<()> {
        let closed = self.close(py, None);
        // The exception that left the block says more than what could not be published for it.
        if kind.is_none() { closed } else { Ok(()) }
    }

    fn __repr__(&self) -> String {
        format!("<libmq.{:?}>", self.inner)
    }
}

fn start(start: &Bound<'_, PyAny>) -> PyResult<Start> {
    if let Ok(offset) = start.extract::<u64>() {
        return Ok(Start::Offset(offset));
    }
    if let Ok(name) = start.extract::<String>() {
        return match name.as_str() {
            "waiting" => Ok(Start::Waiting),
            "earliest" => Ok(Start::Earliest),
            "latest" => Ok(Start::Latest),
            _ => {
                let why = format!(
                    "start is {name:?}: \"waiting\", \"earliest\", \"latest\", an offset or a datetime"
                );
                Err(raise(start.py(), &Error::Invalid(why)))
            }
        };
    }
    match start.call_method0("timestamp") {
        Ok(seconds) => {
            let seconds: f64 = seconds.extract()?;
            Ok(Start::Time((seconds.max(0.0) * 1e9) as u64))
        }
        Err(_) => Err(PyTypeError::new_err("start is a word, an offset or a datetime")),
    }
}
