//! Ids and headers of messages published over HTTP.

use mq_core::{Delivery, Headers, TopicName};
use mq_nsq::server::Config;

use crate::{ask, ask_with, send, start};

#[tokio::test]
async fn what_is_sent_again_with_its_id_is_stored_once() {
    let server = start(Config::default()).await;
    let depth = async || ask(&server, "GET /stats?format=json").await.json()["topics"][0]["depth"].clone();
    for _ in 0..3 {
        let reply = ask_with(&server, "POST /pub?topic=t", "Mq-Message-Id: order 7\r\n", b"x").await;
        assert_eq!((reply.status, reply.text()), (200, "OK"));
    }
    assert_eq!(depth().await, 1);
    ask_with(&server, "POST /pub?topic=t", "mq-message-id: order 8\r\n", b"x").await;
    send(&server, "POST /pub?topic=t", b"x").await;
    send(&server, "POST /pub?topic=t", b"x").await;
    assert_eq!(depth().await, 4);
    let metrics = ask(&server, "GET /metrics").await;
    for line in ["duplicate_messages_total{topic=\"t\"} 2", "dedup_ids{topic=\"t\"} 2"] {
        assert!(metrics.text().contains(&format!("mq_topic_{line}")), "{line}");
    }
    let long = "x".repeat(1025);
    let long = format!("Mq-Message-Id: {long}\r\n");
    for (line, headers) in [
        ("POST /pub?topic=t", "Mq-Message-Id:\r\n"),
        ("POST /pub?topic=t", "Mq-Message-Id: a\r\nMq-Message-Id: b\r\n"),
        ("POST /pub?topic=t", &long),
        ("POST /mpub?topic=t", "Mq-Message-Id: a\r\n"),
    ] {
        let reply = ask_with(&server, line, headers, b"x").await;
        assert_eq!((reply.status, &reply.json()["message"]), (400, &"INVALID_MESSAGE_ID".into()), "{line}");
    }
    assert_eq!(depth().await, 4);
}

#[tokio::test]
async fn a_topic_can_have_a_window_of_its_own() {
    let server = start(Config::default()).await;
    ask(&server, "POST /topic/create?topic=t").await;
    let path = "/topic/config?topic=t";
    let both = |reply: crate::Reply| {
        let config = reply.json();
        (reply.status, config["dedup_window"].clone(), config["dedup_max_ids"].clone())
    };
    assert_eq!(both(ask(&server, &format!("GET {path}")).await), (200, 120_000.into(), 100_000.into()));
    let put = async |body: &str| send(&server, &format!("PUT {path}"), body.as_bytes()).await;
    assert_eq!(both(put(r#"{"dedup_window":0}"#).await), (200, 0.into(), 100_000.into()));
    for _ in 0..2 {
        ask_with(&server, "POST /pub?topic=t", "Mq-Message-Id: a\r\n", b"x").await;
    }
    assert_eq!(ask(&server, "GET /stats?format=json").await.json()["topics"][0]["depth"], 2);
    assert_eq!(both(put(r#"{"dedup_max_ids":5}"#).await), (200, 0.into(), 5.into()));
    let back = put(r#"{"dedup_window":null,"dedup_max_ids":null}"#).await;
    assert_eq!(both(back), (200, 120_000.into(), 100_000.into()));
    for bad in [r#"{"dedup_max_ids":0}"#, r#"{"dedup_window":604800001}"#, r#"{"dedup_window":-1}"#] {
        assert_eq!(put(bad).await.status, 400, "{bad}");
    }
}

#[tokio::test]
async fn headers_are_stored_with_the_message() {
    let server = start(Config::default()).await;
    let headers = "Mq-Header-Trace-Id: 7\r\nmq-header-kind: a\r\nMq-Header-Kind: b\r\nX-Other: c\r\n";
    ask_with(&server, "POST /pub?topic=t", headers, b"one").await;
    ask_with(&server, "POST /mpub?topic=t", "Mq-Header-Kind: m\r\n", b"two\nthree").await;
    let topic = server.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let mut got = Vec::new();
    let mut sink = |message: Delivery<'_>| {
        let headers = Headers::new(message.attributes.headers);
        let mut headers: Vec<_> = headers.map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        headers.sort();
        got.push((message.body.to_vec(), headers));
    };
    topic.peek(None, 10, usize::MAX, &mut sink).unwrap();
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    assert_eq!(
        got,
        [
            (b"one".to_vec(), vec![header("kind", "a"), header("kind", "b"), header("trace-id", "7")]),
            (b"two".to_vec(), vec![header("kind", "m")]),
            (b"three".to_vec(), vec![header("kind", "m")]),
        ]
    );
    let empty = ask_with(&server, "POST /pub?topic=t", "Mq-Header-: x\r\n", b"x").await;
    assert_eq!((empty.status, &empty.json()["message"]), (400, &"INVALID_HEADER".into()));
}
