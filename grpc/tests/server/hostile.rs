//! Peers that do not play by the rules, and many at once.

use std::sync::Arc;
use std::time::Duration;

use mq_core::TopicName;
use mq_grpc::Config;
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::{OutgoingMessage, PublishRequest, PublishStreamRequest, SubscribeUpdate};
use mq_net::budget::Budget;
use mq_nsq::server;
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tonic::Code;

use crate::raw::{Raw, framed};
use crate::stack::{self, Stack, Subscriber, message, open, opening, soon, until};

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
async fn thousands_of_streams_on_few_connections() {
    const STREAMS: usize = 3_000;
    let config = Config { max_streams: 2_000, budget: Budget::new(128 << 20), ..Config::default() };
    let stack = Stack::start_with(config, server::Config::default()).await;
    let connections = [stack.channel().await, stack.channel().await];
    let mut subscribers = Vec::new();
    for number in 0..STREAMS {
        let channel = connections[number % connections.len()].clone();
        let opened = Subscriber::open(channel, open("t", &format!("c{number}")), 1).await.unwrap();
        subscribers.push(opened);
    }
    stack.publish("t", &["a"]).await;
    for subscriber in &mut subscribers {
        let message = subscriber.next().await;
        assert_eq!(&message.body[..], b"a");
        subscriber.finish(&[message.token]).await;
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
    // 20 MB wait. This one may have a lot of it in flight, and reads nothing beyond its stream's window of 64
    // KiB.
    let raw = Raw::connect(&stack.grpc).await;
    let mut idle = raw.call("SubscribeService/Subscribe", &[]).await;
    let first = opening(open("t", "c"), 2_500, 0).encode_to_vec();
    idle.send(framed(0, first.len(), &first), false).await;
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let stats = || topic.channels().first().map(|channel| channel.stats());
    let in_flight = || stats().map_or(0, |channel| channel.in_flight);
    until("its first messages", || (in_flight() > 0).then_some(())).await;
    // The rest goes to who reads.
    let mut busy = Subscriber::open(stack.channel().await, open("t", "c"), 100).await.unwrap();
    let mut finished = 0;
    while stats().is_some_and(|channel| channel.depth > 0) {
        let message = busy.next().await;
        busy.finish(&[message.token]).await;
        finished += 1;
    }
    let held = in_flight();
    // The window of its stream, and some frames: in the queue of responses, in the encoder, in HTTP/2's
    // buffer.
    assert!(held < (8 << 16) / 1_000, "{held} messages of 1,000 bytes lie in buffers");
    // It cancels, its connection stays: what it held goes to who reads, too.
    drop(idle);
    while finished < 40 * 500 {
        let message = busy.next().await;
        busy.finish(&[message.token]).await;
        finished += 1;
    }
    until("all to be finished", || (in_flight() == 0).then_some(())).await;
    drop(raw);
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

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_message_fails_its_call_and_no_other() {
    let stack = Stack::start().await;
    let raw = Raw::connect(&stack.grpc).await;
    let too_large = (6 << 20) + 1;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 10).await.unwrap();
    for method in [
        "PublishService/Publish",
        "PublishService/PublishStream",
        "SubscribeService/Subscribe",
        "AdminService/CreateTopic",
        "DiscoveryService/Register",
        "NoService/Nothing",
    ] {
        for (what, body) in [
            ("no protobuf", framed(0, 5, &[0xff; 5])),
            ("a text that is none", framed(0, 4, &[0x0a, 2, 0xff, 0xfe])),
            ("compressed by nobody knows what", framed(1, 3, b"abc")),
            ("a flag that is none", framed(7, 3, b"abc")),
            ("larger than any may be", framed(0, too_large, b"abc")),
            ("four gigabytes", framed(0, u32::MAX as usize, b"abc")),
            ("cut off", framed(0, 100, b"abc")),
            ("half a prefix", vec![0, 0].into()),
        ] {
            let mut call = raw.call(method, &[]).await;
            call.send(body, true).await;
            let code = call.end().await;
            assert!(code != Code::Ok && code != Code::Unknown, "{what} to {method}: {code:?}");
        }
    }
    // The connection they came over is as good as any.
    let request = PublishRequest { topic: "t".to_owned(), messages: vec![message("a")] };
    let request = prost::Message::encode_to_vec(&request);
    let mut call = raw.call("PublishService/Publish", &[]).await;
    call.send(framed(0, request.len(), &request), true).await;
    assert_eq!(call.end().await, Code::Ok);
    assert_eq!(&subscriber.next().await.body[..], b"a");
    assert_eq!(stack.broker.topics().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_begin_or_does_not_go_on_to_speak_is_closed() {
    let short = Duration::from_millis(200);
    let config = Config { keepalive_interval: short, keepalive_timeout: short, ..Config::default() };
    let stack = Stack::start_with(config, server::Config::default()).await;
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    for start in [&b""[..], &preface[..10], preface] {
        let mut socket = TcpStream::connect(&stack.grpc).await.unwrap();
        socket.write_all(start).await.unwrap();
        let _ = soon("the end", socket.read_to_end(&mut Vec::new())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_what_failed_is_not_read() {
    let stack = Stack::start().await;
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{}", stack.grpc)).unwrap();
    let channel = endpoint.initial_stream_window_size(64 << 10).connect().await.unwrap();
    let first = Subscriber::open(channel, open("t", "c"), 1).await.unwrap();
    // Each brings a failure for each of its ids.
    let token = |n: u64| bytes::Bytes::from(n.to_be_bytes().repeat(2));
    let request = || SubscribeUpdate { finish: (0..10_000).map(token).collect(), ..Default::default() };
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_secs(1), first.send(request())).await.is_ok() {
        sent += 1;
        assert!(sent < 1_000, "requests are taken in without end");
    }
    // 64 wait in the client, the window of the stream has room for a dozen, and a few were answered.
    assert!(sent < 120, "{sent} requests of 80 KB were taken in");
    stack.publish("t", &["a"]).await;
    let mut second = Subscriber::open(stack.channel().await, open("t", "d"), 1).await.unwrap();
    assert!(stack.broker.topics()[0].channels().len() == 2);
    stack.publish("t", &["b"]).await;
    assert_eq!(&second.next().await.body[..], b"b");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publisher_that_does_not_read_its_results_is_not_read() {
    let stack = Stack::start().await;
    let endpoint = tonic::transport::Channel::from_shared(format!("http://{}", stack.grpc)).unwrap();
    let channel = endpoint.initial_stream_window_size(16 << 10).connect().await.unwrap();
    let mut client = PublishServiceClient::new(channel);
    let (requests, receiver) = tokio::sync::mpsc::channel(1);
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut results = client.publish_stream(stream).await.unwrap().into_inner();
    let request = |correlation| PublishStreamRequest {
        correlation,
        topic: "t".to_owned(),
        messages: vec![message(&"x".repeat(1_000))],
    };
    let mut sent = 0;
    loop {
        match tokio::time::timeout(Duration::from_secs(1), requests.send(request(sent))).await {
            Ok(taken) => taken.unwrap(),
            Err(_) => break,
        }
        sent += 1;
        assert!(sent < 100_000, "batches are taken in without end");
    }
    println!("{sent} batches of 1 KB were taken in before the first result was read");
    // Once they are read everything goes on.
    drop(requests);
    let mut answered = 0;
    while let Some(response) = soon("results", results.message()).await.unwrap() {
        let results = stack::results(response);
        assert!(results.iter().all(|result| stack::failure(result).is_none()));
        answered += results.len() as u64;
    }
    assert_eq!(answered, sent);
    assert_eq!(stack.broker.topics()[0].depth(), sent);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_too_many_is_refused_at_once_and_its_place_returns() {
    let config = Config { max_streams: 3, ..Config::default() };
    let stack = Stack::start_with(config, server::Config::default()).await;
    let channel = stack.channel().await;
    let open = |name: &'static str| Subscriber::open(channel.clone(), open("t", name), 1);
    let mut subscribers = Vec::new();
    for name in ["a", "b", "c"] {
        subscribers.push(open(name).await.unwrap());
    }
    let refused = soon("an answer", open("d")).await.map(|_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert!(refused.message().contains("--grpc-max-streams"), "{refused}");
    // Another connection has places of its own.
    Subscriber::open(stack.channel().await, stack::open("t", "e"), 1).await.unwrap();
    subscribers.pop();
    soon("the place", async { while open("d").await.is_err() {} }).await;
}
