//! The places that a client can be at, and a server of this process.

pub(crate) mod nsqd;
pub(crate) mod proxy;

use std::future::Future;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use libmq::{Client, Config, Receipt, Subscription};
use mq_core::{Broker, Options};
use mq_nsq::announcer::{Announcer, AnnouncerConfig};
use mq_nsq::lookupd::{LookupConfig, Lookupd};
use mq_nsq::server::{Config as ServerConfig, Server, TlsOptions, TlsRequired};
use mq_nsq::wire::lookup::BrokerIdentity;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// No step of a test takes longer, unless something is wrong.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A server on its folder, which can stop and come back at its address.
pub(crate) struct Running {
    pub(crate) address: String,
    pub(crate) folder: TempDir,
    runtime: Runtime,
    tls: Option<TlsOptions>,
    auth_server: Option<String>,
    /// Longest delay of a requeue.
    max_req_timeout: Duration,
    /// Most bytes of a message.
    max_msg_size: u32,
    run: Option<(Broker, oneshot::Sender<()>, JoinHandle<()>)>,
}

impl Running {
    pub(crate) fn start() -> Self {
        Self::start_with(false, false, None)
    }

    /// One that speaks TLS and nothing else.
    pub(crate) fn start_tls() -> Self {
        Self::start_with(false, true, None)
    }

    /// One on a unix socket.
    pub(crate) fn start_unix(has_tls: bool) -> Self {
        Self::start_with(true, has_tls, None)
    }

    /// One that lets in who shows the secret "hush".
    pub(crate) fn start_auth() -> Self {
        Self::start_with(false, false, Some(auth_server()))
    }

    /// One that takes requeues with so short delays only.
    pub(crate) fn start_hasty(max_req_timeout: Duration) -> Self {
        let mut running = Self::start();
        running.stop();
        running.max_req_timeout = max_req_timeout;
        running.resume();
        running
    }

    /// One that takes small messages only.
    pub(crate) fn start_small(max_msg_size: u32) -> Self {
        let mut running = Self::start();
        running.stop();
        running.max_msg_size = max_msg_size;
        running.resume();
        running
    }

    fn start_with(is_unix: bool, has_tls: bool, auth_server: Option<String>) -> Self {
        let (runtime, folder) = (Runtime::new().unwrap(), TempDir::new().unwrap());
        let address = match is_unix {
            true => folder.path().join("mq.sock").display().to_string(),
            false => "127.0.0.1:0".to_owned(),
        };
        let tls = has_tls.then(|| {
            let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
            let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
            std::fs::write(&cert, made.cert.pem()).unwrap();
            std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
            TlsOptions { cert, key, required: TlsRequired::True, ..TlsOptions::default() }
        });
        let ServerConfig { max_req_timeout, max_msg_size, .. } = ServerConfig::default();
        let mut running =
            Self { address, folder, runtime, tls, auth_server, max_req_timeout, max_msg_size, run: None };
        running.resume();
        running
    }

    pub(crate) fn resume(&mut self) {
        let options = Options { data_path: self.folder.path().join("data"), ..Options::default() };
        let broker = Broker::open(options).unwrap();
        let (tcp_address, tls) = (self.address.clone(), self.tls.clone());
        let auth_http_addresses = self.auth_server.iter().cloned().collect();
        let (max_req_timeout, max_msg_size) = (self.max_req_timeout, self.max_msg_size);
        let config = ServerConfig {
            tcp_address,
            tls,
            auth_http_addresses,
            max_req_timeout,
            max_msg_size,
            ..ServerConfig::default()
        };
        let server = self.runtime.block_on(Server::bind(config, broker.clone())).unwrap();
        self.address = server.local_addr().to_string();
        let (stop, stopped) = oneshot::channel();
        let task = self.runtime.spawn(server.run(async {
            let _ = stopped.await;
        }));
        self.run = Some((broker, stop, task));
    }

    pub(crate) fn stop(&mut self) {
        if let Some((broker, stop, task)) = self.run.take() {
            stop.send(()).unwrap();
            self.runtime.block_on(task).unwrap();
            broker.close().unwrap();
        }
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.run.as_ref().unwrap().0
    }

    pub(crate) fn url(&self) -> String {
        format!("mq://{}", self.address)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

/// The address of an auth server of this process: whoever shows the secret "hush" may do everything.
fn auth_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = String::new();
            BufReader::new(&stream).read_line(&mut request).unwrap();
            let all = r#"{"ttl":60,"authorizations":[{"topic":".*","channels":[".*"],"permissions":["subscribe","publish"]}]}"#;
            let body =
                if request.contains("secret=hush") { all } else { r#"{"ttl":60,"authorizations":[]}"# };
            let head =
                format!("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
            // Who asked may have gone.
            let _ = stream.write_all((head + body).as_bytes());
        }
    });
    address
}

/// A lookup server.
pub(crate) struct Lookup {
    pub(crate) http: String,
    tcp: String,
    runtime: Runtime,
}

