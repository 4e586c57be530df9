//! The registry: which producers have which topics and channels.

mod answers;
#[cfg(test)]
mod model_test;
mod records;
mod settings;
#[cfg(test)]
mod tests;
mod watched;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::clock::Mono;
use crate::discovery::tombstones::Tombstones;
use crate::discovery::{Node, Producer, ProducerId};
use crate::error::{Error, ErrorKind, Result};
use crate::name::{ChannelName, TopicName};

use records::{Address, Connection, Topic, has, insert, remove};
use watched::Watched;

pub use answers::{Entry, Found, Listed, Registered, View};
pub use settings::Settings;

/// Keys and tombstones that one [`Registry::expire`] removes at most: it must not hold up lookups.
const EXPIRE_MAX: usize = 1_000;

/// Producers, what they registered, and tombstones. Times passed in must not go back.
///
/// A lasting topic or channel without a producer is remembered for the idle lifetime, an ephemeral one is
/// forgotten at once. After a disconnect the producer may come back, so the name counts as existing. After an
/// UNREGISTER by the last producer it counts as deleted: [`View::All`] still shows it, as nsqlookupd does,
/// and [`View::Existing`] does not, so that no broker creates it again because another one once had it.
pub struct Registry {
    settings: Settings,
    producers: BTreeMap<ProducerId, Connection>,
    /// The newest of several connections of one broker, where an old one is not yet found dead.
    newest: HashMap<Address, ProducerId>,
    topics: BTreeMap<TopicName, Topic>,
    tombstones: Tombstones,
    /// Topics and channels without a producer, by since when.
    idle: BTreeSet<(Mono, TopicName, Option<ChannelName>)>,
    /// Topics and channels.
    keys: usize,
    /// Producers of topics and channels, summed up.
    registrations: usize,
    watched: Watched,
}

impl Registry {
    /// An empty registry.
    pub fn new(settings: Settings) -> Self {
        let tombstones = Tombstones::new(settings.tombstone_lifetime, settings.max_keys);
        Self {
            settings,
            producers: BTreeMap::new(),
            newest: HashMap::new(),
            topics: BTreeMap::new(),
            tombstones,
            idle: BTreeSet::new(),
            keys: 0,
            registrations: 0,
            watched: Watched::default(),
        }
    }

    /// A producer has connected and said who it is. `id` must be new.
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn identify(&mut self, id: ProducerId, producer: Producer, now: Mono) -> Result<()> {
        let max = self.settings.max_producers;
        if self.producers.len() >= max {
            return Err(Error::new(ErrorKind::LimitReached, format!("there are {max} producers, the limit")));
        }
        let grpc_port = if producer.tcp_port == 0 { producer.grpc_port } else { 0 };
        let address = (producer.broadcast_address.clone(), producer.tcp_port, grpc_port);
        if let Some(newest) = self.newest.insert(address.clone(), id) {
            self.touch_all(newest);
        }
        let connection = Connection {
            node: producer.node(),
            address,
            producer: Arc::new(producer),
            connected_at: now,
            last_update: now,
            topics: BTreeSet::new(),
            registrations: 0,
        };
        self.producers.insert(id, connection);
        Ok(())
    }

    /// A producer is alive.
    pub fn ping(&mut self, id: ProducerId, now: Mono) {
        let Some(connection) = self.producers.get_mut(&id) else { return };
        let silence = now.since(connection.last_update);
        connection.last_update = now;
        if silence > self.settings.inactive_after {
            self.touch_all(id);
        }
    }

