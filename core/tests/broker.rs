//! The broker as an embedding program uses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use mq_core::testkit::{self, SECOND, World, channel_name, is_done, options, pull, topic_name};
use mq_core::{Attributes, Durability, ErrorKind, Options, Pulled, Step, StoreSizes, Subscription};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 16 << 10, chunk_bytes: 4 << 10, read_bytes: 4 << 10, blocks: 64 };

fn world(durability: Durability) -> World {
    World::with(SIZES, Options { durability, ..options() })
}

fn publish_numbers(world: &World, topic: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let published = world.try_publish(topic, &[number.to_string()]).unwrap();
        assert!(is_done(world, published.ticket));
    }
}

fn bodies(sub: &mut Subscription) -> Vec<String> {
    pull(sub).iter().map(|m| m.text().to_owned()).collect()
}

/// The numbers of all there is, which is finished.
fn drain(sub: &mut Subscription) -> Vec<u32> {
    testkit::drain(sub).iter().map(|m| m.text().split(':').next().unwrap().parse().unwrap()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<u32> {
    range.collect()
}

#[test]
fn every_channel_gets_every_message_in_order() {
    for level in [Durability::Memory, Durability::Flush] {
        let world = world(level);
        let (mut a, mut b) = (world.subscribe("t", "a", 100), world.subscribe("t", "b", 10));
        world.publish("t", &["one", "two"]);
        world.publish("t", &["three"]);
        assert_eq!(bodies(&mut a), ["one", "two", "three"]);
        assert_eq!(bodies(&mut b), ["one", "two", "three"]);
    }
}

/// The design's pump rule: the first channel gets what waits, a later one what comes after it.
#[test]
fn a_new_channel_starts_at_the_pump_position() {
    let world = world(Durability::Flush);
    publish_numbers(&world, "t", 0..3);
    assert_eq!(world.topic("t").depth(), 3);
    let mut a = world.subscribe("t", "a", 100);
    assert_eq!(world.topic("t").depth(), 0);
    publish_numbers(&world, "t", 3..5);
    let mut b = world.subscribe("t", "b", 100);
    publish_numbers(&world, "t", 5..6);
    assert_eq!((drain(&mut a), drain(&mut b)), (numbers(0..6), numbers(5..6)));
    drop((a, b));
    for name in ["a", "b"] {
        let _ = world.topic("t").delete_channel(&channel_name(name)).unwrap();
    }
    publish_numbers(&world, "t", 6..8);
    let mut c = world.subscribe("t", "c", 100);
    assert_eq!(drain(&mut c), numbers(6..8));
}

/// I1 at a clean stop for both levels, at a kill for `flush`.
#[test]
fn nothing_published_is_lost_by_a_clean_stop_or_at_flush_by_a_kill() {
    for (level, clean) in [(Durability::Memory, true), (Durability::Flush, true), (Durability::Flush, false)]
    {
        let world = world(level);
        let mut a = world.subscribe("t", "a", 10);
        publish_numbers(&world, "t", 0..200);
        let held = pull(&mut a);
        a.acks().finish(held[0].id).unwrap();
        a.acks().finish(held[3].id).unwrap();
        world.steps(&[Step::State]);
        drop(a);
        let world = if clean { world.reopen() } else { world.kill() };
        let mut a = world.subscribe("t", "a", 1000);
        let expected: Vec<u32> = (0..200).filter(|n| ![0, 3].contains(n)).collect();
        assert_eq!(drain(&mut a), expected, "{level:?} clean {clean}");
        assert!(world.damage().is_empty());
        publish_numbers(&world, "t", 200..210);
        assert_eq!(drain(&mut a), numbers(200..210));
    }
}

/// I6, I2: more than the memory limit goes through, in order, within the limit.
#[test]
fn what_does_not_fit_memory_is_read_back_from_disk_in_order() {
    for level in [Durability::Memory, Durability::Flush] {
        let world = world(level);
        let mut a = world.subscribe("t", "a", 100);
        let body = "x".repeat(2000);
        for number in 0..6000u32 {
            world.publish("t", &[&format!("{number}:{body}")]);
            let used = world.memory_used();
            assert!(used <= world.options.memory_limit, "{used} bytes at message {number}");
        }
        assert_eq!(drain(&mut a), numbers(0..6000), "{level:?}");
        world.steps(&[Step::State, Step::Sync, Step::Checkpoint, Step::Clean]);
        let (bytes, files) = world.disk_used();
        assert!(files <= 3, "{files} files with {bytes} bytes are left of what is finished");
    }
}

#[test]
fn a_deferred_message_waits_for_its_time_through_a_kill() {
    let world = world(Durability::Flush);
    let mut a = world.subscribe("t", "a", 100);
    let topic = world.topic("t");
    let mut batch = topic.batch();
    let not_before = Some(world.wall().plus(5 * SECOND));
    batch.push(&Attributes { not_before, ..Attributes::NONE }, b"later").unwrap();
    topic.publish(batch, None).unwrap().wait(&world).unwrap();
    assert!(pull(&mut a).is_empty());
    assert_eq!(a.channel().stats().deferred, 1);
    drop(a);
    let world = world.kill();
    let mut a = world.subscribe("t", "a", 100);
    assert!(pull(&mut a).is_empty());
    world.clock.advance(5 * SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(bodies(&mut a), ["later"]);
}

#[test]
fn a_stuck_message_does_not_keep_the_log() {
    let world = world(Durability::Flush);
    let mut a = world.subscribe("t", "a", 2000);
    publish_numbers(&world, "t", 0..1);
    let stuck = pull(&mut a);
    for round in 1..40 {
        publish_numbers(&world, "t", round * 100..round * 100 + 100);
        drain(&mut a);
        world.steps(&[Step::State, Step::Sync, Step::Checkpoint, Step::Clean]);
    }
    let (bytes, _) = world.disk_used();
    assert!(bytes <= 4 * SIZES.file_bytes, "{bytes} bytes for one message");
    drop(a);
    let world = world.kill();
    let mut a = world.subscribe("t", "a", 2000);
    let again = pull(&mut a);
    assert_eq!((again.len(), again[0].id, &again[0].body), (1, stuck[0].id, &stuck[0].body));
}

#[test]
fn ephemeral_channels_keep_the_newest_and_go_with_their_last_subscriber() {
    let world = World::with(SIZES, Options { ephemeral_queue: 10, ..options() });
    let mut a = world.subscribe("t", "a#ephemeral", 1000);
    publish_numbers(&world, "t", 0..100);
    assert_eq!(drain(&mut a), numbers(90..100));
    drop(a);
    assert!(world.topic("t").channels().is_empty());
}

/// I9: offsets are never used again, not even by a topic re-created under the same name.
#[test]
fn a_deleted_topic_takes_its_messages_along_and_ends_its_subscriptions() {
    let world = world(Durability::Flush);
    let mut a = world.subscribe("t", "a", 10);
    publish_numbers(&world, "t", 0..3);
    let first = pull(&mut a)[0].id;
    let topic = world.topic("t");
    let _ = world.delete_topic(&topic_name("t")).unwrap();
    assert_eq!(a.pull(100, &mut |_| panic!("it is gone")), Pulled::Closed);
    let mut batch = topic.batch();
    batch.push(&Attributes::NONE, b"x").unwrap();
    assert_eq!(topic.publish(batch, None).unwrap_err().kind(), ErrorKind::Closed);
    let mut b = world.subscribe("t", "a", 10);
    publish_numbers(&world, "t", 7..8);
    let again = pull(&mut b);
    assert_eq!(again[0].text(), "7");
    assert!(again[0].id > first);
}
