//! Publishing, looks at topics, and what is refused before it is sent.

use std::time::Duration;

use libmq::{Error, NewMessage, PublishState, SubscribeOptions};

use crate::common::{PATIENCE, block_on, bodies, check, next, worlds};
use crate::{YEAR, subscribe};

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
        if !world.is_plain {
            let rich = NewMessage::new("x").header("colour", "red");
            let offset = client.publish("rich", rich).unwrap().offset;
            let peeked = client.peek("rich", None, 1).unwrap();
            let shown = (peeked.messages[0].headers(), peeked.messages[0].offset());
            assert_eq!(shown, (&[("colour".to_owned(), "red".into())][..], offset), "{}", world.name);
        }
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
