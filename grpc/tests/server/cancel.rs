//! Calls that end in the middle of something: cancelled, or by their deadline.

use std::collections::BTreeSet;
use std::time::Duration;

use mq_core::{Topic, TopicName};
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::{PublishStreamRequest, SubscribeRequeue, SubscribeUpdate};
use prost::Message;
use tokio::time::timeout;
use tokio_stream::StreamExt;
use tonic::Code;

use crate::raw::{Raw, framed};
use crate::stack::{self, Stack, Subscriber, message, open, opening, until};

fn topic(stack: &Stack) -> std::sync::Arc<Topic> {
    stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap()
}

/// Nobody consumes any more, and nothing is in flight.
async fn all_left(stack: &Stack) {
    let idle = || {
        let channels = topic(stack).channels();
        let busy = channels.iter().any(|channel| {
            let stats = channel.stats();
            stats.subscribers + stats.in_flight > 0
        });
        (!busy && stack.clients.list().is_empty()).then_some(())
    };
    until("the subscriptions to end", idle).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_of_batches_cancelled_at_any_step_stores_whole_ones_in_order() {
    const BATCH: usize = 10;
    let stack = Stack::start().await;
    let channel = stack.channel().await;
    for step in 0..60_u64 {
        let request = move |correlation| PublishStreamRequest {
            correlation,
            topic: "t".to_owned(),
            messages: (0..BATCH).map(|at| message(&format!("{step} {correlation} {at}"))).collect(),
        };
        let mut client = PublishServiceClient::new(channel.clone());
        let publishing = async {
            // It has no end.
            let batches = tokio_stream::iter(0_u64..400).map(request).chain(tokio_stream::pending());
            let mut results = client.publish_stream(batches).await.unwrap().into_inner();
            while let Some(response) = results.message().await.unwrap() {
                assert!(stack::results(response).iter().all(|result| stack::failure(result).is_none()));
            }
        };
        assert!(timeout(Duration::from_micros(step * 100), publishing).await.is_err());
    }
    // The end of what was cancelled is behind this one.
    stack.publish("last", &["x"]).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 2_000).await.unwrap();
    // One look: messages go from the one to the other.
    let stats = topic(&stack).channels()[0].stats();
    let stored = stats.depth + stats.in_flight;
    assert_eq!(stored % BATCH as u64, 0, "{stored} are no whole batches");
    let mut next = std::collections::BTreeMap::<u64, u64>::new();
    let mut seen = Vec::new();
    for number in 0..stored {
        let message = subscriber.next().await;
        let text = std::str::from_utf8(&message.body).unwrap();
        let parts: Vec<u64> = text.split(' ').map(|part| part.parse().unwrap()).collect();
        let [step, correlation, at] = parts[..] else { panic!("{text}") };
        let due = next.entry(step).or_default();
        assert_eq!(*due, correlation * BATCH as u64 + at, "message {number} is {text}");
        *due += 1;
        seen.push(message.token);
        if seen.len() == 1_000 {
            subscriber.finish(&std::mem::take(&mut seen)).await;
        }
    }
    println!("{stored} messages of 60 cancelled streams");
    assert!(stored > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_cancelled_at_any_step_loses_nothing() {
    const MESSAGES: u64 = 2_000;
    let stack = Stack::start().await;
    let channel = stack.channel().await;
    let bodies: Vec<String> = (0..MESSAGES).map(|number| number.to_string()).collect();
    stack.publish("t", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut done = BTreeSet::new();
    for step in 0..80_u64 {
        let begun = async {
            let mut subscriber = Subscriber::open(channel.clone(), open("t", "c"), 20).await.unwrap();
            loop {
                // One is finished, one requeued, one touched, one held.
                let mut ids = Vec::new();
                for _ in 0..4 {
                    ids.push(subscriber.next().await.token);
                }
                let requeue = vec![SubscribeRequeue { tokens: vec![ids[1].clone()], delay_ms: 0 }];
                let (finish, touch) = (vec![ids[0].clone()], vec![ids[2].clone()]);
                subscriber.send(SubscribeUpdate { finish, requeue, touch, ..Default::default() }).await;
                if step % 3 == 0 {
                    // The acknowledgements are on their way.
                    return;
                }
            }
        };
        let _ = timeout(Duration::from_micros(step * 50), begun).await;
    }
    all_left(&stack).await;
    let stats = topic(&stack).channels()[0].stats();
    assert_eq!(stats.depth + stats.deferred + stats.finished, MESSAGES, "{stats:?}");
    println!("{} finished, {} requeued by 80 cancelled streams", stats.finished, stats.requeued);
    let before = stats.finished;
    let mut subscriber = Subscriber::open(channel, open("t", "c"), 500).await.unwrap();
    while (done.len() as u64) < MESSAGES - before {
        let message = subscriber.next().await;
        assert!(done.insert(message.offset), "{} twice", message.offset);
        subscriber.finish(&[message.token]).await;
    }
    let finished = || (topic(&stack).channels()[0].stats().finished == MESSAGES).then_some(());
    until("all to be finished", finished).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deadlines_end_calls_whether_they_have_begun_to_answer_or_not() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let raw = Raw::connect(&stack.grpc).await;
    let soon = [("grpc-timeout", "300m")];
    // Nothing is asked for.
    for method in ["SubscribeService/Subscribe", "PublishService/Publish"] {
        assert_eq!(raw.call(method, &soon).await.end().await, Code::DeadlineExceeded, "{method}");
    }
    // A window is announced, and no batch comes; numbers come again and again.
    assert_eq!(raw.call("PublishService/PublishStream", &soon).await.end().await, Code::DeadlineExceeded);
    let mut watching = raw.call("AdminService/WatchStats", &soon).await;
    watching.send(framed(0, 0, b""), true).await;
    assert_eq!(watching.end().await, Code::DeadlineExceeded);
    // A message is in flight: it returns, though the client stays.
    let first = opening(open("t", "c"), 1, 0);
    let first = first.encode_to_vec();
    let mut consuming = raw.call("SubscribeService/Subscribe", &soon).await;
    consuming.send(framed(0, first.len(), &first), false).await;
    until("the delivery", || (topic(&stack).channels().first()?.stats().in_flight == 1).then_some(())).await;
    assert_eq!(consuming.end().await, Code::DeadlineExceeded);
    all_left(&stack).await;
    assert_eq!(topic(&stack).channels()[0].stats().depth, 1);
}
