//! Deadlines of channels: one heap for all, with at most a few entries a channel and none a message.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::channel::Channel;
use crate::clock::Mono;
use crate::parker::Parker;

/// The heap, and the bell of the thread that serves it.
#[derive(Default)]
pub(crate) struct Timers {
    heap: Mutex<BinaryHeap<Reverse<Entry>>>,
    /// Held while entries are served, so that whoever has served them knows that none is half done.
    pub(crate) serving: Mutex<()>,
    pub(crate) bell: Parker,
}

struct Entry {
    at: Mono,
    channel: Weak<Channel>,
}

impl Timers {
    /// Has `channel` looked at from `at` on. The channel keeps its earliest entry in mind and adds only
    /// earlier ones.
    pub(crate) fn add(&self, at: Mono, channel: Weak<Channel>) {
        let mut heap = self.heap.lock();
        let first = heap.peek().is_none_or(|Reverse(e)| at < e.at);
        heap.push(Reverse(Entry { at, channel }));
        drop(heap);
        if first {
            self.bell.unpark();
        }
    }

    /// Takes one channel whose time has come by `now`.
    pub(crate) fn pop(&self, now: Mono) -> Option<(Mono, Arc<Channel>)> {
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

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl Eq for Entry {}
