//! Random events, and every answer held against a model that knows no index.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const TOPICS: [&str; 3] = ["t", "u", "v#ephemeral"];
const CHANNELS: [&str; 3] = ["c", "d", "e#ephemeral"];
const HOSTS: [&str; 3] = ["a", "b", "::1"];
const INACTIVE: u64 = 30;
const TOMBSTONE: u64 = 20;
const IDLE: u64 = 50;

#[derive(Clone, Debug)]
enum Op {
    Identify(usize),
    Ping(usize),
    Register(usize, usize, Option<usize>),
    Unregister(usize, usize, Option<usize>),
    Disconnect(usize),
    Create(usize, Option<usize>),
    DeleteTopic(usize),
    DeleteChannel(usize, usize),
    Tombstone(usize, usize),
    Wait(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let who = 0..6_usize;
    let channel = || prop::option::of(0..3_usize);
    prop_oneof![
        3 => (0..3_usize).prop_map(Op::Identify),
        2 => who.clone().prop_map(Op::Ping),
        8 => (who.clone(), 0..3_usize, channel()).prop_map(|(p, t, c)| Op::Register(p, t, c)),
        3 => (who.clone(), 0..3_usize, channel()).prop_map(|(p, t, c)| Op::Unregister(p, t, c)),
        2 => who.prop_map(Op::Disconnect),
        1 => (0..3_usize, channel()).prop_map(|(t, c)| Op::Create(t, c)),
        1 => (0..3_usize).prop_map(Op::DeleteTopic),
        1 => (0..3_usize, 0..3_usize).prop_map(|(t, c)| Op::DeleteChannel(t, c)),
        2 => (0..3_usize, 0..3_usize).prop_map(|(t, h)| Op::Tombstone(t, h)),
        3 => (1..25_u64).prop_map(Op::Wait),
    ]
}

/// A topic, or a channel of it, by number.
type Key = (usize, Option<usize>);

struct Known {
    host: usize,
    connected_at: Mono,
    last_update: Mono,
    has: BTreeSet<Key>,
}

#[derive(Default)]
struct Model {
    producers: BTreeMap<ProducerId, Known>,
    /// Every key, and since when it has no producer.
    keys: BTreeMap<Key, Option<Mono>>,
    /// Keys that their last producer deleted.
    deleted: BTreeSet<Key>,
    tombstones: BTreeMap<(usize, usize), Mono>,
    hidden: BTreeMap<usize, Mono>,
}

impl Model {
    fn has_producer(&self, key: Key) -> bool {
        self.producers.values().any(|p| p.has.contains(&key))
    }

    fn since(&self, topic: usize, host: usize, now: Mono) -> Option<Mono> {
        self.tombstones.get(&(topic, host)).copied().filter(|at| now < at.plus(TOMBSTONE))
    }

    fn drop_topic(&mut self, topic: usize) {
        self.keys.retain(|key, _| key.0 != topic);
        self.deleted.retain(|key| key.0 != topic);
        self.hidden.remove(&topic);
    }

    fn add(&mut self, key: Key, idle: Option<Mono>) {
        self.deleted.remove(&key);
        let entry = self.keys.entry(key).or_insert(idle);
        if idle.is_none() {
            *entry = None;
        }
    }

    fn register(&mut self, id: ProducerId, topic: usize, channel: Option<usize>, now: Mono) {
        let Some(p) = self.producers.get(&id) else { return };
        let (host, has_topic) = (p.host, p.has.contains(&(topic, None)));
        if has_topic && p.has.contains(&(topic, channel)) {
            return;
        }
        let mut until = None;
        if let Some(at) = self.since(topic, host, now) {
            if !has_topic && p.connected_at <= at {
                self.tombstones.remove(&(topic, host));
            } else {
                until = Some(at.plus(TOMBSTONE));
            }
        }
        match until {
            None => _ = self.hidden.remove(&topic),
            Some(until) if !self.keys.contains_key(&(topic, None)) => _ = self.hidden.insert(topic, until),
            Some(_) => {}
        }
        for key in [(topic, None), (topic, channel)] {
            self.add(key, None);
            self.producers.get_mut(&id).unwrap().has.insert(key);
        }
    }

    fn unregister(&mut self, id: ProducerId, topic: usize, channel: Option<usize>, now: Mono) {
        if !self.producers.contains_key(&id) || !self.keys.contains_key(&(topic, channel)) {
            return;
        }
        let mut gone: Vec<Key> = match channel {
            Some(_) => vec![(topic, channel)],
            None => {
                let has = &self.producers[&id].has;
                has.iter().filter(|key| key.0 == topic).copied().collect()
            }
        };
        for key in &gone {
            self.producers.get_mut(&id).unwrap().has.remove(key);
        }
        if channel.is_none() && !self.has_producer((topic, None)) {
            gone = self.keys.keys().filter(|key| key.0 == topic).copied().collect();
        }
        for key in gone {
            if self.has_producer(key) {
                continue;
            }
            match (Self::is_ephemeral(key), key.1) {
                (true, None) => self.drop_topic(key.0),
                (true, Some(_)) => _ = self.keys.remove(&key),
                (false, _) => {
                    if let Some(idle) = self.keys.get_mut(&key) {
                        idle.get_or_insert(now);
                        self.deleted.insert(key);
                    }
                }
            }
        }
    }

