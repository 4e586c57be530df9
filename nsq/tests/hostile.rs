//! Any bytes on the port: an error or a closed connection, never a hang or a panic, and nobody else is harmed
//! (I7).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use common::{PATIENCE, Running, start, with_body};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

/// Pieces of conversations, good and bad.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let line = |s: String| s.into_bytes();
    let body = || prop::collection::vec(any::<u8>(), 1..60);
    prop_oneof![
        "(NOP|CLS|RDY [0-9]{1,4}|SUB t[0-9] c|FIN [0-9a-f]{16}|REQ [0-9a-f]{16} [0-9]{1,4}|TOUCH [0-9a-f]{16})\n"
            .prop_map(line),
        "PEEK t[0-9] 0 [0-9]{1,3}\n".prop_map(line),
        body().prop_map(|body| with_body("PUB t1", &body)),
        body().prop_map(|body| with_body("DPUB t2 5", &body)),
        prop::collection::vec(body(), 1..5).prop_map(|bodies| {
            let bodies: Vec<&[u8]> = bodies.iter().map(Vec::as_slice).collect();
            common::mpub("t3", &bodies)
        }),
        "[{]\"(sample_rate|heartbeat_interval|output_buffer_size)\":(-1|[0-9]{1,5})[}]"
            .prop_map(|json| with_body("IDENTIFY", json.as_bytes())),
        prop::collection::vec(any::<u8>(), 0..40),
    ]
}

/// A conversation, and the sizes of the pieces it comes in.
fn conversation() -> impl Strategy<Value = (Vec<u8>, Vec<usize>)> {
    let magic = prop_oneof![20 => Just(b"  V2".to_vec()), 1 => prop::collection::vec(any::<u8>(), 0..6)];
    let fragments = prop::collection::vec(fragment(), 0..30);
    (magic, fragments, prop::collection::vec(1..200usize, 1..10))
        .prop_map(|(magic, fragments, sizes)| ([magic, fragments.concat()].concat(), sizes))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_bytes_are_answered_or_end_the_connection() {
    let server = start().await;
    let mut runner = TestRunner::deterministic();
    for _ in 0..500 {
        let (bytes, sizes) = conversation().new_tree(&mut runner).unwrap().current();
        converse(&server, &bytes, &sizes).await;
    }
    let mut good = server.peer().await;
    good.send(&with_body("PUB fine", b"x")).await;
    good.expect("OK").await;
    server.stop().await;
}

/// Sends `bytes`, ends, and reads frames to the server's end.
async fn converse(server: &Running, bytes: &[u8], sizes: &[usize]) {
    let peer = server.raw().await;
    let (mut from, mut to) = tokio::io::split(peer.socket);
    let send = async {
        let mut rest = bytes;
        for &size in sizes.iter().cycle() {
            let (piece, more) = rest.split_at(size.min(rest.len()));
            // It may have been closed already.
            if to.write_all(piece).await.is_err() || more.is_empty() {
                break;
            }
            rest = more;
        }
        let _ = to.shutdown().await;
    };
    let receive = async {
        let mut answers = Vec::new();
        // A reset is an end too.
        let _ = from.read_to_end(&mut answers).await;
        let mut rest = &answers[..];
        while let Ok(Ok((_, consumed))) = mq_nsq::wire::frame::decode(rest) {
            rest = &rest[consumed..];
        }
        assert!(rest.is_empty(), "{} is no frame", rest.escape_ascii());
    };
    let both = async { tokio::join!(send, receive) };
    timeout(PATIENCE, both).await.unwrap_or_else(|_| panic!("no end to {}", bytes.escape_ascii()));
}

#[tokio::test]
async fn lengths_that_promise_gigabytes_cost_nothing() {
    let server = start().await;
    for bytes in [
        &b"PUB t\n\x7f\xff\xff\xff"[..],
        b"MPUB t\n\x7f\xff\xff\xff",
        b"IDENTIFY\n\x7f\xff\xff\xff",
        b"AUTH\n\xff\xff\xff\xff",
    ] {
        let mut peer = server.peer().await;
        peer.send(bytes).await;
        let frame = peer.frame().await.unwrap();
        assert!(frame.show().starts_with("error E_BAD_"), "{}", frame.show());
        peer.expect_end().await;
    }
    let mut peer = server.peer().await;
    peer.send(&[b'x'; 16384]).await;
    peer.expect_end().await;
    server.stop().await;
}
