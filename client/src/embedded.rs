//! A broker in this process.

mod admin;
mod consumer;
#[cfg(feature = "serve")]
mod serve;
/// Nanoseconds of a duration; 584 years at most.
fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod stalled_disk;

pub(crate) use admin::Change;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mq_core::sync::Mutex;
use mq_core::{
    Attributes, Broker, ChannelName, Clock, Durability, ErrorKind, HeadersBuf, ManualClock, MessageId,
    Options, Published, SystemClock, TopicName,
};
use mq_nsq::wire::extension::Record;

use crate::config::Config;
use crate::delivery::{Delivery, DeliveryKey};
use crate::error::{Error, Result};
use crate::fork::ChildCloses;
use crate::outgoing::Outgoing;
use crate::peeked::Peeked;
use crate::publish::{Buffer, Next, Publication, Queue, Stored};
use crate::signal::INTERRUPT_EVERY;
use crate::subscription::{Source, SubscribeOptions};

/// Longest time that dropping a client waits for what was sent.
const DROP_MAX: Duration = Duration::from_secs(5);

/// Most bytes of files of a broker without a folder, which are in memory too: the least that their bound can
/// be.
const MEMORY_FILES_MAX: u64 = 512 << 20;

/// Bytes of messages that one look at a topic shows, as a broker over the network does.
const PEEK_BYTES: usize = 1 << 20;

/// A broker, and the thread that publishes what is sent without waiting.
pub(crate) struct Embedded {
    place: Arc<BrokerPlace>,
    queue: Arc<Queue>,
    /// `None` once it is closed.
    thread: Mutex<Option<JoinHandle<()>>>,
    #[cfg(feature = "serve")]
    listeners: serve::Listeners,
}

/// A broker on its folder, or without one. Fields are dropped in order: no child may close a descriptor that
/// is not the broker's any more.
struct BrokerPlace {
    _locks: ChildCloses,
    broker: Broker,
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    /// The same clock, where the program moves it.
    manual_clock: Option<Arc<ManualClock>>,
}

impl Embedded {
    /// Opens the folder, or a broker without one.
    pub(crate) fn open(folder: Option<PathBuf>, config: &Config, buffer: &Arc<Buffer>) -> Result<Self> {
        if config.test_clock && folder.is_some() {
            return Err(Error::Invalid(
                "test_clock is for mq:memory: a folder has the system's time".to_owned(),
            ));
        }
        let (name, default): (Arc<str>, _) = match &folder {
            None => ("mq:memory".into(), Durability::Memory),
            Some(folder) => (folder.display().to_string().into(), Durability::Flush),
        };
        let durability = config.durability.unwrap_or(default);
        let options = Options { durability, memory_limit: config.memory_limit, ..Options::default() };
        let system = SystemClock::new();
        let manual_clock = config.test_clock.then(|| Arc::new(ManualClock::new(system.wall())));
        let clock: Arc<dyn Clock> = match &manual_clock {
            Some(clock) => clock.clone(),
            None => Arc::new(system),
        };
        let opened = match &folder {
            None => {
                let options = Options { max_disk_bytes: MEMORY_FILES_MAX, ..options };
                Broker::open_in_memory(options, Arc::clone(&clock))
            }
            Some(folder) => Broker::open(Options { data_path: folder.clone(), ..options }),
        };
        let broker = opened.map_err(|error| match (error.kind(), folder) {
            (ErrorKind::Locked, Some(folder)) => {
                let text = error.to_string();
                let pid = text.rsplit_once("process ").and_then(|(_, pid)| pid.parse().ok());
                Error::Locked { folder, pid }
            }
            _ => failed(&error, &name),
        })?;
        Self::over(broker, name, clock, manual_clock, buffer)
    }

