//! Subscriptions, and the answers to their messages.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libmq::{Error, Start, SubscribeOptions};

use crate::common::{PATIENCE, block_on, bodies, next, worlds};
use crate::subscribe;

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
