//! The registry's rules, one by one.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn producer(host: &str) -> Producer {
    Producer {
        broadcast_address: host.into(),
        tcp_port: 4150,
        http_port: 4151,
        version: "1".into(),
        ..Producer::default()
    }
}

fn registry(hosts: &[&str]) -> Registry {
    let mut registry = Registry::new(Settings::default());
    for (id, host) in (1..).zip(hosts) {
        registry.identify(id, producer(host), Mono(0)).unwrap();
    }
    registry
}

/// Hosts that a lookup gives; `["-"]` where there is no such topic.
fn hosts(registry: &Registry, name: &str, now: Mono) -> Vec<String> {
    match registry.lookup(&topic(name), View::Existing, now) {
        Some(found) => found.producers.iter().map(|p| p.broadcast_address.clone()).collect(),
        None => vec!["-".into()],
    }
}

fn names(channels: &[ChannelName]) -> Vec<&str> {
    channels.iter().map(ChannelName::as_str).collect()
}

#[test]
fn a_producer_is_found_while_it_pings() {
    let mut registry = registry(&["a", "b"]);
    registry.register(1, &topic("t"), None, Mono(0)).unwrap();
    registry.register(2, &topic("t"), Some(&channel("c")), Mono(0)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(300 * SECOND)), ["a", "b"]);
    registry.ping(2, Mono(10 * SECOND));
    assert_eq!(hosts(&registry, "t", Mono(301 * SECOND)), ["b"]);
    assert_eq!(registry.nodes(None, 9, Mono(301 * SECOND)).len(), 1);
    registry.disconnect(2, Mono(301 * SECOND));
    assert_eq!(hosts(&registry, "t", Mono(301 * SECOND)), Vec::<String>::new());
    assert_eq!(
        names(&registry.channels(&topic("t"), View::Existing, Mono(301 * SECOND))),
        ["c"],
        "it may come back"
    );
    assert_eq!(hosts(&registry, "u", Mono(0)), ["-"]);
}

#[test]
fn a_tombstone_hides_one_producer_from_one_topic_until_it_ends() {
    let mut registry = registry(&["a", "b"]);
    for name in ["t", "u"] {
        registry.register(1, &topic(name), None, Mono(0)).unwrap();
        registry.register(2, &topic(name), None, Mono(0)).unwrap();
    }
    registry.tombstone(&topic("t"), &Node::parse("nobody:4151"), Mono(0));
    registry.tombstone(&topic("t"), &Node::parse("a:4151"), Mono(SECOND));
    assert_eq!(hosts(&registry, "t", Mono(SECOND)), ["b"]);
    assert_eq!(hosts(&registry, "u", Mono(SECOND)), ["a", "b"]);
    let listed = registry.nodes(None, 1, Mono(SECOND));
    assert_eq!(listed[0].topics, [(topic("t"), true), (topic("u"), false)]);
    registry.register(1, &topic("t"), None, Mono(2 * SECOND)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(46 * SECOND - 1)), ["b"], "it is known already");
    assert_eq!(hosts(&registry, "t", Mono(46 * SECOND)), ["a", "b"]);
    registry.expire(Mono(46 * SECOND));
    assert!(!registry.tombstones.any(&topic("t")));
}

#[test]
fn under_a_tombstone_announcing_changes_nothing_and_having_the_topic_anew_does() {
    let mut registry = registry(&["a"]);
    registry.register(1, &topic("t"), None, Mono(0)).unwrap();
    registry.tombstone(&topic("t"), &Node::parse("a:4151"), Mono(SECOND));
    registry.disconnect(1, Mono(2 * SECOND));
    registry.identify(2, producer("a"), Mono(2 * SECOND)).unwrap();
    registry.register(2, &topic("t"), None, Mono(2 * SECOND)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(3 * SECOND)), Vec::<String>::new(), "it only came back");
    registry.tombstone(&topic("t"), &Node::parse("a:4151"), Mono(3 * SECOND));
    registry.unregister(2, &topic("t"), None, Mono(4 * SECOND));
    assert_eq!(hosts(&registry, "t", Mono(4 * SECOND)), ["-"]);
    registry.register(2, &topic("t"), None, Mono(5 * SECOND)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(5 * SECOND)), ["a"], "a client made it again");
}

#[test]
fn a_deleted_topic_is_not_brought_back_by_announcing_it() {
    let mut registry = registry(&["a", "b"]);
    for id in [1, 2] {
        registry.register(id, &topic("t"), Some(&channel("c")), Mono(0)).unwrap();
    }
    registry.delete_topic(&topic("t"), Mono(SECOND));
    assert_eq!(registry.sizes(), (2, 0, 0));
    registry.disconnect(1, Mono(2 * SECOND));
    registry.identify(3, producer("a"), Mono(2 * SECOND)).unwrap();
    registry.register(3, &topic("t"), Some(&channel("c")), Mono(2 * SECOND)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(3 * SECOND)), ["-"]);
    assert!(
        registry.channels(&topic("t"), View::Existing, Mono(3 * SECOND)).is_empty(),
        "nobody is to create them"
    );
    assert!(registry.topics(None, 9, View::Existing, Mono(3 * SECOND)).is_empty());
    registry.register(2, &topic("t"), None, Mono(3 * SECOND)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(3 * SECOND)), ["b"], "a client of b made it again");
    assert_eq!(hosts(&registry, "t", Mono(46 * SECOND)), ["b", "a"].map(String::from).as_slice());
}

