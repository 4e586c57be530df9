//! `mq.v1.DiscoveryService`, over the registry that answers NSQ's lookup protocol.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use mq_core::discovery::{Found, Producer, ProducerId, View};
use mq_core::{ChannelName, Error, ErrorKind, TopicName};
use mq_net::access::Access;
use mq_net::directory::{Directory, Watch};
use tokio::time::{Interval, MissedTickBehavior, interval, timeout};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Request, Response, Status, Streaming};

use super::stream_end::StreamEnd;
use super::{caller, channel_name, peer, topic_name};
use crate::status::Refusal;
use crate::v1::discovery_service_server::DiscoveryService;
use crate::v1::register_request::Request as Body;
use crate::v1::{
    BrokerInfo, LookupRequest, LookupResponse, RegisterChange, RegisterRequest, RegisterResponse,
    Registration, WatchRequest, WatchResponse,
};

/// Longest wait for a broker's first message, which names it.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// Interval at which a registered broker counts as alive: HTTP/2's keepalive watches its connection.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// Answers the calls of `DiscoveryService`.
pub(crate) struct DiscoveryHandler {
    pub(crate) directory: Arc<Directory>,
    /// Rights of callers; `None`: everybody may do everything, as with NSQ's lookup servers.
    pub(crate) access: Option<Arc<Access>>,
    pub(crate) stop: CancellationToken,
}

impl DiscoveryHandler {
    async fn admit<T>(&self, request: &Request<T>) -> Result<(), Refusal> {
        match &self.access {
            Some(access) => caller(access, request).await.map(drop),
            None => Ok(()),
        }
    }
}

#[tonic::async_trait]
impl DiscoveryService for DiscoveryHandler {
    type RegisterStream = RegistrationStream;

    async fn register(
        &self,
        request: Request<Streaming<RegisterRequest>>,
    ) -> Result<Response<RegistrationStream>, Status> {
        let stream_end = StreamEnd::of(&request, &self.stop);
        self.admit(&request).await?;
        let peer = peer(&request);
        let mut input = request.into_inner();
        let first = timeout(OPEN_TIMEOUT, input.message());
        let opens_nothing =
            || Refusal::new(Code::FailedPrecondition, "NOT_OPEN", "the first request must have `broker`");
        let first = first.await.map_err(|_| opens_nothing())??.ok_or_else(opens_nothing)?;
        let Some(Body::Broker(broker)) = first.request else { return Err(opens_nothing().into()) };
        let producer = producer(broker, peer.address.clone())?;
        let id = self.directory.identify(producer).map_err(Refusal::from)?;
        let registered = Registered { directory: Arc::clone(&self.directory), id };
        let mut ticks = interval(PING_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Response::new(RegistrationStream {
            registered,
            input,
            answers: 1,
            ticks,
            stream_end,
            ended: false,
        }))
    }

    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        self.admit(&request).await?;
        let name = topic_name(&request.get_ref().topic, "topic")?;
        let found = self.directory.lookup(&name, View::Existing).ok_or_else(|| {
            Refusal::from(Error::new(ErrorKind::NotFound, format!("nobody knows of topic {name}")))
        })?;
        let WatchResponse { brokers, channels } = answer(&found);
        Ok(Response::new(LookupResponse { brokers, channels }))
    }

    type WatchStream = LookupWatch;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<LookupWatch>, Status> {
        let stream_end = StreamEnd::of(&request, &self.stop);
        self.admit(&request).await?;
        let topic = topic_name(&request.get_ref().topic, "topic")?;
        let next = Box::pin(next_found(self.directory.watch(topic)));
        Ok(Response::new(LookupWatch { next, last_sent: None, stream_end, ended: false }))
    }
}

/// A broker in the registry. Dropping it takes it out.
struct Registered {
    directory: Arc<Directory>,
    id: ProducerId,
}

impl Registered {
    fn apply(&self, change: &RegisterChange) -> Result<(), Refusal> {
        for (at, registration) in change.add.iter().enumerate() {
            let (topic, channel) = names(registration, &format!("change.add[{at}]"))?;
            self.directory.register(self.id, &topic, channel.as_ref())?;
        }
        for (at, registration) in change.remove.iter().enumerate() {
            let (topic, channel) = names(registration, &format!("change.remove[{at}]"))?;
            self.directory.unregister(self.id, &topic, channel.as_ref());
        }
        Ok(())
    }
}

/// The names in the field `field`.
fn names(registration: &Registration, field: &str) -> Result<(TopicName, Option<ChannelName>), Refusal> {
    let topic = topic_name(&registration.topic, &format!("{field}.topic"))?;
    let channel = match registration.channel.as_str() {
        "" => None,
        name => Some(channel_name(name, &format!("{field}.channel"))?),
    };
    Ok((topic, channel))
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.directory.disconnect(self.id);
    }
}

