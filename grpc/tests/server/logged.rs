//! Acknowledgements that are confirmed are in the log: a copy of the folder is what a kill would leave.

use std::fs;
use std::path::Path;

use mq_core::{Broker, ChannelName, Options, TopicName};
use mq_grpc::v1::subscribe_response::Response as Answer;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{AcknowledgeRequest, PullRequest, SubscribeUpdate};
use tempfile::TempDir;

use crate::stack::{Stack, Subscriber, open};

/// Messages that are acknowledged one by one. The broker writes acknowledgements every 100 ms by itself: one
/// that is confirmed too early may be in the log all the same, but not all of them.
const MESSAGES: usize = 10;

/// Messages that a broker killed now would deliver again.
fn left_after_a_kill(stack: &Stack) -> u64 {
    let copy = TempDir::new().unwrap();
    copy_folder(&stack.data_path(), copy.path());
    let options = Options { data_path: copy.path().to_owned(), ..Options::default() };
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
