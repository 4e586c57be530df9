//! Bounds: of sizes, of what is in flight, of delays and of memory.

use std::time::Duration;

use libmq::{Error, Message, NewMessage, SubscribeOptions, Subscription};

use crate::common::{PATIENCE, Running, bodies, next, worlds};
use crate::{YEAR, subscribe};

/// The next message, without an answer.
fn take(subscription: &Subscription) -> Message {
    subscription.next(PATIENCE).unwrap().expect("a message comes")
}

#[test]
fn messages_larger_than_a_subscription_takes_are_left_to_others() {
    for world in worlds() {
        // It is put aside for that time.
        let msg_timeout = Duration::from_secs(1);
        let options = SubscribeOptions { max_message_bytes: 10, msg_timeout, ..SubscribeOptions::default() };
        let small = world.client.subscribe("t", "c", options).unwrap();
        if world.is_plain {
            let error = small.next(PATIENCE).unwrap_err();
            assert!(matches!(error, Error::Unsupported { .. }), "{}: {error:?}", world.name);
            continue;
        }
        world.client.publish_many("t", ["more than ten", "small"]).unwrap();
        assert_eq!(next(&small), ("small".to_owned(), 1), "{}", world.name);
        assert!(small.close(PATIENCE));
        assert_eq!(next(&subscribe(&world)), ("more than ten".to_owned(), 1), "{}", world.name);
    }
}

#[test]
fn bytes_in_flight_are_bounded_but_for_a_message_that_is_alone() {
    for world in worlds() {
        let options = SubscribeOptions { max_in_flight_bytes: 10, ..SubscribeOptions::default() };
        let bounded = world.client.subscribe("t", "c", options).unwrap();
        if world.is_plain {
            let error = bounded.next(PATIENCE).unwrap_err();
            assert!(
                matches!(&error, Error::Unsupported { broker, .. } if broker.contains("127.0.0.1")),
                "{}: {error:?}",
                world.name
            );
            continue;
        }
        world.client.publish_many("t", ["1234", "5678", "larger than ten", "9"]).unwrap();
        let (one, two) = (take(&bounded), take(&bounded));
        assert_eq!([one.body(), two.body()], ["1234", "5678"], "{}", world.name);
        one.finish();
        // The broker has taken the answer then, and would have sent what it lets pass.
        assert_eq!(bounded.flush(PATIENCE), Ok(true));
        assert!(bounded.next(Duration::ZERO).unwrap().is_none(), "{}", world.name);
        two.finish();
        let alone = take(&bounded);
        assert_eq!(alone.body(), "larger than ten", "{}", world.name);
        alone.release();
        assert_eq!(next(&bounded), ("larger than ten".to_owned(), 1), "{}", world.name);
        assert_eq!(next(&bounded), ("9".to_owned(), 1), "{}", world.name);
        assert_eq!(bounded.failures(), [], "{}", world.name);
    }
}

#[test]
fn a_message_that_timed_out_takes_no_bytes() {
    let client = libmq::connect("mq:memory?test_clock=true").unwrap();
    let options = SubscribeOptions { max_in_flight_bytes: 4, ..SubscribeOptions::default() };
    let subscription = client.subscribe("t", "c", options).unwrap();
    client.publish_many("t", ["1234", "5678"]).unwrap();
    let forgotten = take(&subscription);
    assert!(subscription.next(Duration::ZERO).unwrap().is_none());
    client.advance(options.msg_timeout).unwrap();
    assert_eq!(next(&subscription), ("5678".to_owned(), 1));
    assert_eq!(next(&subscription), ("1234".to_owned(), 2));
    drop(forgotten);
}

#[test]
fn a_requeue_with_a_delay_beyond_all_bounds_is_a_failure_and_the_message_stays_in_flight() {
    for world in worlds() {
        let subscription = subscribe(&world);
        world.client.publish_many("t", ["1", "2", "3"]).unwrap();
        let (first, second) = (take(&subscription), take(&subscription));
        first.requeue(Duration::MAX);
        second.requeue(YEAR + Duration::from_millis(1));
        let batch = subscription.next_batch(1, PATIENCE).unwrap();
        batch.requeue(.., Duration::MAX);
        // Behind the answers, so that they have been taken when it comes.
        world.client.publish("t", "4").unwrap();
        assert_eq!(next(&subscription), ("4".to_owned(), 1), "{}", world.name);
        if world.is_plain {
            // NSQ's REQ is cut.
            assert_eq!(subscription.failures(), [], "{}", world.name);
            assert!(subscription.next(Duration::ZERO).unwrap().is_none(), "{}", world.name);
            continue;
        }
        assert_eq!(subscription.flush(PATIENCE), Ok(true), "{}", world.name);
        let failures = subscription.failures();
        let messages: Vec<_> = failures.iter().map(|failure| failure.message).collect();
        assert_eq!(messages, [first.id(), second.id(), batch[0].id()].map(Some));
        for failure in &failures {
            let is_refused = matches!(&failure.error, Error::Refused { retry: false, .. });
            let is_named = failure.to_string().contains(" ms are allowed");
            assert!(is_refused && is_named, "{}: {failure}", world.name);
        }
        assert!(subscription.next(Duration::ZERO).unwrap().is_none(), "{}", world.name);
        assert!(subscription.close(PATIENCE));
        let again = subscribe(&world);
        for body in ["1", "2", "3"] {
            assert_eq!(next(&again), (body.to_owned(), 2), "{}", world.name);
        }
    }
}

