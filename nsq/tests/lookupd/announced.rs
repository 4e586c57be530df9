//! Publishes to new topics, and when lookup servers know the topics.

use std::time::Duration;

use mq_core::{Broker, Options};
use mq_nsq::announcer::{Announcer, AnnouncerConfig};
use mq_nsq::server::{Config, Server as BrokerServer};
use mq_nsq::wire::lookup::{BrokerIdentity, Identity, put_answer};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use crate::server::{PATIENCE, Server, request};

/// A broker with its ports, registered at lookup servers. Stops when it is dropped.
struct Served {
    tcp: String,
    http: String,
    _stop: [oneshot::Sender<()>; 2],
    _folder: TempDir,
}

impl Served {
    /// `announce_wait`: how long publishes to new topics wait for the lookup server at `lookup`.
    async fn start(lookup: &str, announce_wait: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() }).unwrap();
        let config = Config {
            tcp_address: "127.0.0.1:0".into(),
            http_address: Some("127.0.0.1:0".into()),
            announce_wait,
            ..Config::default()
        };
        let server = BrokerServer::bind(config, broker.clone()).await.unwrap();
        let (tcp, http) = (server.local_addr().to_string(), server.http_addr().unwrap().to_string());
        let identity = BrokerIdentity {
            version: "1".into(),
            tcp_port: 4150,
            http_port: 4151,
            broadcast_address: "a".into(),
            ..BrokerIdentity::default()
        };
        let peers = vec![lookup.parse().unwrap()];
        let announcer = Announcer::new(broker, AnnouncerConfig { peers, identity, ..Default::default() });
        let ((stop_server, server_stopped), (stop_announcer, announcer_stopped)) =
            (oneshot::channel::<()>(), oneshot::channel::<()>());
        tokio::spawn(server.run(async move { _ = server_stopped.await }));
        let running = announcer.clone();
        tokio::spawn(async move { running.run(async move { _ = announcer_stopped.await }).await });
        let registered = async {
            while !announcer.status().first().is_some_and(|status| status.is_registered) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, registered).await.expect("it registers");
        Self { tcp, http, _stop: [stop_server, stop_announcer], _folder: folder }
    }

    async fn client(&self) -> TcpStream {
        let mut client = TcpStream::connect(&self.tcp).await.unwrap();
        client.write_all(b"  V2").await.unwrap();
        client
    }
}

/// PUB of one byte, or MPUB of one message of a byte.
fn publish(topic: &str, batch: bool) -> Vec<u8> {
    match batch {
        false => [format!("PUB {topic}\n").as_bytes(), b"\0\0\0\x01x"].concat(),
        true => [format!("MPUB {topic}\n").as_bytes(), b"\0\0\0\x09\0\0\0\x01\0\0\0\x01x"].concat(),
    }
}

async fn ok(client: &mut TcpStream) {
    let mut frame = [0; 10];
    timeout(PATIENCE, client.read_exact(&mut frame)).await.expect("an answer").unwrap();
    assert_eq!(frame, *b"\0\0\0\x06\0\0\0\0OK");
}

#[tokio::test]
async fn a_new_topic_is_found_as_soon_as_its_first_publish_is_answered() {
    let lookup = Server::start().await;
    let broker = Served::start(&lookup.tcp, PATIENCE).await;
    let mut client = broker.client().await;
    for n in 0..30 {
        let topic = format!("t{n}");
        match n % 3 {
            0 | 1 => {
                client.write_all(&publish(&topic, n % 3 == 1)).await.unwrap();
                ok(&mut client).await;
            }
            _ => {
                let path = if n % 2 == 0 { "/topic/create" } else { "/pub" };
                let answer = post(&broker.http, &format!("{path}?topic={topic}"), "x").await;
                assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
            }
        }
        let found = request(&lookup.http, "GET", &format!("/lookup?topic={topic}")).await;
        assert!(found.body.contains(r#""broadcast_address":"a""#), "{topic}: {found:?}");
    }
}

async fn post(http: &str, target: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(http).await.unwrap();
    let length = body.len();
    let request = format!(
        "POST {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("an answer").unwrap();
    answer
}

/// A lookup server that says who it is, passes on each command, and answers it when the test says so.
async fn reluctant() -> (String, mpsc::UnboundedReceiver<String>, mpsc::UnboundedSender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (commands, lines) = mpsc::unbounded_channel();
    let (go, mut may_answer) = mpsc::unbounded_channel::<()>();
    let identity =
        Identity { broadcast_address: "127.0.0.1".into(), http_port: 1, tcp_port: 1, ..Identity::default() };
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        stream.read_line(&mut head).await.unwrap();
        let length = stream.read_u32().await.unwrap();
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        let mut answer = Vec::new();
        put_answer(&mut answer, identity.to_json().as_bytes());
        stream.write_all(&answer).await.unwrap();
        let mut line = String::new();
        while stream.read_line(&mut line).await.unwrap_or(0) > 0 {
            let _ = commands.send(std::mem::take(&mut line));
            if may_answer.recv().await.is_none() {
                // It answers nothing from here on, and stays connected.
                std::future::pending::<()>().await;
            }
            let _ = stream.write_all(b"\0\0\0\x02OK").await;
        }
    });
    (address.to_string(), lines, go)
}

#[tokio::test]
async fn a_publish_to_a_new_topic_waits_for_the_lookup_servers_answer_and_others_do_not() {
    let (lookup, mut commands, go) = reluctant().await;
    let broker = Served::start(&lookup, PATIENCE).await;
    let (mut first, mut other) = (broker.client().await, broker.client().await);
    first.write_all(&publish("old", false)).await.unwrap();
    assert_eq!(commands.recv().await.unwrap(), "REGISTER old\n");
    go.send(()).unwrap();
    ok(&mut first).await;
    first.write_all(&[publish("new", false), publish("old", true)].concat()).await.unwrap();
    assert_eq!(commands.recv().await.unwrap(), "REGISTER new\n");
    for _ in 0..20 {
        other.write_all(&publish("old", false)).await.unwrap();
        ok(&mut other).await;
    }
    let early = first.try_read(&mut [0; 10]);
    assert_eq!(early.unwrap_err().kind(), std::io::ErrorKind::WouldBlock, "it is not announced yet");
    go.send(()).unwrap();
    ok(&mut first).await;
    ok(&mut first).await;
}

#[tokio::test]
async fn a_lookup_server_that_does_not_answer_keeps_nobody_for_longer_than_the_wait() {
    let (lookup, mut commands, go) = reluctant().await;
    let broker = Served::start(&lookup, Duration::from_millis(1)).await;
    drop(go);
    let mut client = broker.client().await;
    for topic in ["a", "b"] {
        client.write_all(&publish(topic, false)).await.unwrap();
        ok(&mut client).await;
    }
    assert_eq!(commands.recv().await.unwrap(), "REGISTER a\n");
}
