//! Brokers that go and come back, refuse, or can't be reached.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use common::proxy::{Fault, Proxy};
use common::{Lookup, PATIENCE, Running, block_on, bodies, next};
use libmq::{Client, Config, Error, NewMessage, PublishState, SubscribeOptions};

fn connect(url: &str) -> Client {
    let config = Config { max_reconnect_delay: Duration::from_millis(50), ..Config::default() };
    libmq::connect_with(url, config).unwrap()
}

/// An address where nobody listens.
fn nobody() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn a_broker_restarted_under_publisher_and_consumer_loses_nothing_acknowledged() {
    const ROUNDS: usize = 3;
    let mut server = Running::start();
    let client = connect(&server.url());
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    let acknowledged_now = std::sync::Arc::new(AtomicUsize::new(0));
    let (stop, stopped) = mpsc::channel::<()>();
    let (publisher_client, count) = (client.clone(), acknowledged_now.clone());
    let publisher = std::thread::spawn(move || {
        let mut acknowledged = BTreeSet::new();
        for number in 0.. {
            match publisher_client.publish("t", format!("{number}")) {
                Ok(_) => drop(acknowledged.insert(format!("{number}"))),
                Err(Error::Unknown { .. } | Error::Refused { .. }) => {}
                Err(error) => panic!("{error:?}"),
            }
            count.store(acknowledged.len(), Ordering::Release);
            if stopped.try_recv() != Err(mpsc::TryRecvError::Empty) {
                break;
            }
        }
        acknowledged
    });
    let mut received = BTreeSet::new();
    for _ in 0..ROUNDS {
        // More is acknowledged and received before each stop.
        let (published, consumed) = (acknowledged_now.load(Ordering::Acquire), received.len());
        while acknowledged_now.load(Ordering::Acquire) < published + 100 || received.len() < consumed + 100 {
            received.insert(next(&subscription).0);
        }
        server.stop();
        server.resume();
    }
    stop.send(()).unwrap();
    let acknowledged = publisher.join().unwrap();
    while !acknowledged.is_subset(&received) {
        received.insert(next(&subscription).0);
    }
    let failures = subscription.failures();
    assert!(failures.iter().any(|failure| failure.message.is_none()), "{failures:?}");
}

#[test]
fn a_subscription_is_open_once_every_broker_has_answered_or_could_not_be_reached() {
    let server = Running::start();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let subscribe = |addresses: &[String]| {
        let client = connect(&format!("mq://{}", addresses.join(",")));
        client.subscribe_in_background("t", "c", SubscribeOptions::default()).unwrap()
    };
    let there = server.url().trim_start_matches("mq://").to_owned();
    let opened = subscribe(&[there.clone(), nobody()]);
    assert_eq!(opened.opened(PATIENCE), Ok(true));
    block_on(opened.opened_async()).unwrap();
    assert_eq!(opened.failures().len(), 1, "of the one that is not there");

    let waiting = subscribe(&[there, silent.local_addr().unwrap().to_string()]);
    assert_eq!(waiting.opened(Duration::from_millis(50)), Ok(false), "one says nothing");
    drop(silent);
    assert_eq!(waiting.opened(PATIENCE), Ok(true), "its end is an answer");
    assert!(waiting.close(PATIENCE));
    assert_eq!(waiting.opened(Duration::ZERO), Ok(true), "nobody waits for what is closed");
}

#[test]
fn a_subscription_by_lookup_is_open_once_the_servers_were_asked() {
    let lookup = Lookup::start();
    let client = connect(&format!("mq+lookup://{}", lookup.http));
    let subscription = client.subscribe_in_background("t", "c", SubscribeOptions::default()).unwrap();
    assert_eq!(subscription.opened(PATIENCE), Ok(true), "they name no broker");
    let nobody = connect(&format!("mq+lookup://{}", nobody()));
    let subscription = nobody.subscribe_in_background("t", "c", SubscribeOptions::default()).unwrap();
    assert_eq!(subscription.opened(PATIENCE), Ok(true), "the server is not there");
    assert_eq!(subscription.failures().len(), 1);
}

