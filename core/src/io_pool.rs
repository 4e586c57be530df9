//! A few threads for reads that have to wait for a disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::sync::{Condvar, Mutex};

/// Threads, and so reads that can wait for the disk at once.
const THREADS: usize = 2;

/// A read that may have to wait for a disk.
pub(crate) trait Read: Send + 'static {
    /// Reads, however long it takes, and hands over what was read.
    fn run(&self);
}

/// The pool. Before [`IoPool::start`], reads are done by whoever asks.
pub(crate) struct IoPool<R> {
    queue: Arc<Queue<R>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

struct Queue<R> {
    state: Mutex<State<R>>,
    filled: Condvar,
}

struct State<R> {
    /// At most one read for each channel, and one for its dead letters.
    reads: VecDeque<R>,
    running: bool,
}

impl<R> Default for IoPool<R> {
    fn default() -> Self {
        let state = Mutex::new(State { reads: VecDeque::new(), running: false });
        Self { queue: Arc::new(Queue { state, filled: Condvar::default() }), threads: Mutex::default() }
    }
}

impl<R: Read> IoPool<R> {
    /// Lets reads be done by threads, which are started with the first one.
    pub(crate) fn start(&self) {
        self.queue.state.lock().running = true;
    }

    /// Whether threads do the reads that have to wait.
    pub(crate) fn is_running(&self) -> bool {
        self.queue.state.lock().running
    }

    /// Does `read`, soon.
    pub(crate) fn submit(&self, read: R) {
        let mut state = self.queue.state.lock();
        if !state.running {
            drop(state);
            read.run();
            return;
        }
        state.reads.push_back(read);
        drop(state);
        self.queue.filled.notify_one();
        let mut threads = self.threads.lock();
        if threads.len() < THREADS {
            let queue = self.queue.clone();
            let spawned = std::thread::Builder::new().name("mq-read".into()).spawn(move || queue.serve());
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(error) => {
                    tracing::error!("could not start a thread to read: {error}");
                    let read = self.queue.state.lock().reads.pop_back();
                    if let Some(read) = read.filter(|_| threads.is_empty()) {
                        read.run();
                    }
                }
            }
        }
    }

    /// Ends the threads; reads that wait are dropped.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.queue.state.lock();
            state.running = false;
            state.reads.clear();
        }
        self.queue.filled.notify_all();
        for thread in self.threads.lock().drain(..) {
            // A panic there has been reported by its thread.
            let _ = thread.join();
        }
    }
}

impl<R: Read> Queue<R> {
    fn serve(&self) {
        loop {
            let mut state = self.state.lock();
            while state.running && state.reads.is_empty() {
                state = self.filled.wait(state);
            }
            let read = state.reads.pop_front();
            drop(state);
            match read {
                Some(read) => {
                    read.run();
                }
                None => return,
            }
        }
    }
}
