//! Log lines of a client, for its callback.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use libmq::{Client, ConnectionEvent, LogLevel, Subscription};
use tracing::Dispatch;

use crate::boundary::{UserData, call_back};
use crate::driver::{Driver, Entry, Task};
use crate::status::{Failure, Outcome};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Condvar, Mutex};
use crate::values::{mq_config, mq_log_level, mq_span};

/// Lines that may wait for a slow callback. The oldest goes first, and is counted.
const LINES_MAX: usize = 1000;

/// The lines of one client, and the thread that gives them to its callback. Dropped, it gives those that
/// wait, and ends.
pub(crate) struct Log {
    lines: Arc<Lines>,
    /// Takes the lines of an embedded broker, from the threads on which it is the default.
    dispatch: Dispatch,
    thread: Option<JoinHandle<()>>,
}

/// Lines that wait for the callback.
#[derive(Default)]
struct Lines {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<(mq_log_level, String)>,
    lost: usize,
    is_over: bool,
}

impl Log {
    /// Starts the thread, if the configuration has a callback.
    pub(crate) fn start(config: &mq_config) -> Outcome<Option<Self>> {
        let Some(callback) = config.on_log else { return Ok(None) };
        let lines = Arc::<Lines>::default();
        let (source, data) = (Arc::clone(&lines), UserData(config.log_user_data));
        let run = move || {
            let data = data;
            while let Some((level, line)) = source.take() {
                // SAFETY: the user's function, called as the header says.
                call_back(|| unsafe { callback(data.0, level, mq_span::of(line.as_bytes())) });
            }
        };
        let started = thread::Builder::new().name("libmq-log".to_owned()).spawn(run);
        let thread = Some(started.map_err(Failure::no_thread)?);
        let pushed = Arc::clone(&lines);
        let dispatch = libmq::broker_lines(move |level, line| pushed.push(level.into(), line));
        Ok(Some(Self { lines, dispatch, thread }))
    }

    /// Runs a call whose log lines, and those of the threads that it starts, are the client's.
    pub(crate) fn within<T>(log: Option<&Self>, call: impl FnOnce() -> T) -> T {
        match log {
            Some(log) => tracing::dispatcher::with_default(&log.dispatch, call),
            None => call(),
        }
    }

    /// Makes lines of what happens to the connections that publish.
    pub(crate) fn follow_client(&self, client: &Client, driver: &Driver) -> Outcome<Feed> {
        let (client, lines) = (client.clone(), Arc::clone(&self.lines));
        let follow = async move {
            while let Ok(events) = client.events_async().await {
                events.iter().for_each(|event| lines.push_event(event));
            }
        };
        Feed::start(Box::pin(follow), driver)
    }

    /// Makes lines of what happens to the connections of a subscription.
    pub(crate) fn follow_subscription(&self, subscription: &Subscription, driver: &Driver) -> Outcome<Feed> {
        let (subscription, lines) = (subscription.clone(), Arc::clone(&self.lines));
        let follow = async move {
            while let Ok(events) = subscription.events_async().await {
                events.iter().for_each(|event| lines.push_event(event));
            }
        };
        Feed::start(Box::pin(follow), driver)
    }
}

impl From<LogLevel> for mq_log_level {
    fn from(level: LogLevel) -> Self {
        match level {
            LogLevel::Error => Self::Error,
            LogLevel::Warning => Self::Warning,
            LogLevel::Info => Self::Info,
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.lines.end();
        let Some(thread) = self.thread.take() else { return };
        // Freed in its own callback, it ends by itself.
        if thread.thread().id() != thread::current().id() {
            let _ = thread.join();
        }
    }
}

impl Lines {
    fn push(&self, level: mq_log_level, line: String) {
        let mut state = self.state.lock();
        if state.is_over {
            return;
        }
        if state.waiting.len() == LINES_MAX {
            state.waiting.pop_front();
            state.lost += 1;
        }
        state.waiting.push_back((level, line));
        drop(state);
        self.changed.notify_one();
    }

    /// Has the taker end once no line waits.
    fn end(&self) {
        self.state.lock().is_over = true;
        self.changed.notify_all();
    }

    fn push_event(&self, event: &ConnectionEvent) {
        let (level, line) = event.line();
        self.push(level.into(), line);
    }

    /// Waits for the next line. `None` once the log is over and no line waits.
    fn take(&self) -> Option<(mq_log_level, String)> {
        let mut state = self.state.lock();
        loop {
            let lost = std::mem::take(&mut state.lost);
            if lost > 0 {
                return Some((mq_log_level::Warning, format!("{lost} lines were lost: on_log is slow")));
            }
            if let Some(line) = state.waiting.pop_front() {
                return Some(line);
            }
            if state.is_over {
                return None;
            }
            state = self.changed.wait(state);
        }
    }
}

/// Events of connections that become lines, until it is dropped.
pub(crate) struct Feed {
    following: Arc<Following>,
    entry: Arc<Entry>,
}

struct Following(Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>);

impl Feed {
    fn start(follow: Pin<Box<dyn Future<Output = ()> + Send>>, driver: &Driver) -> Outcome<Self> {
        let following = Arc::new(Following(Mutex::new(Some(follow))));
        let entry = driver.spawn(Arc::<Following>::clone(&following))?;
        Ok(Self { following, entry })
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        // The future has a waker, which has the future.
        let future = self.following.0.lock().take();
        drop(future);
        self.entry.end();
    }
}

impl Task for Following {
    fn run(&self, waker: &Waker) -> bool {
        let mut future = self.0.lock();
        let Some(following) = &mut *future else { return true };
        if following.as_mut().poll(&mut Context::from_waker(waker)) == Poll::Pending {
            return false;
        }
        *future = None;
        true
    }
}

#[cfg(all(test, mq_loom))]
mod loom_tests {
    use super::*;

    #[test]
    fn lines_pushed_before_the_end_are_taken_in_order_and_the_taker_ends() {
        loom::model(|| {
            let lines = Arc::<Lines>::default();
            let source = Arc::clone(&lines);
            let taker = thread::spawn(move || std::iter::from_fn(|| source.take()).count());
            lines.push(mq_log_level::Info, "one".to_owned());
            lines.push(mq_log_level::Info, "two".to_owned());
            lines.end();
            assert_eq!(taker.join().unwrap(), 2);
        });
    }
}

#[cfg(all(test, not(mq_loom)))]
mod tests {
    use super::*;

    #[test]
    fn lines_that_a_slow_callback_leaves_are_bounded_and_what_was_lost_is_said() {
        let lines = Lines::default();
        (0..LINES_MAX + 2).for_each(|n| lines.push(mq_log_level::Info, n.to_string()));
        assert_eq!(lines.take().unwrap().1, "2 lines were lost: on_log is slow");
        assert_eq!(lines.take().unwrap().1, "2");
        lines.end();
        lines.push(mq_log_level::Info, "too late".to_owned());
        assert_eq!(std::iter::from_fn(|| lines.take()).count(), LINES_MAX - 1);
    }
}
