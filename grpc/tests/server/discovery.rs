//! Discovery: over gRPC and over NSQ's lookup protocol, one registry.

use std::sync::Arc;

use mq_core::discovery::View;
use mq_core::{ChannelName, TopicName};
use mq_grpc::client::{Brokers, Consumer, ConsumerOptions, Target};
use mq_grpc::v1::discovery_service_client::DiscoveryServiceClient;
use mq_grpc::v1::*;
use mq_grpc::{Config, Parts, Server};
use mq_net::directory::Directory;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::Channel;
use tonic_types::StatusExt;

use crate::stack::{Stack, soon};

/// A server of discovery alone, and its registry.
async fn lookup() -> (String, Arc<Directory>) {
    let directory = Arc::new(Directory::new(mq_core::discovery::Settings::default()));
    let config = Config { address: "127.0.0.1:0".to_owned(), ..Config::default() };
    let parts = Parts { directory: Some(Arc::clone(&directory)), ..Parts::default() };
    let server = Server::bind(config, parts).await.unwrap();
    let address = server.local_addr().to_string();
    tokio::spawn(server.run(std::future::pending()));
    (address, directory)
}

async fn client(address: &str) -> DiscoveryServiceClient<Channel> {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    DiscoveryServiceClient::new(endpoint.connect().await.unwrap())
}

fn info(grpc: &str) -> BrokerInfo {
    let (address, port) = grpc.rsplit_once(':').unwrap();
    BrokerInfo { address: address.to_owned(), grpc_port: port.parse().unwrap(), ..BrokerInfo::default() }
}

fn registration(topic: &str, channel: &str) -> Registration {
    Registration { topic: topic.to_owned(), channel: channel.to_owned() }
}

fn broker(info: BrokerInfo) -> RegisterRequest {
    RegisterRequest { request: Some(register_request::Request::Broker(info)) }
}

fn change(add: Vec<Registration>, remove: Vec<Registration>) -> RegisterRequest {
    RegisterRequest { request: Some(register_request::Request::Change(RegisterChange { add, remove })) }
}

