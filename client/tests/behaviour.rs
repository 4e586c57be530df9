//! One table of behaviours over every place that a client can be at.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::{PATIENCE, World, block_on, bodies, check, next, worlds};
use libmq::{Error, NewMessage, PublishState, Start, SubscribeOptions, Subscription};

/// The longest delay.
const YEAR: Duration = Duration::from_secs(366 * 24 * 3600);

fn subscribe(world: &World) -> Subscription {
    world.client.subscribe("t", "c", SubscribeOptions::default()).unwrap()
}

#[test]
fn what_is_published_in_every_way_is_consumed_in_order() {
    for world in worlds() {
        let client = &world.client;
        check(&world, &client.publish("t", "1").unwrap());
        let receipts = client.publish_many("t", ["2", "3"]).unwrap();
        assert_eq!(receipts.len(), 2);
        receipts.iter().for_each(|receipt| check(&world, receipt));
        let pending = client.send("t", "4").unwrap();
        check(&world, &pending.wait(PATIENCE).unwrap());
        assert_eq!(pending.state(), PublishState::Stored);
        check(&world, &block_on(client.publish_async("t", "5")).unwrap());
        assert_eq!(client.publish_many("t", [""; 0]).unwrap(), []);
        for number in 6..=200 {
            client.send("t", number.to_string()).unwrap();
        }
        assert_eq!(client.flush(PATIENCE), Ok(0));

        let subscription = subscribe(&world);
        for number in 1..=100 {
            assert_eq!(next(&subscription), (number.to_string(), 1), "{}", world.name);
        }
        let mut count = 100;
        while count < 200 {
            for message in subscription.next_batch(7, PATIENCE).unwrap() {
                count += 1;
                assert_eq!(message.body(), count.to_string().as_bytes());
                message.finish();
            }
        }
        assert!(subscription.next(Duration::ZERO).unwrap().is_none());
        assert!(subscription.close(PATIENCE));
        assert_eq!(subscription.failures(), []);
    }
}

#[test]
fn a_message_published_right_after_subscribe_comes_to_a_new_channel() {
    for world in worlds() {
        // The first channel gets what waited before it; the connection that publishes is there.
        drop(subscribe(&world));
        world.client.publish("t", "before").unwrap();
        for number in 0..10 {
            let channel = format!("new{number}");
            let subscription = world.client.subscribe("t", &channel, SubscribeOptions::default()).unwrap();
            world.client.publish("t", channel.as_str()).unwrap();
            assert_eq!(next(&subscription), (channel, 1), "{}", world.name);
        }
    }
}

#[test]
fn a_requeued_message_comes_again_and_a_second_answer_does_nothing() {
    for world in worlds() {
        let subscription = subscribe(&world);
        world.client.publish("t", "x").unwrap();
        let message = subscription.next(PATIENCE).unwrap().unwrap();
        message.touch();
        message.requeue(Duration::ZERO);
        message.finish();
        message.touch();
        let again = subscription.next(PATIENCE).unwrap().unwrap();
        assert_eq!((again.id(), again.attempts()), (message.id(), 2), "{}", world.name);
        again.finish();
        drop(again);
        world.client.publish("t", "y").unwrap();
        drop(subscription.next(PATIENCE).unwrap().unwrap());
        assert_eq!(next(&subscription), ("y".to_owned(), 2), "{}", world.name);
        assert!(subscription.close(PATIENCE));
        assert_eq!(subscription.failures(), []);
    }
}

