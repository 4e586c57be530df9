//! One table over both protocols: each consumes what the other publishes.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use mq_core::{ChannelName, ChannelStats, TopicName};
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::{OutgoingMessage, PublishRequest, SubscribeRequeue, SubscribeUpdate};
use mq_nsq::client::{Connection, Identify};

use crate::stack::{Stack, Subscriber, message, open, soon, until};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Wire {
    Nsq,
    Grpc,
}

const WIRES: [(Wire, Wire); 4] =
    [(Wire::Nsq, Wire::Nsq), (Wire::Nsq, Wire::Grpc), (Wire::Grpc, Wire::Nsq), (Wire::Grpc, Wire::Grpc)];

fn topic() -> TopicName {
    TopicName::parse("t").unwrap()
}

async fn nsq(stack: &Stack, msg_timeout: Option<Duration>) -> Connection {
    Connection::connect(&stack.tcp, Identify { msg_timeout, ..Identify::default() }).await.unwrap()
}

async fn publish(wire: Wire, stack: &Stack, bodies: &[&str], delay: Duration) {
    match wire {
        Wire::Nsq => {
            let mut connection = nsq(stack, None).await;
            if delay.is_zero() {
                connection.publish_batch(&topic(), bodies).await.unwrap();
            } else {
                for body in bodies {
                    connection.publish_deferred(&topic(), body.as_bytes(), delay).await.unwrap();
                }
            }
            soon("answers", connection.flush()).await.unwrap();
        }
        Wire::Grpc => {
            let delay_ms = delay.as_millis() as u64;
            let messages = bodies.iter().map(|body| OutgoingMessage { delay_ms, ..message(body) }).collect();
            let mut client = PublishServiceClient::new(stack.channel().await);
            client.publish(PublishRequest { topic: "t".to_owned(), messages }).await.unwrap();
        }
    }
}

enum Consumer {
    Nsq(Box<Connection>),
    /// A subscriber, and the tokens of its deliveries by id.
    Grpc(Box<Subscriber>, HashMap<u64, Bytes>),
}

impl Consumer {
    async fn start(wire: Wire, stack: &Stack, credit: u32, msg_timeout: Option<Duration>) -> Self {
        match wire {
            Wire::Nsq => {
                let mut connection = Box::new(nsq(stack, msg_timeout).await);
                let channel = ChannelName::parse("c").unwrap();
                connection.subscribe(&topic(), &channel, credit).await.unwrap();
                Self::Nsq(connection)
            }
            Wire::Grpc => {
                let msg_timeout_ms = msg_timeout.map_or(0, |timeout| timeout.as_millis() as u64);
                let open = mq_grpc::v1::SubscribeOpen { msg_timeout_ms, ..open("t", "c") };
                let subscriber = Subscriber::open(stack.channel().await, open, credit).await.unwrap();
                Self::Grpc(Box::new(subscriber), HashMap::new())
            }
        }
    }

    /// The id, body and attempts of the next message.
    async fn next(&mut self) -> (u64, String, u32) {
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        match self {
            Self::Nsq(connection) => {
                let message = soon("a message", connection.next()).await.unwrap().expect("not closed");
                (message.id.0, text(&message.body), message.attempts.into())
            }
            Self::Grpc(subscriber, tokens) => {
                let message = subscriber.next().await;
                tokens.insert(message.id, message.token.clone());
                (message.id, text(&message.body), message.attempts)
            }
        }
    }

    async fn finish(&mut self, id: u64) {
        match self {
            Self::Nsq(connection) => {
                connection.finish(mq_core::MessageId(id));
                connection.flush().await.unwrap();
            }
            Self::Grpc(subscriber, tokens) => subscriber.finish(&[tokens[&id].clone()]).await,
        }
    }

    async fn touch(&mut self, id: u64) {
        match self {
            Self::Nsq(connection) => {
                connection.touch(mq_core::MessageId(id));
                connection.flush().await.unwrap();
            }
            Self::Grpc(subscriber, tokens) => {
                let touch = vec![tokens[&id].clone()];
                subscriber.send(SubscribeUpdate { touch, ..Default::default() }).await;
            }
        }
    }

    async fn requeue(&mut self, id: u64, delay: Duration) {
        match self {
            Self::Nsq(connection) => {
                connection.requeue(mq_core::MessageId(id), delay);
                connection.flush().await.unwrap();
            }
            Self::Grpc(subscriber, tokens) => {
                let tokens = vec![tokens[&id].clone()];
                let requeue = vec![SubscribeRequeue { tokens, delay_ms: delay.as_millis() as u64 }];
                subscriber.send(SubscribeUpdate { requeue, ..Default::default() }).await;
            }
        }
    }
}

