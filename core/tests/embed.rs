//! The broker as a program that embeds it meets it first: publish and wait, receive and answer, on threads
//! that block.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use mq_core::clock::Wall;
use std::sync::mpsc;
use std::time::Duration;

use mq_core::testkit::{Fault, Op, SECOND, World, is_done};
use mq_core::{
    Attributes, Broker, Consumer, Durability, Error, ErrorKind, HeadersBuf, Options, Result, Step,
    SubscribeOptions,
};
use tempfile::TempDir;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

fn consumer(broker: &Broker) -> Consumer {
    broker.subscribe(&"t".parse().unwrap(), &"c".parse().unwrap(), SubscribeOptions::default()).unwrap()
}

fn publish(world: &World, body: &str) {
    world.topic("t").publish_one(body.as_bytes()).unwrap().wait(world).unwrap();
}

/// The body of the next message, which is finished.
fn next(consumer: &mut Consumer) -> Option<String> {
    let message = consumer.recv(Duration::ZERO).unwrap()?;
    let body = String::from_utf8(message.body().to_vec()).unwrap();
    message.finish().unwrap();
    Some(body)
}

/// Receives on a thread of its own: the body and the attempts.
fn received(mut consumer: Consumer, timeout: Duration) -> mpsc::Receiver<Result<Option<(String, u16)>>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let received = consumer.recv(timeout).map(|message| {
            message.map(|message| {
                let seen = (String::from_utf8(message.body().to_vec()).unwrap(), message.attempts());
                message.finish().unwrap();
                seen
            })
        });
        // Whoever waits may have given up.
        let _ = sender.send(received);
    });
    receiver
}

fn wait_until_parked(world: &World, threads: usize) {
    while world.clock.parked() < threads {
        std::thread::yield_now();
    }
}

#[test]
fn a_publish_is_waited_for_until_its_level_is_met() {
    for durability in Durability::ALL {
        let world = World::new(durability);
        let topic = world.topic("t");
        let before = world.stats().written;
        let published = topic.publish_one(b"x").unwrap();
        let (ticket, broker) = (published.ticket, world.broker.clone());
        let (sender, receiver) = mpsc::channel();
        let waiter = std::thread::spawn(move || {
            let result = ticket.wait(&broker);
            sender.send(is_done(&broker, ticket)).unwrap();
            result
        });
        if durability == Durability::Sync {
            while world.stats().written == before {
                std::thread::yield_now();
            }
            assert!(receiver.try_recv().is_err(), "no fsync was made yet");
            world.steps(&[Step::Sync]);
        }
        assert!(receiver.recv_timeout(PATIENCE).unwrap(), "{durability:?}");
        waiter.join().unwrap().unwrap();
    }
}

#[test]
fn a_publish_that_is_not_stored_fails_its_waiter() {
    let world = World::new(Durability::Flush);
    let topic = world.topic("t");
    world.disk.set_faults(Box::new(|call| (call.op == Op::Write).then_some(Fault::Eio)));
    let error = topic.publish_one(b"x").unwrap().wait(&world).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    world.disk.clear_faults();
    topic.publish_one(b"y").unwrap().wait(&world).unwrap();
}

