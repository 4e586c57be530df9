//! Attacks on memory, all at once: half-sent publishes and heads, answers and messages that nobody reads,
//! streams without end. The process stays within its limit, and a client that behaves is served.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use mq_grpc::v1::admin_service_client::AdminServiceClient;
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::subscribe_request::Request as Body;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{
    OutgoingMessage, PeekRequest, PublishRequest, PublishStreamRequest, SubscribeCredit, SubscribeOpen,
    SubscribeRequest,
};
use mq_nsq::client::Connection;
use mq_tests::{Broker, Cgroup, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};

use crate::clients::{connect, create_channel, next, subscribe, topic};

const KIB: usize = 1 << 10;
const MIB: u64 = 1 << 20;

/// `--memory-limit`.
const LIMIT: u64 = 64 * MIB;
/// Anonymous memory that the process may have: its limit, the largest message, and 128 MiB.
const BOUND: u64 = LIMIT + MIB + 128 * MIB;

/// Memory of the cgroup that the process lives in, where one can be made: buffers of sockets count there too.
const CGROUP: u64 = 512 * MIB;

const HALF_SENT: usize = 8_000;
/// Bytes that come of each publish of a megabyte.
const HALF_BYTES: usize = 85 * KIB;
/// Heads of HTTP requests that do not end, and bytes that come of each.
const HALF_HEADS: usize = 3_000;
const HEAD_BYTES: usize = 60 * KIB;
const UNREAD_STATS: usize = 200;
/// Topics and channels that make up an answer of some megabytes.
const STATS_TOPICS: usize = 400;
const STATS_CHANNELS: usize = 20;
/// Subscribers that never read, over NSQ's protocol and over gRPC.
const DEAF: usize = 250;
const STREAMS: usize = 10_000;
const CONNECTIONS: usize = 20;
/// Connections that a client which behaves makes again for its hundred messages.
const RECONNECTS_MAX: usize = 5;

/// The most anonymous memory that a process is seen with.
struct Watch {
    peak: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    task: Option<std::thread::JoinHandle<()>>,
}

fn anonymous(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kib| kib * 1024)
}

impl Watch {
    fn start(process: u32) -> Self {
        let (peak, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (most, ends) = (Arc::clone(&peak), Arc::clone(&stop));
        let task = std::thread::spawn(move || {
            while !ends.load(Ordering::Relaxed) {
                most.fetch_max(anonymous(process).unwrap_or(0), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(10));
            }
        });
        Self { peak, stop, task: Some(task) }
    }

    fn peak_mib(&self) -> u64 {
        self.peak.load(Ordering::Relaxed) / MIB
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.task.take().map(std::thread::JoinHandle::join);
    }
}

/// Makes the topics and channels that `/stats` lists, over one connection.
fn fill_stats(broker: &Broker) {
    let mut socket = TcpStream::connect(broker.http_address()).unwrap();
    let mut answers = socket.try_clone().unwrap();
    let mut requests = String::new();
    for topic in 0..STATS_TOPICS {
        for channel in 0..STATS_CHANNELS {
            let (topic, channel) = (format!("{topic:060}"), format!("{channel:060}"));
            if channel.ends_with("00") {
                requests += &format!("POST /topic/create?topic={topic} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            }
            requests += &format!(
                "POST /channel/create?topic={topic}&channel={channel} HTTP/1.1\r\nHost: localhost\r\n\r\n"
            );
        }
    }
    requests += "GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let reading = std::thread::spawn(move || {
        let mut text = String::new();
        answers.read_to_string(&mut text).unwrap();
        text
    });
    socket.write_all(requests.as_bytes()).unwrap();
    let text = reading.join().unwrap();
    assert_eq!(text.matches("HTTP/1.1 200").count(), STATS_TOPICS * (STATS_CHANNELS + 1) + 1);
}

/// Sends as much of `bytes` as the socket takes at once.
fn send_some(address: &str, bytes: &[u8]) -> Option<TcpStream> {
    let mut socket = TcpStream::connect(address).ok()?;
    socket.set_nonblocking(true).unwrap();
    // It is not read any more, or closed: both are what the broker may do.
    let _ = socket.write_all(bytes);
    socket.set_nonblocking(false).unwrap();
    Some(socket)
}

fn half_sent(broker: &Broker) -> Vec<TcpStream> {
    let head = format!("  V2PUB half\n{}", "\0\x10\0\0");
    let bytes = [head.as_bytes(), &vec![b'x'; HALF_BYTES]].concat();
    (0..HALF_SENT).filter_map(|_| send_some(broker.address(), &bytes)).collect()
}

fn half_sent_heads(broker: &Broker) -> Vec<TcpStream> {
    let bytes = format!("GET /ping HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(HEAD_BYTES));
    (0..HALF_HEADS).filter_map(|_| send_some(broker.http_address(), bytes.as_bytes())).collect()
}

fn unread_stats(broker: &Broker) -> Vec<TcpStream> {
    let request = b"GET /stats?format=json HTTP/1.1\r\nHost: localhost\r\n\r\n";
    (0..UNREAD_STATS).filter_map(|_| send_some(broker.http_address(), request)).collect()
}

fn deaf_over_nsq(broker: &Broker) -> Vec<TcpStream> {
    let subscribe = |n: usize| format!("  V2SUB large n{n}\nRDY 2500\n");
    (0..DEAF).filter_map(|n| send_some(broker.address(), subscribe(n).as_bytes())).collect()
}

fn grpc(broker: &Broker) -> Endpoint {
    Channel::from_shared(format!("http://{}", broker.grpc_address())).unwrap()
}

/// Subscriptions on one connection, whose messages nobody reads.
async fn deaf_over_grpc(broker: &Broker) -> JoinSet<()> {
    let channel = grpc(broker).connect().await.unwrap();
    let mut tasks = JoinSet::new();
    for n in 0..DEAF {
        let mut client = SubscribeServiceClient::new(channel.clone());
        tasks.spawn(async move {
            let open = SubscribeOpen {
                topic: "large".to_owned(),
                channel: format!("g{n}"),
                credit: Some(SubscribeCredit { messages: Some(100), bytes: None }),
                ..SubscribeOpen::default()
            };
            let (sender, requests) = tokio::sync::mpsc::channel(1);
            sender.send(SubscribeRequest { request: Some(Body::Open(open)) }).await.unwrap();
            let requests = Requests(requests);
            let stream = client.subscribe(requests).await;
            std::future::pending::<()>().await;
            drop((sender, stream));
        });
    }
    tasks
}

/// Streams that say nothing. Each task counts itself once it has its answer.
async fn many_streams(broker: &Broker, answered: &Arc<AtomicU64>) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let channel = grpc(broker).connect().await.unwrap();
        for _ in 0..STREAMS / CONNECTIONS {
            let (mut client, answered) = (PublishServiceClient::new(channel.clone()), Arc::clone(answered));
            tasks.spawn(async move {
                let (sender, requests) = tokio::sync::mpsc::channel::<PublishStreamRequest>(1);
                let stream: Result<tonic::Response<Streaming<_>>, _> =
                    client.publish_stream(Requests(requests)).await;
                answered.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
                drop((sender, stream));
            });
        }
    }
    tasks
}