#[test]
fn what_the_last_producer_unregisters_exists_no_more_and_after_a_disconnect_it_does() {
    let mut registry = registry(&["a", "b"]);
    for id in [1, 2] {
        registry.register(id, &topic("t"), Some(&channel("c")), Mono(0)).unwrap();
        registry.register(id, &topic("t"), Some(&channel("d#ephemeral")), Mono(0)).unwrap();
    }
    registry.unregister(1, &topic("t"), Some(&channel("c")), Mono(0));
    assert_eq!(names(&registry.channels(&topic("t"), View::Existing, Mono(0))), ["c", "d#ephemeral"]);
    registry.unregister(2, &topic("t"), Some(&channel("c")), Mono(0));
    assert_eq!(names(&registry.channels(&topic("t"), View::Existing, Mono(0))), ["d#ephemeral"]);
    registry.register(2, &topic("t"), Some(&channel("e")), Mono(0)).unwrap();
    registry.disconnect(1, Mono(0));
    registry.disconnect(2, Mono(0));
    assert_eq!(names(&registry.channels(&topic("t"), View::Existing, Mono(0))), ["e"]);
    registry.identify(3, producer("a"), Mono(0)).unwrap();
    registry.register(3, &topic("t"), None, Mono(0)).unwrap();
    registry.unregister(3, &topic("t"), Some(&channel("e")), Mono(0));
    assert!(registry.channels(&topic("t"), View::Existing, Mono(0)).is_empty(), "deleted while it was away");
    registry.unregister(3, &topic("t"), None, Mono(0));
    assert_eq!(hosts(&registry, "t", Mono(0)), ["-"]);
    assert_eq!(registry.sizes(), (1, 3, 0), "t, c and e, for nsqlookupd's answers");
}

#[test]
fn what_was_deleted_is_listed_as_by_nsqlookupd_until_it_has_been_idle_for_its_lifetime() {
    let mut registry = registry(&["a"]);
    let day = 24 * 3_600 * SECOND;
    for name in ["c", "d", "e#ephemeral"] {
        registry.register(1, &topic("t"), Some(&channel(name)), Mono(0)).unwrap();
    }
    registry.register(1, &topic("u#ephemeral"), Some(&channel("c")), Mono(0)).unwrap();
    registry.unregister(1, &topic("t"), Some(&channel("c")), Mono(SECOND));
    let all = |registry: &Registry, now| {
        let found = registry.lookup(&topic("t"), View::All, now)?;
        Some((names(&found.channels).join(" "), found.producers.len()))
    };
    assert_eq!(all(&registry, Mono(SECOND)), Some(("c d e#ephemeral".into(), 1)));
    assert_eq!(names(&registry.channels(&topic("t"), View::Existing, Mono(SECOND))), ["d", "e#ephemeral"]);
    registry.unregister(1, &topic("t"), None, Mono(2 * SECOND));
    registry.unregister(1, &topic("u#ephemeral"), None, Mono(2 * SECOND));
    assert_eq!(all(&registry, Mono(2 * SECOND)), Some(("c d".into(), 0)));
    assert_eq!(registry.topics(None, 9, View::All, Mono(2 * SECOND)), [topic("t")]);
    assert!(registry.topics(None, 9, View::Existing, Mono(2 * SECOND)).is_empty());
    registry.register(1, &topic("t"), Some(&channel("d")), Mono(3 * SECOND)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(3 * SECOND)), ["a"]);
    assert_eq!(
        names(&registry.channels(&topic("t"), View::Existing, Mono(3 * SECOND))),
        ["d"],
        "c stays deleted"
    );
    registry.create(&topic("t"), Some(&channel("c")), Mono(3 * SECOND)).unwrap();
    assert_eq!(names(&registry.channels(&topic("t"), View::Existing, Mono(3 * SECOND))), ["c", "d"]);
    registry.unregister(1, &topic("t"), None, Mono(4 * SECOND));
    registry.expire(Mono(day + 4 * SECOND));
    assert_eq!(all(&registry, Mono(day + 4 * SECOND)), None);
    assert_eq!(registry.sizes(), (1, 0, 0));
}

