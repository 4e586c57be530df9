//! Requests of which most comes, and no more.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use mq_grpc::Config;
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::{OutgoingMessage, PublishRequest};
use mq_net::budget::Budget;
use mq_nsq::server;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;

use crate::raw::{Raw, framed};
use crate::stack::{Stack, soon, until};

const MIB: usize = 1 << 20;
const CONNECTIONS: usize = 8;
const STREAMS: usize = 60;
/// Requests of a megabyte that there is room for at most.
const PLACES: usize = 15;
const METHODS: [&str; 2] = ["PublishService/Publish", "PublishService/PublishStream"];

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn request(bytes: usize) -> PublishRequest {
    let messages = vec![OutgoingMessage { body: vec![b'x'; bytes].into(), ..OutgoingMessage::default() }];
    PublishRequest { topic: "t".to_owned(), messages }
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_requests_share_a_budget_and_leave_it() {
    let budget = Budget::new(16 * MIB);
    let config = Config { budget: budget.clone(), max_batch_bytes: 2 * MIB, ..Config::default() };
    let stack = Stack::start_with(config, server::Config::default()).await;
    let before = resident();
    // All but the last byte, sent from one place.
    let body = framed(0, MIB, &vec![0; MIB - 1]);
    let (ends, mut ended) = mpsc::channel(CONNECTIONS * STREAMS);
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let raw = Arc::new(Raw::connect(&stack.grpc).await);
        for at in 0..STREAMS {
            let mut call = raw.call(METHODS[at % METHODS.len()], &[]).await;
            let (raw, body, ends) = (Arc::clone(&raw), body.clone(), ends.clone());
            tasks.spawn(async move {
                call.send(body, false).await;
                ends.send(call.end().await).await.unwrap();
                drop(raw);
            });
        }
    }
    for _ in 0..CONNECTIONS * STREAMS - PLACES {
        let code = soon("the refusals", ended.recv()).await.unwrap();
        assert_eq!(code, Code::ResourceExhausted);
    }
    let more = resident().saturating_sub(before) / MIB;
    println!("{} half-sent requests of 1 MiB: {more} MiB more resident", CONNECTIONS * STREAMS);
    assert!(more < 128, "{more} MiB more resident");
    // Streams have half as much beside the messages.
    assert!(budget.peak() <= 24 * MIB, "{} bytes", budget.peak());
    // A small one needs none, a large one hears when to come again.
    let mut client = PublishServiceClient::new(stack.channel().await);
    client.publish(request(10_000)).await.unwrap();
    soon("room, which those that have held it for long leave", async {
        while let Err(status) = client.publish(request(MIB)).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
            assert!(status.get_details_retry_info().is_some(), "{status}");
        }
    })
    .await;
    drop(tasks);
    until("both to be stored", || (stack.broker.topics()[0].depth() == 2).then_some(())).await;
}

/// Whether the server has closed the connection.
fn is_closed(mut socket: &TcpStream) -> bool {
    loop {
        match socket.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
    }
}

/// Frames and blocks of headers are held before any call is known of: one that is not whole is nobody's call.
#[tokio::test(flavor = "multi_thread")]
async fn half_sent_frames_and_headers_have_a_part_of_the_budget() {
    const PEERS: usize = 300;
    const BYTES: usize = 12_000;
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    let frame =
        |kind: u8, length: usize| [&(length as u32).to_be_bytes()[1..], &[kind, 0, 0, 0, 0, 1]].concat();
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    // A field of a header that has no end, and a frame of which all but a byte comes.
    for half in [frame(HEADERS, BYTES), frame(DATA, BYTES + 1)] {
        let budget = Budget::new(16 * MIB);
        let config = Config { budget: budget.clone(), ..Config::default() };
        let stack = Stack::start_with(config, server::Config::default()).await;
        let sent = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &half, &[0x40, 0x7f, 0xe1, 0x3f]];
        let sent = [&sent.concat()[..], &vec![b'x'; BYTES - 4]].concat();
        let connect = || {
            let mut socket = TcpStream::connect(stack.grpc.to_string()).unwrap();
            socket.write_all(&sent).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let peers: Vec<TcpStream> = (0..PEERS).map(|_| connect()).collect();
        until("the oldest to be closed", || {
            let closed = peers.iter().filter(|peer| is_closed(peer)).count();
            (closed >= PEERS - 2 * MIB / BYTES).then_some(())
        })
        .await;
        assert!(budget.peak() >= MIB, "{} bytes counted", budget.peak());
        // Those that are at it together begin in any order; this one is the youngest for certain.
        let youngest = connect();
        let mut client = PublishServiceClient::new(stack.channel().await);
        client.publish(request(10)).await.unwrap();
        assert!(!is_closed(&youngest), "the youngest stays");
    }
}
