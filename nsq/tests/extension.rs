//! libmq's extension of the protocol over real sockets: who gets it, what its commands answer to the byte.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use std::time::Duration;

use common::{Peer, Raw, Running, mpub, start, start_with, with_body};
use mq_core::{ChannelName, Start, TopicName};
use mq_nsq::client::{Connection, Error, Identify};
use mq_nsq::server::Config;
use mq_nsq::wire::Together;
use mq_nsq::wire::extension::{Delivered, Run, Runs, put_record};

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

#[tokio::test]
async fn a_publish_is_answered_with_offsets_and_duplicates_to_the_byte() {
    let server = start().await;
    let mut peer = extended(&server).await;
    peer.send(&publish("t", "all", &[plain(b"a"), plain(b"b")])).await;
    let frame = peer.frame().await.unwrap();
    let first = first_offset(&frame);
    let want = [&[0, 0, 0, 0, 2][..], &first.to_be_bytes()].concat();
    assert_eq!((frame.kind, frame.data), (4, want));

    let with_id = |id: &[u8]| record(Duration::ZERO, Some(id), &[], b"x");
    peer.send(&publish("t", "all", &[with_id(b"1"), with_id(b"2")])).await;
    let ids = peer.frame().await.unwrap();
    let first = first_offset(&ids);
    peer.send(&publish("t", "each", &[with_id(b"2"), with_id(b"3"), with_id(b"3")])).await;
    let again = peer.frame().await.unwrap();
    let fresh = match Runs::new(&again.data).nth(1).unwrap().unwrap() {
        Run::Stored { first, duplicate: false, .. } => first,
        run => panic!("{run:?}"),
    };
    let at = fresh - first;
    let want = ["duplicate 1 at 1".to_owned(), format!("stored 1 at {at}"), format!("duplicate 1 at {at}")];
    assert_eq!(results(&again, first), want);
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
async fn a_refused_message_takes_no_other_with_it_unless_they_go_together() {
    let config = Config { max_msg_size: 10, ..Config::default() };
    let server = start_with(config, |_| {}, false).await;
    let mut peer = extended(&server).await;
    let large =
        "E_PUB_FAILED PUBLISH failed the message takes 11 bytes, at most 10 are allowed (--max-msg-size)";
    let records = [plain(b"a"), plain(&[b'l'; 11]), plain(b""), plain(b"b"), plain(b"c")];
    peer.send(&publish("t", "each", &records)).await;
    let each = peer.frame().await.unwrap();
    let first = first_offset(&each);
    let empty = "E_PUB_FAILED PUBLISH failed a message must have at least one byte";
    let words = results(&each, first);
    assert_eq!(words[0], "stored 1 at 0");
    assert_eq!(words[1..3], [format!("refused 1 {large}"), format!("refused 1 {empty}")]);
    assert!(words[3].starts_with("stored 2 at "), "{words:?}");

    peer.send(&publish("t", "all", &records)).await;
    let all = peer.frame().await.unwrap();
    assert_eq!(results(&all, 0), [format!("refused 5 {large}")]);
    peer.send(&publish("t", "all", &[vec![0, 0, 0, 1, 0, 0, 0, 5, 4, 0, 0, 0, 0, b'x']])).await;
    let unknown = peer.frame().await.unwrap();
    assert_eq!(results(&unknown, 0), ["refused 1 E_PUB_FAILED PUBLISH failed attribute 4 is not known"]);
    let id = [2, 0, 0, 0, 1, b'i'];
    let twice = [&[0, 0, 0, 1, 0, 0, 0, 12][..], &id, &id, b"x"].concat();
    peer.send(&publish("t", "all", &[twice])).await;
    let twice = peer.frame().await.unwrap();
    assert_eq!(results(&twice, 0), ["refused 1 E_PUB_FAILED PUBLISH failed attribute 2 is there twice"]);
    let late = record(Duration::from_secs(3601), None, &[], b"x");
    peer.send(&publish("t", "all", &[late])).await;
    let late = peer.frame().await.unwrap();
    let why = "a delay of 3601000 ms, at most 3600000 ms are allowed (--max-req-timeout)";
    assert_eq!(results(&late, 0), [format!("refused 1 E_PUB_FAILED PUBLISH failed {why}")]);
    assert_eq!(server.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap().depth(), 3);

    // A malformed one ends the connection.
    peer.send(&publish("t", "all", &[vec![0, 0, 0, 9, 0, 0, 0, 0, b'x']])).await;
    peer.expect("error E_BAD_MESSAGE PUBLISH malformed: a length is larger than what is left").await;
    peer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn each_is_for_as_many_as_an_answer_has_reasons_for() {
    let server = start().await;
    let mut peer = extended(&server).await;
    peer.send(&publish("t", "each", &vec![plain(b""); 1024])).await;
    assert_eq!(results(&peer.frame().await.unwrap(), 0).len(), 1024);
    peer.send(&publish("t", "each", &vec![plain(b""); 1025])).await;
    peer.expect("error E_BAD_BODY PUBLISH of each takes at most 1024 messages, not 1025").await;
    peer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn deliveries_carry_what_was_published_and_are_acknowledged_by_token() {
    let server = start().await;
    let mut peer = extended(&server).await;
    let colour = record(Duration::ZERO, Some(b"id"), &[("colour", b"red"), ("empty", b"")], b"one");
    peer.send(&publish("t", "all", &[colour, plain(b"two"), plain(b"three")])).await;
    let first = first_offset(&peer.frame().await.unwrap());
    peer.send(b"SUBSCRIBE t c earliest\nRDY 3\n").await;
    peer.expect(r#"{\"created\":true}"#).await;
    let [one, two, three] = [delivery(&mut peer).await, delivery(&mut peer).await, delivery(&mut peer).await];
    let got = Delivered::decode(&one.data).unwrap();
    assert_eq!((got.offset, got.attempts, got.body), (first, 1, &b"one"[..]));
    let headers: Vec<_> = got.headers.iter().map(Result::unwrap).collect();
    assert_eq!(headers, [("colour", &b"red"[..]), ("empty", b"")]);
    let got = Delivered::decode(&two.data).unwrap();
    assert_eq!((got.offset, got.body, got.headers.is_empty()), (first + 1, &b"two"[..], true));

    // A requeue makes the token of the delivery before void.
    peer.send(&acknowledge("REQUEUE 1 0", &[&two])).await;
    let again = delivery(&mut peer).await;
    let got = Delivered::decode(&again.data).unwrap();
    assert_eq!((got.attempts, got.body), (2, &b"two"[..]));
    peer.send(&acknowledge("EXTEND 2", &[&three, &two])).await;
    let id: String = two.data[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    peer.expect(&format!("error E_TOUCH_FAILED TOUCH {id} failed ID not in flight")).await;
    peer.send(&acknowledge("FINISH 4", &[&one, &two, &three, &again])).await;
    peer.send(b"CONFIRM\n").await;
    peer.expect(&format!("error E_FIN_FAILED FIN {id} failed ID not in flight")).await;
    peer.expect("OK").await;
    let channel = server.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap().channels();
    assert_eq!(channel[0].stats().depth, 0);
    server.stop().await;
}

#[tokio::test]
async fn a_released_delivery_comes_again_at_once_and_counts_no_attempt() {
    let server = start().await;
    let mut peer = extended(&server).await;
    peer.send(&publish("t", "all", &[plain(b"a"), plain(b"b"), plain(b"c")])).await;
    peer.frame().await.unwrap();
    peer.send(b"SUBSCRIBE t c earliest\nRDY 2\n").await;
    peer.expect(r#"{\"created\":true}"#).await;
    let [a, b] = [delivery(&mut peer).await, delivery(&mut peer).await];
    peer.send(&acknowledge("RELEASE 2", &[&a, &b])).await;
    for (raw, body) in [delivery(&mut peer).await, delivery(&mut peer).await].iter().zip([b"a", b"b"]) {
        let got = Delivered::decode(&raw.data).unwrap();
        assert_eq!((got.body, got.attempts), (&body[..], 1));
    }
    peer.send(&acknowledge("FINISH 1", &[&a])).await;
    assert_eq!(Delivered::decode(&delivery(&mut peer).await.data).unwrap().body, b"c");
    peer.send(&acknowledge("RELEASE 1", &[&a])).await;
    let id: String = a.data[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    peer.expect(&format!("error E_REQ_FAILED REQ {id} failed ID not in flight")).await;
    server.stop().await;
}

#[tokio::test]
async fn a_message_larger_than_a_subscriber_takes_is_left_to_others() {
    let server = start().await;
    let mut peer = extended(&server).await;
    // A header takes its lengths too.
    let with_header = record(Duration::ZERO, None, &[("k", b"v")], b"12345");
    peer.send(&publish("t", "all", &[plain(b"12345678901"), with_header, plain(b"1234567890")])).await;
    peer.frame().await.unwrap();
    let mut other = extended(&server).await;
    identify(&mut peer, r#"{"feature_negotiation":true,"msg_timeout":1000}"#).await;
    peer.send(b"SUBSCRIBE t c earliest 10\nRDY 3\n").await;
    peer.expect(r#"{\"created\":true}"#).await;
    let got = delivery(&mut peer).await;
    assert_eq!(Delivered::decode(&got.data).unwrap().body, b"12345");
    let got = delivery(&mut peer).await;
    assert_eq!(Delivered::decode(&got.data).unwrap().body, b"1234567890");
    other.send(b"SUBSCRIBE t c earliest\nRDY 3\n").await;
    other.expect(r#"{\"created\":false}"#).await;
    let got = delivery(&mut other).await;
    let got = Delivered::decode(&got.data).unwrap();
    assert_eq!((got.body, got.attempts), (&b"12345678901"[..], 1));
    for word in ["-1", "4294967296", "many"] {
        let mut peer = extended(&server).await;
        peer.send(format!("SUBSCRIBE t c earliest {word}\n").as_bytes()).await;
        peer.expect(&format!("error E_INVALID SUBSCRIBE could not parse max message bytes {word}")).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_start_is_for_the_channel_that_it_creates() {
    let server = start().await;
    let mut peer = extended(&server).await;
    peer.send(&publish("t", "all", &[plain(b"a"), plain(b"b"), plain(b"c")])).await;
    let first = first_offset(&peer.frame().await.unwrap());
    peer.send(b"SUBSCRIBE t keeps earliest\n").await;
    peer.expect(r#"{\"created\":true}"#).await;
    let mut from = extended(&server).await;
    from.send(format!("SUBSCRIBE t from offset:{}\nRDY 1\n", first + 1).as_bytes()).await;
    from.expect(r#"{\"created\":true}"#).await;
    assert_eq!(Delivered::decode(&delivery(&mut from).await.data).unwrap().body, b"b");
    for start in ["latest", "time:0", "offset:0", "earliest"] {
        let mut peer = extended(&server).await;
        peer.send(format!("SUBSCRIBE t from {start}\nRDY 1\n").as_bytes()).await;
        peer.expect(r#"{\"created\":false}"#).await;
        assert_eq!(Delivered::decode(&delivery(&mut peer).await.data).unwrap().body, b"c", "{start}");
    }
    let mut peer = extended(&server).await;
    peer.send(b"SUBSCRIBE t c someday\n").await;
    peer.expect("error E_INVALID SUBSCRIBE could not parse start someday").await;
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
async fn tokens_are_one_to_512_and_of_a_subscription() {
    let server = start().await;
    for (line, error) in
        [("FINISH 1", "cannot FINISH in current state"), ("CONFIRM", "cannot CONFIRM in current state")]
    {
        let mut peer = extended(&server).await;
        peer.send(format!("{line}\n").as_bytes()).await;
        peer.expect(&format!("error E_INVALID {error}")).await;
        peer.expect_end().await;
    }
    for (line, error) in [
        ("FINISH 0", "FINISH takes 1 to 512 deliveries"),
        ("EXTEND 513", "EXTEND takes 1 to 512 deliveries"),
        ("RELEASE 513", "RELEASE takes 1 to 512 deliveries"),
        ("REQUEUE x 1", "REQUEUE takes 1 to 512 deliveries"),
        ("FINISH 18446744073709551617", "FINISH takes 1 to 512 deliveries"),
    ] {
        let mut peer = extended(&server).await;
        peer.send(format!("SUBSCRIBE t c waiting\n{line}\n").as_bytes()).await;
        peer.frame().await.unwrap();
        peer.expect(&format!("error E_INVALID {error}")).await;
        peer.expect_end().await;
    }
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
    connection.confirm().await.unwrap();
    assert!(matches!(connection.take_late(), Some(Error::Server { code, .. }) if code == "E_FIN_FAILED"));
    assert!(connection.take_late().is_none());
    connection.close().await.unwrap();
    server.stop().await;
}
