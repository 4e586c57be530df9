//! Administering, peeking, statistics.

use mq_grpc::v1::admin_service_client::AdminServiceClient;
use mq_grpc::v1::*;
use tonic::Code;
use tonic_types::StatusExt;

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
    let create = || CreateTopicRequest { topic: topic(), settings: None };
    assert!(admin.create_topic(create()).await.unwrap().into_inner().created);
    assert!(!admin.create_topic(create()).await.unwrap().into_inner().created);
    admin.pause_topic(PauseTopicRequest { topic: topic() }).await.unwrap();
    stack.publish("t", &["a", "b"]).await;
    let channel = || "c".to_owned();
    let create = || CreateChannelRequest { topic: topic(), channel: channel(), ..Default::default() };
    assert!(admin.create_channel(create()).await.unwrap().into_inner().created);
    assert!(!admin.create_channel(create()).await.unwrap().into_inner().created);
    let listed = admin.list_topics(ListTopicsRequest::default()).await.unwrap().into_inner().topics;
    assert_eq!(listed, [TopicInfo { name: topic(), channels: vec![channel()] }]);
    let stats = async |admin: &mut AdminServiceClient<_>| {
        let request = GetStatsRequest { topic: topic(), ..Default::default() };
        let stats = admin.get_stats(request).await.unwrap().into_inner();
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
    assert!(admin.list_topics(ListTopicsRequest::default()).await.unwrap().into_inner().topics.is_empty());
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
    let update = UpdateTopicSettingsRequest { topic: topic(), settings: Some(wanted), update_mask: None };
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
    for (bad, field) in [
        (TopicSettings { durability: Some(9), ..TopicSettings::default() }, "settings.durability"),
        (TopicSettings { overflow: Some(0), ..TopicSettings::default() }, "settings.overflow"),
        (TopicSettings { dedup_max_ids: Some(0), ..TopicSettings::default() }, "settings.dedup_max_ids"),
        (
            TopicSettings { dedup_window_ms: Some(1 << 40), ..TopicSettings::default() },
            "settings.dedup_window_ms",
        ),
    ] {
        let bad = TopicSettings { max_messages: Some(77), ..bad };
        let update = UpdateTopicSettingsRequest { topic: topic(), settings: Some(bad), update_mask: None };
        let refused = admin.update_topic_settings(update).await.unwrap_err();
        assert_eq!(
            (refused.code(), violated(&refused)),
            (Code::InvalidArgument, field.to_owned()),
            "{refused}"
        );
        let get = GetTopicSettingsRequest { topic: topic() };
        let now = admin.get_topic_settings(get).await.unwrap().into_inner().settings.unwrap();
        assert_eq!(now, after, "nothing of it is changed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channels_settings_change_where_they_are_given_and_refusals_name_the_field() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let channel = || "c".to_owned();
    let settings = |max_attempts, dead: &str| {
        let dead_letter_topic = Some(dead.to_owned());
        ChannelSettings { max_attempts: Some(max_attempts), dead_letter_topic, redelivery_delay_ms: None }
    };
    let create =
        |settings| CreateChannelRequest { topic: topic(), channel: channel(), start: None, settings };
    let refused = admin.create_channel(create(Some(settings(5, "t")))).await.unwrap_err();
    assert_eq!((refused.code(), &violated(&refused)[..]), (Code::InvalidArgument, "settings"));
    let created = admin.create_channel(create(Some(settings(5, "dead")))).await.unwrap().into_inner();
    let before = created.settings.unwrap();
    assert!(created.created);
    assert_eq!(before, ChannelSettings { redelivery_delay_ms: Some(1000), ..settings(5, "dead") });
    let again = admin.create_channel(create(Some(settings(7, "other")))).await.unwrap().into_inner();
    assert_eq!(
        (again.created, again.settings),
        (false, Some(before.clone())),
        "one that exists keeps its own"
    );

    let update = |settings, paths: Option<&[&str]>| UpdateChannelSettingsRequest {
        topic: topic(),
        channel: channel(),
        settings: Some(settings),
        update_mask: paths.map(|paths| prost_types::FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
    };
    for (bad, field) in [
        (settings(65_536, "dead"), "settings.max_attempts"),
        (settings(5, "no name!"), "settings.dead_letter_topic"),
        (settings(0, "dead"), "settings"),
        (settings(5, ""), "settings"),
    ] {
        let refused = admin.update_channel_settings(update(bad, None)).await.unwrap_err();
        assert_eq!((refused.code(), &violated(&refused)[..]), (Code::InvalidArgument, field), "{refused}");
    }
    let request = update(settings(1, ""), Some(&["colour"]));
    let refused = admin.update_channel_settings(request).await.unwrap_err();
    assert_eq!(violated(&refused), "update_mask.paths[0]");
    let get = || GetChannelSettingsRequest { topic: topic(), channel: channel() };
    let now = admin.get_channel_settings(get()).await.unwrap().into_inner().settings;
    assert_eq!(now, Some(before.clone()), "nothing of it is changed");

    let delay = ChannelSettings { redelivery_delay_ms: Some(0), ..Default::default() };
    let after = admin.update_channel_settings(update(delay, None)).await.unwrap().into_inner().settings;
    assert_eq!(after, Some(ChannelSettings { redelivery_delay_ms: Some(0), ..before }));
    let all: &[&str] = &["max_attempts", "dead_letter_topic", "redelivery_delay_ms"];
    let reset = update(ChannelSettings::default(), Some(all));
    let after = admin.update_channel_settings(reset).await.unwrap().into_inner().settings;
    assert_eq!(after, Some(ChannelSettings { redelivery_delay_ms: Some(1000), ..settings(0, "") }));
}

/// The field that a call was refused for.
fn violated(status: &tonic::Status) -> String {
    status.get_details_bad_request().expect("details").field_violations[0].field.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_mask_changes_what_it_names_and_resets_what_has_no_value() {
    let stack = Stack::start().await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let settings = TopicSettings {
        durability: Some(Durability::Sync.into()),
        max_messages: Some(5),
        max_bytes: Some(1 << 20),
        dedup_max_ids: Some(7),
        ..TopicSettings::default()
    };
    let create = CreateTopicRequest { topic: topic(), settings: Some(settings) };
    let created = admin.create_topic(create).await.unwrap().into_inner();
    let before = created.settings.unwrap();
    assert!(created.created);
    assert_eq!(
        (before.durability(), before.max_messages, before.dedup_max_ids),
        (Durability::Sync, Some(5), Some(7))
    );
    let update = |paths: &[&str]| UpdateTopicSettingsRequest {
        topic: topic(),
        settings: Some(TopicSettings {
            max_messages: Some(9),
            max_bytes: Some(3),
            ..TopicSettings::default()
        }),
        update_mask: Some(prost_types::FieldMask {
            paths: paths.iter().map(|&path| path.to_owned()).collect(),
        }),
    };
    let masked = update(&["max_messages", "durability", "dedup_max_ids"]);
    let after = admin.update_topic_settings(masked).await.unwrap().into_inner().settings.unwrap();
    assert_eq!(
        (after.durability(), after.max_messages, after.max_bytes),
        (Durability::Flush, Some(9), before.max_bytes)
    );
    let own = stack.broker.find_topic(&mq_core::TopicName::parse("t").unwrap()).unwrap().settings().dedup;
    assert_eq!(own, mq_core::Dedup::default(), "as the broker has it");
    let refused = admin.update_topic_settings(update(&["max_messages", "colour"])).await.unwrap_err();
    assert_eq!((refused.code(), &violated(&refused)[..]), (Code::InvalidArgument, "update_mask.paths[1]"));
}

/// Each setting of a topic, at a value that no topic begins with.
fn each_setting() -> [(&'static str, TopicSettings); 7] {
    let none = TopicSettings::default;
    [
        ("durability", TopicSettings { durability: Some(Durability::Memory.into()), ..none() }),
        ("max_messages", TopicSettings { max_messages: Some(11), ..none() }),
        ("max_bytes", TopicSettings { max_bytes: Some(12), ..none() }),
        ("max_age_ms", TopicSettings { max_age_ms: Some(13_000), ..none() }),
        ("overflow", TopicSettings { overflow: Some(Overflow::DropOldest.into()), ..none() }),
        ("dedup_window_ms", TopicSettings { dedup_window_ms: Some(14_000), ..none() }),
        ("dedup_max_ids", TopicSettings { dedup_max_ids: Some(15), ..none() }),
    ]
}

/// `settings`, with those that `other` has in their place.
fn merged(settings: TopicSettings, other: TopicSettings) -> TopicSettings {
    TopicSettings {
        durability: other.durability.or(settings.durability),
        max_messages: other.max_messages.or(settings.max_messages),
        max_bytes: other.max_bytes.or(settings.max_bytes),
        max_age_ms: other.max_age_ms.or(settings.max_age_ms),
        overflow: other.overflow.or(settings.overflow),
        dedup_window_ms: other.dedup_window_ms.or(settings.dedup_window_ms),
        dedup_max_ids: other.dedup_max_ids.or(settings.dedup_max_ids),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_setting_of_a_topic_changes_alone_by_its_value_and_by_its_name() {
    let stack = Stack::start().await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let all = each_setting().into_iter().fold(TopicSettings::default(), |all, (_, one)| merged(all, one));
    for (at, (name, value)) in each_setting().into_iter().enumerate() {
        let topic = format!("t{at}");
        let create = CreateTopicRequest { topic: topic.clone(), settings: None };
        let begins = admin.create_topic(create).await.unwrap().into_inner().settings.unwrap();
        let update = |settings, paths: Option<Vec<String>>| UpdateTopicSettingsRequest {
            topic: topic.clone(),
            settings: Some(settings),
            update_mask: paths.map(|paths| prost_types::FieldMask { paths }),
        };
        let mut change = async |request| {
            admin.update_topic_settings(request).await.unwrap().into_inner().settings.unwrap()
        };
        assert_eq!(change(update(value, None)).await, merged(begins, value), "{name} by its value");
        // Named without a value it is as before; named with all values it alone has its own.
        let named = || Some(vec![name.to_owned()]);
        assert_eq!(change(update(TopicSettings::default(), named())).await, begins, "{name} without a value");
        assert_eq!(change(update(all, named())).await, merged(begins, value), "{name} by its name");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_setting_of_a_channel_changes_alone_by_its_name() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let settings = |max_attempts, dead: &str, delay| ChannelSettings {
        max_attempts: Some(max_attempts),
        dead_letter_topic: Some(dead.to_owned()),
        redelivery_delay_ms: Some(delay),
    };
    let before = settings(5, "dead", 2_000);
    let create = CreateChannelRequest {
        topic: topic(),
        channel: "c".to_owned(),
        start: None,
        settings: Some(before.clone()),
    };
    assert_eq!(admin.create_channel(create).await.unwrap().into_inner().settings, Some(before));
    for (name, after) in [
        ("max_attempts", settings(7, "dead", 2_000)),
        ("dead_letter_topic", settings(7, "other", 2_000)),
        ("redelivery_delay_ms", settings(7, "other", 3_000)),
    ] {
        let request = UpdateChannelSettingsRequest {
            topic: topic(),
            channel: "c".to_owned(),
            settings: Some(settings(7, "other", 3_000)),
            update_mask: Some(prost_types::FieldMask { paths: vec![name.to_owned()] }),
        };
        let changed = admin.update_channel_settings(request).await.unwrap().into_inner().settings;
        assert_eq!(changed, Some(after), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_come_in_pages_and_by_prefix() {
    let stack = Stack::start().await;
    for name in ["a1", "a2", "a3", "b1"] {
        stack.publish(name, &["x"]).await;
    }
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let (mut topics, mut stats, mut token, mut pages) = (Vec::new(), Vec::new(), String::new(), 0);
    loop {
        let prefix = || "a".to_owned();
        let request = ListTopicsRequest { page_size: 2, page_token: token.clone(), prefix: prefix() };
        let listed = admin.list_topics(request).await.unwrap().into_inner();
        let request =
            GetStatsRequest { page_size: 2, page_token: token, prefix: prefix(), ..Default::default() };
        let counted = admin.get_stats(request).await.unwrap().into_inner();
        assert_eq!(listed.next_page_token, counted.next_page_token);
        assert!(counted.broker.unwrap().start_time_ns > 0);
        topics.extend(listed.topics.into_iter().map(|topic| topic.name));
        stats.extend(counted.topics.into_iter().map(|topic| (topic.name, topic.oldest_message_ns > 0)));
        token = listed.next_page_token;
        pages += 1;
        if token.is_empty() {
            break;
        }
    }
    assert_eq!((pages, &topics[..]), (2, &["a1", "a2", "a3"].map(str::to_owned)[..]));
    assert_eq!(stats, ["a1", "a2", "a3"].map(|name| (name.to_owned(), true)));
    let large = ListTopicsRequest { page_size: 10_001, ..Default::default() };
    let refused = admin.list_topics(large).await.unwrap_err();
    assert_eq!((refused.code(), &violated(&refused)[..]), (Code::InvalidArgument, "page_size"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_subscribers_of_a_channel_are_listed_whatever_they_speak() {
    let stack = Stack::start().await;
    stack.publish("t", &["x"]).await;
    let named = SubscribeOpen { client_name: "billing".to_owned(), ..open("t", "c") };
    let mut first = Subscriber::open(stack.channel().await, named, 3).await.unwrap();
    let _other = Subscriber::open(stack.channel().await, open("t", "other"), 1).await.unwrap();
    first.next().await;
    let mut nsq = tokio::net::TcpStream::connect(&stack.tcp).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut nsq, b"  V2SUB t c\n").await.unwrap();
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let listed = soon("both", async {
        loop {
            let (mut all, mut token) = (Vec::new(), String::new());
            loop {
                let request = ListSubscribersRequest {
                    topic: topic(),
                    channel: "c".to_owned(),
                    page_size: 1,
                    page_token: token,
                };
                let page = admin.list_subscribers(request).await.unwrap().into_inner();
                assert!(page.subscribers.len() <= 1);
                all.extend(page.subscribers);
                token = page.next_page_token;
                if token.is_empty() {
                    break;
                }
            }
            if all.len() == 2 {
                break all;
            }
        }
    })
    .await;
    let shown: Vec<_> = listed.iter().map(|one| (&one.protocol[..], one.credit, one.in_flight)).collect();
    assert_eq!(shown, [("gRPC", 3, 1), ("V2", 0, 0)]);
    assert_eq!((&listed[0].name[..], listed[0].delivered), ("billing", 1));
    assert!(listed[0].connected_ns > 0 && listed[0].address.starts_with("127.0.0.1:"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peek_at_a_channel_shows_what_it_holds() {
    let stack = Stack::start().await;
    stack.publish("t", &["a", "b", "c"]).await;
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 2).await.unwrap();
    let (a, _b) = (subscriber.next().await, subscriber.next().await);
    let requeue = vec![SubscribeRequeue { tokens: vec![a.token], delay_ms: 60_000 }];
    let credit = Some(SubscribeCredit { messages: Some(0), bytes: None });
    subscriber.send(SubscribeUpdate { requeue, credit, ..Default::default() }).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let request = PeekRequest { topic: topic(), channel: "c".to_owned(), ..Default::default() };
    let seen = soon("the requeue", async {
        loop {
            let peeked = admin.peek(request.clone()).await.unwrap().into_inner().messages;
            if peeked[0].state() == PeekedState::Deferred {
                break peeked;
            }
        }
    })
    .await;
    let seen: Vec<_> = seen
        .iter()
        .map(|one| {
            let message = one.message.as_ref().unwrap();
            assert!(message.token.is_empty());
            (&message.body[..], one.state(), message.attempts, one.due_ns > 0)
        })
        .collect();
    assert_eq!(
        seen,
        [
            (&b"a"[..], PeekedState::Deferred, 1, true),
            (&b"b"[..], PeekedState::InFlight, 1, false),
            (&b"c"[..], PeekedState::Waiting, 0, false)
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peek_consumes_nothing_and_goes_on_where_it_ended() {
    let stack = Stack::start().await;
    let offsets = stack.publish("t", &["a", "b", "c"]).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let first = PeekRequest { topic: topic(), max_messages: 2, ..Default::default() };
    let first = admin.peek(first).await.unwrap().into_inner();
    let message = |peeked: &PeekResponse, at: usize| peeked.messages[at].message.clone().unwrap();
    let bodies = |peeked: &PeekResponse| -> Vec<_> {
        (0..peeked.messages.len()).map(|at| message(peeked, at).body).collect()
    };
    assert_eq!(bodies(&first), ["a", "b"]);
    assert_eq!((message(&first, 1).offset, message(&first, 1).attempts), (offsets[1], 0));
    let rest = PeekRequest { topic: topic(), from_offset: Some(first.next_offset), ..Default::default() };
    assert_eq!(bodies(&admin.peek(rest).await.unwrap().into_inner()), ["c"]);
    let too_many = PeekRequest { topic: topic(), max_messages: 1_001, ..Default::default() };
    assert_eq!(admin.peek(too_many).await.unwrap_err().code(), Code::InvalidArgument);
    let mut subscriber = Subscriber::open(stack.channel().await, open("t", "c"), 1).await.unwrap();
    assert_eq!(&subscriber.next().await.body[..], b"a");
}

#[tokio::test(flavor = "multi_thread")]
async fn stats_are_watched_until_the_end() {
    let mut stack = Stack::start().await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let often = WatchStatsRequest { topic: topic(), interval_ms: 100, ..Default::default() };
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
    let refused = admin.watch_stats(WatchStatsRequest { interval_ms: 1, ..Default::default() }).await;
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
