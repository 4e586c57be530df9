//! Publishing, one by one and on a stream.

use mq_core::{Limits, TopicName};
use mq_grpc::Config;
use mq_grpc::client::{Publisher, PublisherOptions, Target};
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::{
    Header, OutgoingMessage, PublishRequest, PublishStreamRequest, PublishStreamResponse,
    publish_stream_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};
use tonic_types::StatusExt;

use crate::stack::{self, PATIENCE, Stack, Subscriber, message, open, soon};

fn request(topic: &str, messages: Vec<OutgoingMessage>) -> PublishRequest {
    PublishRequest { topic: topic.to_owned(), messages }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_gets_neighbouring_offsets_and_arrives_in_order() {
    let stack = Stack::start().await;
    let offsets = stack.publish("t", &["a", "b", "c"]).await;
    assert_eq!(offsets.len(), 3);
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 10).await.unwrap();
    for (body, offset) in ["a", "b", "c"].iter().zip(offsets) {
        let message = subscriber.next().await;
        assert_eq!((&message.body[..], message.offset, message.attempts), (body.as_bytes(), offset, 1));
        assert!(message.timestamp_ns > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_arrive_as_they_were_given() {
    let stack = Stack::start().await;
    let mut client = PublishServiceClient::new(stack.channel().await);
    let header = |name: &str, value: &[u8]| Header { name: name.to_owned(), value: value.to_vec().into() };
    let headers = vec![header("trace", b"1"), header("a", &[0, 255]), header("trace", b"")];
    let with = OutgoingMessage { headers: headers.clone(), ..message("x") };
    client.publish(request("t", vec![message("plain"), with])).await.unwrap();
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 10).await.unwrap();
    assert!(subscriber.next().await.headers.is_empty());
    assert_eq!(subscriber.next().await.headers, headers);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_breaks_a_rule_names_the_field_and_stores_nothing() {
    let stack = Stack::start().await;
    let mut client = PublishServiceClient::new(stack.channel().await).max_encoding_message_size(1 << 30);
    let sized = |len: usize| OutgoingMessage { body: vec![0; len].into(), ..Default::default() };
    let cases = [
        (request("no good", vec![message("x")]), "topic"),
        (request("t", vec![]), "messages"),
        (request("t", vec![message("x"), message("")]), "messages[1].body"),
        (request("t", vec![sized((1 << 20) + 1)]), "messages[0].body"),
        (
            request(
                "t",
                vec![
                    sized(1 << 20),
                    sized(1 << 20),
                    sized(1 << 20),
                    sized(1 << 20),
                    sized(1 << 20),
                    sized(1),
                ],
            ),
            "messages",
        ),
        (request("t", vec![OutgoingMessage { delay_ms: 3_600_001, ..message("x") }]), "messages[0].delay_ms"),
        (
            request("t", vec![OutgoingMessage { dedup_id: "x".repeat(256), ..message("x") }]),
            "messages[0].dedup_id",
        ),
        (
            request("t", vec![OutgoingMessage { headers: vec![Header::default()], ..message("x") }]),
            "messages[0].headers[0]",
        ),
    ];
    for (request, field) in cases {
        let status = client.publish(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let violations = status.get_details_bad_request().expect("details").field_violations;
        assert_eq!(violations[0].field, field, "{status}");
    }
    let too_large = client.publish(request("t", (0..8).map(|_| sized(1 << 20)).collect())).await.unwrap_err();
    assert_eq!(too_large.code(), Code::OutOfRange, "{too_large}");
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap());
    assert!(topic.is_none_or(|topic| topic.depth() == 0));
}

async fn stream(stack: &Stack) -> (mpsc::Sender<PublishStreamRequest>, Streaming<PublishStreamResponse>) {
    let (sender, receiver) = mpsc::channel(64);
    let mut client = PublishServiceClient::new(stack.channel().await);
    let mut responses = client.publish_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    let first = responses.message().await.unwrap().unwrap().response;
    let Some(publish_stream_response::Response::Window(window)) = first else { panic!("no window first") };
    assert!(window.batches > 0 && window.messages > 0 && window.max_message_bytes == 1 << 20);
    (sender, responses)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_each_batch_and_survives_bad_ones() {
    let stack = Stack::start().await;
    let (sender, mut responses) = stream(&stack).await;
    let batch = |correlation, topic: &str, bodies: &[&str]| PublishStreamRequest {
        correlation,
        topic: topic.to_owned(),
        messages: bodies.iter().map(|body| message(body)).collect(),
    };
    let batches = [
        batch(7, "t", &["a", "b"]),
        batch(8, "t", &["c"]),
        batch(9, "no good", &["x"]),
        batch(10, "", &["d"]),
        batch(11, "u", &[""]),
        batch(12, "u", &["e"]),
    ];
    for batch in batches {
        sender.send(batch).await.unwrap();
    }
    drop(sender);
    let mut results = Vec::new();
    while let Some(response) = soon("an answer", responses.message()).await.unwrap() {
        results.extend(stack::results(response));
    }
    results.sort_by_key(|result| result.correlation);
    let outcomes: Vec<_> = results
        .iter()
        .map(|result| {
            (result.correlation, stack::stored(result), stack::failure(result).map(|failure| failure.code))
        })
        .collect();
    let invalid = Some(Code::InvalidArgument as u32);
    assert_eq!(
        outcomes,
        [(7, 2, None), (8, 1, None), (9, 0, invalid), (10, 0, invalid), (11, 0, invalid), (12, 1, None)]
    );
    let depth = |name: &str| stack.broker.find_topic(&TopicName::parse(name).unwrap()).unwrap().depth();
    // An empty topic is none, and not the one before.
    assert_eq!((depth("t"), depth("u")), (3, 1));
}

/// Batches that arrive together share a frame of the log, but not what one of them is refused for.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_finds_no_room_leaves_its_neighbours_alone() {
    let stack = Stack::start().await;
    let topic = stack.broker.topic(&TopicName::parse("t").unwrap()).unwrap();
    let _ = topic.update(|s| s.limits = Limits { max_messages: 4, ..Limits::default() }).unwrap();
    let batch = |correlation, count: usize| PublishStreamRequest {
        correlation,
        topic: "t".to_owned(),
        messages: vec![message("x"); count],
    };
    let requests = [batch(1, 2), batch(2, 3), batch(3, 2)];
    let mut client = PublishServiceClient::new(stack.channel().await);
    let mut responses = client.publish_stream(tokio_stream::iter(requests)).await.unwrap().into_inner();
    let mut results = Vec::new();
    while let Some(response) = soon("an answer", responses.message()).await.unwrap() {
        results.extend(stack::results(response));
    }
    results.sort_by_key(|result| result.correlation);
    let failed: Vec<bool> = results.iter().map(|result| stack::failure(result).is_some()).collect();
    assert_eq!(failed, [false, true, false]);
    assert_eq!(topic.depth(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_batch_needs_a_topic() {
    let stack = Stack::start().await;
    let (sender, mut responses) = stream(&stack).await;
    sender.send(PublishStreamRequest { messages: vec![message("x")], ..Default::default() }).await.unwrap();
    let response = soon("an answer", responses.message()).await.unwrap().unwrap();
    let results = stack::results(response);
    let failure = stack::failure(&results[0]).expect("a failure");
    assert_eq!((failure.code, &failure.reason[..]), (Code::InvalidArgument as u32, "INVALID_NAME"));
    assert_eq!(failure.field, "topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_topic_and_a_draining_broker_say_so_and_when_to_come_again() {
    let stack = Stack::start().await;
    let topic = stack.broker.topic(&TopicName::parse("t").unwrap()).unwrap();
    let _ = topic.update(|s| s.limits = Limits { max_messages: 2, ..Limits::default() }).unwrap();
    stack.publish("t", &["first"]).await;
    let mut client = PublishServiceClient::new(stack.channel().await);
    let (sender, mut responses) = stream(&stack).await;
    let mut refused = async |code: Code, reason: &str, retries: bool| {
        let status = client.publish(request("t", vec![message("x"), message("y")])).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}");
        let info = status.get_details_error_info().expect("an ErrorInfo");
        assert_eq!((&info.reason[..], &info.domain[..]), (reason, "libmq"));
        assert_eq!(status.get_details_retry_info().is_some(), retries, "{status}");
        let messages = vec![message("x"), message("y")];
        let batch = PublishStreamRequest { correlation: 1, topic: "t".to_owned(), messages };
        sender.send(batch).await.unwrap();
        let response = soon("an answer", responses.message()).await.unwrap().unwrap();
        let results = stack::results(response);
        let failure = stack::failure(&results[0]).expect("a failure");
        assert_eq!((failure.code, &failure.reason[..]), (code as u32, reason));
        assert_eq!(failure.retry_after_ms > 0, retries);
    };
    refused(Code::ResourceExhausted, "FULL", true).await;
    let _ = topic.update(|s| s.limits = Limits { max_messages: 1, ..Limits::default() }).unwrap();
    // It never fits.
    refused(Code::InvalidArgument, "TOO_BIG", false).await;
    stack.broker.drain();
    // Not here any more.
    refused(Code::Unavailable, "DRAINING", false).await;
    assert_eq!(topic.depth(), 1);
}

/// The broker's announcer is this test.
#[tokio::test(flavor = "multi_thread")]
async fn a_publish_to_a_new_topic_is_answered_once_discovery_knows_of_it() {
    let config = Config { announce_wait: PATIENCE, ..Config::default() };
    let stack = Stack::start_with(config, mq_nsq::server::Config::default()).await;
    stack.broker.hold_new_topics(true);
    let publisher = Publisher::new(vec![Target::new(&stack.grpc).unwrap()], PublisherOptions::default());
    let known = publisher.publish("t", vec![message("x")]);
    tokio::pin!(known);
    let topic = tokio::select! {
        answer = &mut known => panic!("answered before discovery knows of the topic: {answer:?}"),
        topic = async {
            loop {
                let found = stack.broker.find_topic(&TopicName::parse("t").unwrap());
                // Its message is stored by then: only the announcement is missing.
                if let Some(topic) = found.filter(|topic| topic.depth() == 1) {
                    break topic;
                }
                tokio::task::yield_now().await;
            }
        } => topic,
    };
    assert!(topic.is_unannounced());
    topic.set_announced();
    soon("an answer", known).await.unwrap();
    // One by one too.
    let mut client = PublishServiceClient::new(stack.channel().await);
    let known = client.publish(request("u", vec![message("x")]));
    tokio::pin!(known);
    let topic = tokio::select! {
        answer = &mut known => panic!("answered before discovery knows of the topic: {answer:?}"),
        topic = async {
            loop {
                let found = stack.broker.find_topic(&TopicName::parse("u").unwrap());
                match found {
                    Some(topic) => break topic,
                    None => tokio::task::yield_now().await,
                }
            }
        } => topic,
    };
    topic.set_announced();
    soon("an answer", known).await.unwrap();
}