#[test]
fn single_messages_go_out_together_and_each_has_its_outcome() {
    let server = Running::start();
    let client = connect(&server.url());
    // While nobody answers they pile up, with some between that are sent by themselves.
    let mut pending = Vec::new();
    for number in 0..3000 {
        let body = format!("{number:04}");
        let topic = if number % 100 == 99 { "other" } else { "t" };
        let message = match number % 50 {
            10 => NewMessage::new(body).delay(Duration::from_millis(1)),
            _ => NewMessage::new(body),
        };
        pending.push(client.send(topic, message).unwrap());
    }
    assert_eq!(client.flush(PATIENCE), Ok(0));
    assert!(pending.iter().all(|pending| pending.state() == PublishState::Stored));
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    let others = client.subscribe("other", "c", SubscribeOptions::default()).unwrap();
    let of = |topic: &dyn Fn(usize) -> bool| {
        (0..3000).filter(|number| topic(*number)).map(|number| format!("{number:04}")).collect::<Vec<_>>()
    };
    assert_eq!(bodies(&subscription, 2970), of(&|number| number % 100 != 99));
    assert_eq!(bodies(&others, 30), of(&|number| number % 100 == 99));
}

#[test]
fn what_was_never_sent_goes_to_the_broker_that_is_there() {
    let (mut first, second) = (Running::start(), Running::start());
    let client = connect(&format!("mq://{},{}", first.address, second.address));
    client.publish("t", "1").unwrap();
    first.stop();
    // The first after the stop may be on its way when the connection ends.
    let _ = client.publish("t", "2");
    for number in 3..6 {
        let receipt = client.publish("t", number.to_string()).unwrap();
        assert_eq!(*receipt.broker, *second.address);
    }
    assert!(second.broker().find_topic(&"t".parse().unwrap()).unwrap().depth() >= 3);
}

#[test]
fn a_look_at_a_topic_finds_a_broker_that_came_back_and_fails_at_once_while_there_is_none() {
    let mut server = Running::start();
    let client = connect(&server.url());
    client.publish("t", "x").unwrap();
    assert_eq!(client.peek("t", None, 10).unwrap().messages.len(), 1);
    server.stop();
    let error = client.peek("t", None, 10).unwrap_err();
    assert!(matches!(&error, Error::Unreachable { broker, .. } if *broker == server.address), "{error:?}");
    server.resume();
    assert_eq!(client.peek("t", None, 10).unwrap().messages.len(), 1);
}

#[test]
fn messages_of_several_brokers_come_over_one_subscription() {
    let servers = [Running::start(), Running::start(), Running::start()];
    let addresses = servers.each_ref().map(|server| server.address.as_str()).join(",");
    for (server, body) in servers.iter().zip(["a", "b", "c"]) {
        connect(&server.url()).publish("t", body).unwrap();
    }
    // Fewer messages than brokers: each has its turn.
    let client = connect(&format!("mq://{addresses}"));
    let options = SubscribeOptions { max_in_flight: 3, ..SubscribeOptions::default() };
    let subscription = client.subscribe("t", "c", options).unwrap();
    assert_eq!(bodies(&subscription, 3), ["a", "b", "c"]);
    assert!(subscription.close(PATIENCE));
}

#[test]
fn without_a_broker_a_publish_is_out_of_time_and_was_never_sent() {
    let address = nobody();
    let client = connect(&format!("mq://{address}?publish_timeout=100ms"));
    let error = client.publish("t", "x").unwrap_err();
    assert!(matches!(&error, Error::Timeout(why) if why.contains(&address)), "{error:?}");
    assert!(error.retry());
    assert_eq!(client.flush(Duration::ZERO), Ok(0));
    let pending = client.send("t", "y").unwrap();
    assert!(matches!(pending.wait(Duration::ZERO), Err(Error::Timeout(_))));
    assert_eq!((pending.state(), client.flush(Duration::ZERO)), (PublishState::Queued, Ok(1)));
    drop(client);
    assert_eq!(pending.wait(PATIENCE).unwrap_err(), Error::Closed);
}

#[test]
fn a_publish_with_a_time_of_its_own_ends_at_it_and_not_at_its_clients() {
    let mut server = Running::start();
    server.stop();
    let client = connect(&format!("{}?publish_timeout=24h", server.url()));
    let hurried = client.with_publish_timeout(Duration::from_millis(10));
    let error = hurried.publish("t", "never").unwrap_err();
    assert!(matches!(&error, Error::Timeout(why) if why.contains(&server.address)), "{error:?}");
    let error = block_on(client.publish_until_async("t", ["never"], async {})).unwrap_err();
    assert!(matches!(&error, Error::Timeout(why) if why.contains(&server.address)), "{error:?}");
    assert_eq!(client.flush(Duration::ZERO), Ok(0), "what was not sent is withdrawn");

    let patient = hurried.with_publish_timeout(PATIENCE);
    let stored = std::thread::spawn(move || patient.publish("t", "later"));
    while client.flush(Duration::ZERO) == Ok(0) {
        std::thread::yield_now();
    }
    // By the end of this one the other has waited longer than a handle before it allows.
    assert!(matches!(hurried.publish("t", "never"), Err(Error::Timeout(_))));
    server.resume();
    stored.join().unwrap().unwrap();
    assert_eq!(bodies(&client.subscribe("t", "c", SubscribeOptions::default()).unwrap(), 1), ["later"]);
}

