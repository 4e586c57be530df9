//! Limits that are announced to clients or assumed of them, held to the last byte.

use mq_core::{ChannelName, ChannelStats, Topic, TopicName};
use mq_grpc::Config;
use mq_grpc::v1::admin_service_client::AdminServiceClient;
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::publish_stream_response::Response as Answer;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{
    GetStatsRequest, Header, OutgoingMessage, PublishRequest, PublishStreamRequest, PublishWindow,
    PullRequest,
};
use mq_nsq::server;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::stack::{self, PATIENCE, Stack, Subscriber, message, open, soon, until};

/// Body and headers of the largest message for clients with gRPC's own limit, 4 MiB.
const RECEIVED_MAX: usize = (4 << 20) - (64 << 10);

fn sized(bytes: usize) -> OutgoingMessage {
    OutgoingMessage { body: vec![b'x'; bytes].into(), ..OutgoingMessage::default() }
}

async fn with_large_messages() -> Stack {
    let config = Config { max_message_bytes: 8 << 20, max_batch_bytes: 32 << 20, ..Config::default() };
    Stack::start_with(config, server::Config::default()).await
}

async fn publish(stack: &Stack, messages: Vec<OutgoingMessage>) {
    let mut client = PublishServiceClient::new(stack.channel().await).max_encoding_message_size(1 << 30);
    client.publish(PublishRequest { topic: "t".to_owned(), messages }).await.unwrap();
}

fn topic(stack: &Stack) -> Option<std::sync::Arc<Topic>> {
    stack.broker.find_topic(&TopicName::parse("t").unwrap())
}

fn stats(stack: &Stack) -> ChannelStats {
    topic(stack).unwrap().find_channel(&ChannelName::parse("c").unwrap()).unwrap().stats()
}

/// Two that fit, and before each one that does not: by a byte of its body, by a header.
fn around_the_limit() -> Vec<OutgoingMessage> {
    let headers = vec![Header { name: "n".to_owned(), value: vec![b'v'; 100].into() }];
    let by_header = OutgoingMessage { headers, ..sized(RECEIVED_MAX - 100) };
    vec![sized(RECEIVED_MAX + 1), sized(RECEIVED_MAX), by_header, sized(RECEIVED_MAX)]
}

