//! Limits of topics and of the data folder: what is refused, what is dropped, and that it stays so over a
//! crash.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use mq_core::clock::Wall;
use std::sync::Arc;
use std::time::Duration;

use mq_core::testkit::{self, CrashDisk, SECOND, SIZES, World, finish, is_done, pull};
use mq_core::{
    Broker, Durability, Error, ErrorKind, Limits, ManualClock, Options, Overflow, Step, Subscription,
};

fn world(options: Options) -> World {
    World::with(SIZES, Options { memory_limit: 4 << 20, ..options })
}

fn publish(world: &World, bodies: &[String]) -> Result<(), Error> {
    let _ = world.try_publish("t", bodies)?;
    world.maintain(Step::Sync)
}

fn publish_numbers(world: &World, numbers: std::ops::Range<u32>) -> Result<(), Error> {
    numbers.into_iter().try_for_each(|n| publish(world, &[n.to_string()]))
}

fn limit(world: &World, limits: Limits) {
    let ticket = world.topic("t").update(move |s| s.limits = limits).unwrap();
    world.steps(&[Step::Sync]);
    assert!(is_done(world, ticket));
}

fn skipped(world: &World, channel: &str) -> u64 {
    world.channel("t", channel).stats().skipped
}

fn take(sub: &mut Subscription, and_finish: bool) -> Vec<String> {
    let got = pull(sub);
    if and_finish {
        finish(sub, &got);
    }
    got.iter().map(|m| m.text().to_owned()).collect()
}

