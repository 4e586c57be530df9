//! `Pull` and `Acknowledge`: messages without a stream.

use bytes::Bytes;
use mq_core::{ChannelName, ChannelStats, TopicName};
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{
    AckFailureReason, AckKind, AcknowledgeRequest, PullRequest, PullResponse, SubscribeOpen, SubscribeRequeue,
};
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::stack::{Stack, Subscriber, open, soon, until};

fn pull(max_messages: u32) -> PullRequest {
    PullRequest { topic: "t".to_owned(), channel: "c".to_owned(), max_messages, ..PullRequest::default() }
}

fn acknowledge() -> AcknowledgeRequest {
    AcknowledgeRequest { topic: "t".to_owned(), channel: "c".to_owned(), ..AcknowledgeRequest::default() }
}

fn bodies(pulled: &PullResponse) -> Vec<String> {
    pulled.messages.iter().map(|one| String::from_utf8(one.body.to_vec()).unwrap()).collect()
}

async fn client(stack: &Stack) -> SubscribeServiceClient<Channel> {
    SubscribeServiceClient::new(stack.channel().await)
}

fn stats(stack: &Stack) -> ChannelStats {
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    topic.find_channel(&ChannelName::parse("c").unwrap()).unwrap().stats()
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_are_leased_and_finished_over_any_connection() {
    let stack = Stack::start().await;
    stack.publish("t", &["a", "b", "c"]).await;
    let first = client(&stack).await.pull(pull(2)).await.unwrap().into_inner();
    assert_eq!((bodies(&first), first.created), (vec!["a".to_owned(), "b".to_owned()], true));
    assert_eq!(first.lease_ms, 60_000);
    let second = client(&stack).await.pull(pull(0)).await.unwrap().into_inner();
    assert_eq!((bodies(&second), second.created), (vec!["c".to_owned()], false));
    let nothing = client(&stack).await.pull(pull(10)).await.unwrap().into_inner();
    assert!(nothing.messages.is_empty());
    let token = |response: &PullResponse, at: usize| response.messages[at].token.clone();
    let request = AcknowledgeRequest {
        finish: vec![token(&first, 0), token(&second, 0), Bytes::from_static(b"none")],
        requeue: vec![SubscribeRequeue { tokens: vec![token(&first, 1)], delay_ms: 0 }],
        ..acknowledge()
    };
    let mut other = client(&stack).await;
    let failures = other.acknowledge(request.clone()).await.unwrap().into_inner().failures;
    let failures: Vec<_> = failures.iter().map(|one| (one.kind(), one.reason())).collect();
    assert_eq!(failures, [(AckKind::Finish, AckFailureReason::InvalidToken)]);
    assert_eq!((stats(&stack).finished, stats(&stack).depth), (2, 1));
    let failures = other.acknowledge(request).await.unwrap().into_inner().failures;
    assert_eq!(failures.len(), 4, "all of it is over");
    let again = other.pull(pull(10)).await.unwrap().into_inner();
    assert_eq!((bodies(&again), again.messages[0].attempts), (vec!["b".to_owned()], 2));
    let release = AcknowledgeRequest { release: vec![token(&again, 0)], ..acknowledge() };
    assert!(other.acknowledge(release).await.unwrap().into_inner().failures.is_empty());
    // A subscriber on a stream takes what is given back; the subscription of the leases ends by itself.
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    assert_eq!(subscriber.next().await.attempts, 2);
    until("the leases to end", || (stats(&stack).subscribers == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_for_messages_and_many_share_them() {
    let stack = Stack::start().await;
    let wait = PullRequest { wait_ms: 20_000, ..pull(1) };
    let mut pulling = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (mut client, wait) = (client(&stack).await, wait.clone());
        pulling.spawn(async move { client.pull(wait).await.unwrap().into_inner() });
    }
    let waiting = || stack.clients.list().iter().any(|client| client.ready_count() == 8);
    until("all to wait", || waiting().then_some(())).await;
    let sent: Vec<String> = (0..8).map(|number| number.to_string()).collect();
    for body in &sent {
        stack.publish("t", &[body]).await;
    }
    let mut got = Vec::new();
    while let Some(pulled) = soon("a pull", pulling.join_next()).await {
        let pulled = pulled.unwrap();
        assert_eq!(pulled.messages.len(), 1);
        got.extend(bodies(&pulled));
    }
    got.sort();
    assert_eq!((got, stats(&stack).in_flight), (sent, 8));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_cancelled_takes_nothing_and_leaves_messages_to_others() {
    let stack = Stack::start().await;
    let wait = PullRequest { wait_ms: 20_000, ..pull(5) };
    let mut cancelled = client(&stack).await;
    let call = tokio::spawn(async move { cancelled.pull(wait).await });
    let waiting = || stack.clients.list().iter().any(|client| client.ready_count() == 5);
    until("it to wait", || waiting().then_some(())).await;
    call.abort();
    until("it to leave", || (!waiting()).then_some(())).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    stack.publish("t", &["a"]).await;
    assert_eq!(subscriber.next().await.attempts, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_over_comes_again_and_a_touched_one_lasts() {
    let stack = Stack::start().await;
    stack.publish("t", &["short", "long"]).await;
    let mut client = client(&stack).await;
    let pulled = client.pull(PullRequest { lease_ms: 300, ..pull(2) }).await.unwrap().into_inner();
    let touch = AcknowledgeRequest {
        touch: vec![pulled.messages[1].token.clone()],
        lease_ms: 600_000,
        ..acknowledge()
    };
    let failures = client.acknowledge(touch).await.unwrap().into_inner().failures;
    assert!(failures.is_empty(), "{failures:?}");
    let again = client.pull(PullRequest { wait_ms: 20_000, ..pull(2) }).await.unwrap().into_inner();
    assert_eq!((bodies(&again), again.messages[0].attempts), (vec!["short".to_owned()], 2));
    // The late token of the first lease names the second no more.
    let late = AcknowledgeRequest { finish: vec![pulled.messages[0].token.clone()], ..acknowledge() };
    let failures = client.acknowledge(late).await.unwrap().into_inner().failures;
    assert_eq!(failures[0].reason(), AckFailureReason::NotInFlight);
    assert_eq!((stats(&stack).finished, stats(&stack).in_flight), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_touch_begins_a_lease_as_long_as_it_says() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let mut client = client(&stack).await;
    let pulled = client.pull(PullRequest { lease_ms: 600_000, ..pull(1) }).await.unwrap().into_inner();
    assert_eq!(pulled.lease_ms, 600_000);
    let touch = vec![pulled.messages[0].token.clone()];
    let touch = AcknowledgeRequest { touch, lease_ms: 100, ..acknowledge() };
    assert!(client.acknowledge(touch).await.unwrap().into_inner().failures.is_empty());
    let again = client.pull(PullRequest { wait_ms: 20_000, ..pull(1) }).await.unwrap().into_inner();
    assert_eq!(bodies(&again), ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_a_stream_is_none_of_a_lease() {
    let stack = Stack::start().await;
    stack.publish("t", &["a", "b"]).await;
    let streamed = SubscribeOpen { client_name: "stream".to_owned(), ..open("t", "c") };
    let mut subscriber = Subscriber::open(stack.channel().await, streamed, 1).await.unwrap();
    let a = subscriber.next().await;
    let mut client = client(&stack).await;
    let b = client.pull(pull(1)).await.unwrap().into_inner();
    let finish = AcknowledgeRequest { finish: vec![a.token.clone()], ..acknowledge() };
    let failures = client.acknowledge(finish).await.unwrap().into_inner().failures;
    assert_eq!((failures.len(), failures[0].reason()), (1, AckFailureReason::NotInFlight));
    let finish = AcknowledgeRequest { finish: vec![b.messages[0].token.clone()], ..acknowledge() };
    assert!(client.acknowledge(finish).await.unwrap().into_inner().failures.is_empty());
    subscriber.finish(&[a.token]).await;
    until("both to be finished", || (stats(&stack).finished == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_response_is_bounded_and_a_bad_request_names_its_field() {
    let stack = Stack::start().await;
    let large = "x".repeat(600_000);
    stack.publish("t", &[&large, &large, &large]).await;
    let mut client = client(&stack).await;
    let pulled = client.pull(pull(10)).await.unwrap().into_inner();
    assert_eq!(pulled.messages.len(), 1, "two do not fit in 1 MiB");
    for (request, field) in [
        (PullRequest { topic: "no good".to_owned(), ..pull(1) }, "topic"),
        (PullRequest { channel: String::new(), ..pull(1) }, "channel"),
        (pull(1_001), "max_messages"),
        (PullRequest { wait_ms: 600_001, ..pull(1) }, "wait_ms"),
        (PullRequest { lease_ms: 900_001, ..pull(1) }, "lease_ms"),
    ] {
        let refused = client.pull(request).await.unwrap_err();
        let violations = refused.get_details_bad_request().expect("details").field_violations;
        assert_eq!((refused.code(), &violations[0].field[..]), (Code::InvalidArgument, field), "{refused}");
    }
    let nowhere = AcknowledgeRequest { channel: "none".to_owned(), ..acknowledge() };
    assert_eq!(client.acknowledge(nowhere).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_waits_no_longer_than_the_server_runs() {
    let mut stack = Stack::start().await;
    let mut client = client(&stack).await;
    let wait = PullRequest { wait_ms: 600_000, ..pull(1) };
    let call = tokio::spawn(async move { client.pull(wait).await });
    let waiting = || stack.clients.list().iter().any(|client| client.ready_count() == 1);
    until("it to wait", || waiting().then_some(())).await;
    stack.stop().await;
    assert_eq!(soon("the end", call).await.unwrap().unwrap_err().code(), Code::Unavailable);
}
