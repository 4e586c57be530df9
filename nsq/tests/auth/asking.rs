//! Requests to auth servers: their form, and which servers get them.

use std::io;
use std::time::Duration;

use mq_nsq::server::{AuthMethod, Config, Server, TlsVersion};
use rustls::version::{TLS12, TLS13};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::auth_server::{ALL, AuthServer};
use crate::common::{self, PATIENCE, start_with};
use crate::{SUCCESS, authorized, authorizing, config, start};

fn user_agent() -> String {
    format!("user-agent: mq/{}\r\n", env!("CARGO_PKG_VERSION"))
}

#[tokio::test]
async fn asks_with_get() {
    let auth = AuthServer::start(ALL).await;
    let server = start(config(&[&auth])).await;
    let mut peer = authorizing(&server, "s&cret \u{e4}").await;
    peer.expect(SUCCESS).await;
    let want = format!(
        "GET /auth?common_name=&remote_ip=127.0.0.1&secret=s%26cret+%C3%A4&tls=false HTTP/1.1\r\nhost: {}\r\n{}accept: application/vnd.nsq; version=1.0\r\n\r\n",
        auth.address,
        user_agent()
    );
    assert_eq!(auth.requests(), [want]);
    server.stop().await;
}

#[tokio::test]
async fn asks_with_get_at_a_url_and_from_a_unix_socket() {
    let auth = AuthServer::start(ALL).await;
    let auth_http_addresses = vec![format!("http://localhost:{}/some/path?key=1", auth.port())];
    let server = start_with(Config { auth_http_addresses, ..Config::default() }, |_| {}, true).await;
    authorized(&server).await;
    let requests = auth.requests();
    let line = requests[0].lines().next().unwrap();
    assert_eq!(line, "GET /some/path?key=1?common_name=&remote_ip=&secret=s&tls=false HTTP/1.1");
    server.stop().await;
}

#[tokio::test]
async fn asks_with_post() {
    let auth = AuthServer::start(ALL).await;
    let auth_http_request_method = AuthMethod::Post;
    let server = start(Config { auth_http_request_method, ..config(&[&auth]) }).await;
    let mut peer = authorizing(&server, "s&\"").await;
    peer.expect(SUCCESS).await;
    let body = r#"{"common_name":[""],"remote_ip":["127.0.0.1"],"secret":["s&\""],"tls":["false"]}"#;
    let want = format!(
        "POST /auth HTTP/1.1\r\nhost: {}\r\n{}accept: application/vnd.nsq; version=1.0\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        auth.address,
        user_agent(),
        body.len()
    );
    assert_eq!(auth.requests(), [want]);
    server.stop().await;
}

#[tokio::test]
async fn asks_over_tls_only_whom_it_trusts() {
    let folder = TempDir::new().unwrap();
    let (auth, root) = AuthServer::start_tls(ALL, &folder, rustls::ALL_VERSIONS).await;
    let auth_http_addresses = vec![format!("https://localhost:{}/auth", auth.port())];
    let config = Config { auth_http_addresses, ..Config::default() };
    let server = start(Config { tls_root_ca_file: Some(root), ..config.clone() }).await;
    authorized(&server).await;
    server.stop().await;
    assert_eq!(auth.requests().len(), 1);

    let server = start(config).await;
    let mut peer = authorizing(&server, "s").await;
    peer.expect("error E_AUTH_FAILED AUTH failed").await;
    peer.expect_end().await;
    server.stop().await;
    assert_eq!(auth.requests().len(), 1);
}

#[tokio::test]
async fn the_lowest_version_of_tls_is_asked_for_too() {
    let folder = TempDir::new().unwrap();
    for (served, min_version, good) in [
        (&TLS12, TlsVersion::Tls13, false),
        (&TLS13, TlsVersion::Tls13, true),
        (&TLS12, TlsVersion::Tls12, true),
        (&TLS12, TlsVersion::Tls10, true),
    ] {
        let (auth, root) = AuthServer::start_tls(ALL, &folder, &[served]).await;
        let server = start(Config {
            auth_http_addresses: vec![format!("https://localhost:{}/auth", auth.port())],
            tls_root_ca_file: Some(root),
            tls_min_version: min_version,
            ..Config::default()
        })
        .await;
        let mut peer = authorizing(&server, "s").await;
        peer.expect(if good { SUCCESS } else { "error E_AUTH_FAILED AUTH failed" }).await;
        server.stop().await;
    }
}