#[test]
fn a_publish_that_was_sent_is_unknown_once_its_time_is_over() {
    let server = Running::start();
    let proxy = Proxy::start(&server.address, b"PUBLISH", Fault::Swallows);
    let client = connect(&format!("mq://{}", proxy.address));
    let (late, is_late) = tokio::sync::oneshot::channel::<()>();
    let seen = std::sync::Arc::clone(&proxy.seen);
    std::thread::spawn(move || {
        while seen.load(Ordering::Acquire) == 0 {
            std::thread::yield_now();
        }
        drop(late);
    });
    let until = async { drop(is_late.await) };
    let error = block_on(client.publish_until_async("t", ["x"], until)).unwrap_err();
    assert!(matches!(&error, Error::Unknown { broker, .. } if *broker == proxy.address), "{error:?}");
}

#[test]
fn a_publish_that_finds_no_room_in_its_time_is_not_sent() {
    let client = connect(&format!("mq://{}?max_buffered_bytes=1024", nobody()));
    client.send("t", vec![b'x'; 1024]).unwrap();
    let one_more = client.publish_until_async("t", ["x"], async {});
    assert_eq!(block_on(one_more).unwrap_err(), Error::BufferFull);
    assert_eq!(client.flush(Duration::ZERO), Ok(1));
}

#[test]
fn what_is_buffered_is_bounded() {
    let client = connect(&format!("mq://{}?max_buffered_bytes=1024&publish_timeout=10ms", nobody()));
    let held = client.send("t", vec![b'x'; 1000]).unwrap();
    assert_eq!(client.send("t", vec![b'x'; 25]).unwrap_err(), Error::BufferFull);
    assert_eq!(client.publish("t", vec![b'x'; 25]).unwrap_err(), Error::BufferFull);
    client.send("t", vec![b'x'; 24]).unwrap();
    drop(client);
    assert_eq!(held.wait(PATIENCE).unwrap_err(), Error::Closed);
}

#[test]
fn tls_is_refused_where_it_was_asked_for_and_declined() {
    let server = Running::start();
    let client = connect(&format!("mqs://{}?tls_insecure=true&publish_timeout=500ms", server.address));
    let error = client.publish("t", "x").unwrap_err().to_string();
    assert!(error.contains("TLS"), "{error}");
    assert!(server.broker().find_topic(&"t".parse().unwrap()).is_none());
}

#[test]
fn an_answer_that_comes_too_late_is_a_failure_that_names_message_and_broker() {
    let server = Running::start();
    let client = connect(&server.url());
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    client.publish("t", "x").unwrap();
    let message = subscription.next(PATIENCE).unwrap().unwrap();
    let channel = server.broker().find_topic(&"t".parse().unwrap()).unwrap();
    let channel = channel.find_channel(&"c".parse().unwrap()).unwrap();
    channel.empty().unwrap().wait(server.broker()).unwrap();
    message.finish();
    let failure = loop {
        match subscription.failures().pop() {
            Some(failure) => break failure,
            None => std::thread::yield_now(),
        }
    };
    assert_eq!((failure.message, &*failure.broker), (Some(message.id()), server.address.as_str()));
}

#[test]
fn brokers_that_a_lookup_server_names_are_published_to_and_consumed_from() {
    let lookup = Lookup::start();
    let url = format!("mq+lookup://{}?lookup_poll_interval=10ms&max_reconnect_delay=10ms", lookup.http);
    let client = libmq::connect(&url).unwrap();
    // There is no broker yet: it waits.
    let pending = client.send("t", "first").unwrap();
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    let server = Running::start();
    let _announced = lookup.announce(&server);
    assert_eq!(*pending.wait(PATIENCE).unwrap().broker, *server.address);
    assert_eq!(next(&subscription).0, "first");

    let second = Running::start();
    connect(&second.url()).publish("t", "second").unwrap();
    let _announced = lookup.announce(&second);
    assert_eq!(next(&subscription).0, "second");
    assert!(subscription.close(PATIENCE));
    assert_eq!(subscription.failures(), []);
}

