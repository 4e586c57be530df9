//! Every method of `AdminService` against who calls it: a table that fails when a method is added and not
//! listed.

use std::collections::BTreeSet;

use mq_core::{ChannelName, TopicName};
use mq_grpc::Config;
use mq_grpc::v1::admin_service_client::AdminServiceClient;
use mq_grpc::v1::*;
use mq_nsq::server;
use prost::Message;
use tempfile::TempDir;
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::auth_server::AuthServer;
use crate::stack::{Stack, soon};

type Admin = AdminServiceClient<Channel>;

/// A request of the caller that shows `token`.
fn shown<T>(message: T, token: Option<&str>) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    request
}

/// Calls `method` on topic `topic` and its channel `c`. Returns the code, and the topics that the answer
/// names.
async fn call(admin: &mut Admin, method: &str, topic: &str, token: Option<&str>) -> (Code, Vec<String>) {
    let (topic, channel) = (topic.to_owned(), "c".to_owned());
    macro_rules! answer {
        ($method:ident, $request:expr) => {
            answer!($method, $request, |_| Vec::new())
        };
        ($method:ident, $request:expr, $topics:expr) => {{
            let answer = soon(method, admin.$method(shown($request, token))).await;
            match answer {
                Ok(answer) => (Code::Ok, ($topics)(answer.into_inner())),
                Err(status) => (status.code(), Vec::new()),
            }
        }};
    }
    let names = |topics: Vec<TopicStats>| topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>();
    match method {
        "ListTopics" => answer!(list_topics, ListTopicsRequest::default(), |list: ListTopicsResponse| {
            list.topics.into_iter().map(|topic| topic.name).collect()
        }),
        "CreateTopic" => answer!(create_topic, CreateTopicRequest { topic, settings: None }),
        "DeleteTopic" => answer!(delete_topic, DeleteTopicRequest { topic }),
        "EmptyTopic" => answer!(empty_topic, EmptyTopicRequest { topic }),
        "PauseTopic" => answer!(pause_topic, PauseTopicRequest { topic }),
        "ResumeTopic" => answer!(resume_topic, ResumeTopicRequest { topic }),
        "GetTopicSettings" => answer!(get_topic_settings, GetTopicSettingsRequest { topic }),
        "UpdateTopicSettings" => {
            let settings = Some(TopicSettings { max_messages: Some(7), ..TopicSettings::default() });
            let request = UpdateTopicSettingsRequest { topic, settings, update_mask: None };
            answer!(update_topic_settings, request)
        }
        "CreateChannel" => {
            answer!(create_channel, CreateChannelRequest { topic, channel, ..Default::default() })
        }
        "GetChannelSettings" => {
            answer!(get_channel_settings, GetChannelSettingsRequest { topic, channel })
        }
        "UpdateChannelSettings" => {
            let settings = Some(ChannelSettings { redelivery_delay_ms: Some(7), ..Default::default() });
            let request = UpdateChannelSettingsRequest { topic, channel, settings, update_mask: None };
            answer!(update_channel_settings, request)
        }
        "DeleteChannel" => answer!(delete_channel, DeleteChannelRequest { topic, channel }),
        "EmptyChannel" => answer!(empty_channel, EmptyChannelRequest { topic, channel }),
        "PauseChannel" => answer!(pause_channel, PauseChannelRequest { topic, channel }),
        "ResumeChannel" => answer!(resume_channel, ResumeChannelRequest { topic, channel }),
        "ListSubscribers" => {
            answer!(list_subscribers, ListSubscribersRequest { topic, channel, ..Default::default() })
        }
        "GetStats" => {
            answer!(get_stats, GetStatsRequest::default(), |stats: GetStatsResponse| names(stats.topics))
        }
        "WatchStats" => {
            let request = WatchStatsRequest { interval_ms: 100, ..Default::default() };
            match soon(method, admin.watch_stats(shown(request, token))).await {
                Ok(watched) => {
                    let first = soon("numbers", watched.into_inner().message()).await.unwrap().unwrap();
                    (Code::Ok, names(first.topics))
                }
                Err(status) => (status.code(), Vec::new()),
            }
        }
        "Peek" => answer!(peek, PeekRequest { topic, ..Default::default() }),
        other => panic!("{other} is not in the table: who may call it?"),
    }
}

