//! Dead letters: messages that were delivered as often as their channel lets them go to another topic, whole,
//! and at no crash to none.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use mq_core::testkit::{
    Crash, Fault, Got, Op, SECOND, World, channel_name, drain, is_done, options, pull, texts, topic_name,
};
use mq_core::{
    Attributes, ChannelSettings, Departure, Durability, ErrorKind, Headers, HeadersBuf, Limits, Offset,
    Options, Start, Step, Ticket, TopicSettings,
};

/// A world whose channel `c` of topic `t` moves to topic `dead` what was delivered `max_attempts` times.
fn world(durability: Durability, max_attempts: u16) -> World {
    let world = World::new(durability);
    limit(&world, max_attempts);
    world.channel("dead", "x");
    world
}

fn limit(world: &World, max_attempts: u16) {
    let ticket = world.channel("t", "c").update(|settings| {
        settings.max_attempts = max_attempts;
        settings.dead_letter_topic = Some(topic_name("dead"));
    });
    complete(world, ticket.unwrap());
}

/// Has the log take a change in, whatever level it wants.
fn complete(world: &World, ticket: Ticket) {
    world.commit();
    world.steps(&[Step::Sync]);
    assert!(is_done(&world.broker, ticket));
}

/// Pulls what there is and requeues it, at once.
fn refuse(world: &World, channel: &str) -> Vec<Got> {
    let mut subscription = world.subscribe("t", channel, 100);
    let got = pull(&mut subscription);
    got.iter().for_each(|message| subscription.acks().requeue(message.id, Duration::ZERO).unwrap());
    subscription.leave(Departure::Orderly);
    world.steps(&[Step::Timers]);
    got
}

fn dead_letters(world: &World) -> Vec<Got> {
    drain(&mut world.subscribe("dead", "x", 100))
}

fn stats(world: &World) -> mq_core::ChannelStats {
    world.channel("t", "c").stats()
}

#[test]
fn a_message_requeued_as_often_as_may_be_goes_to_the_dead_letter_topic_alone() {
    let world = world(Durability::Flush, 2);
    world.publish("t", &["bad", "good"]);
    assert_eq!(refuse(&world, "c").len(), 2);
    assert_eq!(dead_letters(&world), []);
    let mut subscription = world.subscribe("t", "c", 100);
    let got = pull(&mut subscription);
    assert_eq!(got.iter().map(|m| (m.text(), m.attempts)).collect::<Vec<_>>(), [("bad", 2), ("good", 2)]);
    subscription.acks().requeue(got[0].id, Duration::from_secs(60)).unwrap();
    subscription.acks().finish(got[1].id).unwrap();
    world.steps(&[Step::Timers]);
    assert_eq!(texts(&dead_letters(&world)), ["bad"]);
    let stats = stats(&world);
    assert_eq!((stats.dead_lettered, stats.deferred, stats.depth, stats.in_flight), (1, 0, 0, 0));
    assert_eq!(stats.finished, 1);
}

#[test]
fn a_dead_letter_says_where_it_comes_from_and_keeps_its_headers() {
    let world = world(Durability::Flush, 1);
    let mut headers = HeadersBuf::new();
    headers.push("trace", b"7").unwrap();
    headers.push("mq-dead-letter-topic", b"of an earlier life").unwrap();
    let mut batch = world.topic("t").batch();
    batch.push(&Attributes { headers: headers.as_attribute(), ..Attributes::NONE }, b"bad").unwrap();
    let _ = world.topic("t").publish(batch, None).unwrap();
    world.commit();
    let id = refuse(&world, "c")[0].id.to_string();
    let mut found = Vec::new();
    world
        .topic("dead")
        .peek(Some(Offset(0)), 10, usize::MAX, &mut |message| {
            let headers = Headers::new(message.attributes.headers);
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            found.push(headers.map(|(name, value)| (name.to_string(), text(value))).collect::<Vec<_>>());
        })
        .unwrap();
    let expected = [
        ("trace", "7"),
        ("mq-dead-letter-topic", "t"),
        ("mq-dead-letter-channel", "c"),
        ("mq-dead-letter-id", &id),
        ("mq-dead-letter-attempts", "1"),
    ];
    assert_eq!(found, [expected.map(|(name, value)| (name.to_string(), value.to_string()))]);
}

