//! An environment of JavaScript: its main thread, or a worker thread. It has tasks, and an end.

use std::cell::{Cell, RefCell};
use std::ffi::c_void;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use libmq::{Batch, ConnectionEvent, Receipt, Result, Stored};
use napi::bindgen_prelude::{Function, Unknown};
use napi::{Env, JsValue, check_status, sys};
use napi_derive::napi;

use crate::client::{ClientHandle, NativeClient};
use crate::drained::Drained;
use crate::gate::Publish;
use crate::problem::Problem;
use crate::ready::ReadyQueue;
use crate::subscription::SubscriptionHandle;
use crate::tasks::{Task, Tasks, poll};

/// A task's output.
pub(crate) enum Outcome {
    /// A publish, of a client that has room again.
    Published(Rc<ClientHandle>, Result<Stored>),
    /// Publishes that went together, of a client that may begin the next.
    Grouped(Rc<ClientHandle>, Rc<Publish>, GroupResult),
    /// Messages, or the end of the subscription. The task's number stays in use.
    Delivered(Result<Batch>),
    /// Events of connections. The task's number stays in use.
    Happened(Vec<ConnectionEvent>),
    /// A subscription that is open.
    Subscribed(Rc<ClientHandle>, Result<Rc<SubscriptionHandle>>),
    Connected(Result<Rc<ClientHandle>>),
    /// The end of a call that returns a text, which is JSON, or nothing.
    Called(Result<Option<String>>),
    Failed(Problem),
}

/// The result of publishes that went together.
pub(crate) enum GroupResult {
    /// All of them are stored.
    Together(Stored),
    /// Each message has a result of its own.
    Each(Vec<Result<Receipt>>),
}

/// Whatever holds on to brokers, and lets go when its environment ends.
pub(crate) trait AtEnd {
    fn end(&self);
}

/// Tasks of an environment, and the queue that wakes it.
pub(crate) struct Environment {
    queue: Arc<ReadyQueue>,
    tasks: RefCell<Tasks<Outcome>>,
    /// Outcomes that were there at once.
    settled: RefCell<Vec<(u32, Outcome)>>,
    at_end: RefCell<Vec<Weak<dyn AtEnd>>>,
    is_over: Cell<bool>,
}

impl Environment {
    /// Starts a task, whose outcome comes with a later wake-up. Returns its number.
    pub(crate) fn start(&self, task: Task<Outcome>) -> u32 {
        let number = self.reserve();
        self.run(number, task);
        number
    }

    /// A number for a task to come.
    pub(crate) fn reserve(&self) -> u32 {
        self.tasks.borrow_mut().reserve()
    }

    /// Lets the number of a task that never came, or ended, be used again.
    pub(crate) fn release(&self, number: u32) {
        self.tasks.borrow_mut().free(number);
    }

    /// Starts the task with this number.
    pub(crate) fn run(&self, number: u32, task: Task<Outcome>) {
        if let Some(outcome) = self.poll(number, task) {
            self.settle(number, outcome);
        }
    }

    /// Ends the task with this number, which did not begin or was taken.
    pub(crate) fn settle(&self, number: u32, outcome: Outcome) {
        self.settled.borrow_mut().push((number, outcome));
        self.queue.wake();
    }

    /// Polls a task for the first time. Without an outcome it stays, and is polled whenever it is woken.
    pub(crate) fn poll(&self, number: u32, task: Task<Outcome>) -> Option<Outcome> {
        self.tasks.borrow_mut().put(number, task);
        self.poll_again(number)
    }

    fn poll_again(&self, number: u32) -> Option<Outcome> {
        // Nothing stays borrowed while foreign code runs.
        let (task, waker) = self.tasks.borrow_mut().take(number)?;
        match poll(task, &waker) {
            Ok(outcome) => Some(outcome),
            Err(task) => {
                self.tasks.borrow_mut().put(number, task);
                None
            }
        }
    }

    /// Drops a task. Returns whether it ran.
    pub(crate) fn cancel(&self, number: u32) -> bool {
        let taken = self.tasks.borrow_mut().take(number);
        taken.is_some()
    }

    /// Calls `holder` when the environment ends, if it is still there.
    pub(crate) fn register(&self, holder: Weak<dyn AtEnd>) {
        let mut at_end = self.at_end.borrow_mut();
        if at_end.len() == at_end.capacity() {
            at_end.retain(|holder| holder.strong_count() > 0);
        }
        at_end.push(holder);
    }

