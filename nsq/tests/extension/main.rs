//! libmq's extension of the protocol over real sockets: who gets it, what its commands answer to the byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

#[path = "../common/mod.rs"]
mod common;
mod consuming;
mod publishing;

use std::time::Duration;

use common::{Peer, Raw, Running, mpub, start, with_body};
use mq_core::{ChannelName, Start, TopicName};
use mq_nsq::client::{Connection, Error, Identify};
use mq_nsq::wire::Together;
use mq_nsq::wire::extension::{Run, Runs, put_record};

/// What IDENTIFY was answered with, as JSON.
async fn identify(peer: &mut Peer, json: &str) -> serde_json::Value {
    peer.send(&with_body("IDENTIFY", json.as_bytes())).await;
    serde_json::from_slice(&peer.frame().await.unwrap().data).unwrap()
}

async fn offered(peer: &mut Peer) -> String {
    let answer = identify(peer, r#"{"feature_negotiation":true,"libmq":["messages","more"]}"#).await;
    assert_eq!(answer["libmq"]["features"], serde_json::json!(["messages"]));
    answer["libmq"]["nonce"].as_str().unwrap().to_owned()
}

/// A connection that has the extension.
async fn extended(server: &Running) -> Peer {
    let mut peer = server.peer().await;
    let nonce = offered(&mut peer).await;
    peer.send(format!("UPGRADE {nonce} messages\n").as_bytes()).await;
    peer.expect("OK").await;
    peer
}

/// A record without attributes.
fn plain(body: &[u8]) -> Vec<u8> {
    record(Duration::ZERO, None, &[], body)
}

fn record(delay: Duration, id: Option<&[u8]>, headers: &[(&str, &[u8])], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_record(&mut out, delay, id, headers.iter().copied(), body);
    out
}

fn publish(topic: &str, together: &str, records: &[Vec<u8>]) -> Vec<u8> {
    with_body(&format!("PUBLISH {topic} {together}"), &records.concat())
}

/// Results in words; offsets count from `first`.
fn results(frame: &Raw, first: u64) -> Vec<String> {
    assert_eq!(frame.kind, 4, "{}", frame.show());
    let runs = Runs::new(&frame.data).map(|run| match run.unwrap() {
        Run::Stored { count, first: at, duplicate } => {
            let word = if duplicate { "duplicate" } else { "stored" };
            format!("{word} {count} at {}", at - first)
        }
        Run::Refused { count, retry, why } => {
            format!("refused {count}{} {}", if retry { " for now" } else { "" }, why.escape_ascii())
        }
    });
    runs.collect()
}

fn first_offset(frame: &Raw) -> u64 {
    match Runs::new(&frame.data).next().unwrap().unwrap() {
        Run::Stored { first, .. } => first,
        run => panic!("{run:?}"),
    }
}

async fn delivery(peer: &mut Peer) -> Raw {
    let frame = peer.frame().await.unwrap();
    assert_eq!(frame.kind, 3, "{}", frame.show());
    frame
}

fn acknowledge(line: &str, deliveries: &[&Raw]) -> Vec<u8> {
    let tokens = deliveries.iter().map(|raw| &raw.data[..16]);
    [format!("{line}\n").as_bytes(), &tokens.collect::<Vec<_>>().concat()].concat()
}

#[tokio::test]
async fn who_does_not_ask_is_offered_nothing_and_knows_no_command() {
    let server = start().await;
    for json in [
        r#"{"feature_negotiation":true}"#,
        r#"{"feature_negotiation":true,"libmq":["other"]}"#,
        r#"{"feature_negotiation":true,"libmq":"messages"}"#,
    ] {
        let mut peer = server.peer().await;
        assert_eq!(identify(&mut peer, json).await.get("libmq"), None);
        peer.send(b"UPGRADE  messages\n").await;
        peer.expect("error E_INVALID UPGRADE does not name what IDENTIFY was answered with").await;
        peer.expect_end().await;
    }
    for command in [
        "PUBLISH t all",
        "SUBSCRIBE t c earliest",
        "FINISH 1",
        "REQUEUE 1 0",
        "EXTEND 1",
        "RELEASE 1",
        "CREDIT 1",
        "CONFIRM",
    ] {
        let mut peer = server.peer().await;
        offered(&mut peer).await;
        peer.send(format!("{command}\n").as_bytes()).await;
        let word = command.split(' ').next().unwrap();
        peer.expect(&format!("error E_INVALID invalid command {word}")).await;
        peer.expect_end().await;
    }
    server.stop().await;
}

#[tokio::test]
async fn an_upgrade_names_the_nonce_of_its_own_connection() {
    let server = start().await;
    let (mut one, mut other) = (server.peer().await, server.peer().await);
    let (nonce, others) = (offered(&mut one).await, offered(&mut other).await);
    assert_ne!(nonce, others);
    assert_eq!(offered(&mut one).await, nonce, "asked again, it is the same");
    one.send(format!("UPGRADE {others} messages\n").as_bytes()).await;
    one.expect("error E_INVALID UPGRADE does not name what IDENTIFY was answered with").await;
    one.expect_end().await;
    // A second time it changes nothing.
    other.send(format!("UPGRADE {others} messages\nUPGRADE {others} messages\n").as_bytes()).await;
    other.expect("OK").await;
    other.expect("OK").await;
    other.send(format!("UPGRADE {others} more\n").as_bytes()).await;
    other.expect("error E_INVALID UPGRADE to features that were not offered").await;
    other.expect_end().await;
    server.stop().await;
}

/// The transcript in docs/protocol.md.
#[tokio::test]
async fn the_documented_transcript_is_what_happens() {
    let server = start().await;
    let mut peer = extended(&server).await;
    let hex = "0000002e 00000003 00000018 02 00000002 6f31 03 0000000c 06 636f6c6f7572 0003 726564 6f6e65 \
               00000003 00000000 74776f";
    let digits: Vec<u8> = hex.bytes().filter(|b| *b != b' ').collect();
    let bytes: Vec<u8> = digits
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    peer.send(&[b"PUBLISH orders all\n", &bytes[..]].concat()).await;
    let results = peer.frame().await.unwrap();
    assert_eq!((results.kind, &results.data[..5], results.data.len()), (4, &[0, 0, 0, 0, 2][..], 13));
    peer.send(b"SUBSCRIBE orders billing earliest\nRDY 2\n").await;
    peer.expect(r#"{\"created\":true}"#).await;
    let (one, two) = (delivery(&mut peer).await, delivery(&mut peer).await);
    assert_eq!(one.data[32..], [&[0, 1, 0, 0, 0, 17][..], &bytes[19..36], b"one"].concat());
    assert_eq!(two.data[32..], *b"\0\x01\0\0\0\0two");
    peer.send(&acknowledge("FINISH 2", &[&one, &two])).await;
    peer.send(b"CONFIRM\n").await;
    peer.expect("OK").await;
    server.stop().await;
}

#[tokio::test]
async fn the_commands_of_v2_go_on_beside_those_of_the_extension() {
    let server = start().await;
    let mut peer = extended(&server).await;
    peer.send(&mpub("t", &[b"a", b"b"])).await;
    peer.expect("OK").await;
    peer.send(b"SUB t c\nRDY 1\n").await;
    peer.expect("OK").await;
    let one = peer.expect("message 1 a").await;
    peer.send(format!("FIN {}\n", one.id()).as_bytes()).await;
    peer.expect("message 1 b").await;
    server.stop().await;
}

#[tokio::test]
async fn our_own_client_has_all_of_it() {
    let server = start().await;
    let identify = Identify { extension: true, ..Identify::default() };
    let mut connection = Connection::connect(&server.address, identify).await.unwrap();
    assert!(connection.is_extended());
    let (topic, channel) = (TopicName::parse("t").unwrap(), ChannelName::parse("c").unwrap());
    let record = |body| {
        let mut record = Vec::new();
        put_record(&mut record, Duration::ZERO, Some(b"1"), [("k", &b"v"[..])].into_iter(), body);
        record
    };
    let records = [record(b"one"), record(b""), record(b"one")];
    connection.put_records(&topic, Together::Each, 3, records.iter().map(Vec::as_slice)).unwrap();
    connection.flush().await.unwrap();
    let results = connection.take_results().unwrap();
    let runs: Vec<_> = results.runs().collect();
    let [Run::Stored { first, .. }, Run::Refused { .. }, Run::Stored { duplicate: true, first: same, .. }] =
        runs[..]
    else {
        panic!("{runs:?}")
    };
    assert_eq!((first, connection.acknowledged()), (same, 2));

    assert!(connection.subscribe_at(&topic, &channel, Start::Earliest, None, 1).await.unwrap());
    let message = connection.next().await.unwrap().unwrap();
    assert_eq!((message.offset, &message.body[..]), (Some(first), &b"one"[..]));
    assert_eq!(message.headers, [("k".to_owned(), bytes::Bytes::from_static(b"v"))]);
    let token = message.token.unwrap();
    connection.extend_deliveries(&[token]);
    connection.requeue_deliveries(&[token], Duration::ZERO);
    let again = connection.next().await.unwrap().unwrap();
    connection.finish_deliveries(&[token, again.token.unwrap()]);
    connection.set_byte_credit(100);
    connection.confirm().await.unwrap();
    assert_eq!((connection.take_byte_credits(), connection.take_byte_credits()), (1, 0));
    assert!(matches!(connection.take_late(), Some(Error::Server { code, .. }) if code == "E_FIN_FAILED"));
    assert!(connection.take_late().is_none());
    connection.close().await.unwrap();
    server.stop().await;
}