    fn is_ephemeral(key: Key) -> bool {
        key.1.map_or(TOPICS[key.0], |c| CHANNELS[c]).ends_with("#ephemeral")
    }

    fn disconnect(&mut self, id: ProducerId, now: Mono) {
        let Some(p) = self.producers.remove(&id) else { return };
        for key in p.has {
            if self.has_producer(key) {
                continue;
            }
            match (Self::is_ephemeral(key), key.1) {
                (true, None) => self.drop_topic(key.0),
                (true, Some(_)) => _ = self.keys.remove(&key),
                (false, _) => {
                    if let Some(idle) = self.keys.get_mut(&key) {
                        *idle = Some(now);
                    }
                }
            }
        }
    }

    fn delete_topic(&mut self, topic: usize, now: Mono) {
        if !self.keys.contains_key(&(topic, None)) {
            return;
        }
        for p in self.producers.values_mut() {
            if p.has.contains(&(topic, None)) {
                self.tombstones.insert((topic, p.host), now);
            }
            p.has.retain(|key| key.0 != topic);
        }
        self.drop_topic(topic);
    }

    fn expire(&mut self, now: Mono) {
        let due = |idle: &Option<Mono>| idle.is_some_and(|since| now >= since.plus(IDLE));
        let topics: Vec<usize> =
            self.keys.iter().filter(|(k, idle)| k.1.is_none() && due(idle)).map(|(k, _)| k.0).collect();
        topics.into_iter().for_each(|t| self.drop_topic(t));
        self.keys.retain(|_, idle| !due(idle));
        self.deleted.retain(|key| self.keys.contains_key(key));
    }

    fn is_shown(&self, key: Key, view: View) -> bool {
        self.keys.contains_key(&key) && (view == View::All || !self.deleted.contains(&key))
    }

    fn is_visible(&self, topic: usize, view: View, now: Mono) -> bool {
        self.is_shown((topic, None), view) && self.hidden.get(&topic).is_none_or(|until| now >= *until)
    }

    fn is_active(p: &Known, now: Mono) -> bool {
        now.since(p.last_update) <= INACTIVE
    }

    /// The newest connection of the same host, if active and not `id` itself.
    fn newer(&self, id: ProducerId, now: Mono) -> Option<&Known> {
        let host = self.producers[&id].host;
        let (newest, p) = self.producers.iter().rfind(|(_, p)| p.host == host).unwrap();
        (*newest != id && Self::is_active(p, now)).then_some(p)
    }