#[test]
fn a_requeue_in_this_process_comes_again_after_a_year_at_most() {
    let client = libmq::connect("mq:memory?test_clock=true").unwrap();
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    client.publish("t", NewMessage::new("x").delay(YEAR)).unwrap();
    client.advance(YEAR).unwrap();
    subscription.next(PATIENCE).unwrap().unwrap().requeue(YEAR);
    client.advance(YEAR - Duration::from_secs(1)).unwrap();
    assert!(subscription.next(Duration::ZERO).unwrap().is_none());
    client.advance(Duration::from_secs(1)).unwrap();
    assert_eq!(next(&subscription), ("x".to_owned(), 2));
}

#[test]
fn a_broker_in_memory_refuses_what_is_beyond_its_bound_until_there_is_room_again() {
    let client = libmq::connect("mq:memory?memory_limit=16777216").unwrap();
    client.create_channel("t", "c").unwrap();
    let body = vec![0; 1 << 20];
    let mut published = 0;
    let error = loop {
        match client.publish("t", &body[..]) {
            Ok(_) => published += 1,
            Err(error) => break error,
        }
        assert!(published < 512, "it keeps 512 MiB and more");
    };
    assert!(matches!(&error, Error::Refused { .. }) && error.retry(), "{error:?}");
    assert!(published >= 256, "{published} MiB, then {error}");
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    for _ in 0..published {
        subscription.next(PATIENCE).unwrap().unwrap().finish();
    }
    // The files of what is finished are removed a little later.
    let began = std::time::Instant::now();
    while let Err(error) = client.publish("t", &body[..]) {
        assert!(error.retry() && began.elapsed() < PATIENCE, "{error:?}");
        std::thread::park_timeout(Duration::from_millis(10));
    }
}

#[test]
fn no_more_messages_than_max_in_flight_are_here_at_once() {
    for world in worlds() {
        let options = SubscribeOptions { max_in_flight: 3, ..SubscribeOptions::default() };
        let subscription = world.client.subscribe("t", "c", options).unwrap();
        world.client.publish_many("t", (0..10).map(|n| n.to_string())).unwrap();
        let mut held = Vec::new();
        while held.len() < 3 {
            held.extend(subscription.next(PATIENCE).unwrap());
        }
        // What is answered makes room for as many.
        for _ in 3..10 {
            assert!(subscription.next(Duration::from_millis(1)).unwrap().is_none(), "{}", world.name);
            held.pop().unwrap().finish();
            held.push(subscription.next(PATIENCE).unwrap().unwrap());
        }
        held.iter().for_each(Message::finish);
    }
}

#[test]
fn brokers_share_the_bytes_in_flight() {
    let servers = [Running::start(), Running::start()];
    let addresses = servers.each_ref().map(|server| server.address.as_str()).join(",");
    for (server, body) in servers.iter().zip(["a", "b"]) {
        let large = format!("{body} is larger than its share");
        let client = libmq::connect(&server.url()).unwrap();
        client.publish_many("t", [body, body, body, &large]).unwrap();
    }
    let client = libmq::connect(&format!("mq://{addresses}")).unwrap();
    let options = SubscribeOptions { max_in_flight_bytes: 4, ..SubscribeOptions::default() };
    let subscription = client.subscribe("t", "c", options).unwrap();
    let mut unanswered = Vec::new();
    while unanswered.len() < 4 {
        unanswered.push(subscription.next(PATIENCE).unwrap().expect("four bytes come"));
    }
    assert!(unanswered.iter().all(|message| message.body().len() == 1), "{unanswered:?}");
    assert_eq!(subscription.flush(PATIENCE), Ok(true));
    assert!(subscription.next(Duration::ZERO).unwrap().is_none(), "together they have all of it");
    unanswered.iter().for_each(|message| message.finish());
    let mut last = bodies(&subscription, 4);
    last.retain(|body| body.len() > 1);
    assert_eq!(last, ["a is larger than its share", "b is larger than its share"]);
    assert!(subscription.close(PATIENCE));
    assert_eq!(subscription.failures(), []);
}

#[test]
fn what_nobody_answers_comes_again_within_the_bound_of_its_broker() {
    let server = Running::start_hasty(Duration::from_millis(1));
    let client = libmq::connect(&server.url()).unwrap();
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    client.publish("t", "x").unwrap();
    for attempts in 1..=3 {
        // From the second on it would wait for a second for each attempt.
        let message = subscription.next(PATIENCE).unwrap().expect("it comes again");
        assert_eq!(message.attempts(), attempts);
    }
    let batch = subscription.next_batch(1, PATIENCE).unwrap();
    assert_eq!(batch[0].attempts(), 4);
    drop(batch);
    assert_eq!(next(&subscription), ("x".to_owned(), 5));
    assert_eq!(subscription.failures(), []);
}