#[test]
fn a_released_message_comes_again_at_once_and_counts_no_attempt() {
    for world in worlds() {
        let subscription = subscribe(&world);
        world.client.publish_many("t", ["one", "two"]).unwrap();
        let message = subscription.next(PATIENCE).unwrap().unwrap();
        message.release();
        assert!(message.is_answered());
        message.finish();
        let mut batch = subscription.next_batch(2, PATIENCE).unwrap();
        while batch.len() < 2 {
            // What came before the other was given back.
            batch.release(..);
            batch = subscription.next_batch(2, PATIENCE).unwrap();
        }
        batch.release(0..1);
        assert!(batch.is_answered(0) && !batch.is_answered(1));
        let first = subscription.next(PATIENCE).unwrap().unwrap();
        assert_eq!(first.id(), batch[0].id());
        if !world.is_plain {
            assert_eq!(first.attempts(), 1, "{}", world.name);
        }
        first.finish();
        batch.finish(..);
        assert!(subscription.close(PATIENCE));
        assert_eq!(subscription.failures(), [], "{}", world.name);
    }
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
fn a_requeue_with_a_delay_beyond_all_bounds_is_cut_and_no_failure() {
    for world in worlds() {
        let subscription = subscribe(&world);
        world.client.publish_many("t", ["1", "2", "3"]).unwrap();
        let first = subscription.next(PATIENCE).unwrap().unwrap();
        first.requeue(Duration::MAX);
        subscription.next(PATIENCE).unwrap().unwrap().requeue(YEAR);
        let batch = subscription.next_batch(1, PATIENCE).unwrap();
        batch.requeue(.., Duration::MAX);
        // Behind the answers, so that they have been taken when it comes.
        world.client.publish("t", "4").unwrap();
        assert_eq!(next(&subscription), ("4".to_owned(), 1), "{}", world.name);
        if !world.is_plain {
            assert_eq!(subscription.flush(PATIENCE), Ok(true), "{}", world.name);
        }
        assert_eq!(subscription.failures(), [], "{}", world.name);
        assert!(subscription.next(Duration::ZERO).unwrap().is_none(), "{}", world.name);
    }
}

#[test]
fn a_requeue_in_this_process_comes_again_after_a_year_at_most() {
    let client = libmq::connect("mq:memory?test_clock=true").unwrap();
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    client.publish("t", NewMessage::new("x").delay(YEAR)).unwrap();
    client.advance(YEAR).unwrap();
    subscription.next(PATIENCE).unwrap().unwrap().requeue(Duration::MAX);
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
fn a_batch_is_answered_in_ranges_and_the_rest_comes_again() {
    for world in worlds() {
        let subscription = subscribe(&world);
        let empty = subscription.next_batch(0, PATIENCE).unwrap();
        assert!(empty.is_empty() && subscription.next_batch(5, Duration::ZERO).unwrap().is_empty());
        world.client.publish_many("t", (0..10).map(|n| n.to_string())).unwrap();
        let mut batches = Vec::new();
        while batches.iter().map(libmq::Batch::len).sum::<usize>() < 10 {
            batches.push(subscription.next_batch(10, PATIENCE).unwrap());
        }
        // Of all of them: 0 finished, 1 requeued, 2 answered twice, 3 dropped alone, and so on.
        let mut number = 0;
        for batch in batches {
            for (at, message) in batch.iter().enumerate() {
                assert_eq!((message.body(), message.attempts()), (&number.to_string().into(), 1));
                match number % 4 {
                    0 => batch.finish(at..=at),
                    1 => batch.requeue(at..at + 1, Duration::ZERO),
                    2 => {
                        batch.finish(at..=at);
                        batch.requeue(at..=at, Duration::ZERO);
                        batch.touch(..);
                    }
                    _ => {}
                }
                number += 1;
            }
            let len = batch.len();
            batch.finish(len..);
            let mut messages = batch.into_iter();
            assert_eq!(messages.len(), len);
            let first = messages.next().unwrap();
            assert_eq!(first.is_answered(), first.body() != "3" && first.body() != "7");
        }
        assert_eq!(bodies(&subscription, 5), ["1", "3", "5", "7", "9"], "{}", world.name);
        assert!(subscription.next(Duration::from_millis(1)).unwrap().is_none(), "{}", world.name);
        assert!(subscription.close(PATIENCE));
        assert_eq!(subscription.failures(), []);
    }
}

#[test]
fn a_closed_client_has_stored_everything_and_takes_no_more() {
    for world in worlds() {
        let client = &world.client;
        let subscription = subscribe(&world);
        client.publish("t", "held").unwrap();
        let held = subscription.next(PATIENCE).unwrap().unwrap();
        let pending: Vec<_> = (0..100).map(|n| client.send("t", n.to_string()).unwrap()).collect();
        let many = client.send_many("t", ["x", "y"]).unwrap();
        assert_eq!(client.close(PATIENCE), Ok(()), "{}", world.name);
        assert!(pending.iter().all(|pending| pending.state() == PublishState::Stored));
        assert_eq!(many.wait_all(Duration::ZERO).unwrap().len(), 2);
        assert_eq!(client.clone().close(PATIENCE), Ok(()));
        assert_eq!(client.publish("t", "late").unwrap_err(), Error::Closed);
        assert_eq!(client.send("t", "late").unwrap_err(), Error::Closed);
        assert_eq!(block_on(client.publish_async("t", "late")).unwrap_err(), Error::Closed);
        assert_eq!(client.subscribe("t", "c", SubscribeOptions::default()).unwrap_err(), Error::Closed);
        assert_eq!(subscription.next(PATIENCE).unwrap_err(), Error::Closed);
        held.finish();
    }
}

#[test]
fn many_at_once_are_published_by_future_too() {
    for world in worlds() {
        let receipts = block_on(world.client.publish_many_async("t", ["a", "b"])).unwrap();
        assert_eq!(receipts.len(), 2);
        assert_eq!(block_on(world.client.publish_many_async("t", [""; 0])).unwrap(), []);
        assert!(matches!(world.client.send_many("t", [""; 0]), Err(Error::Invalid(_))));
        assert_eq!(bodies(&subscribe(&world), 2), ["a", "b"], "{}", world.name);
    }
}

#[test]
fn a_publish_with_a_time_of_its_own_is_stored_within_it() {
    for world in worlds() {
        let hurried = world.client.with_publish_timeout(Duration::from_nanos(1));
        let patient = hurried.with_publish_timeout(PATIENCE);
        assert_eq!(patient.publish_timeout(), Ok(PATIENCE));
        check(&world, &patient.publish("t", "a").unwrap());
        let receipts =
            block_on(hurried.publish_until_async("t", ["b", "c"], std::future::pending())).unwrap();
        receipts.iter().for_each(|receipt| check(&world, receipt));
        assert_eq!(block_on(hurried.publish_until_async("t", [""; 0], std::future::pending())).unwrap(), []);
        assert_eq!(bodies(&subscribe(&world), 3), ["a", "b", "c"], "{}", world.name);
    }
}

#[test]
fn a_new_channel_begins_where_it_is_told_to() {
    for world in worlds() {
        let client = &world.client;
        client.publish_many("t", ["a", "b", "c"]).unwrap();
        let begin = |channel, start| {
            client.subscribe("t", channel, SubscribeOptions { start, ..SubscribeOptions::default() })
        };
        let keeper = begin("keeper", Start::Waiting).unwrap();
        assert_eq!(bodies(&keeper, 3), ["a", "b", "c"], "{}", world.name);
        if world.is_plain {
            assert_eq!(keeper.is_new(), None);
            let error = begin("d", Start::Earliest).unwrap().next(PATIENCE).unwrap_err();
            assert!(
                matches!(&error, Error::Unsupported { broker, .. } if broker.contains("127.0.0.1")),
                "{error}"
            );
            continue;
        }
        assert_eq!(keeper.is_new(), Some(true));
        // Nothing of before is kept, and another keeps what this one will be done with.
        assert!(keeper.flush(PATIENCE).unwrap());
        let holder = begin("holder", Start::Waiting).unwrap();
        while holder.is_new().is_none() {
            std::thread::yield_now();
        }
        let receipts = client.publish_many("t", ["a", "b", "c"]).unwrap();
        let offset = receipts[1].offset.unwrap();
        for (channel, start, want) in [
            ("earliest", Start::Earliest, &["a", "b", "c"][..]),
            ("offset", Start::Offset(offset), &["b", "c"]),
            ("time", Start::Time(0), &["a", "b", "c"]),
            ("latest", Start::Latest, &[]),
            ("waiting", Start::Waiting, &[]),
        ] {
            let subscription = begin(channel, start).unwrap();
            assert_eq!(bodies(&subscription, want.len()), want, "{}: {start:?}", world.name);
            // Over the network it is subscribed some time later.
            while subscription.is_new().is_none() {
                std::thread::yield_now();
            }
            let more = subscription.next(Duration::from_millis(5)).unwrap();
            assert!(more.is_none(), "{}: {start:?}", world.name);
            assert_eq!(subscription.is_new(), Some(true), "{}: {start:?}", world.name);
        }
        let again = begin("earliest", Start::Earliest).unwrap();
        client.publish("t", "d").unwrap();
        assert_eq!(next(&again).0, "d", "{}", world.name);
        assert_eq!(again.is_new(), Some(false));
    }
}

#[test]
fn a_look_at_a_topic_shows_its_messages_and_moves_none() {
    for world in worlds() {
        let client = &world.client;
        if world.name == "nsqd" {
            assert!(matches!(client.peek("t", None, 1), Err(Error::Unsupported { .. })));
            continue;
        }
        let none = client.peek("t", None, 10).unwrap();
        assert_eq!((none.messages.len(), none.channels), (0, 0), "{}", world.name);
        client.publish_many("t", ["a", "b", "c"]).unwrap();
        let mut ids = Vec::new();
        for _ in 0..2 {
            let (mut from, mut seen) = (None, Vec::new());
            for count in [2, 1, 0] {
                let peeked = client.peek("t", from, 2).unwrap();
                assert_eq!((peeked.messages.len(), peeked.channels), (count, 0), "{}", world.name);
                seen.extend(peeked.messages.iter().map(|message| (message.id(), message.body().clone())));
                from = peeked.next;
            }
            assert_eq!(seen.iter().map(|(_, body)| &body[..]).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
            ids = seen.into_iter().map(|(id, _)| id).collect();
        }
        let subscription = subscribe(&world);
        for id in ids {
            let message = subscription.next(PATIENCE).unwrap().unwrap();
            assert_eq!((message.id(), message.attempts()), (id, 1), "{}", world.name);
            message.finish();
        }
        assert_eq!(client.peek("t", None, 1).unwrap().channels, 1, "{}", world.name);
        assert!(matches!(client.peek("no spaces", None, 1), Err(Error::Invalid(_))));
    }
}

#[test]
fn topics_and_channels_are_changed_in_this_process_only() {
    for world in worlds() {
        let client = &world.client;
        if world.is_remote {
            assert!(matches!(client.create_topic("t"), Err(Error::Unsupported { .. })));
            assert!(matches!(client.stats(), Err(Error::Unsupported { .. })));
            continue;
        }
        let depths = || {
            let stats = client.stats().unwrap();
            stats
                .topics
                .iter()
                .map(|t| (t.depth, t.channels.iter().map(|c| c.depth).sum()))
                .collect::<Vec<_>>()
        };
        client.create_topic("t").unwrap();
        client.publish("t", "x").unwrap();
        assert_eq!(depths(), [(1, 0)]);
        client.empty_topic("t").unwrap();
        client.create_channel("t", "c").unwrap();
        client.pause_channel("t", "c").unwrap();
        client.publish("t", "y").unwrap();
        let subscription = subscribe(&world);
        assert!(subscription.next(Duration::ZERO).unwrap().is_none());
        assert_eq!(depths(), [(0, 1)]);
        client.unpause_channel("t", "c").unwrap();
        assert_eq!(next(&subscription).0, "y");
        client.pause_topic("t").unwrap();
        client.publish("t", "z").unwrap();
        assert_eq!(depths(), [(1, 0)]);
        client.unpause_topic("t").unwrap();
        assert_eq!(next(&subscription).0, "z");
        client.publish("t", "gone").unwrap();
        client.empty_channel("t", "c").unwrap();
        client.delete_channel("t", "c").unwrap();
        assert_eq!(subscription.next(PATIENCE).unwrap_err(), Error::Closed);
        let missing = client.pause_channel("t", "c").unwrap_err();
        assert!(missing.to_string().ends_with("refused: topic t has no channel c"), "{missing}");
        client.delete_topic("t").unwrap();
        assert_eq!(depths(), []);
        assert!(client.empty_topic("t").unwrap_err().to_string().contains("there is no topic t"));
    }
}

#[test]
fn closing_gives_back_what_has_no_answer() {
    for world in worlds() {
        // nsqd keeps what was taken until it times out.
        let msg_timeout = if world.name == "nsqd" { 1 } else { 60 };
        let options =
            SubscribeOptions { msg_timeout: Duration::from_secs(msg_timeout), ..SubscribeOptions::default() };
        let subscription = world.client.subscribe("t", "c", options).unwrap();
        world.client.publish_many("t", ["a", "b", "c"]).unwrap();
        let held = subscription.next(PATIENCE).unwrap().unwrap();
        assert!(subscription.close(PATIENCE));
        assert_eq!(subscription.next(PATIENCE).unwrap_err(), Error::Closed);
        assert_eq!(subscription.iter().count(), 0);
        let second = subscribe(&world);
        assert_eq!(bodies(&second, 3), ["a", "b", "c"], "{}", world.name);
        // It outlives its subscription, and its answer does nothing.
        held.finish();
        assert_eq!(held.body(), "a");
    }
}

#[test]
fn messages_that_wait_in_the_client_for_three_timeouts_come_once() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let worlds = worlds();
    let subscribed = worlds.iter().map(|world| {
        let options = SubscribeOptions { msg_timeout: TIMEOUT, ..SubscribeOptions::default() };
        let subscription = world.client.subscribe("t", "c", options).unwrap();
        world.client.publish_many("t", (0..5).map(|n| n.to_string())).unwrap();
        assert_eq!(next(&subscription), ("0".to_owned(), 1), "{}", world.name);
        subscription
    });
    let subscribed: Vec<_> = subscribed.collect();
    // A program that does something else.
    std::thread::sleep(3 * TIMEOUT);
    for (world, subscription) in worlds.iter().zip(&subscribed) {
        for number in 1..5 {
            assert_eq!(next(subscription), (number.to_string(), 1), "{}", world.name);
        }
        assert!(subscription.next(Duration::ZERO).unwrap().is_none(), "{}", world.name);
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
        held.iter().for_each(libmq::Message::finish);
    }
}

#[test]
fn a_paused_subscription_gets_nothing_until_it_goes_on() {
    for world in worlds() {
        let subscription = subscribe(&world);
        world.client.publish("t", "before").unwrap();
        assert_eq!(next(&subscription).0, "before");
        subscription.set_max_in_flight(0).unwrap();
        // Over the network the change is on its way: what still comes waits here.
        for number in 0..500 {
            world.client.publish("t", number.to_string()).unwrap();
            assert!(subscription.next(Duration::ZERO).unwrap().is_none(), "{}: {number}", world.name);
        }
        assert!(subscription.next(Duration::from_millis(20)).unwrap().is_none(), "{}", world.name);
        subscription.set_max_in_flight(10).unwrap();
        assert_eq!(bodies(&subscription, 500).len(), 500);
        assert!(matches!(subscription.set_max_in_flight(2_000_000), Err(Error::Invalid(_))));
    }
}

#[test]
fn a_dropped_wait_takes_no_message_with_it() {
    for world in worlds() {
        let subscription = subscribe(&world);
        let mut cx = Context::from_waker(Waker::noop());
        for number in 0..100 {
            drop(pin!(subscription.next_async()).poll(&mut cx));
            world.client.publish("t", number.to_string()).unwrap();
            let mut wait = Box::pin(subscription.next_async());
            let polled = wait.as_mut().poll(&mut cx);
            drop(wait);
            let message = match polled {
                Poll::Ready(message) => message.unwrap(),
                Poll::Pending => block_on(subscription.next_async()).unwrap(),
            };
            assert_eq!(
                (message.body(), message.attempts()),
                (&number.to_string().into(), 1),
                "{}",
                world.name
            );
            message.finish();
        }
    }
}

#[test]
fn what_a_broker_cannot_say_is_refused_and_named() {
    for world in worlds() {
        let client = &world.client;
        let delayed = NewMessage::new("later").delay(Duration::from_millis(1));
        check(&world, &client.publish("t", delayed.clone()).unwrap());
        assert_eq!(next(&subscribe(&world)).0, "later");
        let rich = NewMessage::new("rich").id("1").header("colour", "red");
        if world.is_plain {
            for messages in [vec![NewMessage::new("x").id("1")], vec![rich], vec![delayed; 2]] {
                let error = client.publish_many("t", messages).unwrap_err();
                assert!(
                    matches!(&error, Error::Unsupported { broker, .. } if broker.contains("127.0.0.1")),
                    "{error}"
                );
            }
            continue;
        }
        let first = client.publish("t", rich.clone()).unwrap();
        let second = client.send("t", rich).unwrap();
        assert_eq!(second.wait(PATIENCE).unwrap().offset, first.offset);
        assert_eq!(second.state(), PublishState::Duplicate);
        let subscription = subscribe(&world);
        let message = subscription.next(PATIENCE).unwrap().unwrap();
        assert_eq!(message.headers(), [("colour".to_owned(), "red".into())]);
        assert_eq!(message.offset(), first.offset);
        message.finish();
        let delayed = client.publish_many("t", vec![delayed; 2]).unwrap();
        assert_eq!(bodies(&subscription, 2), ["later"; 2]);
        assert_eq!(delayed[1].offset, delayed[0].offset.map(|offset| offset + 1));
        let same = vec![NewMessage::new("x").id("2"); 2];
        let receipts = client.publish_many("t", same).unwrap();
        assert_eq!(receipts[0].offset, receipts[1].offset);
        assert_eq!(receipts.iter().map(|r| r.duplicate).collect::<Vec<_>>(), [false, true]);
    }
}

#[test]
fn what_is_not_valid_is_refused_before_anything_is_sent() {
    for world in worlds() {
        let client = &world.client;
        for error in [
            client.publish("no spaces", "x").unwrap_err(),
            client.publish("t", "").unwrap_err(),
            client.send("t", "").unwrap_err(),
            client.publish_many("t", ["x", ""]).unwrap_err(),
            client.publish("t", NewMessage::new("x").delay(YEAR + Duration::from_millis(1))).unwrap_err(),
            client.publish("t", NewMessage::new("x").delay(Duration::MAX)).unwrap_err(),
            client.publish("t", NewMessage::new("x").id("")).unwrap_err(),
            client.publish("t", NewMessage::new("x").id("i".repeat(256))).unwrap_err(),
            client.send("t", NewMessage::new("x").header("", "v")).unwrap_err(),
            client.send("t", NewMessage::new("x").header("k", vec![0; 1 << 16])).unwrap_err(),
            client.subscribe("t", "no spaces", SubscribeOptions::default()).unwrap_err(),
            client
                .subscribe("t", "c", SubscribeOptions { max_in_flight: 0, ..SubscribeOptions::default() })
                .unwrap_err(),
        ] {
            assert!(matches!(error, Error::Invalid(_)) && !error.retry(), "{}: {error:?}", world.name);
        }
        assert_eq!(client.flush(Duration::ZERO), Ok(0));
    }
}

#[test]
fn what_is_finished_and_flushed_is_in_the_log_of_its_broker() {
    for world in worlds() {
        let subscription = subscribe(&world);
        world.client.publish_many("t", (0..500).map(|n| n.to_string())).unwrap();
        bodies(&subscription, 500);
        if world.is_plain {
            let error = subscription.flush(PATIENCE).unwrap_err();
            assert!(
                matches!(&error, Error::Unsupported { broker, .. } if broker.contains("127.0.0.1")),
                "{error}"
            );
            continue;
        }
        assert_eq!(subscription.flush(PATIENCE), Ok(true), "{}", world.name);
        assert_eq!(subscription.failures(), [], "{}", world.name);
    }
}

#[test]
fn an_answer_to_an_earlier_delivery_is_a_failure_and_finishes_nothing() {
    for world in worlds().into_iter().filter(|world| !world.is_plain) {
        let options = SubscribeOptions { msg_timeout: Duration::from_secs(1), ..SubscribeOptions::default() };
        let subscription = world.client.subscribe("t", "c", options).unwrap();
        world.client.publish("t", "x").unwrap();
        let first = subscription.next(PATIENCE).unwrap().unwrap();
        // It times out, and comes again.
        let second = subscription.next(PATIENCE).unwrap().unwrap();
        assert_eq!((first.attempts(), second.attempts()), (1, 2), "{}", world.name);
        first.finish();
        assert_eq!(subscription.flush(PATIENCE), Ok(true));
        let failures = subscription.failures();
        assert_eq!(
            failures.iter().map(|f| f.message).collect::<Vec<_>>(),
            [Some(first.id())],
            "{failures:?}"
        );
        drop(second);
        assert_eq!(next(&subscription).1, 3, "{}", world.name);
    }
}
