//! The client against the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{PATIENCE, start, start_with};
use mq_core::{ChannelName, TopicName};
use mq_nsq::client::{Connection, Error, Identify};
use mq_nsq::server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
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

/// Takes a connection of a client and its IDENTIFY, answers `OK`, and gives what it said.
async fn identified(listener: &TcpListener) -> (TcpStream, SocketAddr, serde_json::Value) {
    let (mut stream, peer) = listener.accept().await.unwrap();
    let mut hello = vec![0; "  V2IDENTIFY\n".len()];
    stream.read_exact(&mut hello).await.unwrap();
    let length = stream.read_u32().await.unwrap() as usize;
    let mut said = vec![0; length];
    stream.read_exact(&mut said).await.unwrap();
    stream.write_all(b"\0\0\0\x06\0\0\0\0OK").await.unwrap();
    (stream, peer, serde_json::from_slice(&said).unwrap())
}

#[tokio::test]
async fn a_client_connects_from_the_address_and_says_what_it_is_set_to() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let identify = Identify {
        local_address: Some("127.0.0.2:0".parse().unwrap()),
        topology_region: "eu".to_owned(),
        topology_zone: "eu-1".to_owned(),
        output_buffer_size: Some(0),
        output_buffer_timeout: Some(Duration::ZERO),
        ..Identify::default()
    };
    let (client, server) = tokio::join!(Connection::connect(&address, identify), identified(&listener));
    client.unwrap();
    let (_, peer, said) = server;
    assert_eq!(peer.ip().to_string(), "127.0.0.2");
    for (key, value) in [("topology_region", "eu"), ("topology_zone", "eu-1")] {
        assert_eq!(said[key], value);
    }
    assert_eq!((&said["output_buffer_size"], &said["output_buffer_timeout"]), (&(-1).into(), &(-1).into()));

    let (client, server) =
        tokio::join!(Connection::connect(&address, Identify::default()), identified(&listener));
    client.unwrap();
    let unsaid = ["topology_region", "topology_zone", "output_buffer_size", "output_buffer_timeout"];
    assert!(unsaid.iter().all(|key| server.2[key].is_null()), "{}", server.2);
    let other_family = Identify { local_address: Some("[::1]:0".parse().unwrap()), ..Identify::default() };
    let error = Connection::connect(&address, other_family).await.unwrap_err().to_string();
    assert!(error.contains("family of [::1]:0"), "{error}");
}

#[tokio::test]
async fn a_server_that_says_nothing_or_reads_nothing_is_left_in_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let short = Some(Duration::from_millis(100));
    let silent = Identify { read_timeout: short, ..Identify::default() };
    let (client, _server) = tokio::join!(Connection::connect(&address, silent), identified(&listener));
    let ended = timeout(PATIENCE, client.unwrap().drive()).await.unwrap();
    assert!(matches!(ended, Error::Timeout), "{ended}");

    let stuck = Identify { write_timeout: short, ..Identify::default() };
    let (client, _server) = tokio::join!(Connection::connect(&address, stuck), identified(&listener));
    let mut client = client.unwrap();
    // More than sockets hold.
    for _ in 0..64 {
        client.put_batch(&topic(), &[vec![b'x'; 1 << 20]]).unwrap();
    }
    let ended = timeout(PATIENCE, client.drive()).await.unwrap();
    assert!(matches!(ended, Error::Timeout), "{ended}");
}

#[tokio::test]
async fn a_slow_server_that_reads_on_is_waited_for_longer_than_the_write_timeout() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let identify = Identify { write_timeout: Some(Duration::from_secs(1)), ..Identify::default() };
    let (client, server) = tokio::join!(Connection::connect(&address, identify), identified(&listener));
    let (mut client, mut stream) = (client.unwrap(), server.0);
    for _ in 0..64 {
        client.put_batch(&topic(), &[vec![b'x'; 1 << 20]]).unwrap();
    }
    let reading = async {
        let mut buf = vec![0; 4 << 20];
        // Three times the limit, a part of it each time.
        for _ in 0..15 {
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert_ne!(stream.read(&mut buf).await.unwrap(), 0);
        }
    };
    tokio::select! {
        ended = client.drive() => panic!("{ended}"),
        () = reading => {}
    }
}

#[tokio::test]
async fn a_message_longer_than_the_client_takes_ends_its_connection() {
    let server = start().await;
    let mut client = connect(&server.address).await;
    client.publish_batch(&topic(), &[vec![b'x'; 974], vec![b'x'; 975]]).await.unwrap();
    client.flush().await.unwrap();
    let identify = Identify { frame_bytes_max: Some(1_004), ..Identify::default() };
    let mut consumer = Connection::connect(&server.address, identify).await.unwrap();
    consumer.subscribe(&topic(), &channel(), 1).await.unwrap();
    let message = consumer.next().await.unwrap().unwrap();
    assert_eq!(message.body.len(), 974, "26 bytes of header and 4 of its type are more");
    consumer.finish(message.id);
    let error = consumer.next().await.unwrap_err().to_string();
    assert!(error.contains("1005 bytes: this client takes 1004"), "{error}");
    server.stop().await;
}

#[tokio::test]
async fn the_last_words_of_a_server_that_hangs_up_on_what_it_does_not_read_are_heard() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (client, server) =
        tokio::join!(Connection::connect(&address, Identify::default()), identified(&listener));
    let (mut client, mut stream) = (client.unwrap(), server.0);
    client.put_batch(&topic(), &["fine"]).unwrap();
    for _ in 0..64 {
        client.put_batch(&topic(), &[vec![b'x'; 1 << 20]]).unwrap();
    }
    client.nudge().await.unwrap();
    let error = b"E_BAD_MESSAGE too large";
    let size = u32::try_from(error.len() + 4).unwrap().to_be_bytes();
    let words = [b"\0\0\0\x06\0\0\0\0OK", &size[..], b"\0\0\0\x01", error].concat();
    stream.write_all(&words).await.unwrap();
    // With bytes that were not read this is a reset.
    drop(stream);
    let ended = timeout(PATIENCE, client.drive()).await.unwrap();
    assert!(matches!(&ended, Error::Server { code, .. } if code == "E_BAD_MESSAGE"), "{ended}");
    assert_eq!(client.acknowledged(), 1);
}
