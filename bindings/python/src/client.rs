//! The client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use libmq::{Error, Start, SubscribeOptions};
use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyInt, PyType};

use crate::errors::{Raise, raise};
use crate::log::{Feed, Log};
use crate::operation::{Operation, Outcome};
use crate::publish::{Pending, receipts};
use crate::settings;
use crate::subscription::Subscription;
use crate::values::{Bodies, Extras, seconds, timeout, whole};
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
            format!("{}ms", seconds(&key, &value)?.as_millis())
        } else if let Ok(is_on) = value.extract::<bool>() {
            is_on.to_string()
        } else {
            value.str()?.to_string()
        };
        config.set(&key, &text).or_raise(py)?;
    }

    let log = Log::new();
    let connected = py.detach(|| log.within(|| libmq::connect_with(url, config)));
    log.emit(py);
    let inner = connected.or_raise(py)?;
    let watched = inner.clone();
    let feed = log.follow(move || {
        let client = watched.clone();
        async move { client.events_async().await }
    });
    Ok(Client { _feed: feed, inner, log, is_closed: Arc::default() })
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
    /// Makes log lines of the connections that publish.
    _feed: Feed,
    inner: libmq::Client,
    log: Arc<Log>,
    /// Whether it was closed here: its subscriptions end then.
    is_closed: Arc<AtomicBool>,
}

#[pymethods]
impl Client {
    /// Publishes one body, or any iterable of bodies as one batch, and waits until a broker has stored it: at
    /// most the client's publish_timeout. Returns a receipt, or a list of them.
    ///
    /// A body is bytes, bytearray, memoryview or str. `id`: another message with that id is not stored again
    /// while the topic remembers it; many bodies have a list of ids. `delay`: it is delivered no earlier.
    /// `timeout`: the longest wait, instead of publish_timeout; what was not sent by then never is.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     receipt = client.publish("orders", "one pizza", headers={"colour": "red"})
    /// ...     len(client.publish("orders", [b"two pizzas", b"three pizzas"]))
    /// 2
    #[expect(clippy::too_many_arguments, reason = "Python has names for them")]
    #[pyo3(signature = (topic, body, *, headers=None, id=None, delay=None, timeout=None))]
    fn publish<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        body: &Bound<'py, PyAny>,
        headers: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        delay: Option<&Bound<'py, PyAny>>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let Bodies { messages, are_many } = Bodies::extract(body, &Extras { headers, id, delay })?;
        let hurried = match timeout {
            Some(timeout) => Some(self.inner.with_publish_timeout(seconds("timeout", timeout)?)),
            None => None,
        };
        let client = hurried.as_ref().unwrap_or(&self.inner);
        let mut signal = None;
        let published = py.detach(|| {
            // At the end of the interpreter there is nothing left to ask.
            let mut interrupted = || {
                let check = |py: Python<'_>| py.check_signals().map_err(|e| signal = Some(e)).is_err();
                Python::try_attach(check).unwrap_or(true)
            };
            client.publish_encoded(topic, Ok(messages), &mut interrupted)
        });
        self.log.emit(py);
        match signal {
            Some(raised) => Err(raised),
            None => receipts(py, &published.or_raise(py)?, are_many),
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
        let sent = self.inner.send_encoded(topic, Ok(messages));
        self.log.emit(py);
        Ok(Pending::new(sent.or_raise(py)?, are_many, Arc::clone(&self.log)))
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
        let flushed =
            in_turns(py, self::timeout(timeout)?, &self.log, |turn| match self.inner.flush(turn) {
                Ok(1..) => None,
                other => Some(other),
            })?;
        flushed.unwrap_or_else(|| self.inner.flush(Duration::ZERO)).or_raise(py)
    }

