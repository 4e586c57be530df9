//! Every way in which a delay comes to a broker, at the limit (`--max-req-timeout`) and above it. Publishes
//! and requeues above it are refused; a plain `REQ` of NSQ's protocol, which would leave the message in
//! flight and the consumer without an answer, is cut to it, as by nsqd.

use std::time::Duration;

use mq_core::{ChannelName, ChannelStats, TopicName};
use mq_grpc::Config;
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::subscribe_response::Response as Answer;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{
    AckFailure, AckFailureReason, AcknowledgeRequest, OutgoingMessage, PublishRequest, PublishStreamRequest,
    PullRequest, SubscribeRequeue, SubscribeUpdate,
};
use mq_nsq::client::{Connection, Identify};
use mq_nsq::server;
use mq_nsq::wire::Together;
use mq_nsq::wire::extension::{Run, put_record};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;
use tonic_types::StatusExt;

use crate::stack::{self, Stack, Subscriber, message, open, soon, until};

/// The limit that a broker has by default.
const LIMIT_MS: u64 = 3_600_000;

/// The ways of publishing with a delay.
#[derive(Clone, Copy, Debug)]
enum Publish {
    Dpub,
    Extension,
    Http,
    Unary,
    Stream,
}

const PUBLISHES: [Publish; 5] =
    [Publish::Dpub, Publish::Extension, Publish::Http, Publish::Unary, Publish::Stream];

fn topic() -> TopicName {
    TopicName::parse("t").unwrap()
}

async fn nsq(stack: &Stack, extension: bool) -> Connection {
    Connection::connect(&stack.tcp, Identify { extension, ..Identify::default() }).await.unwrap()
}

async fn start(max_delay: Duration) -> Stack {
    let config = Config { max_delay, ..Config::default() };
    let http_address = Some("127.0.0.1:0".to_owned());
    Stack::start_with(
        config,
        server::Config { http_address, max_req_timeout: max_delay, ..Default::default() },
    )
    .await
}

