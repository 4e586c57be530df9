//! A subscription to a broker in this process.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mq_core::clock::Mono;
use mq_core::sync::Mutex;
use mq_core::{ChannelName, Departure, ErrorKind, Pulled, TopicName, Wake};

use super::{BrokerPlace, failed, nanos};
use crate::delivery::{Answer, Delivery, DeliveryKey};
use crate::error::{Error, Result};
use crate::message::DELAY_MAX;
use crate::signal::Signal;
use crate::subscription::{Failure, Failures, MSG_TIMEOUT, Source, SubscribeOptions};

/// Bytes of messages fetched in one pull; one larger message comes alone.
const FETCH_BYTES: usize = 1 << 20;
/// Bytes of bodies that share one piece of memory, which lives as long as any of them: enough that pieces are
/// few, and few enough that a message which is kept keeps little else.
const SHARED_BYTES: usize = 64 << 10;

/// Subscribes.
pub(super) fn start(
    place: Arc<BrokerPlace>,
    topic: &TopicName,
    channel: &ChannelName,
    options: SubscribeOptions,
) -> Result<Arc<dyn Source>> {
    let signal = Arc::new(Notifier::default());
    let wake: Arc<dyn Wake> = signal.clone();
    let failed = |error| failed(&error, &place.name);
    let options = SubscribeOptions { msg_timeout: options.msg_timeout_or(MSG_TIMEOUT), ..options };
    let core =
        mq_core::SubscribeOptions { msg_timeout: options.msg_timeout, sample_rate: options.sample_rate };
    let subscribed = place.broker.subscribe_at(topic, channel, options.start.into(), core, &wake);
    let (mut subscription, opened) = subscribed.map_err(failed)?;
    opened.ticket.wait(&place.broker).map_err(failed)?;
    let mut acks = subscription.acks();
    acks.set_credit(options.max_in_flight);
    acks.set_byte_credit(options.max_in_flight_bytes);
    drop(acks);
    if let Some(bytes) = options.message_bytes_max() {
        subscription.set_message_bytes_max(bytes as usize);
    }
    let core = Mutex::new(Some(Core {
        subscription,
        fetched: VecDeque::new(),
        is_kept: false,
        bodies: Bodies::default(),
    }));
    let (failures, is_new) = (Failures::default(), opened.is_new);
    Ok(Arc::new_cyclic(|this| {
        let this = Weak::clone(this);
        EmbeddedSource { this, core, signal, failures, options, is_new, place }
    }))
}

#[derive(Default)]
struct Notifier(Signal);

impl Wake for Notifier {
    fn wake(&self) {
        self.0.notify();
    }
}

struct EmbeddedSource {
    this: Weak<Self>,
    /// `None` once it is closed.
    core: Mutex<Option<Core>>,
    signal: Arc<Notifier>,
    failures: Failures,
    options: SubscribeOptions,
    is_new: bool,
    place: Arc<BrokerPlace>,
}

struct Core {
    subscription: mq_core::Subscription,
    /// Messages in flight here that nobody has taken yet.
    fetched: VecDeque<Fetched>,
    /// Whether a task looks after them.
    is_kept: bool,
    bodies: Bodies,
}

struct Fetched {
    delivery: Delivery,
    /// Time of the broker's clock at which it is delivered again.
    deadline: Mono,
}

impl Core {
    /// Gives up to `max` of what is fetched. Returns how many.
    fn give(&mut self, max: usize, now: Mono, sink: &mut dyn FnMut(Delivery)) -> usize {
        let mut count = 0;
        while count < max
            && let Some(Fetched { delivery, deadline }) = self.fetched.pop_front()
        {
            // One that timed out is with its channel already.
            if now < deadline {
                count += 1;
                sink(delivery);
            }
        }
        count
    }

    /// Gives back what is fetched and has to be answered by `until`: it is delivered again, and nobody has
    /// seen it.
    fn give_back(&mut self, until: Mono) {
        let mut acks = self.subscription.acks();
        while let Some(fetched) = self.fetched.pop_front_if(|fetched| fetched.deadline <= until) {
            // One that timed out is with its channel already.
            let _ = acks.release(fetched.delivery.key.id);
        }
    }

    /// Fetches what the broker has for this subscriber.
    fn fetch(&mut self, place: &BrokerPlace, deadline: Mono) -> Pulled {
        let Self { subscription, fetched, bodies, .. } = self;
        let pulled = subscription.pull(FETCH_BYTES, &mut |delivery| {
            let headers = mq_core::Headers::new(delivery.attributes.headers);
            let copied = |(name, value): (&str, &[u8])| (name.to_owned(), Bytes::copy_from_slice(value));
            bodies.push(delivery.body, fetched);
            let delivery = Delivery {
                key: DeliveryKey { id: delivery.id, token: delivery.token, connection: 0 },
                body: Bytes::new(),
                headers: headers.map(copied).collect(),
                attempts: delivery.attempts,
                timestamp: delivery.time.0,
                offset: Some(delivery.id.offset().0),
                broker: Arc::clone(&place.name),
            };
            fetched.push_back(Fetched { delivery, deadline });
        });
        bodies.share(fetched);
        pulled
    }
}

/// Bodies of the newest of the fetched messages, copied one behind the other.
#[derive(Default)]
struct Bodies {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    /// Bytes of the last piece of memory: the next is as large at once.
    last: usize,
}

impl Bodies {
    /// Copies the body of the message that is fetched next.
    fn push(&mut self, body: &[u8], fetched: &mut VecDeque<Fetched>) {
        if self.bytes.len() + body.len() > SHARED_BYTES {
            self.share(fetched);
        }
        if self.bytes.capacity() == 0 {
            self.bytes.reserve_exact(self.last.max(body.len()));
        }
        self.bytes.extend_from_slice(body);
        self.lengths.push(body.len());
    }

