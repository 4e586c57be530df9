//! The beginnings of new channels, and reading without consuming.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;

use mq_core::testkit::{Crash, Got, SECOND, WALL, World, channel_name, options, pull, subscribe};
use mq_core::{
    Attributes, Channel, Durability, Headers, HeadersBuf, Offset, Options, Start, Step, StoreSizes,
};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 2 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 64 };
/// More than there is.
const CREDIT: u32 = 100_000;

fn world(durability: Durability) -> World {
    World::with(SIZES, Options { durability, ..options() })
}

/// Publishes one message, a second after the last. Returns its offset.
fn publish(world: &World, body: &str) -> Offset {
    world.clock.advance(SECOND);
    world.try_publish("t", &[body]).unwrap().offsets().next().unwrap().0
}

fn publish_all(world: &World, numbers: std::ops::Range<u32>) -> Vec<Offset> {
    numbers.map(|n| publish(world, &format!("{n:03}{}", "x".repeat(50)))).collect()
}

fn channel(world: &World, channel: &str, start: Start) -> Arc<Channel> {
    world.topic("t").channel_at(&channel_name(channel), start, None).unwrap().channel
}

fn number(message: &Got) -> u32 {
    message.text()[..3].parse().unwrap()
}

/// The numbers a channel has to give, none of them finished.
fn rest(world: &World, channel: &str) -> Vec<u32> {
    let mut sub = subscribe(&world.topic("t").find_channel(&channel_name(channel)).unwrap(), CREDIT);
    // What came more than once backs off.
    world.clock.advance(100 * SECOND);
    world.steps(&[Step::Timers]);
    let mut got: Vec<_> = pull(&mut sub).iter().map(number).collect();
    got.sort_unstable();
    got
}

fn clean(world: &World) {
    world.clean();
    world.steps(&[Step::Memory]);
}

/// Finishes those of a channel's messages for which `done` is true.
fn finish(channel: &Arc<Channel>, done: impl Fn(u32) -> bool) {
    let mut sub = subscribe(channel, CREDIT);
    let got = pull(&mut sub);
    let mut acks = sub.acks();
    got.iter().filter(|m| done(number(m))).for_each(|m| acks.finish(m.id).unwrap());
}

fn numbers(range: impl IntoIterator<Item = u32>) -> Vec<u32> {
    range.into_iter().collect()
}

#[test]
fn a_channel_begins_where_it_is_told() {
    for durability in Durability::ALL {
        let world = world(durability);
        channel(&world, "old", Start::Now);
        let offsets = publish_all(&world, 0..60);
        world.maintain(Step::Sync).unwrap();
        finish(&channel(&world, "old", Start::Now), |n| n < 20 || n % 3 == 0);
        clean(&world);
        channel(&world, "earliest", Start::Earliest);
        channel(&world, "now", Start::Now);
        channel(&world, "latest", Start::Latest);
        channel(&world, "offset", Start::Offset(offsets[30]));
        channel(&world, "later", Start::Offset(Offset(offsets[59].0 + 7)));
        channel(&world, "time", Start::Time(WALL.plus(41 * SECOND)));
        channel(&world, "between", Start::Time(WALL.plus(41 * SECOND + 1)));
        channel(&world, "past", Start::Time(WALL));
        channel(&world, "future", Start::Time(WALL.plus(4000 * SECOND)));
        // One that exists stays where it is.
        channel(&world, "now", Start::Earliest);
        publish_all(&world, 60..62);
        world.maintain(Step::Sync).unwrap();
        let kept = |from: u32| numbers((from..62).filter(|n| *n >= 60 || n % 3 != 0));
        let check = |world: &World| {
            assert_eq!(rest(world, "old"), kept(20));
            assert_eq!(rest(world, "earliest"), kept(20));
            assert_eq!(rest(world, "now"), [60, 61]);
            assert_eq!(rest(world, "latest"), [60, 61]);
            assert_eq!(rest(world, "offset"), kept(30));
            assert_eq!(rest(world, "later"), [60, 61]);
            assert_eq!(rest(world, "time"), kept(40));
            assert_eq!(rest(world, "between"), kept(41));
            assert_eq!(rest(world, "past"), kept(20));
            assert_eq!(rest(world, "future"), [60, 61]);
        };
        check(&world);
        if durability != Durability::Memory {
            check(&world.after(Crash::Kill));
        }
        clean(&world);
        // The old one has finished all; the others hold what they need, through cleaning and two starts.
        finish(&channel(&world, "old", Start::Now), |_| true);
        clean(&world);
        assert_eq!(rest(&world, "earliest"), kept(20));
        world.close().unwrap();
        let again = world.after(Crash::Kill).kill();
        assert_eq!(rest(&again, "time"), kept(40));
        assert_eq!(rest(&again, "earliest"), kept(20));
    }
}

#[test]
fn the_first_channel_has_what_waits_or_less() {
    let world = world(Durability::Flush);
    let offsets = publish_all(&world, 0..10);
    let _ = world.topic("t").pause().unwrap();
    let late = channel(&world, "late", Start::Offset(offsets[6]));
    channel(&world, "all", Start::Earliest);
    assert_eq!(late.stats().depth, 0);
    let _ = world.topic("t").unpause().unwrap();
    assert_eq!(rest(&world, "late"), numbers(6..10));
    assert_eq!(rest(&world, "all"), numbers(0..10));
    let killed = world.after(Crash::Kill);
    assert_eq!(rest(&killed, "late"), numbers(6..10));
}