    /// Subscribes to a channel, and creates it and its topic where they are missing. What is published after
    /// it returns comes to the channel: it waits for the first attempt at each broker, at most 5 s. A broker
    /// that was not reached is tried again in the background.
    ///
    /// `max_in_flight`: most messages that are here without an answer. `msg_timeout`: longest time that one
    /// may be, before it is delivered again. `sample_rate`: percent of the messages that come, 0 for all.
    /// `start`, where a channel that is created begins: "waiting" (what waits in the topic), "earliest",
    /// "latest", an offset, or a datetime with its time zone. `max_message_bytes`: most bytes of body and
    /// headers of a message that comes; a larger one is put aside for `msg_timeout`, and then goes to another
    /// subscriber of the channel that takes it. `max_in_flight_bytes`: most bytes of bodies that are in
    /// flight here, over all brokers: each has an equal share, and sends a single message that is larger when
    /// nothing else of it is in flight.
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
    #[pyo3(
        signature = (
            topic, channel, *, max_in_flight=None, msg_timeout=None, sample_rate=None, start=None,
            max_message_bytes=None, max_in_flight_bytes=None
        ),
        text_signature = "(self, topic, channel, *, max_in_flight=200, msg_timeout=None, sample_rate=0, start=None, max_message_bytes=0, max_in_flight_bytes=0)"
    )]
    fn subscribe(
        &self,
        py: Python<'_>,
        topic: &str,
        channel: &str,
        max_in_flight: Option<&Bound<'_, PyAny>>,
        msg_timeout: Option<&Bound<'_, PyAny>>,
        sample_rate: Option<&Bound<'_, PyAny>>,
        start: Option<&Bound<'_, PyAny>>,
        max_message_bytes: Option<&Bound<'_, PyAny>>,
        max_in_flight_bytes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Subscription> {
        let subscription = self._subscribe(
            py,
            topic,
            channel,
            max_in_flight,
            msg_timeout,
            sample_rate,
            start,
            max_message_bytes,
            max_in_flight_bytes,
        )?;
        subscription.wait_opened(py)?;
        Ok(subscription)
    }

    /// As subscribe(), without waiting for brokers: libmq.aio.
    #[expect(clippy::too_many_arguments, reason = "those of subscribe()")]
    fn _subscribe(
        &self,
        py: Python<'_>,
        topic: &str,
        channel: &str,
        max_in_flight: Option<&Bound<'_, PyAny>>,
        msg_timeout: Option<&Bound<'_, PyAny>>,
        sample_rate: Option<&Bound<'_, PyAny>>,
        start: Option<&Bound<'_, PyAny>>,
        max_message_bytes: Option<&Bound<'_, PyAny>>,
        max_in_flight_bytes: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Subscription> {
        let mut options = SubscribeOptions {
            max_in_flight: max_in_flight.map_or(Ok(200), |max| whole("max_in_flight", max))?,
            sample_rate: sample_rate.map_or(Ok(0), |rate| whole("sample_rate", rate))?,
            max_message_bytes: max_message_bytes.map_or(Ok(0), |max| whole("max_message_bytes", max))?,
            max_in_flight_bytes: max_in_flight_bytes
                .map_or(Ok(0), |max| whole("max_in_flight_bytes", max))?,
            ..SubscribeOptions::default()
        };
        if let Some(msg_timeout) = msg_timeout {
            options.msg_timeout = seconds("msg_timeout", msg_timeout)?;
        }
        if let Some(start) = start {
            options.start = self::start(start)?;
        }
        let begun = py.detach(|| self.inner.subscribe_in_background(topic, channel, options));
        self.log.emit(py);
        let (log, is_closed) = (Arc::clone(&self.log), Arc::clone(&self.is_closed));
        Ok(Subscription::new(begun.or_raise(py)?, topic, channel, log, is_closed))
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
            Some(timeout) => seconds("timeout", timeout)?,
            None => self.inner.publish_timeout().or_raise(py)?,
        };
        let began = Instant::now();
        // Outcomes first, so that what is sent goes on as long as there is time.
        in_turns(py, timeout, &self.log, |turn| match self.inner.flush(turn) {
            Ok(1..) => None,
            _ => Some(()),
        })?;
        let left = timeout.saturating_sub(began.elapsed());
        self.is_closed.store(true, Ordering::Release);
        let closed = py.detach(|| self.log.within(|| self.inner.close(left)));
        self.log.emit(py);
        closed.or_raise(py)
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

    /// The settings of a topic, as libmq.TopicSettings. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_topic("orders")
    /// ...     client.topic_settings("orders").max_messages
    /// 0
    fn topic_settings<'py>(&self, py: Python<'py>, topic: &str) -> PyResult<Bound<'py, PyAny>> {
        let found = py.detach(|| self.inner.topic_settings(topic)).or_raise(py)?;
        settings::give_topic(py, &found)
    }

    /// Changes the settings of a topic, all at once, for every publish from now on and over restarts. Of a
    /// broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_channel("orders", "billing")
    /// ...     settings = client.topic_settings("orders")
    /// ...     settings.max_messages = 1
    /// ...     settings.overflow = "drop-oldest"
    /// ...     client.set_topic_settings("orders", settings)
    /// ...     receipts = [client.publish("orders", body) for body in ("one pizza", "two pizzas")]
    /// ...     client.subscribe("orders", "billing").next(timeout=1).text
    /// 'two pizzas'
    fn set_topic_settings(&self, py: Python<'_>, topic: &str, settings: &Bound<'_, PyAny>) -> PyResult<()> {
        let (mut settings, has_level) = settings::take_topic(settings)?;
        py.detach(|| {
            if !has_level {
                settings.durability = self.inner.topic_settings(topic)?.durability;
            }
            self.inner.set_topic_settings(topic, settings)
        })
        .or_raise(py)
    }

    /// The settings of a channel, as libmq.ChannelSettings. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_channel("orders", "billing")
    /// ...     client.channel_settings("orders", "billing").max_attempts
    /// 0
    fn channel_settings<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        channel: &str,
    ) -> PyResult<Bound<'py, PyAny>> {
        let found = py.detach(|| self.inner.channel_settings(topic, channel)).or_raise(py)?;
        settings::give_channel(py, &found)
    }

    /// Changes the settings of a channel, all at once, for every message that comes back from now on and over
    /// restarts. Of a broker in this process.
    ///
    /// >>> import libmq
    /// >>> with libmq.connect("mq:memory") as client:
    /// ...     client.create_channel("orders", "billing")
    /// ...     settings = client.channel_settings("orders", "billing")
    /// ...     settings.max_attempts = 1
    /// ...     settings.dead_letter_topic = "orders.dead"
    /// ...     client.set_channel_settings("orders", "billing", settings)
    /// ...     receipt = client.publish("orders", "no pizza at all")
    /// ...     client.subscribe("orders", "billing").next(timeout=5).requeue()
    /// ...     client.subscribe("orders.dead", "kitchen").next(timeout=5).text
    /// 'no pizza at all'
    fn set_channel_settings(
        &self,
        py: Python<'_>,
        topic: &str,
        channel: &str,
        settings: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let settings = settings::take_channel(settings)?;
        py.detach(|| self.inner.set_channel_settings(topic, channel, settings)).or_raise(py)
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
                let rest = (c.timed_out, c.dead_lettered, c.subscribers, c.paused);
                channels.push(channel_class.call1((
                    c.name, counts.0, counts.1, counts.2, counts.3, counts.4, counts.5, rest.0, rest.1,
                    rest.2, rest.3,
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
        let by = seconds("by", by)?;
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
        Ok(Operation::with_end(&self.log, |end| async move {
            let stored = client.publish_encoded_async(&topic, Ok(messages), end).await?;
            Ok(Outcome::Receipts(stored, are_many))
        }))
    }

    /// A flush for an event loop: libmq.aio.
    fn _flush_operation(&self) -> Operation {
        let client = self.inner.clone();
        Operation::new(&self.log, async move { client.flush_async().await.map(|()| Outcome::Done) })
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
    if start.cast::<PyInt>().is_ok() {
        return Ok(Start::Offset(whole("start", start)?));
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
    let Ok(seconds) = start.call_method0("timestamp") else {
        return Err(PyTypeError::new_err("start is a word, an offset or a datetime"));
    };
    if start.call_method0("utcoffset")?.is_none() {
        let why = "start is a datetime without a time zone: datetime.now(timezone.utc) has one";
        return Err(raise(start.py(), &Error::Invalid(why.to_owned())));
    }
    let seconds: f64 = seconds.extract()?;
    Ok(Start::Time((seconds.max(0.0) * 1e9) as u64))
}