    /// A producer has a topic, or a channel of it.
    ///
    /// A producer under a tombstone that announces the topic on a new connection stays hidden until the
    /// tombstone's end; on a connection that is older than the tombstone it has the topic anew, which
    /// ends the tombstone.
    ///
    /// # Errors
    /// `NotFound` if the producer has not identified itself; `LimitReached`, and then nothing was registered.
    pub fn register(
        &mut self,
        id: ProducerId,
        topic: &TopicName,
        channel: Option<&ChannelName>,
        now: Mono,
    ) -> Result<()> {
        let Some(connection) = self.producers.get(&id) else {
            return Err(Error::new(ErrorKind::NotFound, "the producer has not identified itself"));
        };
        let has_topic = connection.topics.contains(topic);
        let has_channel = channel.is_none_or(|name| {
            self.topics.get(topic).and_then(|t| t.channel(name)).is_some_and(|c| has(&c.producers, id))
        });
        let more = usize::from(!has_topic) + usize::from(!has_channel);
        if more == 0 {
            return Ok(());
        }
        let limits = [
            (connection.registrations, self.settings.max_per_producer, "of this producer "),
            (self.registrations, self.settings.max_registrations, ""),
        ];
        if let Some((_, max, whose)) = limits.iter().find(|(have, max, _)| have + more > *max) {
            let text = format!("{max} topics and channels {whose}are registered, the limit");
            return Err(Error::new(ErrorKind::LimitReached, text));
        }
        let since = self.tombstones.since(topic, &connection.node, now);
        let (node, connected_at) = (connection.node.clone(), connection.connected_at);
        self.make_room(topic, channel)?;

        let mut hidden_until = None;
        match since {
            Some(since) if !has_topic && connected_at <= since => self.tombstones.remove(topic, &node),
            Some(since) => hidden_until = Some(self.tombstones.end(since)),
            None => {}
        }
        let is_new = !self.topics.contains_key(topic);
        let name = match self.topics.get_key_value(topic) {
            Some((name, _)) => name.clone(),
            None => topic.clone(),
        };
        let entry = self.topics.entry(name.clone()).or_default();
        entry.is_deleted = false;
        self.keys += usize::from(is_new);
        match (hidden_until, entry.hidden_until) {
            (None, Some(_)) => entry.hidden_until = None,
            (Some(until), _) if is_new => entry.hidden_until = Some(until),
            _ => {}
        }
        if insert(&mut entry.producers, id) {
            self.registrations += 1;
        }
        if let Some(since) = entry.idle_since.take() {
            self.idle.remove(&(since, name.clone(), None));
        }
        if let Some(channel) = channel {
            let (at, is_new) = entry.channel_or_new(channel);
            self.keys += usize::from(is_new);
            let entry = &mut entry.channels[at];
            entry.is_deleted = false;
            if insert(&mut entry.producers, id) {
                self.registrations += 1;
            }
            if let Some(since) = entry.idle_since.take() {
                self.idle.remove(&(since, name.clone(), Some(entry.name.clone())));
            }
        }
        self.watched.touch(topic);
        if let Some(connection) = self.producers.get_mut(&id) {
            connection.topics.insert(name);
            connection.registrations += more;
        }
        Ok(())
    }

    /// A producer has deleted a topic with its channels, or one channel.
    pub fn unregister(
        &mut self,
        id: ProducerId,
        topic: &TopicName,
        channel: Option<&ChannelName>,
        now: Mono,
    ) {
        let Some(connection) = self.producers.get_mut(&id) else { return };
        let Some(entry) = self.topics.get_mut(topic) else { return };
        self.watched.touch(topic);
        let mut removed = 0;
        let channels = match channel {
            Some(name) => entry.find(name).map_or(0..0, |at| at..at + 1),
            None => {
                connection.topics.remove(topic);
                removed += usize::from(remove(&mut entry.producers, id));
                0..entry.channels.len()
            }
        };
        let last = channel.is_none() && entry.producers.is_empty();
        for entry in &mut entry.channels[channels] {
            let had = remove(&mut entry.producers, id);
            removed += usize::from(had);
            if entry.producers.is_empty() && (had || last || channel.is_some()) {
                entry.is_deleted = true;
                if entry.idle_since.is_none() {
                    entry.idle_since = Some(now);
                    self.idle.insert((now, topic.clone(), Some(entry.name.clone())));
                }
            }
        }
        connection.registrations -= removed;
        self.registrations -= removed;
        if last {
            entry.is_deleted = true;
            if entry.idle_since.is_none() {
                entry.idle_since = Some(now);
                self.idle.insert((now, topic.clone(), None));
            }
        }
        self.forget_ephemeral(topic);
    }

