//! AUTH against an auth server on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.
#![allow(unreachable_pub)] // The helper's module is private.

mod asking;
mod auth_server;
#[path = "../common/mod.rs"]
mod common;
mod expiry;
mod extension;
mod log;
mod transcripts;

use std::time::Duration;

use auth_server::{ALL, AuthServer};
use common::{PATIENCE, Peer, Running, start_with, with_body};
use mq_net::clients::Authorized;
use mq_nsq::server::Config;
use tokio::time::timeout;

const SUCCESS: &str = r#"{\"identity\":\"\",\"identity_url\":\"\",\"permission_count\":1}"#;

fn config(servers: &[&AuthServer]) -> Config {
    let auth_http_addresses = servers.iter().map(|server| server.address.clone()).collect();
    Config { auth_http_addresses, ..Config::default() }
}

async fn start(config: Config) -> Running {
    start_with(config, |_| {}, false).await
}

/// Permits `permissions` to topics and channels that match, for ten seconds.
fn answer(topic: &str, channels: &str, permissions: &str) -> String {
    format!(
        r#"{{"ttl":10,"identity":"","identity_url":"","authorizations":[{{"topic":"{topic}","channels":{channels},"permissions":{permissions}}}]}}"#
    )
}

/// A connection that has sent AUTH.
async fn authorizing(server: &Running, secret: &str) -> Peer {
    let mut peer = server.peer().await;
    peer.send(&with_body("AUTH", secret.as_bytes())).await;
    peer
}

async fn authorized(server: &Running) -> Peer {
    let mut peer = authorizing(server, "s").await;
    peer.expect(SUCCESS).await;
    peer
}

/// Lets time pass for deadlines and times to live.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

#[tokio::test]
async fn without_an_auth_server_auth_is_disabled() {
    let server = start(Config::default()).await;
    let mut peer = authorizing(&server, "s").await;
    peer.expect("error E_AUTH_DISABLED AUTH disabled").await;
    peer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn identify_says_whether_auth_must_follow() {
    let auth = AuthServer::start(ALL).await;
    for (config, want) in [(config(&[&auth]), "true"), (Config::default(), "false")] {
        let server = start(config).await;
        let mut peer = server.peer().await;
        peer.send(&with_body("IDENTIFY", br#"{"feature_negotiation":true}"#)).await;
        let reply = peer.frame().await.unwrap().show();
        assert!(reply.contains(&format!(r#"\"auth_required\":{want},"#)), "{reply}");
        server.stop().await;
    }
}

#[tokio::test]
async fn the_identity_is_told_and_kept() {
    let json = r#"{"ttl":1,"identity":"u\n","identity_url":"http://x/?a&b","authorizations":[{},{},{}]}"#;
    let auth = AuthServer::start(json).await;
    let server = start(config(&[&auth])).await;
    let mut peer = server.peer().await;
    until("connected", || server.clients.list().len() == 1).await;
    assert_eq!(server.clients.list()[0].authorized(), None);
    peer.send(&with_body("AUTH", b"s")).await;
    peer.expect(r#"{\"identity\":\"u\\n\",\"identity_url\":\"http://x/?a\\u0026b\",\"permission_count\":3}"#)
        .await;
    let want =
        Authorized { identity: "u\n".into(), identity_url: "http://x/?a&b".into(), permission_count: 3 };
    assert_eq!(server.clients.list()[0].authorized(), Some(want));
    server.stop().await;
}

#[tokio::test]
async fn no_authorizations_are_no_authorization() {
    let auth = AuthServer::start(r#"{"ttl":10,"authorizations":[]}"#).await;
    let server = start(config(&[&auth])).await;
    let mut peer = authorizing(&server, "s").await;
    peer.expect("error E_UNAUTHORIZED AUTH no authorizations found").await;
    peer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn a_server_stops_while_a_question_is_on_its_way() {
    let auth = AuthServer::start(ALL).await;
    auth.hold();
    let server = start(config(&[&auth])).await;
    let mut peer = authorizing(&server, "s").await;
    until("asked", || auth.requests().len() == 1).await;
    server.stop().await;
    peer.expect_end().await;
}
