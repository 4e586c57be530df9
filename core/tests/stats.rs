//! The numbers of topics and channels, as users of the broker see them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use mq_core::testkit::{self, Crash, SECOND, World, options};
use mq_core::{Durability, MessageId, Step, StoreSizes, Subscription};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 64 << 10, chunk_bytes: 16 << 10, read_bytes: 16 << 10, blocks: 64 };

fn world() -> World {
    World::with(SIZES, options())
}

fn publish(world: &World, bodies: impl IntoIterator<Item = Vec<u8>>) {
    bodies.into_iter().for_each(|body| world.publish("t", &[body]));
}

fn pull(sub: &mut Subscription, max: usize) -> Vec<MessageId> {
    sub.acks().set_credit(max as u32);
    testkit::pull(sub).iter().map(|m| m.id).collect()
}

#[test]
fn counts_are_since_the_start_and_depths_are_not() {
    let world = world();
    publish(&world, (0..3).map(|n| vec![n; 10]));
    let stats = world.topic("t").stats();
    assert_eq!((stats.depth, stats.message_count, stats.message_bytes), (3, 3, 30));
    assert_eq!((stats.backend_depth, stats.durability), (0, Durability::Flush));
    let mut a = world.subscribe("t", "a", 1000);
    publish(&world, [vec![9]]);
    let ids = pull(&mut a, 3);
    {
        let mut acks = a.acks();
        acks.finish(ids[0]).unwrap();
        acks.requeue(ids[1], Duration::ZERO).unwrap();
        acks.requeue(ids[2], Duration::from_secs(9)).unwrap();
    }
    let _late = world.subscribe("t", "b", 1000);
    let _ = world.topic("t").pause().unwrap();
    let stats = world.topic("t").stats();
    assert_eq!((stats.depth, stats.message_count, stats.paused), (0, 4, true));
    assert_eq!(stats.channels.iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let a_stats = stats.channels[0].stats;
    assert_eq!((a_stats.depth, a_stats.in_flight, a_stats.deferred), (2, 0, 1));
    assert_eq!((a_stats.message_count, a_stats.finished, a_stats.requeued), (4, 1, 2));
    assert_eq!(a_stats, a.channel().stats());
    let b_stats = stats.channels[1].stats;
    assert_eq!((b_stats.depth, b_stats.message_count, b_stats.subscribers), (0, 0, 1));
    // What is emptied from the topic never arrives.
    publish(&world, [vec![1], vec![2]]);
    let _ = world.topic("t").empty().unwrap();
    let _ = world.topic("t").unpause().unwrap();
    publish(&world, [vec![3]]);
    let counts =
        |w: &World| w.topic("t").stats().channels.iter().map(|c| c.stats.message_count).collect::<Vec<_>>();
    assert_eq!(counts(&world), [5, 1]);
    drop(a);
    let world = world.kill();
    let stats = world.topic("t").stats();
    assert_eq!((stats.message_count, counts(&world)), (0, vec![0, 0]));
    publish(&world, [vec![3]]);
    assert_eq!((world.topic("t").stats().message_count, counts(&world)), (1, vec![1, 1]));
}

#[test]
fn the_backends_depth_is_what_is_only_on_disk() {
    let world = world();
    let mut a = world.subscribe("t", "a", 1000);
    let total = |world: &World| {
        let channel = world.topic("t").stats().channels[0].stats;
        (channel.depth, channel.backend_depth)
    };
    publish(&world, (0..100).map(|_| vec![0; 100]));
    assert_eq!(total(&world), (100, 0));
    // Far more than memory takes.
    publish(&world, (0..900).map(|_| vec![0; 10_000]));
    let (depth, on_disk) = total(&world);
    assert_eq!(depth, 1000);
    assert!((500..1000).contains(&on_disk), "{on_disk}");
    // What was read once comes again: from the disk.
    let ids = pull(&mut a, 10);
    ids.iter().for_each(|id| a.acks().requeue(*id, Duration::ZERO).unwrap());
    assert_eq!(total(&world).0, 1000);
    assert_eq!(total(&world).1, on_disk);
    let world = world.kill();
    assert_eq!(total(&world), (1000, 1000));
    publish(&world, [vec![1]]);
    assert_eq!(total(&world), (1001, 1000));
}

#[test]
fn latency_is_measured_when_asked_for() {
    let world = world();
    let mut a = world.subscribe("t", "a", 1000);
    let latency = |world: &World| world.topic("t").stats().channels[0].latency;
    let round = |sub: &mut Subscription, ms: u64| {
        publish(&world, [vec![1]]);
        let ids = pull(sub, 1);
        world.clock.advance(ms * 1_000_000);
        ids.iter().for_each(|id| sub.acks().finish(*id).unwrap());
    };
    round(&mut a, 3);
    assert_eq!(latency(&world).count(), 0);
    world.measure_latency(None);
    for ms in [3, 3, 70] {
        round(&mut a, ms);
    }
    assert_eq!((latency(&world).count(), latency(&world).sum), (3, Duration::from_millis(76)));
    assert_eq!(world.topic("t").stats().channels[0].recent_latency.count(), 0);
    world.measure_latency(Some(Duration::from_secs(60)));
    for ms in [5, 50] {
        round(&mut a, ms);
    }
    let recent = world.topic("t").stats().channels[0].recent_latency.clone();
    assert_eq!(recent.count(), 2);
    for (quantile, want) in [(1.0, 50_000_000), (0.5, 5_000_000)] {
        let have = recent.get(quantile);
        assert!(have >= want && have - want <= want / 32, "{have}");
    }
    world.clock.advance(60 * SECOND);
    assert_eq!(world.topic("t").stats().channels[0].recent_latency.count(), 0);
}

#[test]
fn a_view_of_a_subscriber_outlives_it() {
    let world = world();
    let mut a = world.subscribe("t", "a", 1000);
    let view = a.view();
    publish(&world, [vec![1], vec![2]]);
    let ids = pull(&mut a, 2);
    assert_eq!(view.in_flight(), 2);
    a.acks().finish(ids[0]).unwrap();
    assert_eq!(view.in_flight(), 1);
    drop(a);
    assert_eq!(view.in_flight(), 0);
}

/// A stop that can't wait says what is lost.
#[test]
fn only_in_memory_are_the_pending_messages_that_a_kill_would_lose() {
    let world = World::new(Durability::Memory);
    let mut sub = world.subscribe("t", "c", 10);
    world.publish("t", &["finished", "in flight", "waits"]);
    world.publish("t", &["in a frame of its own"]);
    world.publish("passing#ephemeral", &["not meant to be kept"]);
    assert_eq!(world.only_in_memory(), 4);
    let got = testkit::pull(&mut sub);
    testkit::finish(&mut sub, &got[..1]);
    assert_eq!(world.only_in_memory(), 3);
    drop(sub);
    let killed = world.after(Crash::Kill);
    assert_eq!(
        testkit::texts(&testkit::drain(&mut killed.subscribe("t", "c", 10))),
        [""; 0],
        "they would be lost"
    );

    world.publish("t", &[[b'x'; 3000]; 3]);
    world.steps(&[Step::Spill]);
    let spilled = world.only_in_memory();
    assert!(spilled < 6, "{spilled} after full chunks were written");
    let kept =
        u64::try_from(testkit::drain(&mut world.after(Crash::Kill).subscribe("t", "c", 10)).len()).unwrap();
    assert_eq!(kept + spilled, 6);

    let written = World::new(Durability::Flush);
    written.publish("t", &["written at once"]);
    assert_eq!(written.only_in_memory(), 0);
}