#[test]
fn while_no_lookup_server_answers_the_brokers_of_the_last_answer_are_published_to() {
    let lookup = Lookup::start();
    let url = format!("mq+lookup://{}?max_reconnect_delay=10ms&publish_timeout=10s", lookup.http);
    let client = libmq::connect(&url).unwrap();
    let mut server = Running::start();
    let announced = lookup.announce(&server);
    client.publish("t", "first").unwrap();
    drop((lookup, announced));
    server.stop();
    server.resume();
    assert_eq!(*client.publish("t", "second").unwrap().broker, *server.address);
}

#[test]
fn a_proxy_that_knows_only_nsqs_commands_gets_no_others_for_a_while() {
    let server = Running::start();
    let proxy = Proxy::start(&server.address, b"UPGRADE", Fault::Refuses);
    let client = connect(&format!("mq://{}", proxy.address));
    for _ in 0..3 {
        assert_eq!(client.publish("t", "plain").unwrap().offset, None);
    }
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    assert_eq!(bodies(&subscription, 3), ["plain"; 3]);
    let rich = client.send("t", NewMessage::new("rich").header("k", "v")).unwrap();
    let error = rich.wait(PATIENCE).unwrap_err();
    assert!(matches!(&error, Error::Unsupported { broker, .. } if *broker == proxy.address), "{error:?}");
    assert_eq!(proxy.seen.load(Ordering::Acquire), 1, "it is not tried again");
}

#[test]
fn a_message_with_an_id_whose_answer_was_lost_is_sent_again_and_stored_once() {
    let server = Running::start();
    let proxy = Proxy::start(&server.address, b"PUBLISH", Fault::LosesTheAnswer);
    let client = connect(&format!("mq://{}", proxy.address));
    let messages = ["1", "2"].map(|id| NewMessage::new(id).id(id));
    let receipts = client.publish_many("t", messages).unwrap();
    assert!(receipts.iter().all(|receipt| receipt.duplicate && receipt.offset.is_some()), "{receipts:?}");
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    assert_eq!(bodies(&subscription, 2), ["1", "2"]);
    assert!(subscription.next(Duration::from_millis(20)).unwrap().is_none());
}

#[test]
fn with_several_brokers_an_id_is_sent_again_to_the_one_that_may_have_it() {
    let server = Running::start();
    let proxy = Proxy::start(&server.address, b"PUBLISH", Fault::LosesTheAnswer);
    let client = connect(&format!("mq://{},{}", proxy.address, nobody()));
    let lost = client.send("t", NewMessage::new("1").id("1")).unwrap();
    client.publish("t", NewMessage::new("2").id("2")).unwrap();
    let receipt = lost.wait(PATIENCE).unwrap();
    assert!(receipt.duplicate && *receipt.broker == *proxy.address, "{receipt:?}");
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    assert_eq!(bodies(&subscription, 2), ["1", "2"]);
}

#[test]
fn all_brokers_get_some_and_the_others_get_what_a_lost_one_does_not() {
    let (mut first, second) = (Running::start(), Running::start());
    let client = connect(&format!("mq://{},{}?publish_to=all", first.address, second.address));
    let mut receipts = Vec::new();
    let mut number = 0;
    let mut publish = |receipts: &mut Vec<_>| {
        receipts.push(client.publish("t", number.to_string()).unwrap().broker.to_string());
        number += 1;
    };
    // Both take some: a bound of many coin flips.
    while !(receipts.contains(&first.address) && receipts.contains(&second.address)) {
        publish(&mut receipts);
        assert!(receipts.len() < 10_000, "one broker gets nothing");
    }
    first.stop();
    let sent: Vec<_> = (0..100).map(|_| client.send("t", "more").unwrap()).collect();
    assert_eq!(client.flush(PATIENCE), Ok(0));
    // What was on its way to the lost one is unknown; the rest is with the other.
    assert!(
        sent.iter()
            .all(|pending| { matches!(pending.state(), PublishState::Stored | PublishState::Unknown) })
    );
    publish(&mut receipts);
    assert_eq!(receipts.last(), Some(&second.address));
    client.close(PATIENCE).unwrap();
}

#[test]
fn closing_ends_without_any_of_all_brokers() {
    let client = connect(&format!("mq://{},{}?publish_to=all", nobody(), nobody()));
    let pending = client.send("t", "x").unwrap();
    drop(client);
    assert_eq!(pending.wait(PATIENCE).unwrap_err(), Error::Closed);
}
