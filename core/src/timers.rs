//! Deadlines of channels: one heap for all, with at most a few entries a channel and none a message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

use crate::sync::Mutex;

use crate::clock::Mono;
use crate::parker::Parker;

/// The heap of `T`s, which are channels, and the thread that serves it.
pub(crate) struct Timers<T> {
    heap: Mutex<BinaryHeap<Reverse<Entry<T>>>>,
    /// Held while entries are served, so that whoever has served them knows that none is half done.
    pub(crate) serving: Mutex<()>,
    pub(crate) thread: Parker,
}

struct Entry<T> {
    at: Mono,
    channel: Weak<T>,
}

impl<T> Default for Timers<T> {
    fn default() -> Self {
        Self { heap: Mutex::default(), serving: Mutex::default(), thread: Parker::default() }
    }
}

impl<T> Timers<T> {
    /// Has `channel` looked at from `at` on. The channel keeps its earliest entry in mind and adds only
    /// earlier ones.
    pub(crate) fn add(&self, at: Mono, channel: Weak<T>) {
        let mut heap = self.heap.lock();
        let first = heap.peek().is_none_or(|Reverse(e)| at < e.at);
        heap.push(Reverse(Entry { at, channel }));
        drop(heap);
        if first {
            self.thread.unpark();
        }
    }

    /// Takes one channel whose time has come by `now`.
    pub(crate) fn pop(&self, now: Mono) -> Option<(Mono, Arc<T>)> {
        let mut heap = self.heap.lock();
        while heap.peek().is_some_and(|Reverse(e)| e.at <= now) {
            let Reverse(entry) = heap.pop()?;
            if let Some(channel) = entry.channel.upgrade() {
                return Some((entry.at, channel));
            }
        }
        None
    }

    /// The time of the next entry.
    pub(crate) fn next(&self) -> Option<Mono> {
        self.heap.lock().peek().map(|Reverse(e)| e.at)
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<T> Eq for Entry<T> {}
