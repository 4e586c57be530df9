//! `mq drain`: what it says, what its exit status means, and that it returns when the process has ended.

use mq_tests::{Broker, mq, start, until};
use serde_json::Value;

use crate::clients::{connect, create_channel, next, subscribe, topic};

#[tokio::test]
async fn a_drain_with_messages_left_says_how_many_and_returns_when_the_process_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("http.sock").to_str().unwrap().to_owned();
    for http in ["127.0.0.1:0", &socket] {
        // In memory alone: the process writes it all after it has stopped to serve.
        let mut broker = Broker::start_at(
            ["127.0.0.1:0", http, "127.0.0.1:0"],
            &["--durability=memory", "--max-msg-size=1MiB"],
        );
        let mut publisher = connect(&broker).await;
        for _ in 0..100 {
            publisher.publish(&topic("t"), &[b'x'; 500_000]).await.unwrap();
        }
        publisher.flush().await.unwrap();
        let drain = mq(&["drain", "--timeout", "0s", "--http-address", broker.http_address()]);
        assert!(broker.has_ended(), "{}", drain.stderr);
        let complaint = drain.failed();
        assert!(complaint.contains("100 messages are left"), "{complaint}");
        broker.restart();
        until("the messages", || broker.stderr().contains("messages=100").then_some(()));
    }
}

#[tokio::test]
async fn a_drain_of_a_broker_that_a_signal_stops_says_what_is_left_and_fails() {
    for (signal, says) in [(15, "1 message is left in its data folder"), (9, "did not stop cleanly")] {
        let mut broker = Broker::start();
        create_channel(&broker, "t", "c").await;
        let mut publisher = connect(&broker).await;
        publisher.publish(&topic("t"), b"x").await.unwrap();
        publisher.flush().await.unwrap();
        let drain = start(&["drain", "--timeout", "1h", "--http-address", broker.http_address()]);
        until("the drain", || broker.stderr().contains("draining").then_some(()));
        broker.signal(signal);
        let output = drain.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(1) && said.contains(says), "{signal}: {said}");
        assert!(broker.has_ended(), "{signal}: {said}");
    }
}

#[tokio::test]
async fn a_drain_shows_how_far_it_is_and_succeeds_when_nothing_is_left() {
    let mut broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    let mut publisher = connect(&broker).await;
    for _ in 0..2 {
        publisher.publish(&topic("t"), b"x").await.unwrap();
    }
    publisher.flush().await.unwrap();
    let status = || -> Value {
        use std::io::{Read, Write};
        let mut socket = std::net::TcpStream::connect(broker.http_address()).unwrap();
        socket.write_all(b"GET /drain HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).unwrap();
        serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
    };
    assert_eq!(status(), serde_json::json!({ "state": "none", "messages": 2 }));
    let drain = start(&["drain", "--timeout", "1h", "--http-address", broker.http_address()]);
    until("the drain", || broker.stderr().contains("draining").then_some(()));
    assert_eq!(status(), serde_json::json!({ "state": "draining", "messages": 2 }));
    let mut consumer = subscribe(&broker, "t", "c", 2).await;
    let first = next(&mut consumer).await;
    consumer.finish(first.id);
    let second = next(&mut consumer).await;
    consumer.finish(second.id);
    // Its FIN goes with what is sent next.
    consumer.close().await.unwrap();
    let output = drain.wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("nothing is left") && broker.has_ended(), "{said}");
}
