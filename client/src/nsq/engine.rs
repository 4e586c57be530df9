//! The threads of a consumer: one takes messages from the connections, touches those held here and ends
//! pauses; the others run handlers.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use mq_core::sync::{Condvar, Mutex};

use super::backoff::{Backoff, Outcome};
use super::config::NsqConfig;
use super::drain::Drain;
use super::handler::Handler;
use super::keeper::Keeper;
use super::message::{Held, NsqMessage};
use crate::delivery::{Delivery, Message};
use crate::error::{Error, Result};
use crate::fork::OwnProcess;
use crate::publish::deadline;
use crate::remote::RemoteSource;
use crate::signal::Signal;
use crate::subscription::{Source, close};

/// Messages taken at once, before due touches and pauses get their turn.
const MESSAGES_MAX: usize = 1024;
/// Longest wait for connections to close once all is answered.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest delay of a requeue that NSQ takes.
const REQUEUE_MAX: Duration = Duration::from_secs(60 * 60);

/// A consumer, as its threads and messages share it.
pub(super) struct Engine {
    source: OwnProcess<Arc<RemoteSource>>,
    /// The same, as messages hold it.
    answers: OwnProcess<Arc<dyn Source>>,
    max_attempts: u16,
    default_requeue_delay: Duration,
    max_requeue_delay: Duration,
    stop_timeout: Duration,
    /// Locked before the connections' state, never while that is locked. No message is dropped under it.
    state: Mutex<State>,
    work: Condvar,
    ended: Signal,
    pub(super) counts: Counts,
}

/// Numbers since the consumer began.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) received: AtomicU64,
    pub(super) finished: AtomicU64,
    pub(super) requeued: AtomicU64,
}

struct State {
    max_in_flight: u32,
    backoff: Backoff,
    keeper: Keeper<Weak<Held>>,
    drain: Drain,
    /// Messages that no handler has yet: as many as are in flight at most.
    queue: VecDeque<NsqMessage>,
    last_number: u64,
    handlers: usize,
    is_started: bool,
    is_ended: bool,
    /// Raised by every change that the taking thread has to look at.
    version: u64,
}

impl State {
    fn allowed(&self) -> u32 {
        if self.drain.is_running() { self.backoff.allowed(self.max_in_flight) } else { 0 }
    }

    fn wake(&self) -> Option<Instant> {
        [self.backoff.wake(), self.keeper.wake(), self.drain.wake()].into_iter().flatten().min()
    }
}

/// A reason for the taking thread to go on.
enum Found {
    Messages(Vec<Delivery>),
    Changed,
    /// The connections are closed for good.
    Closed,
}

impl Engine {
    pub(super) fn new(source: Arc<RemoteSource>, config: &NsqConfig) -> Self {
        let answers: Arc<dyn Source> = source.clone();
        let backoff = Backoff::new(
            Arc::clone(&config.backoff_strategy),
            config.backoff_multiplier,
            config.max_backoff_duration,
        );
        Self {
            // Half the timeout is left for the touch to arrive.
            state: Mutex::new(State {
                max_in_flight: config.max_in_flight,
                backoff,
                keeper: Keeper::new(answers.msg_timeout() / 2),
                drain: Drain::Running,
                queue: VecDeque::new(),
                last_number: 0,
                handlers: 0,
                is_started: false,
                is_ended: false,
                version: 0,
            }),
            source: OwnProcess::new(source),
            answers: OwnProcess::new(answers),
            max_attempts: config.max_attempts,
            default_requeue_delay: config.default_requeue_delay,
            max_requeue_delay: config.max_requeue_delay,
            stop_timeout: config.stop_timeout,
            work: Condvar::default(),
            ended: Signal::default(),
            counts: Counts::default(),
        }
    }

    /// The connections. Nothing else here may be used in a child of `fork`: a lock may be held there for
    /// ever.
    pub(super) fn source(&self) -> Result<&Arc<RemoteSource>> {
        self.source.get()
    }

    /// Starts `count` threads for a handler.
    pub(super) fn add(self: &Arc<Self>, handler: &Arc<dyn Handler>, count: usize) -> Result<()> {
        self.source()?;
        let mut state = self.state.lock();
        if !state.drain.is_running() {
            return Err(Error::Closed);
        }
        if state.is_started {
            return Err(Error::Invalid("connected already: handlers are added before that".to_owned()));
        }
        for _ in 0..count {
            let (engine, handler) = (Arc::clone(self), Arc::clone(handler));
            spawn("libmq-handler", move || {
                while let Some(message) = engine.next() {
                    engine.handle(&*handler, &message);
                }
            })?;
            state.handlers += 1;
        }
        Ok(())
    }

    /// Begins to take messages, unless that began before.
    pub(super) fn start(self: &Arc<Self>) -> Result<&Arc<RemoteSource>> {
        let source = self.source()?;
        let mut state = self.state.lock();
        if !state.drain.is_running() {
            return Err(Error::Closed);
        }
        if state.handlers == 0 {
            return Err(Error::Invalid("there is no handler: add one before connecting".to_owned()));
        }
        if !state.is_started {
            let engine = Arc::clone(self);
            spawn("libmq-consumer", move || engine.run())?;
            state.is_started = true;
        }
        Ok(source)
    }

    fn run(self: Arc<Self>) {
        let Ok(source) = self.source() else { return };
        let mut messages = Vec::new();
        loop {
            // Read first: what changes while the turn looks at things is looked at again.
            let version = self.state.lock().version;
            if self.turn(source, std::mem::take(&mut messages)) {
                return self.end(source);
            }
            let wake = self.state.lock().wake();
            match source.signal().block_until(wake, || self.look(source, version)) {
                Some(Found::Messages(deliveries)) => messages = deliveries,
                Some(Found::Changed) | None => {}
                Some(Found::Closed) => return self.end(source),
            }
        }
    }

