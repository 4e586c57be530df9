//! Messages sent again with the id they had are stored once: while the broker runs, and after it was stopped
//! or killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use mq_core::repair::repair_on;
use mq_core::testkit::{
    self, Crash, Disk, Fault, Op, SECOND, WakeCount, World, is_done, options, subscribe, topic_name,
};
use mq_core::{
    Attributes, Dedup, Durability, ErrorKind, Limits, Offset, Options, Outcome, Published, Step, StoreSizes,
    Wake,
};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 4 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 64 };

fn world(durability: Durability) -> World {
    World::with(SIZES, Options { durability, ..options() })
}

/// Publishes messages whose bodies are their ids; those that begin with `-` have none.
fn send(world: &World, ids: &[&str]) -> Published {
    let topic = world.topic("t");
    let mut batch = topic.batch();
    for id in ids {
        let dedup_id = (!id.starts_with('-')).then_some(id.as_bytes());
        batch.push(&Attributes { dedup_id, ..Attributes::NONE }, id.as_bytes()).unwrap();
    }
    let published = topic.publish(batch, None).unwrap();
    world.commit();
    published
}

fn places(world: &World, ids: &[&str]) -> Vec<(Offset, bool)> {
    let published = send(world, ids);
    world.steps(&[Step::Sync]);
    assert!(is_done(world, published.ticket));
    published.offsets().collect()
}

/// The bodies that a channel has, all of which it finishes.
fn consume(world: &World, channel: &str) -> Vec<String> {
    let mut sub = subscribe(&world.channel("t", channel), 100_000);
    testkit::drain(&mut sub).iter().map(|m| m.text().to_owned()).collect()
}

#[test]
fn what_is_sent_again_is_stored_once() {
    for durability in Durability::ALL {
        let world = world(durability);
        let first = places(&world, &["a", "-", "b"]);
        assert!(first.iter().all(|(_, is_duplicate)| !is_duplicate));
        // Alone, in a batch of others, and twice in one batch.
        assert_eq!(places(&world, &["b"]), [(first[2].0, true)]);
        let mixed = places(&world, &["c", "a", "-", "c", "d", "b"]);
        let marks: Vec<bool> = mixed.iter().map(|(_, is_duplicate)| *is_duplicate).collect();
        assert_eq!(marks, [false, true, false, true, false, true]);
        assert_eq!((mixed[1].0, mixed[5].0, mixed[3].0), (first[0].0, first[2].0, mixed[0].0));
        assert_eq!(mixed[4].0.0, mixed[0].0.0 + 2, "what is stored of a batch is consecutive");
        let stats = world.topic("t").stats();
        assert_eq!((stats.message_count, stats.duplicates, stats.dedup_ids), (6, 4, 4));
        assert_eq!(consume(&world, "c"), ["a", "-", "b", "c", "-", "d"]);
        // What was consumed is remembered no less.
        assert_eq!(places(&world, &["c", "a"]), [(mixed[0].0, true), (first[0].0, true)]);
        world.close().unwrap();
        let again = world.after(Crash::Kill);
        assert_eq!(places(&again, &["b", "c"]), [(first[2].0, true), (mixed[0].0, true)]);
        assert!(!places(&again, &["e"])[0].1);
    }
}

/// Over checkpoints, and though the files that held the messages are gone.
#[test]
fn ids_outlive_a_crash_and_their_messages() {
    for durability in [Durability::Flush, Durability::Sync] {
        let world = world(durability);
        let first = places(&world, &["a", "b"]);
        consume(&world, "c");
        let body = "-".repeat(600);
        (0..20).for_each(|_| _ = places(&world, &[&body]));
        consume(&world, "c");
        (0..3).for_each(|_| world.clean());
        let later = places(&world, &["c"]);
        let power = world.after(Crash::Power { seed: 7 });
        for crashed in [&world.after(Crash::Kill), &power, &power.after(Crash::Kill)] {
            let places = places(crashed, &["b", "a", "c", "d"]);
            assert_eq!(places[..3], [(first[1].0, true), (first[0].0, true), (later[0].0, true)]);
            assert!(!places[3].1);
        }
        assert_eq!(world.topic("t").stats().duplicates, 0);
    }
}

