//! The share of a bare echo service's speed that is left when the same messages go through the broker. Both
//! are measured in turn, in one process:
//!
//! ```sh
//! cargo run --profile dist -p mq-grpc --example echo_floor
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use mq_core::{Broker, Options};
use mq_grpc::client::{
    Brokers, Consumer, ConsumerOptions, OutgoingMessage, Publisher, PublisherOptions, ReceivedMessage, Target,
};
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::subscribe_response::Response as Body;
use mq_grpc::v1::{
    MessageBatch, OffsetRange, PublishRequest, PublishResponse, PublishStreamRequest, SubscribeResponse,
};
use mq_grpc::{Config, Parts, Server};
use tokio::sync::{Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::body::Body as HttpBody;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{NamedService, StreamingService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;

const BATCH: usize = 100;
const BODY: usize = 100;
/// Batches under way, for both.
const WINDOW: usize = 256;
const MESSAGES: usize = 2_000_000;
const CALLS: usize = 20_000;
const ROUNDS: usize = 3;

type Down = std::pin::Pin<Box<dyn Stream<Item = Result<SubscribeResponse, Status>> + Send>>;

/// Sends every batch back as a consumer gets it.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "mq.v1.EchoService";
}

impl StreamingService<PublishStreamRequest> for Echo {
    type Response = SubscribeResponse;
    type ResponseStream = Down;
    type Future = BoxFuture<Response<Down>, Status>;

    fn call(&mut self, request: Request<Streaming<PublishStreamRequest>>) -> Self::Future {
        let echoed = request.into_inner().map(|request| {
            let received = |message: OutgoingMessage| ReceivedMessage {
                body: message.body,
                id: 1 << 60,
                offset: 1 << 50,
                timestamp_ns: 1 << 60,
                attempts: 1,
                headers: message.headers,
                token: bytes::Bytes::from_static(&[1; 16]),
            };
            let messages: Vec<_> = request?.messages.into_iter().map(received).collect();
            let batch = MessageBatch::from(messages);
            Ok(SubscribeResponse { response: Some(Body::Batch(batch)) })
        });
        Box::pin(async { Ok(Response::new(Box::pin(echoed) as Down)) })
    }
}

impl UnaryService<PublishRequest> for Echo {
    type Response = PublishResponse;
    type Future = BoxFuture<Response<PublishResponse>, Status>;

    fn call(&mut self, request: Request<PublishRequest>) -> Self::Future {
        let count = request.get_ref().messages.len() as u32;
        let offsets = vec![OffsetRange { first: 1 << 50, count, duplicate: false }];
        Box::pin(async { Ok(Response::new(PublishResponse { offsets })) })
    }
}

impl Service<http::Request<HttpBody>> for Echo {
    type Response = http::Response<HttpBody>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<HttpBody>) -> Self::Future {
        Box::pin(async move {
            Ok(if request.uri().path().ends_with("/Stream") {
                let codec = ProstCodec::<SubscribeResponse, PublishStreamRequest>::default();
                tonic::server::Grpc::new(codec).streaming(Echo, request).await
            } else {
                let codec = ProstCodec::<PublishResponse, PublishRequest>::default();
                tonic::server::Grpc::new(codec).unary(Echo, request).await
            })
        })
    }
}

async fn start_echo() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (accepted, incoming) = mpsc::channel(4);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            stream.set_nodelay(true).unwrap();
            accepted.send(Ok::<_, std::io::Error>(stream)).await.unwrap();
        }
    });
    let server = tonic::transport::Server::builder()
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_frame_size(64 << 10)
        .add_service(Echo)
        .serve_with_incoming(ReceiverStream::new(incoming));
    tokio::spawn(server);
    address
}

async fn connect(address: &str) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap().tcp_nodelay(true);
    endpoint
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .connect()
        .await
        .unwrap()
}

fn batch() -> Vec<OutgoingMessage> {
    let body = bytes::Bytes::from(vec![b'x'; BODY]);
    (0..BATCH).map(|_| OutgoingMessage { body: body.clone(), ..Default::default() }).collect()
}