/// The answers to the changes that a registered broker sends. The broker is registered as long as it lasts.
pub(crate) struct RegistrationStream {
    registered: Registered,
    input: Streaming<RegisterRequest>,
    /// Answers that are due.
    answers: usize,
    ticks: Interval,
    stream_end: StreamEnd,
    ended: bool,
}

impl RegistrationStream {
    /// The next request, done; `None` at the end.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<(), Status>>> {
        Pin::new(&mut self.input).poll_next(cx).map(|request| {
            Some(match request?.map(|request| request.request) {
                Ok(Some(Body::Broker(_))) => {
                    let text = "the stream is open: `broker` is for its first request";
                    Err(Refusal::new(Code::FailedPrecondition, "ALREADY_OPEN", text).into())
                }
                Ok(Some(Body::Change(change))) => self.registered.apply(&change).map_err(Status::from),
                // One that a later version has, or none: nothing is asked for.
                Ok(None) => Ok(()),
                Err(status) => Err(status),
            })
        })
    }
}

impl Stream for RegistrationStream {
    type Item = Result<RegisterResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let stream = &mut *self;
        if stream.ended {
            return Poll::Ready(None);
        }
        if stream.answers > 0 {
            stream.answers -= 1;
            return Poll::Ready(Some(Ok(RegisterResponse {})));
        }
        while stream.ticks.poll_tick(cx).is_ready() {
            stream.registered.directory.ping(stream.registered.id);
        }
        let polled = match stream.stream_end.poll(cx) {
            Poll::Ready(status) => Poll::Ready(Some(Err(status))),
            Poll::Pending => stream.poll_request(cx),
        };
        polled.map(|done| {
            stream.ended = !matches!(done, Some(Ok(())));
            done.map(|done| done.map(|()| RegisterResponse {}))
        })
    }
}

/// Waits for the next change of who has the topic.
async fn next_found(mut watch: Watch) -> (Watch, Found) {
    let found = watch.next().await;
    (watch, found.unwrap_or_default())
}

/// Reports who has a topic whenever that changes.
pub(crate) struct LookupWatch {
    /// The next change, and the watch to go on with.
    next: Pin<Box<dyn Future<Output = (Watch, Found)> + Send>>,
    /// The last answer: one that is equal to it is not sent.
    last_sent: Option<WatchResponse>,
    stream_end: StreamEnd,
    ended: bool,
}

impl Stream for LookupWatch {
    type Item = Result<WatchResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let watch = &mut *self;
        if watch.ended {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = watch.stream_end.poll(cx) {
            watch.ended = true;
            return Poll::Ready(Some(Err(status)));
        }
        loop {
            let (changes, found) = ready!(watch.next.as_mut().poll(cx));
            watch.next = Box::pin(next_found(changes));
            let answer = answer(&found);
            if watch.last_sent.as_ref() != Some(&answer) {
                watch.last_sent = Some(answer.clone());
                return Poll::Ready(Some(Ok(answer)));
            }
        }
    }
}

fn answer(found: &Found) -> WatchResponse {
    WatchResponse {
        brokers: found.producers.iter().map(|producer| info(producer)).collect(),
        channels: found.channels.iter().map(ToString::to_string).collect(),
    }
}

fn info(producer: &Producer) -> BrokerInfo {
    BrokerInfo {
        address: producer.broadcast_address.clone(),
        tcp_port: producer.tcp_port.into(),
        http_port: producer.http_port.into(),
        grpc_port: producer.grpc_port.into(),
        hostname: producer.hostname.clone(),
        version: producer.version.clone(),
        topology_region: producer.topology_region.clone(),
        topology_zone: producer.topology_zone.clone(),
    }
}

fn producer(broker: BrokerInfo, remote_address: String) -> Result<Producer, Refusal> {
    let missing = |field: &str| Refusal::invalid(format!("broker.{field}"), "it must be given");
    let port = |field: &str, port: u32| {
        u16::try_from(port)
            .map_err(|_| Refusal::invalid(format!("broker.{field}"), format!("{port} is not 0 to 65535")))
    };
    if broker.address.is_empty() {
        return Err(missing("address"));
    }
    let producer = Producer {
        remote_address,
        tcp_port: port("tcp_port", broker.tcp_port)?,
        http_port: port("http_port", broker.http_port)?,
        grpc_port: port("grpc_port", broker.grpc_port)?,
        hostname: broker.hostname,
        broadcast_address: broker.address,
        version: broker.version,
        topology_zone: broker.topology_zone,
        topology_region: broker.topology_region,
    };
    if producer.grpc_port == 0 && producer.tcp_port == 0 {
        return Err(missing("grpc_port"));
    }
    Ok(producer)
}
