//! Subscriptions: credit, acknowledgements, ends.

use bytes::Bytes;
use mq_core::{ChannelName, TopicName};
use mq_grpc::v1::start_position::Position;
use mq_grpc::v1::subscribe_response::Response as Answer;
use mq_grpc::v1::{
    AckFailureReason, AckKind, StartEdge, StartPosition, SubscribeCredit, SubscribeOpen, SubscribeRequest,
    SubscribeRequeue, SubscribeUpdate,
};
use mq_nsq::server;
use prost::Message;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tonic::Code;
use tonic_types::StatusExt;

use crate::raw::{Raw, framed};
use crate::stack::{Stack, Subscriber, open, opening, soon, until};

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
    subscriber.finish(std::slice::from_ref(&a.token)).await;
    assert_eq!(&subscriber.next().await.body[..], b"c");
    assert_eq!((stats(&stack).in_flight, stats(&stack).depth), (2, 2));
    subscriber.credit(0, 0).await;
    subscriber.finish(std::slice::from_ref(&b.token)).await;
    until("the finish", || (stats(&stack).in_flight == 1).then_some(())).await;
    assert_eq!(stats(&stack).depth, 2, "nothing was sent without credit");
}

#[tokio::test(flavor = "multi_thread")]
async fn never_more_bytes_than_the_credit_but_one_message() {
    let stack = Stack::start().await;
    stack.publish("t", &["12345", "12345", "1234567890", "1"]).await;
    let first = opening(open("t", "c"), 10, 11);
    let mut subscriber = Subscriber::begin(stack.channel().await, first).await.unwrap();
    let (a, b) = (subscriber.next().await, subscriber.next().await);
    assert_eq!(stats(&stack).in_flight, 2, "ten bytes do not fit in one");
    subscriber.finish(std::slice::from_ref(&a.token)).await;
    until("the finish", || (stats(&stack).in_flight == 1).then_some(())).await;
    subscriber.finish(std::slice::from_ref(&b.token)).await;
    let (c, d) = (subscriber.next().await, subscriber.next().await);
    assert_eq!((c.body.len(), d.body.len()), (10, 1));
    subscriber.finish(&[c.token.clone(), d.token.clone()]).await;
    // Larger than the credit: alone.
    subscriber.credit(10, 3).await;
    stack.publish("t", &["1234567890", "1"]).await;
    let large = subscriber.next().await;
    assert_eq!((large.body.len(), stats(&stack).in_flight), (10, 1));
    subscriber.finish(std::slice::from_ref(&large.token)).await;
    assert_eq!(subscriber.next().await.body.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_frees_its_bytes() {
    let stack = Stack::start().await;
    stack.publish("t", &["1234567890", "1234567890"]).await;
    // A credit that is spent, and one that has a byte left, which is not enough for the next.
    for (channel, bytes) in [("c", 10), ("d", 11)] {
        let slow = SubscribeOpen { msg_timeout_ms: 50, ..open("t", channel) };
        let start = StartPosition { position: Some(Position::Edge(StartEdge::Earliest.into())) };
        let slow = SubscribeOpen { start: Some(start), ..slow };
        let mut subscriber =
            Subscriber::begin(stack.channel().await, opening(slow, 10, bytes)).await.unwrap();
        let first = subscriber.next().await;
        // Nothing is said of it: it times out, and one of the two comes.
        let next = subscriber.next().await;
        assert!(next.offset != first.offset || next.attempts == 2, "{bytes}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_requeue_frees_its_bytes() {
    let stack = Stack::start().await;
    stack.publish("t", &["1234567890", "abcdefghij"]).await;
    // Nothing times out while the test runs, which would free the bytes too.
    let patient = SubscribeOpen { msg_timeout_ms: 900_000, ..open("t", "c") };
    let first = opening(patient, 10, 10);
    let mut subscriber = Subscriber::begin(stack.channel().await, first).await.unwrap();
    let a = subscriber.next().await;
    let requeue = vec![SubscribeRequeue { tokens: vec![a.token], delay_ms: 900_000 }];
    subscriber.send(SubscribeUpdate { requeue, ..Default::default() }).await;
    assert_eq!(&subscriber.next().await.body[..], b"abcdefghij");
    assert_eq!((stats(&stack).deferred, stats(&stack).in_flight), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_above_a_limit_is_refused_and_names_it() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    // At the limit, and one above it: in the first request and later.
    let channel = stack.channel().await;
    let refused = Subscriber::open(channel.clone(), open("t", "c"), 2_501).await.err().expect("a refusal");
    assert_eq!((refused.code(), &violated(&refused)[..]), (Code::InvalidArgument, "open.credit.messages"));
    assert!(refused.message().contains("2500"), "{refused}");
    let mut subscriber = Subscriber::open(channel.clone(), open("t", "c"), 2_500).await.unwrap();
    let message = subscriber.next().await;
    // A delay above the limit changes nothing, and the stream goes on.
    let requeue = |delay_ms| vec![SubscribeRequeue { tokens: vec![message.token.clone()], delay_ms }];
    subscriber.send(SubscribeUpdate { requeue: requeue(3_600_001), ..Default::default() }).await;
    let Some(Answer::Failures(failed)) = subscriber.response().await.unwrap() else { panic!("no failures") };
    assert_eq!(failed.failures[0].reason(), AckFailureReason::DelayTooLong);
    assert_eq!((stats(&stack).in_flight, stats(&stack).deferred), (1, 0));
    subscriber.send(SubscribeUpdate { requeue: requeue(3_600_000), ..Default::default() }).await;
    until("the requeue", || (stats(&stack).deferred == 1).then_some(())).await;
    subscriber.credit(2_501, 0).await;
    let refused = subscriber.response().await.unwrap_err();
    assert_eq!((refused.code(), &violated(&refused)[..]), (Code::InvalidArgument, "update.credit.messages"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_acknowledgement_does_not_finish_the_second_delivery() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let short = SubscribeOpen { msg_timeout_ms: 50, ..open("t", "c") };
    let mut subscriber = Subscriber::open(stack.channel().await, short, 1).await.unwrap();
    let first = subscriber.next().await;
    let second = subscriber.next().await;
    assert_eq!((first.id, first.attempts, second.id), (second.id, 1, first.id));
    let finish = vec![first.token.clone(), Bytes::from_static(b"nonsense")];
    subscriber.send(SubscribeUpdate { finish, ..Default::default() }).await;
    let mut failed = Vec::new();
    while failed.is_empty() {
        // It may be delivered once more meanwhile.
        if let Some(Answer::Failures(failures)) = subscriber.response().await.unwrap() {
            failed = failures.failures;
        }
    }
    let failed: Vec<_> = failed.iter().map(|one| (one.token.clone(), one.kind(), one.reason())).collect();
    let kind = AckKind::Finish;
    assert_eq!(
        failed,
        [
            (first.token, kind, AckFailureReason::NotInFlight),
            (Bytes::from_static(b"nonsense"), kind, AckFailureReason::InvalidToken)
        ]
    );
    assert_eq!(stats(&stack).finished, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_are_confirmed_once_they_are_in_the_log() {
    let stack = Stack::start().await;
    stack.publish("t", &["a", "b"]).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 2).await.unwrap();
    for number in [7, 8] {
        let message = subscriber.next().await;
        let finish = vec![message.token];
        subscriber.send(SubscribeUpdate { finish, confirm: number, ..Default::default() }).await;
        let Some(Answer::Confirmed(confirmed)) = subscriber.response().await.unwrap() else {
            panic!("not confirmed")
        };
        assert_eq!((confirmed.confirm, stats(&stack).finished), (number, number - 6));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_looked_at_is_no_attempt_and_what_is_left_in_order_comes_at_once() {
    let stack = Stack::start().await;
    stack.publish("t", &["a", "b"]).await;
    let channel = stack.channel().await;
    for attempts in 1..=3 {
        let mut subscriber = Subscriber::open(channel.clone(), open("t", "c"), 2).await.unwrap();
        let (a, b) = (subscriber.next().await, subscriber.next().await);
        assert_eq!((&a.body[..], a.attempts, &b.body[..], b.attempts), (&b"a"[..], attempts, &b"b"[..], 1));
        // Nobody looks at the second; the first is in flight when the client closes its side.
        let credit = Some(SubscribeCredit { messages: Some(0), bytes: None });
        subscriber.send(SubscribeUpdate { credit, release: vec![b.token], ..Default::default() }).await;
        let Subscriber { requests, mut responses, .. } = subscriber;
        drop(requests);
        assert!(soon("the end", responses.message()).await.unwrap().is_none());
        assert_eq!((stats(&stack).depth, stats(&stack).deferred), (2, 0), "nothing backs off");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cancelled_stream_held_backs_off_the_second_time() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let raw = Raw::connect(&stack.grpc).await;
    for (attempts, depth, deferred) in [(1, 1, 0), (2, 0, 1)] {
        let request = opening(open("t", "c"), 1, 0).encode_to_vec();
        let mut call = raw.call("SubscribeService/Subscribe", &[]).await;
        // Its side stays open: else that would be a goodbye.
        call.send(framed(0, request.len(), &request), false).await;
        let channel = || {
            let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap())?;
            topic.find_channel(&ChannelName::parse("c").unwrap()).map(|channel| channel.stats())
        };
        until("the message", || channel().filter(|stats| stats.in_flight == 1)).await;
        // The answer to the opening, and the batch: what the connection has not taken is no delivery.
        soon("the message", call.cancel_after(2)).await;
        until("the end", || channel().filter(|stats| stats.subscribers == 0)).await;
        let stats = stats(&stack);
        assert_eq!((stats.depth, stats.deferred), (depth, deferred), "after {attempts} deliveries");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_for_a_client_does_not_stop_those_behind_it() {
    let nsq = server::Config { http_address: Some("127.0.0.1:0".to_owned()), ..server::Config::default() };
    let stack = Stack::start_with(mq_grpc::Config::default(), nsq).await;
    let large = "x".repeat(2_000);
    stack.publish("t", &["a", &large, "b"]).await;
    let small = SubscribeOpen { max_message_bytes: Some(1_999), ..open("t", "c") };
    let mut subscriber = Subscriber::open(stack.channel().await, small, 10).await.unwrap();
    assert_eq!(&subscriber.next().await.body[..], b"a");
    assert_eq!(&subscriber.next().await.body[..], b"b");
    assert_eq!((stats(&stack).oversized, stats(&stack).deferred), (1, 1));
    let json = shown(&stack, "json").await;
    assert!(json.contains("\"oversized_count\":1"), "{json}");
    let text = shown(&stack, "text").await;
    assert!(text.contains("too large for a consumer: 1 times"), "{text}");
    let metrics = got(&stack, "/metrics").await;
    let family = "mq_channel_oversized_messages_total";
    let line = metrics.lines().find(|line| line.starts_with(family)).unwrap_or_default();
    assert!(line.ends_with(" 1"), "{line}");
}

/// The field that a call was refused for.
fn violated(status: &tonic::Status) -> String {
    status.get_details_bad_request().expect("details").field_violations[0].field.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledgements_that_fail_say_why() {
    let stack = Stack::start().await;
    stack.publish("t", &["a", "b"]).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    let mut other = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    let (a, b) = (subscriber.next().await, other.next().await);
    let requeue = vec![SubscribeRequeue { tokens: vec![b.token.clone()], delay_ms: 0 }];
    let (finish, nonsense) = (vec![a.token.clone(), a.token.clone()], Bytes::from_static(b"12"));
    let (touch, release) = (vec![nonsense.clone()], vec![a.token.clone()]);
    subscriber.send(SubscribeUpdate { finish, requeue, release, touch, ..Default::default() }).await;
    let Some(Answer::Failures(failed)) = subscriber.response().await.unwrap() else { panic!("no failures") };
    let failed: Vec<_> = failed.failures.iter().map(|f| (f.token.clone(), f.kind(), f.reason())).collect();
    assert_eq!(
        failed,
        [
            (a.token.clone(), AckKind::Finish, AckFailureReason::NotInFlight),
            // It is another stream's.
            (b.token.clone(), AckKind::Requeue, AckFailureReason::NotInFlight),
            (a.token, AckKind::Release, AckFailureReason::NotInFlight),
            (nonsense, AckKind::Touch, AckFailureReason::InvalidToken),
        ]
    );
    other.finish(std::slice::from_ref(&b.token)).await;
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
    third.finish(std::slice::from_ref(&message.token)).await;
    until("the finish", || (stats(&stack).finished == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_opens_nothing_is_refused() {
    let stack = Stack::start().await;
    let channel = stack.channel().await;
    let refused = |open: Option<SubscribeOpen>| {
        let channel = channel.clone();
        let request = match open {
            Some(open) => opening(open, 1, 0),
            None => SubscribeRequest { request: None },
        };
        async move { Subscriber::begin(channel, request).await.err().expect("an error").code() }
    };
    assert_eq!(refused(None).await, Code::FailedPrecondition);
    for bad in [
        open("no good", "c"),
        open("t", ""),
        SubscribeOpen { sample_rate: 100, ..open("t", "c") },
        SubscribeOpen { msg_timeout_ms: 900_001, ..open("t", "c") },
        SubscribeOpen { client_name: "x".repeat(256), ..open("t", "c") },
    ] {
        assert_eq!(refused(Some(bad)).await, Code::InvalidArgument);
    }
    let mut subscriber = Subscriber::open(channel, open("t", "c"), 1).await.unwrap();
    subscriber.requests.send(opening(open("t", "c"), 1, 0)).await.unwrap();
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

/// The answer of `/stats`.
async fn shown(stack: &Stack, format: &str) -> String {
    got(stack, &format!("/stats?format={format}")).await
}

/// The answer of the HTTP API.
async fn got(stack: &Stack, target: &str) -> String {
    let mut socket = tokio::net::TcpStream::connect(stack.http.as_ref().unwrap()).await.unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
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
    let named = SubscribeOpen { client_name: "billing 7".to_owned(), sample_rate: 99, ..open("t", "c") };
    let mut first = Subscriber::open(stack.channel().await, named, 3).await.unwrap();
    let nameless = Subscriber::open(stack.channel().await, open("t", "c"), 0).await.unwrap();
    let (a, b) = (first.next().await, first.next().await);
    let (finish, touch) = (vec![a.token, Bytes::from_static(b"12")], vec![b.token.clone()]);
    let requeue =
        vec![SubscribeRequeue { tokens: vec![b.token, Bytes::from_static(b"13")], delay_ms: 60_000 }];
    first.send(SubscribeUpdate { finish, requeue, touch, ..Default::default() }).await;
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
    let sample = SubscribeOpen { sample_rate: 10, ..open("t", "c") };
    let _subscriber = Subscriber::open(stack.channel().await, sample, 2_500).await.unwrap();
    let all = || Some(stats(&stack)).filter(|stats| stats.depth == 0);
    let stats = until("all to be looked at", all).await;
    assert_eq!((stats.message_count, stats.deferred), (2_000, 0));
    // Ten standard deviations to each side.
    assert!((66..=334).contains(&stats.in_flight), "{stats:?}");
}
