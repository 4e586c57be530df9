//! The Rust client over a server that comes and goes.

use std::time::Duration;

use mq_grpc::client::{
    Brokers, Consumer, ConsumerOptions, Error, OutgoingMessage, Publisher, PublisherOptions, Target,
};
use tonic::Code;

use crate::stack::{Stack, message, soon, until};

fn publisher(stack: &Stack) -> Publisher {
    Publisher::new(vec![Target::new(&stack.grpc).unwrap()], PublisherOptions::default())
}

fn consumer(stack: &Stack) -> Consumer {
    let brokers = Brokers::Fixed(vec![Target::new(&stack.grpc).unwrap()]);
    Consumer::new(brokers, "t", "c", ConsumerOptions::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_is_consumed() {
    let stack = Stack::start().await;
    let publisher = publisher(&stack);
    let mut receipts = Vec::new();
    for number in 0..500_u32 {
        let batch = (0..10).map(|at| message(&(number * 10 + at).to_string())).collect();
        receipts.push(publisher.send("t", batch).await.unwrap());
    }
    let mut last = 0;
    for receipt in receipts {
        let ranges = soon("an answer", receipt).await.unwrap();
        assert!(ranges[0].first > last && ranges[0].count == 10);
        last = ranges[0].first;
    }
    let mut consumer = consumer(&stack);
    for number in 0..5_000_u32 {
        let delivery = soon("a message", consumer.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body(), number.to_string().as_bytes());
        delivery.finish();
    }
    let topic = stack.broker.topics().remove(0);
    until("all to be finished", || (topic.channels()[0].stats().finished == 5_000).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_told_and_the_next_batch_goes_on() {
    let stack = Stack::start().await;
    let publisher = publisher(&stack);
    let refused = soon("an answer", publisher.publish("no good", vec![message("x")])).await.unwrap_err();
    assert!(matches!(refused, Error::Refused(Code::InvalidArgument, _)), "{refused}");
    soon("an answer", publisher.publish("t", vec![message("x")])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_id_is_stored_once() {
    let stack = Stack::start().await;
    let publisher = publisher(&stack);
    let with_id = || OutgoingMessage { dedup_id: "order-7".to_owned(), ..message("x") };
    let first = publisher.publish("t", vec![with_id()]).await.unwrap();
    let again = publisher.publish("t", vec![message("y"), with_id(), message("z")]).await.unwrap();
    assert!(!first[0].duplicate);
    let shape: Vec<_> = again.iter().map(|range| (range.count, range.duplicate)).collect();
    assert_eq!(shape, [(1, false), (1, true), (1, false)]);
    assert_eq!(again[1].first, first[0].first);
    assert_eq!(stack.broker.topics()[0].depth(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn requeue_and_touch_and_a_closed_consumer() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let mut first = consumer(&stack);
    let delivery = soon("a message", first.next()).await.unwrap().unwrap();
    delivery.touch();
    delivery.requeue(Duration::ZERO);
    let again = soon("a message", first.next()).await.unwrap().unwrap();
    assert_eq!(again.message().attempts, 2);
    // The last words of a closed consumer are heard.
    again.finish();
    drop(first);
    let topic = stack.broker.topics().remove(0);
    until("the finish", || (topic.channels()[0].stats().finished == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_consumer_gives_back_unseen_what_the_program_has_not_taken() {
    let stack = Stack::start().await;
    let bodies: Vec<String> = (0..200).map(|number| number.to_string()).collect();
    stack.publish("t", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let mut first = consumer(&stack);
    soon("a message", first.next()).await.unwrap().unwrap().finish();
    let topic = stack.broker.topics().remove(0);
    let stats = || topic.channels()[0].stats();
    // Handed to the connection, and by it to the client's runtime.
    until("all to be on their way", || (stats().in_flight == 199).then_some(())).await;
    soon("the end", first.close()).await;
    until("the end", || (stats().subscribers == 0).then_some(())).await;
    assert_eq!((stats().finished, stats().depth, stats().deferred), (1, 199, 0));
    let mut second = consumer(&stack);
    for body in &bodies[1..] {
        let delivery = soon("a message", second.next()).await.unwrap().unwrap();
        assert_eq!(delivery.body(), body.as_bytes());
        assert!(delivery.message().attempts <= 2);
        delivery.finish();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_or_is_at_work_stays_in_flight_past_its_timeout_and_what_is_dropped_does_not() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let stack = Stack::start().await;
    let bodies: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    stack.publish("t", &bodies.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let brokers = Brokers::Fixed(vec![Target::new(&stack.grpc).unwrap()]);
    let options = ConsumerOptions { msg_timeout: TIMEOUT, ..ConsumerOptions::default() };
    let mut consumer = Consumer::new(brokers, "t", "c", options);
    let at_work = soon("a message", consumer.next()).await.unwrap().unwrap();
    let topic = stack.broker.topics().remove(0);
    let stats = || topic.channels()[0].stats();
    until("all to be in flight", || (stats().in_flight == 100).then_some(())).await;
    let begun = std::time::Instant::now();
    while begun.elapsed() < TIMEOUT + TIMEOUT / 2 {
        // This is a program at work, not a condition waited for.
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!((stats().in_flight, stats().timed_out), (100, 0));
    }
    for body in &bodies[1..] {
        let delivery = soon("a message", consumer.next()).await.unwrap().unwrap();
        assert_eq!((delivery.body(), delivery.message().attempts), (body.as_bytes(), 1));
        delivery.finish();
    }
    // Dropped without a word, it is touched no more.
    drop(at_work);
    let again = soon("the message again", consumer.next()).await.unwrap().unwrap();
    assert_eq!((again.body(), again.message().attempts, stats().timed_out), (&b"0"[..], 2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_server_takes_is_given_up_in_time() {
    let options = PublisherOptions { timeout: Duration::from_millis(300), ..PublisherOptions::default() };
    // Nobody listens on port 1.
    let publisher = Publisher::new(vec![Target::new("127.0.0.1:1").unwrap()], options);
    let error = soon("an answer", publisher.publish("t", vec![message("x")])).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fatal_refusal_ends_a_consumer() {
    let stack = Stack::start().await;
    let brokers = Brokers::Fixed(vec![Target::new(&stack.grpc).unwrap()]);
    let mut consumer = Consumer::new(brokers, "no good", "c", ConsumerOptions::default());
    let error = soon("an answer", consumer.next()).await.unwrap().unwrap_err();
    assert!(matches!(error, Error::Refused(Code::InvalidArgument, _)), "{error}");
    assert!(soon("the end", consumer.next()).await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_broker_that_is_drained_does_not_take_goes_to_the_next() {
    let (one, two) = (Stack::start().await, Stack::start().await);
    let targets = [&one, &two].map(|stack| Target::new(&stack.grpc).unwrap());
    let publisher = Publisher::new(targets.to_vec(), PublisherOptions::default());
    soon("an answer", publisher.publish("t", vec![message("x")])).await.unwrap();
    one.broker.drain();
    // It has no id: it is known not to be stored.
    soon("an answer", publisher.publish("t", vec![message("y")])).await.unwrap();
    let depths = [&one, &two].map(|stack| stack.broker.topics()[0].depth());
    assert_eq!(depths, [1, 1]);
}
