//! Peers that do not play by the rules, and many at once.

use std::sync::Arc;
use std::time::Duration;

use mq_core::TopicName;
use mq_grpc::Config;
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{OutgoingMessage, PublishRequest, SubscribeCredit, SubscribeRequest};
use mq_nsq::server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_stream::StreamExt;

use crate::stack::{Stack, Subscriber, message, open, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_connection_and_no_other() {
    let stack = Stack::start().await;
    let mut bystander = Subscriber::open(stack.channel().await, open("t", "c"), 10).await.unwrap();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    // An empty SETTINGS frame, then a DATA frame of 16 MiB that nobody agreed to.
    let large =
        [&preface[..], &[0, 0, 0, 4, 0, 0, 0, 0, 0], &[255, 255, 255, 0, 0, 0, 0, 0, 1], &[0; 4096]].concat();
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 1024], &large, b"  V2"] {
        let mut socket = TcpStream::connect(&stack.grpc).await.unwrap();
        // It may be closed before all is written.
        let _ = socket.write_all(garbage).await;
        let _ = socket.shutdown().await;
        let mut rest = Vec::new();
        let _ = soon("the end", socket.read_to_end(&mut rest)).await;
    }
    stack.publish("t", &["a"]).await;
    assert_eq!(&bystander.next().await.body[..], b"a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_does_not_answer_is_closed_and_its_messages_return() {
    let short = Duration::from_millis(200);
    let config = Config { keepalive_interval: short, keepalive_timeout: short, ..Config::default() };
    let stack = Stack::start_with(config, server::Config::default()).await;
    stack.publish("t", &["a"]).await;
    // Between the client and the server, so that the client can be cut off without a word.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let server = stack.grpc.clone();
    let freeze = Arc::new(Notify::new());
    let frozen = Arc::clone(&freeze);
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = TcpStream::connect(server).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            // Both sockets stay open, and nothing goes through.
            () = frozen.notified() => std::future::pending().await,
        }
    });
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{proxy}")).unwrap();
    let mut silent = Subscriber::open(endpoint.connect().await.unwrap(), open("t", "c"), 1).await.unwrap();
    assert_eq!(silent.next().await.attempts, 1);
    freeze.notify_one();
    let mut second = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    assert_eq!(second.next().await.attempts, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_streams_on_one_connection() {
    const STREAMS: usize = 1_000;
    let stack = Stack::start().await;
    let channel = stack.channel().await;
    let mut subscribers = Vec::new();
    for number in 0..STREAMS {
        let opened = Subscriber::open(channel.clone(), open("t", &format!("c{number}")), 1).await.unwrap();
        subscribers.push(opened);
    }
    stack.publish("t", &["a"]).await;
    for subscriber in &mut subscribers {
        let message = subscriber.next().await;
        assert_eq!(&message.body[..], b"a");
        subscriber.finish(&[message.id]).await;
    }
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let finished = || topic.channels().iter().map(|channel| channel.stats().finished).sum::<u64>();
    until("all to be finished", || (finished() == STREAMS as u64).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_stops_holds_little_and_keeps_nothing_from_others() {
    let stack = Stack::start().await;
    let body = "x".repeat(1_000);
    let mut client = PublishServiceClient::new(stack.channel().await);
    for _ in 0..40 {
        let messages: Vec<OutgoingMessage> = (0..500).map(|_| message(&body)).collect();
        client.publish(PublishRequest { topic: "t".to_owned(), messages }).await.unwrap();
    }
    // 20 MB wait. This one may have a lot of it in flight, and reads nothing beyond its stream's window.
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{}", stack.grpc)).unwrap();
    let channel = endpoint.initial_stream_window_size(64 << 10).connect().await.unwrap();
    let mut idle = SubscribeServiceClient::new(channel);
    let credit = Some(SubscribeCredit { messages: 2_500, bytes: 0 });
    let first = SubscribeRequest { open: Some(open("t", "c")), credit, ..Default::default() };
    let requests = tokio_stream::once(first).chain(tokio_stream::pending());
    let unread = idle.subscribe(requests).await.unwrap();
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let channel = || topic.channels()[0].stats();
    until("its first messages", || (channel().in_flight > 0).then_some(())).await;
    // The rest goes to who reads.
    let mut busy = Subscriber::open(stack.channel().await, open("t", "c"), 100).await.unwrap();
    while channel().depth > 0 {
        let message = busy.next().await;
        busy.finish(&[message.id]).await;
    }
    let held = channel().in_flight;
    // The window of its stream, and some frames: in the outlet, in the encoder, in the buffer of HTTP/2.
    assert!(held < (8 << 16) / 1_000, "{held} messages of 1,000 bytes lie in buffers");
    drop(unread);
    until("they return", || (channel().depth > 0 || channel().in_flight < held).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_publish_is_stored_whole_or_not_at_all() {
    const BATCH: usize = 100;
    let stack = Stack::start().await;
    let channel = stack.channel().await;
    for step in 0..60_u32 {
        let messages: Vec<OutgoingMessage> = (0..BATCH).map(|_| message("x")).collect();
        let mut client = PublishServiceClient::new(channel.clone());
        let mut publishing = Box::pin(client.publish(PublishRequest { topic: "t".to_owned(), messages }));
        // Dropped after so many polls, or so much time: at every step of the way.
        let cut = Duration::from_micros(u64::from(step) * 25);
        let _ = tokio::time::timeout(cut, &mut publishing).await;
        drop(publishing);
    }
    // The end of what was cancelled is behind this one.
    stack.publish("t", &["last"]).await;
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let whole = || (topic.depth() % BATCH as u64 == 1).then_some(());
    until("whole batches only", whole).await;
}
