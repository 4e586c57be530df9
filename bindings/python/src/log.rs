//! Log lines of a client. The library's threads leave them here, and Python's threads take them to `logging`
//! in their next call: no other thread ever takes the interpreter's lock.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Wake, Waker};

use libmq::sync::Mutex;
use libmq::{ConnectionEvent, LogLevel};
use pyo3::prelude::*;
use tracing::Dispatch;

/// Lines that wait for a call. The oldest goes first, and is counted.
const LINES_MAX: usize = 1000;

/// The lines of a client and of its subscriptions.
pub(crate) struct Log {
    waiting: Arc<Waiting>,
    /// Takes the lines of a broker in this process, from the threads on which it is the default.
    dispatch: Dispatch,
    /// The process: a child of fork has other lines.
    generation: u64,
}

/// Lines that wait, and feeds that may have more.
#[derive(Default)]
struct Waiting {
    /// Whether there is something, to be read without the lock.
    has_some: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<(LogLevel, String)>,
    lost: usize,
    woken: Vec<Arc<Following>>,
}

impl Waiting {
    fn push(&self, level: LogLevel, line: String) {
        let mut state = self.state.lock();
        if state.lines.len() == LINES_MAX {
            state.lines.pop_front();
            state.lost += 1;
        }
        state.lines.push_back((level, line));
        drop(state);
        self.has_some.store(true, Ordering::Release);
    }
}

impl Log {
    pub(crate) fn new() -> Arc<Self> {
        let waiting = Arc::<Waiting>::default();
        let pushed = Arc::clone(&waiting);
        let dispatch = libmq::broker_lines(move |level, line| pushed.push(level, line));
        Arc::new(Self { waiting, dispatch, generation: libmq::process_generation() })
    }

    /// Runs a call whose lines, and those of the threads that it starts, are the client's.
    pub(crate) fn within<T>(&self, call: impl FnOnce() -> T) -> T {
        tracing::dispatcher::with_default(&self.dispatch, call)
    }

    /// Makes lines of events, which `next` waits for, until the feed is dropped.
    pub(crate) fn follow<F>(&self, next: impl Fn() -> F + Send + 'static) -> Feed
    where
        F: Future<Output = libmq::Result<Vec<ConnectionEvent>>> + Send,
    {
        let waiting = Arc::clone(&self.waiting);
        let follow = async move {
            while let Ok(events) = next().await {
                for event in events {
                    let (level, line) = event.line();
                    waiting.push(level, line);
                }
            }
        };
        let following = Following {
            future: Mutex::new(Some(Box::pin(follow))),
            waiting: Arc::downgrade(&self.waiting),
            is_woken: AtomicBool::new(false),
        };
        let following = Arc::new(following);
        following.wake_by_ref();
        Feed { following, generation: self.generation }
    }

    /// Gives the lines to `logging`, if the program uses it.
    pub(crate) fn emit(&self, py: Python<'_>) {
        let Waiting { has_some, state } = &*self.waiting;
        if !has_some.load(Ordering::Acquire) || self.generation != libmq::process_generation() {
            return;
        }
        has_some.store(false, Ordering::Release);
        let woken = std::mem::take(&mut state.lock().woken);
        woken.iter().for_each(Following::poll);
        let State { lines, lost, .. } = std::mem::take(&mut *state.lock());
        if let Err(error) = write(py, &lines, lost) {
            error.write_unraisable(py, None);
        }
    }
}

fn write(py: Python<'_>, lines: &VecDeque<(LogLevel, String)>, lost: usize) -> PyResult<()> {
    // A program that has not imported it has nobody who reads them.
    if lines.is_empty() || !py.import("sys")?.getattr("modules")?.contains("logging")? {
        return Ok(());
    }
    let write = py.import("libmq._log")?.getattr("write")?;
    if lost > 0 {
        write.call1((logging_level(LogLevel::Warning), format!("{lost} lines before these were lost")))?;
    }
    for (level, line) in lines {
        write.call1((logging_level(*level), line))?;
    }
    Ok(())
}

/// The number that `logging` has for a level.
fn logging_level(level: LogLevel) -> u8 {
    match level {
        LogLevel::Error => 40,
        LogLevel::Warning => 30,
        LogLevel::Info => 20,
    }
}

/// Events of connections that become lines, until it is dropped.
pub(crate) struct Feed {
    following: Arc<Following>,
    generation: u64,
}

impl Drop for Feed {
    fn drop(&mut self) {
        // What a child of fork has of it may be locked for ever.
        if self.generation == libmq::process_generation() {
            // The future has a waker, which has the future.
            let future = self.following.future.lock().take();
            drop(future);
        }
    }
}

struct Following {
    /// Polled by threads of Python alone.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    waiting: Weak<Waiting>,
    is_woken: AtomicBool,
}

impl Following {
    fn poll(self: &Arc<Self>) {
        self.is_woken.store(false, Ordering::Release);
        let mut future = self.future.lock();
        if let Some(following) = &mut *future
            && following.as_mut().poll(&mut Context::from_waker(&Waker::from(Arc::clone(self)))).is_ready()
        {
            *future = None;
        }
    }
}

impl Wake for Following {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(waiting) = self.waiting.upgrade()
            && !self.is_woken.swap(true, Ordering::AcqRel)
        {
            waiting.state.lock().woken.push(Arc::clone(self));
            waiting.has_some.store(true, Ordering::Release);
        }
    }
}
