//! A broker with its servers of NSQ's protocol and of gRPC, in this process.
#![allow(unreachable_pub)]

use std::future::Future;
use std::time::Duration;

use mq_core::{Broker, Options};
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::subscribe_response::Response as Body;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{
    OutgoingMessage, PublishRequest, ReceivedMessage, SubscribeCredit, SubscribeOpen, SubscribeRequest,
    SubscribeResponse,
};
use mq_grpc::{Config, Parts, Server};
use mq_net::transport::Address;
use mq_nsq::server;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long anything may take: spent only on failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What is awaited, within the patience.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("waited {PATIENCE:?} for {what}"))
}

/// Looks until `condition` gives something.
pub async fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    soon(what, async {
        loop {
            match condition() {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    })
    .await
}

/// The servers.
pub struct Stack {
    pub broker: Broker,
    pub tcp: String,
    pub grpc: String,
    /// If it was asked for.
    pub http: Option<String>,
    pub clients: mq_net::clients::Clients,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
    _folder: TempDir,
}

impl Stack {
    pub async fn start() -> Self {
        Self::start_with(Config::default(), server::Config::default()).await
    }

    pub async fn start_with(config: Config, nsq: server::Config) -> Self {
        let folder = TempDir::new().unwrap();
        let options = Options { data_path: folder.path().join("data"), ..Options::default() };
        let broker = Broker::open(options).unwrap();
        let nsq = server::Config { tcp_address: "127.0.0.1:0".to_owned(), ..nsq };
        let nsq = server::Server::bind(nsq, broker.clone()).await.unwrap();
        let tcp = nsq.local_addr().to_string();
        let (http, clients) = (nsq.http_addr().map(ToString::to_string), nsq.clients());
        let config = Config { address: "127.0.0.1:0".to_owned(), ..config };
        let parts = Parts {
            broker: Some(broker.clone()),
            access: Some(nsq.access()),
            clients: clients.clone(),
            tls: nsq.tls(),
            directory: None,
        };
        let server = Server::bind(config, parts).await.unwrap();
        let Address::Tcp(address) = server.local_addr() else { panic!("a path") };
        let grpc = address.to_string();
        let stop = watch::Sender::new(false);
        let until = |stop: &watch::Sender<bool>| {
            let mut stopped = stop.subscribe();
            async move { drop(stopped.wait_for(|stop| *stop).await) }
        };
        let (nsq, server) = (nsq.run(until(&stop)), server.run(until(&stop)));
        let task = tokio::spawn(async {
            tokio::join!(nsq, server);
        });
        Self { broker, tcp, grpc, http, clients, stop, task: Some(task), _folder: folder }
    }

    /// A connection of its own.
    pub async fn channel(&self) -> Channel {
        let endpoint = Channel::from_shared(format!("http://{}", self.grpc)).unwrap();
        soon("a connection", endpoint.connect()).await.unwrap()
    }

    /// Stops the servers and waits until they have.
    pub async fn stop(&mut self) {
        self.stop.send_replace(true);
        if let Some(task) = self.task.take() {
            soon("the servers to stop", task).await.unwrap();
        }
    }

    /// Publishes one batch.
    pub async fn publish(&self, topic: &str, bodies: &[&str]) -> Vec<u64> {
        let messages = bodies.iter().map(|body| message(body)).collect();
        let mut client = PublishServiceClient::new(self.channel().await);
        let published = client.publish(PublishRequest { topic: topic.to_owned(), messages }).await.unwrap();
        let ranges = published.into_inner().offsets;
        ranges.iter().flat_map(|range| range.first..range.first + u64::from(range.count)).collect()
    }
}

pub fn message(body: &str) -> OutgoingMessage {
    OutgoingMessage { body: body.to_owned().into(), ..OutgoingMessage::default() }
}

/// A subscription, spoken by hand.
pub struct Subscriber {
    pub requests: mpsc::Sender<SubscribeRequest>,
    pub responses: Streaming<SubscribeResponse>,
    messages: std::collections::VecDeque<ReceivedMessage>,
}

pub fn open(topic: &str, channel: &str) -> SubscribeOpen {
    SubscribeOpen { topic: topic.to_owned(), channel: channel.to_owned(), ..SubscribeOpen::default() }
}

impl Subscriber {
    pub async fn open(channel: Channel, open: SubscribeOpen, credit: u32) -> Result<Self, Status> {
        let credit = SubscribeCredit { messages: credit, bytes: 0 };
        let first = SubscribeRequest { open: Some(open), credit: Some(credit), ..Default::default() };
        Self::begin(channel, first).await
    }

    pub async fn begin(channel: Channel, first: SubscribeRequest) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(64);
        requests.send(first).await.unwrap();
        let mut client = SubscribeServiceClient::new(channel);
        let responses =
            soon("SUBSCRIBE", client.subscribe(ReceiverStream::new(receiver))).await?.into_inner();
        let mut subscriber = Self { requests, responses, messages: Default::default() };
        match subscriber.response().await? {
            Some(Body::Opened(_)) => Ok(subscriber),
            other => panic!("not opened: {other:?}"),
        }
    }

    pub async fn send(&self, request: SubscribeRequest) {
        self.requests.send(request).await.unwrap();
    }

    pub async fn credit(&self, messages: u32, bytes: u64) {
        let credit = Some(SubscribeCredit { messages, bytes });
        self.send(SubscribeRequest { credit, ..Default::default() }).await;
    }

    pub async fn finish(&self, ids: &[u64]) {
        self.send(SubscribeRequest { finish: ids.to_vec(), ..Default::default() }).await;
    }

    pub async fn response(&mut self) -> Result<Option<Body>, Status> {
        let response = soon("a response", self.responses.message()).await?;
        Ok(response.map(|response| response.response.expect("one of them")))
    }

    /// The next message.
    pub async fn next(&mut self) -> ReceivedMessage {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            match self.response().await.unwrap() {
                Some(Body::Batch(batch)) => self.messages.extend(batch.messages),
                other => panic!("no message: {other:?}"),
            }
        }
    }
}