    fn look(&self, source: &RemoteSource, version: u64) -> Option<Found> {
        if self.state.lock().version != version {
            return Some(Found::Changed);
        }
        let mut deliveries = Vec::new();
        match source.take(MESSAGES_MAX, &mut |delivery| deliveries.push(delivery))? {
            Ok(()) => Some(Found::Messages(deliveries)),
            Err(_) => Some(Found::Closed),
        }
    }

    /// Queues messages for the handlers, and does what is due. Returns whether the consumer is at its end.
    fn turn(self: &Arc<Self>, source: &RemoteSource, deliveries: Vec<Delivery>) -> bool {
        self.counts.received.fetch_add(deliveries.len() as u64, Ordering::Relaxed);
        let in_flight = source.in_flight();
        let now = Instant::now();
        let mut state = self.state.lock();
        for delivery in deliveries {
            state.last_number += 1;
            let number = state.last_number;
            let message =
                NsqMessage::new(Message::new(delivery, self.answers.clone()), number, Arc::clone(self));
            state.keeper.hold(number, Arc::downgrade(message.held()), now);
            state.queue.push_back(message);
            self.work.notify_one();
        }
        if state.backoff.tick(now) {
            source.set_max_in_flight(state.allowed());
        }
        let due: Vec<_> = state.keeper.due(now).iter().filter_map(Weak::upgrade).collect();
        let is_over = state.drain.tick(in_flight, now);
        drop(state);
        due.iter().for_each(|held| held.touch());
        is_over
    }

    /// Gives back what no handler has, and ends the connections and the handlers' threads.
    fn end(&self, source: &RemoteSource) {
        let rest = {
            let mut state = self.state.lock();
            state.drain = Drain::Over;
            std::mem::take(&mut state.queue)
        };
        self.work.notify_all();
        drop(rest);
        close(source, deadline(CLOSE_TIMEOUT));
        self.state.lock().is_ended = true;
        self.ended.notify();
    }

    /// Waits for a message to handle. `None` at the end.
    fn next(&self) -> Option<NsqMessage> {
        let mut state = self.state.lock();
        loop {
            if state.drain.is_over() {
                return None;
            }
            if let Some(message) = state.queue.pop_front() {
                return Some(message);
            }
            state = self.work.wait(state);
        }
    }

    fn handle(&self, handler: &dyn Handler, message: &NsqMessage) {
        if self.max_attempts > 0 && message.attempts() > self.max_attempts {
            // A hook that panics keeps no message from its end.
            let _ = catch_unwind(AssertUnwindSafe(|| handler.log_failed_message(message)));
            return message.finish();
        }
        let handled = catch_unwind(AssertUnwindSafe(|| handler.handle_message(message)));
        match handled {
            _ if message.is_auto_response_disabled() => {}
            Ok(Ok(())) => message.finish(),
            Ok(Err(_)) | Err(_) => message.requeue(None),
        }
    }

    /// Delay of a requeue: `given`, or one that grows with the attempts.
    pub(super) fn requeue_delay(&self, attempts: u16, given: Option<Duration>) -> Duration {
        let by_attempts = self.default_requeue_delay.saturating_mul(attempts.into());
        given.unwrap_or(by_attempts.min(self.max_requeue_delay)).min(REQUEUE_MAX)
    }

    /// Sends an answer. A pause that it begins is there before it: nothing comes for it.
    pub(super) fn answered(&self, number: u64, outcome: Outcome, send: impl FnOnce()) {
        let Ok(source) = self.source() else { return };
        let count = if outcome == Outcome::Success { &self.counts.finished } else { &self.counts.requeued };
        count.fetch_add(1, Ordering::Relaxed);
        let mut state = self.state.lock();
        state.keeper.release(number);
        let has_changed = state.backoff.answered(outcome, Instant::now());
        if has_changed {
            source.set_max_in_flight(state.allowed());
        }
        drop(state);
        send();
        self.notice(source, has_changed);
    }

    /// A message was dropped without an answer.
    pub(super) fn dropped(&self, number: u64) {
        let Ok(source) = self.source() else { return };
        self.state.lock().keeper.release(number);
        self.notice(source, false);
    }

    /// Wakes the taking thread, if there is a change or the end may be near.
    fn notice(&self, source: &RemoteSource, has_changed: bool) {
        let mut state = self.state.lock();
        if has_changed || !state.drain.is_running() {
            state.version += 1;
            drop(state);
            source.signal().notify();
        }
    }

    pub(super) fn change_max_in_flight(&self, max: u32) -> Result<()> {
        let source = self.source()?;
        let mut state = self.state.lock();
        state.max_in_flight = max;
        source.set_max_in_flight(state.allowed());
        Ok(())
    }

    pub(super) fn stop(&self) {
        let Ok(source) = self.source() else { return };
        let mut state = self.state.lock();
        state.drain.stop(Instant::now() + self.stop_timeout);
        source.set_max_in_flight(0);
        state.version += 1;
        let is_started = state.is_started;
        drop(state);
        source.signal().notify();
        if !is_started {
            self.end(source);
        }
    }

    /// Waits until the consumer is at its end, or `deadline`. Returns whether that was enough.
    pub(super) fn wait(&self, deadline: Option<Instant>) -> Result<bool> {
        self.source()?;
        let is_ended = || self.state.lock().is_ended.then_some(());
        Ok(self.ended.block_until(deadline, is_ended).is_some())
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<()> {
    let spawned = std::thread::Builder::new().name(name.to_owned()).spawn(run);
    spawned.map(drop).map_err(|error| Error::Refused {
        why: error.to_string(),
        broker: "the system of this process".to_owned(),
        retry: true,
    })
}