/// A broker's registration, which ends when it is dropped.
pub(crate) struct Announced(#[expect(dead_code, reason = "held")] oneshot::Sender<()>);

impl Lookup {
    pub(crate) fn start() -> Self {
        let runtime = Runtime::new().unwrap();
        let config = LookupConfig {
            tcp_address: "127.0.0.1:0".into(),
            http_address: "127.0.0.1:0".into(),
            ..LookupConfig::default()
        };
        let server = runtime.block_on(Lookupd::bind(config)).unwrap();
        let (tcp, http) = (server.tcp_address().to_string(), server.http_address().to_string());
        runtime.spawn(server.run(std::future::pending()));
        Self { http, tcp, runtime }
    }

    pub(crate) fn announce(&self, server: &Running) -> Announced {
        let (host, port) = server.address.rsplit_once(':').unwrap();
        let identity = BrokerIdentity {
            version: "1".into(),
            tcp_port: port.parse().unwrap(),
            http_port: 1,
            hostname: host.into(),
            broadcast_address: host.into(),
            ..BrokerIdentity::default()
        };
        let config = AnnouncerConfig {
            peers: vec![self.tcp.parse().unwrap()],
            identity,
            ..AnnouncerConfig::default()
        };
        let announcer = Announcer::new(server.broker().clone(), config);
        let (stop, stopped) = oneshot::channel::<()>();
        self.runtime.spawn(async move {
            announcer.run(async move { drop(stopped.await) }).await;
        });
        Announced(stop)
    }
}

/// A client, and what it stands on.
pub(crate) struct World {
    pub(crate) name: &'static str,
    pub(crate) client: Client,
    pub(crate) is_remote: bool,
    /// Whether it is spoken to as nsqd is.
    pub(crate) is_plain: bool,
    _ground: Box<dyn std::any::Any>,
}

/// One of each kind.
pub(crate) fn worlds() -> Vec<World> {
    let world = |name, url: &str, is_remote, ground| {
        let config = Config { max_reconnect_delay: Duration::from_millis(50), ..Config::default() };
        let is_plain = name == "nsqd" || url.contains("extension=false");
        World {
            name,
            client: libmq::connect_with(url, config).unwrap(),
            is_remote,
            is_plain,
            _ground: ground,
        }
    };
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data").display().to_string();
    let server = Running::start();
    let url = server.url();
    let [snappy, deflate, plain] = [(); 3].map(|()| Running::start());
    let plain_url = format!("{}?extension=false", plain.url());
    let snappy_url = format!("{}?compression=snappy", snappy.url());
    let deflate_url = format!("{}?compression=deflate-3", deflate.url());
    let tls = Running::start_tls();
    let ca = tls.folder.path().join("cert.pem");
    let tls_url = format!("mqs://{}?tls_root_ca_file={}", tls.address, ca.display());
    let [unix, unix_tls] = [false, true].map(Running::start_unix);
    let unix_url = format!("mq+unix:{}", unix.address);
    let unix_ca = unix_tls.folder.path().join("cert.pem");
    // No certificate has the name of a path.
    let named = format!("tls_server_name=127.0.0.1&tls_root_ca_file={}", unix_ca.display());
    let unix_tls_url = format!("mqs+unix:{}?{named}", unix_tls.address);
    let auth = Running::start_auth();
    let auth_url = format!("{}?auth_secret=hush", auth.url());
    let mut worlds = vec![
        world("folder", &path, false, Box::new(folder) as Box<dyn std::any::Any>),
        world("memory", "mq:memory", false, Box::new(())),
        world("broker", &url, true, Box::new(server)),
        world("broker without the extension", &plain_url, true, Box::new(plain)),
        world("broker over snappy", &snappy_url, true, Box::new(snappy)),
        world("broker over deflate", &deflate_url, true, Box::new(deflate)),
        world("broker over TLS", &tls_url, true, Box::new(tls)),
        world("broker on a unix socket", &unix_url, true, Box::new(unix)),
        world("broker on a unix socket over TLS", &unix_tls_url, true, Box::new(unix_tls)),
        world("broker that wants a secret", &auth_url, true, Box::new(auth)),
    ];
    if let Some(nsqd) = nsqd::Nsqd::start() {
        worlds.push(world("nsqd", &nsqd.url(), true, Box::new(nsqd)));
    }
    worlds
}

/// The next message's body and attempts; it is finished.
pub(crate) fn next(subscription: &Subscription) -> (String, u16) {
    let message = subscription.next(PATIENCE).unwrap().expect("a message comes");
    message.finish();
    (String::from_utf8(message.body().to_vec()).unwrap(), message.attempts())
}

/// Bodies of so many messages, sorted; they are finished.
pub(crate) fn bodies(subscription: &Subscription, count: usize) -> Vec<String> {
    let mut bodies: Vec<_> = (0..count).map(|_| next(subscription).0).collect();
    bodies.sort();
    bodies
}

/// Whether a receipt is as it should be there.
pub(crate) fn check(world: &World, receipt: &Receipt) {
    assert_eq!(receipt.offset.is_none(), world.is_plain, "{}: {receipt:?}", world.name);
    assert!(!receipt.duplicate && !receipt.broker.is_empty(), "{}: {receipt:?}", world.name);
}

/// Runs a future on this thread, without a runtime.
pub(crate) fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}