#[test]
fn idle_keys_expire() {
    let mut registry = registry(&["a"]);
    let day = 24 * 3_600 * SECOND;
    registry.create(&topic("made"), Some(&channel("c")), Mono(0)).unwrap();
    registry.register(1, &topic("t"), Some(&channel("c")), Mono(0)).unwrap();
    assert_eq!(registry.expire(Mono(day - 1)), Some(Mono(day)));
    assert_eq!(registry.expire(Mono(day)), None);
    assert_eq!(registry.topics(None, 9, View::Existing, Mono(day)), [topic("t")]);
    registry.disconnect(1, Mono(day));
    assert_eq!(registry.expire(Mono(day)), Some(Mono(2 * day)));
    registry.identify(2, producer("a"), Mono(day)).unwrap();
    registry.register(2, &topic("t"), None, Mono(day)).unwrap();
    assert_eq!(registry.expire(Mono(2 * day)), None, "only the channel had stayed idle");
    assert!(registry.channels(&topic("t"), View::Existing, Mono(2 * day)).is_empty());
    assert_eq!(hosts(&registry, "t", Mono(day)), ["a"]);
}

#[test]
fn a_broker_on_two_connections_is_one() {
    let mut registry = registry(&["a"]);
    registry.register(1, &topic("t"), None, Mono(0)).unwrap();
    registry.identify(2, producer("a"), Mono(0)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(0)), ["a"], "the new one has not announced it yet");
    registry.register(2, &topic("t"), None, Mono(0)).unwrap();
    assert_eq!(hosts(&registry, "t", Mono(0)), ["a"]);
    assert_eq!(registry.nodes(None, 9, Mono(0)).len(), 1);
    registry.disconnect(2, Mono(0));
    assert_eq!(hosts(&registry, "t", Mono(0)), ["a"]);
    assert_eq!(registry.nodes(None, 9, Mono(0))[0].id, 1);
}

#[test]
fn every_list_has_its_limit() {
    let limits = Settings {
        max_producers: 2,
        max_keys: 4,
        max_per_producer: 3,
        max_registrations: 5,
        ..Settings::default()
    };
    let mut registry = Registry::new(limits);
    registry.identify(1, producer("a"), Mono(0)).unwrap();
    registry.identify(2, producer("b"), Mono(0)).unwrap();
    let is_limit = |result: Result<()>| result.unwrap_err().kind() == ErrorKind::LimitReached;
    assert!(is_limit(registry.identify(3, producer("c"), Mono(0))));
    registry.register(1, &topic("t"), Some(&channel("c")), Mono(0)).unwrap();
    registry.register(1, &topic("u"), None, Mono(0)).unwrap();
    assert!(is_limit(registry.register(1, &topic("v"), None, Mono(0))), "three of its own");
    registry.register(2, &topic("u"), None, Mono(0)).unwrap();
    registry.register(2, &topic("v"), None, Mono(0)).unwrap();
    assert!(is_limit(registry.register(2, &topic("t"), None, Mono(0))), "five in all");
    registry.unregister(2, &topic("u"), None, Mono(0));
    assert!(is_limit(registry.register(2, &topic("w"), None, Mono(0))), "four keys");
    registry.disconnect(2, Mono(SECOND));
    assert_eq!(registry.topics(None, 9, View::Existing, Mono(SECOND)), ["t", "u", "v"].map(topic));
    registry.create(&topic("w"), None, Mono(2 * SECOND)).unwrap();
    assert_eq!(
        registry.topics(None, 9, View::Existing, Mono(SECOND)),
        ["t", "u", "w"].map(topic),
        "what was idle longest went"
    );
    assert!(is_limit(registry.create(&topic("x"), Some(&channel("c")), Mono(2 * SECOND))));
    registry.tombstone(&topic("t"), &Node::parse("a:4151"), Mono(0));
    assert_eq!(registry.sizes(), (1, 3, 3));
}

#[test]
fn long_lists_come_in_pieces() {
    let mut registry = registry(&["a", "b", "c"]);
    for id in 1..=3 {
        for name in ["t", "u", "v"] {
            registry.register(id, &topic(name), Some(&channel("c")), Mono(0)).unwrap();
        }
    }
    assert_eq!(registry.topics(Some(&topic("t")), 1, View::Existing, Mono(0)), [topic("u")]);
    let ids: Vec<_> = registry.nodes(Some(1), 9, Mono(0)).iter().map(|listed| listed.id).collect();
    assert_eq!(ids, [2, 3]);
    let entries = registry.entries(Some(&topic("t")), 1, Mono(0));
    let keys: Vec<_> = entries.iter().map(|e| (e.topic.as_str(), e.channel.is_some())).collect();
    assert_eq!(keys, [("u", false), ("u", true)]);
    assert_eq!(entries[1].producers.len(), 3);
}

#[test]
fn brokers_with_grpc_alone_are_told_apart_by_its_port() {
    let mut registry = Registry::new(Settings::default());
    for (id, grpc_port) in [(1, 4155), (2, 4255), (3, 4255)] {
        let producer = Producer { tcp_port: 0, grpc_port, ..producer("a") };
        registry.identify(id, producer, Mono(0)).unwrap();
        registry.register(id, &topic("t"), None, Mono(0)).unwrap();
    }
    let found = registry.lookup(&topic("t"), View::Existing, Mono(0)).unwrap();
    let ports: Vec<_> = found.producers.iter().map(|producer| producer.grpc_port).collect();
    assert_eq!(ports, [4155, 4255]);
}