#[test]
fn a_first_channel_at_the_latest_drops_what_waits_and_a_paused_topic_keeps_it_for_others() {
    let world = world(Durability::Flush);
    publish_all(&world, 0..4);
    let topic = world.topic("t");
    let opened = topic.channel_at(&channel_name("latest"), Start::Latest, None).unwrap();
    assert!(opened.is_new);
    assert!(!topic.channel_at(&channel_name("latest"), Start::Earliest, None).unwrap().is_new);
    channel(&world, "second", Start::Now);
    let _ = topic.pause().unwrap();
    publish_all(&world, 4..8);
    channel(&world, "third", Start::Latest);
    publish_all(&world, 8..10);
    let _ = topic.unpause().unwrap();
    for world in [&world, &world.after(Crash::Kill)] {
        assert_eq!(rest(world, "latest"), numbers(4..10));
        assert_eq!(rest(world, "second"), numbers(4..10));
        assert_eq!(rest(world, "third"), [8, 9]);
    }
}

/// Messages emptied while the topic stood still are not brought back by a channel that begins before them.
#[test]
fn what_was_emptied_stays_so() {
    let world = world(Durability::Flush);
    channel(&world, "old", Start::Now);
    publish_all(&world, 0..4);
    let _ = world.topic("t").pause().unwrap();
    publish_all(&world, 4..8);
    let _ = world.topic("t").empty().unwrap();
    publish_all(&world, 8..10);
    channel(&world, "new", Start::Earliest);
    let _ = world.topic("t").unpause().unwrap();
    assert_eq!(rest(&world, "new"), [0, 1, 2, 3, 8, 9]);
    assert_eq!(rest(&world.after(Crash::Kill), "new"), [0, 1, 2, 3, 8, 9]);
    assert_eq!(rest(&world.after(Crash::Kill), "old"), [0, 1, 2, 3, 8, 9]);
}

#[test]
fn a_channel_takes_over_from_one_that_is_deleted() {
    let world = world(Durability::Flush);
    channel(&world, "old", Start::Now);
    publish_all(&world, 0..40);
    finish(&channel(&world, "old", Start::Now), |n| n % 2 == 0);
    channel(&world, "new", Start::Earliest);
    let _ = world.topic("t").delete_channel(&channel_name("old")).unwrap();
    (0..3).for_each(|_| clean(&world));
    assert_eq!(rest(&world, "new"), numbers((0..40).filter(|n| n % 2 == 1)));
    let killed = world.after(Crash::Kill);
    assert_eq!(rest(&killed, "new"), numbers((0..40).filter(|n| n % 2 == 1)));
}

#[test]
fn a_peek_gives_all_of_a_message_and_stops_at_its_bounds() {
    for on_disk in [false, true] {
        let world = world(Durability::Flush);
        let mut headers = HeadersBuf::new();
        headers.push("trace", b"\x00\x01").unwrap();
        headers.push("trace", b"again").unwrap();
        let mut batch = world.topic("t").batch();
        for n in 0..10u8 {
            let attributes = Attributes { headers: headers.as_attribute(), ..Attributes::NONE };
            batch.push(&attributes, &[n; 100]).unwrap();
        }
        let published = world.topic("t").publish(batch, None).unwrap();
        let offsets: Vec<_> = published.offsets().map(|(offset, _)| offset).collect();
        assert_eq!((published.len(), published.duplicates()), (10, 0));
        world.commit();
        if on_disk {
            publish_all(&world, 100..200);
            world.maintain(Step::Spill).unwrap();
        }
        let peek = |from: Option<Offset>, max: usize, bytes: usize| {
            let mut got = Vec::new();
            let mut sink = |m: mq_core::Delivery<'_>| {
                let headers: Vec<_> =
                    Headers::new(m.attributes.headers).map(|(n, v)| (n.to_owned(), v.to_vec())).collect();
                assert_eq!(headers, [("trace".into(), vec![0, 1]), ("trace".into(), b"again".to_vec())]);
                assert_eq!((m.time, m.attempts), (WALL, 0));
                got.push((m.id.offset(), m.body[0]));
            };
            let next = world.topic("t").peek(from, max, bytes, &mut sink).unwrap();
            (got, next)
        };
        let all = |range: std::ops::Range<usize>| -> Vec<(Offset, u8)> {
            range.map(|n| (offsets[n], n as u8)).collect()
        };
        assert_eq!(peek(None, 4, usize::MAX), (all(0..4), offsets[4]));
        assert_eq!(peek(Some(offsets[4]), 6, usize::MAX).0, all(4..10));
        assert_eq!(peek(Some(offsets[2]), 6, 300), (all(2..4), offsets[4]));
        assert_eq!(peek(Some(offsets[9]), 1, 1).0, all(9..10));
        assert_eq!(peek(Some(offsets[3]), 0, usize::MAX), (vec![], offsets[3]));
    }
}