    /// Drops all futures and ends all that is open, on the thread of the caller: a broker in this process
    /// stops before the call returns.
    fn end(&self) {
        if self.is_over.replace(true) {
            return;
        }
        self.queue.close();
        let tasks = self.tasks.borrow_mut().clear();
        drop(tasks);
        let settled = std::mem::take(&mut *self.settled.borrow_mut());
        drop(settled);
        let holders = std::mem::take(&mut *self.at_end.borrow_mut());
        // Subscriptions before their clients: the newest first.
        holders.iter().rev().filter_map(Weak::upgrade).for_each(|holder| holder.end());
    }
}

unsafe extern "C" fn end(environment: *mut c_void) {
    // SAFETY: the pointer that `Runtime::new` made, given to this hook alone, which runs once.
    let environment = unsafe { Rc::from_raw(environment.cast_const().cast::<Environment>()) };
    environment.end();
}

/// The addon in one environment: `lib/runtime.js` makes one.
#[napi]
pub struct Runtime {
    environment: Rc<Environment>,
}

#[napi]
impl Runtime {
    /// Makes it; `on_wake` is called when there are outcomes to drain.
    #[napi(constructor)]
    pub fn new(env: Env, on_wake: Function<'_, (), ()>) -> napi::Result<Self> {
        let queue = ReadyQueue::new(env.raw(), on_wake.value().value)?;
        let environment = Rc::new(Environment {
            tasks: RefCell::new(Tasks::new(&queue)),
            queue,
            settled: RefCell::default(),
            at_end: RefCell::default(),
            is_over: Cell::new(false),
        });
        let hook = Rc::into_raw(Rc::clone(&environment)).cast_mut().cast();
        // Added after the thread-safe function, so that it runs before Node deletes that one.
        // SAFETY: on JavaScript's thread; `end` takes the pointer over.
        check_status!(unsafe { sys::napi_add_env_cleanup_hook(env.raw(), Some(end), hook) })?;
        Ok(Self { environment })
    }

    /// Opens a client. `settings` are keys and values in turn. Returns the task's number.
    #[napi]
    pub fn connect(&self, url: String, settings: Vec<String>, bytes_max: f64) -> u32 {
        NativeClient::connect(&self.environment, url, &settings, bytes_max as usize)
    }

    /// Keeps the process alive, or no longer.
    #[napi]
    pub fn keep_alive(&self, env: Env, alive: bool) -> napi::Result<()> {
        self.environment.queue.keep_alive(env.raw(), alive)
    }

    /// Ends all that is open, and waits for it: the process ends.
    #[napi]
    pub fn end(&self) {
        self.environment.end();
    }

    /// The outcomes that are there: `[receipts, offsets, brokers, problems, failures, values]`, each `null`
    /// where there are none.
    ///
    /// `receipts` has for each publish its number and count, and for each receipt the broker's place in
    /// `brokers` above three bits: 1 for a duplicate, 2 for one that has an offset, which is in `offsets` at
    /// its place among all receipts; 4 for a message that failed, whose place is in `problems` instead, which
    /// are code, message and retry in turn. The other two have numbers and what belongs to them in turn: a
    /// problem, or a value.
    #[napi]
    pub fn drain(&self, env: Env) -> napi::Result<Unknown<'static>> {
        let ready = self.environment.queue.take();
        let mut outcomes = std::mem::take(&mut *self.environment.settled.borrow_mut());
        outcomes.extend(ready.into_iter().filter_map(|number| {
            let outcome = self.environment.poll_again(number)?;
            Some((number, outcome))
        }));
        let mut drained = Drained::default();
        for (number, outcome) in outcomes {
            if !matches!(outcome, Outcome::Delivered(..) | Outcome::Happened(..)) {
                self.environment.release(number);
            }
            if let Outcome::Grouped(client, group, results) = outcome {
                group.parts.iter().for_each(|part| self.environment.release(part.task));
                client.end_group(number);
                client.admit();
                drained.add_group(&env, &group.parts, results)?;
            } else {
                drained.add(&env, number, outcome)?;
            }
        }
        drained.into_value(&env)
    }
}
