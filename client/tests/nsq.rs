//! Go-nsq's surface over brokers that are there, slow, paused or gone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::{Lookup, PATIENCE, Running};
use libmq::nsq::{Config, Consumer, Handler, HandlerError, Message, Producer};
use libmq::{Error, PublishState};

/// Settings with delays that a test can wait for.
fn config() -> Config {
    Config {
        max_in_flight: 10,
        lookupd_poll_interval: Duration::from_millis(50),
        default_requeue_delay: Duration::ZERO,
        backoff_multiplier: Duration::from_millis(5),
        ..Config::default()
    }
}

fn producer(server: &Running) -> Producer {
    Producer::new(&server.address, &config()).unwrap()
}

fn body(message: &Message) -> String {
    String::from_utf8(message.body().to_vec()).unwrap()
}

/// A handler that reports each body with its attempts, and finishes it.
fn reporter() -> (impl Handler, Receiver<(String, u16)>) {
    let (sender, receiver) = channel();
    let sender = Mutex::new(sender);
    let handler =
        move |message: &Message| Ok(sender.lock().unwrap().send((body(message), message.attempts()))?);
    (handler, receiver)
}

fn next<T>(receiver: &Receiver<T>) -> T {
    receiver.recv_timeout(PATIENCE).expect("a message comes")
}

/// Waits for a condition.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// Messages of the one channel that wait, and that are in flight.
fn left(server: &Running) -> (u64, u64) {
    let topic = server.broker().find_topic(&"t".parse().unwrap()).unwrap();
    let stats = topic.find_channel(&"c".parse().unwrap()).unwrap().stats();
    (stats.depth, stats.in_flight)
}

fn in_flight(server: &Running) -> u64 {
    left(server).1
}

#[test]
fn each_way_to_publish_reaches_the_handlers_of_a_consumer() {
    let server = Running::start();
    let producer = producer(&server);
    producer.ping().unwrap();
    producer.publish("t", "1").unwrap();
    producer.multi_publish("t", ["2", "3"]).unwrap();
    producer.deferred_publish("t", Duration::from_millis(1), "4").unwrap();
    let pending = [
        producer.publish_async("t", "5").unwrap(),
        producer.multi_publish_async("t", ["6", "7"]).unwrap(),
        producer.deferred_publish_async("t", Duration::from_millis(1), "8").unwrap(),
    ];
    for pending in pending {
        pending.wait(PATIENCE).unwrap();
        assert_eq!(pending.state(), PublishState::Stored);
    }
    let (handler, messages) = reporter();
    let consumer = Consumer::new("t", "c", &config()).unwrap();
    consumer.add_concurrent_handlers(handler, 3).unwrap();
    consumer.connect_to_nsqd(&server.address).unwrap();
    let got: BTreeSet<_> = (0..8).map(|_| next(&messages)).collect();
    assert_eq!(got, (1..=8).map(|number| (number.to_string(), 1)).collect());
    until("all are finished", || consumer.stats().messages_finished == 8);
    let stats = consumer.stats();
    assert_eq!((stats.messages_received, stats.messages_requeued, stats.connections), (8, 0, 1));
    consumer.stop();
    assert!(consumer.wait(PATIENCE).unwrap());
    assert_eq!((in_flight(&server), consumer.stats().connections), (0, 0));
    assert_eq!(consumer.connect_to_nsqd("127.0.0.1:1").unwrap_err(), Error::Closed);
    producer.stop().unwrap();
    assert_eq!(producer.publish("t", "9").unwrap_err(), Error::Closed);
    assert_eq!(producer.ping().unwrap_err(), Error::Closed);
}

#[test]
fn what_takes_three_timeouts_is_delivered_once_and_what_waits_behind_it_too() {
    let server = Running::start();
    producer(&server).multi_publish("t", ["slow", "a", "b", "c"]).unwrap();
    let (handler, messages) = reporter();
    let consumer = Consumer::new(
        "t",
        "c",
        &Config {
            msg_timeout: Duration::from_secs(1),
            heartbeat_interval: Duration::from_secs(1),
            ..config()
        },
    )
    .unwrap();
    // One thread: the others wait in the client all the while.
    let slow = move |message: &Message| {
        if body(message) == "slow" {
            std::thread::sleep(Duration::from_secs(3));
        }
        handler.handle_message(message)
    };
    consumer.add_handler(slow).unwrap();
    consumer.connect_to_nsqd(&server.address).unwrap();
    for want in ["slow", "a", "b", "c"] {
        assert_eq!(next(&messages), (want.to_owned(), 1));
    }
    consumer.stop();
    assert!(consumer.wait(PATIENCE).unwrap());
    assert!(messages.try_recv().is_err(), "nothing comes twice");
    assert_eq!(consumer.stats().messages_received, 4);
    assert_eq!(left(&server), (0, 0));
    assert!(consumer.failures().is_empty(), "{:?}", consumer.failures());
}