/// The stub has the limit that gRPC's libraries have, 4 MiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_a_client_that_names_no_limit_has_what_fits_into_4_mib() {
    let stack = with_large_messages().await;
    publish(&stack, around_the_limit()).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 10).await.unwrap();
    for _ in 0..2 {
        assert_eq!(subscriber.next().await.body.len(), RECEIVED_MAX);
    }
    assert_eq!((stats(&stack).oversized, stats(&stack).in_flight), (2, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_of_a_client_that_names_no_limit_has_what_fits_into_4_mib() {
    let stack = with_large_messages().await;
    publish(&stack, around_the_limit()).await;
    let mut client = SubscribeServiceClient::new(stack.channel().await);
    let (topic, channel) = ("t".to_owned(), "c".to_owned());
    let pull = PullRequest { topic, channel, max_messages: 10, wait_ms: 20_000, ..PullRequest::default() };
    for _ in 0..2 {
        let pulled = soon("a pull", client.pull(pull.clone())).await.unwrap().into_inner();
        let sizes: Vec<_> = pulled.messages.iter().map(|one| one.body.len()).collect();
        assert_eq!(sizes, [RECEIVED_MAX]);
    }
    assert_eq!((stats(&stack).oversized, stats(&stack).in_flight), (2, 2));
}

/// The same stub fails by its own limit, so what it receives in the other tests is within that.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_for_any_size_gets_any_size() {
    let stack = with_large_messages().await;
    publish(&stack, vec![sized(5 << 20)]).await;
    let any = || mq_grpc::v1::SubscribeOpen { max_message_bytes: Some(0), ..open("t", "c") };
    let mut small = Subscriber::open(stack.channel().await, any(), 1).await.unwrap();
    let failed = small.response().await.unwrap_err();
    assert_eq!(failed.code(), Code::OutOfRange, "{failed}");
}

/// Announces nothing, so that batches of a new topic have no answer until the test announces it.
async fn unanswering() -> Stack {
    // Longer than the test takes: it announces.
    let config = Config { announce_wait: 10 * PATIENCE, ..Config::default() };
    let stack = Stack::start_with(config, server::Config::default()).await;
    stack.broker.hold_new_topics(true);
    stack
}

/// Batches that have exactly the window, by one of its three numbers.
fn filling(window: &PublishWindow, by: &str) -> Vec<Vec<OutgoingMessage>> {
    match by {
        "batches" => vec![vec![message("x")]; window.batches as usize],
        "messages" => vec![vec![message("x"); window.messages as usize / 64]; 64],
        _ => vec![vec![sized(1 << 20)]; window.bytes as usize >> 20],
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_announced_window_is_read_without_an_answer_and_no_batch_beyond_it() {
    for by in ["batches", "messages", "bytes"] {
        let stack = unanswering().await;
        let connection = stack.channel().await;
        let (sender, receiver) = mpsc::channel(64);
        let mut client = PublishServiceClient::new(connection.clone());
        let mut responses = client.publish_stream(ReceiverStream::new(receiver)).await.unwrap().into_inner();
        let first = soon("the window", responses.message()).await.unwrap().unwrap().response;
        let Some(Answer::Window(window)) = first else { panic!("no window first") };
        let mut batches = filling(&window, by);
        let whole: u64 = batches.iter().map(|batch| batch.len() as u64).sum();
        batches.push(vec![message("beyond")]);
        let count = batches.len();
        let sending = tokio::spawn(async move {
            for (correlation, messages) in (1..).zip(batches) {
                let request = PublishStreamRequest { correlation, topic: "t".to_owned(), messages };
                sender.send(request).await.unwrap();
            }
        });
        let depth = || topic(&stack).map_or(0, |topic| topic.depth());
        until("the window to be read", || (depth() >= whole).then_some(())).await;
        soon("all to be sent", sending).await.unwrap();
        // What is answered on the same connection was sent behind the batch that is beyond the window.
        let mut admin = AdminServiceClient::new(connection);
        for _ in 0..20 {
            admin.get_stats(GetStatsRequest::default()).await.unwrap();
        }
        assert_eq!(depth(), whole, "{by}: nothing beyond the window is read");
        topic(&stack).unwrap().set_announced();
        let mut answered = 0;
        while answered < count {
            let response = soon("an answer", responses.message()).await.unwrap().unwrap();
            let results = stack::results(response);
            assert!(results.iter().all(|result| stack::failure(result).is_none()), "{by}");
            answered += results.len();
        }
        assert_eq!((answered, depth()), (count, whole + 1), "{by}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_largest_batch_has_room_in_the_window() {
    // Larger than the window that is there for small ones.
    let config = Config { max_message_bytes: 1 << 20, max_batch_bytes: 20 << 20, ..Config::default() };
    let stack = Stack::start_with(config, server::Config::default()).await;
    let request =
        PublishStreamRequest { correlation: 1, topic: "t".to_owned(), messages: vec![sized(1 << 20); 20] };
    let mut client = PublishServiceClient::new(stack.channel().await).max_encoding_message_size(1 << 30);
    let stream = client.publish_stream(tokio_stream::iter([request]));
    let mut responses = soon("the stream", stream).await.unwrap().into_inner();
    let first = soon("the window", responses.message()).await.unwrap().unwrap().response;
    let Some(Answer::Window(window)) = first else { panic!("no window first") };
    assert_eq!((window.bytes, window.max_batch_bytes), (20 << 20, 20 << 20));
    let response = soon("an answer", responses.message()).await.unwrap().unwrap();
    assert_eq!(stack::stored(&stack::results(response)[0]), 20);
}
