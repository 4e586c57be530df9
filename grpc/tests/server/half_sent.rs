//! Requests of which most comes, and no more.

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