#[test]
fn timed_out_and_abandoned_messages_become_dead_letters_and_those_given_back_unseen_do_not() {
    let world = world(Durability::Flush, 1);
    world.publish("t", &["slow", "lost", "unseen"]);
    let mut slow = world.subscribe("t", "c", 1);
    assert_eq!(texts(&pull(&mut slow)), ["slow"]);
    let mut lost = world.subscribe("t", "c", 1);
    assert_eq!(texts(&pull(&mut lost)), ["lost"]);
    lost.leave(Departure::Abrupt);
    let mut unseen = world.subscribe("t", "c", 1);
    let got = pull(&mut unseen);
    unseen.acks().release(got[0].id).unwrap();
    unseen.leave(Departure::Orderly);
    world.steps(&[Step::Timers]);
    assert_eq!(texts(&dead_letters(&world)), ["lost"]);
    world.clock.advance(60 * SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(texts(&dead_letters(&world)), ["slow"]);
    assert_eq!(stats(&world).depth, 1, "what nobody saw waits");
}

#[test]
fn channels_have_limits_of_their_own() {
    let world = world(Durability::Flush, 1);
    world.channel("t", "other");
    world.publish("t", &["bad"]);
    refuse(&world, "c");
    refuse(&world, "other");
    assert_eq!(dead_letters(&world).len(), 1);
    assert_eq!(refuse(&world, "other")[0].attempts, 2);
}

#[test]
fn dead_letters_wait_while_their_topic_is_full_and_go_when_there_is_room() {
    let world = world(Durability::Flush, 1);
    let full =
        |settings: &mut TopicSettings| settings.limits = Limits { max_messages: 1, ..Limits::default() };
    complete(&world, world.topic("dead").update(full).unwrap());
    world.publish("dead", &["one that waits already"]);
    world.publish("t", &["bad"]);
    refuse(&world, "c");
    let waits = stats(&world);
    assert_eq!((waits.dead_lettered, waits.deferred), (0, 1));
    assert_eq!(refuse(&world, "c"), [], "it is delivered no more");
    assert_eq!(texts(&dead_letters(&world)), ["one that waits already"]);
    world.clock.advance(9 * SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(dead_letters(&world), [], "tried again after ten seconds, not at once");
    world.clock.advance(SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(texts(&dead_letters(&world)), ["bad"]);
    assert_eq!(stats(&world).deferred, 0);
}

#[test]
fn a_disk_that_fails_loses_no_dead_letter() {
    let world = world(Durability::Flush, 1);
    world.publish("t", &["bad"]);
    let mut subscription = world.subscribe("t", "c", 1);
    let got = pull(&mut subscription);
    subscription.acks().requeue(got[0].id, Duration::ZERO).unwrap();
    world.disk.set_faults(Box::new(|call| (call.op == Op::Write).then_some(Fault::Enospc)));
    world.steps(&[Step::Timers]);
    assert_eq!((stats(&world).dead_lettered, stats(&world).deferred), (0, 1));
    world.disk.clear_faults();
    world.steps(&[Step::Maintain]);
    world.clock.advance(10 * SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(texts(&dead_letters(&world)), ["bad"]);
}

#[test]
fn settings_and_waiting_dead_letters_survive_stops_and_kills() {
    let mut world = world(Durability::Flush, 3);
    let delay = Duration::from_secs(7);
    complete(&world, world.channel("t", "c").update(|settings| settings.redelivery_delay = delay).unwrap());
    let expected = ChannelSettings {
        max_attempts: 3,
        dead_letter_topic: Some(topic_name("dead")),
        redelivery_delay: Duration::from_secs(7),
    };
    for at in 0..4 {
        if at == 2 {
            world.clean();
        }
        world = if at % 2 == 0 { world.kill() } else { world.reopen() };
        assert_eq!(world.channel("t", "c").settings(), expected, "restart {at}");
    }
    world.publish("t", &["bad"]);
    refuse(&world, "c");
    refuse(&world, "c");
    complete(&world, world.topic("dead").delete_channel(&channel_name("x")).unwrap());
    let mut subscription = world.subscribe("t", "c", 1);
    assert_eq!(pull(&mut subscription)[0].attempts, 3);
    // It stops with the message in flight for the last time.
    drop(subscription);
    let world = world.reopen();
    assert_eq!(refuse(&world, "c"), []);
    world.steps(&[Step::Timers]);
    assert_eq!(texts(&dead_letters(&world)), ["bad"]);
}

#[test]
fn i1_at_every_crash_a_message_is_in_its_topic_or_among_the_dead_letters() {
    for durability in [Durability::Flush, Durability::Sync] {
        let world = world(durability, 1);
        world.publish("t", &["0", "1", "2", "3", "4", "5"]);
        world.steps(&[Step::Sync]);
        let begin = world.disk.events();
        refuse(&world, "c");
        world.steps(&[Step::State, Step::Sync, Step::Checkpoint, Step::Clean]);
        assert_eq!(stats(&world).dead_lettered, 6);
        for events in begin..=world.disk.events() {
            for crash in [Crash::Kill, Crash::Power { seed: events as u64 }] {
                let disk = world.disk.image(events, crash);
                let after = World::on(disk, world.clock.clone(), world.sizes, world.options.clone());
                let left = drain(&mut after.subscribe("t", "c", 100));
                let dead = dead_letters(&after);
                let all: BTreeSet<_> = left.iter().chain(&dead).map(Got::text).collect();
                assert_eq!(all.len(), 6, "{durability:?}, event {events}, {crash:?}: {left:?}, {dead:?}");
                assert_eq!(dead.len(), texts(&dead).iter().collect::<BTreeSet<_>>().len(), "copied twice");
            }
        }
    }
}

#[test]
fn a_copy_is_stored_once_though_the_finish_was_lost() {
    let world = world(Durability::Flush, 1);
    world.publish("t", &["bad"]);
    refuse(&world, "c");
    // Killed before the finish is in the log; the copy is.
    let world = world.kill();
    assert_eq!(refuse(&world, "c").len(), 1, "its deliveries were not in the log either");
    assert_eq!(texts(&dead_letters(&world)), ["bad"]);
}

#[test]
fn a_limit_that_is_lifted_delivers_what_waited_as_a_dead_letter() {
    let world = world(Durability::Flush, 1);
    world.publish("t", &["bad"]);
    let mut subscription = world.subscribe("t", "c", 1);
    let got = pull(&mut subscription);
    subscription.acks().requeue(got[0].id, Duration::ZERO).unwrap();
    let none = ChannelSettings::default();
    complete(&world, world.channel("t", "c").update(|settings| *settings = none).unwrap());
    assert_eq!(pull(&mut subscription)[0].attempts, 2);
    assert_eq!(dead_letters(&world), []);
}

#[test]
fn dead_letters_of_a_broker_that_is_drained_go_too() {
    let world = world(Durability::Flush, 1);
    world.publish("t", &["bad"]);
    world.broker.drain();
    refuse(&world, "c");
    assert_eq!(texts(&dead_letters(&world)), ["bad"]);
}

#[test]
fn an_emptied_or_dropped_dead_letter_is_not_moved() {
    let world = world(Durability::Flush, 1);
    let full =
        |settings: &mut TopicSettings| settings.limits = Limits { max_messages: 1, ..Limits::default() };
    complete(&world, world.topic("dead").update(full).unwrap());
    world.publish("dead", &["first"]);
    world.publish("t", &["a", "b", "c"]);
    let got = refuse(&world, "c");
    assert_eq!(stats(&world).deferred, 3);
    world.channel("t", "c").drop_message(got[0].id).unwrap();
    world.channel("t", "c").requeue_message(got[1].id).unwrap();
    assert_eq!((stats(&world).deferred, stats(&world).depth), (1, 1));
    complete(&world, world.channel("t", "c").empty().unwrap());
    assert_eq!((stats(&world).deferred, stats(&world).depth), (0, 0));
    dead_letters(&world);
    world.clock.advance(20 * SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(dead_letters(&world), []);
}

#[test]
fn a_channel_has_the_settings_of_its_creation_from_the_first_message_on() {
    let world = World::new(Durability::Flush);
    let settings = |settings: &mut ChannelSettings| {
        settings.max_attempts = 1;
        settings.dead_letter_topic = Some(topic_name("dead"));
    };
    let create = |world: &World| {
        let opened = world.topic("t").create_channel(&channel_name("c"), Start::Now, settings, None).unwrap();
        complete(world, opened.ticket);
        (opened.is_new, opened.channel.settings().max_attempts)
    };
    assert_eq!(create(&world), (true, 1));
    let world = world.kill();
    assert_eq!(create(&world), (false, 1), "kept over a kill");
    let invalid = |settings: &mut ChannelSettings| settings.max_attempts = 1;
    let refused = world.topic("t").create_channel(&channel_name("d"), Start::Now, invalid, None);
    assert_eq!(refused.err().unwrap().kind(), ErrorKind::InvalidArgument);
    assert!(world.topic("t").find_channel(&channel_name("d")).is_none());
}

#[test]
fn of_settings_changed_at_the_same_time_none_is_lost() {
    let world = World::new(Durability::Flush);
    let channel = world.channel("t", "c");
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let _ = channel.update(|s| s.redelivery_delay += Duration::from_millis(1)).unwrap();
                }
            });
        }
    });
    assert_eq!(channel.settings().redelivery_delay, Duration::from_millis(1_000 + 2_000));
}