    /// The place that an open broker is, with its thread.
    fn over(
        broker: Broker,
        name: Arc<str>,
        clock: Arc<dyn Clock>,
        manual_clock: Option<Arc<ManualClock>>,
        buffer: &Arc<Buffer>,
    ) -> Result<Self> {
        let locks = ChildCloses::new(broker.lock_descriptors());
        let place = Arc::new(BrokerPlace { _locks: locks, broker, name, clock, manual_clock });
        let queue = Arc::new(Queue::new(buffer));
        let (sender, due) = (Arc::clone(&place), Arc::clone(&queue));
        let thread = std::thread::Builder::new().name("libmq-publish".to_owned());
        let thread = thread
            .spawn(move || {
                sender.run(&due);
                due.end();
            })
            .map_err(|error| Error::Refused {
                why: error.to_string(),
                broker: "the broker in this process".to_owned(),
                retry: true,
            })?;
        Ok(Self {
            place,
            queue,
            thread: Mutex::new(Some(thread)),
            #[cfg(feature = "serve")]
            listeners: serve::Listeners::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.place.name
    }

    pub(crate) fn push(&self, publication: Publication) {
        self.queue.push(publication);
    }

    /// Publishes on this thread, and waits until `deadline` or until it is interrupted: a disk may stall.
    pub(crate) fn publish(
        &self,
        topic: &TopicName,
        messages: &Outgoing,
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Stored> {
        let turn = || {
            let left = deadline.map_or(INTERRUPT_EVERY, |end| end.saturating_duration_since(Instant::now()));
            left.min(INTERRUPT_EVERY)
        };
        loop {
            let turn = turn();
            if self.place.broker.wait_for_room(turn) {
                break;
            }
            if turn < INTERRUPT_EVERY || interrupted() {
                let why = "has no room: more is published than it writes";
                return Err(Error::Timeout(format!("{} {why}", self.name())));
            }
        }
        let published = self.place.begin(topic, messages)?;
        loop {
            let turn = turn();
            if let Some(decided) = published.wait_for(&self.place.broker, turn) {
                return self.place.stored(&published, decided);
            }
            if turn < INTERRUPT_EVERY || interrupted() {
                let why = "the disk did not answer in time".to_owned();
                return Err(Error::Unknown { why, broker: self.name().to_owned() });
            }
        }
    }

    pub(crate) fn subscribe(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
        options: SubscribeOptions,
    ) -> Result<Arc<dyn Source>> {
        consumer::start(Arc::clone(&self.place), topic, channel, options)
    }

    /// Looks at a topic. May wait for the disk.
    pub(crate) fn peek(&self, topic: &TopicName, from: Option<MessageId>, max: usize) -> Result<Peeked> {
        self.place.peek(topic, from, max)
    }

    /// The same on a thread that may wait.
    pub(crate) fn peek_on_thread(
        &self,
        topic: TopicName,
        from: Option<MessageId>,
        max: usize,
    ) -> Result<tokio::task::JoinHandle<Result<Peeked>>> {
        let place = Arc::clone(&self.place);
        Ok(crate::remote::runtime()?.spawn_blocking(move || place.peek(&topic, from, max)))
    }

    /// Moves a test clock on, and does what is due by then.
    pub(crate) fn advance(&self, by: Duration) -> Result<()> {
        let Some(clock) = &self.place.manual_clock else {
            let what = "advance: only \"mq:memory?test_clock=true\" has a clock that the program moves";
            return Err(Error::Unsupported { what: what.to_owned(), broker: self.name().to_owned() });
        };
        clock.advance(nanos(by));
        self.place.broker.run_timers();
        Ok(())
    }

    /// Publishes what is queued, drops the clients of its listeners, and stops the broker. A second call does
    /// nothing.
    pub(crate) fn close(&self) -> Result<()> {
        self.queue.close();
        #[cfg(feature = "serve")]
        self.listeners.stop();
        // What has no outcome by now gets one by this: unknown.
        let closed = self.place.broker.close().map_err(|error| failed(&error, &self.place.name));
        if let Some(thread) = self.thread.lock().take() {
            // A panic there was reported by its thread.
            let _ = thread.join();
        }
        closed
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        #[cfg(feature = "serve")]
        self.listeners.stop();
        self.queue.close();
        // A disk that stalls must not hold up whoever drops the client: the thread then goes on by itself.
        // The broker stops with the last that holds it, which may be a subscription.
        let has_ended = self.queue.wait_for_end(Some(Instant::now() + DROP_MAX));
        if let Some(thread) = self.thread.get_mut().take()
            && has_ended
        {
            // A panic there was reported by its thread.
            let _ = thread.join();
        }
    }
}

impl BrokerPlace {
    /// Publishes what is queued, as many at once as there are, until the queue is closed.
    fn run(&self, queue: &Queue) {
        loop {
            let _ = queue.signal.block_until(None, || queue.is_due().then_some(()));
            let mut begun = Vec::new();
            let closed = loop {
                match queue.pop() {
                    Next::Publication(Publication { topic, messages, slot, .. }) => {
                        // Until it is there, the publish has not been sent.
                        self.broker.wait_for_room(Duration::MAX);
                        if slot.start(&self.name) {
                            let published = self.begin(&topic, &messages);
                            begun.push((slot, published));
                        }
                    }
                    Next::Nothing => break false,
                    Next::Closed => break true,
                }
            };
            for (slot, published) in begun {
                let stored = published.and_then(|published| {
                    let decided = published.wait(&self.broker);
                    self.stored(&published, decided)
                });
                slot.settle(&queue.buffer, stored);
            }
            if closed {
                return;
            }
        }
    }

    fn begin(&self, topic: &TopicName, messages: &Outgoing) -> Result<Published> {
        let failed = |error| failed(&error, &self.name);
        let topic = self.broker.topic(topic).map_err(failed)?;
        let mut batch = topic.batch();
        for Record { attributes, body } in messages.records() {
            let encoded = attributes.map_err(Error::invalid)?;
            let mut headers = HeadersBuf::new();
            for header in encoded.headers.iter() {
                let (name, value) = header.map_err(Error::invalid)?;
                headers.push(name, value).map_err(failed)?;
            }
            let attributes = Attributes {
                not_before: self.broker.wall_after(encoded.delay),
                dedup_id: encoded.id,
                headers: headers.as_attribute(),
            };
            batch.push(&attributes, body).map_err(failed)?;
        }
        topic.publish(batch, None).map_err(failed)
    }

    /// Looks at a topic; a missing one shows nothing.
    fn peek(&self, topic: &TopicName, from: Option<MessageId>, max: usize) -> Result<Peeked> {
        let mut messages = Vec::new();
        let Some(topic) = self.broker.find_topic(topic) else {
            return Ok(Peeked { messages, next: from, channels: 0 });
        };
        let mut sink = |delivery: mq_core::Delivery<'_>| {
            let headers = mq_core::Headers::new(delivery.attributes.headers);
            let copied = |(name, value): (&str, &[u8])| (name.to_owned(), Bytes::copy_from_slice(value));
            messages.push(Delivery {
                key: DeliveryKey { id: delivery.id, token: None, connection: 0 },
                body: Bytes::copy_from_slice(delivery.body),
                headers: headers.map(copied).collect(),
                attempts: delivery.attempts,
                timestamp: delivery.time.0,
                offset: Some(delivery.id.offset().0),
                broker: Arc::clone(&self.name),
            });
        };
        let next = topic.peek(from.map(MessageId::offset), max, PEEK_BYTES, &mut sink);
        let next = next.map_err(|error| failed(&error, &self.name))?;
        Ok(Peeked { messages, next: Some(MessageId(next.0)), channels: topic.channels().len() })
    }

    fn stored(&self, published: &Published, decided: mq_core::Result<()>) -> Result<Stored> {
        decided.map_err(|error| match error.kind() {
            ErrorKind::Closed => Error::Unknown { why: error.to_string(), broker: self.name.to_string() },
            _ => failed(&error, &self.name),
        })?;
        let mut stored = Stored::new(Arc::clone(&self.name));
        published.offsets().for_each(|(offset, duplicate)| stored.push(1, Some(offset.0), duplicate));
        Ok(stored)
    }
}

/// The crate's error for one of the core's.
fn failed(error: &mq_core::Error, broker: &str) -> Error {
    let why = error.to_string();
    match error.kind() {
        ErrorKind::InvalidName | ErrorKind::InvalidArgument | ErrorKind::TooBig => Error::Invalid(why),
        ErrorKind::Closed => Error::Closed,
        _ => Error::Refused { why, broker: broker.to_owned(), retry: error.is_retryable() },
    }
}