/// The methods of the service, as they are generated; what deletes comes last, so that the others find
/// something.
fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let mut services = files.iter().flat_map(|file| &file.service);
    let service = services.find(|service| service.name() == "AdminService").unwrap();
    let mut methods: Vec<_> = service.method.iter().map(|method| method.name().to_owned()).collect();
    methods.sort_by_key(|name| match &name[..] {
        "DeleteTopic" => 2,
        name => u8::from(name.starts_with("Delete")),
    });
    methods
}

/// A stack with the topics `mine` and `yours`, each with a channel `c`.
async fn stack_with(nsq: server::Config) -> Stack {
    let stack = Stack::start_with(Config::default(), nsq).await;
    for name in ["mine", "yours"] {
        let topic = stack.broker.topic(&TopicName::parse(name).unwrap()).unwrap();
        let _ = topic.channel(&ChannelName::parse("c").unwrap(), None).unwrap();
    }
    stack
}

#[tokio::test(flavor = "multi_thread")]
async fn no_admin_method_answers_without_a_token_or_with_a_wrong_one() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "s3cret\n").unwrap();
    let nsq = server::Config { http_auth_token_file: Some(file), ..server::Config::default() };
    let stack = stack_with(nsq).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let mut wrong = Vec::new();
    for method in methods() {
        for token in [None, Some("wrong")] {
            let (code, _) = call(&mut admin, &method, "mine", token).await;
            if code != Code::Unauthenticated {
                wrong.push(format!("{method} with {token:?}: {code:?}"));
            }
        }
        let (code, _) = call(&mut admin, &method, "mine", Some("s3cret")).await;
        if !is_done(code) {
            wrong.push(format!("{method}: {code:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Whether the caller was let in; what the call is about may be deleted by then.
fn is_done(code: Code) -> bool {
    matches!(code, Code::Ok | Code::NotFound)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_for_one_topic_shows_and_changes_no_other() {
    let auth = AuthServer::start(
        r#"{"ttl":3600,"identity":"me","authorizations":[
            {"topic":"^mine$","channels":[".*"],"permissions":["publish"]},
            {"topic":"^mine$","channels":["^c$"],"permissions":["subscribe"]}]}"#,
    )
    .await;
    let nsq = server::Config { auth_http_addresses: vec![auth.address.clone()], ..server::Config::default() };
    let stack = stack_with(nsq).await;
    let mut admin = AdminServiceClient::new(stack.channel().await);
    let lists: BTreeSet<_> = ["ListTopics", "GetStats", "WatchStats"].into();
    let mut wrong = Vec::new();
    for method in methods() {
        let (code, topics) = call(&mut admin, &method, "yours", Some("s3cret")).await;
        let is_right = match lists.contains(&method[..]) {
            true => code == Code::Ok && topics == ["mine"],
            false => code == Code::PermissionDenied,
        };
        if !is_right {
            wrong.push(format!("{method} on yours: {code:?} {topics:?}"));
        }
        let (code, _) = call(&mut admin, &method, "mine", Some("s3cret")).await;
        if !is_done(code) {
            wrong.push(format!("{method} on mine: {code:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_to_consume_changes_no_topic_and_one_to_publish_no_channel() {
    let mut wrong = Vec::new();
    for (permission, allowed) in [("publish", "Topic"), ("subscribe", "Channel")] {
        let auth = AuthServer::start(&format!(
            r#"{{"ttl":3600,"authorizations":[{{"topic":".*","channels":[".*"],"permissions":["{permission}"]}}]}}"#
        ))
        .await;
        let addresses = vec![auth.address.clone()];
        let nsq = server::Config { auth_http_addresses: addresses, ..server::Config::default() };
        let stack = stack_with(nsq).await;
        let mut admin = AdminServiceClient::new(stack.channel().await);
        for method in methods() {
            // Reading is for both.
            if ["List", "Get", "Watch", "Peek"].iter().any(|reads| method.starts_with(reads)) {
                continue;
            }
            let (code, _) = call(&mut admin, &method, "yours", Some("s3cret")).await;
            let is_topics = !method.contains("Channel");
            let is_right = match is_topics == (allowed == "Topic") {
                true => is_done(code),
                false => code == Code::PermissionDenied,
            };
            if !is_right {
                wrong.push(format!("{method} with {permission}: {code:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
