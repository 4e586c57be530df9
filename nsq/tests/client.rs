//! The client against the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use std::time::Duration;

use common::{PATIENCE, start, start_with};
use mq_core::{ChannelName, TopicName};
use mq_nsq::client::{Connection, Error, Identify};
use mq_nsq::server::Config;
use tokio::time::timeout;

fn topic() -> TopicName {
    TopicName::parse("t").unwrap()
}

fn channel() -> ChannelName {
    ChannelName::parse("c").unwrap()
}

async fn connect(address: &str) -> Connection {
    Connection::connect(address, Identify::default()).await.unwrap()
}

#[tokio::test]
async fn what_is_published_is_consumed_in_order() {
    for unix in [false, true] {
        let server = start_with(Config { version: "9.9".into(), ..Config::default() }, |_| {}, unix).await;
        let mut producer = connect(&server.address).await;
        assert_eq!((producer.server_version(), producer.max_rdy()), ("9.9", 2500));
        let lines: Vec<String> = (0..10_000).map(|i| format!("line {i}")).collect();
        let run = async {
            for batch in lines.chunks(97) {
                producer.publish_batch(&topic(), batch).await.unwrap();
            }
            producer.publish(&topic(), b"last").await.unwrap();
            producer.flush().await.unwrap();
            assert_eq!((producer.acknowledged(), producer.unanswered()), (10_001, 0));
            producer.close().await.unwrap();

            let mut consumer = connect(&server.address).await;
            consumer.subscribe(&topic(), &channel(), 500).await.unwrap();
            for line in lines.iter().map(String::as_str).chain(["last"]) {
                let message = consumer.next().await.unwrap().unwrap();
                assert_eq!((&message.body[..], message.attempts), (line.as_bytes(), 1));
                consumer.finish(message.id);
            }
            consumer.close().await.unwrap();
        };
        timeout(3 * PATIENCE, run).await.unwrap();
        server.stop().await;
    }
}

#[tokio::test]
async fn messages_are_requeued_touched_and_deferred() {
    let server = start().await;
    let mut client = connect(&server.address).await;
    client.subscribe(&topic(), &channel(), 1).await.unwrap();
    client.publish(&topic(), b"x").await.unwrap();
    let message = client.next().await.unwrap().unwrap();
    client.touch(message.id);
    client.requeue(message.id, Duration::ZERO);
    let again = client.next().await.unwrap().unwrap();
    assert_eq!((again.id, again.attempts), (message.id, 2));
    client.finish(again.id);
    // A FIN that comes too late is answered with an error, which does not end the connection.
    client.finish(again.id);
    client.publish_deferred(&topic(), b"y", Duration::from_millis(1)).await.unwrap();
    client.publish(&topic(), b"z").await.unwrap();
    client.flush().await.unwrap();
    let mut bodies = Vec::new();
    for _ in 0..2 {
        let message = client.next().await.unwrap().unwrap();
        bodies.push(message.body);
        client.finish(message.id);
        client.publish(&topic(), b"w").await.unwrap();
    }
    assert!(bodies.contains(&"z".into()), "{bodies:?}");
    client.close().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_peek_moves_nothing() {
    let server = start().await;
    let mut client = connect(&server.address).await;
    let nothing = client.peek(&topic(), None, 10).await.unwrap();
    assert_eq!((nothing.channels, nothing.messages.len()), (0, 0));
    let bodies: Vec<String> = (0..10).map(|i| i.to_string()).collect();
    client.publish_batch(&topic(), &bodies).await.unwrap();
    let mut next = nothing.next;
    let mut seen = Vec::new();
    for want in [4, 4, 2, 0] {
        let peeked = client.peek(&topic(), next, 4).await.unwrap();
        assert_eq!((peeked.channels, peeked.messages.len()), (0, want));
        seen.extend(peeked.messages.iter().map(|message| String::from_utf8(message.body.to_vec()).unwrap()));
        next = peeked.next;
    }
    assert_eq!(seen, bodies);
    client.publish(&topic(), b"more").await.unwrap();
    let more = client.peek(&topic(), next, 1000).await.unwrap();
    assert_eq!(&more.messages[0].body[..], b"more");
    assert_eq!(server.broker.find_topic(&topic()).unwrap().depth(), 11);

    // An answer ends early when it is large.
    let large = vec![b'x'; 600 * 1024];
    for _ in 0..3 {
        client.publish(&topic(), &large).await.unwrap();
    }
    let mut next = more.next;
    for _ in 0..3 {
        let peeked = client.peek(&topic(), next, 1000).await.unwrap();
        assert_eq!(peeked.messages.len(), 1);
        next = peeked.next;
    }
    client.close().await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn errors_are_told() {
    let server = start().await;
    let mut client = connect(&server.address).await;
    assert!(matches!(client.publish(&topic(), b"").await, Err(Error::Input(_))));
    assert!(matches!(client.publish_batch(&topic(), &["a", ""]).await, Err(Error::Input(_))));
    client.publish(&topic(), b"fine").await.unwrap();
    client.flush().await.unwrap();
    let too_big = vec![0; 1024 * 1024 + 1];
    let error = match client.publish(&topic(), &too_big).await {
        Ok(()) => client.flush().await.unwrap_err(),
        Err(error) => error,
    };
    let Error::Server { code, text } = error else { panic!("{error}") };
    assert_eq!((code.as_str(), text.as_str()), ("E_BAD_MESSAGE", "PUB message too big 1048577 > 1048576"));

    let identify = Identify { sample_rate: 100, ..Identify::default() };
    let Err(Error::Server { code, .. }) = Connection::connect(&server.address, identify).await else {
        panic!("a sample rate of 100 is none");
    };
    assert_eq!(code, "E_BAD_BODY");
    let address = server.address.clone();
    let mut idle = connect(&address).await;
    let mut consumer = connect(&address).await;
    consumer.subscribe(&topic(), &channel(), 0).await.unwrap();
    server.stop().await;
    assert!(matches!(idle.drive().await, Error::Closed));
    assert!(consumer.next().await.unwrap().is_none());
    assert!(matches!(Connection::connect(&address, Identify::default()).await, Err(Error::Io(_))));
}

#[tokio::test]
async fn heartbeats_are_answered_while_something_is_awaited() {
    let server = start().await;
    let identify = Identify { heartbeat_interval: Some(Duration::from_secs(1)), ..Identify::default() };
    let mut client = Connection::connect(&server.address, identify).await.unwrap();
    let ended = timeout(Duration::from_millis(3500), client.drive()).await;
    assert!(ended.is_err(), "{}", ended.unwrap());
    client.publish(&topic(), b"x").await.unwrap();
    client.flush().await.unwrap();
    server.stop().await;
}
