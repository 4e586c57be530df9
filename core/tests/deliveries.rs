//! One delivery and the next of the same message: tokens, how a subscriber leaves, messages too large for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::Duration;

use mq_core::testkit::{Crash, SECOND, SIZES, World, is_done, nobody, options};
use mq_core::{Attributes, Clock, DeliveryToken, Departure, ErrorKind, Offset, Pulled, Step, Subscription};

fn world() -> World {
    World::with(SIZES, options())
}

fn subscribe(world: &World) -> Subscription {
    world.subscribe("t", "c", 100)
}

fn advance(world: &World, seconds: u64) {
    world.clock.advance(seconds * SECOND);
    world.steps(&[Step::Timers]);
}

/// The messages delivered now: bodies, attempts and tokens.
fn pull(sub: &mut Subscription) -> Vec<(String, u16, DeliveryToken)> {
    let mut got = Vec::new();
    let mut sink = |m: &mq_core::Delivery<'_>| {
        got.push((String::from_utf8(m.body.to_vec()).unwrap(), m.attempts, m.token.unwrap()));
    };
    while sub.pull(1 << 20, &mut sink) == Pulled::More {}
    got
}

fn bodies(got: &[(String, u16, DeliveryToken)]) -> Vec<(&str, u16)> {
    got.iter().map(|(body, attempts, _)| (&body[..], *attempts)).collect()
}

#[test]
fn a_late_token_names_no_later_delivery_to_the_same_subscriber() {
    let world = world();
    world.channel("t", "c");
    world.publish("t", &["a"]);
    let mut sub = subscribe(&world);
    let first = pull(&mut sub)[0].2;
    assert_eq!(sub.acks().delivered(first).unwrap(), first.id);
    advance(&world, 61);
    let second = pull(&mut sub)[0].2;
    assert_eq!(first.id, second.id);
    assert_eq!(sub.acks().delivered(first).unwrap_err().kind(), ErrorKind::NotInFlight);
    // By its id alone it would pass, as nsqd has it.
    let mut acks = sub.acks();
    let id = acks.delivered(second).unwrap();
    acks.finish(id).unwrap();
    assert_eq!(acks.delivered(second).unwrap_err().kind(), ErrorKind::NotInFlight);
}

#[test]
fn a_token_is_of_one_subscriber_and_of_one_start() {
    let world = world();
    world.channel("t", "c");
    world.publish("t", &["a"]);
    let mut sub = subscribe(&world);
    let first = pull(&mut sub)[0].2;
    world.steps(&[Step::State]);
    let killed = world.after(Crash::Kill);
    let mut again = subscribe(&killed);
    let after_kill = pull(&mut again)[0].2;
    assert_eq!(first.id, after_kill.id);
    assert_eq!(again.acks().delivered(first).unwrap_err().kind(), ErrorKind::NotInFlight);
    // Given back without counting: the same attempt, at another subscriber.
    sub.acks().release(first.id).unwrap();
    let mut other = subscribe(&world);
    let token = pull(&mut other)[0].2;
    assert_eq!(other.acks().delivered(first).unwrap_err().kind(), ErrorKind::NotInFlight);
    assert_eq!(other.acks().delivered(token).unwrap(), first.id);
}

#[test]
fn what_an_orderly_departure_leaves_comes_at_once_and_what_an_abrupt_one_leaves_backs_off() {
    let world = world();
    world.channel("t", "c");
    world.publish("t", &["a", "b"]);
    // Released: not looked at, so no attempt.
    let mut sub = subscribe(&world);
    let got = pull(&mut sub);
    got.iter().for_each(|(_, _, token)| sub.acks().release(token.id).unwrap());
    sub.leave(Departure::Orderly);
    for attempts in 1..=3 {
        let mut sub = subscribe(&world);
        assert_eq!(bodies(&pull(&mut sub)), [("a", attempts), ("b", attempts)]);
        sub.leave(Departure::Orderly);
    }
    let mut sub = subscribe(&world);
    assert_eq!(pull(&mut sub).len(), 2);
    drop(sub);
    let mut sub = subscribe(&world);
    assert!(pull(&mut sub).is_empty());
    advance(&world, 3);
    assert!(pull(&mut sub).is_empty());
    advance(&world, 1);
    assert_eq!(bodies(&pull(&mut sub)), [("a", 5), ("b", 5)]);
}

