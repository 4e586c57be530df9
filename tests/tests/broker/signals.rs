//! SIGTERM and SIGINT stop the broker, SIGHUP makes it read again.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use mq_nsq::client::{ClientTls, ClientTlsOptions, Connection, Error, Identify};
use mq_tests::{Broker, until};
use tempfile::TempDir;

use crate::clients::{connect, create_channel, topic};

/// The longest a stop may take.
const STOP: Duration = Duration::from_secs(10);

/// A channel with more than its sockets take, and a client that never reads what it asked for.
async fn deaf(broker: &Broker) -> TcpStream {
    create_channel(broker, "t", "c").await;
    let mut publisher = connect(broker).await;
    let body = vec![b'x'; 500_000];
    for _ in 0..40 {
        publisher.publish(&topic("t"), &body).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let mut deaf = TcpStream::connect(broker.address()).unwrap();
    deaf.write_all(b"  V2SUB t c\nRDY 2500\n").unwrap();
    assert_eq!(deaf.peek(&mut [0; 1]).unwrap(), 1);
    deaf
}

#[tokio::test]
async fn a_signal_stops_in_time_whatever_clients_do() {
    for signal in [Broker::terminate, Broker::interrupt] {
        let mut broker = Broker::start();
        let _deaf = deaf(&broker).await;
        // One that stops within a command, one that says nothing.
        let mut half = TcpStream::connect(broker.address()).unwrap();
        half.write_all(b"  V2PUB t\n\x00\x00\x10\x00half").unwrap();
        let _silent = TcpStream::connect(broker.address()).unwrap();
        let asked = Instant::now();
        signal(&broker);
        assert!(broker.wait().success(), "{}", broker.stderr());
        assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
        assert!(broker.stderr().contains("stopped"), "{}", broker.stderr());
    }
}

#[test]
fn a_stop_waits_neither_for_a_handshake_nor_for_an_auth_server() {
    let folder = TempDir::new().unwrap();
    let flags = write_certificate(folder.path());
    // Takes connections, and never answers.
    let auth = TcpListener::bind("127.0.0.1:0").unwrap();
    let auth_address = auth.local_addr().unwrap().to_string();
    let flags =
        [&flags[0], &flags[1], "--auth-http-address", &auth_address, "--http-client-request-timeout=1h"];
    let mut broker = Broker::start_with(&flags);
    let mut handshake = TcpStream::connect(broker.address()).unwrap();
    let ask = br#"{"feature_negotiation":true,"tls_v1":true}"#;
    handshake.write_all(&[b"  V2IDENTIFY\n\0\0\0\x2a", &ask[..]].concat()).unwrap();
    handshake.read_exact(&mut [0; 8]).unwrap();
    let mut asking = TcpStream::connect(broker.address()).unwrap();
    asking.write_all(b"  V2AUTH\n\0\0\0\x04hush").unwrap();
    drop(auth.accept().unwrap());
    let asked = Instant::now();
    broker.stop();
    assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
    assert!(!broker.stderr().contains("hush"), "{}", broker.stderr());
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let mut broker = Broker::start();
    // It may take its time to read, some seconds.
    let _deaf = deaf(&broker).await;
    broker.terminate();
    until("the first to be heard", || broker.stderr().contains("a second signal").then_some(()));
    broker.interrupt();
    assert_eq!(broker.wait().code(), Some(128 + 2), "{}", broker.stderr());
}

#[tokio::test]
async fn sighup_reads_the_log_level_again_and_kills_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mq.toml");
    std::fs::write(&file, "log_level = \"info\"\n").unwrap();
    let mut broker = Broker::start_with(&["--config", file.to_str().unwrap()]);
    drop(connect(&broker).await);
    std::fs::write(&file, "log_level = \"debug\"\nsnappy = false\n").unwrap();
    broker.hang_up();
    until("the settings to be read", || broker.stderr().contains("wait for a restart").then_some(()));
    assert!(broker.stderr().contains("snappy") && !broker.stderr().contains("DEBUG"), "{}", broker.stderr());
    drop(connect(&broker).await);
    until("a line about a connection", || broker.stderr().contains("DEBUG").then_some(()));
    std::fs::write(&file, "nonsense = 1\n").unwrap();
    broker.hang_up();
    until("the complaint", || broker.stderr().contains("nonsense").then_some(()));
    broker.stop();
}

/// Writes a certificate of the name "localhost" and its key, new each time, and gives the flags that name them.
fn write_certificate(folder: &Path) -> [String; 2] {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    [format!("--tls-cert={}", cert.display()), format!("--tls-key={}", key.display())]
}

#[tokio::test]
async fn sighup_reads_the_certificate_again_for_new_connections() {
    let folder = TempDir::new().unwrap();
    let cert = folder.path().join("cert.pem");
    let flags = write_certificate(folder.path());
    // A client that trusts what the file has now.
    let trusting = || {
        let options = ClientTlsOptions {
            root_ca_file: Some(cert.clone()),
            server_name: Some("localhost".to_owned()),
            ..ClientTlsOptions::default()
        };
        Identify { tls: Some(ClientTls::load(&options).unwrap()), ..Identify::default() }
    };
    let mut broker = Broker::start_with(&[&flags[0], &flags[1]]);
    let connect = |identify: &Identify| Connection::connect(broker.address(), identify.clone());
    let first = trusting();
    let mut old = connect(&first).await.unwrap();
    write_certificate(folder.path());
    let second = trusting();
    connect(&first).await.unwrap();
    broker.hang_up();
    until("the files to be read", || broker.stderr().contains("TLS files read again").then_some(()));
    connect(&second).await.unwrap();
    let refused = connect(&first).await;
    assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");

    std::fs::write(&cert, "garbage").unwrap();
    broker.hang_up();
    until("the complaint", || broker.stderr().contains("the old certificate stays in use").then_some(()));
    connect(&second).await.unwrap();
    old.publish(&topic("t"), b"x").await.unwrap();
    old.flush().await.unwrap();
    broker.stop();
}