#[test]
fn at_memory_a_message_and_its_id_are_lost_together() {
    let world = world(Durability::Memory);
    world.channel("t", "c");
    places(&world, &["spilled"]);
    let spilled = places(&world, &["spilled"])[0].0;
    let body = "-".repeat(400);
    places(&world, &[&body, &body, &body]);
    world.steps(&[Step::Spill, Step::Sync]);
    places(&world, &["held"]);
    world.steps(&[Step::Checkpoint]);
    let killed = world.after(Crash::Kill);
    assert_eq!(places(&killed, &["spilled"]), [(spilled, true)]);
    assert!(!places(&killed, &["held"])[0].1, "a checkpoint must not know what a crash takes");
    assert_eq!(consume(&killed, "c").iter().filter(|body| *body == "held").count(), 1);
    // What left memory for a file by a change of level is there with its id.
    let _ = world.topic("t").update(|s| s.durability = Durability::Flush).unwrap();
    world.steps(&[Step::Checkpoint]);
    assert!(places(&world.after(Crash::Kill), &["held"])[0].1);
}

#[test]
fn the_window_ends_with_time_and_with_number() {
    let world = world(Durability::Flush);
    let first = places(&world, &["a"]);
    world.clock.advance(119 * SECOND);
    assert_eq!(places(&world, &["a"]), [(first[0].0, true)]);
    world.clock.advance(SECOND);
    // Sending again has not prolonged it.
    let second = places(&world, &["a"]);
    assert!(!second[0].1 && second[0].0 > first[0].0);
    assert_eq!(places(&world.after(Crash::Kill), &["a"]), [(second[0].0, true)]);

    let none = Dedup::default();
    let _ = world.topic("t").update(|s| s.dedup = Dedup { max_ids: Some(3), ..none }).unwrap();
    places(&world, &["b", "c", "d"]);
    assert_eq!((world.topic("t").stats().dedup_ids, world.topic("t").stats().dedup_evicted), (3, 1));
    assert!(places(&world, &["b"])[0].1 && !places(&world, &["a"])[0].1 && !places(&world, &["b"])[0].1);
    let killed = world.after(Crash::Kill);
    assert_eq!(killed.topic("t").dedup(), Dedup { max_ids: Some(3), window: None });
    assert_eq!(killed.topic("t").stats().dedup_ids, 3);

    let _ = world
        .topic("t")
        .update(|s| s.dedup = Dedup { window: Some(Duration::from_secs(10)), ..none })
        .unwrap();
    places(&world, &["e"]);
    world.clock.advance(10 * SECOND);
    world.steps(&[Step::Memory]);
    assert_eq!(world.topic("t").stats().dedup_ids, 0, "what is over is forgotten by and by");
    let _ = world.topic("t").update(|s| s.dedup = Dedup { window: Some(Duration::ZERO), ..none }).unwrap();
    assert!(!places(&world, &["f"])[0].1 && !places(&world, &["f"])[0].1);
    let refused = |dedup| world.topic("t").update(move |s| s.dedup = dedup).unwrap_err().kind();
    assert_eq!(refused(Dedup { max_ids: Some(0), ..none }), ErrorKind::InvalidArgument);
    let week = Duration::from_secs(7 * 24 * 3600 + 1);
    assert_eq!(refused(Dedup { window: Some(week), ..none }), ErrorKind::InvalidArgument);
}