#[test]
fn a_waiter_is_released_by_a_broker_that_stops_without_an_fsync() {
    let world = World::new(Durability::Sync);
    let topic = world.topic("t");
    let before = world.stats().written;
    let ticket = topic.publish_one(b"x").unwrap().ticket;
    world.disk.set_faults(Box::new(|call| (call.op == Op::Sync).then_some(Fault::SyncFails)));
    let broker = world.broker.clone();
    let waiter = std::thread::spawn(move || ticket.wait(&broker));
    while world.stats().written == before {
        std::thread::yield_now();
    }
    world.close().unwrap_err();
    assert_eq!(waiter.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn messages_are_received_in_order_with_all_that_was_published() {
    let world = World::new(Durability::Flush);
    let mut consumer = consumer(&world);
    let mut headers = HeadersBuf::new();
    headers.push("colour", b"red").unwrap();
    let topic = world.topic("t");
    let mut batch = topic.batch();
    let attributes = Attributes { not_before: None, dedup_id: Some(b"id"), headers: headers.as_attribute() };
    batch.push(&attributes, b"first").unwrap();
    batch.push(&Attributes::NONE, b"second").unwrap();
    topic.publish(batch, None).unwrap().wait(&world).unwrap();

    consumer.set_credit(2);
    let message = consumer.recv(Duration::ZERO).unwrap().unwrap();
    assert_eq!((message.body(), message.attempts(), message.time()), (&b"first"[..], 1, world.wall()));
    assert_eq!(message.attributes(), attributes);
    assert_eq!(message.headers().collect::<Vec<_>>(), [("colour", &b"red"[..])]);
    message.finish().unwrap();
    let message = consumer.recv(Duration::ZERO).unwrap().unwrap();
    assert_eq!((message.body(), message.attributes()), (&b"second"[..], Attributes::NONE));
    message.finish().unwrap();
    assert!(consumer.recv(Duration::ZERO).unwrap().is_none());
    assert_eq!(consumer.channel().stats().finished, 2);
}

#[test]
fn a_message_that_comes_later_wakes_its_receiver() {
    let world = World::new(Durability::Flush);
    let received = received(consumer(&world), Duration::MAX);
    wait_until_parked(&world, 1);
    publish(&world, "late");
    assert_eq!(received.recv_timeout(PATIENCE).unwrap().unwrap(), Some(("late".to_owned(), 1)));
}

#[test]
fn receiving_ends_after_its_timeout_and_no_sooner() {
    let world = World::new(Durability::Flush);
    let received = received(consumer(&world), Duration::from_secs(5));
    wait_until_parked(&world, 1);
    world.clock.advance(5 * SECOND - 1);
    wait_until_parked(&world, 1);
    assert!(received.try_recv().is_err());
    world.clock.advance(1);
    assert!(received.recv_timeout(PATIENCE).unwrap().unwrap().is_none());
}

#[test]
fn a_deleted_channel_ends_its_receivers() {
    let world = World::new(Durability::Flush);
    let received = received(consumer(&world), Duration::MAX);
    wait_until_parked(&world, 1);
    let _ = world.topic("t").delete_channel(&"c".parse().unwrap()).unwrap();
    assert_eq!(received.recv_timeout(PATIENCE).unwrap().unwrap_err().kind(), ErrorKind::Closed);
}

#[test]
fn a_message_without_an_answer_returns_at_once_and_later_waits() {
    let world = World::new(Durability::Flush);
    let mut consumer = consumer(&world);
    publish(&world, "poison");
    drop(consumer.recv(Duration::ZERO).unwrap().unwrap());
    let again = consumer.recv(Duration::ZERO).unwrap().unwrap();
    assert_eq!(again.attempts(), 2);
    drop(again);
    world.clock.advance(2 * SECOND - 1);
    world.steps(&[Step::Timers]);
    assert!(consumer.recv(Duration::ZERO).unwrap().is_none());
    world.clock.advance(1);
    world.steps(&[Step::Timers]);
    assert_eq!(consumer.recv(Duration::ZERO).unwrap().unwrap().attempts(), 3);
}

#[test]
fn a_requeued_message_comes_after_its_delay() {
    let world = World::new(Durability::Flush);
    let mut consumer = consumer(&world);
    publish(&world, "x");
    consumer.recv(Duration::ZERO).unwrap().unwrap().requeue(Duration::from_secs(3)).unwrap();
    assert_eq!(next(&mut consumer), None);
    world.clock.advance(3 * SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(next(&mut consumer).as_deref(), Some("x"));
}

#[test]
fn a_touched_message_times_out_later() {
    let world = World::new(Durability::Flush);
    let mut consumer = consumer(&world);
    publish(&world, "x");
    let mut message = consumer.recv(Duration::ZERO).unwrap().unwrap();
    world.clock.advance(50 * SECOND);
    message.touch().unwrap();
    world.clock.advance(50 * SECOND);
    world.steps(&[Step::Timers]);
    message.touch().unwrap();
    world.clock.advance(60 * SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(message.finish().unwrap_err().kind(), ErrorKind::NotInFlight);
}

#[test]
fn messages_fetched_ahead_that_timed_out_are_not_handed_out() {
    let world = World::new(Durability::Flush);
    let mut consumer = consumer(&world);
    consumer.set_credit(10);
    ["a", "b"].into_iter().for_each(|body| publish(&world, body));
    let first = consumer.recv(Duration::ZERO).unwrap().unwrap();
    world.clock.advance(60 * SECOND);
    world.steps(&[Step::Timers]);
    assert_eq!(first.finish().unwrap_err().kind(), ErrorKind::NotInFlight);
    for _ in ["a", "b"] {
        let again = consumer.recv(Duration::ZERO).unwrap().unwrap();
        assert_eq!(again.attempts(), 2);
        again.finish().unwrap();
    }
    assert!(consumer.recv(Duration::ZERO).unwrap().is_none());
}

/// A consumer whose thread is busy is not woken for what another could take.
#[test]
fn a_busy_consumer_leaves_what_comes_to_others() {
    let world = World::new(Durability::Flush);
    let mut busy = consumer(&world);
    busy.set_credit(10);
    publish(&world, "a");
    let held = busy.recv(Duration::ZERO).unwrap().unwrap();
    let other = received(consumer(&world), Duration::MAX);
    wait_until_parked(&world, 1);
    publish(&world, "b");
    assert_eq!(other.recv_timeout(PATIENCE).unwrap().unwrap(), Some(("b".to_owned(), 1)));

    // Also once it has answered and does not come back.
    held.finish().unwrap();
    let other = received(consumer(&world), Duration::MAX);
    wait_until_parked(&world, 1);
    publish(&world, "c");
    assert_eq!(other.recv_timeout(PATIENCE).unwrap().unwrap(), Some(("c".to_owned(), 1)));

    // Also after it waited in vain.
    assert_eq!(next(&mut busy), None);
    let other = received(consumer(&world), Duration::MAX);
    wait_until_parked(&world, 1);
    publish(&world, "d");
    assert_eq!(other.recv_timeout(PATIENCE).unwrap().unwrap(), Some(("d".to_owned(), 1)));
}

#[test]
fn a_delay_is_a_time_of_the_brokers_clock() {
    let world = World::new(Durability::Flush);
    assert_eq!(world.wall_after(Duration::ZERO), None);
    assert_eq!(world.wall_after(Duration::from_secs(2)), Some(world.wall().plus(2 * SECOND)));
    assert_eq!(world.wall_after(Duration::MAX), Some(Wall::MAX));
}

#[test]
fn a_folder_is_open_once_and_the_error_names_it_and_its_process() {
    let folder = TempDir::new().unwrap();
    let open = || Broker::open(Options { data_path: folder.path().into(), ..Options::default() });
    let broker = open().unwrap();
    let error: Error = open().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Locked);
    let text = error.to_string();
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    assert!(text.contains(&std::process::id().to_string()), "{text}");
    broker.close().unwrap();
    drop(broker);
    open().unwrap().close().unwrap();
}
