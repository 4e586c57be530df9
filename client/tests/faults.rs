//! One table of faults over `mq` with its extension, without it, and nsqd.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::any::Any;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::nsqd::Nsqd;
use common::proxy::{Fault, Proxy};
use common::{PATIENCE, Running, block_on, bodies, next};
use libmq::{Client, Config, Error, NewMessage, PublishState, SubscribeOptions, Subscription};

/// A broker of one kind.
struct Kind {
    name: &'static str,
    address: String,
    is_extended: bool,
    _broker: Box<dyn Any>,
}

impl Kind {
    /// The command by which one message is published.
    fn publish(&self) -> &'static [u8] {
        if self.is_extended { b"PUBLISH" } else { b"PUB t" }
    }

    /// A client of the broker at an address, which may be a proxy's.
    fn connect(&self, address: &str, options: &str) -> Client {
        let config = Config {
            max_reconnect_delay: Duration::from_millis(50),
            extension: self.is_extended,
            ..Config::default()
        };
        libmq::connect_with(&format!("mq://{address}{options}"), config).unwrap()
    }
}

/// One of each kind.
fn kinds() -> Vec<Kind> {
    let mut kinds = Vec::new();
    for (name, is_extended) in [("mq", true), ("mq without the extension", false)] {
        let server = Running::start();
        kinds.push(Kind { name, address: server.address.clone(), is_extended, _broker: Box::new(server) });
    }
    if let Some(nsqd) = Nsqd::start() {
        let address = nsqd.address.clone();
        kinds.push(Kind { name: "nsqd", address, is_extended: false, _broker: Box::new(nsqd) });
    }
    kinds
}

fn subscribe(client: &Client) -> Subscription {
    client.subscribe("t", "c", SubscribeOptions::default()).unwrap()
}

#[test]
fn one_refusal_among_a_hundred_publishes_leaves_the_others_stored_once_and_in_order() {
    for kind in kinds() {
        let client = kind.connect(&kind.address, "");
        // nsqd takes 1 MiB too.
        let too_large = vec![b'x'; (1 << 20) + 1];
        let sent = (0..100).map(|number| match number {
            50 => client.send("t", too_large.clone()).unwrap(),
            _ => client.send("t", format!("{number:02}")).unwrap(),
        });
        let sent: Vec<_> = sent.collect();
        assert_eq!(client.flush(PATIENCE), Ok(0), "{}", kind.name);
        for (number, pending) in sent.iter().enumerate() {
            let want = if number == 50 { PublishState::Refused } else { PublishState::Stored };
            let outcome = pending.wait(Duration::ZERO);
            assert_eq!(pending.state(), want, "{}: {number}: {outcome:?}", kind.name);
        }
        let error = sent[50].wait(Duration::ZERO).unwrap_err();
        assert!(matches!(error, Error::Refused { retry: false, .. }), "{}: {error:?}", kind.name);
        let subscription = subscribe(&client);
        for number in (0..100).filter(|number| *number != 50) {
            assert_eq!(next(&subscription), (format!("{number:02}"), 1), "{}", kind.name);
        }
        assert!(subscription.next(Duration::from_millis(20)).unwrap().is_none(), "{}", kind.name);
    }
}

#[test]
fn one_refusal_in_a_command_that_a_hundred_share_leaves_the_others_stored_once_and_in_order() {
    for extension in [true, false] {
        let server = Running::start_small(100);
        let config = Config { extension, ..Config::default() };
        let client = libmq::connect_with(&format!("mq://{}", server.address), config).unwrap();
        // Sent before there is a connection, so that they wait together.
        let body = |number| if number == 50 { "x".repeat(101) } else { format!("{number:02}") };
        let sent: Vec<_> = (0..100).map(|number| client.send("t", body(number)).unwrap()).collect();
        assert_eq!(client.flush(PATIENCE), Ok(0), "extension: {extension}");
        for (number, pending) in sent.iter().enumerate() {
            let want = if number == 50 { PublishState::Refused } else { PublishState::Stored };
            let outcome = pending.wait(Duration::ZERO);
            assert_eq!(pending.state(), want, "extension: {extension}: {number}: {outcome:?}");
        }
        let subscription = subscribe(&client);
        for number in (0..100).filter(|number| *number != 50) {
            assert_eq!(next(&subscription), (format!("{number:02}"), 1), "extension: {extension}");
        }
    }
}

