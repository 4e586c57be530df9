//! Snappy and deflate: large messages, what real clients do wrong, streams that are none or hold too much.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use std::io::Write;
use std::time::{Duration, Instant};

use common::stack::{Certificates, Compression, STACKS, Stack};
use common::{PATIENCE, Peer, Running, start, start_with, with_body};
use flate2::write::DeflateEncoder;
use mq_core::{ChannelName, TopicName};
use mq_net::budget::{Budget, DEFLATE_BYTES};
use mq_net::transport::snappy;
use mq_nsq::client::{ClientTls, Connection, Identify};
use mq_nsq::server::{self, Config};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

async fn start_tls(certificates: &Certificates) -> Running {
    start_with(Config { tls: Some(certificates.options()), ..Config::default() }, |_| {}, false).await
}

async fn stacked(server: &Running, stack: Stack, certificates: &Certificates) -> Peer {
    let mut peer = server.peer().await;
    peer.stack(stack, certificates).await;
    peer
}

/// Bytes that no codec makes smaller.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(len).collect()
}

fn bodies() -> Vec<Vec<u8>> {
    let text = |len: usize| b"the quick brown fox ".iter().copied().cycle().take(len).collect();
    vec![noise(100_000), text(100_000), noise(1024 * 1024), text(1024 * 1024), vec![b'x'], noise(65_536)]
}

