//! Administering, peeking, statistics.

use mq_grpc::v1::admin_service_client::AdminServiceClient;
use mq_grpc::v1::*;
use tonic::Code;

use crate::stack::{Stack, Subscriber, open, soon};

fn topic() -> String {
    "t".to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_and_channels_come_change_and_go() {
    let stack = Stack::start().await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let missing = admin.delete_topic(DeleteTopicRequest { topic: topic() }).await.unwrap_err();
    assert_eq!(missing.code(), Code::NotFound);
    admin.create_topic(CreateTopicRequest { topic: topic() }).await.unwrap();
    admin.pause_topic(PauseTopicRequest { topic: topic() }).await.unwrap();
    stack.publish("t", &["a", "b"]).await;
    let channel = || "c".to_owned();
    admin.create_channel(CreateChannelRequest { topic: topic(), channel: channel() }).await.unwrap();
    let listed = admin.list_topics(ListTopicsRequest {}).await.unwrap().into_inner().topics;
    assert_eq!(listed, [TopicInfo { name: topic(), channels: vec![channel()] }]);
    let stats = async |admin: &mut AdminServiceClient<_>| {
        let stats = admin.get_stats(GetStatsRequest { topic: topic() }).await.unwrap().into_inner();
        stats.topics[0].clone()
    };
    let paused = stats(&mut admin).await;
    assert_eq!((paused.depth, paused.paused, paused.channels[0].depth), (2, true, 0));
    admin.resume_topic(ResumeTopicRequest { topic: topic() }).await.unwrap();
    admin.pause_channel(PauseChannelRequest { topic: topic(), channel: channel() }).await.unwrap();
    let resumed = stats(&mut admin).await;
    assert_eq!((resumed.depth, resumed.channels[0].depth, resumed.channels[0].paused), (0, 2, true));
    admin.empty_channel(EmptyChannelRequest { topic: topic(), channel: channel() }).await.unwrap();
    admin.resume_channel(ResumeChannelRequest { topic: topic(), channel: channel() }).await.unwrap();
    assert_eq!(stats(&mut admin).await.channels[0].depth, 0);
    admin.delete_channel(DeleteChannelRequest { topic: topic(), channel: channel() }).await.unwrap();
    let gone = admin.empty_channel(EmptyChannelRequest { topic: topic(), channel: channel() }).await;
    assert_eq!(gone.unwrap_err().code(), Code::NotFound);
    stack.publish("t", &["c"]).await;
    admin.empty_topic(EmptyTopicRequest { topic: topic() }).await.unwrap();
    assert_eq!(stats(&mut admin).await.depth, 0);
    admin.delete_topic(DeleteTopicRequest { topic: topic() }).await.unwrap();
    assert!(admin.list_topics(ListTopicsRequest {}).await.unwrap().into_inner().topics.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_change_where_they_are_given() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let get = GetTopicSettingsRequest { topic: topic() };
    let before = admin.get_topic_settings(get).await.unwrap().into_inner().settings.unwrap();
    assert_eq!((before.durability(), before.max_messages), (Durability::Flush, Some(0)));
    let wanted = TopicSettings {
        durability: Some(Durability::Sync.into()),
        max_messages: Some(5),
        overflow: Some(Overflow::DropOldest.into()),
        dedup_window_ms: Some(7_000),
        ..TopicSettings::default()
    };
    let update = UpdateTopicSettingsRequest { topic: topic(), settings: Some(wanted) };
    let after = admin.update_topic_settings(update).await.unwrap().into_inner().settings.unwrap();
    assert_eq!(
        after,
        TopicSettings {
            max_bytes: Some(0),
            max_age_ms: Some(0),
            dedup_max_ids: before.dedup_max_ids,
            ..wanted
        }
    );
    for bad in [
        TopicSettings { durability: Some(9), ..TopicSettings::default() },
        TopicSettings { overflow: Some(0), ..TopicSettings::default() },
        TopicSettings { dedup_max_ids: Some(0), ..TopicSettings::default() },
    ] {
        let update = UpdateTopicSettingsRequest { topic: topic(), settings: Some(bad) };
        let refused = admin.update_topic_settings(update).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peek_consumes_nothing_and_goes_on_where_it_ended() {
    let stack = Stack::start().await;
    let offsets = stack.publish("t", &["a", "b", "c"]).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let first = PeekRequest { topic: topic(), from_offset: None, max_messages: 2 };
    let first = admin.peek(first).await.unwrap().into_inner();
    let bodies = |peeked: &PeekResponse| peeked.messages.iter().map(|m| m.body.clone()).collect::<Vec<_>>();
    assert_eq!(bodies(&first), ["a", "b"]);
    assert_eq!((first.messages[1].offset, first.messages[1].attempts), (offsets[1], 0));
    let rest = PeekRequest { topic: topic(), from_offset: Some(first.next_offset), max_messages: 0 };
    assert_eq!(bodies(&admin.peek(rest).await.unwrap().into_inner()), ["c"]);
    let too_many = PeekRequest { topic: topic(), from_offset: None, max_messages: 1_001 };
    assert_eq!(admin.peek(too_many).await.unwrap_err().code(), Code::InvalidArgument);
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    assert_eq!(&subscriber.next().await.body[..], b"a");
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_are_watched_until_the_end() {
    let mut stack = Stack::start().await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let often = WatchStatsRequest { topic: topic(), interval_ms: 100 };
    let mut watched = admin.watch_stats(often).await.unwrap().into_inner();
    let first = soon("numbers", watched.message()).await.unwrap().unwrap();
    assert!(first.topics.is_empty() && first.broker.unwrap().memory_limit > 0);
    stack.publish("t", &["a"]).await;
    loop {
        let next = soon("numbers", watched.message()).await.unwrap().unwrap();
        if next.topics.first().is_some_and(|topic| topic.message_count == 1) {
            break;
        }
    }
    let refused = admin.watch_stats(WatchStatsRequest { topic: String::new(), interval_ms: 1 }).await;
    assert_eq!(refused.unwrap_err().code(), Code::InvalidArgument);
    stack.stop().await;
    let end = loop {
        match soon("the end", watched.message()).await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end.unwrap_err().code(), Code::Unavailable);
}
