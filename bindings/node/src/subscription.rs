//! A subscription, and its messages until they are answered.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::rc::{Rc, Weak};
use std::time::Duration;

use libmq::{Batch, Subscription};
use napi::Env;
use napi::bindgen_prelude::Unknown;
use napi_derive::napi;

use crate::blocking::blocking;
use crate::event;
use crate::pack::{fill, fitting, pack};
use crate::problem::Problem;
use crate::runtime::{AtEnd, Environment, Outcome};
use crate::value::{self, Raw};

/// A delay that no broker takes, for one that is no `Duration`.
const FOR_EVER: Duration = Duration::from_secs(1 << 40);

/// A subscription of the crate. It is closed when it is dropped.
pub(crate) struct SubscriptionHandle {
    environment: Rc<Environment>,
    subscription: Subscription,
    /// Number of the task that waits for messages.
    number: u32,
    /// Number of the task that waits for what happens to its connections.
    events: u32,
}

impl AtEnd for SubscriptionHandle {
    fn end(&self) {
        self.subscription.close(Duration::ZERO);
    }
}

impl Drop for SubscriptionHandle {
    fn drop(&mut self) {
        self.environment.release(self.number);
        self.environment.release(self.events);
    }
}

impl SubscriptionHandle {
    pub(crate) fn new(environment: &Rc<Environment>, subscription: Subscription) -> Rc<Self> {
        let (number, events) = (environment.reserve(), environment.reserve());
        let handle = Rc::new(Self { environment: Rc::clone(environment), subscription, number, events });
        let weak = Rc::downgrade(&handle);
        environment.register(weak as Weak<dyn AtEnd>);
        handle
    }

    /// Messages as JavaScript gets them: words, bytes, brokers, and the batch for the answers.
    pub(crate) fn batch(env: &Env, mut batch: Batch) -> napi::Result<Raw> {
        let messages = batch.iter().as_slice();
        let fitting = fitting(messages);
        batch.requeue(fitting.., Duration::ZERO);
        let messages = messages.get(..fitting).unwrap_or_default();
        let packed = pack(messages);
        let parts = [
            value::words(env, &packed.words)?,
            value::filled(env, packed.bytes, |bytes| fill(messages, bytes))?,
            value::value(env, packed.brokers)?,
        ];
        // JavaScript has its own copy, and may keep the batch for long.
        batch.forget_contents();
        let [words, bytes, brokers] = parts;
        let answers = value::value(env, NativeBatch::new(batch, fitting))?;
        value::array(env, &[words, bytes, brokers, answers])
    }
}

/// A subscription, as `lib/subscription.js` holds it.
#[napi]
pub struct NativeSubscription {
    handle: Rc<SubscriptionHandle>,
}

impl NativeSubscription {
    pub(crate) fn new(handle: Rc<SubscriptionHandle>) -> Self {
        Self { handle }
    }

    /// A call that waits on a thread, and says whether its time was enough.
    fn wait(
        &self,
        timeout_ms: f64,
        call: impl FnOnce(&Subscription, Duration) -> libmq::Result<bool> + Send + 'static,
    ) -> u32 {
        let subscription = self.handle.subscription.clone();
        let timeout = Duration::try_from_secs_f64(timeout_ms / 1000.0).unwrap_or_default();
        let enough = blocking(move || call(&subscription, timeout));
        let task = async move { Outcome::Called(enough.await.map(|enough| Some(enough.to_string()))) };
        self.handle.environment.start(Box::pin(task))
    }
}

#[napi]
impl NativeSubscription {
    /// Number of the task that waits for messages: their outcomes have it.
    #[napi(getter)]
    pub fn number(&self) -> u32 {
        self.handle.number
    }