    /// Forgets what is ephemeral of a topic and was deleted.
    fn forget_ephemeral(&mut self, topic: &TopicName) {
        let Some(entry) = self.topics.get_mut(topic) else { return };
        if entry.is_deleted && topic.is_ephemeral() {
            return self.remove_topic(topic);
        }
        let (keys, idle) = (&mut self.keys, &mut self.idle);
        entry.channels.retain(|channel| {
            let forget = channel.is_deleted && channel.name.is_ephemeral();
            if let (true, Some(since)) = (forget, channel.idle_since) {
                *keys -= 1;
                idle.remove(&(since, topic.clone(), Some(channel.name.clone())));
            }
            !forget
        });
    }

    /// A producer's connection is gone, and with it what it registered.
    pub fn disconnect(&mut self, id: ProducerId, now: Mono) {
        let Some(connection) = self.producers.remove(&id) else { return };
        if self.newest.get(&connection.address) == Some(&id) {
            let mut others = self.producers.iter().rev();
            match others.find(|(_, other)| other.address == connection.address) {
                Some((&other, _)) => {
                    self.newest.insert(connection.address, other);
                    self.touch_all(other);
                }
                None => _ = self.newest.remove(&connection.address),
            }
        }
        self.registrations -= connection.registrations;
        for name in &connection.topics {
            let Some(entry) = self.topics.get_mut(name) else { continue };
            self.watched.touch(name);
            remove(&mut entry.producers, id);
            let (keys, idle) = (&mut self.keys, &mut self.idle);
            entry.channels.retain_mut(|channel| {
                if !remove(&mut channel.producers, id) || !channel.producers.is_empty() {
                    return true;
                }
                if channel.name.is_ephemeral() {
                    *keys -= 1;
                    return false;
                }
                channel.idle_since = Some(now);
                idle.insert((now, name.clone(), Some(channel.name.clone())));
                true
            });
            if !entry.producers.is_empty() {
                continue;
            }
            if name.is_ephemeral() {
                self.remove_topic(name);
            } else {
                entry.idle_since = Some(now);
                self.idle.insert((now, name.clone(), None));
            }
        }
    }

    /// An administrator makes a topic known, or a channel of it, for brokers to create when they get the
    /// topic.
    ///
    /// # Errors
    /// `LimitReached`.
    pub fn create(&mut self, topic: &TopicName, channel: Option<&ChannelName>, now: Mono) -> Result<()> {
        self.make_room(topic, channel)?;
        self.watched.touch(topic);
        if !self.topics.contains_key(topic) {
            self.topics.insert(topic.clone(), Topic { idle_since: Some(now), ..Topic::default() });
            self.idle.insert((now, topic.clone(), None));
            self.keys += 1;
        }
        let Some(entry) = self.topics.get_mut(topic) else { return Ok(()) };
        entry.is_deleted = false;
        entry.hidden_until = None;
        if let Some(channel) = channel {
            let (at, is_new) = entry.channel_or_new(channel);
            entry.channels[at].is_deleted = false;
            if is_new {
                entry.channels[at].idle_since = Some(now);
                self.idle.insert((now, topic.clone(), Some(channel.clone())));
                self.keys += 1;
            }
        }
        Ok(())
    }

    /// An administrator deletes a topic here: its registrations go, and who had it stays hidden for the
    /// tombstone's lifetime if it only announces the topic again (see [`Registry::register`]).
    pub fn delete_topic(&mut self, topic: &TopicName, now: Mono) {
        let Some(entry) = self.topics.get(topic) else { return };
        let producers = entry.producers.clone();
        for id in producers {
            let Some(connection) = self.producers.get(&id) else { continue };
            let node = connection.node.clone();
            self.unregister(id, topic, None, now);
            self.tombstones.set(topic, node, now);
        }
        self.remove_topic(topic);
    }