/// Publishes a message with a delay. Returns the reason for which it is refused.
async fn publish(way: Publish, stack: &Stack, delay_ms: u64) -> Option<String> {
    let delay = Duration::from_millis(delay_ms);
    let messages = vec![OutgoingMessage { delay_ms, ..message("x") }];
    match way {
        Publish::Dpub => {
            let mut connection = nsq(stack, false).await;
            // The refusal may be there before the message is on its way.
            let answer = async {
                connection.publish_deferred(&topic(), b"x", delay).await?;
                connection.flush().await
            };
            soon("an answer", answer).await.err().map(|error| error.to_string())
        }
        Publish::Extension => {
            let mut connection = nsq(stack, true).await;
            let mut record = Vec::new();
            put_record(&mut record, delay, None, std::iter::empty(), b"x");
            connection.put_records(&topic(), Together::Each, 1, std::iter::once(&record[..])).unwrap();
            soon("an answer", connection.flush()).await.unwrap();
            let results = connection.take_results().unwrap();
            results.runs().find_map(|run| match run {
                Run::Refused { why, .. } => Some(String::from_utf8_lossy(why).into_owned()),
                Run::Stored { .. } => None,
            })
        }
        Publish::Http => {
            let mut socket = TcpStream::connect(stack.http.as_ref().unwrap()).await.unwrap();
            let head = format!("POST /pub?topic=t&defer={delay_ms} HTTP/1.1\r\nHost: localhost\r\n");
            let request = format!("{head}Connection: close\r\nContent-Length: 1\r\n\r\nx");
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut answer = String::new();
            soon("an answer", socket.read_to_string(&mut answer)).await.unwrap();
            (!answer.starts_with("HTTP/1.1 200 ")).then_some(answer)
        }
        Publish::Unary => {
            let mut client = PublishServiceClient::new(stack.channel().await);
            let request = PublishRequest { topic: "t".to_owned(), messages };
            let status = client.publish(request).await.err()?;
            let fields = status.get_details_bad_request().expect("details").field_violations;
            Some(format!("{:?} {} {}", status.code(), fields[0].field, status.message()))
        }
        Publish::Stream => {
            let request = PublishStreamRequest { correlation: 1, topic: "t".to_owned(), messages };
            let mut client = PublishServiceClient::new(stack.channel().await);
            let mut responses =
                client.publish_stream(tokio_stream::iter([request])).await.unwrap().into_inner();
            let mut results = Vec::new();
            while let Some(response) = soon("an answer", responses.message()).await.unwrap() {
                results.extend(stack::results(response));
            }
            let failure = stack::failure(&results[0])?;
            let code = i32::try_from(failure.code).unwrap();
            Some(format!("{:?} {} {}", Code::from_i32(code), failure.field, failure.message))
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_is_deferred_for_longer_than_the_limit_is_refused_whatever_it_comes_by() {
    let stack = start(Duration::from_millis(LIMIT_MS)).await;
    let depth = || stack.broker.find_topic(&topic()).map_or(0, |topic| topic.depth());
    for (stored, way) in (0..).zip(PUBLISHES) {
        for above in [LIMIT_MS + 1, i64::MAX as u64, u64::MAX] {
            let refusal = publish(way, &stack, above).await.expect("a refusal");
            let says = match way {
                Publish::Dpub => format!("E_INVALID DPUB timeout {above} out of range 0-{LIMIT_MS}"),
                Publish::Extension => format!("a delay of {above} ms, at most {LIMIT_MS} ms are allowed"),
                Publish::Http => "400 Bad Request".to_owned(),
                Publish::Unary | Publish::Stream => "InvalidArgument messages[0].delay_ms".to_owned(),
            };
            assert!(refusal.contains(&says), "{way:?} {above}: {refusal}");
            assert_eq!(depth(), stored, "{way:?} {above}: nothing is stored");
        }
        assert_eq!(publish(way, &stack, LIMIT_MS).await, None, "{way:?} at the limit");
        assert_eq!(depth(), stored + 1, "{way:?}");
    }
}

fn stats(stack: &Stack) -> ChannelStats {
    let topic = stack.broker.find_topic(&topic()).unwrap();
    topic.find_channel(&ChannelName::parse("c").unwrap()).unwrap().stats()
}

fn reasons(failures: &[AckFailure]) -> Vec<AckFailureReason> {
    failures.iter().map(AckFailure::reason).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeue_for_longer_than_the_limit_is_refused_over_grpc_and_stays_in_flight() {
    let stack = start(Duration::from_millis(LIMIT_MS)).await;
    stack.publish("t", &["streamed", "leased"]).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    let streamed = subscriber.next().await.token;
    let mut client = SubscribeServiceClient::new(stack.channel().await);
    let (name, channel) = (|| "t".to_owned(), || "c".to_owned());
    let pull = PullRequest { topic: name(), channel: channel(), ..PullRequest::default() };
    let leased = client.pull(pull).await.unwrap().into_inner().messages.remove(0).token;
    let requeue =
        |token: &bytes::Bytes, delay_ms| vec![SubscribeRequeue { tokens: vec![token.clone()], delay_ms }];
    for delay_ms in [LIMIT_MS + 1, u64::MAX] {
        let update = SubscribeUpdate { requeue: requeue(&streamed, delay_ms), ..Default::default() };
        subscriber.send(update).await;
        let Some(Answer::Failures(failed)) = subscriber.response().await.unwrap() else {
            panic!("no failures")
        };
        assert_eq!(reasons(&failed.failures), [AckFailureReason::DelayTooLong]);
        let requeue = requeue(&leased, delay_ms);
        let request = AcknowledgeRequest {
            topic: name(),
            channel: channel(),
            requeue,
            ..AcknowledgeRequest::default()
        };
        let failed = client.acknowledge(request).await.unwrap().into_inner().failures;
        assert_eq!(reasons(&failed), [AckFailureReason::DelayTooLong]);
        assert_eq!((stats(&stack).in_flight, stats(&stack).deferred), (2, 0), "{delay_ms}");
    }
    let requeue = requeue(&streamed, LIMIT_MS);
    subscriber.send(SubscribeUpdate { requeue, ..Default::default() }).await;
    until("the requeue at the limit", || (stats(&stack).deferred == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeue_for_longer_than_the_limit_is_cut_to_it_over_nsqs_protocol() {
    // So short that what is cut to it comes soon.
    let stack = start(Duration::from_millis(50)).await;
    let channel = ChannelName::parse("c").unwrap();
    stack.publish("t", &["x"]).await;
    let mut connection = nsq(&stack, false).await;
    connection.subscribe(&topic(), &channel, 1).await.unwrap();
    let first = soon("a message", connection.next()).await.unwrap().unwrap();
    connection.requeue(first.id, Duration::from_millis(LIMIT_MS));
    let again = soon("the message again", connection.next()).await.unwrap().unwrap();
    assert_eq!(again.attempts, 2);
    connection.close().await.unwrap();
}
