//! Peers that mean no good, against the real process: its memory stays small, and others are served.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use mq_tests::{Broker, until};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::clients::{connect, create_channel, next, subscribe, topic};

const MIB: u64 = 1 << 20;

/// Resident memory of an idle broker, and some room.
const IDLE_BYTES: u64 = 40 * MIB;

fn open(broker: &Broker, bytes: &[u8]) -> TcpStream {
    let mut socket = TcpStream::connect(broker.address()).unwrap();
    // It may be closed already.
    let _ = socket.write_all(bytes);
    socket
}

/// A client with messages of its own is served, and soon.
async fn others_are_served(broker: &Broker) {
    let asked = Instant::now();
    let mut consumer = subscribe(broker, "others", "c", 10).await;
    let mut publisher = connect(broker).await;
    for n in 0..100_u32 {
        publisher.publish(&topic("others"), &n.to_be_bytes()).await.unwrap();
    }
    publisher.flush().await.unwrap();
    for n in 0..100_u32 {
        let message = next(&mut consumer).await;
        assert_eq!(message.body, n.to_be_bytes()[..]);
        consumer.finish(message.id);
    }
    consumer.flush().await.unwrap();
    consumer.close().await.unwrap();
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

#[track_caller]
fn holds_at_most(broker: &Broker, bytes: u64) {
    let resident = broker.resident();
    assert!(resident <= bytes, "{} MiB resident", resident / MIB);
}

#[tokio::test]
async fn ten_thousand_connections_that_say_nothing() {
    const COUNT: usize = 10_000;
    let limit = getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < COUNT as u64 + 200) {
        println!("skipped: no {COUNT} connections with {limit:?} open files");
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let mut broker = Broker::start();
    let mut silent = Vec::new();
    for _ in 0..COUNT {
        silent.push(open(&broker, b""));
        if silent.len() % 2000 == 0 {
            others_are_served(&broker).await;
        }
    }
    holds_at_most(&broker, 100 * MIB);
    println!("{COUNT} silent connections: {} MiB resident", broker.resident() / MIB);
    for socket in &silent {
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.peek(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    }
    let asked = Instant::now();
    broker.stop();
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());
}

#[tokio::test]
async fn slow_ones_that_never_end_a_command_are_closed_whatever_they_send() {
    let mut broker = Broker::start();
    let identify = br#"{"heartbeat_interval":1000}"#;
    let start = [b"  V2IDENTIFY\n\0\0\0\x1b", &identify[..], b"PUB t\n\0\x10\0\0"].concat();
    let mut slow: Vec<TcpStream> = (0..500).map(|_| open(&broker, &start)).collect();
    let began = Instant::now();
    // A byte each, again and again: data, but no command.
    until("all to be closed", || {
        slow.retain_mut(|socket| socket.write_all(b"x").is_ok());
        slow.is_empty().then_some(())
    });
    assert!(began.elapsed() > Duration::from_secs(1), "{:?}", began.elapsed());
    others_are_served(&broker).await;
    holds_at_most(&broker, IDLE_BYTES);
    broker.stop();
}

#[tokio::test]
async fn lengths_of_gigabytes_and_half_frames() {
    let mut broker = Broker::start();
    let huge = b"\x7f\xff\xff\xff";
    for _ in 0..200 {
        for start in [
            &b"PUB t\n"[..],
            b"DPUB t 0\n",
            b"MPUB t\n",
            b"IDENTIFY\n",
            b"AUTH\n",
            // The count, and a message's length, in a body that is not too large.
            b"MPUB t\n\0\x10\0\0",
            b"MPUB t\n\0\x10\0\0\0\0\0\x01",
        ] {
            let mut socket = open(&broker, &[b"  V2", start, huge, &[0; 1000]].concat());
            let mut answer = Vec::new();
            // What it did not read resets the connection.
            let _ = socket.read_to_end(&mut answer);
            assert!(answer[4..].starts_with(b"\0\0\0\x01E_BAD_"), "{}", answer.escape_ascii());
        }
        // Every half of a command, left there and cut off.
        let whole = b"  V2MPUB half\n\0\0\0\x0f\0\0\0\x02\0\0\0\x01a\0\0\0\x02bc";
        for end in 0..whole.len() {
            drop(open(&broker, &whole[..end]));
        }
    }
    others_are_served(&broker).await;
    holds_at_most(&broker, IDLE_BYTES);
    broker.stop();
}

#[tokio::test]
async fn subscribers_that_stop_reading_with_much_credit_and_large_messages() {
    const MESSAGES: usize = 100;
    let mut broker = Broker::start_with(&["--memory-limit", "32MiB"]);
    let channels: Vec<String> = (0..10).map(|n| format!("deaf{n}")).collect();
    for channel in channels.iter().map(String::as_str).chain(["good"]) {
        create_channel(&broker, "t", channel).await;
    }
    let mut publisher = connect(&broker).await;
    let deaf: Vec<TcpStream> = channels
        .iter()
        .map(|channel| open(&broker, format!("  V2SUB t {channel}\nRDY 2500\n").as_bytes()))
        .collect();
    let mut good = subscribe(&broker, "t", "good", 2).await;
    for n in 0..MESSAGES {
        let body = vec![n as u8; 1 << 20];
        publisher.publish(&topic("t"), &body).await.unwrap();
        publisher.flush().await.unwrap();
        let message = next(&mut good).await;
        assert!(message.body == body);
        good.finish(message.id);
        // The memory for messages, one of them on its way to each, and what reads back from the disk.
        holds_at_most(&broker, IDLE_BYTES + 32 * MIB + 10 * 2 * MIB);
    }
    others_are_served(&broker).await;
    drop(deaf);
    broker.stop();
}
