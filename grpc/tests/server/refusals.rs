//! Requests that break a rule, in each method: the refusal names the field by its path, and the limit.

use mq_grpc::v1::admin_service_client::AdminServiceClient;
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::*;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::stack::{Stack, Subscriber, message, open, opening};

/// Looks whether a call was refused for `field`, with a text that has `limit`.
fn check(refused: &Status, field: &str, limit: &str) {
    assert_eq!(refused.code(), Code::InvalidArgument, "{field}: {refused}");
    let violations = refused.get_details_bad_request().expect("details").field_violations;
    assert_eq!(violations[0].field, field, "{refused}");
    for text in [refused.message(), &violations[0].description] {
        assert!(text.contains(limit), "{field}: {limit} is not in {text:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_breaks_a_rule_is_told_the_limit() {
    let stack = Stack::start().await;
    let sized = |bytes: usize| OutgoingMessage { body: vec![0; bytes].into(), ..Default::default() };
    let whole = || vec![sized(1 << 20), sized(1 << 20), sized(1 << 20), sized(1 << 20), sized(1 << 20)];
    let delayed = OutgoingMessage { delay_ms: 3_600_001, ..message("x") };
    let named = OutgoingMessage { dedup_id: "x".repeat(256), ..message("x") };
    let headers = vec![Header { name: "n".repeat(256), value: "v".into() }];
    let headed = OutgoingMessage { headers, ..message("x") };
    let batch = [whole(), vec![sized(1)]].concat();
    for (messages, field, limit) in [
        (
            vec![message("x"), sized((1 << 20) + 1)],
            "messages[1].body",
            "1048576 are allowed (--max-msg-size)",
        ),
        (batch, "messages", "5242880 are allowed (--max-body-size)"),
        (vec![delayed], "messages[0].delay_ms", "3600000 ms, the longest delay (--max-req-timeout)"),
        (vec![named], "messages[0].dedup_id", "255"),
        (vec![headed], "messages[0].headers[0]", "255"),
    ] {
        let mut client = PublishServiceClient::new(stack.channel().await).max_encoding_message_size(1 << 30);
        let request = PublishRequest { topic: "t".to_owned(), messages };
        check(&client.publish(request).await.unwrap_err(), field, limit);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_breaks_a_rule_names_the_field_and_the_limit() {
    let stack = Stack::start().await;
    let channel = stack.channel().await;
    for (bad, field, limit) in [
        (open("no good", "c"), "open.topic", "no good"),
        (open("t", ""), "open.channel", ""),
        (SubscribeOpen { sample_rate: 100, ..open("t", "c") }, "open.sample_rate", "0 to 99"),
        (
            SubscribeOpen { msg_timeout_ms: 900_001, ..open("t", "c") },
            "open.msg_timeout_ms",
            "900000 ms, the longest (--max-msg-timeout)",
        ),
        (SubscribeOpen { client_name: "x".repeat(256), ..open("t", "c") }, "open.client_name", "255"),
    ] {
        let refused = Subscriber::begin(channel.clone(), opening(bad, 1, 0)).await;
        check(&refused.err().expect("a refusal"), field, limit);
    }
    let above = Subscriber::open(channel, open("t", "c"), 2_501).await.err().expect("a refusal");
    check(&above, "open.credit.messages", "2500, the most messages in flight (--max-rdy-count)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_breaks_a_rule_names_the_field_and_the_limit() {
    let stack = Stack::start().await;
    stack.publish("t", &["x"]).await;
    let mut client = SubscribeServiceClient::new(stack.channel().await);
    let pull = || PullRequest { topic: "t".to_owned(), channel: "c".to_owned(), ..Default::default() };
    let longest = "900000 ms, the longest (--max-msg-timeout)";
    for (request, field, limit) in [
        (PullRequest { topic: "no good".to_owned(), ..pull() }, "topic", "no good"),
        (PullRequest { channel: "no good".to_owned(), ..pull() }, "channel", "no good"),
        (PullRequest { max_messages: 1_001, ..pull() }, "max_messages", "1000"),
        (PullRequest { wait_ms: 600_001, ..pull() }, "wait_ms", "600000 ms, the longest wait"),
        (PullRequest { lease_ms: 900_001, ..pull() }, "lease_ms", longest),
    ] {
        check(&client.pull(request).await.unwrap_err(), field, limit);
    }
    client.pull(pull()).await.unwrap();
    let acknowledge =
        || AcknowledgeRequest { topic: "t".to_owned(), channel: "c".to_owned(), ..Default::default() };
    for (request, field, limit) in [
        (AcknowledgeRequest { topic: "no good".to_owned(), ..acknowledge() }, "topic", "no good"),
        (AcknowledgeRequest { channel: "no good".to_owned(), ..acknowledge() }, "channel", "no good"),
        (AcknowledgeRequest { lease_ms: 900_001, ..acknowledge() }, "lease_ms", longest),
    ] {
        check(&client.acknowledge(request).await.unwrap_err(), field, limit);
    }
}

/// Calls a method of `AdminService` once for each of its fields that has a name, which is none.
macro_rules! misnamed {
    ($admin:ident: $($method:ident($request:ident { $($field:ident),+ }),)+) => {
        $(misnamed!(@fields $admin, $method, $request, [$($field)+], [$($field)+]);)+
    };
    (@fields $admin:ident, $method:ident, $request:ident, [$($bad:ident)+], $all:tt) => {
        $(
            let mut request = misnamed!(@named $request, $all);
            request.$bad = "no good".to_owned();
            let refused = $admin.$method(request).await.err().expect(stringify!($method));
            check(&refused, stringify!($bad), "no good");
        )+
    };
    (@named $request:ident, [$($field:ident)+]) => {
        $request { $($field: "t".to_owned(),)+ ..Default::default() }
    };
}

#[tokio::test(flavor = "multi_thread")]
#[allow(clippy::needless_update)] // Most requests have more fields than names.
async fn each_method_of_administration_names_the_field_whose_name_is_none() {
    let stack = Stack::start().await;
    stack.publish("t", &["x"]).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let create =
        CreateChannelRequest { topic: "t".to_owned(), channel: "t".to_owned(), ..Default::default() };
    admin.create_channel(create).await.unwrap();
    misnamed!(admin:
        create_topic(CreateTopicRequest { topic }),
        delete_topic(DeleteTopicRequest { topic }),
        empty_topic(EmptyTopicRequest { topic }),
        pause_topic(PauseTopicRequest { topic }),
        resume_topic(ResumeTopicRequest { topic }),
        get_topic_settings(GetTopicSettingsRequest { topic }),
        update_topic_settings(UpdateTopicSettingsRequest { topic }),
        create_channel(CreateChannelRequest { topic, channel }),
        get_channel_settings(GetChannelSettingsRequest { topic, channel }),
        update_channel_settings(UpdateChannelSettingsRequest { topic, channel }),
        delete_channel(DeleteChannelRequest { topic, channel }),
        empty_channel(EmptyChannelRequest { topic, channel }),
        pause_channel(PauseChannelRequest { topic, channel }),
        resume_channel(ResumeChannelRequest { topic, channel }),
        list_subscribers(ListSubscribersRequest { topic, channel }),
        get_stats(GetStatsRequest { topic }),
        watch_stats(WatchStatsRequest { topic }),
        peek(PeekRequest { topic, channel }),
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn administration_names_what_is_above_a_limit() {
    let stack = Stack::start().await;
    stack.publish("t", &["x"]).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let topic = || "t".to_owned();
    let create = CreateChannelRequest { topic: topic(), channel: "c".to_owned(), ..Default::default() };
    admin.create_channel(create).await.unwrap();
    let list = ListTopicsRequest { page_size: 10_001, ..Default::default() };
    check(&admin.list_topics(list).await.unwrap_err(), "page_size", "10000, the largest page");
    let stats = GetStatsRequest { page_size: 10_001, ..Default::default() };
    check(&admin.get_stats(stats).await.unwrap_err(), "page_size", "10000, the largest page");
    let subscribers = ListSubscribersRequest {
        topic: topic(),
        channel: "c".to_owned(),
        page_size: 1_001,
        ..Default::default()
    };
    check(&admin.list_subscribers(subscribers).await.unwrap_err(), "page_size", "1000, the largest page");
    for interval_ms in [99, 3_600_001] {
        let watch = WatchStatsRequest { interval_ms, ..Default::default() };
        check(&admin.watch_stats(watch).await.expect_err("a refusal"), "interval_ms", "100 to 3600000");
    }
    let peek = PeekRequest { topic: topic(), max_messages: 1_001, ..Default::default() };
    check(&admin.peek(peek).await.unwrap_err(), "max_messages", "1000");
}
