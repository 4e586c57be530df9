//! Rights of the API's callers: tokens, auth servers, TLS.

use std::path::PathBuf;

use mq_core::{Broker, Options, TopicName, testkit};
use mq_nsq::server::{Config, TlsRequired};
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::auth_server::AuthServer;
use crate::common::stack::Certificates;
use crate::common::{Running, options, serve, start_with};
use crate::{Reply, ask, ask_with, request, start, until};

/// Every endpoint that is no publish, and one path that is none.
const PATHS: [&str; 8] = [
    "GET /info",
    "GET /stats",
    "GET /metrics",
    "POST /pub?topic=t",
    "POST /topic/delete?topic=t",
    "GET /config/log_level",
    "GET /debug/pprof/",
    "GET /none",
];

async fn bearer(server: &Running, line: &str, token: &str) -> u16 {
    ask_with(server, line, &format!("Authorization: Bearer {token}\r\n"), b"body").await.status
}

#[tokio::test]
async fn a_token_is_asked_for_everywhere_but_at_ping() {
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("tokens");
    std::fs::write(&file, "first\nsecond\n").unwrap();
    let config = Config { http_auth_token_file: Some(file.clone()), ..Config::default() };
    let server = start(config).await;
    for line in PATHS {
        let reply = ask(&server, line).await;
        assert_eq!((reply.status, reply.text()), (401, r#"{"message":"UNAUTHORIZED"}"#), "{line}");
        assert!(reply.headers.iter().any(|line| line == "www-authenticate: bearer"), "{reply:?}");
        assert_eq!(bearer(&server, line, "wrong").await, 401, "{line}");
        assert_ne!(bearer(&server, line, "second").await, 401, "{line}");
    }
    assert_eq!(ask(&server, "GET /ping").await.status, 200);
    assert_eq!(ask_with(&server, "GET /info", "Authorization: Basic Zmlyc3Q=\r\n", b"").await.status, 401);
    std::fs::write(&file, "third\n").unwrap();
    server.tokens.as_ref().unwrap().reload().unwrap();
    assert_eq!(bearer(&server, "GET /info", "first").await, 401);
    assert_eq!(bearer(&server, "GET /info", "third").await, 200);
}

#[tokio::test]
async fn auth_servers_say_what_a_secret_may_do() {
    let auth = AuthServer::start(
        r#"{"ttl":3600,"authorizations":[
            {"topic":"^mine$","channels":[".*"],"permissions":["publish","subscribe"]},
            {"topic":"^read$","channels":["^c$"],"permissions":["subscribe"]}]}"#,
    )
    .await;
    let config = Config { auth_http_addresses: vec![auth.address.clone()], ..Config::default() };
    let server = start(config).await;
    for line in PATHS {
        assert_eq!(ask(&server, line).await.status, 401, "{line}");
    }
    for (line, status) in [
        ("POST /pub?topic=mine", 200),
        ("POST /mpub?topic=mine", 200),
        ("POST /topic/create?topic=mine", 200),
        ("POST /channel/create?topic=mine&channel=c", 200),
        ("POST /topic/pause?topic=mine", 200),
        ("GET /topic/config?topic=mine", 200),
        ("POST /pub?topic=read", 403),
        ("POST /topic/create?topic=other", 403),
        ("PUT /config/log_level", 403),
        ("GET /info", 200),
        ("GET /metrics", 200),
        ("GET /none", 404),
    ] {
        assert_eq!(bearer(&server, line, "hush").await, status, "{line}");
    }
    for name in ["read", "other"] {
        server.broker.topic(&TopicName::parse(name).unwrap()).unwrap();
    }
    for (line, status) in [
        ("POST /channel/create?topic=read&channel=c", 200),
        ("POST /channel/create?topic=read&channel=d", 403),
        ("POST /topic/delete?topic=read", 403),
        ("POST /channel/delete?topic=read&channel=c", 200),
        ("GET /topic/config?topic=other", 403),
    ] {
        assert_eq!(bearer(&server, line, "hush").await, status, "{line}");
    }
    // Dead letters are published: only to where it may publish.
    let header = "Authorization: Bearer hush\r\n";
    for (dead, status) in [("other", 403), ("mine", 400), ("read", 403)] {
        let body = format!("{{\"max_attempts\":1,\"dead_letter_topic\":\"{dead}\"}}");
        let line = "PUT /channel/config?topic=mine&channel=c";
        assert_eq!(ask_with(&server, line, header, body.as_bytes()).await.status, status, "to {dead}");
    }
    // Of what it has no part in, it sees nothing.
    let header = "Authorization: Bearer hush\r\n";
    let stats = ask_with(&server, "GET /stats?format=json", header, b"").await.json();
    let names: Vec<_> =
        stats["topics"].as_array().unwrap().iter().map(|topic| topic["topic_name"].clone()).collect();
    assert_eq!(names, ["mine", "read"]);
    let metrics = ask_with(&server, "GET /metrics", header, b"").await;
    assert!(metrics.text().contains("\"mine\"") && !metrics.text().contains("\"other\""));
    assert_eq!(auth.requests().len(), 1, "the answer is kept");
    assert_eq!(ask(&server, "GET /ping").await.status, 200);
    auth.answer(r#"{"ttl":1,"authorizations":[]}"#);
    assert_eq!(bearer(&server, "GET /info", "nobody").await, 403);
    auth.answer("nonsense");
    assert_eq!(bearer(&server, "GET /info", "stranger").await, 401);
}

#[tokio::test]
async fn where_tls_is_required_plain_http_is_refused() {
    let certificates = Certificates::new();
    let options = mq_nsq::server::TlsOptions { required: TlsRequired::True, ..certificates.options() };
    let config = Config {
        tls: Some(options.clone()),
        http_address: Some("127.0.0.1:0".to_owned()),
        https_address: Some("127.0.0.1:0".to_owned()),
        ..Config::default()
    };
    let server = start_with(config.clone(), |_| {}, false).await;
    let https = server.https.clone().unwrap();
    let port = https.rsplit_once(':').unwrap().1;
    for line in ["GET /ping", "GET /none", "POST /pub?topic=t"] {
        let reply = ask(&server, line).await;
        let want = format!("{{\"message\": \"TLS_REQUIRED\", \"https_port\": {port}}}");
        assert_eq!((reply.status, reply.text()), (403, want.as_str()), "{line}");
    }
    let reply = ask_https(&certificates, &https, "POST /pub?topic=t", b"body").await;
    assert_eq!((reply.status, reply.text()), (200, "OK"));
    // No handshake, no answer; and the port goes on.
    let mut plain = TcpStream::connect(&https).await.unwrap();
    plain.write_all(b"GET /ping HTTP/1.1\r\n\r\n").await.unwrap();
    drop(plain);
    assert_eq!(ask_https(&certificates, &https, "GET /ping", b"").await.text(), "OK");
    let open = mq_nsq::server::TlsOptions { required: TlsRequired::TcpHttps, ..options };
    let server = start_with(Config { tls: Some(open), ..config }, |_| {}, false).await;
    assert_eq!(ask(&server, "GET /ping").await.text(), "OK");
}

async fn ask_https(certificates: &Certificates, address: &str, line: &str, body: &[u8]) -> Reply {
    let socket = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let mut stream = certificates.plain_connector().connect(name, socket).await.unwrap();
    stream.write_all(&request(line, "", body)).await.unwrap();
    Reply::read(&mut stream).await
}

#[tokio::test]
async fn what_is_wrong_with_an_address_is_named() {
    let taken = start(Config::default()).await;
    let folder = tempfile::tempdir().unwrap();
    let bind = async |config: Config| {
        let broker =
            Broker::open(Options { data_path: folder.path().join("data"), ..Options::default() }).unwrap();
        let config = Config { tcp_address: "127.0.0.1:0".to_owned(), ..config };
        let error = mq_nsq::server::Server::bind(config, broker.clone()).await.err().unwrap();
        broker.close().unwrap();
        error.to_string()
    };
    let http = taken.http.clone();
    let error = bind(Config { http_address: http.clone(), ..Config::default() }).await;
    assert!(error.contains("http-address") && error.contains(&http.unwrap()), "{error}");
    let missing = Some(folder.path().join("no-tokens"));
    let error = bind(Config { http_auth_token_file: missing, ..Config::default() }).await;
    assert!(error.contains("http-auth-token-file") && error.contains("no-tokens"), "{error}");
}

/// The right that a route asks for.
enum Right {
    /// None.
    Anyone,
    /// A secret that is known; of topics a caller has no part in nothing is shown.
    Known,
    /// The right to publish to the topic.
    Topic,
    /// Any right to the topic.
    Sight,
    /// The right to consume the channel.
    Channel,
    /// The right to read the topic's messages without consuming them.
    Peek,
    /// The right to drop and requeue single messages.
    Messages,
    /// The right to manage the broker, which no auth server gives.
    Broker,
}

/// Every route there is. A new one has to be added here.
const RIGHTS: &[(&str, Right)] = &[
    ("GET /ping", Right::Anyone),
    ("GET /info", Right::Known),
    ("GET /stats", Right::Known),
    ("GET /metrics", Right::Known),
    ("GET /history", Right::Sight),
    ("GET /peek", Right::Peek),
    ("POST /pub", Right::Topic),
    ("POST /mpub", Right::Topic),
    ("POST /topic/create", Right::Topic),
    ("POST /topic/pause", Right::Topic),
    ("POST /topic/unpause", Right::Topic),
    ("GET /topic/config", Right::Sight),
    ("PUT /topic/config", Right::Topic),
    ("POST /channel/create", Right::Channel),
    ("POST /channel/pause", Right::Channel),
    ("POST /channel/unpause", Right::Channel),
    ("GET /channel/config", Right::Sight),
    ("PUT /channel/config", Right::Channel),
    ("POST /message/drop", Right::Messages),
    ("POST /message/requeue", Right::Messages),
    ("POST /channel/empty", Right::Channel),
    ("POST /channel/delete", Right::Channel),
    ("POST /topic/empty", Right::Topic),
    ("POST /topic/delete", Right::Topic),
    ("GET /config/{option}", Right::Known),
    ("PUT /config/{option}", Right::Broker),
    ("GET /drain", Right::Broker),
    ("POST /drain", Right::Broker),
    ("GET /debug/pprof/", Right::Known),
    ("GET /debug/pprof/{profile}", Right::Known),
    ("POST /debug/pprof/{profile}", Right::Known),
    ("PUT /debug/setblockrate", Right::Known),
    ("POST /debug/freememory", Right::Known),
];

#[tokio::test]
async fn every_route_asks_for_its_right() {
    let document: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/openapi.json")).unwrap();
    let mut routes: Vec<String> = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        routes.extend(methods.as_object().unwrap().keys().map(|m| format!("{} {path}", m.to_uppercase())));
    }
    let mut listed: Vec<_> = RIGHTS.iter().map(|(route, _)| (*route).to_owned()).collect();
    routes.sort();
    listed.sort();
    assert_eq!(listed, routes, "docs/openapi.json has every route");

    let auth = AuthServer::start(
        r#"{"ttl":3600,"authorizations":[
            {"topic":"^mine$","channels":[".*"],"permissions":["publish","subscribe"]}]}"#,
    )
    .await;
    let folder = tempfile::tempdir().unwrap();
    let file: PathBuf = folder.path().join("tokens");
    std::fs::write(&file, "master\n").unwrap();
    let config = Config {
        auth_http_addresses: vec![auth.address.clone()],
        http_auth_token_file: Some(file),
        ..Config::default()
    };
    let server = start(config).await;
    let ask = async |line: &str, secret: &str| {
        let headers = match secret {
            "" => String::new(),
            secret => format!("Authorization: Bearer {secret}\r\n"),
        };
        let is_config = line.starts_with("PUT /topic/config") || line.starts_with("PUT /channel/config");
        let body: &[u8] = if is_config { b"{}" } else { b"body" };
        ask_with(&server, line, &headers, body).await.status
    };
    for topic in ["mine", "other"] {
        for line in ["/topic/create", "/channel/create"] {
            assert_eq!(ask(&format!("POST {line}?topic={topic}&channel=c"), "master").await, 200);
        }
    }
    let line = |route: &str, topic: &str| {
        let path = route.replace("{option}", "log_level").replace("{profile}", "heap");
        format!("{path}?topic={topic}&channel=c")
    };
    let answer = |status: u16| if matches!(status, 401 | 403) { status } else { 200 };
    for (route, right) in RIGHTS {
        let (other, mine) = (line(route, "other"), line(route, "mine"));
        let (stranger, another, own) = match right {
            Right::Anyone => (200, 200, 200),
            Right::Known => (401, 200, 200),
            Right::Topic | Right::Sight | Right::Channel => (401, 403, 200),
            // The grant has no such permission.
            Right::Peek | Right::Messages | Right::Broker => (401, 403, 403),
        };
        assert_eq!(answer(ask(&other, "").await), stranger, "{route} without a secret");
        auth.answer("{}");
        assert_eq!(answer(ask(&other, "wrong").await), stranger, "{route} with a wrong secret");
        auth.answer(
            r#"{"ttl":3600,"authorizations":[
                {"topic":"^mine$","channels":[".*"],"permissions":["publish","subscribe"]}]}"#,
        );
        assert_eq!(answer(ask(&other, "hush").await), another, "{route} with another's secret");
        assert_eq!(answer(ask(&mine, "hush").await), own, "{route} with a secret for it");
    }
    let other = server.broker.find_topic(&TopicName::parse("other").unwrap()).unwrap();
    assert_eq!(
        (other.is_paused(), other.depth(), other.channels().len()),
        (false, 0, 1),
        "nobody touched it"
    );
    // The token of the file opens everything; what ends the broker comes last.
    assert_eq!(answer(ask("PUT /config/log_level", "master").await), 200);
    assert_eq!(ask("POST /drain?timeout=1", "master").await, 200);
}