#[tokio::test]
async fn a_bad_configuration_is_told_at_the_start() {
    let folder = TempDir::new().unwrap();
    let broker = mq_core::Broker::open(common::options(&folder)).unwrap();
    let path = folder.path().join("none.pem");
    std::fs::write(&path, "nothing").unwrap();
    for (address, root, want) in [
        (
            "ftp://h/",
            None,
            "an auth server's address is `host:port` or a URL: neither http nor https".to_owned(),
        ),
        ("https://h/", Some(path.clone()), format!("{}: no certificate in it", path.display())),
    ] {
        let config = Config {
            tcp_address: "127.0.0.1:0".to_owned(),
            auth_http_addresses: vec![address.to_owned()],
            tls_root_ca_file: root,
            ..Config::default()
        };
        let error = Server::bind(config, broker.clone()).await.err().unwrap();
        assert_eq!((error.kind(), error.to_string()), (io::ErrorKind::InvalidInput, want));
    }
    broker.close().unwrap();
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_fails() {
    let mut gone = AuthServer::start(ALL).await;
    // Nobody listens there.
    gone.address = format!("127.0.0.2:{}", gone.port());
    let (wrong, right) = (AuthServer::start("{}").await, AuthServer::start(ALL).await);
    let server = start(config(&[&gone, &wrong, &right])).await;
    for _ in 0..20 {
        authorized(&server).await;
    }
    assert_eq!(right.requests().len(), 20);
    let wrong = wrong.requests().len();
    assert!((1..20).contains(&wrong), "{wrong} asked the middle one first or second");
    server.stop().await;
}

/// Elsewhere a full queue may refuse connections.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_next_server_is_asked_when_one_does_not_take_the_connection() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(connected) =
        timeout(Duration::from_millis(200), tokio::net::TcpStream::connect(address)).await
    {
        waiting.push(connected.unwrap());
        assert!(waiting.len() < 100, "the queue does not fill");
    }
    let right = AuthServer::start(ALL).await;
    let auth_http_addresses = vec![address.to_string(), right.address.clone()];
    let config = Config {
        auth_http_addresses,
        http_client_connect_timeout: Duration::from_millis(100),
        http_client_request_timeout: 2 * PATIENCE,
        ..Config::default()
    };
    let server = start(config).await;
    for _ in 0..8 {
        authorized(&server).await;
    }
    assert_eq!(right.requests().len(), 8);
    server.stop().await;
}

#[tokio::test]
async fn a_secret_that_no_url_holds_is_not_sent() {
    let auth = AuthServer::start(ALL).await;
    let server = start(config(&[&auth])).await;
    let mut peer = authorizing(&server, &"x".repeat(16 * 1024)).await;
    peer.expect(SUCCESS).await;
    let mut peer = authorizing(&server, &"x".repeat(16 * 1024 + 1)).await;
    peer.expect("error E_AUTH_FAILED AUTH failed").await;
    assert_eq!(auth.requests().len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn an_answer_that_is_none_fails_and_says_nothing_more() {
    let auth = AuthServer::start(ALL).await;
    let request_timeout = Duration::from_millis(300);
    let server = start(Config { http_client_request_timeout: request_timeout, ..config(&[&auth]) }).await;
    let length = 2 * 1024 * 1024;
    let body = format!("{ALL}{}", " ".repeat(length - ALL.len()));
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
    let endless = format!("HTTP/1.1 200 OK\r\n\r\n{body}");
    for answer in [
        "",
        "what?",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK",
        "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{}",
        &format!("HTTP/1.1 403 Forbidden\r\nContent-Length: {}\r\n\r\n{ALL}", ALL.len()),
        &format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", auth.address),
        &format!("HTTP/1.1 200 OK\r\n\r\n{}", ALL.replace("3600", "0")),
        &format!("HTTP/1.1 200 OK\r\n\r\n{}", ALL.replace("publish", "admin")),
        &format!("HTTP/1.1 200 OK\r\n\r\n{}", ALL.replace(".*", "(")),
        &huge,
        &endless,
    ] {
        auth.answer_raw(answer);
        let mut peer = authorizing(&server, "s").await;
        peer.expect("error E_AUTH_FAILED AUTH failed").await;
        peer.expect_end().await;
    }
    // A body that ends with the connection is one.
    auth.answer_raw(&format!("HTTP/1.1 200 OK\r\n\r\n{ALL}"));
    authorized(&server).await;
    // One that never comes.
    auth.hold();
    let mut peer = authorizing(&server, "s").await;
    peer.expect("error E_AUTH_FAILED AUTH failed").await;
    peer.expect_end().await;
    server.stop().await;
}