#[test]
fn settings_that_would_lose_or_circle_are_refused_and_change_nothing() {
    let world = World::new(Durability::Flush);
    let channel = world.channel("t", "c");
    for (max_attempts, dead) in [(1, None), (0, Some("dead")), (1, Some("t")), (1, Some("dead#ephemeral"))] {
        let refused = channel.update(|settings| {
            settings.max_attempts = max_attempts;
            settings.dead_letter_topic = dead.map(topic_name);
        });
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidArgument, "{max_attempts} {dead:?}");
    }
    assert_eq!(channel.settings(), ChannelSettings::default());
    assert!(world.find_topic(&topic_name("dead")).is_none());
}

#[test]
fn a_new_dead_letter_topic_keeps_messages_as_well_as_the_channels_own() {
    let world = World::with(mq_core::testkit::SIZES, Options { durability: Durability::Memory, ..options() });
    complete(&world, world.topic("t").update(|s| s.durability = Durability::Sync).unwrap());
    limit(&world, 5);
    assert_eq!(world.topic("dead").durability(), Durability::Sync);
}

#[test]
fn the_wait_after_a_lost_consumer_is_the_channels() {
    let world = World::new(Durability::Flush);
    let delay = Duration::from_secs(3);
    complete(&world, world.channel("t", "c").update(|s| s.redelivery_delay = delay).unwrap());
    world.publish("t", &["bad"]);
    // Once for each delivery so far, but not after the first.
    for wait in [0, 0, 6, 9] {
        if wait > 0 {
            world.clock.advance(wait * SECOND - 1);
            world.steps(&[Step::Timers]);
            assert_eq!(pull(&mut world.subscribe("t", "c", 1)), [], "before {wait} s");
            world.clock.advance(1);
            world.steps(&[Step::Timers]);
        }
        let mut subscription = world.subscribe("t", "c", 1);
        assert_eq!(pull(&mut subscription).len(), 1, "after {wait} s");
        subscription.leave(Departure::Abrupt);
    }
}

#[test]
fn many_dead_letters_are_moved_in_turns_and_none_is_left() {
    let world = world(Durability::Flush, 1);
    let bodies: Vec<_> = (0..500).map(|n| n.to_string()).collect();
    world.publish("t", &bodies);
    let mut subscription = world.subscribe("t", "c", 1000);
    let got = pull(&mut subscription);
    got.iter().for_each(|message| subscription.acks().requeue(message.id, Duration::ZERO).unwrap());
    world.steps(&[Step::Timers]);
    assert_eq!(texts(&drain(&mut world.subscribe("dead", "x", 1000))), bodies);
    assert_eq!(stats(&world).dead_lettered, 500);
}
