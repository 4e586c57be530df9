//! The commands of libmq's extension, where clients have to AUTH.

use crate::auth_server::AuthServer;
use crate::common::with_body;
use crate::{answer, config, start};
use mq_nsq::wire::extension::{Run, Runs, put_record};

fn publish(topic: &str) -> Vec<u8> {
    let mut record = Vec::new();
    put_record(&mut record, std::time::Duration::ZERO, None, std::iter::empty(), b"x");
    with_body(&format!("PUBLISH {topic} all"), &record)
}

#[tokio::test]
async fn a_publish_without_the_right_is_refused_by_itself_and_a_subscription_ends_the_connection() {
    let auth = AuthServer::start(&answer("mine", r#"[".*"]"#, r#"["publish"]"#)).await;
    let server = start(config(&[&auth])).await;
    let mut peer = server.peer().await;
    peer.send(&with_body("IDENTIFY", br#"{"feature_negotiation":true,"libmq":["messages"]}"#)).await;
    let reply: serde_json::Value = serde_json::from_slice(&peer.frame().await.unwrap().data).unwrap();
    let nonce = reply["libmq"]["nonce"].as_str().unwrap();
    peer.send(&with_body("AUTH", b"s")).await;
    assert_eq!(peer.frame().await.unwrap().kind, 0);
    peer.send(format!("UPGRADE {nonce} messages\n").as_bytes()).await;
    peer.expect("OK").await;

    peer.send(&publish("others")).await;
    let results = peer.frame().await.unwrap();
    let why: &[u8] = b"E_UNAUTHORIZED AUTH failed for PUBLISH on \"others\" \"\"";
    let runs: Vec<_> = Runs::new(&results.data).map(Result::unwrap).collect();
    assert_eq!(runs, [Run::Refused { count: 1, retry: false, why }]);
    peer.send(&publish("mine")).await;
    let results = peer.frame().await.unwrap();
    assert!(matches!(Runs::new(&results.data).next(), Some(Ok(Run::Stored { count: 1, .. }))));

    peer.send(b"SUBSCRIBE mine c earliest\n").await;
    peer.expect("error E_UNAUTHORIZED AUTH failed for SUBSCRIBE on \\\"mine\\\" \\\"c\\\"").await;
    peer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn before_auth_the_extension_publishes_nothing() {
    let auth = AuthServer::start(&answer(".*", r#"[".*"]"#, r#"["publish"]"#)).await;
    let server = start(config(&[&auth])).await;
    let mut peer = server.peer().await;
    peer.send(&with_body("IDENTIFY", br#"{"feature_negotiation":true,"libmq":["messages"]}"#)).await;
    let reply: serde_json::Value = serde_json::from_slice(&peer.frame().await.unwrap().data).unwrap();
    let nonce = reply["libmq"]["nonce"].as_str().unwrap();
    peer.send(format!("UPGRADE {nonce} messages\n").as_bytes()).await;
    peer.expect("OK").await;
    peer.send(&publish("mine")).await;
    peer.expect("error E_AUTH_FIRST AUTH required before PUBLISH").await;
    peer.expect_end().await;
    server.stop().await;
}
