//! Sessions on a broker whose threads do nothing: what is published waits for the fsync until the test does
//! it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

mod common;

use std::io::Write;
use std::sync::Arc;

use common::{PATIENCE, Peer, Running, serve, with_body};
use mq_core::testkit::{Crash, World, options};
use mq_core::{Durability, Options, Step, StoreSizes};
use mq_net::clients::Client;
use mq_nsq::server::Config;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::task::yield_now;
use tokio::time::timeout;

/// Publishes of one connection that may wait, and those of one frame that may come on top.
const UNANSWERED: u64 = 4096 + 1024;

async fn stalled(durability: Durability, unix: bool) -> (World, Running) {
    let world = World::with(StoreSizes::default(), Options { durability, ..options() });
    let server = serve(world.broker.clone(), TempDir::new().unwrap(), Config::default(), unix).await;
    (world, server)
}

/// Lets the server do what it can do for now: its tasks share the test's thread.
async fn run_server() {
    for _ in 0..10_000 {
        yield_now().await;
    }
}

fn only_client(server: &Running) -> Arc<Client> {
    let clients = server.clients.list();
    assert_eq!(clients.len(), 1);
    Arc::clone(&clients[0])
}

/// Sends all of it and reads `oks` answers, while the broker syncs.
async fn answered(world: &World, mut producer: Peer, rest: &[u8], oks: usize) {
    let work = async {
        producer.send(rest).await;
        for _ in 0..oks {
            producer.expect("OK").await;
        }
    };
    let sync = async {
        loop {
            world.steps(&[Step::Sync]);
            yield_now().await;
        }
    };
    tokio::select! {
        done = timeout(6 * PATIENCE, work) => done.unwrap(),
        () = sync => {}
    }
}

#[tokio::test]
async fn no_more_than_some_thousand_publishes_of_a_connection_wait_for_the_disk() {
    const PUBLISHES: usize = 20_000;
    let (world, server) = stalled(Durability::Sync, false).await;
    let mut producer = server.peer().await;
    producer.send(&with_body("PUB t", b"x").repeat(PUBLISHES)).await;
    run_server().await;
    let client = only_client(&server);
    let waiting = client.published();
    assert!((4096..UNANSWERED).contains(&waiting), "{waiting} wait");
    answered(&world, producer, b"", PUBLISHES).await;
    assert_eq!(client.published(), PUBLISHES as u64);
    server.stop().await;
}

/// I6: more than memory holds waits in the socket: it is neither taken in nor refused.
#[tokio::test]
async fn publishers_are_not_read_while_memory_is_congested() {
    const PUBLISHES: usize = 200;
    let (world, server) = stalled(Durability::Sync, false).await;
    let mut producer = server.peer().await;
    producer.send(&with_body("IDENTIFY", br#"{"heartbeat_interval":-1}"#)).await;
    producer.expect("OK").await;
    let publishes = with_body("PUB t", &[b'x'; 100_000]).repeat(PUBLISHES);
    let mut sent = 0;
    while sent < publishes.len() {
        tokio::select! {
            biased;
            n = producer.socket.write(&publishes[sent..]) => sent += n.unwrap(),
            () = run_server() => break,
        }
    }
    assert!(world.memory_used() <= options().memory_limit, "{} bytes", world.memory_used());
    assert!(only_client(&server).published() > 0);
    answered(&world, producer, &publishes[sent..], PUBLISHES).await;
    server.stop().await;
}

/// The other end is gone before the server looks: what it had sent is written all the same, though nobody is
/// left to answer and nothing else happens.
#[tokio::test]
async fn what_was_published_just_before_a_reset_is_written() {
    let (world, server) = stalled(Durability::Flush, true).await;
    let mut peer = std::os::unix::net::UnixStream::connect(&server.address).unwrap();
    peer.write_all(&[b"  V2", &with_body("IDENTIFY", b"{}")[..]].concat()).unwrap();
    run_server().await;
    // As much as one read takes: the next one meets the reset, which the unread answer to IDENTIFY makes.
    let publish = with_body("PUB t", &[b'x'; 128 * 1024 - 10]);
    assert_eq!(publish.len(), 128 * 1024);
    peer.write_all(&publish).unwrap();
    drop(peer);
    run_server().await;
    assert_eq!(server.clients.list().len(), 0);
    let killed = world.after(Crash::Kill);
    assert_eq!(killed.topic("t").depth(), 1);
    server.stop().await;
}
