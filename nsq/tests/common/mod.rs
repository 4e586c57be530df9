//! A server on a socket of its own, and a peer that speaks in bytes.
#![allow(dead_code, unreachable_pub)] // Each test file is a crate of its own and uses its part.

pub mod stack;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use mq_core::{Broker, Options};
use mq_net::access::HttpTokens;
use mq_net::clients::Clients;
use mq_nsq::server::{Config, Server, TlsConfig};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// No step of a test takes longer, unless something is wrong.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Running {
    pub broker: Broker,
    pub address: String,
    pub clients: Clients,
    pub tls: Option<TlsConfig>,
    pub http: Option<String>,
    pub https: Option<String>,
    pub tokens: Option<HttpTokens>,
    pub folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
}

pub fn options(folder: &TempDir) -> Options {
    Options { data_path: folder.path().join("data"), ..Options::default() }
}

/// Starts a server on a free port, or on a unix socket.
pub async fn start_with(config: Config, options: impl FnOnce(&mut Options), unix: bool) -> Running {
    let folder = TempDir::new().unwrap();
    let mut broker_options = self::options(&folder);
    options(&mut broker_options);
    serve(Broker::open(broker_options).unwrap(), folder, config, unix).await
}

/// Starts a server of that broker. Its socket is in the folder, if it is a unix socket.
pub async fn serve(broker: Broker, folder: TempDir, mut config: Config, unix: bool) -> Running {
    config.tcp_address =
        if unix { folder.path().join("mq.sock").display().to_string() } else { "127.0.0.1:0".to_owned() };
    let server = Server::bind(config, broker.clone()).await.unwrap();
    let (address, clients) = (server.local_addr().to_string(), server.clients());
    let tls = server.tls();
    let address_of = |address: Option<&_>| address.map(ToString::to_string);
    let (http, https) = (address_of(server.http_addr()), address_of(server.https_addr()));
    let tokens = server.http_tokens();
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));
    Running { broker, address, clients, tls, http, https, tokens, folder, stop: Some(stop), task }
}

pub async fn start() -> Running {
    start_with(Config::default(), |_| {}, false).await
}

impl Running {
    pub async fn stop(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        timeout(PATIENCE, self.task).await.unwrap().unwrap();
        self.broker.close().unwrap();
    }

    /// A connection that has said nothing yet.
    pub async fn raw(&self) -> Peer {
        let socket: Box<dyn Socket> = if self.address.contains('/') {
            Box::new(UnixStream::connect(PathBuf::from(&self.address)).await.unwrap())
        } else {
            let stream = TcpStream::connect(&self.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            Box::new(stream)
        };
        Peer { socket, bytewise: false, skip: b"" }
    }

    pub async fn peer(&self) -> Peer {
        let mut peer = self.raw().await;
        peer.send(b"  V2").await;
        peer
    }
}

pub trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

pub struct Peer {
    pub socket: Box<dyn Socket>,
    /// Whether each byte is written by itself.
    pub bytewise: bool,
    /// The beginning of the next input that was sent already.
    pub skip: &'static [u8],
}

/// A frame as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Raw {
    pub kind: u32,
    pub data: Vec<u8>,
}

impl Raw {
    /// The frame in one line: a message without its time, and with its id apart.
    pub fn show(&self) -> String {
        match self.kind {
            0 => self.data.escape_ascii().to_string(),
            1 => format!("error {}", self.data.escape_ascii()),
            2 => {
                let attempts = u16::from_be_bytes([self.data[8], self.data[9]]);
                format!("message {attempts} {}", self.data[26..].escape_ascii())
            }
            kind => format!("type {kind}"),
        }
    }

    pub fn id(&self) -> String {
        assert_eq!(self.kind, 2, "{}", self.show());
        String::from_utf8(self.data[10..26].to_vec()).unwrap()
    }
}

impl Peer {
    pub async fn send(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_send(bytes).await {
            panic!("the server takes no more: {error}");
        }
    }

    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        let step = if self.bytewise { 1 } else { bytes.len().max(1) };
        for part in bytes.chunks(step) {
            self.socket.write_all(part).await?;
            self.socket.flush().await?;
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub async fn end(&mut self) {
        self.socket.shutdown().await.unwrap();
    }

    /// The next frame; `None` at the end. A reset counts as the end.
    pub async fn frame(&mut self) -> Option<Raw> {
        timeout(PATIENCE, self.read_frame()).await.expect("the server is silent")
    }

    async fn read_frame(&mut self) -> Option<Raw> {
        let size = self.socket.read_u32().await.ok()?;
        let kind = self.socket.read_u32().await.unwrap();
        let mut data = vec![0; size as usize - 4];
        self.socket.read_exact(&mut data).await.unwrap();
        Some(Raw { kind, data })
    }

    pub async fn expect(&mut self, want: &str) -> Raw {
        let frame = self.frame().await.unwrap_or_else(|| panic!("closed instead of {want}"));
        assert_eq!(frame.show(), want);
        frame
    }

    pub async fn expect_end(&mut self) {
        let frame = self.frame().await;
        assert_eq!(frame, None, "{}", frame.as_ref().unwrap().show());
    }
}

/// A command with a body.
pub fn with_body(line: &str, body: &[u8]) -> Vec<u8> {
    [line.as_bytes(), b"\n", &(body.len() as u32).to_be_bytes(), body].concat()
}

pub fn mpub(topic: &str, bodies: &[&[u8]]) -> Vec<u8> {
    let mut inner = (bodies.len() as u32).to_be_bytes().to_vec();
    for body in bodies {
        inner.extend_from_slice(&(body.len() as u32).to_be_bytes());
        inner.extend_from_slice(body);
    }
    with_body(&format!("MPUB {topic}"), &inner)
}
