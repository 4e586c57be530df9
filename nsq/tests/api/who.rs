//! Rights of the API's callers: tokens, auth servers, TLS.

use std::path::PathBuf;

use mq_nsq::server::{Config, TlsRequired};
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::auth_server::AuthServer;
use crate::common::stack::Certificates;
use crate::common::{Running, start_with};
use crate::{Reply, ask, ask_with, request, start};

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
        server.broker.topic(&mq_core::TopicName::parse(name).unwrap()).unwrap();
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
        let broker = mq_core::Broker::open(mq_core::Options {
            data_path: folder.path().join("data"),
            ..mq_core::Options::default()
        })
        .unwrap();
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
