//! Sessions beyond single answers: bursts, heartbeats, limits, peers that misbehave, the end of the server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::{PATIENCE, Peer, Running, mpub, start, start_with, with_body};
use mq_core::{ChannelName, Durability, Options, TopicName};
use mq_net::budget::Budget;
use mq_nsq::server::Config;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::yield_now;
use tokio::time::{sleep, timeout};

fn topic(name: &str) -> TopicName {
    TopicName::parse(name).unwrap()
}

/// Lets time pass for deadlines.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

/// Waits until `condition` holds.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let met = async {
        while !condition() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, met).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

async fn subscriber(server: &Running, topic: &str, identify: &str, rdy: u32) -> Peer {
    let mut peer = server.peer().await;
    peer.send(&with_body("IDENTIFY", identify.as_bytes())).await;
    peer.expect("OK").await;
    peer.send(format!("SUB {topic} c\nRDY {rdy}\n").as_bytes()).await;
    peer.expect("OK").await;
    peer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_publishes_in_one_burst_are_answered_and_delivered_in_order() {
    let server = start().await;
    let mut consumer = subscriber(&server, "t", "{}", 2500).await;
    let producer = server.peer().await;
    let burst: Vec<u8> = (0..20_000).flat_map(|i| with_body("PUB t", format!("{i}").as_bytes())).collect();
    let (mut from_server, mut to_server) = tokio::io::split(producer.socket);
    let send = async {
        to_server.write_all(&burst).await.unwrap();
    };
    let answers = async {
        let mut oks = vec![0; 20_000 * 10];
        from_server.read_exact(&mut oks).await.unwrap();
        assert!(oks.chunks(10).all(|ok| ok == b"\0\0\0\x06\0\0\0\0OK"));
    };
    let messages = async {
        for i in 0..20_000 {
            let message = consumer.expect(&format!("message 1 {i}")).await;
            consumer.send(format!("FIN {}\n", message.id()).as_bytes()).await;
        }
    };
    timeout(6 * PATIENCE, async { tokio::join!(send, answers, messages) }).await.unwrap();
    until("all finished", || server.clients.list()[0].finished() == 20_000).await;
    server.stop().await;
}

#[tokio::test]
async fn a_message_goes_out_at_once_whatever_the_output_buffer() {
    let server = start().await;
    let identify = r#"{"output_buffer_size":65536,"output_buffer_timeout":30000}"#;
    let mut consumer = subscriber(&server, "t", identify, 100).await;
    let mut producer = server.peer().await;
    for i in 0..3 {
        producer.send(&with_body("PUB t", format!("{i}").as_bytes())).await;
        consumer.expect(&format!("message 1 {i}")).await;
    }
    server.stop().await;
}

#[tokio::test]
async fn large_messages_and_batches_pass_in_any_pieces() {
    let server = start().await;
    let mut consumer = subscriber(&server, "t", "{}", 5).await;
    let mut producer = server.peer().await;
    let large: Vec<u8> = (0..1024 * 1024).map(|i| (i % 251) as u8).collect();
    let bodies = [&large[..], b"small", &large[..7], &large[..]];
    let commands = [mpub("t", &bodies), with_body("PUB t", &large), with_body("PUB t", b"last")].concat();
    for size in [70_001, 131_073, 600_000, commands.len()] {
        for piece in commands.chunks(size) {
            producer.send(piece).await;
        }
        for _ in 0..3 {
            producer.expect("OK").await;
        }
        for body in bodies.iter().copied().chain([&large[..], b"last"]) {
            let frame = consumer.frame().await.unwrap();
            assert!(frame.data[26..] == *body, "{} bytes instead of {}", frame.data.len() - 26, body.len());
            consumer.send(format!("FIN {}\n", frame.id()).as_bytes()).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn heartbeats_come_and_silence_ends_the_connection() {
    let server = start().await;
    let mut alive = subscriber(&server, "t", r#"{"heartbeat_interval":1000}"#, 1).await;
    let mut silent = server.peer().await;
    silent.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":1000}"#)).await;
    silent.expect("OK").await;
    let mut without = server.peer().await;
    without.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":-1}"#)).await;
    without.expect("OK").await;

    let since = Instant::now();
    let answering = async {
        for _ in 0..3 {
            alive.expect("_heartbeat_").await;
            alive.send(b"NOP\n").await;
        }
        assert!(since.elapsed() >= Duration::from_millis(2900));
    };
    let ending = async {
        silent.expect("_heartbeat_").await;
        silent.expect_end().await;
        assert!(since.elapsed() >= Duration::from_millis(1900));
    };
    tokio::join!(answering, ending);
    without.send(b"NOP\n").await;
    without.send(&with_body("PUB t", b"x")).await;
    without.expect("OK").await;
    alive.expect("message 1 x").await;
    server.stop().await;
}

#[tokio::test]
async fn a_subscriber_that_does_not_read_holds_little_and_loses_its_messages_to_others() {
    let server = start().await;
    let mut producer = server.peer().await;
    let large = vec![b'x'; 1024 * 1024];
    let count = 64;
    for _ in 0..count {
        producer.send(&with_body("PUB t", &large)).await;
        producer.expect("OK").await;
    }
    let stuck = subscriber(&server, "t", r#"{"heartbeat_interval":1000,"client_id":"stuck"}"#, 2500).await;
    let clients = server.clients.list();
    let client = clients.iter().find(|client| client.identity().client_id == "stuck").unwrap();
    // It ends when the socket has taken nothing for a second.
    until("the stuck one is gone", || server.clients.list().len() == 1).await;
    assert!(client.delivered() < count / 2, "{} went out", client.delivered());

    let mut other = subscriber(&server, "t", "{}", 4).await;
    for _ in 0..count {
        let frame = other.frame().await.unwrap();
        assert_eq!(frame.data.len(), 26 + large.len());
        other.send(format!("FIN {}\n", frame.id()).as_bytes()).await;
    }
    drop(stuck);
    server.stop().await;
}

#[tokio::test]
async fn a_producer_that_does_not_read_is_not_read() {
    let server = start().await;
    let mut producer = server.peer().await;
    // None between the answers, however long this takes.
    producer.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":-1}"#)).await;
    producer.expect("OK").await;
    let run: Vec<u8> = (0..1000).flat_map(|_| with_body("PUB t", b"x")).collect();
    let mut runs = 0;
    let cut = 'sending: loop {
        let mut at = 0;
        while at < run.len() {
            match timeout(Duration::from_millis(500), producer.socket.write(&run[at..])).await {
                Ok(n) => at += n.unwrap(),
                Err(_) => break 'sending at,
            }
        }
        runs += 1;
        assert!(runs < 10_000, "the server goes on reading");
    };
    // It takes up its work when the answers are taken.
    for _ in 0..runs * 1000 {
        producer.expect("OK").await;
    }
    producer.send(&run[cut..]).await;
    for _ in 0..1000 {
        producer.expect("OK").await;
    }
    server.stop().await;
}

/// A peer that writes the same bytes without end and waits for nothing.
struct Flood {
    socket: std::os::unix::net::UnixStream,
    bytes: Vec<u8>,
    /// Place in the bytes.
    at: usize,
}

impl Flood {
    /// Says `first`, and is ready to flood the server with `bytes`.
    async fn new(server: &Running, first: &[u8], bytes: Vec<u8>) -> Self {
        let mut socket = std::os::unix::net::UnixStream::connect(&server.address).unwrap();
        socket.write_all(first).unwrap();
        socket.set_nonblocking(true).unwrap();
        let mut flood = Self { socket, bytes, at: 0 };
        until("it is known", || server.clients.list().len() == 1).await;
        for _ in 0..1000 {
            yield_now().await;
        }
        flood.turns(100).await;
        flood
    }

    /// Writes until the socket takes no more. Returns how many bytes it took.
    fn fill(&mut self) -> usize {
        let mut all = 0;
        while let Ok(n @ 1..) = self.socket.write(&self.bytes[self.at..]) {
            self.at = (self.at + n) % self.bytes.len();
            all += n;
        }
        all
    }

    /// Lets all that are ready have so many turns. Returns how many bytes the server read meanwhile.
    async fn turns(&mut self, turns: usize) -> usize {
        let mut read = 0;
        for _ in 0..turns {
            yield_now().await;
            read += self.fill();
        }
        read
    }
}

/// Each turn of the test's own task is one round of all that are ready: in it the server reads little of who
/// only costs time, however fast that comes, and looks for what others sent.
#[tokio::test]
async fn a_flood_of_commands_without_answers_is_read_in_small_turns() {
    const TURNS: usize = 100;
    let server = start_with(Config::default(), |_| {}, true).await;
    let mut flood = Flood::new(&server, b"  V2", b"NOP\n".repeat(1000)).await;
    let read = flood.turns(TURNS).await;
    assert!((1..=TURNS * 20 * 1024).contains(&read), "{read} bytes in {TURNS} turns");
    server.stop().await;
}

/// A thousand times as much comes out of the little that a bomb is.
#[tokio::test]
async fn what_a_deflate_bomb_holds_is_taken_in_small_turns() {
    const TURNS: usize = 500;
    let server = start_with(Config::default(), |_| {}, true).await;
    let mut bomb = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    bomb.write_all(&b"NOP\n".repeat(1 << 20)).unwrap();
    bomb.flush().unwrap();
    let bomb = std::mem::take(bomb.get_mut());
    assert!(bomb.len() < 8 * 1024, "{} bytes hold 4 MiB", bomb.len());
    let identify = with_body("IDENTIFY", br#"{"feature_negotiation":true,"deflate":true}"#);
    let mut flood = Flood::new(&server, &[b"  V2", &identify[..]].concat(), bomb).await;
    // One read of what is compressed lasts for a thousand turns.
    let read = flood.turns(TURNS).await;
    assert!(read <= 32 * 1024, "{read} bytes in {TURNS} turns");
    assert_eq!(server.clients.list().len(), 1, "it is served");
    server.stop().await;
}

#[tokio::test]
async fn half_read_commands_of_all_share_one_budget() {
    let config = Config { budget: Budget::new(1024 * 1024), ..Config::default() };
    let server = start_with(config, |_| {}, false).await;
    let large = with_body("PUB t", &vec![b'x'; 1024 * 1024]);
    let mut peers = Vec::new();
    for _ in 0..16 {
        let mut peer = server.peer().await;
        peer.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":1000}"#)).await;
        peer.expect("OK").await;
        // The server stops reading some of them.
        let _ = timeout(Duration::from_millis(20), peer.send(&large[..large.len() - 1])).await;
        peers.push(peer);
    }
    // Others are not concerned.
    let mut small = server.peer().await;
    for _ in 0..10 {
        small.send(&with_body("PUB t", b"small")).await;
        small.expect("OK").await;
    }
    // Those that never end their command go, and with them what they held.
    until("they are gone", || server.clients.list().len() == 1).await;
    for _ in 0..3 {
        small.send(&large).await;
        small.expect("OK").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn without_heartbeats_a_half_read_command_ends_the_connection_and_silence_does_not() {
    let server = start().await;
    let large = with_body("PUB t", &vec![b'x'; 1024 * 1024]);
    let (most, last) = large.split_at(large.len() - 1);
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut peer = server.peer().await;
        peer.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":-1}"#)).await;
        peer.expect("OK").await;
        peers.push(peer);
    }
    let [idle, slow, stuck] = &mut peers[..] else { unreachable!() };
    pass(Duration::from_secs(1000)).await;
    stuck.send(most).await;
    slow.send(most).await;
    // Each command of the slow one takes most of what it may.
    for _ in 0..4 {
        pass(Duration::from_secs(50)).await;
        slow.send(last).await;
        slow.expect("OK").await;
        slow.send(most).await;
    }
    stuck.expect_end().await;
    idle.send(&large).await;
    idle.expect("OK").await;
    slow.send(last).await;
    slow.expect("OK").await;
    server.stop().await;
}

#[tokio::test]
async fn a_closed_connection_gives_its_messages_back_at_once() {
    let server = start().await;
    let mut producer = server.peer().await;
    producer.send(&with_body("PUB t", b"x")).await;
    producer.expect("OK").await;
    let mut first = subscriber(&server, "t", "{}", 1).await;
    first.expect("message 1 x").await;
    let mut second = subscriber(&server, "t", "{}", 1).await;
    drop(first);
    second.expect("message 2 x").await;
    server.stop().await;
}

#[tokio::test]
async fn a_requeue_for_longer_than_allowed_is_cut_to_the_longest_delay() {
    let config = Config { max_req_timeout: Duration::from_millis(50), ..Config::default() };
    let server = start_with(config, |_| {}, false).await;
    let mut consumer = subscriber(&server, "t", "{}", 1).await;
    let mut producer = server.peer().await;
    producer.send(&with_body("PUB t", b"x")).await;
    producer.expect("OK").await;
    let message = consumer.expect("message 1 x").await;
    consumer.send(format!("REQ {} 3600000\n", message.id()).as_bytes()).await;
    consumer.expect("message 2 x").await;
    server.stop().await;
}

#[tokio::test]
async fn a_deferred_message_comes_when_it_is_due() {
    let server = start().await;
    let mut consumer = subscriber(&server, "t", "{}", 10).await;
    let mut producer = server.peer().await;
    let sent = Instant::now();
    producer.send(&with_body("DPUB t 300", b"later")).await;
    producer.send(&with_body("PUB t", b"now")).await;
    consumer.expect("message 1 now").await;
    consumer.expect("message 1 later").await;
    assert!(sent.elapsed() >= Duration::from_millis(300));
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_channel_closes_its_connections() {
    let server = start().await;
    let mut consumer = subscriber(&server, "t", "{}", 1).await;
    let t = server.broker.find_topic(&topic("t")).unwrap();
    let _ = t.delete_channel(&ChannelName::parse("c").unwrap()).unwrap();
    consumer.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_topic_is_created_again_by_the_next_publish() {
    let server = start().await;
    let mut producer = server.peer().await;
    for _ in 0..2 {
        producer.send(&with_body("PUB t", b"x")).await;
        producer.expect("OK").await;
        assert_eq!(server.broker.find_topic(&topic("t")).unwrap().depth(), 1);
        let _ = server.broker.delete_topic(&topic("t")).unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn limits_are_told() {
    let config = Config { max_connections: 2, ..Config::default() };
    let server = start_with(config, |options| options.max_channel_consumers = 1, false).await;
    let _first = subscriber(&server, "t", "{}", 1).await;
    let mut second = server.peer().await;
    second.send(b"SUB t c\n").await;
    let frame = second.frame().await.unwrap();
    assert!(frame.show().starts_with("error E_SUB_FAILED SUB failed "), "{}", frame.show());
    second.expect_end().await;
    drop(second);
    until("the refused one is gone", || server.clients.list().len() == 1).await;

    let mut second = server.peer().await;
    second.send(&with_body("PUB t", b"x")).await;
    second.expect("OK").await;
    let mut third = server.raw().await;
    third.expect("error E_INVALID connections exceed limit of 2").await;
    third.expect_end().await;
    server.stop().await;
}

#[tokio::test]
async fn the_server_stops_whatever_its_clients_do() {
    // More than the test waits for.
    let config = Config { shutdown_timeout: Duration::from_secs(600), ..Config::default() };
    let server = start_with(config, |_| {}, true).await;
    let mut consumer = subscriber(&server, "t", "{}", 1).await;
    let mut silent = server.raw().await;
    let mut halfway = server.peer().await;
    halfway.send(b"PUB t\n\0\x10\0\0half").await;
    let socket = server.address.clone();
    server.stop().await;
    assert!(!std::path::Path::new(&socket).exists());
    for peer in [&mut consumer, &mut silent, &mut halfway] {
        peer.expect_end().await;
    }
}

/// All clients of a broker come back in one moment when it was restarted.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn hundreds_of_connections_may_wait_to_be_accepted() {
    let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    if most.trim().parse::<u32>().unwrap() < 400 {
        return println!("skipped: the system lets {} connections wait", most.trim());
    }
    let folder = tempfile::TempDir::new().unwrap();
    let broker = mq_core::Broker::open(common::options(&folder)).unwrap();
    let config = Config { tcp_address: "127.0.0.1:0".to_owned(), ..Config::default() };
    let server = mq_nsq::server::Server::bind(config, broker.clone()).await.unwrap();
    let address = server.local_addr().to_string();
    let mut waiting = Vec::new();
    let connecting = async {
        for _ in 0..400 {
            waiting.push(tokio::net::TcpStream::connect(&address).await.unwrap());
        }
    };
    timeout(PATIENCE, connecting).await.expect("refused for now, and tried again after a second");
    drop(server);
    broker.close().unwrap();
}

#[tokio::test]
async fn a_stale_unix_socket_is_taken_over_and_a_live_one_is_not() {
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("mq.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let broker = mq_core::Broker::open(common::options(&folder)).unwrap();
    let config = Config { tcp_address: path.display().to_string(), ..Config::default() };
    let server = mq_nsq::server::Server::bind(config.clone(), broker.clone()).await.unwrap();
    let error = mq_nsq::server::Server::bind(config, broker.clone()).await.err().unwrap();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    drop(server);
    broker.close().unwrap();
}

/// I6, and no standstill: publishers wait while memory is given up, acknowledgements never do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_memory_holds_is_published_and_consumed() {
    for level in [Durability::Memory, Durability::Flush] {
        let limit = |options: &mut Options| {
            options.memory_limit = 4 << 20;
            options.durability = level;
        };
        let server = start_with(Config::default(), limit, false).await;
        let mut consumer = subscriber(&server, "t", "{}", 0).await;
        let body = vec![b'x'; 1000];
        let batch = mpub("t", &vec![body.as_slice(); 100]);
        // Twice what fits waits; as much again comes while it is consumed.
        let mut producer = server.peer().await;
        for _ in 0..80 {
            producer.send(&batch).await;
            producer.expect("OK").await;
            assert!(server.broker.memory_used() <= 4 << 20);
        }
        consumer.send(b"RDY 2500\n").await;
        let publish = async {
            for _ in 0..80 {
                producer.send(&batch).await;
                producer.expect("OK").await;
            }
        };
        let consume = async {
            for _ in 0..16_000 {
                let message = consumer.frame().await.unwrap();
                consumer.send(format!("FIN {}\n", message.id()).as_bytes()).await;
            }
        };
        timeout(6 * PATIENCE, async { tokio::join!(publish, consume) }).await.unwrap();
        server.stop().await;
    }
}

#[tokio::test]
async fn the_message_timeout_that_was_agreed_on_is_the_one_in_force() {
    // The server's own is longer than any step of this test may take.
    let server = start().await;
    let mut peer = server.peer().await;
    peer.send(&with_body("IDENTIFY", br#"{"msg_timeout":1000}"#)).await;
    peer.expect("OK").await;
    peer.send(b"SUB t c\nRDY 1\n").await;
    peer.expect("OK").await;
    peer.send(&with_body("PUB t", b"x")).await;
    peer.expect("OK").await;
    peer.expect("message 1 x").await;
    peer.expect("message 2 x").await;
}

#[tokio::test]
async fn the_sample_rate_that_was_agreed_on_is_the_one_in_force() {
    const MESSAGES: usize = 1000;
    let server = start().await;
    let mut peer = server.peer().await;
    peer.send(&with_body("IDENTIFY", br#"{"sample_rate":1}"#)).await;
    peer.expect("OK").await;
    peer.send(b"SUB t c\nRDY 2500\n").await;
    peer.expect("OK").await;
    let bodies: Vec<&[u8]> = vec![b"x"; MESSAGES];
    let mut publisher = server.peer().await;
    publisher.send(&mpub("t", &bodies)).await;
    publisher.expect("OK").await;
    let topic = server.broker.find_topic(&topic("t")).unwrap();
    let channel = topic.find_channel(&ChannelName::parse("c").unwrap()).unwrap();
    until("all messages to be looked at", || channel.stats().depth == 0).await;
    // Ten of a thousand are expected; three hundred never come.
    let sampled = channel.stats().in_flight;
    assert!(sampled < 300, "{sampled} of {MESSAGES} were sent");
}
