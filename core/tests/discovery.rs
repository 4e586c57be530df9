//! Names that a broker reports to discovery, and the registry at the size it is made for.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use mq_core::clock::Mono;
use mq_core::discovery::{Producer, Registry, Settings, View};
use mq_core::testkit::{
    self, CrashDisk, WakeCount, channel_name as channel, nobody, options, topic_name as topic,
};
use mq_core::{Attributes, Broker, ChannelName, ErrorKind, StoreSizes, SubscribeOptions, Topic};

fn broker() -> Broker {
    testkit::open(Arc::new(CrashDisk::new()), StoreSizes::default(), options()).unwrap()
}

fn publish(broker: &Broker, topic: &Topic, body: &str) {
    let _ = testkit::publish(broker, topic, &[body]).unwrap();
}

/// Names as `topic#number:channel,channel`.
fn names(broker: &Broker) -> Vec<String> {
    let line = |t: mq_core::TopicNames| {
        let channels: Vec<_> = t.channels.iter().map(ChannelName::as_str).collect();
        format!("{}#{}:{}", t.name, t.no, channels.join(","))
    };
    broker.names().into_iter().map(line).collect()
}

#[test]
fn who_watches_is_woken_by_every_change_of_names() {
    let broker = broker();
    let counter = Arc::new(WakeCount::default());
    broker.watch(Some(counter.clone()));
    let mut seen = 0;
    let mut changed = |what: &str| {
        let now = counter.count();
        assert!(now > seen, "{what}");
        seen = now;
    };
    let t = broker.topic(&topic("t")).unwrap();
    changed("a topic");
    let _ = t.channel(&channel("c"), &nobody()).unwrap();
    let _ = t.channel(&channel("b"), &nobody()).unwrap();
    changed("a channel");
    assert_eq!(names(&broker), ["t#1:b,c"]);
    let _ = t.delete_channel(&channel("c")).unwrap();
    changed("a channel's end");
    let _ = broker.delete_topic(&topic("t")).unwrap();
    changed("a topic's end");
    assert!(names(&broker).is_empty());
    broker.topic(&topic("t")).unwrap();
    assert_eq!(names(&broker), ["t#2:"]);
    let _ = broker.topic(&topic("t")).unwrap().channel(&channel("c"), &nobody()).unwrap();
    changed("both again");
    let _ = broker.topic(&topic("t")).unwrap().channel(&channel("c"), &nobody()).unwrap();
    broker.watch(None);
    broker.topic(&topic("u")).unwrap();
    assert_eq!(counter.count(), seen, "nothing changed, then nobody watched");
}

#[test]
fn a_held_topic_keeps_what_is_published_for_the_channels_to_come() {
    let broker = broker();
    let old = broker.topic(&topic("old")).unwrap();
    broker.hold_new_topics(true);
    let t = broker.topic(&topic("t")).unwrap();
    let (first, _) = t.channel(&channel("first"), &nobody()).unwrap();
    publish(&broker, &t, "1");
    broker.commit();
    assert_eq!((t.depth(), first.stats().depth), (1, 0));
    assert!(broker.names().iter().all(|n| n.is_held == (n.name.as_str() == "t")), "old ones go on");
    let (second, _) = t.channel(&channel("second"), &nobody()).unwrap();
    t.release();
    assert_eq!((t.depth(), first.stats().depth, second.stats().depth), (0, 1, 1));
    publish(&broker, &t, "2");
    broker.commit();
    assert_eq!((t.depth(), first.stats().depth), (0, 2));

    let u = broker.topic(&topic("u")).unwrap();
    let (late, _) = u.channel(&channel("c"), &nobody()).unwrap();
    publish(&broker, &u, "1");
    broker.commit();
    broker.hold_new_topics(false);
    assert_eq!((u.depth(), late.stats().depth), (0, 1), "nobody would release it any more");
    publish(&broker, &old, "1");
    broker.commit();
    assert_eq!(old.depth(), 1, "it has no channel");
}

#[test]
fn a_draining_broker_takes_no_messages_and_gives_what_it_has() {
    let broker = broker();
    let t = broker.topic(&topic("t")).unwrap();
    publish(&broker, &t, "1");
    broker.commit();
    assert_eq!(broker.pending(), 1, "it waits in the topic");
    broker.drain();
    let mut batch = t.batch();
    batch.push(&Attributes::NONE, b"2").unwrap();
    assert_eq!(t.publish(batch, &nobody()).unwrap_err().kind(), ErrorKind::Draining);
    assert_eq!(broker.topic(&topic("new")).err().unwrap().kind(), ErrorKind::Draining);
    let (channel, _) = t.channel(&channel("c"), &nobody()).unwrap();
    assert_eq!(broker.pending(), 1, "it waits in the channel");
    let options = SubscribeOptions { msg_timeout: Duration::from_secs(60), sample_rate: 0 };
    let mut subscription = channel.subscribe(options, nobody()).unwrap();
    subscription.acks().set_credit(1);
    let mut ids = Vec::new();
    subscription.pull(1 << 20, &mut |message: &mq_core::Delivery<'_>| ids.push(message.id));
    assert_eq!((ids.len(), broker.pending()), (1, 1), "it is in flight");
    subscription.acks().finish(ids[0]).unwrap();
    assert_eq!(broker.pending(), 0);
}

const BROKERS: u64 = 500;
const TOPICS_EACH: usize = 200;

fn fleet(registry: &mut Registry, name_of: impl Fn(u64, usize) -> String) {
    for id in 1..=BROKERS {
        let producer = Producer {
            remote_address: format!("10.1.{}.{}:54321", id / 256, id % 256),
            hostname: format!("broker-{id}.example.internal"),
            broadcast_address: format!("broker-{id}.example.internal"),
            tcp_port: 4150,
            http_port: 4151,
            version: "1.3.0".into(),
            ..Producer::default()
        };
        registry.identify(id, producer, Mono(0)).unwrap();
        for n in 0..TOPICS_EACH {
            registry.register(id, &topic(&name_of(id, n)), Some(&channel("archive")), Mono(0)).unwrap();
        }
    }
}

/// Resident memory of this process.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
}

#[test]
fn five_hundred_brokers_with_two_hundred_topics_each_fit() {
    let before = resident_bytes();
    let mut shared = Registry::new(Settings::default());
    fleet(&mut shared, |_, n| format!("a.topic.with.a.usual.name.{n}"));
    for n in 0..TOPICS_EACH {
        let name = topic(&format!("a.topic.with.a.usual.name.{n}"));
        let found = shared.lookup(&name, View::Existing, Mono(1));
        assert_eq!(found.unwrap().producers.len(), BROKERS as usize);
    }

    let mut apart = Registry::new(Settings::default());
    fleet(&mut apart, |id, n| format!("a.topic.with.a.usual.name.{id}.{n}"));
    for n in 0..1_000 {
        let name = format!("a.topic.with.a.usual.name.{}.{}", n as u64 % BROKERS + 1, n % TOPICS_EACH);
        assert_eq!(apart.lookup(&topic(&name), View::Existing, Mono(1)).unwrap().producers.len(), 1);
    }
    assert_eq!(apart.sizes(), (500, 200_000, 200_000));
    let mib = (resident_bytes() - before) >> 20;
    println!("both fleets: {mib} MiB");
    assert!(mib < 150, "{mib} MiB");
}