#[tokio::test]
async fn large_messages_pass_through_every_stack() {
    let certificates = Certificates::new();
    let server = start_tls(&certificates).await;
    for (number, stack) in STACKS.into_iter().chain([Stack::default()]).enumerate() {
        let mut consumer = stacked(&server, stack, &certificates).await;
        consumer.send(format!("SUB t{number} c\nRDY 100\n").as_bytes()).await;
        consumer.expect("OK").await;
        let mut producer = stacked(&server, stack, &certificates).await;
        for body in bodies() {
            producer.send(&with_body(&format!("PUB t{number}"), &body)).await;
            producer.expect("OK").await;
            let frame = consumer.frame().await.unwrap();
            assert!(frame.data[26..] == *body, "{stack:?}: {} bytes", body.len());
            consumer.send(format!("FIN {}\n", frame.id()).as_bytes()).await;
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn our_client_speaks_every_stack() {
    let certificates = Certificates::new();
    let server = start_tls(&certificates).await;
    let topic = TopicName::parse("t").unwrap();
    let identities = STACKS.map(|stack| Identify {
        tls: stack.tls.then(|| ClientTls::load(&certificates.client_options()).unwrap()),
        snappy: matches!(stack.compression, Some(Compression::Snappy | Compression::SnappyRepeated)),
        deflate: match stack.compression {
            Some(Compression::Deflate(level)) => Some(level),
            _ => None,
        },
        ..Identify::default()
    });
    for identify in identities {
        let mut client = Connection::connect(&server.address, identify.clone()).await.unwrap();
        let seen = server.clients.list().last().unwrap().clone();
        assert_eq!(seen.tls().is_some(), identify.tls.is_some());
        assert_eq!(
            seen.compression(),
            match identify.deflate {
                _ if identify.snappy => Some(server::Compression::Snappy),
                Some(level) => Some(server::Compression::Deflate(level)),
                None => None,
            }
        );
        let channel = ChannelName::parse("c").unwrap();
        client.subscribe(&topic, &channel, 100).await.unwrap();
        let bodies = bodies();
        client.publish_batch(&topic, &bodies).await.unwrap();
        for body in &bodies {
            let message = client.next().await.unwrap().unwrap();
            assert!(message.body == body[..], "{} bytes", body.len());
            client.finish(message.id);
        }
        client.flush().await.unwrap();
        client.close().await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn ten_thousand_messages_in_bursts_arrive_in_order() {
    let certificates = Certificates::new();
    let server = start_tls(&certificates).await;
    for stack in STACKS {
        let mut consumer = stacked(&server, stack, &certificates).await;
        consumer.send(b"SUB t c\nRDY 2500\n").await;
        consumer.expect("OK").await;
        let mut producer = stacked(&server, stack, &certificates).await;
        let sending = async {
            for first in (0..10_000).step_by(500) {
                let burst: Vec<u8> = (first..first + 500)
                    .flat_map(|i| with_body("PUB t", format!("{i}").as_bytes()))
                    .collect();
                producer.send(&burst).await;
                for _ in 0..500 {
                    producer.expect("OK").await;
                }
            }
        };
        let receiving = async {
            for i in 0..10_000 {
                let message = consumer.expect(&format!("message 1 {i}")).await;
                consumer.send(format!("FIN {}\n", message.id()).as_bytes()).await;
            }
        };
        timeout(6 * PATIENCE, async { tokio::join!(sending, receiving) }).await.unwrap();
    }
    server.stop().await;
}

#[tokio::test]
async fn the_first_message_keeps_behind_the_answer_to_sub() {
    let certificates = Certificates::new();
    let server = start_tls(&certificates).await;
    let mut producer = server.peer().await;
    producer.send(&with_body("PUB t", b"x")).await;
    producer.expect("OK").await;
    for (number, stack) in STACKS.into_iter().enumerate() {
        let mut consumer = stacked(&server, stack, &certificates).await;
        consumer.send(format!("SUB t c{number}\nRDY 10\n").as_bytes()).await;
        consumer.expect("OK").await;
        let since = Instant::now();
        if number > 0 {
            producer.send(&with_body("PUB t", b"x")).await;
            producer.expect("OK").await;
        }
        consumer.expect("message 1 x").await;
        if stack.compression.is_some() {
            assert!(since.elapsed() > Duration::from_millis(5), "{stack:?} {:?}", since.elapsed());
        }
        // Later ones go at once.
        producer.send(&with_body("PUB t", b"y")).await;
        producer.expect("OK").await;
        consumer.expect("message 1 y").await;
    }
    server.stop().await;
}

/// A connection that compresses from here on, and its `OK` read: bytes go as they are.
async fn raw(server: &Running, identify: &str) -> Peer {
    let mut peer = server.peer().await;
    peer.send(&with_body("IDENTIFY", identify.as_bytes())).await;
    peer.frame().await.unwrap();
    let mut ok = vec![0; 16];
    assert!(peer.socket.read(&mut ok).await.unwrap() > 0);
    peer
}

const SNAPPY: &str = r#"{"feature_negotiation":true,"snappy":true}"#;
const DEFLATE: &str = r#"{"feature_negotiation":true,"deflate":true}"#;

/// Reads to the end of the stream.
async fn ends(peer: &mut Peer) {
    let mut rest = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, peer.socket.read_to_end(&mut rest)).await.expect("no end");
}

#[tokio::test]
async fn a_plain_cls_at_the_end_just_ends_the_connection() {
    let server = start().await;
    let mut producer = server.peer().await;
    producer.send(&with_body("PUB t", b"x")).await;
    producer.expect("OK").await;
    for identify in [SNAPPY, DEFLATE] {
        let mut peer = raw(&server, identify).await;
        let commands = b"SUB t c\nRDY 1\n";
        let compressed = if identify == SNAPPY { snappy(commands) } else { deflate(commands) };
        peer.send(&compressed).await;
        let client = server.clients.list().last().unwrap().clone();
        let delivered = async {
            while client.delivered() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, delivered).await.unwrap();
        peer.send(b"CLS\n").await;
        ends(&mut peer).await;
    }
    // What it had is another's, and nobody else noticed.
    let mut other = server.peer().await;
    other.send(b"SUB t c\nRDY 1\n").await;
    other.expect("OK").await;
    assert_eq!(other.frame().await.unwrap().data[26..], *b"x");
    producer.send(&with_body("PUB t", b"y")).await;
    producer.expect("OK").await;
    server.stop().await;
}

fn snappy(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    snappy::Encoder::default().encode(bytes, &mut out);
    out
}

fn deflate(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(bytes).unwrap();
    encoder.flush().unwrap();
    encoder.get_ref().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_a_compressed_stream_ends_the_connection_and_harms_nobody() {
    let server = start().await;
    let mut good = server.peer().await;
    let mut runner = TestRunner::deterministic();
    let garbage = prop::collection::vec(any::<u8>(), 1..300);
    for round in 0..300 {
        let mut bytes = garbage.new_tree(&mut runner).unwrap().current();
        let at = bytes.len() / 2;
        match round % 5 {
            0 => bytes = [b"\xff\x06\0\0sNaPpY", &bytes[..]].concat(),
            1 => bytes = [snappy(b"NOP\n"), bytes].concat(),
            2 => bytes = [deflate(b"NOP\n"), bytes].concat(),
            3 => {
                let mut good = snappy(&with_body("PUB t", &bytes));
                let at = at.min(good.len() - 1);
                good[at] ^= 1 << (round % 8);
                bytes = good;
            }
            _ => {}
        }
        let mut peer = raw(&server, if round % 2 == 0 { SNAPPY } else { DEFLATE }).await;
        // It may be closed before all is sent.
        let _ = peer.try_send(&bytes).await;
        let _ = tokio::io::AsyncWriteExt::shutdown(&mut peer.socket).await;
        ends(&mut peer).await;
    }
    good.send(&with_body("PUB t", b"x")).await;
    good.expect("OK").await;
    let gone = async {
        while server.clients.list().len() > 1 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, gone).await.expect("sessions of closed connections remain");
    server.stop().await;
}

#[tokio::test]
async fn a_bomb_is_taken_apart_in_small_pieces_while_others_are_served() {
    let server = start().await;
    let mut good = server.peer().await;
    // Some 200 MiB of commands in 200 KiB: more than a thread may spend on one of them in one go.
    let nops = deflate(&b"NOP\n".repeat(50_000_000));
    assert!(nops.len() < 400_000, "{}", nops.len());
    let mut bomb = raw(&server, DEFLATE).await;
    let bombing = async {
        bomb.send(&nops).await;
        bomb.send(&[]).await;
    };
    let serving = async {
        for _ in 0..20 {
            good.send(&with_body("PUB t", b"x")).await;
            good.expect("OK").await;
        }
    };
    tokio::join!(bombing, serving);
    drop(bomb);

    // A line, and a body, that have no end in sight.
    for (identify, bytes) in [
        (DEFLATE, deflate(&vec![b'x'; 100_000_000])),
        (SNAPPY, snappy(&vec![b'x'; 10_000_000])),
        (DEFLATE, deflate(&with_body("PUB t", &vec![b'x'; 100_000_000]))),
        (SNAPPY, snappy(&with_body("PUB t", &vec![b'x'; 10_000_000]))),
    ] {
        let mut bomb = raw(&server, identify).await;
        let _ = bomb.try_send(&bytes).await;
        ends(&mut bomb).await;
    }
    good.send(&with_body("PUB t", b"x")).await;
    good.expect("OK").await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_resets_gives_its_messages_back_at_once() {
    let certificates = Certificates::new();
    let server = start_tls(&certificates).await;
    let mut producer = server.peer().await;
    for (number, stack) in STACKS.into_iter().chain([Stack::default()]).enumerate() {
        producer.send(&with_body(&format!("PUB t{number}"), b"x")).await;
        producer.expect("OK").await;
        let socket = TcpStream::connect(&server.address).await.unwrap();
        socket.set_zero_linger().unwrap();
        let mut peer = Peer { socket: Box::new(socket), bytewise: false, skip: b"" };
        peer.send(b"  V2").await;
        if stack.tls || stack.compression.is_some() {
            peer.stack(stack, &certificates).await;
        }
        let subscribe = format!("SUB t{number} c\nRDY 1\n");
        peer.send(subscribe.as_bytes()).await;
        peer.expect("OK").await;
        peer.expect("message 1 x").await;
        drop(peer);
        let mut other = server.peer().await;
        other.send(subscribe.as_bytes()).await;
        other.expect("OK").await;
        // Its time would end only after a minute.
        other.expect("message 2 x").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_answered_is_what_is_switched_on() {
    let config = Config { snappy: false, max_deflate_level: 4, ..Config::default() };
    let server = start_with(config, |_| {}, false).await;
    for (json, deflate, level) in [
        (r#"{"feature_negotiation":true,"snappy":true,"tls_v1":true,"deflate_level":9}"#, false, 4),
        (r#"{"feature_negotiation":true,"deflate":true}"#, true, 4),
        (r#"{"feature_negotiation":true,"deflate":true,"snappy":true,"deflate_level":2}"#, true, 2),
        (r#"{"feature_negotiation":true,"deflate":true,"deflate_level":-1}"#, true, 4),
        (r#"{"feature_negotiation":true,"deflate":true,"deflate_level":9223372036854775807}"#, true, 4),
    ] {
        let mut peer = server.peer().await;
        peer.send(&with_body("IDENTIFY", json.as_bytes())).await;
        let reply: serde_json::Value = serde_json::from_slice(&peer.frame().await.unwrap().data).unwrap();
        assert_eq!((&reply["snappy"], &reply["tls_v1"]), (&false.into(), &false.into()), "{json}");
        assert_eq!((&reply["deflate"], &reply["deflate_level"]), (&deflate.into(), &level.into()), "{json}");
        assert_eq!(reply["max_deflate_level"], 4);
        if deflate {
            peer.compress(Compression::Deflate(6));
            peer.expect("OK").await;
        }
        peer.send(&with_body("PUB t", b"x")).await;
        peer.expect("OK").await;
    }
    server.stop().await;

    let server = start().await;
    let mut both = server.peer().await;
    both.send(&with_body("IDENTIFY", br#"{"feature_negotiation":true,"deflate":true,"snappy":true}"#)).await;
    both.expect("error E_IDENTIFY_FAILED cannot enable both deflate and snappy compression").await;
    both.expect_end().await;
    // Without negotiation, nothing is switched on.
    let mut plain = server.peer().await;
    plain.send(&with_body("IDENTIFY", br#"{"deflate":true,"snappy":true,"tls_v1":true}"#)).await;
    plain.expect("OK").await;
    plain.send(&with_body("PUB t", b"x")).await;
    plain.expect("OK").await;
    server.stop().await;
}

#[tokio::test]
async fn what_came_before_is_answered_before_anything_is_switched_on() {
    let certificates = Certificates::new();
    let server = start_tls(&certificates).await;
    for stack in STACKS {
        let mut peer = server.peer().await;
        // More than may be unanswered at a time.
        let burst: Vec<u8> = (0..5000).flat_map(|_| with_body("PUB t", b"x")).collect();
        peer.stack_behind(&burst, 5000, stack, &certificates).await;
        peer.send(&with_body("PUB t", b"x")).await;
        peer.expect("OK").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn what_is_on_is_not_switched_on_again() {
    let certificates = Certificates::new();
    let server = start_tls(&certificates).await;
    for stack in STACKS {
        let mut peer = stacked(&server, stack, &certificates).await;
        if stack.compression.is_some() {
            let json = br#"{"feature_negotiation":true,"tls_v1":true,"snappy":true,"deflate":true}"#;
            peer.send(&with_body("IDENTIFY", json)).await;
            let reply = peer.frame().await.unwrap();
            let reply: serde_json::Value = serde_json::from_slice(&reply.data).unwrap();
            for key in ["tls_v1", "snappy", "deflate"] {
                assert_eq!(reply[key], false, "{key} {stack:?}");
            }
        } else {
            // The other layer may follow.
            peer.stack(STACKS[1], &certificates).await;
        }
        peer.send(&with_body("PUB t", b"x")).await;
        peer.expect("OK").await;
    }
    server.stop().await;
}

#[tokio::test]
async fn heartbeats_come_through_and_a_stuck_one_holds_little() {
    let certificates = Certificates::new();
    let server = start_tls(&certificates).await;
    let mut producer = server.peer().await;
    for _ in 0..32 {
        producer.send(&with_body("PUB t", &noise(1024 * 1024))).await;
        producer.expect("OK").await;
    }
    let mut alive = stacked(&server, STACKS[4], &certificates).await;
    alive.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":1000}"#)).await;
    alive.expect("OK").await;
    let mut stuck = stacked(&server, STACKS[4], &certificates).await;
    stuck.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":1000,"client_id":"stuck"}"#)).await;
    stuck.expect("OK").await;
    stuck.send(b"SUB t c\nRDY 2500\n").await;
    let clients = server.clients.list();
    let client = clients.iter().find(|client| client.identity().client_id == "stuck").unwrap();
    let gone = async {
        loop {
            alive.expect("_heartbeat_").await;
            alive.send(b"NOP\n").await;
            if server.clients.list().len() == 2 {
                break;
            }
        }
    };
    timeout(PATIENCE, gone).await.expect("the stuck one stays");
    assert!(client.delivered() < 24, "{} went out", client.delivered());
    server.stop().await;
}

/// Deflate takes a third of a megabyte of each connection, busy or not.
#[tokio::test]
async fn deflate_is_refused_in_the_answer_once_the_memory_for_it_is_spent() {
    let config = Config { budget: Budget::new(4 * DEFLATE_BYTES), ..Config::default() };
    let server = start_with(config, |_| {}, false).await;
    let ask = async || {
        let mut peer = server.peer().await;
        let identify = br#"{"feature_negotiation":true,"deflate":true}"#;
        peer.send(&with_body("IDENTIFY", identify)).await;
        let answer: serde_json::Value = serde_json::from_slice(&peer.frame().await.unwrap().data).unwrap();
        (peer, answer["deflate"].as_bool().unwrap())
    };
    let (first, compresses) = ask().await;
    assert!(compresses);
    let (mut second, compresses) = ask().await;
    assert!(!compresses, "streams and codecs have three eighths of the budget");
    second.send(&with_body("PUB t", b"not compressed")).await;
    second.expect("OK").await;
    drop(first);
    let freed = async {
        while !ask().await.1 {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, freed).await.unwrap();
    server.stop().await;
}
