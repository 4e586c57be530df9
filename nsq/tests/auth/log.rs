//! Log lines of a connection, which hold no secret.

use std::io;
use std::sync::Arc;

use mq_nsq::server::{Config, TlsOptions, TlsRequired};
use parking_lot::Mutex;
use tracing_subscriber::filter::LevelFilter;

use crate::auth_server::{ALL, AuthServer};
use crate::common::stack::{Certificates, STACKS};
use crate::common::with_body;
use crate::{SUCCESS, answer, authorizing, config, pass, start};

#[tokio::test]
async fn no_secret_is_logged() {
    let (log, _guard) = Log::start(LevelFilter::TRACE);
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
    let log = log.text();
    assert!(log.contains("AUTH failed"), "{log}");
    assert!(log.contains("status 500"), "{log}");
    assert!(!log.contains("hush-hush") && !log.contains("url-password"), "{log}");
}

#[tokio::test]
async fn a_refused_client_has_a_warning_with_its_address_and_name() {
    let (log, _guard) = Log::start(LevelFilter::WARN);
    let auth = AuthServer::start(&answer("^mine$", r#"[".*"]"#, r#"["publish"]"#)).await;
    let server = start(config(&[&auth])).await;
    let named = async |name: &str| {
        let mut peer = server.peer().await;
        let identify = format!(r#"{{"client_id":"{name}","hostname":"here"}}"#);
        peer.send(&with_body("IDENTIFY", identify.as_bytes())).await;
        peer.expect("OK").await;
        peer.send(&with_body("AUTH", b"hush-hush")).await;
        peer
    };
    let mut peer = named("loud").await;
    peer.expect(SUCCESS).await;
    peer.send(&with_body("PUB others", b"x")).await;
    peer.expect("error E_UNAUTHORIZED AUTH failed for PUB on \\\"others\\\" \\\"\\\"").await;
    auth.answer_raw("HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n");
    for name in ["first", "second"] {
        named(name).await.expect("error E_AUTH_FAILED AUTH failed").await;
    }
    server.stop().await;
    let log = log.text();
    for words in [
        ["AUTH failed for PUB on \"others\"", "client_id=\"loud\""],
        ["AUTH failed: http://", "client_id=\"first\""],
        ["status 403", "client_id=\"second\""],
    ] {
        let line = log.lines().find(|line| words.iter().all(|word| line.contains(word)));
        let line = line.unwrap_or_else(|| panic!("no line with {words:?}:\n{log}"));
        assert!(line.contains("WARN") && line.contains("peer=\"127.0.0.1:"), "{line}");
        assert!(line.contains("hostname=\"here\""), "{line}");
    }
    assert!(!log.contains("hush-hush"), "{log}");
}

#[tokio::test]
async fn every_event_of_a_connection_has_a_line() {
    let (log, _guard) = Log::start(LevelFilter::DEBUG);
    let certificates = Certificates::new();
    let auth = AuthServer::start(&answer(".*", r#"[".*"]"#, r#"["publish","subscribe"]"#)).await;
    let tls = Some(TlsOptions { required: TlsRequired::True, ..certificates.options() });
    let server = start(Config { tls, ..config(&[&auth]) }).await;
    let mut peer = server.peer().await;
    // TLS, and snappy in it.
    peer.stack(STACKS[3], &certificates).await;
    peer.send(&with_body("IDENTIFY", br#"{"client_id":"me","hostname":"here\n","user_agent":"test/1"}"#))
        .await;
    peer.expect("OK").await;
    peer.send(&with_body("AUTH", b"hush-hush")).await;
    peer.expect(SUCCESS).await;
    peer.send(&with_body("PUB t", b"x")).await;
    peer.expect("OK").await;
    pass(std::time::Duration::from_secs(11)).await;
    peer.send(b"SUB t c\nRDY 1\n").await;
    peer.expect("OK").await;
    let message = peer.expect("message 1 x").await;
    peer.send(format!("FIN {}\nFIN {}\nCLS\nSUB t c\n", message.id(), message.id()).as_bytes()).await;
    peer.expect(&format!("error E_FIN_FAILED FIN {} failed ID not in flight", message.id())).await;
    peer.expect("CLOSE_WAIT").await;
    peer.expect("error E_INVALID cannot SUB in current state").await;
    peer.expect_end().await;
    drop(peer);
    let mut refused = server.peer().await;
    refused.send(b"NOP\n").await;
    refused.frame().await.unwrap();
    server.stop().await;

    let log = log.text();
    let of = |client: &str| -> Vec<&str> {
        log.lines().filter(|line| line.split(' ').any(|field| field == client)).collect()
    };
    let mut lines = of("client=1").into_iter();
    for words in [
        &["connection accepted", "peer=\"127.0.0.1:"][..],
        &["IDENTIFY", "client_id=\"\"", "heartbeat_interval: Some(30s)"],
        &["TLS", "TLS1.3", "cipher_suite"],
        &["compression=Snappy"],
        &[
            "IDENTIFY",
            "client_id=\"me\"",
            "hostname=\"here\\n\"",
            "user_agent=\"test/1\"",
            "msg_timeout: 60s",
        ],
        &["authorized", "permissions=1"],
        &["authorized again", "permissions=1"],
        &["SUB", "topic=\"t\"", "channel=\"c\""],
        &["acknowledgements", "refused=1"],
        &["CLS"],
        &["command refused", "E_INVALID cannot SUB in current state"],
        &["connection ends", "reason=Fatal", "published=1 delivered=1 finished=1 requeued=0"],
    ] {
        let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
        assert!(line.is_some(), "no line with {words:?} in its place:\n{log}");
    }
    let second = of("client=2");
    assert!(second.iter().any(|line| line.contains("(TLS required)")), "{second:#?}");
    assert!(!log.contains("hush-hush"), "{log}");
}

/// Log of this thread, and with it of every session of its test.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn start(level: LevelFilter) -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let sink = log.clone();
        let lines = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
        let guard = tracing::subscriber::set_default(lines.with_writer(move || sink.clone()).finish());
        (log, guard)
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
