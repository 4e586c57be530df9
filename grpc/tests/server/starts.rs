//! The position at which a new channel starts, whatever creates it.

use mq_core::{ChannelName, TopicName};
use mq_grpc::v1::admin_service_client::AdminServiceClient;
use mq_grpc::v1::start_position::Position;
use mq_grpc::v1::subscribe_response::Response as Answer;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{
    CreateChannelRequest, PullRequest, ReceivedMessage, StartEdge, StartPosition, SubscribeOpen,
};
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::stack::{Stack, Subscriber, open, opening, soon};

/// The calls that create a channel.
#[derive(Clone, Copy, Debug)]
enum Maker {
    Subscribe,
    Pull,
    CreateChannel,
}

const MAKERS: [Maker; 3] = [Maker::Subscribe, Maker::Pull, Maker::CreateChannel];

fn at(position: Position) -> Option<StartPosition> {
    Some(StartPosition { position: Some(position) })
}

fn edge(edge: StartEdge) -> Option<StartPosition> {
    at(Position::Edge(edge.into()))
}

async fn pull(stack: &Stack, request: PullRequest) -> Result<(bool, Option<ReceivedMessage>), Status> {
    let mut client = SubscribeServiceClient::new(stack.channel().await);
    let request = PullRequest { topic: "t".to_owned(), ..request };
    let pulled = soon("a pull", client.pull(request)).await?.into_inner();
    Ok((pulled.created, pulled.messages.into_iter().next()))
}

/// Creates a channel. Returns whether it is new, and its first message if that came along.
async fn create(
    maker: Maker,
    stack: &Stack,
    channel: &str,
    start: Option<StartPosition>,
) -> Result<(bool, Option<ReceivedMessage>), Status> {
    match maker {
        Maker::Pull => {
            pull(stack, PullRequest { channel: channel.to_owned(), start, ..Default::default() }).await
        }
        Maker::CreateChannel => {
            let (topic, channel) = ("t".to_owned(), channel.to_owned());
            let request = CreateChannelRequest { topic, channel, start, ..Default::default() };
            let mut admin = AdminServiceClient::new(stack.channel().await);
            Ok((admin.create_channel(request).await?.into_inner().created, None))
        }
        Maker::Subscribe => {
            let open = SubscribeOpen { start, ..open("t", channel) };
            let (sender, receiver) = tokio::sync::mpsc::channel(1);
            sender.send(opening(open, 0, 0)).await.unwrap();
            let mut client = SubscribeServiceClient::new(stack.channel().await);
            let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
            let mut responses = client.subscribe(stream).await?.into_inner();
            let first = soon("a response", responses.message()).await?.unwrap().response;
            let Some(Answer::Opened(opened)) = first else { panic!("{first:?}") };
            assert_eq!((opened.max_credit_messages, opened.max_delay_ms), (2_500, 3_600_000));
            assert_eq!(opened.msg_timeout_ms, 60_000);
            Ok((opened.created, None))
        }
    }
}

/// The body of the first message that a channel gives out.
async fn first(stack: &Stack, channel: &str, came_along: Option<ReceivedMessage>) -> String {
    let message = match came_along {
        Some(message) => message,
        None => {
            let request = PullRequest { channel: channel.to_owned(), wait_ms: 20_000, ..Default::default() };
            pull(stack, request).await.unwrap().1.unwrap()
        }
    };
    String::from_utf8(message.body.to_vec()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_channel_starts_where_it_is_told() {
    for maker in MAKERS {
        let stack = Stack::start().await;
        // Keeps all.
        let _keeper = Subscriber::open(stack.channel().await, open("t", "keeper"), 0).await.unwrap();
        let offsets = stack.publish("t", &["a", "b", "c"]).await;
        for (name, start, wanted) in [
            ("earliest", edge(StartEdge::Earliest), "a"),
            ("offset", at(Position::Offset(offsets[1])), "b"),
            ("time", at(Position::TimeNs(1_000_000_000_000_000_000)), "a"),
        ] {
            let (created, came_along) = create(maker, &stack, name, start).await.unwrap();
            assert!(created, "{maker:?} {name}");
            assert_eq!(first(&stack, name, came_along).await, wanted, "{maker:?} {name}");
        }
        // The topic has channels, so no message is one that no channel was given.
        let late = [
            ("latest", edge(StartEdge::Latest)),
            ("backlog", edge(StartEdge::Backlog)),
            ("unspecified", edge(StartEdge::Unspecified)),
            ("none", None),
        ];
        for (name, start) in late {
            let (created, came_along) = create(maker, &stack, name, start).await.unwrap();
            assert!(created && came_along.is_none(), "{maker:?} {name}");
        }
        stack.publish("t", &["d"]).await;
        for (name, _) in late {
            assert_eq!(first(&stack, name, None).await, "d", "{maker:?} {name}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_channel_begins_at_the_backlog_or_drops_it() {
    for maker in MAKERS {
        for (start, wanted) in [(StartEdge::Backlog, "a"), (StartEdge::Latest, "b")] {
            let stack = Stack::start().await;
            stack.publish("t", &["a"]).await;
            let (_, came_along) = create(maker, &stack, "c", edge(start)).await.unwrap();
            stack.publish("t", &["b"]).await;
            assert_eq!(first(&stack, "c", came_along).await, wanted, "{maker:?} {start:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_exists_stays_where_it_is_and_the_answer_says_so() {
    for maker in MAKERS {
        let stack = Stack::start().await;
        stack.broker.topic(&TopicName::parse("t").unwrap()).unwrap();
        let (created, _) = create(maker, &stack, "c", None).await.unwrap();
        assert!(created, "{maker:?}");
        stack.publish("t", &["a", "b"]).await;
        let (created, came_along) = create(maker, &stack, "c", edge(StartEdge::Latest)).await.unwrap();
        assert!(!created, "{maker:?}");
        assert_eq!(first(&stack, "c", came_along).await, "a", "{maker:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_none_is_refused_and_creates_nothing() {
    let stack = Stack::start().await;
    stack.publish("t", &["a"]).await;
    let seconds = 1_800_000_000;
    let times = [seconds, seconds * 1_000, seconds * 1_000_000, u64::MAX].map(Position::TimeNs);
    for maker in MAKERS {
        let prefix = if matches!(maker, Maker::Subscribe) { "open." } else { "" };
        for position in [&times[..], &[Position::Edge(9)]].concat() {
            let field = if matches!(position, Position::Edge(_)) { "edge" } else { "time_ns" };
            let refused = create(maker, &stack, "c", at(position)).await.unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument, "{maker:?} {position:?}");
            let violations = refused.get_details_bad_request().expect("details").field_violations;
            assert_eq!(violations[0].field, format!("{prefix}start.{field}"), "{maker:?} {position:?}");
        }
    }
    let topic = stack.broker.find_topic(&TopicName::parse("t").unwrap()).unwrap();
    assert!(topic.find_channel(&ChannelName::parse("c").unwrap()).is_none());
}