/// Messages a second, there and back.
async fn echo_stream(address: &str) -> f64 {
    let mut client = tonic::client::Grpc::new(connect(address).await);
    client.ready().await.unwrap();
    let (sender, receiver) = mpsc::channel::<PublishStreamRequest>(64);
    let codec = ProstCodec::<PublishStreamRequest, SubscribeResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/mq.v1.EchoService/Stream");
    let request = Request::new(ReceiverStream::new(receiver));
    let mut down: Streaming<SubscribeResponse> =
        client.streaming(request, path, codec).await.unwrap().into_inner();
    let window = std::sync::Arc::new(Semaphore::new(WINDOW));
    let begun = Instant::now();
    let permits = window.clone();
    tokio::spawn(async move {
        for correlation in 0..(MESSAGES / BATCH) as u64 {
            permits.acquire().await.unwrap().forget();
            let request = PublishStreamRequest { correlation, topic: "t".to_owned(), messages: batch() };
            sender.send(request).await.unwrap();
        }
    });
    let mut seen = 0;
    while seen < MESSAGES {
        let response = down.message().await.unwrap().unwrap();
        let Some(Body::Batch(batch)) = response.response else { panic!("no batch") };
        seen += batch.messages.len();
        window.add_permits(1);
    }
    MESSAGES as f64 / begun.elapsed().as_secs_f64()
}

/// Messages a second, published, consumed and finished.
async fn broker_stream(address: &str, topic: String) -> f64 {
    let target = Target::new(address).unwrap();
    let options = ConsumerOptions { in_flight: 2_500, ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(Brokers::Fixed(vec![target.clone()]), &topic, "c", options);
    let options = PublisherOptions { window: WINDOW, ..PublisherOptions::default() };
    let publisher = Publisher::new(vec![target], options);
    // Both are connected when it begins.
    publisher.publish(&topic, batch()).await.unwrap();
    for _ in 0..BATCH {
        consumer.next().await.unwrap().unwrap().finish();
    }
    let begun = Instant::now();
    let publishing = tokio::spawn(async move {
        let mut receipts = std::collections::VecDeque::new();
        for _ in 0..MESSAGES / BATCH {
            if receipts.len() == WINDOW {
                let oldest: mq_grpc::client::Receipt = receipts.pop_front().unwrap();
                oldest.await.unwrap();
            }
            receipts.push_back(publisher.send(&topic, batch()).await.unwrap());
        }
        for receipt in receipts {
            receipt.await.unwrap();
        }
    });
    for _ in 0..MESSAGES {
        consumer.next().await.unwrap().unwrap().finish();
    }
    publishing.await.unwrap();
    MESSAGES as f64 / begun.elapsed().as_secs_f64()
}

fn single() -> PublishRequest {
    let body = bytes::Bytes::from(vec![b'x'; BODY]);
    PublishRequest { topic: "u".to_owned(), messages: vec![OutgoingMessage { body, ..Default::default() }] }
}

/// Calls a second, one after the other.
async fn echo_unary(address: &str) -> f64 {
    let mut client = tonic::client::Grpc::new(connect(address).await);
    let begun = Instant::now();
    for _ in 0..CALLS {
        client.ready().await.unwrap();
        let codec = ProstCodec::<PublishRequest, PublishResponse>::default();
        let path = http::uri::PathAndQuery::from_static("/mq.v1.EchoService/Unary");
        client.unary(Request::new(single()), path, codec).await.unwrap();
    }
    CALLS as f64 / begun.elapsed().as_secs_f64()
}

async fn broker_unary(address: &str) -> f64 {
    let mut client = PublishServiceClient::new(connect(address).await);
    let begun = Instant::now();
    for _ in 0..CALLS {
        client.publish(single()).await.unwrap();
    }
    CALLS as f64 / begun.elapsed().as_secs_f64()
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

#[tokio::main]
async fn main() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { data_path: folder.path().join("data"), ..Options::default() };
    let broker = Broker::open(options).unwrap();
    let config = Config { address: "127.0.0.1:0".to_owned(), ..Config::default() };
    let parts = Parts { broker: Some(broker.clone()), ..Parts::default() };
    let server = Server::bind(config, parts).await.unwrap();
    let address = server.local_addr().to_string();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let serving = tokio::spawn(server.run(async { drop(stopped.await) }));
    let echo = start_echo().await;
    let (mut streams, mut unary) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..ROUNDS {
        streams[0].push(echo_stream(&echo).await);
        let topic = format!("t{round}");
        streams[1].push(broker_stream(&address, topic.clone()).await);
        let _ = broker.delete_topic(&mq_core::TopicName::parse(&topic).unwrap()).unwrap();
        unary[0].push(echo_unary(&echo).await);
        unary[1].push(broker_unary(&address).await);
    }
    for (what, unit, figures) in
        [("batches of 100 on a stream", "messages/s", streams), ("single messages, unary", "calls/s", unary)]
    {
        let [echo, broker] = figures.map(median);
        let share = 100.0 * broker / echo;
        println!("{what}: echo {echo:.0} {unit}, through the broker {broker:.0} {unit}: {share:.0} %");
    }
    drop(stop);
    let _ = tokio::time::timeout(Duration::from_secs(10), serving).await;
    tokio::task::spawn_blocking(move || broker.close()).await.unwrap().unwrap();
}
