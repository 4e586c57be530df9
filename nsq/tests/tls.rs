//! TLS: certificates, policies, versions, files read again, handshakes that are none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::stack::{Certificates, STACKS};
use common::{PATIENCE, Peer, Running, start_with, with_body};
use mq_core::TopicName;
use mq_nsq::client::{ClientTls, ClientTlsOptions, Connection, Error, Identify};
use mq_nsq::server::{
    ClientAuthPolicy, Config, TlsConfig, TlsError, TlsOptions, TlsPeer, TlsRequired, TlsVersion,
};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

const OLD_CERT: &str = include_str!("data/old.pem");
const OLD_KEY: &str = include_str!("data/old.key");
const ASK: &[u8] = br#"{"feature_negotiation":true,"tls_v1":true}"#;

async fn start_tls(options: TlsOptions) -> Running {
    start_with(Config { tls: Some(options), ..Config::default() }, |_| {}, false).await
}

/// Shakes hands; the server's word follows.
async fn shake(server: &Running, connector: &TlsConnector) -> std::io::Result<Peer> {
    let mut peer = server.peer().await;
    peer.send(&with_body("IDENTIFY", ASK)).await;
    let reply = peer.frame().await.unwrap().show();
    assert!(reply.contains(r#""tls_v1\":true"#) || reply.contains(r#""tls_v1":true"#), "{reply}");
    peer.start_tls(connector).await?;
    Ok(peer)
}

async fn is_accepted(server: &Running, connector: &TlsConnector) -> bool {
    // With TLS 1.3 a client's handshake ends before the server has judged it.
    let Ok(mut peer) = shake(server, connector).await else {
        return false;
    };
    match peer.frame().await {
        None => false,
        Some(frame) => {
            assert_eq!(frame.show(), "OK");
            peer.send(&with_body("PUB t", b"x")).await;
            peer.expect("OK").await;
            true
        }
    }
}

/// TLS state of the last connection.
fn last_peer(server: &Running) -> TlsPeer {
    server.clients.list().last().unwrap().tls().unwrap().clone()
}

#[tokio::test]
async fn any_certificate_will_do_where_one_is_required() {
    let certificates = Certificates::new();
    certificates.write("rooted", true, |_| {});
    certificates.write("own", false, |_| {});
    certificates.write("expired", false, |params| {
        params.not_before = rcgen::date_time_ymd(2001, 1, 1);
        params.not_after = rcgen::date_time_ymd(2002, 1, 1);
    });
    std::fs::write(certificates.path("old.pem"), OLD_CERT).unwrap();
    std::fs::write(certificates.path("old.key"), OLD_KEY).unwrap();
    let options = TlsOptions { client_auth_policy: ClientAuthPolicy::Require, ..certificates.options() };
    let server = start_tls(options).await;
    for version in [&TLS12, &TLS13] {
        let nothing = certificates.connector(None, &[version]);
        assert!(!is_accepted(&server, &nothing).await, "{version:?}");
        for (name, common_name) in
            [("rooted", "rooted"), ("own", "own"), ("expired", "expired"), ("old", "localhost")]
        {
            // Its own check of key and certificate knows no certificates of version 1.
            let connector = with_identity(&certificates, name, name, version);
            let mut peer = shake(&server, &connector).await.unwrap();
            peer.expect("OK").await;
            let seen = last_peer(&server);
            assert_eq!(seen.common_name, common_name, "{version:?}");
            assert_eq!(server.clients.list().last().unwrap().tls_common_name(), common_name);
            assert!(seen.cipher_suite.starts_with("TLS_"), "{seen:?}");
        }
        // To know a certificate is not to have its key.
        for (name, key) in [("own", "rooted"), ("old", "own"), ("rooted", "old")] {
            let connector = with_identity(&certificates, name, key, version);
            assert!(!is_accepted(&server, &connector).await, "{name} {key} {version:?}");
        }
    }
    server.stop().await;
}

/// A client that shows a certificate, and signs with a key that may be another's.
fn with_identity(
    certificates: &Certificates,
    name: &str,
    key: &str,
    version: &'static rustls::SupportedProtocolVersion,
) -> TlsConnector {
    let chain = vec![CertificateDer::from_pem_file(certificates.path(&format!("{name}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(certificates.path(&format!("{key}.key"))).unwrap();
    let identity = CertifiedKey::new(chain, any_supported_type(&key).unwrap());
    let mut config = certificates.connector(None, &[version]).config().as_ref().clone();
    config.client_auth_cert_resolver = Arc::new(SingleCertAndKey::from(identity));
    TlsConnector::from(Arc::new(config))
}

#[tokio::test]
async fn a_verified_certificate_must_be_good() {
    let certificates = Certificates::new();
    certificates.write("rooted", true, |_| {});
    certificates.write("own", false, |_| {});
    certificates.write("expired", true, |params| params.not_after = rcgen::date_time_ymd(2002, 1, 1));
    let options =
        TlsOptions { client_auth_policy: ClientAuthPolicy::RequireVerify, ..certificates.options() };
    let server = start_tls(options).await;
    for version in [&TLS12, &TLS13] {
        for (name, good) in
            [(None, false), (Some("own"), false), (Some("expired"), false), (Some("rooted"), true)]
        {
            let connector = certificates.connector(name, &[version]);
            assert_eq!(is_accepted(&server, &connector).await, good, "{name:?} {version:?}");
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn nothing_but_identify_goes_without_tls_where_it_is_required() {
    let certificates = Certificates::new();
    let required = |required| TlsOptions { required, ..certificates.options() };
    let server = start_tls(required(TlsRequired::TcpHttps)).await;
    for (line, word) in [
        ("NOP\n", "NOP"),
        ("PUB t\n\0\0\0\x01x", "PUB"),
        ("SUB t c\n", "SUB"),
        ("AUTH\n\0\0\0\x01x", "AUTH"),
        ("what\n", "what"),
        ("\n", ""),
    ] {
        let mut peer = server.peer().await;
        peer.send(&with_body("IDENTIFY", b"{}")).await;
        peer.expect("OK").await;
        peer.send(line.as_bytes()).await;
        peer.expect(&format!("error E_INVALID cannot {word} in current state (TLS required)")).await;
        peer.expect_end().await;
    }
    for stack in STACKS {
        let mut peer = server.peer().await;
        peer.stack(stack, &certificates).await;
        peer.send(&with_body("PUB t", b"x")).await;
        if stack.tls {
            peer.expect("OK").await;
        } else {
            peer.expect("error E_INVALID cannot PUB in current state (TLS required)").await;
            peer.expect_end().await;
        }
    }
    server.stop().await;

    for (given, policy, effective) in [
        (TlsRequired::False, ClientAuthPolicy::None, TlsRequired::False),
        (TlsRequired::False, ClientAuthPolicy::Require, TlsRequired::True),
        (TlsRequired::False, ClientAuthPolicy::RequireVerify, TlsRequired::True),
        (TlsRequired::TcpHttps, ClientAuthPolicy::RequireVerify, TlsRequired::TcpHttps),
        (TlsRequired::True, ClientAuthPolicy::None, TlsRequired::True),
    ] {
        let options = TlsOptions { required: given, client_auth_policy: policy, ..TlsOptions::default() };
        assert_eq!(options.effective_required(), effective);
    }
}

#[test]
fn settings_are_nsqds_words() {
    assert_eq!("TLS1.0".parse(), Ok(TlsVersion::Tls10));
    assert_eq!("tls1.1".parse(), Ok(TlsVersion::Tls11));
    assert_eq!("tls1.2".parse(), Ok(TlsVersion::Tls12));
    assert_eq!("tls1.3".parse(), Ok(TlsVersion::Tls13));
    assert!("ssl3.0".parse::<TlsVersion>().is_err());
    assert_eq!("".parse(), Ok(ClientAuthPolicy::None));
    assert_eq!("require".parse(), Ok(ClientAuthPolicy::Require));
    assert_eq!("require-verify".parse(), Ok(ClientAuthPolicy::RequireVerify));
    assert_eq!("tcp-https".parse(), Ok(TlsRequired::TcpHttps));
    assert_eq!("true".parse(), Ok(TlsRequired::True));
    assert_eq!("0".parse(), Ok(TlsRequired::False));
    let error = "verify".parse::<ClientAuthPolicy>().unwrap_err();
    assert_eq!(error.to_string(), "must be one of require, require-verify, or nothing");
}

#[tokio::test]
async fn versions_below_the_lowest_are_refused() {
    let certificates = Certificates::new();
    for (min_version, tls12) in [
        (TlsVersion::Tls10, true),
        (TlsVersion::Tls11, true),
        (TlsVersion::Tls12, true),
        (TlsVersion::Tls13, false),
    ] {
        let server = start_tls(TlsOptions { min_version, ..certificates.options() }).await;
        assert!(is_accepted(&server, &certificates.connector(None, &[&TLS13])).await);
        let seen = last_peer(&server);
        assert_eq!((seen.version, seen.common_name.as_str()), ("TLS1.3", ""));
        assert_eq!(is_accepted(&server, &certificates.connector(None, &[&TLS12])).await, tls12);
        if tls12 {
            assert_eq!(last_peer(&server).version, "TLS1.2");
            assert!(last_peer(&server).cipher_suite.starts_with("TLS_ECDHE_ECDSA_WITH_"));
        }
        server.stop().await;
    }
}

/// The same key in SEC1's form: what is inside PKCS#8.
fn sec1(pkcs8: &str) -> String {
    let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(pkcs8.as_bytes()).unwrap() else {
        panic!("not PKCS#8");
    };
    let der = der.secret_pkcs8_der();
    // SEQUENCE { version, SEQUENCE { two OIDs }, OCTET STRING }, all short enough for one byte of length
    // each.
    let start = der.windows(2).position(|pair| pair == [0x30, 0x6b]).unwrap();
    pem("EC PRIVATE KEY", &der[start..start + 2 + 0x6b])
}

fn pem(kind: &str, der: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for bytes in der.chunks(3) {
        let n = bytes.iter().fold(0, |n, &byte| n << 8 | u32::from(byte)) << (8 * (3 - bytes.len()));
        for i in 0..4 {
            let digit = DIGITS[(n >> (18 - 6 * i)) as usize & 63];
            text.push(if i > bytes.len() { '=' } else { char::from(digit) });
        }
    }
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----\n", lines.join("\n"))
}

#[tokio::test]
async fn keys_of_all_forms_and_certificates_of_all_ages_are_served() {
    let certificates = Certificates::new();
    let key = std::fs::read_to_string(certificates.path("server.key")).unwrap();
    std::fs::write(certificates.path("sec1.key"), sec1(&key)).unwrap();
    std::fs::write(certificates.path("old.pem"), OLD_CERT).unwrap();
    std::fs::write(certificates.path("old.key"), OLD_KEY).unwrap();
    certificates.write("expired", false, |params| params.not_after = rcgen::date_time_ymd(2002, 1, 1));
    for (cert, key) in [
        ("server.pem", "server.key"),
        ("server.pem", "sec1.key"),
        ("old.pem", "old.key"),
        ("expired.pem", "expired.key"),
    ] {
        let options = TlsOptions {
            cert: certificates.path(cert),
            key: certificates.path(key),
            ..TlsOptions::default()
        };
        let server = start_tls(options).await;
        for min_version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            let options =
                ClientTlsOptions { insecure_skip_verify: true, min_version, ..ClientTlsOptions::default() };
            let tls = ClientTls::load(&options).unwrap();
            let identify = Identify { tls: Some(tls), ..Identify::default() };
            let mut client = Connection::connect(&server.address, identify).await.unwrap();
            client.publish(&TopicName::parse("t").unwrap(), b"x").await.unwrap();
            client.flush().await.unwrap();
            client.close().await.unwrap();
        }
        // Whoever looks does not like what is expired, or of a name or signer unknown.
        if cert != "server.pem" {
            let tls = ClientTls::load(&certificates.client_options()).unwrap();
            let identify = Identify { tls: Some(tls), ..Identify::default() };
            let refused = Connection::connect(&server.address, identify).await;
            assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");
        }
        server.stop().await;
    }
}

#[test]
fn bad_files_are_named() {
    let certificates = Certificates::new();
    certificates.write("other", true, |_| {});
    std::fs::write(certificates.path("garbage"), "garbage").unwrap();
    std::fs::write(certificates.path("cut.pem"), "-----BEGIN CERTIFICATE-----\nMIIB\n").unwrap();
    let with = |cert: &str, key: &str, root: &str| {
        TlsConfig::load(TlsOptions {
            cert: certificates.path(cert),
            key: certificates.path(key),
            root_ca_file: Some(certificates.path(root)),
            ..TlsOptions::default()
        })
    };
    assert!(with("server.pem", "server.key", "root.pem").is_ok());
    for (cert, key, root, named) in [
        ("none", "server.key", "root.pem", "none"),
        ("server.pem", "none", "root.pem", "none"),
        ("server.pem", "server.key", "none", "none"),
        ("garbage", "server.key", "root.pem", "garbage"),
        ("cut.pem", "server.key", "root.pem", "cut.pem"),
        ("server.pem", "garbage", "root.pem", "garbage"),
        ("server.pem", "server.pem", "root.pem", "server.pem"),
        ("server.pem", "server.key", "garbage", "garbage"),
    ] {
        match with(cert, key, root) {
            Err(TlsError::File { file, reason }) => {
                assert_eq!(file, certificates.path(named), "{reason}");
            }
            other => panic!("{cert} {key} {root}: {other:?}"),
        }
    }
    assert!(matches!(with("server.pem", "other.key", "root.pem"), Err(TlsError::Mismatch { .. })));
}

#[tokio::test]
async fn files_are_read_again_for_new_connections_and_bad_ones_are_not_taken() {
    let certificates = Certificates::new();
    let tls = TlsConfig::load(certificates.options()).unwrap();
    let before = tls.current();
    std::fs::write(certificates.path("server.pem"), "garbage").unwrap();
    assert!(tls.reload().is_err());
    assert!(Arc::ptr_eq(&before, &tls.current()));

    certificates.write("server", true, |_| {});
    let server = start_tls(certificates.options()).await;
    let connector = certificates.plain_connector();
    let mut old = shake(&server, &connector).await.unwrap();
    old.expect("OK").await;
    // Signed by nobody the client knows.
    certificates.write("server", false, |_| {});
    assert!(is_accepted(&server, &connector).await);
    server.tls.clone().unwrap().reload().unwrap();
    assert!(!is_accepted(&server, &connector).await);
    std::fs::remove_file(certificates.path("server.key")).unwrap();
    assert!(server.tls.clone().unwrap().reload().is_err());
    assert!(!is_accepted(&server, &connector).await);
    certificates.write("server", true, |_| {});
    server.tls.clone().unwrap().reload().unwrap();
    assert!(is_accepted(&server, &connector).await);
    old.send(&with_body("PUB t", b"x")).await;
    old.expect("OK").await;
    server.stop().await;
}

#[tokio::test]
async fn what_comes_before_tls_is_not_taken_for_what_comes_inside() {
    let certificates = Certificates::new();
    let server = start_tls(certificates.options()).await;
    let mut peer = server.peer().await;
    peer.send(&[with_body("IDENTIFY", ASK), with_body("PUB evil", b"x"), b"NOP\nPU".to_vec()].concat()).await;
    peer.frame().await.unwrap();
    peer.start_tls(&certificates.plain_connector()).await.unwrap();
    peer.expect("OK").await;
    peer.send(&with_body("PUB good", b"x")).await;
    peer.expect("OK").await;
    assert!(server.broker.find_topic(&TopicName::parse("evil").unwrap()).is_none());
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_that_is_none_ends_the_connection_and_harms_nobody() {
    let certificates = Certificates::new();
    let server = start_tls(certificates.options()).await;
    let mut good = server.peer().await;

    let mut garbage = server.peer().await;
    garbage.send(&with_body("IDENTIFY", ASK)).await;
    garbage.frame().await.unwrap();
    garbage.send(b"PUB t\n\0\0\0\x01x and more").await;
    let mut rest = Vec::new();
    let _ = timeout(PATIENCE, garbage.socket.read_to_end(&mut rest)).await.unwrap();
    // TLS's alert, then nsqd's way to say it.
    let text = rest.escape_ascii().to_string();
    assert!(text.contains("E_IDENTIFY_FAILED IDENTIFY failed "), "{text}");

    let mut silent = server.peer().await;
    silent.send(&with_body("IDENTIFY", ASK)).await;
    silent.frame().await.unwrap();
    let since = Instant::now();
    let mut gone = server.peer().await;
    gone.send(&with_body("IDENTIFY", ASK)).await;
    drop(gone);
    for _ in 0..100 {
        good.send(&with_body("PUB t", b"x")).await;
        good.expect("OK").await;
    }
    silent.expect_end().await;
    assert!(since.elapsed() > Duration::from_millis(4900), "{:?}", since.elapsed());
    server.stop().await;
}

#[tokio::test]
async fn a_handshake_does_not_hold_up_the_servers_end() {
    let certificates = Certificates::new();
    let server = start_tls(certificates.options()).await;
    let mut silent = server.peer().await;
    silent.send(&with_body("IDENTIFY", ASK)).await;
    silent.frame().await.unwrap();
    let since = Instant::now();
    server.stop().await;
    // Its own end would come after five seconds.
    assert!(since.elapsed() < Duration::from_millis(4900), "{:?}", since.elapsed());
}

#[tokio::test]
async fn without_tls_it_is_refused_by_clients_that_want_it() {
    let certificates = Certificates::new();
    let server = start_with(Config::default(), |_| {}, false).await;
    let tls = ClientTls::load(&certificates.client_options()).unwrap();
    let identify = Identify { tls: Some(tls), ..Identify::default() };
    let refused = Connection::connect(&server.address, identify).await;
    assert!(matches!(refused, Err(Error::Protocol(_))), "{refused:?}");
    server.stop().await;
}