#[test]
fn a_publish_whose_answer_was_lost_is_unknown_unless_it_may_be_stored_twice() {
    for kind in kinds() {
        let lossy = || Proxy::start(&kind.address, kind.publish(), Fault::LosesTheAnswer);
        let proxy = lossy();
        let error = kind.connect(&proxy.address, "").publish("t", "once").unwrap_err();
        assert!(
            matches!(&error, Error::Unknown { broker, .. } if *broker == proxy.address),
            "{}: {error:?}",
            kind.name
        );
        let proxy = lossy();
        let client = kind.connect(&proxy.address, "?retry=at_least_once");
        client.publish("t", "twice").unwrap();
        assert_eq!(bodies(&subscribe(&client), 3), ["once", "twice", "twice"], "{}", kind.name);
    }
}

#[test]
fn ten_thousand_cancelled_waits_take_no_message_with_them() {
    for kind in kinds() {
        let client = kind.connect(&kind.address, "");
        let subscription = subscribe(&client);
        let mut cx = Context::from_waker(Waker::noop());
        for number in 0..100 {
            client.send("t", number.to_string()).unwrap();
            let mut given = None;
            for _ in 0..100 {
                let mut wait = Box::pin(subscription.next_async());
                if let Poll::Ready(message) = wait.as_mut().poll(&mut cx) {
                    // It came meanwhile: the next ones wait for the next message.
                    assert!(given.replace(message.unwrap()).is_none(), "{}: {number}", kind.name);
                }
            }
            let message = given.unwrap_or_else(|| block_on(subscription.next_async()).unwrap());
            let expected = (&number.to_string().into(), 1);
            assert_eq!((message.body(), message.attempts()), expected, "{}", kind.name);
            message.finish();
        }
        assert!(subscription.close(PATIENCE));
        assert_eq!(subscription.failures(), [], "{}", kind.name);
    }
}

#[test]
fn a_broker_that_stops_reading_holds_no_more_than_the_buffer_and_is_left_for_another() {
    const BUFFER: usize = 32 << 20;
    let (stuck, other) = (Running::start(), Running::start());
    let proxy = Proxy::start(&stuck.address, b"stop here", Fault::Stops);
    let url =
        format!("mq://{},{}?heartbeat_interval=1s&max_buffered_bytes={BUFFER}", proxy.address, other.address);
    // Clients begin at any broker: this one at the first.
    let client = loop {
        let client = libmq::connect(&url).unwrap();
        if *client.publish("t", "x").unwrap().broker == *proxy.address {
            break client;
        }
    };
    client.send("t", "stop here").unwrap();
    let mut sent = Vec::new();
    let full = loop {
        match client.send("t", vec![b'x'; 512 << 10]) {
            Ok(pending) => sent.push(pending),
            Err(error) => break error,
        }
    };
    assert_eq!(full, Error::BufferFull);
    assert!(sent.len() <= BUFFER / (512 << 10), "{}", sent.len());
    // Twice the heartbeats' interval, 15 s at least, and it counts as gone.
    assert_eq!(client.flush(PATIENCE), Ok(0));
    assert!(sent.iter().all(|sent| matches!(sent.state(), PublishState::Stored | PublishState::Unknown)));
    assert_eq!(sent.last().unwrap().state(), PublishState::Stored, "what was not sent went to the other");
    assert_eq!(*client.publish("t", "after").unwrap().broker, *other.address);
}

#[test]
fn a_buffered_message_with_headers_is_refused_where_the_new_connection_has_no_extension() {
    let mut server = Running::start();
    let proxy = Proxy::start(&server.address, b"UPGRADE", Fault::RefusesLater);
    let config = Config { max_reconnect_delay: Duration::from_millis(50), ..Config::default() };
    let client = libmq::connect_with(&format!("mq://{}", proxy.address), config).unwrap();
    let rich = |body: &str| NewMessage::new(body.to_owned()).header("k", "v");
    assert!(client.publish("t", rich("before")).unwrap().offset.is_some());
    server.stop();
    let buffered = [client.send("t", rich("rich")).unwrap(), client.send("t", "plain").unwrap()];
    server.resume();
    let error = buffered[0].wait(PATIENCE).unwrap_err();
    // What was on its way when the connection ended has no answer.
    assert!(matches!(&error, Error::Unsupported { broker, .. } if *broker == proxy.address), "{error:?}");
    assert_eq!(buffered[1].wait(PATIENCE).unwrap().offset, None);
    assert!(proxy.seen.load(Ordering::Acquire) == 2);
}
