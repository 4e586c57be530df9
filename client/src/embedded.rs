//! A broker in this process.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mq_core::{
    Attributes, Broker, ChannelName, Delivery, Departure, Durability, ErrorKind, HeadersBuf, Options,
    Published, Pulled, Start, TopicName, Wake,
};
use parking_lot::Mutex;
use tempfile::TempDir;

use crate::config::Config;
use crate::error::{Error, Result};
use crate::message::NewMessage;
use crate::publish::{Next, Publication, Queue, Receipt};
use crate::signal::Signal;
use crate::subscription::{Answer, Delivered, DeliveryKey, Failure, Failures, Source, SubscribeOptions};

/// Bytes of messages fetched in one pull; one larger message comes alone.
const FETCH_BYTES: usize = 1 << 20;

/// A broker, and the thread that publishes what is sent without waiting.
pub(crate) struct Embedded {
    place: Arc<BrokerPlace>,
    queue: Arc<Queue>,
    thread: Option<JoinHandle<()>>,
}

/// A broker on its folder. Fields are dropped in order: the broker stops before its folder goes.
struct BrokerPlace {
    broker: Broker,
    name: Arc<str>,
    _temporary: Option<TempDir>,
}

impl Embedded {
    /// Opens the folder, or one that goes with the broker.
    pub(crate) fn open(folder: Option<PathBuf>, config: &Config) -> Result<Self> {
        let refused = |why: String| Error::Refused {
            why,
            broker: "the broker in this process".to_owned(),
            retry: true,
        };
        let (data_path, temporary) = match folder {
            Some(folder) => (folder, None),
            None => {
                let temporary = TempDir::new().map_err(|error| refused(error.to_string()))?;
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let (name, default): (Arc<str>, _) = match &temporary {
            Some(_) => ("mq:memory".into(), Durability::Memory),
            None => (data_path.display().to_string().into(), Durability::Flush),
        };
        let durability = config.durability.unwrap_or(default);
        let options = Options { data_path: data_path.clone(), durability, ..Options::default() };
        let broker = Broker::open(options).map_err(|error| match error.kind() {
            ErrorKind::Locked => {
                let text = error.to_string();
                let pid = text.rsplit_once("process ").and_then(|(_, pid)| pid.parse().ok());
                Error::Locked { folder: data_path, pid }
            }
            _ => failed(&error, &name),
        })?;
        let place = Arc::new(BrokerPlace { broker, name, _temporary: temporary });
        let queue = Arc::new(Queue::default());
        let (sender, due) = (Arc::clone(&place), Arc::clone(&queue));
        let thread = std::thread::Builder::new().name("libmq-publish".to_owned());
        let thread = thread.spawn(move || sender.run(&due)).map_err(|e| refused(e.to_string()))?;
        Ok(Self { place, queue, thread: Some(thread) })
    }

    pub(crate) fn name(&self) -> &str {
        &self.place.name
    }

    pub(crate) fn push(&self, publication: Publication) {
        self.queue.push(publication);
    }

    /// Publishes on this thread.
    pub(crate) fn publish(&self, topic: &TopicName, messages: &[NewMessage]) -> Result<Vec<Receipt>> {
        let published = self.place.begin(topic, messages)?;
        self.place.receipts(&published)
    }

    pub(crate) fn subscribe(
        &self,
        topic: &TopicName,
        channel: &ChannelName,
        options: SubscribeOptions,
    ) -> Result<Arc<dyn Source>> {
        let place = Arc::clone(&self.place);
        let signal = Arc::new(Notifier::default());
        let wake: Arc<dyn Wake> = signal.clone();
        let failed = |error| failed(&error, &place.name);
        let core = mq_core::SubscribeOptions { msg_timeout: options.msg_timeout, sample_rate: 0 };
        let subscribed = place.broker.subscribe_at(topic, channel, Start::Now, core, &wake);
        let (mut subscription, opened) = subscribed.map_err(failed)?;
        opened.ticket.wait(&place.broker).map_err(failed)?;
        subscription.acks().set_credit(options.max_in_flight);
        let core = Mutex::new(Some(Core { subscription, fetched: VecDeque::new() }));
        Ok(Arc::new(EmbeddedSource { core, signal, failures: Failures::default(), options, place }))
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(thread) = self.thread.take() {
            // It ends once all that was sent has its outcome.
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
                    Next::Publication(Publication { topic, messages, slot }) => {
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
                slot.settle(published.and_then(|published| self.receipts(&published)));
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

    fn receipts(&self, published: &Published) -> Result<Vec<Receipt>> {
        published.wait(&self.broker).map_err(|error| match error.kind() {
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

fn failed(error: &mq_core::Error, broker: &str) -> Error {
    let why = error.to_string();
    match error.kind() {
        ErrorKind::InvalidName | ErrorKind::InvalidArgument | ErrorKind::TooBig => Error::Invalid(why),
        ErrorKind::Closed => Error::Closed,
        _ => Error::Refused { why, broker: broker.to_owned(), retry: error.is_retryable() },
    }
}

#[derive(Default)]
struct Notifier(Signal);

impl Wake for Notifier {
    fn wake(&self) {
        self.0.notify();
    }
}

struct EmbeddedSource {
    /// `None` once it is closed.
    core: Mutex<Option<Core>>,
    signal: Arc<Notifier>,
    failures: Failures,
    options: SubscribeOptions,
    place: Arc<BrokerPlace>,
}

struct Core {
    subscription: mq_core::Subscription,
    /// Messages in flight here that nobody has taken yet.
    fetched: VecDeque<Delivered>,
}

impl Core {
    fn next_fetched(&mut self) -> Option<Delivered> {
        let now = Instant::now();
        while let Some(fetched) = self.fetched.pop_front() {
            if now < fetched.deadline {
                return Some(fetched);
            }
        }
        None
    }
}

impl EmbeddedSource {
    fn delivered(&self, delivery: &Delivery<'_>, deadline: Instant) -> Delivered {
        let headers = mq_core::Headers::new(delivery.attributes.headers);
        let copied = |(name, value): (&str, &[u8])| (name.to_owned(), Bytes::copy_from_slice(value));
        Delivered {
            key: DeliveryKey { id: delivery.id, token: delivery.token, connection: 0 },
            body: Bytes::copy_from_slice(delivery.body),
            headers: headers.map(copied).collect(),
            attempts: delivery.attempts,
            timestamp: delivery.time,
            offset: Some(delivery.id.offset().0),
            broker: Arc::clone(&self.place.name),
            deadline,
        }
    }
}

impl Source for EmbeddedSource {
    fn take(&self) -> Option<Result<Delivered>> {
        let mut core = self.core.lock();
        let Some(core) = &mut *core else { return Some(Err(Error::Closed)) };
        loop {
            if let Some(fetched) = core.next_fetched() {
                return Some(Ok(fetched));
            }
            let deadline = Instant::now() + self.options.msg_timeout;
            let fetched = &mut core.fetched;
            let mut sink = |delivery: &Delivery<'_>| fetched.push_back(self.delivered(delivery, deadline));
            match core.subscription.pull(FETCH_BYTES, &mut sink) {
                _ if !core.fetched.is_empty() => {}
                Pulled::Wait => return None,
                // The turn passed over messages that are deferred.
                Pulled::More => {}
                Pulled::Closed => return Some(Err(Error::Closed)),
                Pulled::Damaged => {
                    let error = core.subscription.damage();
                    return Some(Err(error.map_or(Error::Closed, |error| failed(&error, &self.place.name))));
                }
            }
        }
    }

    fn signal(&self) -> &Signal {
        &self.signal.0
    }

    fn rest(&self) {
        if let Some(core) = &mut *self.core.lock() {
            // While nobody waits here, what comes is for other subscribers.
            core.subscription.rest();
        }
        // Another thread may wait here.
        self.signal.0.notify();
    }

    fn answer(&self, key: DeliveryKey, broker: &Arc<str>, answer: Answer) {
        let mut core = self.core.lock();
        let result = core.as_mut().map_or(Err(Error::Closed), |core| {
            let mut acks = core.subscription.acks();
            let id = key.token.map_or(Ok(key.id), |token| acks.delivered(token));
            let answered = id.and_then(|id| match answer {
                Answer::Finish => acks.finish(id),
                Answer::Requeue(delay) => acks.requeue(id, delay),
                Answer::Touch => acks.touch(id),
            });
            answered.map_err(|error| failed(&error, &self.place.name))
        });
        drop(core);
        match result {
            Ok(()) => self.signal.0.notify(),
            Err(Error::Closed) => {}
            Err(error) => {
                self.failures.push(Failure { broker: Arc::clone(broker), message: Some(key.id), error });
            }
        }
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn close(&self) {
        if let Some(Core { mut subscription, fetched }) = self.core.lock().take() {
            let mut acks = subscription.acks();
            // One that timed out is with the channel already.
            fetched.into_iter().for_each(|fetched| drop(acks.release(fetched.key.id)));
            drop(acks);
            subscription.leave(Departure::Orderly);
        }
        self.signal.0.notify();
    }

    fn is_over(&self) -> bool {
        self.core.lock().is_none()
    }

    fn msg_timeout(&self) -> Duration {
        self.options.msg_timeout
    }
}