#[test]
fn a_failed_message_comes_again_after_a_pause_and_then_all_flows() {
    let server = Running::start();
    producer(&server).publish("t", "bad").unwrap();
    let (sender, attempts) = channel();
    let sender = Mutex::new(sender);
    let consumer = Consumer::new("t", "c", &config()).unwrap();
    let handler = move |message: &Message| {
        sender.lock().unwrap().send((body(message), message.attempts()))?;
        match (message.body().as_ref(), message.attempts()) {
            (b"bad", 1) => Err("no".into()),
            (b"bad", 2) => panic!("a handler that panics has failed"),
            _ => Ok(()),
        }
    };
    consumer.add_concurrent_handlers(handler, 2).unwrap();
    consumer.connect_to_nsqd(&server.address).unwrap();
    for attempt in 1..=3 {
        assert_eq!(next(&attempts), ("bad".to_owned(), attempt));
    }
    // Two failures, one success: two more end the backoff, each after a pause.
    let more = (0..200).map(|number| format!("{number:03}"));
    producer(&server).multi_publish("t", more.clone()).unwrap();
    let got: BTreeSet<_> = (0..200).map(|_| next(&attempts).0).collect();
    assert_eq!(got, more.collect());
    until("all are answered", || consumer.stats().messages_finished == 201);
    assert_eq!(consumer.stats().messages_requeued, 2);
}

