//! Events of connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

#[allow(dead_code, reason = "each test file uses its part")]
mod common;

use std::future::Future;
use std::time::Duration;

use common::{PATIENCE, Running, bodies};
use libmq::{Client, Config, ConnectionEvent, Error, SubscribeOptions, Subscription};

fn connect(url: &str) -> Client {
    let config = Config { max_reconnect_delay: Duration::from_millis(50), ..Config::default() };
    libmq::connect_with(url, config).unwrap()
}

/// Waits for a future of the crate.
fn block_on<F: Future>(future: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, future).await.expect("it takes too long") })
}

/// The next events as words, until there are so many.
fn seen<F>(count: usize, mut more: impl FnMut() -> F) -> Vec<String>
where
    F: Future<Output = libmq::Result<Vec<ConnectionEvent>>>,
{
    let mut words = Vec::new();
    while words.len() < count {
        words.extend(block_on(more()).unwrap().into_iter().map(|event| match event {
            ConnectionEvent::Connected { broker, msg_timeout, max_msg_timeout } => {
                assert!(msg_timeout > Duration::ZERO && max_msg_timeout >= msg_timeout);
                format!("connected {broker}")
            }
            ConnectionEvent::Closed { broker } => format!("closed {broker}"),
            ConnectionEvent::Failed(failure) => format!("failed {}", failure.broker),
        }));
    }
    words
}

fn of_subscription(subscription: &Subscription, count: usize) -> Vec<String> {
    seen(count, || subscription.events_async())
}

#[test]
fn a_broker_that_goes_and_comes_back_is_told_in_order() {
    let mut server = Running::start();
    let client = connect(&server.url());
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    client.stay_connected().unwrap();
    let at =
        |words: &[&str]| words.iter().map(|word| format!("{word} {}", server.address)).collect::<Vec<_>>();
    let (first, rest) = (at(&["connected"]), at(&["failed", "closed"]));
    let again = at(&["connected"]);
    assert_eq!(of_subscription(&subscription, 1), first);
    // Connected without anything to publish.
    assert_eq!(seen(1, || client.events_async()), first);
    server.stop();
    assert_eq!(of_subscription(&subscription, 2)[..2], rest);
    assert_eq!(seen(2, || client.events_async())[..2], rest);
    server.resume();
    // Attempts in between may have failed.
    assert_eq!(of_subscription(&subscription, 1).last(), again.last());
    let events = loop {
        let events = seen(1, || client.events_async());
        if events.last() == again.last() {
            break events;
        }
    };
    assert!(events.len() <= 2, "{events:?}");
}

#[test]
fn a_broker_that_is_added_is_consumed_from_beside_the_others() {
    let servers = [Running::start(), Running::start()];
    let client = connect(&servers[0].url());
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    subscription.add_broker(&servers[1].address).unwrap();
    subscription.add_broker(&servers[1].address).unwrap();
    for (server, body) in servers.iter().zip(["a", "b"]) {
        connect(&server.url()).publish("t", body).unwrap();
    }
    assert_eq!(bodies(&subscription, 2), ["a", "b"]);
    let events = of_subscription(&subscription, 2);
    assert_eq!(events.len(), 2, "{events:?}");
    assert!(matches!(subscription.add_broker("nowhere"), Err(Error::Invalid(_))));
    let embedded = connect("mq:memory").subscribe("t", "c", SubscribeOptions::default()).unwrap();
    assert!(matches!(embedded.add_broker("a:1"), Err(Error::Unsupported { .. })));
}

#[test]
fn texts_stand_for_pem_files_and_are_in_no_message() {
    let server = Running::start_tls();
    let text = |name: &str| std::fs::read_to_string(server.folder.path().join(name)).unwrap();
    let config = Config {
        tls_root_ca_file: Some(text("cert.pem").into()),
        tls_cert_file: Some(text("cert.pem").into()),
        tls_key_file: Some(text("key.pem").into()),
        ..Config::default()
    };
    let client = libmq::connect_with(&format!("mqs://{}", server.address), config.clone()).unwrap();
    client.publish("t", "x").unwrap();
    let broken = Config { tls_key_file: Some(text("key.pem")[..60].into()), ..config };
    assert!(!format!("{broken:?}").contains("BEGIN"), "{broken:?}");
    let error = libmq::connect_with(&format!("mqs://{}", server.address), broken).unwrap_err().to_string();
    assert!(error.contains("the PEM text") && !error.contains("BEGIN"), "{error}");
}
