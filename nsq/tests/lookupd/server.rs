//! A lookup server in this process, and how to talk to one.

use std::time::Duration;

use mq_nsq::lookupd::{LookupConfig, Lookupd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) const IDENTIFY: &str = concat!(
    r#"{"version":"1.3.0","tcp_port":4150,"http_port":4151,"hostname":"h","broadcast_address":"b","#,
    r#""topology_zone":"z","topology_region":"r"}"#
);

/// Stops when it is dropped.
pub(crate) struct Server {
    pub(crate) tcp: String,
    pub(crate) http: String,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::start_with(LookupConfig::default()).await
    }

    pub(crate) async fn start_with(config: LookupConfig) -> Self {
        Self::start_at("127.0.0.1:0", "127.0.0.1:0", config).await
    }

    pub(crate) async fn start_at(tcp: &str, http: &str, config: LookupConfig) -> Self {
        let config = LookupConfig {
            tcp_address: tcp.into(),
            http_address: http.into(),
            hostname: "here".into(),
            ..config
        };
        let server = Lookupd::bind(config).await.unwrap();
        let (tcp, http) = (server.tcp_address().to_string(), server.http_address().to_string());
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(server.run(async move { _ = stopped.await }));
        Self { tcp, http, stop: Some(stop), task }
    }

    pub(crate) async fn stop(mut self) {
        let _ = self.stop.take().unwrap().send(());
        timeout(PATIENCE, &mut self.task).await.expect("it stops").unwrap();
    }
}

/// IDENTIFY with `body`.
pub(crate) fn identify(body: &str) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_be_bytes();
    [b"IDENTIFY\n", &length[..], body.as_bytes()].concat()
}

/// Sends all, closes this side, and gives the answers' data until the other side closes.
pub(crate) async fn transcript(address: &str, sent: &[u8]) -> Vec<String> {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(sent).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut bytes = Vec::new();
    // After an error nsqlookupd resets the connection where more had been sent.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("it closes");
    answers(&bytes)
}

fn answers(mut bytes: &[u8]) -> Vec<String> {
    let mut answers = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let (data, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        answers.push(String::from_utf8_lossy(data).into_owned());
        bytes = rest;
    }
    assert!(bytes.is_empty(), "half an answer: {bytes:?}");
    answers
}

/// A broker's connection that stays.
pub(crate) struct Broker(pub(crate) TcpStream);

impl Broker {
    pub(crate) async fn connect(address: &str, identity: &str) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"  V1").await.unwrap();
        let mut broker = Self(stream);
        let answer = broker.ask(&identify(identity)).await;
        assert!(answer.starts_with('{'), "{answer}");
        broker
    }

    /// Sends a command and gives its answer.
    pub(crate) async fn ask(&mut self, command: &[u8]) -> String {
        self.0.write_all(command).await.unwrap();
        let length = timeout(PATIENCE, self.0.read_u32()).await.expect("an answer").unwrap();
        let mut data = vec![0; length as usize];
        self.0.read_exact(&mut data).await.unwrap();
        String::from_utf8(data).unwrap()
    }

    pub(crate) async fn ok(&mut self, command: &str) {
        assert_eq!(self.ask(format!("{command}\n").as_bytes()).await, "OK", "{command}");
    }
}

/// Status, headers that matter, and body of a request.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<String>,
    pub(crate) body: String,
}

pub(crate) async fn request(address: &str, method: &str, target: &str) -> Response {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an answer").unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut headers: Vec<_> = lines
        .map(str::to_ascii_lowercase)
        .filter(|line| ["content-type", "x-nsq", "allow"].iter().any(|name| line.starts_with(name)))
        .collect();
    headers.sort();
    Response { status, headers, body: body.to_owned() }
}

pub(crate) async fn get(address: &str, target: &str) -> String {
    let response = request(address, "GET", target).await;
    assert_eq!(response.status, 200, "{target}: {response:?}");
    response.body
}

/// Asks again until the answer is right.
pub(crate) async fn until(address: &str, target: &str, is_right: impl Fn(&str) -> bool) {
    let asked = async {
        while !is_right(&get(address, target).await) {
            sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(PATIENCE, asked).await.expect(target);
}