#[test]
fn a_message_too_large_for_a_subscriber_is_put_aside_and_goes_to_one_that_can_take_it() {
    let world = world();
    world.channel("t", "c");
    let large = "x".repeat(1_000);
    world.publish("t", &["a", &large, "b"]);
    let mut small = subscribe(&world);
    small.set_message_bytes_max(999);
    assert_eq!(bodies(&pull(&mut small)), [("a", 1), ("b", 1)]);
    let stats = world.channel("t", "c").stats();
    assert_eq!((stats.oversized, stats.deferred, stats.in_flight), (1, 1, 2));
    advance(&world, 61);
    // What timed out comes again, the large one again not.
    assert_eq!(bodies(&pull(&mut small)), [("a", 2), ("b", 2)]);
    assert_eq!(world.channel("t", "c").stats().oversized, 2);
    small.leave(Departure::Orderly);
    advance(&world, 61);
    let mut large_enough = subscribe(&world);
    large_enough.set_message_bytes_max(1_000);
    let mut got = pull(&mut large_enough);
    got.sort_by_key(|(body, ..)| body.len());
    assert_eq!(bodies(&got), [("a", 3), ("b", 3), (&large[..], 1)]);
    // It survives a kill as every other.
    let killed = world.after(Crash::Kill);
    assert_eq!(pull(&mut subscribe(&killed)).len(), 3);
}

#[test]
fn a_peek_at_a_channel_shows_what_it_holds_and_in_which_state() {
    let world = world();
    world.channel("t", "c");
    world.publish("t", &["a", "b", "c", "d", "e"]);
    let mut sub = subscribe(&world);
    sub.acks().set_credit(3);
    let got = pull(&mut sub);
    assert_eq!(got.len(), 3);
    {
        let mut acks = sub.acks();
        acks.set_credit(0);
        acks.finish(got[0].2.id).unwrap();
        acks.requeue(got[1].2.id, Duration::from_secs(5)).unwrap();
    }
    let peek = |from: Offset, max: usize, bytes: usize| {
        let mut seen = Vec::new();
        let next = world.channel("t", "c").peek(from, max, bytes, &mut |message, held| {
            assert_eq!(message.token, None);
            let body = String::from_utf8(message.body.to_vec()).unwrap();
            seen.push((body, message.attempts, held.in_flight, held.due.is_some()));
        });
        (seen, next.unwrap())
    };
    let all = [("b", 1, false, true), ("c", 1, true, false), ("d", 0, false, false), ("e", 0, false, false)];
    let all: Vec<_> = all.iter().map(|(body, n, held, due)| ((*body).to_owned(), *n, *held, *due)).collect();
    assert_eq!(peek(Offset(0), 100, 1_000).0, all);
    // One after the other, by the offset to go on from, and by bytes.
    for (max, bytes) in [(1, 1_000), (100, 1)] {
        let (mut from, mut seen) = (Offset(0), Vec::new());
        for _ in 0..4 {
            let (one, next) = peek(from, max, bytes);
            assert_eq!(one.len(), 1);
            seen.extend(one);
            from = next;
        }
        assert_eq!((seen, peek(from, max, bytes).0), (all.clone(), Vec::new()));
    }
    assert_eq!(pull(&mut sub).len(), 0);
}

#[test]
fn acknowledgements_that_are_asked_for_are_in_the_log_before_its_next_turn() {
    let world = world();
    let channel = world.channel("t", "c");
    world.publish("t", &["a", "b"]);
    let mut sub = subscribe(&world);
    let got = pull(&mut sub);
    let kill = || world.after(Crash::Kill);
    sub.acks().finish(got[0].2.id).unwrap();
    assert_eq!(pull(&mut subscribe(&kill())).len(), 2, "it is not in the log yet");
    let ticket = channel.log_acknowledged(&nobody()).unwrap();
    assert!(is_done(&world, ticket));
    assert_eq!(bodies(&pull(&mut subscribe(&kill()))), [("b", 1)]);
    // What the log's own turn took before counts too.
    sub.acks().finish(got[1].2.id).unwrap();
    world.steps(&[Step::State]);
    let ticket = channel.log_acknowledged(&nobody()).unwrap();
    assert!(is_done(&world, ticket));
    assert!(pull(&mut subscribe(&kill())).is_empty());
}

/// Ids and states of what the channel holds, as a peek shows them.
fn held(world: &World) -> Vec<(String, bool, bool)> {
    let mut held = Vec::new();
    world
        .channel("t", "c")
        .peek(Offset(0), 100, 1 << 20, &mut |message, state| {
            let body = String::from_utf8(message.body.to_vec()).unwrap();
            held.push((body, state.in_flight, state.due.is_some()));
        })
        .unwrap();
    held
}

/// The id of each message of the topic.
fn ids(world: &World) -> Vec<mq_core::MessageId> {
    let mut ids = Vec::new();
    world.topic("t").peek(Some(Offset(0)), 100, 1 << 20, &mut |message| ids.push(message.id)).unwrap();
    ids
}