/// Ids take a quarter of the memory at most, whatever the settings.
#[test]
fn ids_stay_within_their_share_of_memory() {
    let world = world(Durability::Flush);
    for n in 0..400 {
        let ids: Vec<String> = (0..100).map(|i| format!("{n} {i}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        let _ = send(&world, &ids);
        consume(&world, "c");
    }
    let stats = world.topic("t").stats();
    assert!(stats.dedup_ids > (1 << 20) / 64 && stats.dedup_ids < (1 << 20) / 32, "{}", stats.dedup_ids);
    assert_eq!(stats.dedup_evicted, 40_000 - stats.dedup_ids);
    assert!(send(&world, &["399 99"]).duplicates() == 1);
    let before = world.memory_used();
    let _ = world.delete_topic(&topic_name("t")).unwrap();
    assert!(world.memory_used() + (1 << 19) < before);
}

/// A publisher that sends again what is not stored yet is answered when it is.
#[test]
fn an_answer_waits_for_the_original() {
    let world = world(Durability::Sync);
    let first = send(&world, &["a"]);
    let (again, with_others) = (send(&world, &["a"]), send(&world, &["b", "a"]));
    for published in [&first, &again, &with_others] {
        assert!(matches!(world.outcome(published.ticket), Outcome::Pending));
    }
    assert_eq!(again.duplicates(), 1);
    let wake = Arc::new(WakeCount::default());
    let mut batch = world.topic("t").batch();
    batch.push(&Attributes { dedup_id: Some(b"a"), ..Attributes::NONE }, b"a").unwrap();
    let woken = world.topic("t").publish(batch, &(wake.clone() as Arc<dyn Wake>)).unwrap();
    world.commit();
    assert!(matches!(world.outcome(woken.ticket), Outcome::Pending));
    world.steps(&[Step::Sync]);
    assert!(wake.count() > 0);
    for published in [&first, &again, &with_others, &woken] {
        assert!(is_done(&world, published.ticket));
    }
    assert_eq!(consume(&world, "c"), ["a", "b"]);
}

/// A message that was refused can be sent again, and is stored then.
#[test]
fn a_refused_message_is_not_remembered() {
    let world = world(Durability::Flush);
    let before = places(&world, &["before"]);
    world.disk.set_faults(Box::new(|call| (call.op == Op::Write).then_some(Fault::Eio)));
    let published = |ids: &[&str]| {
        let mut batch = world.topic("t").batch();
        for id in ids {
            batch
                .push(&Attributes { dedup_id: Some(id.as_bytes()), ..Attributes::NONE }, id.as_bytes())
                .unwrap();
        }
        world.topic("t").publish(batch, None).unwrap()
    };
    // The second is queued while it is not known that the first will fail; the third has only what was
    // stored.
    let (first, again, other) = (published(&["a"]), published(&["a", "b"]), published(&["before"]));
    assert_eq!((again.duplicates(), other.duplicates()), (1, 1));
    world.commit();
    for refused in [&first, &again] {
        assert!(matches!(world.outcome(refused.ticket), Outcome::Failed(_)));
    }
    assert!(is_done(&world, other.ticket));
    world.disk.clear_faults();
    world.steps(&[Step::Maintain]);
    let stored = places(&world, &["a", "b", "before"]);
    assert_eq!(stored[2], (before[0].0, true));
    assert!(!stored[0].1 && !stored[1].1);
    assert!(places(&world, &["a", "b"]).iter().all(|(_, is_duplicate)| *is_duplicate));
    assert_eq!(consume(&world, "c"), ["before", "a", "b"]);
    assert_eq!(places(&world.after(Crash::Kill), &["a"]), [(stored[0].0, true)]);
}

#[test]
fn emptying_keeps_ids_and_deleting_drops_them() {
    let world = world(Durability::Flush);
    let first = places(&world, &["a"]);
    let _ = world.topic("t").empty().unwrap();
    assert_eq!(places(&world, &["a"]), [(first[0].0, true)]);
    let _ = world.delete_topic(&topic_name("t")).unwrap();
    assert!(!places(&world, &["a"])[0].1);
    assert_eq!(consume(&world.after(Crash::Kill), "c"), ["a"]);
}

/// A retry is answered though the topic takes no more, and a batch that is refused leaves no ids behind.
#[test]
fn duplicates_do_not_count_against_limits() {
    let world = world(Durability::Flush);
    places(&world, &["a", "b"]);
    let _ = world.topic("t").update(|s| s.limits = Limits { max_messages: 2, ..Limits::default() }).unwrap();
    assert_eq!(send(&world, &["a", "b"]).duplicates(), 2);
    let mut batch = world.topic("t").batch();
    for id in [&b"a"[..], b"c"] {
        batch.push(&Attributes { dedup_id: Some(id), ..Attributes::NONE }, id).unwrap();
    }
    assert_eq!(world.topic("t").publish(batch, None).unwrap_err().kind(), ErrorKind::Full);
    let _ = world.topic("t").update(|s| s.limits = Limits::default()).unwrap();
    assert!(!places(&world, &["c"])[0].1);
}

/// A repair without a checkpoint finds the ids in the messages that are there.
#[test]
fn a_repair_keeps_ids() {
    for is_checkpoint_lost in [false, true] {
        let world = world(Durability::Flush);
        let first = places(&world, &["a", "b"]);
        world.clean();
        let second = places(&world, &["c", &"-".repeat(5000)]);
        world.steps(&[Step::Sync]);
        let disk = world.disk.image(world.disk.events(), Crash::Kill);
        let names = disk.list().unwrap();
        let damaged = names.iter().find(|name| match is_checkpoint_lost {
            true => name.ends_with(".checkpoint"),
            false => *name == "manifest",
        });
        disk.flip_bit(damaged.unwrap(), 160);
        assert!(repair_on(&disk, true, &mut |_, _| {}).unwrap().is_written);
        let repaired = World::try_on(disk, world.clock.clone(), SIZES, options()).unwrap();
        let topic = repaired.topics().into_iter().next().unwrap();
        let mut batch = topic.batch();
        for id in [&b"a"[..], b"b", b"c", b"d"] {
            batch.push(&Attributes { dedup_id: Some(id), ..Attributes::NONE }, id).unwrap();
        }
        let places: Vec<_> = topic.publish(batch, None).unwrap().offsets().collect();
        assert_eq!(places[..3], [(first[0].0, true), (first[1].0, true), (second[0].0, true)]);
        assert!(!places[3].1);
    }
}
