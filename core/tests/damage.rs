//! Topics that are stopped for damage: what is shown of them, and what their consumers learn.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use mq_core::testkit::{self, Crash, CrashDisk, WakeCount, channel, options, topic, try_subscribe};
use mq_core::{Broker, ErrorKind, Offset, Pulled, Step, StoreSizes, Topic};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 8 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 64 };

fn open(disk: &CrashDisk) -> Broker {
    testkit::open(Arc::new(disk.clone()), SIZES, options()).unwrap()
}

/// Publishes `bodies` in a frame of their own each. Returns their offsets.
fn publish(broker: &Broker, topic: &Topic, bodies: &[&str]) -> Vec<Offset> {
    let published = bodies.iter().map(|body| testkit::publish(broker, topic, &[body]).unwrap());
    published
        .flat_map(|published| published.offsets().map(|(offset, ..)| offset).collect::<Vec<_>>())
        .collect()
}

/// Flips a bit of the message `body`, wherever it stands.
fn damage(disk: &CrashDisk, body: &str) {
    let files = disk.dump();
    let place = |bytes: &Vec<u8>| bytes.windows(body.len()).position(|part| part == body.as_bytes());
    let (name, at) =
        files.iter().find_map(|(name, bytes)| Some((name, place(bytes)?))).expect("it is on disk");
    disk.flip_bit(name, at as u64 * 8);
}

#[test]
fn a_topic_found_damaged_is_shown_with_its_first_damaged_offset_and_refuses_subscribers() {
    let disk = CrashDisk::new();
    let broker = open(&disk);
    let (sick, well) = (topic(&broker, "sick"), topic(&broker, "well"));
    channel(&sick, "c");
    channel(&well, "c");
    let offsets = publish(&broker, &sick, &["sick-one", "sick-two", "sick-three"]);
    publish(&broker, &well, &["well-one"]);
    assert_eq!((broker.stats().damaged_topics, broker.damaged_topics()), (0, vec![]));
    broker.health().unwrap();
    broker.close().unwrap();
    let disk = disk.image(disk.events(), Crash::Kill);
    damage(&disk, "sick-two");

    let broker = open(&disk);
    let (sick, well) = (topic(&broker, "sick"), topic(&broker, "well"));
    let found = sick.stats().damage.expect("it is stopped");
    assert_eq!((found.first, found.messages), (Some(offsets[1]), 1), "{}", found.text);
    assert!(found.text.contains("mq repair") && found.text.starts_with("the message at"), "{}", found.text);
    assert_eq!(sick.damage(), Some(found.clone()));
    assert_eq!(sick.stats().channels[0].stats.depth, 2, "what is whole");
    assert_eq!(well.stats().damage, None);
    assert_eq!(broker.stats().damaged_topics, 1);
    assert_eq!(broker.damaged_topics(), [(sick.name().clone(), found)]);
    let error = broker.health().unwrap_err();
    assert!(error.kind() == ErrorKind::Damaged && error.to_string().contains("sick"), "{error}");

    let wake = Arc::new(WakeCount::default());
    let refused = try_subscribe(&sick, "c", 1000, wake.clone()).err().expect("nothing can be delivered");
    assert!(refused.kind() == ErrorKind::Damaged && refused.to_string().contains("mq repair"), "{refused}");
    assert_eq!(channel(&sick, "c").stats().subscribers, 0);
    try_subscribe(&well, "c", 1000, wake.clone()).unwrap();

    let _ = broker.delete_topic(sick.name()).unwrap();
    assert_eq!(broker.stats().damaged_topics, 0, "what was deleted is missed by nobody");
    broker.health().unwrap();
}

#[test]
fn damage_that_hit_unknown_topics_stops_them_all_and_names_no_offset() {
    let disk = CrashDisk::new();
    let broker = open(&disk);
    for name in ["a", "b"] {
        publish(&broker, &topic(&broker, name), &["body"]);
    }
    broker.close().unwrap();
    let disk = disk.image(disk.events(), Crash::Kill);
    let log =
        disk.dump().into_iter().find(|(name, bytes)| name.ends_with(".log") && !bytes.is_empty()).unwrap().0;
    // The kind of the first frame.
    disk.flip_bit(&log, 64 * 8);
    let broker = open(&disk);
    let damaged = broker.damaged_topics();
    assert_eq!(damaged.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert!(damaged.iter().all(|(_, damage)| (damage.first, damage.messages) == (None, 0)), "{damaged:?}");
    let error = broker.health().unwrap_err();
    assert!(error.to_string().contains("2 topics"), "{error}");
}

#[test]
fn subscribers_of_a_topic_that_turns_out_damaged_are_woken_and_told() {
    let disk = CrashDisk::new();
    let broker = open(&disk);
    let topic = topic(&broker, "t");
    channel(&topic, "c");
    let body = "x".repeat(600);
    let offsets = publish(&broker, &topic, &[&format!("one{body}"), &format!("two{body}")]);
    broker.maintain(Step::Spill).unwrap();
    damage(&disk, "one");
    let (reader, other) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
    let mut waiting = try_subscribe(&topic, "c", 1000, other.clone()).unwrap();
    let mut reading = try_subscribe(&topic, "c", 1000, reader.clone()).unwrap();
    let before = other.count();
    assert_eq!(reading.pull(1 << 20, &mut |_| panic!("a damaged message")), Pulled::Damaged);
    assert!(other.count() > before, "the other subscriber is woken");
    for sub in [&mut waiting, &mut reading] {
        assert_eq!(sub.pull(1 << 20, &mut |_| panic!("a damaged message")), Pulled::Damaged);
        assert_eq!(sub.damage().unwrap().kind(), ErrorKind::Damaged);
    }
    let found = topic.damage().unwrap();
    assert_eq!(found.first, Some(offsets[0]), "{}", found.text);
    assert_eq!(broker.stats().damaged_topics, 1);
}
