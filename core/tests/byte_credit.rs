//! Subscribers that bound the bytes of bodies in flight.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use mq_core::testkit::{Got, SECOND, SIZES, WakeCount, World, finish, options, pull, texts, try_subscribe};
use mq_core::{Step, Subscription};
use proptest::prelude::*;

fn world() -> World {
    let world = World::with(SIZES, options());
    world.channel("t", "c");
    world
}

fn subscribe(world: &World, bytes: u64) -> Subscription {
    let mut subscription = world.subscribe("t", "c", 100);
    subscription.acks().set_byte_credit(bytes);
    subscription
}

/// Messages time out.
fn time_out(world: &World) {
    world.clock.advance(61 * SECOND);
    world.steps(&[Step::Timers]);
}

#[test]
fn bodies_come_up_to_the_bound_and_a_larger_one_when_nothing_else_is_in_flight() {
    let world = world();
    let large = "x".repeat(50);
    world.publish("t", &["aaaa", "bbbb", "cccc", &large, "d"]);
    let mut sub = subscribe(&world, 10);
    let first = pull(&mut sub);
    assert_eq!(texts(&first), ["aaaa", "bbbb"]);
    finish(&mut sub, &first[..1]);
    let more = pull(&mut sub);
    assert_eq!(texts(&more), ["cccc"]);
    finish(&mut sub, &first[1..]);
    assert_eq!(texts(&pull(&mut sub)), [""; 0], "the large one waits for it");
    finish(&mut sub, &more);
    let alone = pull(&mut sub);
    assert_eq!(texts(&alone), [&large], "and comes alone");
    sub.acks().set_byte_credit(51);
    assert_eq!(texts(&pull(&mut sub)), ["d"], "of a larger bound");
}

#[test]
fn a_bound_is_lowered_and_lifted_while_messages_are_in_flight() {
    let world = world();
    world.publish("t", &["aaaa", "bbbb", "cccc", "dddd"]);
    let mut sub = subscribe(&world, 8);
    let got = pull(&mut sub);
    assert_eq!(texts(&got), ["aaaa", "bbbb"]);
    sub.acks().set_byte_credit(4);
    finish(&mut sub, &got[..1]);
    assert_eq!(texts(&pull(&mut sub)), [""; 0], "the other has all of it");
    sub.acks().set_byte_credit(0);
    assert_eq!(texts(&pull(&mut sub)), ["cccc", "dddd"]);
}

#[test]
fn who_waits_for_bytes_takes_no_message_from_others_and_is_woken_when_its_own_time_out() {
    let world = world();
    let (wake, other_wake) = (Arc::new(WakeCount::default()), Arc::new(WakeCount::default()));
    let topic = world.topic("t");
    let mut sub = try_subscribe(&topic, "c", 100, wake.clone()).unwrap();
    sub.acks().set_byte_credit(4);
    world.publish("t", &["aaaa", "bbbb"]);
    assert_eq!(texts(&pull(&mut sub)), ["aaaa"]);
    let before = wake.count();
    let mut other = try_subscribe(&topic, "c", 1, other_wake.clone()).unwrap();
    assert_eq!(texts(&pull(&mut other)), ["bbbb"], "which the other may take");
    world.publish("t", &["cccc"]);
    assert_eq!((wake.count(), other_wake.count()), (before, 0), "neither can take it");
    assert_eq!(texts(&pull(&mut sub)), [""; 0]);
    time_out(&world);
    assert!(wake.count() > before);
    assert_eq!(texts(&pull(&mut sub)), ["cccc"]);
    world.channel("t", "c").empty().unwrap().wait(&world.broker).unwrap();
    world.publish("t", &["dddd"]);
    assert_eq!(texts(&pull(&mut sub)), ["dddd"], "what was emptied counts no more");
}

proptest! {
    #[test]
    fn bytes_in_flight_never_exceed_their_bound_but_for_one_message(
        bound in 1_u64..40,
        lengths in prop::collection::vec(1_usize..60, 1..40),
        steps in prop::collection::vec((0_u8..4, any::<usize>()), 0..60),
    ) {
        let world = world();
        let bodies: Vec<_> = lengths.iter().map(|length| "x".repeat(*length)).collect();
        world.publish("t", &bodies);
        let mut sub = subscribe(&world, bound);
        let mut held: Vec<Got> = Vec::new();
        for (step, which) in steps {
            match step {
                0 if !held.is_empty() => {
                    let message = held.swap_remove(which % held.len());
                    finish(&mut sub, [&message]);
                }
                1 if !held.is_empty() => {
                    let message = held.swap_remove(which % held.len());
                    sub.acks().release(message.id).unwrap();
                }
                2 => {
                    time_out(&world);
                    held.clear();
                }
                _ => held.extend(pull(&mut sub)),
            }
            let bytes: u64 = held.iter().map(|message| message.body.len() as u64).sum();
            prop_assert!(bytes <= bound || held.len() == 1, "{bytes} of {bound} in {}", held.len());
        }
        let mut left = usize::try_from(world.channel("t", "c").stats().depth).unwrap() + held.len();
        while left > 0 {
            finish(&mut sub, &held);
            left -= held.len();
            held = pull(&mut sub);
            prop_assert!(left == 0 || !held.is_empty(), "{left} are left, and nothing comes");
        }
    }
}