/// Registers a broker for as long as the sender lives.
async fn register(address: &str, grpc: &str, topic: &str) -> mpsc::Sender<RegisterRequest> {
    let (sender, receiver) = mpsc::channel(4);
    sender.send(broker(info(grpc))).await.unwrap();
    sender.send(change(vec![registration(topic, "c")], Vec::new())).await.unwrap();
    let mut client = client(address).await;
    let mut answers = client.register(ReceiverStream::new(receiver)).await.unwrap().into_inner();
    answers.message().await.unwrap().expect("an answer");
    answers.message().await.unwrap().expect("another");
    tokio::spawn(async move { while let Ok(Some(_)) = answers.message().await {} });
    sender
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_found_while_its_stream_lasts() {
    let (address, directory) = lookup().await;
    let mut client = client(&address).await;
    let request = || LookupRequest { topic: "t".to_owned() };
    assert_eq!(client.lookup(request()).await.unwrap_err().code(), Code::NotFound);
    let watch = WatchRequest { topic: "t".to_owned() };
    let mut watched = client.watch(watch).await.unwrap().into_inner();
    assert!(soon("an answer", watched.message()).await.unwrap().unwrap().brokers.is_empty());
    let registered = register(&address, "127.0.0.1:4155", "t").await;
    let found = client.lookup(request()).await.unwrap().into_inner();
    assert_eq!((found.brokers[0].grpc_port, &found.channels[..]), (4155, &["c".to_owned()][..]));
    let seen = soon("a change", watched.message()).await.unwrap().unwrap();
    assert_eq!(seen.brokers, found.brokers);
    let nsq = directory.lookup(&TopicName::parse("t").unwrap(), View::Existing).unwrap();
    assert_eq!(nsq.producers[0].broadcast_address, "127.0.0.1");
    registered.send(change(Vec::new(), vec![registration("t", "c")])).await.unwrap();
    let seen = soon("a change", watched.message()).await.unwrap().unwrap();
    assert_eq!((seen.brokers.len(), seen.channels.len()), (1, 0));
    drop(registered);
    assert!(soon("a change", watched.message()).await.unwrap().unwrap().brokers.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_registers_badly_is_refused() {
    let (address, _) = lookup().await;
    let refused = async |first: RegisterRequest| {
        let stream = tokio_stream::iter([first]);
        client(&address).await.register(stream).await.unwrap_err().code()
    };
    assert_eq!(refused(RegisterRequest::default()).await, Code::FailedPrecondition);
    assert_eq!(refused(broker(BrokerInfo::default())).await, Code::InvalidArgument);
    let violated = |status: &tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        status.get_details_bad_request().expect("details").field_violations[0].field.clone()
    };
    let one = || info("127.0.0.1:1");
    for (info, field) in [
        (BrokerInfo { address: String::new(), ..one() }, "broker.address"),
        (BrokerInfo { grpc_port: 0, tcp_port: 0, ..one() }, "broker.grpc_port"),
        (BrokerInfo { grpc_port: 65_536, ..one() }, "broker.grpc_port"),
        (BrokerInfo { tcp_port: 65_536, ..one() }, "broker.tcp_port"),
        (BrokerInfo { http_port: 65_536, ..one() }, "broker.http_port"),
    ] {
        let stream = tokio_stream::iter([broker(info)]);
        assert_eq!(violated(&client(&address).await.register(stream).await.unwrap_err()), field);
    }
    let good = || registration("t", "c");
    for (bad, field) in [
        (change(vec![good(), registration("no good", "")], Vec::new()), "change.add[1].topic"),
        (change(vec![registration("t", "no good")], Vec::new()), "change.add[0].channel"),
        (change(Vec::new(), vec![registration("no good", "")]), "change.remove[0].topic"),
        (change(Vec::new(), vec![good(), registration("t", "no good")]), "change.remove[1].channel"),
    ] {
        let stream = tokio_stream::iter([broker(one()), bad]);
        let mut answers = client(&address).await.register(stream).await.unwrap().into_inner();
        soon("an answer", answers.message()).await.unwrap().expect("an answer");
        assert_eq!(violated(&soon("an answer", answers.message()).await.unwrap_err()), field);
    }
    let lookup = LookupRequest { topic: "no good".to_owned() };
    assert_eq!(violated(&client(&address).await.lookup(lookup).await.unwrap_err()), "topic");
    let watch = WatchRequest { topic: "no good".to_owned() };
    assert_eq!(violated(&client(&address).await.watch(watch).await.unwrap_err()), "topic");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_finds_brokers_as_they_come() {
    let (address, _) = lookup().await;
    let (one, two) = (Stack::start().await, Stack::start().await);
    let _first = register(&address, &one.grpc, "t").await;
    let brokers = Brokers::Discovered(vec![Target::new(&address).unwrap()]);
    let mut consumer = Consumer::new(brokers, "t", "c", ConsumerOptions::default());
    one.publish("t", &["one"]).await;
    let next = async |consumer: &mut Consumer| {
        let delivery = soon("a message", consumer.next()).await.unwrap().unwrap();
        let body = delivery.body().to_vec();
        delivery.finish();
        body
    };
    assert_eq!(next(&mut consumer).await, b"one");
    let _second = register(&address, &two.grpc, "t").await;
    two.publish("t", &["two"]).await;
    assert_eq!(next(&mut consumer).await, b"two");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_changes_are_few_answers_and_the_last_is_told() {
    let (address, directory) = lookup().await;
    let mut client = client(&address).await;
    let mut watched = client.watch(WatchRequest { topic: "t".to_owned() }).await.unwrap().into_inner();
    let id = directory.identify(mq_core::discovery::Producer::default()).unwrap();
    let begun = std::time::Instant::now();
    for number in 0..2_000 {
        let channel = ChannelName::parse(&format!("c{number}")).unwrap();
        directory.register(id, &TopicName::parse("t").unwrap(), Some(&channel)).unwrap();
    }
    let mut answers = 0;
    while soon("a change", watched.message()).await.unwrap().unwrap().channels.len() < 2_000 {
        answers += 1;
    }
    let most = 2 + begun.elapsed().as_millis() / 100;
    assert!(answers <= most, "{answers} answers in {:?}", begun.elapsed());
    // One that goes is not watched for any more, and a topic that is gone is reported as such.
    directory.delete_topic(&TopicName::parse("t").unwrap());
    let gone = soon("the end", watched.message()).await.unwrap().unwrap();
    assert_eq!((gone.brokers.len(), gone.channels.len()), (0, 0));
}
