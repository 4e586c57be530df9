//! The HTTP API.

use mq_nsq::lookupd::LookupConfig;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peers::Peer;
use crate::server::{Broker, IDENTIFY, Response, Server, get, request, until};

const JSON: &str = "content-type: application/json; charset=utf-8";
const TEXT: &str = "content-type: text/plain; charset=utf-8";
const NSQ: &str = "x-nsq-content-type: nsq; version=1.0";

/// Requests in order, and what a real nsqlookupd 1.3.0 answers: status, body.
const REQUESTS: &[(&str, &str, u16, &str)] = &[
    ("GET", "/ping", 200, "OK"),
    ("GET", "/info", 200, r#"{"version":"1.3.0"}"#),
    ("GET", "/topics", 200, r#"{"topics":["t"]}"#),
    ("GET", "/channels", 400, r#"{"message":"MISSING_ARG_TOPIC"}"#),
    ("GET", "/channels?topic=", 200, r#"{"channels":[]}"#),
    ("GET", "/channels?topic=nope", 200, r#"{"channels":[]}"#),
    ("GET", "/channels?topic=t", 200, r#"{"channels":["c"]}"#),
    ("GET", "/lookup", 400, r#"{"message":"MISSING_ARG_TOPIC"}"#),
    ("GET", "/lookup?topic=", 404, r#"{"message":"TOPIC_NOT_FOUND"}"#),
    ("GET", "/lookup?topic=t!", 404, r#"{"message":"TOPIC_NOT_FOUND"}"#),
    ("GET", "/lookup?topic=%zz", 400, r#"{"message":"INVALID_REQUEST"}"#),
    ("GET", "/nope", 404, r#"{"message":"NOT_FOUND"}"#),
    ("GET", "/topic/create?topic=x", 405, r#"{"message":"METHOD_NOT_ALLOWED"}"#),
    ("POST", "/lookup?topic=t", 405, r#"{"message":"METHOD_NOT_ALLOWED"}"#),
    ("POST", "/topic/create", 400, r#"{"message":"MISSING_ARG_TOPIC"}"#),
    ("POST", "/topic/create?topic=bad!", 400, r#"{"message":"INVALID_ARG_TOPIC"}"#),
    ("POST", "/topic/create?topic=made", 200, ""),
    ("GET", "/lookup?topic=made", 200, r#"{"channels":[],"producers":[]}"#),
    ("POST", "/topic/delete", 400, r#"{"message":"MISSING_ARG_TOPIC"}"#),
    ("POST", "/topic/delete?topic=bad!", 200, ""),
    ("POST", "/topic/delete?topic=nope", 200, ""),
    ("POST", "/topic/delete?topic=made", 200, ""),
    ("GET", "/lookup?topic=made", 404, r#"{"message":"TOPIC_NOT_FOUND"}"#),
    ("POST", "/channel/create", 400, r#"{"message":"MISSING_ARG_TOPIC"}"#),
    ("POST", "/channel/create?topic=b!", 400, r#"{"message":"INVALID_ARG_TOPIC"}"#),
    ("POST", "/channel/create?topic=m", 400, r#"{"message":"MISSING_ARG_CHANNEL"}"#),
    ("POST", "/channel/create?topic=m&channel=b!", 400, r#"{"message":"INVALID_ARG_CHANNEL"}"#),
    ("POST", "/channel/create?topic=m&channel=c", 200, ""),
    ("GET", "/channels?topic=m", 200, r#"{"channels":["c"]}"#),
    ("POST", "/channel/delete?topic=m&channel=nope", 404, r#"{"message":"CHANNEL_NOT_FOUND"}"#),
    ("POST", "/channel/delete?topic=nope&channel=c", 404, r#"{"message":"CHANNEL_NOT_FOUND"}"#),
    ("POST", "/channel/delete?topic=m&channel=", 400, r#"{"message":"INVALID_ARG_CHANNEL"}"#),
    ("POST", "/channel/delete?topic=m&channel=c", 200, ""),
    ("GET", "/lookup?topic=m", 200, r#"{"channels":[],"producers":[]}"#),
    ("POST", "/topic/tombstone", 400, r#"{"message":"MISSING_ARG_TOPIC"}"#),
    ("POST", "/topic/tombstone?topic=t", 400, r#"{"message":"MISSING_ARG_NODE"}"#),
    ("POST", "/topic/tombstone?topic=t&node=nobody:1", 200, ""),
    ("POST", "/topic/tombstone?topic=b!&node=b:4151", 200, ""),
    ("POST", "/topic/tombstone?topic=t&node=b:4151", 200, ""),
    ("GET", "/lookup?topic=t", 200, r#"{"channels":["c"],"producers":[]}"#),
    ("OPTIONS", "/lookup", 200, ""),
];

fn headers(method: &str, target: &str, status: u16, body: &str) -> Vec<&'static str> {
    match (method, target, status, body) {
        ("OPTIONS", ..) => vec!["allow: get, options"],
        (_, "/ping", ..) => vec![TEXT],
        ("GET", _, 405, _) => vec!["allow: options, post", JSON, NSQ],
        ("POST", _, 405, _) => vec!["allow: get, options", JSON, NSQ],
        (_, _, _, "") => vec![NSQ],
        _ => vec![JSON, NSQ],
    }
}

async fn check(tcp: &str, http: &str) {
    let mut broker = Broker::connect(tcp, IDENTIFY).await;
    broker.ok("REGISTER t c").await;
    for (method, target, status, body) in REQUESTS {
        let response = request(http, method, target).await;
        let headers = headers(method, target, *status, body).into_iter().map(str::to_owned).collect();
        assert_eq!(response, Response { status: *status, headers, body: (*body).to_owned() }, "{target}");
    }
}

#[tokio::test]
async fn every_request_is_answered_as_by_nsqlookupd() {
    let server = Server::start().await;
    check(&server.tcp, &server.http).await;
}

#[tokio::test]
async fn a_real_nsqlookupd_answers_the_same() {
    let Some(peer) = Peer::nsqlookupd() else { return };
    check(&peer.tcp, &peer.http).await;
}

/// A list in an answer, sorted: nsqlookupd's have no order.
async fn listed(http: &str, target: &str, field: &str) -> String {
    let answer: serde_json::Value = serde_json::from_str(&get(http, target).await).unwrap();
    let mut names: Vec<_> =
        answer[field].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    names.sort_unstable();
    names.join(" ")
}

/// The answers about names that their last broker deleted.
async fn check_deleted(tcp: &str, http: &str) {
    let mut broker = Broker::connect(tcp, IDENTIFY).await;
    for channel in ["c", "d", "e#ephemeral"] {
        broker.ok(&format!("REGISTER t {channel}")).await;
    }
    broker.ok("UNREGISTER t c").await;
    broker.ok("UNREGISTER t e#ephemeral").await;
    assert_eq!(listed(http, "/channels?topic=t", "channels").await, "c d");
    broker.ok("UNREGISTER t").await;
    assert_eq!(listed(http, "/topics", "topics").await, "t");
    assert_eq!(listed(http, "/channels?topic=t", "channels").await, "c d");
    assert_eq!(listed(http, "/lookup?topic=t", "channels").await, "c d");
    assert_eq!(listed(http, "/lookup?topic=t", "producers").await, "");
    assert!(!get(http, "/debug").await.contains("topic:t"), "it has no producer");
    broker.ok("REGISTER t").await;
    assert_eq!(listed(http, "/channels?topic=t", "channels").await, "c d");
    assert_eq!(request(http, "POST", "/channel/delete?topic=t&channel=c").await.status, 200);
    assert_eq!(listed(http, "/channels?topic=t", "channels").await, "d");
    broker.ok("UNREGISTER t").await;
    assert_eq!(request(http, "POST", "/topic/delete?topic=t").await.status, 200);
    assert_eq!(request(http, "GET", "/lookup?topic=t").await.status, 404);
    assert_eq!(listed(http, "/topics", "topics").await, "");
}

#[tokio::test]
async fn deleted_names_are_listed_until_an_administrator_deletes_them() {
    let server = Server::start().await;
    check_deleted(&server.tcp, &server.http).await;
}

#[tokio::test]
async fn a_real_nsqlookupd_lists_deleted_names_alike() {
    let Some(peer) = Peer::nsqlookupd() else { return };
    check_deleted(&peer.tcp, &peer.http).await;
}

#[tokio::test]
async fn brokers_can_ask_for_the_channels_that_exist() {
    let server = Server::start().await;
    let mut broker = Broker::connect(&server.tcp, IDENTIFY).await;
    broker.ok("REGISTER t c").await;
    broker.ok("REGISTER t d").await;
    broker.ok("UNREGISTER t c").await;
    assert_eq!(listed(&server.http, "/channels?topic=t&existing=true", "channels").await, "d");
    assert_eq!(listed(&server.http, "/channels?topic=t&existing=false", "channels").await, "c d");
}

#[tokio::test]
async fn producers_are_shown_field_for_field() {
    let server = Server::start().await;
    let mut broker = Broker::connect(&server.tcp, IDENTIFY).await;
    broker.ok("REGISTER t c").await;
    broker.ok("REGISTER u").await;
    let from = broker.0.local_addr().unwrap();
    let fields = format!(
        concat!(
            r#""remote_address":"{}","hostname":"h","broadcast_address":"b","tcp_port":4150,"http_port":4151,"#,
            r#""version":"1.3.0","topology_zone":"z","topology_region":"r""#
        ),
        from
    );
    let lookup = get(&server.http, "/lookup?topic=t").await;
    assert_eq!(lookup, format!(r#"{{"channels":["c"],"producers":[{{{fields}}}]}}"#));
    assert_eq!(request(&server.http, "POST", "/topic/tombstone?topic=u&node=b:4151").await.status, 200);
    let nodes = get(&server.http, "/nodes").await;
    let rest = r#""tombstones":[false,true],"topics":["t","u"]"#;
    assert_eq!(nodes, format!(r#"{{"producers":[{{{fields},{rest}}}]}}"#));

    let debug = get(&server.http, "/debug").await;
    let debug: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&debug).unwrap();
    let keys: Vec<_> = debug.keys().map(String::as_str).collect();
    assert_eq!(keys, ["channel:t:c", "client::", "topic:t:", "topic:u:"]);
    let known = &debug["topic:u:"][0];
    assert_eq!(known["id"], from.to_string());
    assert_eq!(known["tombstoned"], true);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    for time in ["last_update", "tombstoned_at"] {
        let time = Duration::from_nanos(known[time].as_u64().unwrap());
        assert!(now >= time && now - time < Duration::from_secs(60), "{time:?}");
    }
    assert_eq!(debug["topic:t:"][0]["tombstoned"], false);
    let metrics = get(&server.http, "/metrics").await;
    for line in [
        "mq_lookup_producers 1",
        "mq_lookup_keys 3",
        "mq_lookup_registrations 3",
        "mq_lookup_lookups_total 1",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn a_raw_hash_is_part_of_a_name() {
    let server = Server::start().await;
    let mut broker = Broker::connect(&server.tcp, IDENTIFY).await;
    broker.ok("REGISTER t#ephemeral c#ephemeral").await;
    broker.ok("REGISTER t c").await;
    let found = get(&server.http, "/lookup?topic=t#ephemeral").await;
    assert!(found.starts_with(r#"{"channels":["c#ephemeral"]"#), "{found}");
    assert_eq!(get(&server.http, "/channels?topic=t#ephemeral").await, r##"{"channels":["c#ephemeral"]}"##);
}

#[tokio::test]
async fn a_page_of_another_site_is_refused() {
    let config =
        LookupConfig { http_allowed_hosts: vec!["allowed.example".into()], ..LookupConfig::default() };
    let server = Server::start_with(config).await;
    for (line, headers, status) in [
        ("GET /lookup?topic=t", "Host: localhost", "404"),
        ("GET /topics", "Host: allowed.example:4161", "200"),
        ("GET /topics", "Host: here", "200"),
        ("GET /topics", "Host: evil.example", "403"),
        ("POST /topic/create?topic=t", "Host: localhost\r\nOrigin: http://evil.example", "403"),
        ("POST /topic/delete?topic=t", "Host: localhost\r\nSec-Fetch-Site: cross-site", "403"),
        ("GET /topics", "Host: localhost", "200"),
    ] {
        let mut stream = TcpStream::connect(&server.http).await.unwrap();
        let request = format!("{line} HTTP/1.1\r\n{headers}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{line} {headers}: {answer}");
    }
    assert_eq!(get(&server.http, "/topics").await, r#"{"topics":[]}"#);
}

#[tokio::test]
async fn a_star_is_no_wildcard() {
    let server = Server::start().await;
    let mut broker = Broker::connect(&server.tcp, IDENTIFY).await;
    broker.ok("REGISTER t c").await;
    assert_eq!(request(&server.http, "POST", "/topic/delete?topic=*").await.status, 200);
    assert_eq!(request(&server.http, "GET", "/lookup?topic=*").await.status, 404);
    assert_eq!(get(&server.http, "/channels?topic=*").await, r#"{"channels":[]}"#);
    assert_eq!(get(&server.http, "/topics").await, r#"{"topics":["t"]}"#);
}

#[tokio::test]
async fn an_ipv6_node_is_named_with_or_without_brackets() {
    let server = Server::start().await;
    let mut broker = Broker::connect(&server.tcp, &IDENTIFY.replace("\"b\"", "\"::1\"")).await;
    for (topic, node) in [("t", "::1:4151"), ("u", "%5B::1%5D:4151")] {
        broker.ok(&format!("REGISTER {topic}")).await;
        let target = format!("/topic/tombstone?topic={topic}&node={node}");
        assert_eq!(request(&server.http, "POST", &target).await.status, 200);
        let lookup = get(&server.http, &format!("/lookup?topic={topic}")).await;
        assert_eq!(lookup, r#"{"channels":[],"producers":[]}"#);
    }
}

#[tokio::test]
async fn a_disconnect_leaves_names_behind_and_a_tombstone_ends() {
    let config = LookupConfig { tombstone_lifetime: Duration::from_millis(50), ..LookupConfig::default() };
    let server = Server::start_with(config).await;
    let mut broker = Broker::connect(&server.tcp, IDENTIFY).await;
    broker.ok("REGISTER t c").await;
    broker.ok("REGISTER t e#ephemeral").await;
    assert_eq!(request(&server.http, "POST", "/topic/tombstone?topic=t&node=b:4151").await.status, 200);
    until(&server.http, "/lookup?topic=t", |body| body.contains(r#""hostname":"h""#)).await;
    drop(broker);
    let gone = r#"{"channels":["c"],"producers":[]}"#;
    until(&server.http, "/lookup?topic=t", |body| body == gone).await;
}
