//! A thread that polls futures, and starts with the first.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Wake, Waker};

use crate::status::{Failure, Outcome};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{AtomicBool, Condvar, Mutex, Ordering};

/// Work that a driver does whenever its waker is woken.
pub(crate) trait Task: Send + Sync {
    /// Goes on, and arranges that `waker` is woken when there is more to do. `true` if there never is.
    fn run(&self, waker: &Waker) -> bool;
}

/// A thread for tasks. It ends when the driver is dropped and all tasks are over.
pub(crate) struct Driver {
    shared: Arc<Shared>,
    name: &'static str,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    woken: VecDeque<Arc<Entry>>,
    /// Tasks that are not over.
    tasks: usize,
    closed: bool,
}

/// A task of a driver, and its waker.
pub(crate) struct Entry {
    task: Arc<dyn Task>,
    shared: Arc<Shared>,
    is_queued: AtomicBool,
    is_over: AtomicBool,
}

impl Driver {
    pub(crate) fn new(name: &'static str) -> Arc<Self> {
        Arc::new(Self { shared: Arc::default(), name, thread: Mutex::default() })
    }

    /// Takes a task and runs it for the first time. The task lives as long as the entry or its waker.
    pub(crate) fn spawn(&self, task: Arc<dyn Task>) -> Outcome<Arc<Entry>> {
        let mut thread = self.thread.lock();
        if thread.is_none() {
            let shared = Arc::clone(&self.shared);
            let builder = thread::Builder::new().name(self.name.to_owned());
            let started = builder.spawn(move || shared.run());
            *thread = Some(started.map_err(Failure::no_thread)?);
        }
        drop(thread);
        self.shared.state.lock().tasks += 1;
        let entry = Arc::new(Entry {
            task,
            shared: Arc::clone(&self.shared),
            is_queued: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
        });
        Arc::clone(&entry).wake();
        Ok(entry)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.closed = true;
        let is_idle = state.tasks == 0;
        drop(state);
        self.shared.changed.notify_all();
        let Some(thread) = self.thread.get_mut().take() else { return };
        // One with tasks goes on by itself, and the last handle may go on the thread.
        if is_idle && thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Entry {
    /// Ends the task: it is not run any more, except where it is running now.
    pub(crate) fn end(&self) {
        if !self.is_over.swap(true, Ordering::AcqRel) {
            self.shared.state.lock().tasks -= 1;
            self.shared.changed.notify_all();
        }
    }

    fn run(self: &Arc<Self>) {
        self.is_queued.store(false, Ordering::Release);
        if self.is_over.load(Ordering::Acquire) {
            return;
        }
        if self.task.run(&Waker::from(Arc::clone(self))) {
            self.end();
        }
    }
}

impl Wake for Entry {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.shared.state.lock().woken.push_back(Arc::clone(self));
            self.shared.changed.notify_one();
        }
    }
}

impl Shared {
    fn run(&self) {
        loop {
            let mut state = self.state.lock();
            let entry = loop {
                if let Some(entry) = state.woken.pop_front() {
                    break entry;
                }
                if state.closed && state.tasks == 0 {
                    return;
                }
                state = self.changed.wait(state);
            };
            drop(state);
            entry.run();
        }
    }
}

#[cfg(all(test, mq_loom))]
mod loom_tests {
    use super::*;

    /// A task that is over once it is set.
    #[derive(Default)]
    struct Set {
        is_set: Mutex<bool>,
        waker: Mutex<Option<Waker>>,
    }

    impl Set {
        fn set(&self) {
            *self.is_set.lock() = true;
            let waker = self.waker.lock().take();
            waker.into_iter().for_each(Waker::wake);
        }
    }

    impl Task for Set {
        fn run(&self, waker: &Waker) -> bool {
            *self.waker.lock() = Some(waker.clone());
            *self.is_set.lock()
        }
    }

    // The model fails where a thread waits for ever.
    #[test]
    fn a_task_that_is_woken_at_any_time_runs_to_its_end() {
        loom::model(|| {
            let driver = Driver::new("loom");
            let task = Arc::new(Set::default());
            let _entry = driver.spawn(Arc::<Set>::clone(&task)).unwrap_or_else(|_| panic!("no thread"));
            drop(driver);
            task.set();
        });
    }

    #[test]
    fn a_task_that_is_ended_at_any_time_lets_its_driver_end() {
        // All orders of three threads are too many: those with so many switches that no thread asked for.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let driver = Driver::new("loom");
            let task = Arc::new(Set::default());
            let entry = driver.spawn(Arc::<Set>::clone(&task)).unwrap_or_else(|_| panic!("no thread"));
            let setter = thread::spawn(move || task.set());
            entry.end();
            drop(driver);
            setter.join().unwrap();
        });
    }
}