    fn lookup(&self, topic: usize, view: View, now: Mono) -> Option<(Vec<&'static str>, Vec<&'static str>)> {
        if !self.is_visible(topic, view, now) {
            return None;
        }
        let channels = self.keys.keys().filter(|k| k.0 == topic && self.is_shown(**k, view));
        let channels = channels.filter_map(|k| k.1.map(|c| CHANNELS[c]));
        let shown = self.producers.iter().filter(|(id, p)| {
            p.has.contains(&(topic, None))
                && Self::is_active(p, now)
                && self.since(topic, p.host, now).is_none()
                && self.newer(**id, now).is_none_or(|newer| !newer.has.contains(&(topic, None)))
        });
        Some((channels.collect(), shown.map(|(_, p)| HOSTS[p.host]).collect()))
    }
}

fn topic(n: usize) -> TopicName {
    TopicName::parse(TOPICS[n]).unwrap()
}

fn channel(n: usize) -> ChannelName {
    ChannelName::parse(CHANNELS[n]).unwrap()
}

fn compare_names(registry: &Registry, model: &Model, view: View, now: Mono) {
    for (n, name) in TOPICS.iter().enumerate() {
        let found = registry.lookup(&topic(n), view, now);
        let got = found.as_ref().map(|found| {
            let channels: Vec<_> = found.channels.iter().map(ChannelName::as_str).collect();
            let hosts: Vec<_> = found.producers.iter().map(|p| p.broadcast_address.as_str()).collect();
            (channels, hosts)
        });
        assert_eq!(got, model.lookup(n, view, now), "lookup of {name} at {now:?}, {view:?}");
        let channels = registry.channels(&topic(n), view, now);
        assert_eq!(channels, found.unwrap_or_default().channels);
    }
    let visible = (0..TOPICS.len()).filter(|n| model.is_visible(*n, view, now));
    assert_eq!(registry.topics(None, 9, view, now), visible.map(topic).collect::<Vec<_>>());
}

fn compare(registry: &Registry, model: &Model, now: Mono) {
    [View::Existing, View::All].iter().for_each(|view| compare_names(registry, model, *view, now));

    let nodes = registry.nodes(None, 99, now).into_iter().map(|listed| (listed.id, listed.topics));
    let shown =
        model.producers.iter().filter(|(id, p)| Model::is_active(p, now) && model.newer(**id, now).is_none());
    let expected = shown.map(|(id, p)| {
        let topics = p.has.iter().filter(|key| key.1.is_none());
        let flagged = topics.map(|key| (topic(key.0), model.since(key.0, p.host, now).is_some()));
        (*id, flagged.collect())
    });
    assert_eq!(nodes.collect::<Vec<(_, Vec<_>)>>(), expected.collect::<Vec<_>>());

    let registrations = model.producers.values().map(|p| p.has.len()).sum();
    assert_eq!(registry.sizes(), (model.producers.len(), model.keys.len(), registrations));
    for (id, connection) in &registry.producers {
        assert_eq!(connection.registrations, model.producers[id].has.len());
    }
    let idle = model.keys.values().filter(|since| since.is_some()).count();
    assert_eq!(registry.idle.len(), idle);
}

fn lookups(registry: &Registry, now: Mono) -> Vec<Found> {
    (0..TOPICS.len()).map(|n| registry.lookup(&topic(n), View::Existing, now).unwrap_or_default()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]
    #[test]
    fn it_answers_as_the_model(ops in prop::collection::vec(op(), 0..120)) {
        let mut registry = Registry::new(Settings {
            inactive_after: INACTIVE,
            tombstone_lifetime: TOMBSTONE,
            idle_lifetime: IDLE,
            ..Settings::default()
        });
        let mut model = Model::default();
        let (mut now, mut next) = (Mono(0), 0);
        (0..TOPICS.len()).for_each(|n| registry.watch(&topic(n)));
        for op in ops {
            let before = lookups(&registry, now);
            let due: Vec<_> = (0..TOPICS.len()).map(|n| registry.changes_at(&topic(n), now)).collect();
            let nth = |n: usize| model.producers.keys().nth(n).copied().unwrap_or(u64::MAX);
            match op {
                Op::Identify(host) => {
                    next += 1;
                    let producer = Producer {
                        broadcast_address: HOSTS[host].into(),
                        tcp_port: 1,
                        http_port: 2,
                        ..Producer::default()
                    };
                    registry.identify(next, producer, now).unwrap();
                    let known = Known { host, connected_at: now, last_update: now, has: BTreeSet::new() };
                    model.producers.insert(next, known);
                }
                Op::Ping(n) => {
                    let id = nth(n);
                    registry.ping(id, now);
                    if let Some(p) = model.producers.get_mut(&id) {
                        p.last_update = now;
                    }
                }
                Op::Register(n, t, c) => {
                    let id = nth(n);
                    let result = registry.register(id, &topic(t), c.map(channel).as_ref(), now);
                    prop_assert_eq!(result.is_ok(), model.producers.contains_key(&id));
                    model.register(id, t, c, now);
                }
                Op::Unregister(n, t, c) => {
                    let id = nth(n);
                    registry.unregister(id, &topic(t), c.map(channel).as_ref(), now);
                    model.unregister(id, t, c, now);
                }
                Op::Disconnect(n) => {
                    let id = nth(n);
                    registry.disconnect(id, now);
                    model.disconnect(id, now);
                }
                Op::Create(t, c) => {
                    registry.create(&topic(t), c.map(channel).as_ref(), now).unwrap();
                    model.hidden.remove(&t);
                    for key in [(t, None), (t, c)] {
                        let producer = model.has_producer(key);
                        let idle = model.keys.get(&key).copied().flatten().unwrap_or(now);
                        model.add(key, (!producer).then_some(idle));
                    }
                }
                Op::DeleteTopic(t) => {
                    registry.delete_topic(&topic(t), now);
                    model.delete_topic(t, now);
                }
                Op::DeleteChannel(t, c) => {
                    let was = registry.delete_channel(&topic(t), &channel(c));
                    prop_assert_eq!(was, model.keys.remove(&(t, Some(c))).is_some());
                    model.deleted.remove(&(t, Some(c)));
                    model.producers.values_mut().for_each(|p| _ = p.has.remove(&(t, Some(c))));
                }
                Op::Tombstone(t, h) => {
                    let node = Node::parse(&format!("[{}]:2", HOSTS[h]));
                    registry.tombstone(&topic(t), &node, now);
                    if model.producers.values().any(|p| p.host == h && p.has.contains(&(t, None))) {
                        model.tombstones.insert((t, h), now);
                    }
                }
                Op::Wait(time) => {
                    now = now.plus(time);
                    registry.expire(now);
                    model.expire(now);
                }
            }
            compare(&registry, &model, now);
            // Nobody misses a change.
            let changed = registry.take_changed();
            for (n, (before, after)) in before.iter().zip(lookups(&registry, now)).enumerate() {
                let is_reported = changed.contains(&topic(n)) || due[n].is_some_and(|at| at <= now);
                prop_assert!(is_reported || *before == after, "{} changes at {}", TOPICS[n], now.0);
            }
        }
    }
}