    /// Messages that are there, at most `max`. `null` if there are none, or the subscription has failed: the
    /// outcome comes with a wake-up, and this is called again only then.
    #[napi]
    pub fn poll(&self, env: Env, max: u32) -> napi::Result<Unknown<'static>> {
        let handle = Rc::clone(&self.handle);
        let task =
            async move { Outcome::Delivered(handle.subscription.next_batch_async(max as usize).await) };
        let environment = &self.handle.environment;
        let batch = match environment.poll(self.handle.number, Box::pin(task)) {
            Some(Outcome::Delivered(Ok(batch))) => SubscriptionHandle::batch(&env, batch)?,
            None => value::value(&env, napi::bindgen_prelude::Null)?,
            Some(outcome) => {
                environment.settle(self.handle.number, outcome);
                value::value(&env, napi::bindgen_prelude::Null)?
            }
        };
        value::returned(&env, batch)
    }

    /// Number of the task that waits for what happens to the connections: the outcomes have it.
    #[napi(getter)]
    pub fn events(&self) -> u32 {
        self.handle.events
    }

    /// Events of the connections: see [`event::values`]. `null` if nothing has: the outcome comes
    /// with a wake-up, and this is called again only then. Ends with the subscription.
    #[napi]
    pub fn poll_events(&self, env: Env) -> napi::Result<Unknown<'static>> {
        let subscription = self.handle.subscription.clone();
        let task = async move { Outcome::Happened(subscription.events_async().await.unwrap_or_default()) };
        event::poll(&env, &self.handle.environment, self.handle.events, Box::pin(task))
    }

    /// Consumes from one more broker. Returns the reason why that is not possible, or `null`: code and
    /// message.
    #[napi]
    pub fn add_broker(&self, address: String) -> Option<Vec<String>> {
        let added = self.handle.subscription.add_broker(&address);
        let Problem { code, message, .. } = added.err()?.into();
        Some(vec![code.to_owned(), message])
    }

    /// Sets how many messages may be here without an answer; 0 pauses.
    #[napi]
    pub fn set_max_in_flight(&self, max: u32) {
        // In its range, as `lib/subscription.js` sees to.
        let _ = self.handle.subscription.set_max_in_flight(max);
    }

    /// Ends the subscription: what is not answered goes back.
    #[napi]
    pub fn close(&self) {
        self.handle.environment.cancel(self.handle.events);
        self.handle.subscription.close(Duration::ZERO);
    }

    /// Waits until the end is complete, at most `timeout_ms`. Returns the task's number; its value is
    /// `"true"` if that was enough.
    #[napi]
    pub fn closed(&self, timeout_ms: f64) -> u32 {
        self.wait(timeout_ms, |subscription, timeout| Ok(subscription.close(timeout)))
    }

    /// Waits until the answers given so far are in the log of their broker, at most `timeout_ms`. Returns the
    /// task's number; its value is `"true"` if that was enough.
    #[napi]
    pub fn flush(&self, timeout_ms: f64) -> u32 {
        self.wait(timeout_ms, Subscription::flush)
    }

    /// Failures since they were asked for last: broker, id of the message, code, text and retry of each.
    #[napi]
    pub fn failures(&self, env: Env) -> napi::Result<Unknown<'static>> {
        let mut parts = Vec::new();
        for failure in self.handle.subscription.failures() {
            parts.extend(event::failure(&env, failure)?);
        }
        value::returned(&env, value::array(&env, &parts)?)
    }
}

/// Messages of a batch, for their answers. They outlive subscription and client; those without an answer go
/// back when it is collected.
#[napi]
pub struct NativeBatch {
    /// `None` once all of them are answered: the collector may take its time.
    batch: RefCell<Option<Batch>>,
    /// Messages without an answer.
    left: Cell<usize>,
}

impl NativeBatch {
    /// The answers to the first `count` messages, the only ones that JavaScript has.
    fn new(batch: Batch, count: usize) -> Self {
        Self { batch: RefCell::new(Some(batch)), left: Cell::new(count) }
    }

    /// Answers messages from `start` to before `end`, which have no answer yet.
    fn answer(&self, start: u32, end: u32, answer: impl FnOnce(&Batch, Range<usize>)) {
        let range = start as usize..end as usize;
        let left = self.left.get().saturating_sub(range.len());
        self.left.set(left);
        let mut batch = self.batch.borrow_mut();
        if let Some(batch) = &*batch {
            answer(batch, range);
        }
        if left == 0 {
            *batch = None;
        }
    }
}

#[napi]
impl NativeBatch {
    /// Finishes messages from `start` to before `end`. As by the next two, each is answered once.
    #[napi]
    pub fn finish(&self, start: u32, end: u32) {
        self.answer(start, end, |batch, range| batch.finish(range));
    }

    /// Requeues them.
    #[napi]
    pub fn requeue(&self, start: u32, end: u32, delay_ms: f64) {
        let delay = Duration::try_from_secs_f64(delay_ms / 1000.0).unwrap_or(FOR_EVER);
        self.answer(start, end, |batch, range| batch.requeue(range, delay));
    }

    /// Returns them as ones that nobody looked at.
    #[napi]
    pub fn release(&self, start: u32, end: u32) {
        self.answer(start, end, |batch, range| batch.release(range));
    }

    /// Starts their timeouts anew.
    #[napi]
    pub fn touch(&self, start: u32, end: u32) {
        if let Some(batch) = &*self.batch.borrow() {
            batch.touch(start as usize..end as usize);
        }
    }
}
