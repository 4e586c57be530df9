//! Figures pushed to statsd, as they come by UDP.

use std::time::Duration;

use mq_nsq::server::{Config, StatsdConfig};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::common::{PATIENCE, with_body};
use crate::{ask, send, start};

/// Takes in packets until a push is whole: its last line is known.
async fn push(socket: &UdpSocket, last: &str) -> Vec<String> {
    let mut packets: Vec<String> = Vec::new();
    loop {
        let mut packet = vec![0; 2048];
        let len = timeout(PATIENCE, socket.recv(&mut packet)).await.expect("a packet in time").unwrap();
        packets.push(String::from_utf8(packet[..len].to_vec()).unwrap());
        if packets.last().unwrap().lines().last().unwrap().starts_with(last) {
            return packets;
        }
    }
}

/// The lines of the first push that differs from the one before, which is repeated over and over.
async fn lines_with(socket: &UdpSocket, last: &str, line: &str) -> Vec<String> {
    loop {
        let packets = push(socket, last).await;
        if packets.concat().contains(line) {
            return packets.concat().lines().map(str::to_owned).collect();
        }
    }
}

#[tokio::test]
async fn a_push_is_nsqds_to_the_byte() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let statsd = StatsdConfig {
        address: socket.local_addr().unwrap().to_string(),
        interval: Duration::from_millis(200),
        mem_stats: false,
        exclude_ephemeral: true,
        udp_packet_size: 120,
        ..StatsdConfig::default()
    };
    let config = Config {
        statsd: Some(statsd),
        broadcast_address: "my.host".to_owned(),
        broadcast_http_port: 99,
        latency_percentiles: vec![0.999, 0.5],
        ..Config::default()
    };
    let server = start(config).await;
    for topic in ["t", "e%23ephemeral"] {
        ask(&server, &format!("POST /topic/create?topic={topic}")).await;
        for channel in ["c", "d%23ephemeral"] {
            ask(&server, &format!("POST /channel/create?topic={topic}&channel={channel}")).await;
        }
    }
    send(&server, "POST /mpub?topic=t", b"one\ntwo").await;
    let last = "nsq.my_host_99.topic.t.channel.c.e2e_processing_latency_50";
    let want = |added: u64, bytes: u64| {
        [
            format!("message_count:{added}|c"),
            format!("message_bytes:{bytes}|c"),
            "depth:0|g".to_owned(),
            "backend_depth:0|g".to_owned(),
            "e2e_processing_latency_100:0|g".to_owned(),
            "e2e_processing_latency_50:0|g".to_owned(),
            format!("channel.c.message_count:{added}|c"),
            "channel.c.depth:2|g".to_owned(),
            "channel.c.backend_depth:0|g".to_owned(),
            "channel.c.in_flight_count:0|g".to_owned(),
            "channel.c.deferred_count:0|g".to_owned(),
            "channel.c.requeue_count:0|c".to_owned(),
            "channel.c.timeout_count:0|c".to_owned(),
            "channel.c.clients:0|g".to_owned(),
            "channel.c.e2e_processing_latency_100:0|g".to_owned(),
            "channel.c.e2e_processing_latency_50:0|g".to_owned(),
        ]
        .map(|line| format!("nsq.my_host_99.topic.t.{line}"))
    };
    let first = lines_with(&socket, last, "topic.t.message_count:2|c").await;
    assert_eq!(first, want(2, 6));
    let packets = push(&socket, last).await;
    assert_eq!(packets.concat().lines().collect::<Vec<_>>(), want(0, 0), "what was added since");
    assert!(packets.len() > 5 && packets.iter().all(|p| p.len() <= 120 && p.ends_with('\n')), "{packets:?}");
    server.stop().await;
}

#[tokio::test]
async fn the_processs_memory_comes_last() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let statsd = StatsdConfig {
        address: socket.local_addr().unwrap().to_string(),
        interval: Duration::from_millis(50),
        prefix: String::new(),
        ..StatsdConfig::default()
    };
    let _server = start(Config { statsd: Some(statsd), ..Config::default() }).await;
    let packets = push(&socket, "mem.gc_runs").await;
    let keys: Vec<_> = packets[0].lines().map(|line| line.split(':').next().unwrap()).collect();
    let of = |name: &str| format!("mem.{name}");
    assert_eq!(
        keys,
        [
            "heap_objects",
            "heap_idle_bytes",
            "heap_in_use_bytes",
            "heap_released_bytes",
            "gc_pause_usec_100",
            "gc_pause_usec_99",
            "gc_pause_usec_95",
            "next_gc_bytes",
            "gc_runs"
        ]
        .map(of)
    );
    assert!(packets[0].ends_with("mem.gc_runs:0|c\n"), "{packets:?}");
}

#[tokio::test]
async fn requeues_and_timeouts_are_counted_apart() {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let statsd = StatsdConfig {
        address: socket.local_addr().unwrap().to_string(),
        interval: Duration::from_millis(50),
        prefix: String::new(),
        mem_stats: false,
        ..StatsdConfig::default()
    };
    let server = start(Config { statsd: Some(statsd), ..Config::default() }).await;
    let mut peer = server.peer().await;
    peer.send(&with_body("IDENTIFY", br#"{"msg_timeout":1000}"#)).await;
    peer.expect("OK").await;
    peer.send(b"SUB t c\nRDY 1\n").await;
    peer.expect("OK").await;
    send(&server, "POST /pub?topic=t", b"x").await;
    for attempt in 1..=2 {
        let id = peer.expect(&format!("message {attempt} x")).await.id();
        peer.send(format!("REQ {id} 0\n").as_bytes()).await;
    }
    peer.expect("message 3 x").await;
    // That one times out, since the client does nothing.
    let id = peer.expect("message 4 x").await.id();
    peer.send(format!("FIN {id}\nRDY 0\n").as_bytes()).await;
    send(&server, "POST /pub?topic=t", b"the last").await;
    let [mut messages, mut requeues, mut timeouts] = [0; 3];
    while messages < 2 {
        for line in push(&socket, "topic.t.channel.c.clients").await.concat().lines() {
            let added = |key: &str| -> u64 {
                let value =
                    line.strip_prefix(key).and_then(|rest| rest.strip_prefix(':')?.strip_suffix("|c"));
                value.map_or(0, |value| value.parse().unwrap())
            };
            messages += added("topic.t.message_count");
            requeues += added("topic.t.channel.c.requeue_count");
            timeouts += added("topic.t.channel.c.timeout_count");
        }
    }
    assert_eq!((requeues, timeouts), (2, 1));
}