#[tokio::test]
async fn the_history_of_all_topics_leaves_out_those_of_others() {
    let auth = AuthServer::start(
        r#"{"ttl":3600,"authorizations":[{"topic":"^t$","channels":[".*"],"permissions":["subscribe"]}]}"#,
    )
    .await;
    // Messages of both wait before the first reading, which a start makes at once.
    let folder = TempDir::new().unwrap();
    let broker = Broker::open(options(&folder)).unwrap();
    for name in ["other", "t"] {
        let topic = broker.topic(&TopicName::parse(name).unwrap()).unwrap();
        let _ = testkit::publish(&broker, &topic, &["x"]).unwrap();
    }
    let config = Config {
        auth_http_addresses: vec![auth.address.clone()],
        http_address: Some("127.0.0.1:0".to_owned()),
        ..Config::default()
    };
    let server = serve(broker, folder, config, false).await;
    let mut topics = Vec::new();
    until("the first reading", async || {
        let history = ask_with(&server, "GET /history", "Authorization: Bearer hush\r\n", b"").await.json();
        topics = history["series"].as_array().unwrap().iter().map(|one| one["topic"].clone()).collect();
        !topics.is_empty()
    })
    .await;
    assert_eq!(topics, ["t"]);
}

#[tokio::test]
async fn to_peek_is_a_right_of_its_own() {
    let grant = |permissions: &str| {
        format!(
            r#"{{"ttl":1,"authorizations":[{{"topic":"^t$","channels":[".*"],"permissions":[{permissions}]}}]}}"#
        )
    };
    let auth = AuthServer::start(&grant(r#""publish","subscribe""#)).await;
    let config = Config { auth_http_addresses: vec![auth.address.clone()], ..Config::default() };
    let server = start(config).await;
    assert_eq!(bearer(&server, "POST /pub?topic=t", "all-but-peek").await, 200);
    assert_eq!(bearer(&server, "GET /peek?topic=t", "all-but-peek").await, 403);
    auth.answer(&grant(r#""peek""#));
    assert_eq!(bearer(&server, "POST /pub?topic=t", "peek-alone").await, 403);
    let header = "Authorization: Bearer peek-alone\r\n";
    let peeked = ask_with(&server, "GET /peek?topic=t", header, b"").await;
    assert_eq!(peeked.status, 200);
    let messages = peeked.json()["messages"].clone();
    assert_eq!((messages.as_array().unwrap().len(), &messages[0]["attempts"]), (1, &serde_json::json!(0)));
    for (line, status) in [
        ("GET /peek?topic=none", 404),
        ("GET /peek?topic=t&channel=none", 404),
        ("GET /peek?topic=t&channel=a%20b", 400),
        ("GET /peek?topic=t&from=1", 400),
        ("GET /peek?topic=t&max=1001", 400),
        ("GET /peek", 400),
        ("GET /history?span=1y", 400),
        ("GET /history?channel=c", 400),
        ("GET /history?topic=other", 403),
        ("GET /history?topic=t&span=10m", 200),
    ] {
        assert_eq!(bearer(&server, line, "peek-alone").await, status, "{line}");
    }
}

#[tokio::test]
async fn to_drop_and_requeue_single_messages_is_a_right_of_its_own() {
    let grant = |permissions: &str| {
        format!(
            r#"{{"ttl":60,"authorizations":[{{"topic":"^t$","channels":[".*"],"permissions":[{permissions}]}}]}}"#
        )
    };
    let auth = AuthServer::start(&grant(r#""publish","subscribe","peek""#)).await;
    let config = Config { auth_http_addresses: vec![auth.address.clone()], ..Config::default() };
    let server = start(config).await;
    assert_eq!(bearer(&server, "POST /topic/create?topic=t", "all-but-manage").await, 200);
    assert_eq!(bearer(&server, "POST /channel/create?topic=t&channel=c", "all-but-manage").await, 200);
    assert_eq!(bearer(&server, "POST /mpub?topic=t", "all-but-manage").await, 200);
    let header = "Authorization: Bearer all-but-manage\r\n";
    let peeked = ask_with(&server, "GET /peek?topic=t&channel=c", header, b"").await.json();
    let id = peeked["messages"][0]["id"].as_str().unwrap().to_owned();
    for action in ["drop", "requeue"] {
        let line = |rest: &str| format!("POST /message/{action}?topic=t&channel={rest}");
        assert_eq!(bearer(&server, &line(&format!("c&id={id}")), "all-but-manage").await, 403, "{action}");
        auth.answer(&grant(r#""manage""#));
        for (rest, status) in [
            ("c", 400),
            ("c&id=", 400),
            ("c&id=1", 400),
            ("c&id=zzzzzzzzzzzzzzzz", 400),
            ("c&id=0000000000000001", 404),
            ("c&id=ffffffffffffffff", 404),
            ("none&id=0000000000000001", 404),
            ("a%20b&id=0000000000000001", 400),
        ] {
            assert_eq!(bearer(&server, &line(rest), "manage-alone").await, status, "{action} {rest}");
        }
        auth.answer(&grant(r#""subscribe""#));
    }
    let header = "Authorization: Bearer manage-alone\r\n";
    let ask = async |action: &str| {
        let line = format!("POST /message/{action}?topic=t&channel=c&id={id}");
        ask_with(&server, &line, header, b"").await
    };
    let waits = serde_json::json!({"id": id, "was": "waiting", "attempts": 0});
    assert_eq!(ask("requeue").await.json(), waits);
    assert_eq!(ask("drop").await.json(), waits);
    let gone = ask("drop").await;
    assert_eq!((gone.status, &gone.json()["message"]), (404, &serde_json::json!("MESSAGE_NOT_FOUND")));
}

#[tokio::test]
async fn an_auth_servers_grant_over_http_ends_with_its_time() {
    let grant = |permissions: &str| {
        format!(
            r#"{{"ttl":60,"authorizations":[{{"topic":"^t$","channels":[".*"],"permissions":[{permissions}]}}]}}"#
        )
    };
    let auth = AuthServer::start(&grant(r#""publish""#)).await;
    let config = Config { auth_http_addresses: vec![auth.address.clone()], ..Config::default() };
    let server = start(config).await;
    assert_eq!(bearer(&server, "POST /pub?topic=t", "hush").await, 200);
    auth.answer(&grant(r#""subscribe""#));
    assert_eq!(bearer(&server, "POST /pub?topic=t", "hush").await, 200, "its time is not over");
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(61)).await;
    tokio::time::resume();
    assert_eq!(bearer(&server, "POST /pub?topic=t", "hush").await, 403);
    assert_eq!(auth.requests().len(), 2);
}