    /// Gives the newest messages their bodies.
    fn share(&mut self, fetched: &mut VecDeque<Fetched>) {
        if self.lengths.is_empty() {
            return;
        }
        self.last = self.bytes.len().min(SHARED_BYTES);
        if self.last < self.bytes.capacity() / 2 {
            self.bytes.shrink_to_fit();
        }
        let bytes = Bytes::from(std::mem::take(&mut self.bytes));
        let first = fetched.len() - self.lengths.len();
        let mut at = 0;
        for (fetched, length) in fetched.range_mut(first..).zip(self.lengths.drain(..)) {
            fetched.delivery.body = bytes.slice(at..at + length);
            at += length;
        }
    }
}

/// Refuses a delay that no broker takes.
fn check_delay(delay: Duration) -> mq_core::Result<()> {
    if delay <= DELAY_MAX {
        return Ok(());
    }
    let (ms, max) = (delay.as_millis(), DELAY_MAX.as_millis());
    let why = format!("a delay of {ms} ms, at most {max} ms are allowed, a year");
    Err(mq_core::Error::new(ErrorKind::InvalidArgument, why))
}

impl EmbeddedSource {
    /// Gives back what nobody takes before it times out, as long as something waits.
    async fn keep(this: Weak<Self>, msg_timeout: Duration) {
        let (every, half) = (msg_timeout / 4, nanos(msg_timeout / 2));
        loop {
            tokio::time::sleep(every).await;
            let Some(source) = this.upgrade() else { return };
            let mut core = source.core.lock();
            let Some(core) = &mut *core else { return };
            core.give_back(source.place.clock.mono().plus(half));
            if core.fetched.is_empty() {
                core.is_kept = false;
                return;
            }
        }
    }

    fn fail(&self, delivery: &Delivery, error: Error) {
        let (broker, message) = (Arc::clone(&delivery.broker), Some(delivery.key.id));
        self.failures.push(Failure { broker, message, error });
    }
}

impl Source for EmbeddedSource {
    fn take(&self, max: usize, sink: &mut dyn FnMut(Delivery)) -> Option<Result<()>> {
        let mut core = self.core.lock();
        let Some(core) = &mut *core else { return Some(Err(Error::Closed)) };
        loop {
            let now = self.place.clock.mono();
            if core.give(max, now, sink) > 0 {
                return Some(Ok(()));
            }
            match core.fetch(&self.place, now.plus(nanos(self.options.msg_timeout))) {
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
            let is_kept = core.fetched.is_empty() || std::mem::replace(&mut core.is_kept, true);
            // Without threads for it what waits times out and is delivered again.
            if !is_kept && let Ok(runtime) = crate::remote::runtime() {
                runtime.spawn(Self::keep(Weak::clone(&self.this), self.options.msg_timeout));
            }
        }
        // Another thread may wait here.
        self.signal.0.notify();
    }

    fn answer(&self, deliveries: &mut dyn Iterator<Item = &Delivery>, answer: Answer) {
        let mut core = self.core.lock();
        let Some(open) = &mut *core else { return };
        let mut acks = open.subscription.acks();
        for delivery in deliveries {
            let key = delivery.key;
            let id = key.token.map_or(Ok(key.id), |token| acks.delivered(token));
            let answered = id.and_then(|id| match answer {
                Answer::Finish => acks.finish(id),
                Answer::Requeue(delay) => check_delay(delay).and_then(|()| acks.requeue(id, delay)),
                Answer::Return(delay) => acks.requeue(id, delay.min(DELAY_MAX)),
                Answer::Release => acks.release(id),
                Answer::Touch => acks.touch(id),
            });
            if let Err(error) = answered {
                let (why, broker) = (error.to_string(), self.place.name.to_string());
                self.fail(delivery, Error::Refused { why, broker, retry: false });
            }
        }
        drop(acks);
        drop(core);
        self.signal.0.notify();
    }

    fn add_broker(self: Arc<Self>, address: String) -> Result<()> {
        Err(Error::Unsupported {
            what: format!("to consume from {address} too"),
            broker: self.place.name.to_string(),
        })
    }

    fn failures(&self) -> &Failures {
        &self.failures
    }

    fn close(&self) {
        if let Some(mut core) = self.core.lock().take() {
            core.give_back(Mono::MAX);
            core.subscription.leave(Departure::Orderly);
        }
        self.signal.0.notify();
    }

    fn give_back(&self) {
        if let Some(core) = &mut *self.core.lock() {
            core.give_back(Mono::MAX);
        }
    }

    fn is_over(&self) -> bool {
        self.core.lock().is_none()
    }

    fn msg_timeout(&self) -> Duration {
        self.options.msg_timeout
    }

    fn is_new(&self) -> Option<bool> {
        Some(self.is_new)
    }

    fn is_open(&self) -> bool {
        true
    }

    fn confirm(&self, deadline: Option<Instant>) -> Result<bool> {
        let (channel, wake) = match &*self.core.lock() {
            Some(core) => (Arc::clone(core.subscription.channel()), self.signal.clone() as Arc<dyn Wake>),
            None => return Err(Error::Closed),
        };
        let failed = |error| failed(&error, &self.place.name);
        let ticket = channel.log_acknowledged(&wake).map_err(failed)?;
        let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
        match ticket.wait_for(&self.place.broker, left) {
            Some(written) => written.map(|()| true).map_err(failed),
            None => Ok(false),
        }
    }

    fn is_starved(&self) -> bool {
        false
    }

    fn set_max_in_flight(&self, max: u32) {
        if let Some(core) = &mut *self.core.lock() {
            core.subscription.acks().set_credit(max);
        }
        self.signal.0.notify();
    }
}
