//! The registry as connections and requests share it.
//!
//! - [`Directory`]: the registry behind a lock and a clock; [`Watch`]: hearing of a topic's changes

mod watch;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use mq_core::clock::{Mono, Wall};
use mq_core::discovery::{Entry, Found, Listed, Node, Producer, ProducerId, Registry, Settings, View};
use mq_core::{ChannelName, Clock, Result, SystemClock, TopicName};
use parking_lot::Mutex;
use tokio::sync::watch::Sender;

pub use watch::Watch;

/// Entries of a long list that are taken under one hold of the lock: nobody waits for a whole list.
const PIECE: usize = 256;

/// The core's registry behind a lock and a clock. Every hold of the lock is short.
pub struct Directory {
    state: Mutex<State>,
    clock: SystemClock,
    /// The wall time of the clock's start.
    start: Wall,
    next: AtomicU64,
}

struct State {
    registry: Registry,
    /// Whoever watches a topic, for each that is watched.
    watchers: HashMap<TopicName, Watchers>,
}

/// Registrations of a topic.
#[derive(Default)]
struct Watchers {
    /// Number of watchers, never 0.
    count: usize,
    sender: Arc<Sender<()>>,
}

impl Directory {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        let clock = SystemClock::new();
        let start = clock.wall().before(clock.mono().0);
        let state = State { registry: Registry::new(settings), watchers: HashMap::new() };
        Self { state: Mutex::new(state), clock, start, next: AtomicU64::new(1) }
    }

    /// See [`Registry::identify`].
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn identify(&self, producer: Producer) -> Result<ProducerId> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.change(|registry, now| registry.identify(id, producer, now))?;
        Ok(id)
    }

    /// See [`Registry::ping`].
    pub fn ping(&self, id: ProducerId) {
        self.change(|registry, now| registry.ping(id, now));
    }

    /// See [`Registry::register`].
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn register(&self, id: ProducerId, topic: &TopicName, channel: Option<&ChannelName>) -> Result<()> {
        self.change(|registry, now| registry.register(id, topic, channel, now))
    }

    /// See [`Registry::unregister`].
    pub fn unregister(&self, id: ProducerId, topic: &TopicName, channel: Option<&ChannelName>) {
        self.change(|registry, now| registry.unregister(id, topic, channel, now));
    }

    /// See [`Registry::disconnect`].
    pub fn disconnect(&self, id: ProducerId) {
        self.change(|registry, now| registry.disconnect(id, now));
    }

    /// See [`Registry::create`].
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn create(&self, topic: &TopicName, channel: Option<&ChannelName>) -> Result<()> {
        self.change(|registry, now| registry.create(topic, channel, now))
    }

    /// See [`Registry::delete_topic`].
    pub fn delete_topic(&self, topic: &TopicName) {
        self.change(|registry, now| registry.delete_topic(topic, now));
    }

    /// See [`Registry::delete_channel`].
    pub fn delete_channel(&self, topic: &TopicName, channel: &ChannelName) -> bool {
        self.change(|registry, _| registry.delete_channel(topic, channel))
    }

    /// See [`Registry::tombstone`].
    pub fn tombstone(&self, topic: &TopicName, node: &Node) {
        self.change(|registry, now| registry.tombstone(topic, node, now));
    }

    /// See [`Registry::lookup`].
    pub fn lookup(&self, topic: &TopicName, view: View) -> Option<Found> {
        self.state.lock().registry.lookup(topic, view, self.clock.mono())
    }

    /// See [`Registry::channels`].
    pub fn channels(&self, topic: &TopicName, view: View) -> Vec<ChannelName> {
        self.state.lock().registry.channels(topic, view, self.clock.mono())
    }

    /// All topics of a view, sorted.
    pub fn topics(&self, view: View) -> Vec<TopicName> {
        let mut topics: Vec<TopicName> = Vec::new();
        loop {
            let piece = self.state.lock().registry.topics(topics.last(), PIECE, view, self.clock.mono());
            if piece.is_empty() {
                return topics;
            }
            topics.extend(piece);
        }
    }

    /// All active producers, in the order they connected.
    pub fn nodes(&self) -> Vec<Listed> {
        let mut nodes: Vec<Listed> = Vec::new();
        loop {
            let after = nodes.last().map(|listed| listed.id);
            // A node has a list itself.
            let piece = self.state.lock().registry.nodes(after, 1, self.clock.mono());
            if piece.is_empty() {
                return nodes;
            }
            nodes.extend(piece);
        }
    }

    /// Shows `each` the topics and channels that have a producer, sorted by topic, some at a time.
    pub fn entries(&self, mut each: impl FnMut(&Entry)) {
        let mut after: Option<TopicName> = None;
        loop {
            let piece = self.state.lock().registry.entries(after.as_ref(), PIECE, self.clock.mono());
            let Some(last) = piece.last() else { return };
            after = Some(last.topic.clone());
            piece.iter().for_each(&mut each);
        }
    }

    /// Watches a topic, whether anybody knows of it or not.
    pub fn watch(self: &Arc<Self>, topic: TopicName) -> Watch {
        let mut state = self.state.lock();
        let State { registry, watchers } = &mut *state;
        let watchers = watchers.entry(topic.clone()).or_insert_with(|| {
            registry.watch(&topic);
            Watchers::default()
        });
        watchers.count += 1;
        Watch::new(Arc::clone(self), topic, watchers.sender.subscribe())
    }

    /// A watcher of a topic goes.
    fn unwatch(&self, topic: &TopicName) {
        let mut state = self.state.lock();
        let State { registry, watchers } = &mut *state;
        let Some(left) = watchers.get_mut(topic) else { return };
        left.count -= 1;
        if left.count == 0 {
            watchers.remove(topic);
            registry.unwatch(topic);
        }
    }

    #[cfg(test)]
    fn watched(&self) -> usize {
        self.state.lock().watchers.len()
    }

    /// [`Registry::lookup`] of what exists, and [`Registry::changes_at`] in nanoseconds from now.
    fn look(&self, topic: &TopicName) -> (Option<Found>, Option<u64>) {
        let registry = &self.state.lock().registry;
        let now = self.clock.mono();
        let changes_in = registry.changes_at(topic, now).map(|at| at.since(now));
        (registry.lookup(topic, View::Existing, now), changes_in)
    }

    /// Changes the registry, and wakes whoever watches what may have changed.
    fn change<T>(&self, act: impl FnOnce(&mut Registry, Mono) -> T) -> T {
        let mut state = self.state.lock();
        let done = act(&mut state.registry, self.clock.mono());
        let changed = state.registry.take_changed();
        let watched = |topic: &TopicName| Some(Arc::clone(&state.watchers.get(topic)?.sender));
        let senders: Vec<_> = changed.iter().filter_map(watched).collect();
        drop(state);
        senders.iter().for_each(|sender| sender.send_replace(()));
        done
    }

    /// Does `read` with the registry.
    pub fn with<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        read(&self.state.lock().registry)
    }

    /// Forgets what is due, a bounded number of things under one hold of the lock.
    pub fn expire(&self) {
        let now = self.clock.mono();
        while self.change(|registry, _| registry.expire(now)).is_some_and(|next| next <= now) {}
    }

    /// The wall time of something that happened at `at`.
    pub fn wall(&self, at: Mono) -> Wall {
        self.start.plus(at.0)
    }
}
