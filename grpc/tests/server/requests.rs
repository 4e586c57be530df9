//! Requests as bytes: garbage, compressed ones, and how the text of a failure is written.

use mq_core::{ChannelName, TopicName};
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::{DeleteChannelRequest, PublishRequest, PublishStreamRequest};
use mq_grpc::{Config, v1::DESCRIPTORS};
use mq_net::budget::Budget;
use prost::Message;
use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::raw::{Raw, framed};
use crate::stack::{Stack, message, open, opening, soon, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_cannot_be_decoded_is_the_callers_fault_in_every_method() {
    let stack = Stack::start().await;
    let raw = Raw::connect(&stack.grpc).await;
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let mut methods = 0;
    for service in files.iter().flat_map(|file| &file.service) {
        // Discovery is not served here.
        if service.name() == "DiscoveryService" {
            continue;
        }
        for method in &service.method {
            let name = format!("{}/{}", service.name(), method.name());
            let mut call = raw.call(&name, &[]).await;
            // A field whose length goes beyond the end.
            call.send(framed(0, 3, &[0x0a, 0x7f, 0x01]), false).await;
            assert_eq!(call.end().await, Code::InvalidArgument, "{name}");
            methods += 1;
        }
    }
    assert!(methods > 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_failure_leaves_a_hash_as_it_is() {
    let stack = Stack::start().await;
    stack.publish("t", &["x"]).await;
    let raw = Raw::connect(&stack.grpc).await;
    // In the headers of a call that has no other answer.
    let channel = "c#ephemeral".to_owned();
    let request = DeleteChannelRequest { topic: "t".to_owned(), channel }.encode_to_vec();
    let mut call = raw.call("AdminService/DeleteChannel", &[]).await;
    call.send(framed(0, request.len(), &request), true).await;
    let (code, text) = call.failure().await;
    assert_eq!((code, text.contains("c#ephemeral")), (Code::NotFound, true), "{text}");
    // In the trailers of a stream.
    let request = opening(open("t", "c#ephemeral"), 0, 0).encode_to_vec();
    let mut call = raw.call("SubscribeService/Subscribe", &[]).await;
    call.send(framed(0, request.len(), &request), false).await;
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let channel = ChannelName::parse("c#ephemeral").unwrap();
    let subscribed = || topic.find_channel(&channel).is_some_and(|channel| channel.stats().subscribers == 1);
    until("the subscription", || subscribed().then_some(())).await;
    let _ = topic.delete_channel(&channel).unwrap();
    let (code, text) = call.failure().await;
    assert_eq!((code, text.contains("c#ephemeral")), (Code::NotFound, true), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_may_be_compressed_and_what_they_unpack_to_is_bounded() {
    let stack = Stack::start().await;
    let client = || async {
        PublishServiceClient::new(stack.channel().await)
            .send_compressed(CompressionEncoding::Gzip)
            .max_encoding_message_size(1 << 30)
    };
    let request = |len: usize| PublishRequest {
        topic: "t".to_owned(),
        messages: vec![mq_grpc::v1::OutgoingMessage { body: vec![0; len].into(), ..Default::default() }],
    };
    client().await.publish(request(1 << 20)).await.unwrap();
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    assert_eq!(topic.depth(), 1);
    // A hundred megabytes in a hundred kilobytes.
    let refused = client().await.publish(request(100 << 20)).await.unwrap_err();
    assert!(matches!(refused.code(), Code::OutOfRange | Code::ResourceExhausted), "{refused}");
    assert_eq!(topic.depth(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn compressed_streams_have_places_in_the_budget_as_long_as_they_last() {
    // Room for one, and for streams.
    let config = Config { budget: Budget::new(8 << 20), ..Config::default() };
    let stack = Stack::start_with(config, Default::default()).await;
    let channel = stack.channel().await;
    let client = || PublishServiceClient::new(channel.clone()).send_compressed(CompressionEncoding::Gzip);
    let batch =
        || PublishStreamRequest { topic: "t".to_owned(), messages: vec![message("x")], correlation: 1 };
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    sender.send(batch()).await.unwrap();
    let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
    let mut first = client().publish_stream(stream).await.unwrap().into_inner();
    soon("the window", first.message()).await.unwrap().unwrap();
    soon("a result", first.message()).await.unwrap().unwrap();
    let refused = client().publish_stream(tokio_stream::pending()).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    // One that is not compressed needs none.
    let request = PublishRequest { topic: "t".to_owned(), messages: vec![message("y")] };
    PublishServiceClient::new(channel.clone()).publish(request).await.unwrap();
    drop((sender, first));
    soon("the place", async {
        loop {
            let stream = tokio_stream::iter([batch()]);
            if client().publish_stream(stream).await.is_ok() {
                break;
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_describes_the_details_of_failures() {
    let stack = Stack::start().await;
    for name in ["ErrorInfo", "BadRequest", "RetryInfo"] {
        let symbol = MessageRequest::FileContainingSymbol(format!("google.rpc.{name}"));
        let request = ServerReflectionRequest { host: String::new(), message_request: Some(symbol) };
        let mut client = ServerReflectionClient::new(stack.channel().await);
        let stream = tokio_stream::once(request);
        let mut answers = client.server_reflection_info(stream).await.unwrap().into_inner();
        let answer = soon("an answer", answers.message()).await.unwrap().unwrap().message_response;
        assert!(matches!(answer, Some(MessageResponse::FileDescriptorResponse(_))), "{name}: {answer:?}");
    }
}
