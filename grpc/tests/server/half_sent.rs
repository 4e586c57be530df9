//! Requests of which most comes, and no more.

use bytes::Bytes;
use h2::client::SendRequest;
use mq_grpc::Config;
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::{OutgoingMessage, PublishRequest};
use mq_nsq::server;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::Code;
use tonic_types::StatusExt;

use crate::stack::{Stack, soon, until};

const MIB: usize = 1 << 20;
const CONNECTIONS: usize = 8;
const STREAMS: usize = 250;
const METHODS: [&str; 2] = ["Publish", "PublishStream"];

/// Sends all of a request of 1 MiB but its last byte, and tells how the call ends.
async fn half_sent(mut client: SendRequest<Bytes>, url: String, mut body: Bytes, ends: mpsc::Sender<String>) {
    let request = hyper::Request::post(url).header("content-type", "application/grpc").body(()).unwrap();
    let (response, mut stream) = client.send_request(request, false).unwrap();
    let sending = tokio::spawn(async move {
        while !body.is_empty() {
            stream.reserve_capacity(body.len());
            match std::future::poll_fn(|cx| stream.poll_capacity(cx)).await {
                Some(Ok(room)) => stream.send_data(body.split_to(room), false).unwrap(),
                // The call is over.
                _ => return,
            }
        }
        std::future::pending::<()>().await;
    });
    let (head, mut body) = response.await.unwrap().into_parts();
    let mut status = head.headers.get("grpc-status").cloned();
    if status.is_none() {
        while body.data().await.is_some() {}
        status = body.trailers().await.unwrap().unwrap().get("grpc-status").cloned();
    }
    sending.abort();
    ends.send(status.unwrap().to_str().unwrap().to_owned()).await.unwrap();
}

fn resident() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

fn request(bytes: usize) -> PublishRequest {
    let messages = vec![OutgoingMessage { body: vec![b'x'; bytes].into(), ..OutgoingMessage::default() }];
    PublishRequest { topic: "t".to_owned(), messages }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_half_sent_requests_share_a_budget_and_leave_it() {
    // With the overhead that is allowed for, room for eight of a megabyte.
    let config = Config { max_input_bytes: 8 * MIB, max_batch_bytes: 2 * MIB, ..Config::default() };
    let stack = Stack::start_with(config, server::Config::default()).await;
    let before = resident();
    let body = Bytes::from([&[0, 0, 0x10, 0, 0][..], &vec![0; MIB - 1]].concat());
    let (ends, mut ended) = mpsc::channel(CONNECTIONS * STREAMS);
    let mut tasks = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let socket = TcpStream::connect(&stack.grpc).await.unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        tasks.spawn(async move { drop(connection.await) });
        for at in 0..STREAMS {
            let client = client.clone().ready().await.unwrap();
            let method = METHODS[at % METHODS.len()];
            let url = format!("http://{}/mq.v1.PublishService/{method}", stack.grpc);
            tasks.spawn(half_sent(client, url, body.clone(), ends.clone()));
        }
    }
    for _ in 0..CONNECTIONS * STREAMS - 8 {
        let status = soon("the refusals", ended.recv()).await.unwrap();
        assert_eq!(status, (Code::ResourceExhausted as i32).to_string());
    }
    let more = resident().saturating_sub(before) / MIB;
    println!("{} half-sent requests of 1 MiB: {more} MiB more resident", CONNECTIONS * STREAMS);
    assert!(more < 256, "{more} MiB more resident");
    assert!(ended.try_recv().is_err(), "those that have a place keep it");
    // A small one needs none, a large one is told when to come again.
    let mut client = PublishServiceClient::new(stack.channel().await);
    client.publish(request(10_000)).await.unwrap();
    let refused = soon("an answer", client.publish(request(MIB))).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.get_details_retry_info().is_some(), "{refused}");
    // They go, and leave their places.
    drop(tasks);
    soon("room", async {
        while let Err(status) = client.publish(request(MIB)).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        }
    })
    .await;
    until("both to be stored", || (stack.broker.topics()[0].depth() == 2).then_some(())).await;
}