fn drain(sub: &mut Subscription) -> Vec<String> {
    testkit::drain(sub).iter().map(|m| m.text().to_owned()).collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn refused(result: Result<(), Error>, word: &str) {
    let error = result.unwrap_err();
    assert!(error.kind() == ErrorKind::Full && error.is_retryable(), "{error:?}");
    assert!(error.to_string().contains(word), "{error} lacks {word}");
}

const ANY: Limits =
    Limits { max_messages: 0, max_bytes: 0, max_age: Duration::ZERO, overflow: Overflow::Refuse };

#[test]
fn a_topic_refuses_what_is_above_its_messages_until_less_waits() {
    for level in Durability::ALL {
        let world = world(Options { durability: level, ..Options::default() });
        let (mut slow, mut fast) = (world.subscribe("t", "slow", 3), world.subscribe("t", "fast", 100));
        limit(&world, Limits { max_messages: 10, ..ANY });
        publish_numbers(&world, 0..10).unwrap();
        refused(publish_numbers(&world, 10..11), "max-messages is 10");
        // One channel being empty does not help the other. What is in flight counts.
        assert_eq!(drain(&mut fast), numbers(0..10));
        assert_eq!(take(&mut slow, false), numbers(0..3));
        refused(publish_numbers(&world, 10..11), "max-messages");
        drop(slow);
        assert_eq!(take(&mut world.subscribe("t", "slow", 4), true), numbers(0..4));
        publish_numbers(&world, 10..14).unwrap();
        refused(publish_numbers(&world, 14..15), "max-messages");
        let never = publish(&world, &numbers(0..11)).unwrap_err();
        assert!(never.kind() == ErrorKind::TooBig && !never.is_retryable(), "{never:?}");
        assert!(never.to_string().contains("never fits"), "{never}");
        limit(&world, ANY);
        publish_numbers(&world, 14..40).unwrap();
    }
}

#[test]
fn what_waits_without_a_channel_counts() {
    let world = world(Options::default());
    limit(&world, Limits { max_messages: 5, ..ANY });
    publish_numbers(&world, 0..5).unwrap();
    refused(publish_numbers(&world, 5..6), "max-messages");
    limit(&world, Limits { max_messages: 5, overflow: Overflow::DropOldest, ..ANY });
    publish_numbers(&world, 5..8).unwrap();
    let world = world.kill();
    assert_eq!(world.topic("t").limits().overflow, Overflow::DropOldest);
    assert_eq!(drain(&mut world.subscribe("t", "c", 100)).last().unwrap(), "7");
}

#[test]
fn the_oldest_are_dropped_where_that_is_asked_for_and_counted() {
    for level in Durability::ALL {
        let world = world(Options { durability: level, ..Options::default() });
        let (mut slow, mut fast) = (world.subscribe("t", "slow", 2), world.subscribe("t", "fast", 100));
        limit(&world, Limits { max_messages: 10, overflow: Overflow::DropOldest, ..ANY });
        publish_numbers(&world, 0..5).unwrap();
        assert_eq!(drain(&mut fast), numbers(0..5));
        assert_eq!(take(&mut slow, false), numbers(0..2));
        publish_numbers(&world, 5..25).unwrap();
        // 0 and 1 are in flight, and of the others the newest 8 are left.
        assert_eq!(skipped(&world, "slow"), 15);
        assert_eq!(skipped(&world, "fast"), 10);
        assert_eq!(drain(&mut fast), numbers(15..25));
        drop(slow);
        let mut slow = world.subscribe("t", "slow", 100);
        assert_eq!(drain(&mut slow), [numbers(0..2), numbers(17..25)].concat());
    }
}

#[test]
fn dropped_stays_dropped_once_the_log_knows() {
    let world = world(Options::default());
    let slow = world.subscribe("t", "slow", 0);
    limit(&world, Limits { max_messages: 3, overflow: Overflow::DropOldest, ..ANY });
    publish_numbers(&world, 0..9).unwrap();
    world.maintain(Step::State).unwrap();
    drop(slow);
    let world = world.kill();
    assert_eq!(drain(&mut world.subscribe("t", "slow", 100)), numbers(6..9));
    // The limit is known after a crash, and after a checkpoint.
    publish_numbers(&world, 9..20).unwrap();
    world.maintain(Step::Checkpoint).unwrap();
    let world = world.kill();
    assert_eq!(world.topic("t").limits().max_messages, 3);
}

#[test]
fn requeued_and_deferred_messages_are_the_oldest() {
    let world = world(Options::default());
    let mut sub = world.subscribe("t", "c", 3);
    publish_numbers(&world, 0..4).unwrap();
    let got = pull(&mut sub);
    let mut acks = sub.acks();
    acks.requeue(got[0].id, Duration::ZERO).unwrap();
    acks.requeue(got[1].id, Duration::from_secs(5)).unwrap();
    drop(acks);
    limit(&world, Limits { max_messages: 4, overflow: Overflow::DropOldest, ..ANY });
    publish_numbers(&world, 4..6).unwrap();
    assert_eq!(skipped(&world, "c"), 2);
    drop(sub);
    world.clock.advance(10 * SECOND);
    world.maintain(Step::Timers).unwrap();
    assert_eq!(drain(&mut world.subscribe("t", "c", 100)), ["2", "3", "4", "5"]);
}

#[test]
fn bytes_are_limited() {
    for overflow in [Overflow::Refuse, Overflow::DropOldest] {
        let world = world(Options::default());
        let mut sub = world.subscribe("t", "c", 1000);
        limit(&world, Limits { max_bytes: 100_000, overflow, ..ANY });
        let body = "x".repeat(988);
        let stored =
            (0..300).take_while(|n| publish(&world, &[format!("{n:03}{}", &body[3..])]).is_ok()).count();
        match overflow {
            Overflow::Refuse => {
                assert_eq!(stored, 100);
                let one = [body];
                refused(publish(&world, &one), "max-bytes is 100000");
                assert_eq!(drain(&mut sub).len(), 100);
                publish(&world, &one).unwrap();
            }
            Overflow::DropOldest => {
                assert_eq!(stored, 300);
                let got = drain(&mut sub);
                assert!((95..=100).contains(&got.len()), "{}", got.len());
                assert!(got.last().unwrap().starts_with("299"));
            }
        }
        // After a restart what is on disk counts, as the files' indexes count it.
        (0..60).for_each(|_| publish(&world, &["y".repeat(988)]).unwrap());
        drop(sub);
        world.maintain(Step::State).unwrap();
        let world = world.kill();
        let more = (0..60).take_while(|_| publish(&world, &["z".repeat(988)]).is_ok()).count();
        if overflow == Overflow::Refuse {
            assert!((30..=45).contains(&more), "{more}");
        }
    }
}

#[test]
fn age_is_limited() {
    let world = world(Options::default());
    let mut sub = world.subscribe("t", "c", 1000);
    let age = Duration::from_secs(60);
    limit(&world, Limits { max_age: age, ..ANY });
    let minute = 60 * SECOND;
    publish_numbers(&world, 0..5).unwrap();
    world.clock.advance(minute / 2);
    publish_numbers(&world, 5..10).unwrap();
    world.clock.advance(minute / 2 + 2 * SECOND);
    refused(publish_numbers(&world, 10..11), "max-age");
    limit(&world, Limits { max_age: age, overflow: Overflow::DropOldest, ..ANY });
    world.maintain(Step::Memory).unwrap();
    assert_eq!(skipped(&world, "c"), 5);
    assert_eq!(drain(&mut sub), numbers(5..10));
    publish_numbers(&world, 10..12).unwrap();
    drop(sub);
    world.maintain(Step::State).unwrap();
    let world = world.kill();
    world.maintain(Step::Memory).unwrap();
    assert_eq!(skipped(&world, "c"), 0);
    world.clock.advance(minute + 2 * SECOND);
    world.maintain(Step::Memory).unwrap();
    assert_eq!(drain(&mut world.subscribe("t", "c", 1000)), [] as [String; 0]);
}

#[test]
fn an_ephemeral_topic_has_no_limits() {
    let world = world(Options::default());
    let topic = world.topic("t#ephemeral");
    assert_eq!(
        topic.update(|s| s.limits = Limits { max_messages: 1, ..ANY }).unwrap_err().kind(),
        ErrorKind::InvalidArgument
    );
}

#[test]
fn what_is_written_takes_a_quarter_of_the_memory_and_is_read_back() {
    for level in [Durability::Flush, Durability::Sync] {
        let world = world(Options { durability: level, ..Options::default() });
        let mut sub = world.subscribe("t", "c", 100);
        let bodies: Vec<_> = (0..4000).map(|n| format!("{n:01000}")).collect();
        for bodies in bodies.chunks(20) {
            publish(&world, bodies).unwrap();
            let used = world.memory_used();
            // And the chunks given up last, free until they are used again.
            assert!(used < (1 << 20) + (192 << 10), "{used}");
        }
        assert!(world.memory_used() > 1 << 19, "the newest are kept");
        assert!(drain(&mut sub) == bodies, "{level:?}");
    }
}

#[test]
fn the_data_folder_stays_within_its_budget() {
    let max = 16 * SIZES.file_bytes;
    for overflow in [Overflow::Refuse, Overflow::DropOldest] {
        let world = world(Options { max_disk_bytes: max, ..Options::default() });
        let mut sub = world.subscribe("t", "c", 10_000);
        limit(&world, Limits { overflow, ..ANY });
        let body = "x".repeat(1000);
        let mut stored = 0;
        for n in 0..1000 {
            match publish(&world, &[format!("{n:04}{body}")]) {
                Ok(()) => stored += 1,
                Err(error) if overflow == Overflow::Refuse => {
                    assert!(error.to_string().contains("max-disk-bytes is 131072"), "{error}");
                    break;
                }
                Err(error) => panic!("{error}"),
            }
            world.maintain(Step::Maintain).unwrap();
            assert!(world.stats().log_bytes <= max, "{:?}", world.stats());
        }
        let got = drain(&mut sub);
        if overflow == Overflow::Refuse {
            assert!(stored > 70, "{stored}");
            assert_eq!(got.len(), stored);
        } else {
            assert!(got.len() > 40 && got.last().unwrap().starts_with("0999"), "{}", got.len());
            assert_eq!(skipped(&world, "c") + got.len() as u64, 1000);
        }
        // What never touches the disk is not measured by it.
        world.publish("e#ephemeral", &["x"]);
        world.maintain(Step::Maintain).unwrap();
        world.maintain(Step::Maintain).unwrap();
        publish(&world, &[body]).unwrap();
    }
}

#[test]
fn a_budget_too_small_to_clean_in_is_refused_by_name() {
    let options = Options { max_disk_bytes: 7 * SIZES.file_bytes, ..Options::default() };
    let clock = Arc::new(ManualClock::new(Wall(1)));
    let error = Broker::open_on(Arc::new(CrashDisk::new()), clock, SIZES, options).err().unwrap();
    assert!(
        error.kind() == ErrorKind::InvalidArgument && error.to_string().contains("max disk bytes"),
        "{error}"
    );
}
