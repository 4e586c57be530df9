//! Subscriptions: credit, acknowledgements, ends.

use mq_core::{ChannelName, TopicName};
use mq_grpc::v1::subscribe_response::Response as Body;
use mq_grpc::v1::{
    AckFailureReason, AckKind, StartEdge, StartPosition, SubscribeCredit, SubscribeRequest, SubscribeRequeue,
    start_position::Position,
};
use mq_nsq::server;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;

use crate::stack::{Stack, Subscriber, open, soon, until};

fn stats(stack: &Stack) -> mq_core::ChannelStats {
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    topic.find_channel(&ChannelName::parse("c").unwrap()).unwrap().stats()
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_than_the_credit() {
    let stack = Stack::start().await;
    stack.publish("t", &["a", "b", "c", "d", "e"]).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 2).await.unwrap();
    let (a, b) = (subscriber.next().await, subscriber.next().await);
    assert_eq!((&a.body[..], &b.body[..]), (&b"a"[..], &b"b"[..]));
    assert_eq!(stats(&stack).in_flight, 2);
    subscriber.finish(&[a.id]).await;
    assert_eq!(&subscriber.next().await.body[..], b"c");
    assert_eq!((stats(&stack).in_flight, stats(&stack).depth), (2, 2));
    subscriber.credit(0, 0).await;
    subscriber.finish(&[b.id]).await;
    until("the finish", || (stats(&stack).in_flight == 1).then_some(())).await;
    assert_eq!(stats(&stack).depth, 2, "nothing was sent without credit");
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_bytes_than_the_credit_but_one_message() {
    let stack = Stack::start().await;
    stack.publish("t", &["12345", "12345", "1234567890", "1"]).await;
    let credit = Some(SubscribeCredit { messages: 10, bytes: 11 });
    let first = SubscribeRequest { open: Some(open("t", "c")), credit, ..Default::default() };
    let mut subscriber = Subscriber::begin(stack.channel().await, first).await.unwrap();
    let (a, b) = (subscriber.next().await, subscriber.next().await);
    assert_eq!(stats(&stack).in_flight, 2, "ten bytes do not fit in one");
    subscriber.finish(&[a.id]).await;
    until("the finish", || (stats(&stack).in_flight == 1).then_some(())).await;
    subscriber.finish(&[b.id]).await;
    let (c, d) = (subscriber.next().await, subscriber.next().await);
    assert_eq!((c.body.len(), d.body.len()), (10, 1));
    subscriber.finish(&[c.id, d.id]).await;
    // Larger than the credit: alone.
    subscriber.credit(10, 3).await;
    stack.publish("t", &["1234567890", "1"]).await;
    let large = subscriber.next().await;
    assert_eq!((large.body.len(), stats(&stack).in_flight), (10, 1));
    subscriber.finish(&[large.id]).await;
    assert_eq!(subscriber.next().await.body.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_frees_its_bytes() {
    let stack = Stack::start().await;
    stack.publish("t", &["1234567890", "1234567890"]).await;
    let credit = Some(SubscribeCredit { messages: 10, bytes: 10 });
    let slow = mq_grpc::v1::SubscribeOpen { msg_timeout_ms: 50, ..open("t", "c") };
    let first = SubscribeRequest { open: Some(slow), credit, ..Default::default() };
    let mut subscriber = Subscriber::begin(stack.channel().await, first).await.unwrap();
    let first = subscriber.next().await;
    // Nothing is said of it: it times out, and one of the two comes.
    let next = subscriber.next().await;
    assert!(next.offset != first.offset || next.attempts == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_that_fail_say_why() {
    let stack = Stack::start().await;
    stack.publish("t", &["a", "b"]).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    let mut other = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    let (a, b) = (subscriber.next().await, other.next().await);
    let requeue = vec![SubscribeRequeue { ids: vec![b.id], delay_ms: 0 }];
    let request =
        SubscribeRequest { finish: vec![a.id, a.id], requeue, touch: vec![12], ..Default::default() };
    subscriber.send(request).await;
    let Some(Body::Failures(failed)) = subscriber.response().await.unwrap() else { panic!("no failures") };
    let failed: Vec<_> = failed.failures.iter().map(|f| (f.id, f.kind(), f.reason())).collect();
    assert_eq!(
        failed,
        [
            (a.id, AckKind::Finish, AckFailureReason::NotInFlight),
            (b.id, AckKind::Requeue, AckFailureReason::NotOwner),
            (12, AckKind::Touch, AckFailureReason::NotInFlight),
        ]
    );
    other.finish(&[b.id]).await;
    until("both to be finished", || (stats(&stack).finished == 2).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_stream_held_returns_when_it_ends() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let channel = stack.channel().await;
    let mut first = Subscriber::open(channel.clone(), open("t", "c"), 1).await.unwrap();
    assert_eq!(first.next().await.attempts, 1);
    // Closed by the client's end.
    let Subscriber { requests, mut responses, .. } = first;
    drop(requests);
    assert!(responses.message().await.unwrap().is_none());
    let mut second = Subscriber::open(channel.clone(), open("t", "c"), 1).await.unwrap();
    assert_eq!(second.next().await.attempts, 2);
    // Cancelled.
    drop(second);
    let mut third = Subscriber::open(channel, open("t", "c"), 1).await.unwrap();
    let message = third.next().await;
    assert_eq!(message.attempts, 3);
    third.finish(&[message.id]).await;
    until("the finish", || (stats(&stack).finished == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_channel_starts_where_it_is_told() {
    let stack = Stack::start().await;
    // Keeps all.
    let _keeper = Subscriber::open(stack.channel().await, open("t", "keeper"), 0).await.unwrap();
    let offsets = stack.publish("t", &["a", "b", "c"]).await;
    let at = |position| Some(StartPosition { position: Some(position) });
    for (name, start, first) in [
        ("earliest", at(Position::Edge(StartEdge::Earliest.into())), "a"),
        ("offset", at(Position::Offset(offsets[1])), "b"),
        ("time", at(Position::TimeNs(1)), "a"),
    ] {
        let open = mq_grpc::v1::SubscribeOpen { start, ..open("t", name) };
        let mut subscriber = Subscriber::open(stack.channel().await, open, 1).await.unwrap();
        assert_eq!(&subscriber.next().await.body[..], first.as_bytes(), "{name}");
    }
    let now =
        mq_grpc::v1::SubscribeOpen { start: at(Position::Edge(StartEdge::Now.into())), ..open("t", "now") };
    let mut subscriber = Subscriber::open(stack.channel().await, now, 1).await.unwrap();
    stack.publish("t", &["d"]).await;
    assert_eq!(&subscriber.next().await.body[..], b"d");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_nothing_is_refused() {
    let stack = Stack::start().await;
    let channel = stack.channel().await;
    let refused = |open: Option<mq_grpc::v1::SubscribeOpen>| {
        let channel = channel.clone();
        let request = SubscribeRequest { open, ..Default::default() };
        async move { Subscriber::begin(channel, request).await.err().expect("an error").code() }
    };
    assert_eq!(refused(None).await, Code::FailedPrecondition);
    for bad in [
        open("no good", "c"),
        open("t", ""),
        mq_grpc::v1::SubscribeOpen { sample_rate: 100, ..open("t", "c") },
        mq_grpc::v1::SubscribeOpen { msg_timeout_ms: 900_001, ..open("t", "c") },
        mq_grpc::v1::SubscribeOpen { client_name: "x".repeat(256), ..open("t", "c") },
    ] {
        assert_eq!(refused(Some(bad)).await, Code::InvalidArgument);
    }
    let mut subscriber = Subscriber::open(channel, open("t", "c"), 1).await.unwrap();
    subscriber.send(SubscribeRequest { open: Some(open("t", "c")), ..Default::default() }).await;
    assert_eq!(subscriber.response().await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_channel_and_a_stop_end_the_stream() {
    let mut stack = Stack::start().await;
    let channel = stack.channel().await;
    let mut deleted = Subscriber::open(channel.clone(), open("t", "gone"), 1).await.unwrap();
    let mut stopped = Subscriber::open(channel, open("t", "c"), 1).await.unwrap();
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    let _ = topic.delete_channel(&ChannelName::parse("gone").unwrap()).unwrap();
    assert_eq!(deleted.response().await.unwrap_err().code(), Code::NotFound);
    stack.stop().await;
    assert_eq!(stopped.response().await.unwrap_err().code(), Code::Unavailable);
}

/// What `/stats` answers.
async fn shown(stack: &Stack, format: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(stack.http.as_ref().unwrap()).await.unwrap();
    let request = format!("GET /stats?format={format} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    soon("an answer", socket.read_to_string(&mut answer)).await.unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_show_subscribers_as_they_show_nsqs() {
    let nsq = server::Config { http_address: Some("127.0.0.1:0".to_owned()), ..server::Config::default() };
    let stack = Stack::start_with(mq_grpc::Config::default(), nsq).await;
    stack.publish("t", &["a", "b", "c", "d"]).await;
    let named =
        mq_grpc::v1::SubscribeOpen { client_name: "billing 7".to_owned(), sample_rate: 99, ..open("t", "c") };
    let mut first = Subscriber::open(stack.channel().await, named, 3).await.unwrap();
    let nameless = Subscriber::open(stack.channel().await, open("t", "c"), 0).await.unwrap();
    let (a, b) = (first.next().await, first.next().await);
    let (finish, touch) = (vec![a.id, 12], vec![b.id]);
    let requeue = vec![SubscribeRequeue { ids: vec![b.id, 13], delay_ms: 60_000 }];
    first.send(SubscribeRequest { finish, requeue, touch, ..Default::default() }).await;
    let wanted = r#""requeue_count":1"#;
    soon("the acknowledgements", async { while !shown(&stack, "json").await.contains(wanted) {} }).await;
    let stats: serde_json::Value = serde_json::from_str(&shown(&stack, "json").await).unwrap();
    let channel = &stats["topics"][0]["channels"][0];
    assert_eq!(channel["client_count"], 2);
    let [one, two] = &channel["clients"].as_array().unwrap()[..] else { panic!("{channel}") };
    assert_eq!((&one["client_id"], &one["hostname"]), (&"billing 7".into(), &"billing 7".into()));
    assert_eq!(
        (&one["version"], &one["state"], &one["sample_rate"]),
        (&"gRPC".into(), &3.into(), &99.into())
    );
    assert_eq!((&one["ready_count"], &one["finish_count"]), (&3.into(), &1.into()));
    assert_eq!((&one["tls"], &two["client_id"]), (&false.into(), &"127.0.0.1".into()));
    assert!(one["user_agent"].as_str().unwrap().starts_with("tonic/"), "{one}");
    assert!(one["remote_address"].as_str().unwrap().starts_with("127.0.0.1:"), "{one}");
    assert!(one["connect_ts"].as_u64().unwrap() > 1_700_000_000, "{one}");
    // It may have been sent others since.
    let (sent, held) = (one["message_count"].as_u64().unwrap(), one["in_flight_count"].as_u64().unwrap());
    assert!((2..=4).contains(&sent) && held <= sent - 2, "{one}");
    assert_eq!((&two["message_count"], &two["ready_count"]), (&0.into(), &0.into()));
    let text = shown(&stack, "text").await;
    assert!(text.contains("[gRPC billing 7:") && text.contains("fin: 1 "), "{text}");
    // They are no connections of NSQ's.
    assert_eq!(stack.clients.count("V2"), 0);
    drop((first, nameless));
    until("both to leave", || stack.clients.list().is_empty().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_sample_the_rest_is_done_with() {
    let stack = Stack::start().await;
    stack.publish("t", &["x"; 2_000]).await;
    let sample = mq_grpc::v1::SubscribeOpen { sample_rate: 10, ..open("t", "c") };
    let _subscriber = Subscriber::open(stack.channel().await, sample, 2_500).await.unwrap();
    let all = || Some(stats(&stack)).filter(|stats| stats.depth == 0);
    let stats = until("all to be looked at", all).await;
    assert_eq!((stats.message_count, stats.deferred), (2_000, 0));
    // Ten standard deviations to each side.
    assert!((66..=334).contains(&stats.in_flight), "{stats:?}");
}
