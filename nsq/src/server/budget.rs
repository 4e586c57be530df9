//! Memory for half-read commands: one budget for all sessions of a server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use mq_core::Wake;
use parking_lot::Mutex;

use mq_net::clients::Client;
use mq_net::signal::Signal;

/// Bytes that a session may hold uncounted: a line, or a small body that came in two pieces.
const FREE_BYTES: usize = 16 * 1024;

/// Bytes held by all sessions, and who waits for them to become fewer.
#[derive(Debug)]
pub(super) struct Budget {
    max: usize,
    used: AtomicUsize,
    waiting: Mutex<BTreeMap<u64, Arc<Signal>>>,
    any_waiting: AtomicBool,
}

impl Budget {
    pub(super) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self {
            max,
            used: AtomicUsize::new(0),
            waiting: Mutex::default(),
            any_waiting: AtomicBool::new(false),
        })
    }
}

/// One session's part of a budget; given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Share {
    pub(super) fn new(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }

    /// The session holds `bytes` now.
    pub(super) fn set(&mut self, bytes: usize) {
        let bytes = if bytes > FREE_BYTES { bytes } else { 0 };
        let old = std::mem::replace(&mut self.bytes, bytes);
        if bytes > old {
            self.budget.used.fetch_add(bytes - old, Ordering::SeqCst);
        } else if bytes < old {
            self.budget.used.fetch_sub(old - bytes, Ordering::SeqCst);
            if self.budget.any_waiting.load(Ordering::SeqCst) {
                let mut waiting = self.budget.waiting.lock();
                self.budget.any_waiting.store(false, Ordering::SeqCst);
                let waiting = std::mem::take(&mut *waiting);
                waiting.values().for_each(|signal| signal.wake());
            }
        }
    }

    /// Whether the session holds more than is free.
    pub(super) fn is_counted(&self) -> bool {
        self.bytes > 0
    }

    /// Whether the session may hold more: if it holds nothing counted, or is the only one that does, or the
    /// budget is not spent. If not, it is woken to ask again.
    pub(super) fn may_grow(&self, client: &Client) -> bool {
        if !self.is_counted() || self.has_room() {
            return true;
        }
        {
            let mut waiting = self.budget.waiting.lock();
            waiting.insert(client.id, Arc::clone(client.signal()));
            self.budget.any_waiting.store(true, Ordering::SeqCst);
        }
        // What was given back in between woke nobody.
        self.has_room()
    }

    fn has_room(&self) -> bool {
        let used = self.budget.used.load(Ordering::SeqCst);
        used <= self.budget.max || used == self.bytes
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.set(0);
    }
}
