//! AUTH against an auth server on a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.
#![allow(unreachable_pub)] // The helper's module is private.

mod auth_server;
#[path = "../common/mod.rs"]
mod common;
mod transcripts;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use auth_server::{ALL, AuthServer};
use common::{PATIENCE, Peer, Running, mpub, start_with, with_body};
use mq_nsq::server::{AuthMethod, Authorized, Config, Server};
use parking_lot::Mutex;
use tempfile::TempDir;
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
    let (auth, root) = AuthServer::start_tls(ALL, &folder).await;
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

    // Expired: the publish waits, what others publish is delivered meanwhile, the rest of the burst comes after.
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
async fn no_secret_is_logged() {
    let logs = logs();
    let auth = AuthServer::start(ALL).await;
    let url = format!("http://{}/auth?key=url-password", auth.address);
    let server = start(Config { auth_http_addresses: vec![url], ..Config::default() }).await;
    let mut peer = authorizing(&server, "hush-hush").await;
    peer.expect(SUCCESS).await;
    for answer in
        ["HTTP/1.1 500 No\r\nContent-Length: 9\r\n\r\nhush-hush", "hush-hush", "{\"ttl\":\"hush-hush\"}"]
    {
        auth.answer_raw(answer);
        let mut peer = authorizing(&server, "hush-hush").await;
        peer.expect("error E_AUTH_FAILED AUTH failed").await;
        peer.expect_end().await;
    }
    // A length too short makes a command of the rest.
    let mut peer = server.peer().await;
    auth.answer(ALL);
    peer.send(b"AUTH\n\0\0\0\x01 hush-hush\n").await;
    peer.expect(SUCCESS).await;
    peer.expect("error E_INVALID invalid command hush-hush").await;
    server.stop().await;
    let logs = String::from_utf8(logs.lock().clone()).unwrap();
    assert!(logs.contains("AUTH failed"), "{logs}");
    assert!(logs.contains("status 500"), "{logs}");
    assert!(!logs.contains("hush-hush") && !logs.contains("url-password"), "{logs}");
}

/// Everything that is logged in this process from now on.
fn logs() -> Arc<Mutex<Vec<u8>>> {
    #[derive(Clone)]
    struct Sink(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    static LOGS: OnceLock<Arc<Mutex<Vec<u8>>>> = OnceLock::new();
    let logs = LOGS.get_or_init(|| {
        let logs = Arc::new(Mutex::default());
        let sink = Sink(Arc::clone(&logs));
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
            .with_writer(move || sink.clone())
            .finish();
        tracing::subscriber::set_global_default(subscriber).unwrap();
        logs
    });
    Arc::clone(logs)
}