    /// An administrator deletes a channel here. `false` if there is none.
    pub fn delete_channel(&mut self, topic: &TopicName, channel: &ChannelName) -> bool {
        let Some(entry) = self.topics.get_mut(topic) else { return false };
        let Ok(at) = entry.find(channel) else { return false };
        self.watched.touch(topic);
        let channel = entry.channels.remove(at);
        self.keys -= 1;
        self.registrations -= channel.producers.len();
        for id in channel.producers {
            if let Some(connection) = self.producers.get_mut(&id) {
                connection.registrations -= 1;
            }
        }
        if let Some(since) = channel.idle_since {
            self.idle.remove(&(since, topic.clone(), Some(channel.name)));
        }
        true
    }

    /// Hides `node` from the topic's lookups for the tombstone's lifetime, if it has the topic.
    pub fn tombstone(&mut self, topic: &TopicName, node: &Node, now: Mono) {
        let Some(entry) = self.topics.get(topic) else { return };
        let mut producers = entry.producers.iter().filter_map(|id| self.producers.get(id));
        if producers.any(|connection| connection.node == *node) {
            self.tombstones.set(topic, node.clone(), now);
            self.watched.touch(topic);
        }
    }

    /// Forgets what has been idle for its lifetime and tombstones that have ended, a bounded number of each.
    /// Says when there is more to do.
    pub fn expire(&mut self, now: Mono) -> Option<Mono> {
        let tombstone = self.tombstones.expire(now, EXPIRE_MAX);
        let lifetime = self.settings.idle_lifetime;
        for _ in 0..EXPIRE_MAX {
            if self.idle.first().is_none_or(|(since, ..)| now < since.plus(lifetime)) {
                break;
            }
            self.forget_idle();
        }
        let idle = self.idle.first().map(|(since, ..)| since.plus(lifetime));
        [tombstone, idle].into_iter().flatten().min()
    }

    /// Makes sure that a topic, and a channel of it, can be added where they are new.
    fn make_room(&mut self, topic: &TopicName, channel: Option<&ChannelName>) -> Result<()> {
        loop {
            let entry = self.topics.get(topic);
            let new_channel = channel.is_some_and(|name| entry.is_none_or(|t| t.channel(name).is_none()));
            let more = usize::from(entry.is_none()) + usize::from(new_channel);
            let max = self.settings.max_keys;
            if more == 0 || self.keys + more <= max {
                return Ok(());
            }
            if !self.forget_idle() {
                let text = format!("there are {max} topics and channels, the limit");
                return Err(Error::new(ErrorKind::LimitReached, text));
            }
        }
    }

    /// Forgets what has been idle longest. `false` if nothing is.
    fn forget_idle(&mut self) -> bool {
        let Some((_, topic, channel)) = self.idle.pop_first() else { return false };
        match channel {
            None => self.remove_topic(&topic),
            Some(name) => {
                let Some(entry) = self.topics.get_mut(&topic) else { return true };
                if let Ok(at) = entry.find(&name) {
                    self.watched.touch(&topic);
                    entry.channels.remove(at);
                    self.keys -= 1;
                }
            }
        }
        true
    }

    /// Takes out a topic that has no producer, and its channels.
    fn remove_topic(&mut self, topic: &TopicName) {
        let Some(entry) = self.topics.remove(topic) else { return };
        self.watched.touch(topic);
        self.keys -= 1 + entry.channels.len();
        if let Some(since) = entry.idle_since {
            self.idle.remove(&(since, topic.clone(), None));
        }
        for channel in entry.channels {
            if let Some(since) = channel.idle_since {
                self.idle.remove(&(since, topic.clone(), Some(channel.name)));
            }
        }
    }
}
