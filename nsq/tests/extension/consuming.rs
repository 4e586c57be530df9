//! Deliveries, their acknowledgements, and the bounds of what is in flight.

use std::time::Duration;

use mq_core::TopicName;
use mq_nsq::server::Config;
use mq_nsq::wire::extension::Delivered;

use crate::common::{start, start_with};
use crate::{acknowledge, delivery, extended, first_offset, identify, plain, publish, record};

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
async fn a_requeue_for_longer_than_the_limit_is_refused_and_the_messages_stay_in_flight() {
    let config = Config { max_req_timeout: Duration::from_secs(1), ..Config::default() };
    let server = start_with(config, |_| {}, false).await;
    let mut peer = server.peer().await;
    let asks = r#"{"feature_negotiation":true,"libmq":["messages"]}"#;
    let answer = identify(&mut peer, asks).await;
    assert_eq!(answer["libmq"]["max_req_timeout"], 1000);
    peer.send(format!("UPGRADE {} messages\n", answer["libmq"]["nonce"].as_str().unwrap()).as_bytes()).await;
    peer.expect("OK").await;
    peer.send(&publish("t", "all", &[plain(b"a"), plain(b"b")])).await;
    peer.frame().await.unwrap();
    peer.send(b"SUBSCRIBE t c earliest\nRDY 2\n").await;
    peer.expect(r#"{\"created\":true}"#).await;
    let deliveries = [delivery(&mut peer).await, delivery(&mut peer).await];
    let ids = deliveries
        .each_ref()
        .map(|raw| raw.data[..8].iter().map(|byte| format!("{byte:02x}")).collect::<String>());
    let [a, b] = &deliveries;
    for (given, said) in [("1001", "1001"), ("18446744073709551616", "18446744073709551615")] {
        peer.send(&acknowledge(&format!("REQUEUE 2 {given}"), &[a, b])).await;
        for id in &ids {
            let why = format!("a delay of {said} ms, at most 1000 ms are allowed (--max-req-timeout)");
            peer.expect(&format!("error E_REQ_FAILED REQ {id} failed {why}")).await;
        }
    }
    // Both are in flight: these are no errors.
    peer.send(&acknowledge("FINISH 1", &[a])).await;
    peer.send(&acknowledge("REQUEUE 1 1000", &[b])).await;
    peer.send(b"CONFIRM\n").await;
    peer.expect("OK").await;
    let again = delivery(&mut peer).await;
    assert_eq!(again.data[..8], b.data[..8]);
    // V2's is cut, as nsqd's.
    peer.send(format!("REQ {} 1001\nCONFIRM\n", ids[1]).as_bytes()).await;
    peer.expect("OK").await;
    assert_eq!(delivery(&mut peer).await.data[..8], b.data[..8]);
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

/// The transcript in docs/protocol.md.
#[tokio::test]
async fn bytes_in_flight_are_bounded_but_for_a_message_that_is_alone() {
    let server = start().await;
    let mut peer = extended(&server).await;
    peer.send(&publish("t", "all", &[&b"1234"[..], b"5678", b"larger than ten"].map(plain))).await;
    peer.frame().await.unwrap();
    peer.send(b"SUBSCRIBE t c earliest\nCREDIT 10\nRDY 100\n").await;
    peer.expect(r#"{\"created\":true}"#).await;
    peer.expect("OK").await;
    let [one, two] = [delivery(&mut peer).await, delivery(&mut peer).await];
    assert_eq!([&one.data[38..], &two.data[38..]], [b"1234", b"5678"]);
    // Behind each answer, so that what it lets pass would be there.
    peer.send(&[&acknowledge("FINISH 1", &[&one])[..], b"CONFIRM\n"].concat()).await;
    peer.expect("OK").await;
    peer.send(&acknowledge("FINISH 1", &[&two])).await;
    let alone = delivery(&mut peer).await;
    assert_eq!(alone.data[38..], *b"larger than ten");
    peer.send(&publish("t", "all", &[plain(b"1"), plain(b"2")])).await;
    assert_eq!(peer.frame().await.unwrap().kind, 4, "no message comes");
    peer.send(b"CREDIT 16\n").await;
    peer.expect("OK").await;
    assert_eq!(delivery(&mut peer).await.data[38..], *b"1");
    peer.send(b"CREDIT 0\n").await;
    peer.expect("OK").await;
    assert_eq!(delivery(&mut peer).await.data[38..], *b"2");
    peer.send(b"CLS\nCREDIT 18446744073709551616\nCREDIT -1\n").await;
    peer.expect("CLOSE_WAIT").await;
    peer.expect("OK").await;
    peer.expect("error E_INVALID CREDIT could not parse bytes -1").await;
    peer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_timed_out_takes_no_byte_credit() {
    let server = start().await;
    let mut peer = server.peer().await;
    let asks = r#"{"feature_negotiation":true,"msg_timeout":1000,"libmq":["messages"]}"#;
    let nonce = identify(&mut peer, asks).await["libmq"]["nonce"].as_str().unwrap().to_owned();
    peer.send(format!("UPGRADE {nonce} messages\n").as_bytes()).await;
    peer.expect("OK").await;
    peer.send(&publish("t", "all", &[plain(b"1234"), plain(b"5678")])).await;
    peer.frame().await.unwrap();
    peer.send(b"SUBSCRIBE t c earliest\nCREDIT 4\nRDY 100\n").await;
    peer.expect(r#"{\"created\":true}"#).await;
    peer.expect("OK").await;
    for body in [b"1234", b"5678", b"1234"] {
        assert_eq!(delivery(&mut peer).await.data[38..], *body);
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
async fn tokens_are_one_to_512_and_of_a_subscription() {
    let server = start().await;
    for (line, error) in [
        ("FINISH 1", "cannot FINISH in current state"),
        ("CREDIT 1", "cannot CREDIT in current state"),
        ("CONFIRM", "cannot CONFIRM in current state"),
    ] {
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
