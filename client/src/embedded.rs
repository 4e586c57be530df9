//! A broker in this process.

mod admin;
mod consumer;
#[cfg(feature = "serve")]
mod serve;

pub(crate) use admin::Change;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mq_core::sync::Mutex;
use mq_core::{
    Attributes, Broker, ChannelName, Clock, Durability, ErrorKind, HeadersBuf, ManualClock, Options,
    Published, SystemClock, TopicName,
};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::fork::ChildCloses;
use crate::message::NewMessage;
use crate::publish::{Next, Publication, Queue, Receipt};
use crate::signal::INTERRUPT_EVERY;
use crate::subscription::{Source, SubscribeOptions};

/// Longest time that dropping a client waits for what was sent.
const DROP_MAX: Duration = Duration::from_secs(5);

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
    pub(crate) fn open(folder: Option<PathBuf>, config: &Config) -> Result<Self> {
        let refused = |why: String| Error::Refused {
            why,
            broker: "the broker in this process".to_owned(),
            retry: true,
        };
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
        let options = Options { durability, ..Options::default() };
        let system = SystemClock::new();
        let manual_clock = config.test_clock.then(|| Arc::new(ManualClock::new(system.wall())));
        let clock: Arc<dyn Clock> = match &manual_clock {
            Some(clock) => clock.clone(),
            None => Arc::new(system),
        };
        let opened = match &folder {
            None => Broker::open_in_memory(options, Arc::clone(&clock)),
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
        let locks = ChildCloses::new(broker.lock_descriptors());
        let place = Arc::new(BrokerPlace { _locks: locks, broker, name, clock, manual_clock });
        let queue = Arc::new(Queue::default());
        let (sender, due) = (Arc::clone(&place), Arc::clone(&queue));
        let thread = std::thread::Builder::new().name("libmq-publish".to_owned());
        let thread = thread
            .spawn(move || {
                sender.run(&due);
                due.end();
            })
            .map_err(|e| refused(e.to_string()))?;
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
        messages: &[NewMessage],
        deadline: Option<Instant>,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<Receipt>> {
        let published = self.place.begin(topic, messages)?;
        loop {
            let left = deadline.map_or(INTERRUPT_EVERY, |end| end.saturating_duration_since(Instant::now()));
            let turn = left.min(INTERRUPT_EVERY);
            if let Some(decided) = published.wait_for(&self.place.broker, turn) {
                return self.place.receipts(&published, decided);
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

    /// Moves a test clock on, and does what is due by then.
    pub(crate) fn advance(&self, by: Duration) -> Result<()> {
        let Some(clock) = &self.place.manual_clock else {
            let what = "advance: only \"mq:memory?test_clock=true\" has a clock that the program moves";
            return Err(Error::Unsupported { what: what.to_owned(), broker: self.name().to_owned() });
        };
        clock.advance(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX));
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
                slot.settle(published.and_then(|published| {
                    let decided = published.wait(&self.broker);
                    self.receipts(&published, decided)
                }));
            }
            if closed {
                return;
            }
        }
    }

    fn begin(&self, topic: &TopicName, messages: &[NewMessage]) -> Result<Published> {
        let failed = |error| failed(&error, &self.name);
        let topic = self.broker.topic(topic).map_err(failed)?;
        let mut batch = topic.batch();
        for message in messages {
            let mut headers = HeadersBuf::new();
            for (name, value) in &message.headers {
                headers.push(name, value).map_err(failed)?;
            }
            let attributes = Attributes {
                not_before: self.broker.wall_after(message.delay),
                dedup_id: message.id.as_deref(),
                headers: headers.as_attribute(),
            };
            batch.push(&attributes, &message.body).map_err(failed)?;
        }
        topic.publish(batch, None).map_err(failed)
    }

    fn receipts(&self, published: &Published, decided: mq_core::Result<()>) -> Result<Vec<Receipt>> {
        decided.map_err(|error| match error.kind() {
            ErrorKind::Closed => Error::Unknown { why: error.to_string(), broker: self.name.to_string() },
            _ => failed(&error, &self.name),
        })?;
        let receipt = |(offset, duplicate): (mq_core::Offset, bool)| Receipt {
            offset: Some(offset.0),
            duplicate,
            broker: Arc::clone(&self.name),
        };
        Ok(published.offsets().map(receipt).collect())
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
