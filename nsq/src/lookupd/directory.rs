//! The registry as connections and requests share it.

use std::sync::atomic::{AtomicU64, Ordering};

use mq_core::clock::{Mono, Wall};
use mq_core::discovery::{Entry, Found, Listed, Node, Producer, ProducerId, Registry, Settings};
use mq_core::{ChannelName, Clock, Result, SystemClock, TopicName};
use parking_lot::Mutex;

/// Entries of a long list that are taken under one hold of the lock: nobody waits for a whole list.
const PIECE: usize = 256;

/// The core's registry behind a lock and a clock. Every hold of the lock is short.
pub struct Directory {
    registry: Mutex<Registry>,
    clock: SystemClock,
    /// The wall time of the clock's start.
    start: Wall,
    next: AtomicU64,
}

impl Directory {
    /// An empty one.
    pub fn new(settings: Settings) -> Self {
        let clock = SystemClock::new();
        let start = clock.wall().saturating_sub(clock.mono());
        Self { registry: Mutex::new(Registry::new(settings)), clock, start, next: AtomicU64::new(1) }
    }

    /// See [`Registry::identify`].
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn identify(&self, producer: Producer) -> Result<ProducerId> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.registry.lock().identify(id, producer, self.clock.mono())?;
        Ok(id)
    }

    /// See [`Registry::ping`].
    pub fn ping(&self, id: ProducerId) {
        self.registry.lock().ping(id, self.clock.mono());
    }

    /// See [`Registry::register`].
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn register(&self, id: ProducerId, topic: &TopicName, channel: Option<&ChannelName>) -> Result<()> {
        self.registry.lock().register(id, topic, channel, self.clock.mono())
    }

    /// See [`Registry::unregister`].
    pub fn unregister(&self, id: ProducerId, topic: &TopicName, channel: Option<&ChannelName>) {
        self.registry.lock().unregister(id, topic, channel);
    }

    /// See [`Registry::disconnect`].
    pub fn disconnect(&self, id: ProducerId) {
        self.registry.lock().disconnect(id, self.clock.mono());
    }

    /// See [`Registry::create`].
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn create(&self, topic: &TopicName, channel: Option<&ChannelName>) -> Result<()> {
        self.registry.lock().create(topic, channel, self.clock.mono())
    }

    /// See [`Registry::delete_topic`].
    pub fn delete_topic(&self, topic: &TopicName) {
        self.registry.lock().delete_topic(topic, self.clock.mono());
    }

    /// See [`Registry::delete_channel`].
    pub fn delete_channel(&self, topic: &TopicName, channel: &ChannelName) -> bool {
        self.registry.lock().delete_channel(topic, channel)
    }

    /// See [`Registry::tombstone`].
    pub fn tombstone(&self, topic: &TopicName, node: &Node) {
        self.registry.lock().tombstone(topic, node, self.clock.mono());
    }

    /// See [`Registry::lookup`].
    pub fn lookup(&self, topic: &TopicName) -> Option<Found> {
        self.registry.lock().lookup(topic, self.clock.mono())
    }

    /// See [`Registry::channels`].
    pub fn channels(&self, topic: &TopicName) -> Vec<ChannelName> {
        self.registry.lock().channels(topic, self.clock.mono())
    }

    /// All topics, sorted.
    pub fn topics(&self) -> Vec<TopicName> {
        let mut topics: Vec<TopicName> = Vec::new();
        loop {
            let piece = self.registry.lock().topics(topics.last(), PIECE, self.clock.mono());
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
            let piece = self.registry.lock().nodes(after, 1, self.clock.mono());
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
            let piece = self.registry.lock().entries(after.as_ref(), PIECE, self.clock.mono());
            let Some(last) = piece.last() else { return };
            after = Some(last.topic.clone());
            piece.iter().for_each(&mut each);
        }
    }

    /// Does `read` with the registry.
    pub(super) fn with<T>(&self, read: impl FnOnce(&Registry) -> T) -> T {
        read(&self.registry.lock())
    }

    /// Forgets what is due, a bounded number of things under one hold of the lock.
    pub(super) fn expire(&self) {
        let now = self.clock.mono();
        while self.registry.lock().expire(now).is_some_and(|next| next <= now) {}
    }

    /// The wall time of something that happened at `at`.
    pub(super) fn wall(&self, at: Mono) -> Wall {
        self.start.saturating_add(at)
    }
}
