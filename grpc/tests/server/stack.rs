//! A broker with its servers of NSQ's protocol and of gRPC, in this process.
#![allow(unreachable_pub)]

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use mq_core::{Broker, Options};
use mq_grpc::v1::publish_service_client::PublishServiceClient;
use mq_grpc::v1::subscribe_request::Request as Body;
use mq_grpc::v1::subscribe_response::Response as Answer;
use mq_grpc::v1::subscribe_service_client::SubscribeServiceClient;
use mq_grpc::v1::{
    Failure, MessageBatch, OutgoingMessage, PublishRequest, PublishResult, PublishStreamResponse,
    ReceivedMessage, SubscribeCredit, SubscribeOpen, SubscribeRequest, SubscribeResponse, SubscribeUpdate,
    publish_result, publish_stream_response,
};
use mq_grpc::{Config, Parts, Server};
use mq_net::http::HostNames;
use mq_net::transport::Address;
use mq_nsq::server;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// Longest wait for anything: spent only on failure.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The outcome of `future`, within the patience.
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
    folder: TempDir,
}

impl Stack {
    pub async fn start() -> Self {
        Self::start_with(Config::default(), server::Config::default()).await
    }

    pub async fn start_with(config: Config, nsq: server::Config) -> Self {
        Self::start_in(TempDir::new().unwrap(), config, nsq).await
    }

    /// A broker over what another left in `data` of the folder.
    pub async fn start_in(folder: TempDir, config: Config, nsq: server::Config) -> Self {
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
            hosts: HostNames::new(["broker.example"]),
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
        Self { broker, tcp, grpc, http, clients, stop, task: Some(task), folder }
    }

    /// The broker's folder.
    pub fn data_path(&self) -> std::path::PathBuf {
        self.folder.path().join("data")
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

/// A first request: with credit for so many messages and bytes.
pub fn opening(open: SubscribeOpen, messages: u32, bytes: u64) -> SubscribeRequest {
    let credit = Some(SubscribeCredit { messages: Some(messages), bytes: Some(bytes) });
    SubscribeRequest { request: Some(Body::Open(SubscribeOpen { credit, ..open })) }
}

/// Any other request.
pub fn updating(update: SubscribeUpdate) -> SubscribeRequest {
    SubscribeRequest { request: Some(Body::Update(update)) }
}

/// The results of a response; the first has none.
pub fn results(response: PublishStreamResponse) -> Vec<PublishResult> {
    match response.response.expect("one of them") {
        publish_stream_response::Response::Results(results) => results.results,
        publish_stream_response::Response::Window(_) => Vec::new(),
    }
}

/// The failure of a batch, if it failed.
pub fn failure(result: &PublishResult) -> Option<&Failure> {
    match result.result.as_ref().expect("one of them") {
        publish_result::Result::Failure(failure) => Some(failure),
        publish_result::Result::Stored(_) => None,
    }
}

/// Number of messages of a batch that are stored.
pub fn stored(result: &PublishResult) -> u32 {
    match result.result.as_ref().expect("one of them") {
        publish_result::Result::Failure(_) => 0,
        publish_result::Result::Stored(stored) => stored.offsets.iter().map(|range| range.count).sum(),
    }
}

impl Subscriber {
    pub async fn open(channel: Channel, open: SubscribeOpen, credit: u32) -> Result<Self, Status> {
        Self::begin(channel, opening(open, credit, 0)).await
    }

    pub async fn begin(channel: Channel, first: SubscribeRequest) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(64);
        requests.send(first).await.unwrap();
        let mut client = SubscribeServiceClient::new(channel);
        let responses =
            soon("SUBSCRIBE", client.subscribe(ReceiverStream::new(receiver))).await?.into_inner();
        let mut subscriber = Self { requests, responses, messages: Default::default() };
        match subscriber.response().await? {
            Some(Answer::Opened(_)) => Ok(subscriber),
            other => panic!("not opened: {other:?}"),
        }
    }

    pub async fn send(&self, update: SubscribeUpdate) {
        self.requests.send(updating(update)).await.unwrap();
    }

    pub async fn credit(&self, messages: u32, bytes: u64) {
        let credit = Some(SubscribeCredit { messages: Some(messages), bytes: Some(bytes) });
        self.send(SubscribeUpdate { credit, ..Default::default() }).await;
    }

    pub async fn finish(&self, tokens: &[Bytes]) {
        self.send(SubscribeUpdate { finish: tokens.to_vec(), ..Default::default() }).await;
    }

    pub async fn response(&mut self) -> Result<Option<Answer>, Status> {
        let response = soon("a response", self.responses.message()).await?;
        Ok(response.map(|response| response.response.expect("one of them")))
    }

    /// Keeps messages for [`Self::next`].
    pub fn keep(&mut self, batch: MessageBatch) {
        self.messages.extend(batch.messages);
    }

    /// The next message.
    pub async fn next(&mut self) -> ReceivedMessage {
        loop {
            if let Some(message) = self.messages.pop_front() {
                return message;
            }
            match self.response().await.unwrap() {
                Some(Answer::Batch(batch)) => self.keep(batch),
                other => panic!("no message: {other:?}"),
            }
        }
    }
}
