//! Brokers, lookup servers and pages in this process, and a client that shows all of an answer.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use mq_admin::{Admin, Alone, Mode, Settings};
use mq_core::discovery::Producer;
use mq_core::{Broker, Options};
use mq_net::http::{HostNames, HttpLimits, HttpServer};
use mq_nsq::lookupd::{LookupConfig, Lookupd};
use mq_nsq::server::{Config, Server};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A broker with the page beside its API.
pub(crate) struct Node {
    pub(crate) http: String,
    pub(crate) tcp: String,
    _folder: TempDir,
    task: AbortHandle,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    pub(crate) async fn start_with(tokens: Option<PathBuf>) -> Self {
        Self::start_as(Config { http_auth_token_file: tokens, ..Config::default() }).await
    }

    /// With other rules of who may do what.
    pub(crate) async fn start_as(rules: Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { data_path: folder.path().join("data"), ..Options::default() };
        let broker = Broker::open(options).unwrap();
        let config = Config {
            tcp_address: "127.0.0.1:0".to_owned(),
            http_address: Some("127.0.0.1:0".to_owned()),
            broadcast_address: "127.0.0.1".to_owned(),
            ..rules
        };
        let server = Server::bind(config, broker).await.unwrap();
        let http = server.http_addr().unwrap().to_string();
        let tcp = server.local_addr().to_string();
        let mut settings = Settings::new(Mode::Broker, &http, "/admin/");
        settings.local_broker = Some((http.clone(), server.local_http()));
        settings.access = Some(server.access());
        server.add_pages(Admin::new(settings));
        let task = tokio::spawn(server.run(std::future::pending())).abort_handle();
        Self { http, tcp, _folder: folder, task }
    }

    /// Ends it without a word.
    pub(crate) fn kill(&self) {
        self.task.abort();
    }

    /// Calls its own API.
    pub(crate) async fn api(&self, method: &str, path: &str, body: &str) -> Reply {
        call(&self.http, method, path, &[], body).await
    }
}

/// A consumer over NSQ's protocol that finishes nothing.
pub(crate) struct Consumer(TcpStream);

impl Consumer {
    pub(crate) async fn start(tcp: &str, topic: &str, channel: &str, credit: u32) -> Self {
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        let hello = format!("  V2SUB {topic} {channel}\nRDY {credit}\n");
        stream.write_all(hello.as_bytes()).await.unwrap();
        let mut consumer = Self(stream);
        assert_eq!(consumer.frame().await, b"OK");
        consumer
    }

    /// The body of the next message.
    pub(crate) async fn message(&mut self) -> String {
        const HEADER: usize = 8 + 2 + 16;
        String::from_utf8(self.frame().await.split_off(HEADER)).unwrap()
    }

    async fn frame(&mut self) -> Vec<u8> {
        let read = async {
            let size = self.0.read_u32().await.unwrap();
            self.0.read_u32().await.unwrap();
            let mut body = vec![0; size as usize - 4];
            self.0.read_exact(&mut body).await.unwrap();
            body
        };
        tokio::time::timeout(PATIENCE, read).await.unwrap()
    }
}

/// A lookup server.
pub(crate) struct Lookup {
    pub(crate) http: String,
    server: Arc<mq_net::directory::Directory>,
}

impl Lookup {
    pub(crate) async fn start() -> Self {
        let config = LookupConfig {
            tcp_address: "127.0.0.1:0".to_owned(),
            http_address: "127.0.0.1:0".to_owned(),
            ..LookupConfig::default()
        };
        let lookup = Lookupd::bind(config).await.unwrap();
        let http = lookup.http_address().to_string();
        let server = Arc::clone(lookup.directory());
        tokio::spawn(lookup.run(std::future::pending()));
        Self { http, server }
    }

    /// Registers a broker whose HTTP API is at `http`, with topics.
    pub(crate) fn register(&self, http: &str, topics: &[&str]) {
        let (host, port) = http.rsplit_once(':').unwrap();
        let id = self.server.identify(Producer {
            remote_address: "127.0.0.1:5".to_owned(),
            hostname: "h".to_owned(),
            broadcast_address: host.to_owned(),
            // The registry's key together with the address.
            tcp_port: port.parse().unwrap(),
            http_port: port.parse().unwrap(),
            grpc_port: 0,
            version: "1.3.0".to_owned(),
            topology_zone: String::new(),
            topology_region: String::new(),
        });
        let id = id.unwrap();
        for topic in topics {
            self.server.register(id, &topic.parse().unwrap(), None).unwrap();
        }
    }
}

/// A page on a port of its own, and its address.
pub(crate) async fn page(settings: Settings) -> String {
    let server = HttpServer::bind("127.0.0.1:0", None, HttpLimits::default()).await.unwrap();
    let address = server.local_addr().to_string();
    let page = Alone::new(Admin::new(settings), HostNames::default());
    tokio::spawn(server.run(page, std::future::pending()));
    address
}

/// A fleet's settings.
pub(crate) fn fleet(lookups: &[&str], nodes: &[&str]) -> Settings {
    let owned = |list: &[&str]| list.iter().map(|address| (*address).to_owned()).collect();
    Settings { lookups: owned(lookups), nodes: owned(nodes), ..Settings::new(Mode::Fleet, "page", "/") }
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Sends a request, and reads all of the answer.
pub(crate) async fn call(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request += &format!("Host: {address}\r\n");
    }
    for (name, value) in headers {
        request += &format!("{name}: {value}\r\n");
    }
    request += &format!("Content-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let end = answer.windows(4).position(|part| part == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let pairs = lines.filter_map(|line| line.split_once(": "));
    let headers = pairs.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    Reply { status, headers, body: answer[end + 4..].to_vec() }
}

/// Asks for JSON, which has to come.
pub(crate) async fn get(address: &str, path: &str) -> Value {
    let reply = call(address, "GET", path, &[], "").await;
    assert_eq!(reply.status, 200, "{path}: {}", String::from_utf8_lossy(&reply.body));
    reply.json()
}

/// Posts JSON.
pub(crate) async fn post(address: &str, path: &str, body: &Value) -> Reply {
    call(address, "POST", path, &[("Content-Type", "application/json")], &body.to_string()).await
}
