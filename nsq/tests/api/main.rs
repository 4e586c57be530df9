//! The HTTP API of a broker: every endpoint and error as nsqd answers it, and what is ours.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

#[path = "../auth/auth_server.rs"]
#[allow(dead_code, unreachable_pub)]
mod auth_server;
#[path = "../common/mod.rs"]
mod common;
mod endpoints;
mod ids;
mod metrics;
mod statsd;
mod who;

use std::time::Duration;

use common::{PATIENCE, Running, start_with};
use mq_nsq::server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout};

/// A server with HTTP on a free port.
async fn start(config: Config) -> Running {
    let config = Config { http_address: Some("127.0.0.1:0".to_owned()), ..config };
    start_with(config, |_| {}, false).await
}

/// An answer.
#[derive(Debug, PartialEq, Eq)]
struct Reply {
    status: u16,
    /// Lower-case names, without dates and lengths.
    headers: Vec<String>,
    body: Vec<u8>,
}

impl Reply {
    async fn read(socket: &mut (impl AsyncReadExt + Unpin)) -> Self {
        let mut bytes = Vec::new();
        let _ = timeout(PATIENCE, socket.read_to_end(&mut bytes)).await.expect("an answer in time");
        let at = bytes.windows(4).position(|end| end == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..at].to_vec()).unwrap().to_lowercase();
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let is_compared = |line: &&str| {
            !["date", "content-length", "connection"].contains(&line.split(':').next().unwrap())
        };
        let headers = lines.filter(is_compared).map(str::to_owned).collect();
        Self { status, headers, body: bytes.split_off(at + 4) }
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn content_type(&self) -> &str {
        self.headers.iter().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default()
    }

    fn is_nsqs(&self) -> bool {
        self.headers.iter().any(|line| line == "x-nsq-content-type: nsq; version=1.0")
    }
}

fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

/// Sends a request such as `GET /ping`.
async fn ask_with(server: &Running, line: &str, headers: &str, body: &[u8]) -> Reply {
    let mut socket = TcpStream::connect(server.http.as_ref().unwrap()).await.unwrap();
    // A body too large is refused before it is read.
    let _ = socket.write_all(&request(line, headers, body)).await;
    Reply::read(&mut socket).await
}

async fn ask(server: &Running, line: &str) -> Reply {
    ask_with(server, line, "", b"").await
}

async fn send(server: &Running, line: &str, body: &[u8]) -> Reply {
    ask_with(server, line, "", body).await
}

/// Waits until a topic's numbers are as they should be.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < deadline, "waited for {what}");
        sleep(Duration::from_millis(2)).await;
    }
}
