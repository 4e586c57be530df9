//! A few threads for reads that have to wait for a disk.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::sync::{Condvar, Mutex};

use crate::channel::Load;

/// Threads, and so reads that can wait for the disk at once.
const THREADS: usize = 2;

/// The pool. Before [`IoPool::start`], reads are done by whoever asks.
#[derive(Default)]
pub(crate) struct IoPool {
    queue: Arc<Queue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    /// At most one read for each channel.
    loads: VecDeque<Load>,
    running: bool,
}

impl IoPool {
    /// Lets reads be done by threads, which are started with the first one.
    pub(crate) fn start(&self) {
        self.queue.state.lock().running = true;
    }

    /// Whether threads do the reads that have to wait.
    pub(crate) fn is_running(&self) -> bool {
        self.queue.state.lock().running
    }

    /// Does `load`, soon.
    pub(crate) fn submit(&self, load: Load) {
        let mut state = self.queue.state.lock();
        if !state.running {
            drop(state);
            load.run(false);
            return;
        }
        state.loads.push_back(load);
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
                    let load = self.queue.state.lock().loads.pop_back();
                    if let Some(load) = load.filter(|_| threads.is_empty()) {
                        load.run(false);
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
            state.loads.clear();
        }
        self.queue.filled.notify_all();
        for thread in self.threads.lock().drain(..) {
            // A panic there has been reported by its thread.
            let _ = thread.join();
        }
    }
}

impl Queue {
    fn serve(&self) {
        loop {
            let mut state = self.state.lock();
            while state.running && state.loads.is_empty() {
                state = self.filled.wait(state);
            }
            let load = state.loads.pop_front();
            drop(state);
            match load {
                Some(load) => {
                    load.run(false);
                }
                None => return,
            }
        }
    }
}
