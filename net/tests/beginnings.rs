//! Handshakes, records of TLS and heads of requests of which most comes, and no more.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use mq_net::budget::Budget;
use mq_net::http::{Answer, Api, HostNames, HttpLimits, HttpServer, Method, Request, Route};
use mq_net::transport::tls::{ClientTls, ClientTlsOptions, TlsConfig, TlsOptions};
use rcgen::generate_simple_self_signed;
use tokio::time::{sleep, timeout};

const PATIENCE: Duration = Duration::from_secs(60);
const LIMIT: usize = 16 << 20;
/// An eighth: what all beginnings together may have.
const PART: usize = LIMIT / 8;
const PEERS: usize = 300;
/// Bytes that come of each.
const BYTES: usize = 12_000;
/// More than the sockets of both ends take.
const LARGE_BYTES: usize = 16 << 20;

struct Ping;

impl Api for Ping {
    const ROUTES: &'static [Route<Self>] = &[
        Route {
            method: Method::GET,
            path: "/ping",
            parameters: &[],
            statuses: &[],
            handler: |_, _| Box::pin(async { Answer::text("pong") }),
        },
        Route {
            method: Method::GET,
            path: "/large",
            parameters: &[],
            statuses: &[],
            handler: |_, _| Box::pin(async { Answer::text(vec![b'x'; LARGE_BYTES]) }),
        },
    ];

    fn hosts(&self) -> Option<&HostNames> {
        None
    }

    async fn admit(&self, _: Option<&'static Route<Self>>, _: &mut Request) -> Result<(), Answer> {
        Ok(())
    }
}

struct Server {
    address: String,
    budget: Budget,
    certificate: String,
}

/// A server, which lasts as long as the test.
async fn start(with_tls: bool) -> Server {
    let made = generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let certificate = made.cert.pem();
    let options = TlsOptions {
        cert: certificate.clone().into(),
        key: made.signing_key.serialize_pem().into(),
        ..TlsOptions::default()
    };
    let budget = Budget::new(LIMIT);
    let limits = HttpLimits { budget: budget.clone(), ..HttpLimits::default() };
    let tls = with_tls.then(|| TlsConfig::load(options).unwrap());
    let server = HttpServer::bind("127.0.0.1:0", tls, limits).await.unwrap();
    let address = server.local_addr().to_string();
    tokio::spawn(server.run(Arc::new(Ping), std::future::pending()));
    Server { address, budget, certificate }
}

impl Server {
    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(&self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Shakes hands, and returns what makes and reads records.
    fn shake(&self, socket: &mut TcpStream) -> rustls::ClientConnection {
        let root_ca_file = Some(self.certificate.clone().into());
        let options = ClientTlsOptions { root_ca_file, ..ClientTlsOptions::default() };
        let mut session = ClientTls::load(&options).unwrap().session("localhost:443").unwrap();
        while session.is_handshaking() {
            session.complete_io(socket).unwrap();
        }
        session
    }
}

/// Whether the server has closed the connection.
fn is_closed(mut socket: &TcpStream) -> bool {
    socket.set_nonblocking(true).unwrap();
    loop {
        match socket.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Waits until so many peers are closed that the others fit, and returns the youngest, which is not.
async fn the_oldest_are_closed(server: &Server, peers: Vec<TcpStream>) -> TcpStream {
    let closed = async {
        while peers.iter().filter(|peer| is_closed(peer)).count() < PEERS - PART / BYTES {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, closed).await.expect("the oldest are closed");
    assert!(server.budget.peak() >= PART / 2, "{} bytes counted", server.budget.peak());
    let youngest = peers.into_iter().next_back().unwrap();
    assert!(!is_closed(&youngest), "the youngest stays");
    youngest.set_nonblocking(false).unwrap();
    youngest
}

fn answer(bytes: &mut impl Read) -> String {
    let mut text = [0; 15];
    bytes.read_exact(&mut text).unwrap();
    String::from_utf8_lossy(&text).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_heads_have_a_part_of_the_budget() {
    let server = start(false).await;
    let head = format!("GET /ping HTTP/1.1\r\nHost: h\r\nX: {}", "x".repeat(BYTES));
    let peers = (0..PEERS).map(|_| {
        let mut socket = server.connect();
        socket.write_all(head.as_bytes()).unwrap();
        socket
    });
    let mut youngest = the_oldest_are_closed(&server, peers.collect()).await;
    youngest.write_all(b"\r\n\r\n").unwrap();
    assert_eq!(answer(&mut youngest), "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_records_of_tls_have_a_part_of_the_budget() {
    let server = start(true).await;
    let request = format!("GET /ping HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(BYTES));
    let (mut peers, mut last) = (Vec::new(), None);
    for _ in 0..PEERS {
        let mut socket = server.connect();
        let mut session = server.shake(&mut socket);
        session.writer().write_all(request.as_bytes()).unwrap();
        let mut record = Vec::new();
        session.write_tls(&mut record).unwrap();
        let rest = record.split_off(record.len() - 10);
        socket.write_all(&record).unwrap();
        peers.push(socket);
        last = Some((session, rest));
    }
    // The tickets of the youngest are read with its answer.
    let youngest = peers.last().unwrap().try_clone().unwrap();
    let (mut session, rest) = last.unwrap();
    let peers = peers.into_iter().take(PEERS - 1).collect();
    let _second = the_oldest_are_closed(&server, peers).await;
    let mut youngest = youngest;
    youngest.set_nonblocking(false).unwrap();
    youngest.write_all(&rest).unwrap();
    assert_eq!(answer(&mut rustls::Stream::new(&mut session, &mut youngest)), "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_handshakes_have_a_part_of_the_budget() {
    let server = start(true).await;
    // The first record of a client's greeting of 60,000 bytes.
    let hello = [&[0x16, 3, 1, 0x2e, 0xe0, 1, 0, 0xea, 0x60, 3, 3][..], &[0; BYTES - 6]].concat();
    let peers = (0..PEERS).map(|_| {
        let mut socket = server.connect();
        socket.write_all(&hello).unwrap();
        socket
    });
    let _youngest = the_oldest_are_closed(&server, peers.collect()).await;
    // Whoever shakes hands as usual finds no difference.
    let mut socket = server.connect();
    let mut session = server.shake(&mut socket);
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    stream.write_all(b"GET /ping HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    assert_eq!(answer(&mut stream), "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_tls_holds_of_an_unread_answer_counts_beside_the_answer() {
    let server = start(true).await;
    let mut socket = server.connect();
    let mut session = server.shake(&mut socket);
    let mut stream = rustls::Stream::new(&mut session, &mut socket);
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let both = async {
        while server.budget.used() < LARGE_BYTES + (64 << 10) {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, both).await.expect("both are counted");
    drop(socket);
    let neither = async {
        while server.budget.used() > 0 {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, neither).await.expect("neither is counted any more");
}
