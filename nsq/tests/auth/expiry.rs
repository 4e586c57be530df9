//! Permissions that expire, and what happens until they are known again.

use std::time::Duration;

use crate::auth_server::AuthServer;
use crate::common::{mpub, with_body};
use crate::{SUCCESS, answer, authorized, config, pass, start, until};

#[tokio::test]
async fn after_its_time_to_live_an_answer_is_asked_for_again() {
    let both = answer("^t$", r#"["^$"]"#, r#"["publish"]"#);
    let auth = AuthServer::start(&both).await;
    let server = start(config(&[&auth])).await;
    let mut peer = authorized(&server).await;
    peer.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":-1}"#)).await;
    peer.expect("OK").await;
    for _ in 0..100 {
        peer.send(&with_body("PUB t", b"x")).await;
        peer.expect("OK").await;
    }
    assert_eq!(auth.requests().len(), 1);
    for (i, burst) in [
        [with_body("PUB t", b"1"), with_body("DPUB t 0", b"2"), mpub("t", &[b"3"])].concat(),
        [mpub("t", &[b"1"]), with_body("PUB t", b"2"), with_body("PUB t", b"3")].concat(),
        [with_body("DPUB t 0", b"1"), with_body("PUB t", b"2"), mpub("t", &[b"3"])].concat(),
    ]
    .into_iter()
    .enumerate()
    {
        pass(Duration::from_secs(11)).await;
        peer.send(&burst).await;
        for _ in 0..3 {
            peer.expect("OK").await;
        }
        assert_eq!(auth.requests().len(), i + 2);
    }
    assert!(auth.requests().windows(2).all(|pair| pair[0] == pair[1]), "the secret is the same");
    let topic = server.broker.find_topic(&mq_core::TopicName::parse("t").unwrap()).unwrap();
    assert_eq!(topic.depth(), 109);
    server.stop().await;
}

#[tokio::test]
async fn what_is_revoked_fails_after_the_time_to_live_and_a_subscription_goes_on() {
    let all = answer(".*", r#"[".*"]"#, r#"["publish","subscribe"]"#);
    let auth = AuthServer::start(&all).await;
    let server = start(config(&[&auth])).await;
    let mut consumer = authorized(&server).await;
    consumer.send(b"SUB t c\nRDY 5\n").await;
    consumer.expect("OK").await;
    let mut producers = Vec::new();
    for _ in 0..2 {
        let mut producer = authorized(&server).await;
        producer.send(&with_body("PUB t", b"before")).await;
        producer.expect("OK").await;
        let message = consumer.expect("message 1 before").await;
        consumer.send(format!("FIN {}\n", message.id()).as_bytes()).await;
        producers.push(producer);
    }
    let mut other = authorized(&server).await;

    auth.answer(&answer(".*", r#"[".+"]"#, r#"["publish","subscribe"]"#));
    pass(Duration::from_secs(11)).await;
    producers[0].send(&[with_body("PUB t", b"x"), with_body("PUB t", b"y")].concat()).await;
    producers[0].expect("error E_UNAUTHORIZED AUTH failed for PUB on \\\"t\\\" \\\"\\\"").await;
    producers[0].expect_end().await;
    // May be published to by none, and yet be subscribed to.
    other.send(b"SUB t c\n").await;
    other.expect("OK").await;

    auth.answer_raw("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
    producers[1].send(&mpub("t", &[b"x"])).await;
    producers[1].expect("error E_AUTH_FAILED AUTH failed").await;
    producers[1].expect_end().await;

    let asked = auth.requests().len();
    server.broker.find_topic(&mq_core::TopicName::parse("t").unwrap()).unwrap();
    consumer.send(b"RDY 0\nRDY 1\nNOP\n").await;
    auth.answer(&all);
    let mut producer = authorized(&server).await;
    producer.send(&with_body("PUB t", b"after")).await;
    producer.expect("OK").await;
    consumer.expect("message 1 after").await;
    assert_eq!(auth.requests().len(), asked + 1, "FIN, RDY and deliveries ask nobody");
    server.stop().await;
}

#[tokio::test]
async fn answers_keep_their_order_and_deliveries_go_on_while_the_auth_server_thinks() {
    let all = answer(".*", r#"[".*"]"#, r#"["publish","subscribe"]"#);
    let auth = AuthServer::start(&all).await;
    let server = start(config(&[&auth])).await;

    // A burst behind AUTH waits for it.
    auth.hold();
    let mut both = server.peer().await;
    let burst = [
        with_body("IDENTIFY", b"{}"),
        with_body("AUTH", b"s"),
        with_body("PUB t", b"one"),
        b"SUB t c\nRDY 5\n".to_vec(),
    ];
    both.send(&burst.concat()).await;
    both.expect("OK").await;
    until("asked", || auth.requests().len() == 1).await;
    auth.release();
    both.expect(SUCCESS).await;
    both.expect("OK").await;
    both.expect("OK").await;
    let message = both.expect("message 1 one").await;

    // Expired: the publish waits, what others publish is delivered meanwhile, the rest of the burst comes
    // after.
    let mut other = authorized(&server).await;
    pass(Duration::from_secs(9)).await;
    let mut fresh = authorized(&server).await;
    pass(Duration::from_secs(2)).await;
    auth.hold();
    let burst =
        [with_body("PUB t", b"late"), format!("FIN {}\n", message.id()).into(), mpub("t", &[b"later"])]
            .concat();
    both.send(&burst).await;
    until("asked again", || auth.requests().len() == 4).await;
    for i in 0..3 {
        fresh.send(&with_body("PUB t", format!("{i}").as_bytes())).await;
        fresh.expect("OK").await;
        both.expect(&format!("message 1 {i}")).await;
    }
    // One that leaves meanwhile harms nobody.
    other.send(&with_body("PUB elsewhere", b"x")).await;
    until("asked for the third", || auth.requests().len() == 5).await;
    drop(other);
    auth.release();
    let mut frames = Vec::new();
    for _ in 0..4 {
        frames.push(both.frame().await.unwrap().show());
    }
    frames.sort();
    assert_eq!(frames, ["OK", "OK", "message 1 late", "message 1 later"]);
    server.stop().await;
}

#[tokio::test]
async fn a_batch_is_allowed_when_its_line_comes() {
    let auth = AuthServer::start(&answer(".*", r#"[".*"]"#, r#"["publish"]"#)).await;
    let server = start(config(&[&auth])).await;
    let mut peer = authorized(&server).await;
    let batch = mpub("t", &[b"abc", b"def"]);
    peer.send(&batch[..12]).await;
    // What came before another's AUTH is taken in when that is answered.
    authorized(&server).await;
    // The body takes longer than the permission lasts.
    pass(Duration::from_secs(11)).await;
    peer.send(&batch[12..]).await;
    peer.expect("OK").await;
    assert_eq!(auth.requests().len(), 2);
    for piece in batch.chunks(3) {
        peer.send(piece).await;
    }
    peer.expect("OK").await;
    assert_eq!(auth.requests().len(), 3);
    server.stop().await;
}
