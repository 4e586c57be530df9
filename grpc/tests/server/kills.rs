//! A kill, of which a copy of the folder is what it would leave: acknowledgements that were confirmed survive
//! it, and tokens of before it are of no use.

use std::fs;
use std::path::Path;

use mq_core::{Broker, ChannelName, Options, TopicName};
use mq_grpc::v1::subscribe_response::Response as Answer;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{AckFailureReason, AcknowledgeRequest, PullRequest, SubscribeUpdate};
use tempfile::TempDir;

use crate::stack::{Stack, Subscriber, open, until};

/// Messages that are acknowledged one by one. The broker writes acknowledgements every 100 ms by itself: one
/// that is confirmed too early may be in the log all the same, but not all of them.
const MESSAGES: usize = 10;

/// What a kill would leave now.
fn killed(stack: &Stack) -> TempDir {
    let copy = TempDir::new().unwrap();
    let data = copy.path().join("data");
    fs::create_dir(&data).unwrap();
    copy_folder(&stack.data_path(), &data);
    copy
}

/// Messages that a broker killed now would deliver again.
fn left_after_a_kill(stack: &Stack) -> u64 {
    let copy = killed(stack);
    let options = Options { data_path: copy.path().join("data"), ..Options::default() };
    let broker = Broker::open(options).unwrap();
    let topic = broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let depth = topic.find_channel(&ChannelName::parse("c").unwrap()).unwrap().stats().depth;
    broker.close().unwrap();
    depth
}

fn copy_folder(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&target).unwrap();
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_confirms_survives_a_kill() {
    let stack = Stack::start().await;
    stack.publish("t", &["x"; MESSAGES]).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    for number in 1..=MESSAGES {
        let finish = vec![subscriber.next().await.token];
        let confirm = number as u64;
        subscriber.send(SubscribeUpdate { finish, confirm, ..Default::default() }).await;
        loop {
            match subscriber.response().await.unwrap() {
                Some(Answer::Confirmed(confirmed)) => {
                    assert_eq!(confirmed.confirm, confirm);
                    break;
                }
                Some(Answer::Batch(batch)) => subscriber.keep(batch),
                other => panic!("not confirmed: {other:?}"),
            }
        }
        assert_eq!(left_after_a_kill(&stack), (MESSAGES - number) as u64, "after {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_acknowledge_answers_survives_a_kill() {
    let stack = Stack::start().await;
    stack.publish("t", &["x"; MESSAGES]).await;
    let mut client = SubscribeServiceClient::new(stack.channel().await);
    let (topic, channel) = (|| "t".to_owned(), || "c".to_owned());
    for number in 1..=MESSAGES {
        let pull = PullRequest { topic: topic(), channel: channel(), ..PullRequest::default() };
        let finish = vec![client.pull(pull).await.unwrap().into_inner().messages[0].token.clone()];
        let request = AcknowledgeRequest {
            topic: topic(),
            channel: channel(),
            finish,
            ..AcknowledgeRequest::default()
        };
        let failures = client.acknowledge(request).await.unwrap().into_inner().failures;
        assert!(failures.is_empty(), "{failures:?}");
        assert_eq!(left_after_a_kill(&stack), (MESSAGES - number) as u64, "after {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_before_a_kill_finishes_no_delivery_of_after_it() {
    let before = Stack::start().await;
    before.publish("t", &["x"]).await;
    let mut subscriber = Subscriber::open(before.channel().await, open("t", "c"), 1).await.unwrap();
    let first = subscriber.next().await;
    let after = Stack::start_in(killed(&before), Default::default(), Default::default()).await;
    let mut subscriber = Subscriber::open(after.channel().await, open("t", "c"), 1).await.unwrap();
    let second = subscriber.next().await;
    assert_eq!((second.id, second.attempts), (first.id, first.attempts), "nothing else tells them apart");
    subscriber.finish(&[first.token]).await;
    let Some(Answer::Failures(failed)) = subscriber.response().await.unwrap() else { panic!("no failures") };
    assert_eq!(failed.failures[0].reason(), AckFailureReason::NotInFlight);
    let topic = after.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let finished = || topic.channels()[0].stats().finished;
    assert_eq!(finished(), 0);
    subscriber.finish(&[second.token]).await;
    until("the finish", || (finished() == 1).then_some(())).await;
}