#[test]
fn one_message_is_dropped_wherever_it_is_and_stays_dropped_after_a_kill() {
    let world = world();
    let channel = world.channel("t", "c");
    world.publish("t", &["flying", "deferred", "ready", "fresh1", "fresh2", "fresh3"]);
    let ids = ids(&world);
    let mut sub = world.subscribe("t", "c", 3);
    assert_eq!(pull(&mut sub).len(), 3);
    sub.acks().requeue(ids[1], Duration::from_secs(600)).unwrap();
    sub.acks().set_credit(0);
    sub.acks().requeue(ids[2], Duration::ZERO).unwrap();
    let drop =
        |n: usize| channel.drop_message(ids[n]).map(|was| (was.attempts, was.in_flight, was.due.is_some()));
    assert_eq!(drop(0).unwrap(), (1, true, false));
    assert_eq!(
        sub.acks().finish(ids[0]).unwrap_err().kind(),
        ErrorKind::NotInFlight,
        "its consumer is too late"
    );
    assert_eq!(sub.in_flight(), 0);
    assert_eq!(drop(1).unwrap(), (1, false, true));
    assert_eq!(drop(2).unwrap(), (1, false, false));
    assert_eq!(drop(4).unwrap(), (0, false, false));
    assert_eq!(drop(4).unwrap_err().kind(), ErrorKind::NotFound);
    let stranger = mq_core::MessageId::new(ids[0].node() + 1, ids[3].offset());
    assert_eq!(channel.drop_message(stranger).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(channel.depth(), 2);
    assert!(is_done(&world.broker, channel.log_acknowledged(&nobody()).unwrap()));
    let killed = world.after(Crash::Kill);
    let left = [("fresh1".to_owned(), false, false), ("fresh3".to_owned(), false, false)];
    assert_eq!(held(&world), left);
    assert_eq!(held(&killed), left);
    // In their order, before what is published later.
    killed.publish("t", &["later"]);
    let mut sub = subscribe(&killed);
    assert_eq!(bodies(&pull(&mut sub)), [("fresh1", 1), ("fresh3", 1), ("later", 1)]);
}

#[test]
fn one_message_is_requeued_from_whoever_holds_it_and_one_published_for_later_keeps_its_time() {
    let world = world();
    let channel = world.channel("t", "c");
    world.publish("t", &["a", "b", "c"]);
    let ids = ids(&world);
    let mut stuck = world.subscribe("t", "c", 2);
    assert_eq!(pull(&mut stuck).len(), 2);
    stuck.acks().requeue(ids[1], Duration::from_secs(600)).unwrap();
    stuck.acks().set_credit(0);
    assert!(channel.requeue_message(ids[0]).unwrap().in_flight);
    assert!(channel.requeue_message(ids[1]).unwrap().due.is_some());
    assert_eq!(channel.requeue_message(ids[2]).unwrap().attempts, 0);
    let mut other = subscribe(&world);
    let got = pull(&mut other);
    assert_eq!(bodies(&got), [("c", 1), ("a", 2), ("b", 2)]);
    assert_eq!(channel.stats().requeued, 2, "the consumer's, and the one that was taken from it");
    got.iter().for_each(|(_, _, token)| other.acks().finish(token.id).unwrap());
    assert_eq!(channel.requeue_message(ids[0]).unwrap_err().kind(), ErrorKind::NotFound);
    let topic = world.topic("t");
    let mut batch = topic.batch();
    let not_before = Some(world.clock.wall().plus(600 * SECOND));
    batch.push(&Attributes { not_before, ..Attributes::NONE }, b"later").unwrap();
    let _ = topic.publish(batch, None).unwrap();
    world.broker.commit();
    let later = *self::ids(&world).last().unwrap();
    assert!(channel.requeue_message(later).unwrap().due.is_some());
    assert_eq!(pull(&mut other), []);
    advance(&world, 601);
    assert_eq!(bodies(&pull(&mut other)), [("later", 1)]);
}

#[test]
fn a_message_far_behind_others_that_were_never_delivered_is_not_dropped() {
    let world = world();
    let channel = world.channel("t", "c");
    let many: Vec<String> = (0..1002).map(|n| n.to_string()).collect();
    world.publish("t", &many.iter().map(String::as_str).collect::<Vec<_>>());
    let mut last = None;
    world.topic("t").peek(Some(Offset(0)), 2000, 1 << 20, &mut |message| last = Some(message.id)).unwrap();
    let last = last.unwrap();
    let before = mq_core::MessageId::new(last.node(), Offset(last.offset().0 - 1));
    assert_eq!(channel.drop_message(last).unwrap_err().kind(), ErrorKind::LimitReached);
    assert_eq!(channel.drop_message(before).unwrap().attempts, 0);
    assert_eq!(channel.depth(), 1001);
}