/// A channel's messages as a stream.
struct Requests<T>(tokio::sync::mpsc::Receiver<T>);

impl<T> tonic::codegen::tokio_stream::Stream for Requests<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}

async fn publish(publisher: &mut Connection, body: &[u8]) -> Result<(), mq_nsq::client::Error> {
    publisher.publish(&topic("others"), body).await?;
    publisher.flush().await
}

/// A client of each protocol with messages of its own is served; over NSQ with large ones too.
async fn others_are_served(broker: &Broker) {
    let mut consumer = subscribe(broker, "others", "c", 10).await;
    let mut publisher = connect(broker).await;
    let mut reconnects = 0;
    for bytes in [10, 1_000, 10, 100 * KIB, 10] {
        for n in 0..20_u8 {
            let body = vec![n; bytes];
            while let Err(refused) = publish(&mut publisher, &body).await {
                // One of those that wait with most may be closed: nothing is stored then, and it comes again.
                assert!(refused.to_string().contains("memory for clients is spent"), "{refused}");
                reconnects += 1;
                assert!(reconnects <= RECONNECTS_MAX, "{reconnects} reconnects");
                publisher = connect(broker).await;
            }
            let message = next(&mut consumer).await;
            assert!(message.body == body);
            consumer.finish(message.id);
        }
    }
    consumer.flush().await.unwrap();
    consumer.close().await.unwrap();
    let mut client = PublishServiceClient::new(grpc(broker).connect().await.unwrap());
    let messages = vec![OutgoingMessage { body: vec![b'x'; 100].into(), ..OutgoingMessage::default() }];
    let request = PublishRequest { topic: "grpc".to_owned(), messages };
    timeout(mq_tests::PATIENCE, async {
        while let Err(refused) = client.publish(request.clone()).await {
            assert_eq!(refused.code(), tonic::Code::ResourceExhausted, "{refused}");
        }
    })
    .await
    .expect("a small publish over gRPC");
    let ping = b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut socket = send_some(broker.http_address(), ping).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_attacks_at_once_stay_within_the_limit_while_others_are_served() {
    let files = getrlimit(Resource::Nofile);
    if files.maximum.is_some_and(|maximum| maximum < (HALF_SENT + HALF_HEADS + 2_000) as u64) {
        println!("skipped: not enough open files, {files:?}");
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let mut broker = Broker::start_with(&["--memory-limit", "64MiB"]);
    let cgroup = Cgroup::around(broker.pid(), CGROUP);
    if let Err(reason) = &cgroup {
        println!("not in a memory cgroup: {reason}");
    }
    fill_stats(&broker);
    for n in 0..DEAF {
        for protocol in ["n", "g"] {
            create_channel(&broker, "large", &format!("{protocol}{n}")).await;
        }
    }
    let mut publisher = connect(&broker).await;
    for n in 0..8_u8 {
        publisher.publish(&topic("large"), &vec![n; MIB as usize]).await.unwrap();
        publisher.flush().await.unwrap();
    }
    let watch = Watch::start(broker.pid());
    let after = |what: &str| println!("{what}: peak {} MiB", watch.peak_mib());
    after("before");
    let _deaf = deaf_over_nsq(&broker);
    after("subscribers that do not read");
    let _deaf = deaf_over_grpc(&broker).await;
    let answered = Arc::new(AtomicU64::new(0));
    let _streams = many_streams(&broker, &answered).await;
    let _stats = unread_stats(&broker);
    after("unread answers");
    let _heads = half_sent_heads(&broker);
    after("half-sent heads");
    let _half_sent = half_sent(&broker);
    after("half-sent publishes");
    others_are_served(&broker).await;
    after("others");
    until("an answer to each stream", || (answered.load(Ordering::Relaxed) >= STREAMS as u64).then_some(()));
    others_are_served(&broker).await;
    after("all");
    let peak = watch.peak_mib();
    assert!(peak <= BOUND / MIB, "{peak} MiB of anonymous memory, at most {} are allowed", BOUND / MIB);
    drop((_deaf, _streams, _stats, _heads, _half_sent));
    broker.stop();
    if let Ok(cgroup) = cgroup {
        println!("peak of the cgroup: {:?} MiB", cgroup.peak().map(|peak| peak / MIB));
    }
}

/// Bytes of a message that is peeked at by many at once.
const LARGE: usize = 32 << 20;
/// Peeks by each protocol. Each that nobody reads has its two seconds before it gives way to the next.
const PEEKS: usize = 3;
const CANCELLED: usize = 40;

/// Has the broker make up answers with the large message by all protocols, which nobody reads.
async fn unread_peeks(broker: &Broker) -> (Vec<TcpStream>, JoinSet<()>) {
    let request = b"GET /peek?topic=large HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let command = b"  V2PEEK large 0 1\n";
    let mut sockets: Vec<_> = (0..PEEKS).filter_map(|_| send_some(broker.http_address(), request)).collect();
    sockets.extend((0..PEEKS).filter_map(|_| send_some(broker.address(), command)));
    let mut calls = JoinSet::new();
    for _ in 0..PEEKS {
        let mut client = AdminServiceClient::new(grpc(broker).connect().await.unwrap());
        calls.spawn(async move {
            let request = PeekRequest { topic: "large".to_owned(), ..PeekRequest::default() };
            // Too large for this client: what it has got by then is all it takes.
            let _ = client.peek(request).await;
        });
    }
    (sockets, calls)
}

/// Peeks that are given up as soon as they have begun: the broker does their work all the same.
async fn cancelled_peeks(broker: &Broker) {
    let client = AdminServiceClient::new(grpc(broker).connect().await.unwrap());
    for _ in 0..CANCELLED {
        let request = PeekRequest { topic: "large".to_owned(), ..PeekRequest::default() };
        let _ = timeout(Duration::from_millis(5), client.clone().peek(request)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peeks_at_a_large_message_take_memory_for_few_of_it_not_for_all() {
    let limits = ["--memory-limit=64MiB", "--max-msg-size=32MiB", "--max-body-size=64MiB"];
    let mut broker = Broker::start_with(&limits);
    let mut publisher = connect(&broker).await;
    publisher.publish(&topic("large"), &vec![b'x'; LARGE]).await.unwrap();
    publisher.flush().await.unwrap();
    let watch = Watch::start(broker.pid());
    cancelled_peeks(&broker).await;
    println!("cancelled: peak {} MiB", watch.peak_mib());
    let (sockets, mut calls) = unread_peeks(&broker).await;
    while calls.join_next().await.is_some() {}
    // Others take the place of those that do not read: in the end one that reads has its answer.
    let mut reader = send_some(broker.address(), b"  V2PEEK large 0 1\n").unwrap();
    let mut answer = Vec::new();
    let mut piece = vec![0; 1 << 20];
    while answer.len() < LARGE {
        let read = reader.read(&mut piece).unwrap();
        assert!(read > 0, "the connection ended after {} bytes", answer.len());
        answer.extend_from_slice(&piece[..read]);
    }
    let (peak, most) = (watch.peak_mib(), (LIMIT + LARGE as u64 + 128 * MIB) / MIB);
    println!("peak {peak} MiB");
    assert!(peak <= most, "{peak} MiB of anonymous memory, at most {most} are allowed");
    drop(sockets);
    broker.stop();
}