/// A handler that fails, and hears of what is given up.
struct Failing(Mutex<Sender<(&'static str, u16)>>);

impl Handler for Failing {
    fn handle_message(&self, message: &Message) -> Result<(), HandlerError> {
        self.0.lock().unwrap().send(("handled", message.attempts()))?;
        Err("no".into())
    }

    fn log_failed_message(&self, message: &Message) {
        let _ = self.0.lock().unwrap().send(("given up", message.attempts()));
    }
}

#[test]
fn a_message_that_failed_as_often_as_allowed_is_given_up_and_finished() {
    let server = Running::start();
    producer(&server).publish("t", "x").unwrap();
    let (sender, events) = channel();
    let settings = Config { max_attempts: 2, max_backoff_duration: Duration::ZERO, ..config() };
    let consumer = Consumer::new("t", "c", &settings).unwrap();
    consumer.add_handler(Failing(Mutex::new(sender))).unwrap();
    consumer.connect_to_nsqd(&server.address).unwrap();
    for want in [("handled", 1), ("handled", 2), ("given up", 3)] {
        assert_eq!(next(&events), want);
    }
    until("it is finished", || consumer.stats().messages_finished == 1);
    until("the broker knows it", || left(&server) == (0, 0));
}

#[test]
fn a_message_kept_beyond_its_handler_is_answered_once_by_the_program() {
    let server = Running::start();
    producer(&server).publish("t", "later").unwrap();
    let (sender, kept) = channel();
    let sender = Mutex::new(sender);
    let consumer = Consumer::new("t", "c", &config()).unwrap();
    let handler = move |message: &Message| {
        message.disable_auto_response();
        sender.lock().unwrap().send(message.clone())?;
        Err("this error counts no more".into())
    };
    consumer.add_handler(handler).unwrap();
    consumer.connect_to_nsqd(&server.address).unwrap();
    let message = next(&kept);
    assert!(message.is_auto_response_disabled() && !message.has_responded());
    assert_eq!(message.nsqd_address(), server.address);
    message.touch();
    message.requeue_without_backoff(Duration::ZERO);
    assert!(message.has_responded());
    message.finish();
    let message = next(&kept);
    assert_eq!((body(&message), message.attempts()), ("later".to_owned(), 2));
    // Dropped without an answer it comes again too.
    drop(message);
    let message = next(&kept);
    assert_eq!(message.attempts(), 3);
    message.finish();
    message.requeue(None);
    let stats = consumer.stats();
    assert_eq!((stats.messages_finished, stats.messages_requeued), (1, 1));
    consumer.stop();
    assert!(consumer.wait(PATIENCE).unwrap());
    assert!(kept.try_recv().is_err());
}

#[test]
fn max_in_flight_bounds_all_brokers_together_and_zero_pauses() {
    let servers = [Running::start(), Running::start()];
    for server in &servers {
        producer(server).multi_publish("t", (0..20).map(|number| number.to_string())).unwrap();
    }
    let (sender, kept) = channel();
    let sender = Mutex::new(sender);
    let consumer = Consumer::new("t", "c", &Config { max_in_flight: 0, ..config() }).unwrap();
    let handler = move |message: &Message| {
        message.disable_auto_response();
        Ok(sender.lock().unwrap().send(message.clone())?)
    };
    consumer.add_handler(handler).unwrap();
    consumer.connect_to_nsqds(servers.each_ref().map(|server| &server.address)).unwrap();
    until("both are connected", || consumer.stats().connections == 2);
    consumer.change_max_in_flight(4).unwrap();
    let held: Vec<_> = (0..4).map(|_| next(&kept)).collect();
    assert!(consumer.is_starved());
    assert_eq!(servers.iter().map(in_flight).sum::<u64>(), 4);
    consumer.change_max_in_flight(0).unwrap();
    held.iter().for_each(Message::finish);
    until("the brokers know it", || servers.iter().map(in_flight).sum::<u64>() == 0);
    assert!(kept.try_recv().is_err() && !consumer.is_starved());
    consumer.change_max_in_flight(40).unwrap();
    let rest: Vec<_> = (0..36).map(|_| next(&kept)).collect();
    rest.iter().for_each(Message::finish);
    assert!(kept.try_recv().is_err());
}

#[test]
fn a_broker_that_is_disconnected_from_finishes_what_it_sent_and_sends_no_more() {
    let servers = [Running::start(), Running::start()];
    let (sender, kept) = channel();
    let sender = Mutex::new(sender);
    let consumer = Consumer::new("t", "c", &config()).unwrap();
    let handler = move |message: &Message| {
        message.disable_auto_response();
        Ok(sender.lock().unwrap().send(message.clone())?)
    };
    consumer.add_handler(handler).unwrap();
    let [first, second] = servers.each_ref().map(|server| server.address.as_str());
    consumer.connect_to_nsqds([first, second]).unwrap();
    let again = consumer.connect_to_nsqd(first).unwrap_err().to_string();
    assert!(again.contains(first), "{again}");
    producer(&servers[0]).publish("t", "from the first").unwrap();
    let message = next(&kept);
    consumer.disconnect_from_nsqd(first).unwrap();
    assert!(consumer.disconnect_from_nsqd(first).is_err());
    producer(&servers[1]).publish("t", "from the second").unwrap();
    let other = next(&kept);
    assert_eq!(body(&other), "from the second");
    other.finish();
    message.finish();
    until("its connection ends", || consumer.stats().connections == 1);
    until("the answer arrived", || in_flight(&servers[0]) == 0);
    assert_eq!(left(&servers[0]), (0, 0), "what it sent is finished");
    producer(&servers[0]).publish("t", "too late").unwrap();
    assert_eq!(left(&servers[0]), (1, 0));
    consumer.connect_to_nsqd(first).unwrap();
    let message = next(&kept);
    assert_eq!((body(&message), message.attempts()), ("too late".to_owned(), 1));
    message.finish();
}

#[test]
fn lookup_servers_name_brokers_that_a_filter_lets_through() {
    let (lookup, servers) = (Lookup::start(), [Running::start(), Running::start()]);
    let _announced = servers.each_ref().map(|server| lookup.announce(server));
    for (server, body) in servers.iter().zip(["wanted", "filtered out"]) {
        producer(server).publish("t", body).unwrap();
    }
    let (handler, messages) = reporter();
    let consumer = Consumer::new("t", "c", &config()).unwrap();
    consumer.add_handler(handler).unwrap();
    let found = Arc::new(Mutex::new(BTreeSet::new()));
    let (seen, wanted) = (Arc::clone(&found), servers[0].address.clone());
    let filter = move |mut addresses: Vec<String>| {
        seen.lock().unwrap().extend(addresses.iter().cloned());
        addresses.retain(|address| *address == wanted);
        addresses
    };
    consumer.set_discovery_filter(filter).unwrap();
    consumer.connect_to_nsqlookupd(&format!("http://{}/lookup", lookup.http)).unwrap();
    assert_eq!(next(&messages).0, "wanted");
    until("both were named", || found.lock().unwrap().len() == 2);
    assert_eq!(consumer.stats().connections, 1);
    // Without the filter the other comes too, from the next question on, which is at once.
    consumer.set_discovery_filter(|addresses| addresses).unwrap();
    assert_eq!(next(&messages).0, "filtered out");
    consumer.disconnect_from_nsqlookupd(&lookup.http).unwrap();
    assert!(consumer.disconnect_from_nsqlookupd(&lookup.http).is_err());
    assert_eq!(consumer.stats().connections, 2);
}

#[test]
fn a_consumer_in_backoff_is_back_at_full_after_its_broker_was_away() {
    let mut server = Running::start();
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let consumer = Consumer::new("t", "c", &config()).unwrap();
    let handler = move |message: &Message| {
        sender.lock().unwrap().send(body(message))?;
        if message.body().as_ref() == b"bad" && message.attempts() < 3 { Err("no".into()) } else { Ok(()) }
    };
    consumer.add_concurrent_handlers(handler, 4).unwrap();
    consumer.connect_to_nsqd(&server.address).unwrap();
    producer(&server).publish("t", "bad").unwrap();
    next(&events);
    server.stop();
    server.resume();
    let more: BTreeSet<_> = (0..100).map(|number| number.to_string()).collect();
    producer(&server).multi_publish("t", more.clone()).unwrap();
    let mut got = BTreeSet::new();
    while !more.is_subset(&got) {
        got.insert(next(&events));
    }
    assert!(consumer.failures().iter().any(|failure| failure.message.is_none()));
}

#[test]
fn a_stop_waits_for_a_handler_until_its_deadline_and_gives_back_what_nobody_has() {
    let server = Running::start();
    producer(&server).multi_publish("t", ["1", "2"]).unwrap();
    let (sender, begun) = channel();
    let (release, held) = channel::<()>();
    let (sender, held) = (Mutex::new(sender), Mutex::new(held));
    let settings = Config { stop_timeout: Duration::from_millis(50), ..config() };
    let consumer = Consumer::new("t", "c", &settings).unwrap();
    let handler = move |message: &Message| {
        sender.lock().unwrap().send(body(message))?;
        let _ = held.lock().unwrap().recv_timeout(PATIENCE);
        Ok(())
    };
    consumer.add_handler(handler).unwrap();
    consumer.connect_to_nsqd(&server.address).unwrap();
    assert_eq!(next(&begun), "1");
    until("both are here", || consumer.stats().messages_received == 2);
    consumer.stop();
    assert!(consumer.wait(PATIENCE).unwrap(), "the handler is not waited for");
    until("both are given back", || left(&server) == (2, 0));
    release.send(()).unwrap();
    assert!(begun.recv_timeout(PATIENCE).is_err(), "the thread ends after its message");
}

#[test]
fn what_go_nsq_panics_on_is_an_error_that_says_what_is_missing() {
    let consumer = Consumer::new("t", "c", &config()).unwrap();
    let error = consumer.connect_to_nsqd("127.0.0.1:1").unwrap_err().to_string();
    assert!(error.contains("handler"), "{error}");
    consumer.add_handler(|_: &Message| Ok(())).unwrap();
    consumer.connect_to_nsqd("127.0.0.1:1").unwrap();
    let error = consumer.add_handler(|_: &Message| Ok(())).unwrap_err().to_string();
    assert!(error.contains("before"), "{error}");
    until("the failure is seen", || !consumer.failures().is_empty());
    for (topic, channel) in [("", "c"), ("t", "a b")] {
        assert!(matches!(Consumer::new(topic, channel, &config()), Err(Error::Invalid(_))));
    }
    let producer = Producer::new("127.0.0.1:1", &config()).unwrap();
    assert!(matches!(producer.ping(), Err(Error::Unreachable { .. })));
    assert_eq!(producer.to_string(), "127.0.0.1:1");
}

#[test]
fn settings_reach_the_broker() {
    let server = Running::start_tls();
    let ca = server.folder.path().join("cert.pem");
    let mut settings = config();
    settings.set("tls_v1", "true").unwrap();
    settings.set("tls-root-ca-file", ca.to_str().unwrap()).unwrap();
    settings.set("tls_min_version", "tls1.3").unwrap();
    settings.set("snappy", "true").unwrap();
    let producer = Producer::new(&server.address, &settings).unwrap();
    producer.publish("t", "x").unwrap();
    let (handler, messages) = reporter();
    let consumer = Consumer::new("t", "c", &settings).unwrap();
    consumer.add_handler(handler).unwrap();
    consumer.connect_to_nsqd(&server.address).unwrap();
    assert_eq!(next(&messages).0, "x");
    // Nothing goes over a connection without TLS.
    let plain = Producer::new(&server.address, &config()).unwrap();
    let error = plain.publish("t", "in the open").unwrap_err();
    assert!(matches!(error, Error::Refused { .. }), "{error:?}");
}