fn stats(stack: &Stack) -> ChannelStats {
    let topic = stack.broker.find_topic(&topic()).unwrap();
    topic.find_channel(&ChannelName::parse("c").unwrap()).unwrap().stats()
}

#[tokio::test(flavor = "multi_thread")]
async fn order_bodies_and_finishes() {
    for (from, to) in WIRES {
        let stack = Stack::start().await;
        publish(from, &stack, &["a", "b", "c"], Duration::ZERO).await;
        let mut consumer = Consumer::start(to, &stack, 2, None).await;
        for body in ["a", "b", "c"] {
            let (id, got, attempts) = consumer.next().await;
            assert_eq!((&*got, attempts), (body, 1), "{from:?} to {to:?}");
            assert!(stats(&stack).in_flight <= 2, "{from:?} to {to:?}");
            consumer.finish(id).await;
        }
        until("the finishes", || (stats(&stack).finished == 3).then_some(())).await;
        assert_eq!((stats(&stack).depth, stats(&stack).in_flight), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deferred_publishes_and_requeues() {
    for (from, to) in WIRES {
        let stack = Stack::start().await;
        let mut consumer = Consumer::start(to, &stack, 1, None).await;
        let delay = Duration::from_millis(120);
        let begun = std::time::Instant::now();
        publish(from, &stack, &["a"], delay).await;
        let (id, _, attempts) = consumer.next().await;
        assert!(begun.elapsed() >= delay && attempts == 1, "{from:?} to {to:?}");
        let begun = std::time::Instant::now();
        consumer.requeue(id, delay).await;
        let (id, _, attempts) = consumer.next().await;
        assert!(begun.elapsed() >= delay && attempts == 2, "{from:?} to {to:?}");
        consumer.requeue(id, Duration::ZERO).await;
        assert_eq!(consumer.next().await.2, 3, "{from:?} to {to:?}");
        assert_eq!(stats(&stack).requeued, 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_and_a_lost_consumer_return_messages() {
    for (from, to) in WIRES {
        let stack = Stack::start().await;
        publish(from, &stack, &["a"], Duration::ZERO).await;
        let mut first = Consumer::start(to, &stack, 1, Some(Duration::from_secs(1))).await;
        assert_eq!(first.next().await.2, 1);
        let (_, _, attempts) = first.next().await;
        assert_eq!((attempts, stats(&stack).timed_out), (2, 1), "{from:?} to {to:?}");
        drop(first);
        let mut second = Consumer::start(to, &stack, 1, None).await;
        assert_eq!(second.next().await.2, 3, "{from:?} to {to:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_holds_back_for_both() {
    for (from, to) in WIRES {
        let stack = Stack::start().await;
        publish(from, &stack, &["a"], Duration::ZERO).await;
        let mut consumer = Consumer::start(to, &stack, 1, None).await;
        let (id, _, _) = consumer.next().await;
        let channel = stack
            .broker
            .find_topic(&topic())
            .unwrap()
            .find_channel(&ChannelName::parse("c").unwrap())
            .unwrap();
        let _ = channel.pause().unwrap();
        consumer.finish(id).await;
        publish(from, &stack, &["b"], Duration::ZERO).await;
        until("the finish", || (stats(&stack).finished == 1).then_some(())).await;
        assert_eq!((stats(&stack).depth, stats(&stack).in_flight), (1, 0), "{from:?} to {to:?}");
        let _ = channel.unpause().unwrap();
        assert_eq!(consumer.next().await.1, "b", "{from:?} to {to:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_touched_stays_in_flight_past_its_timeout() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut cases = tokio::task::JoinSet::new();
    for (from, to) in WIRES {
        cases.spawn(async move {
            let stack = Stack::start().await;
            publish(from, &stack, &["a"], Duration::ZERO).await;
            let mut consumer = Consumer::start(to, &stack, 1, Some(TIMEOUT)).await;
            let (id, _, _) = consumer.next().await;
            let begun = std::time::Instant::now();
            while begun.elapsed() < TIMEOUT + TIMEOUT / 2 {
                consumer.touch(id).await;
                // Again and again: this is what a consumer at work does, not a condition waited for.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let stats = stats(&stack);
                assert_eq!((stats.in_flight, stats.timed_out), (1, 0), "{from:?} to {to:?}");
            }
            // Not touched any more, it comes again.
            assert_eq!(consumer.next().await.2, 2, "{from:?} to {to:?}");
            assert_eq!(stats(&stack).timed_out, 1, "{from:?} to {to:?}");
        });
    }
    cases.join_all().await;
}
