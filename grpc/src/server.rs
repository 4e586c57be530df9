//! Listens, shakes hands, and serves.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use mq_core::Broker;
use mq_net::accept::{self, Acceptor, Excess};
use mq_net::access::Access;
use mq_net::clients::Clients;
use mq_net::directory::Directory;
use mq_net::http::{HostNames, Peer};
use mq_net::transport::tls::TlsConfig;
use mq_net::transport::{Address, Listener};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_web::GrpcWebLayer;
use tower::layer::layer_fn;

use crate::call::Calls;
use crate::config::{Config, REQUEST_BYTES};
use crate::connection::Connection;
use crate::guarded::Guarded;
use crate::health;
use crate::input_budget::InputBudget;
use crate::link::Link;
use crate::service::{AdminHandler, Core, DiscoveryHandler, Leases, PublishHandler, SubscribeHandler};
use crate::v1::DESCRIPTORS;
use crate::v1::admin_service_server::AdminServiceServer;
use crate::v1::discovery_service_server::DiscoveryServiceServer;
use crate::v1::publish_service_server::PublishServiceServer;
use crate::v1::subscribe_service_server::SubscribeServiceServer;
use crate::web::WebCalls;

/// Connections whose handshake is done and that wait to be served.
const ACCEPTED_MAX: usize = 64;

/// Bytes that a peer may have sent on a stream, and on a connection, before they are read. They are not
/// counted: this is the bound.
const STREAM_WINDOW: u32 = 512 << 10;
const CONNECTION_WINDOW: u32 = 1 << 20;

/// Streams that HTTP/2 allows beyond twice as many as there may be: so that one too many is refused with a
/// reason, where a client that knew the limit would wait to its deadline.
const STREAMS_SPARE: u32 = 64;

/// Bytes of a DATA frame.
const FRAME_BYTES: u32 = 64 << 10;

/// The services of a server, and the rights of its callers.
#[derive(Default)]
pub struct Parts {
    /// A broker: publishing, consuming and administering.
    pub broker: Option<Broker>,
    /// The directory that brokers register in: discovery.
    pub directory: Option<Arc<Directory>>,
    /// Rights of callers; `None`: everybody may do everything.
    pub access: Option<Arc<Access>>,
    /// The list of clients, which consumers are on while they last.
    pub clients: Clients,
    /// Names by which pages in a browser on this machine may reach the server, where it asks for no secret.
    pub hosts: HostNames,
    /// TLS settings; with them the server accepts nothing else.
    pub tls: Option<TlsConfig>,
}

/// A server of libmq's gRPC services.
pub struct Server {
    listener: Listener,
    address: Address,
    config: Config,
    parts: Parts,
}

impl Server {
    /// Listens where `config` says. Connections wait until [`Server::run`].
    ///
    /// # Errors
    /// If the address is none, or taken.
    pub async fn bind(config: Config, parts: Parts) -> io::Result<Self> {
        let listener = Listener::bind(&config.address).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address, config, parts })
    }

    /// The address it listens at, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// Serves discovery too.
    pub fn add_directory(&mut self, directory: Arc<Directory>) {
        self.parts.directory = Some(directory);
    }

    /// Serves until `shutdown`; then accepts no more, ends streams, lets calls be answered, and returns when
    /// all have ended, or after the time the configuration gives them.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let Self { listener, address: _, config, parts } = self;
        let stop = CancellationToken::new();
        let (tls, access) = (parts.tls.clone(), parts.access.clone());
        let hosts =
            access.as_ref().is_none_or(|access| access.is_open()).then(|| Arc::new(parts.hosts.clone()));
        let input = InputBudget::new(config.budget.clone(), config.request_bytes());
        let (routes, following) = routes(&config, parts, &input, &stop);
        let (accepted, connections) = mpsc::channel::<io::Result<Connection>>(ACCEPTED_MAX);
        let mut server = tonic::transport::Server::builder()
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_frame_size(FRAME_BYTES)
            .max_concurrent_streams(config.max_streams.saturating_mul(2).saturating_add(STREAMS_SPARE))
            .http2_keepalive_interval(Some(config.keepalive_interval))
            .http2_keepalive_timeout(Some(config.keepalive_timeout))
            // For gRPC-Web, which is refused on HTTP/1 with any other content type.
            .accept_http1(true)
            .layer(layer_fn(move |calls| WebCalls::new(calls, hosts.clone())))
            .layer(GrpcWebLayer::new())
            .layer(layer_fn(move |routes| Calls::new(routes, input.clone(), access.clone())));
        let serving = server
            .add_routes(routes)
            .serve_with_incoming_shutdown(ReceiverStream::new(connections), stop.clone().cancelled_owned());
        let mut serving = pin!(serving);
        let accepting = tokio::spawn(take_in(listener, tls, config.clone(), accepted, stop.clone()));
        // Polled once before anybody can ask: the first health is there without a wait.
        let mut following = Box::pin(following);
        let _ = poll_fn(|cx| Poll::Ready(following.as_mut().poll(cx))).await;
        let following = tokio::spawn(following);
        let ended = tokio::select! {
            () = shutdown => None,
            ended = &mut serving => Some(ended),
        };
        stop.cancel();
        match ended {
            Some(Err(error)) => tracing::error!(%error, "gRPC is not served any more"),
            Some(Ok(())) => {}
            None if timeout(config.shutdown_timeout, serving).await.is_err() => {
                tracing::warn!("gRPC connections cut off");
            }
            None => {}
        }
        let _ = tokio::join!(accepting, following);
    }
}

/// The services, and the task that keeps their health.
fn routes(
    config: &Config,
    parts: Parts,
    input: &InputBudget,
    stop: &CancellationToken,
) -> (Routes, impl Future<Output = ()> + Send + use<>) {
    let Parts { broker, directory, access, clients, hosts: _, tls: _ } = parts;
    let (reporter, health) = tonic_health::server::health_reporter();
    let mut routes = Routes::new(health);
    let mut names = Vec::new();
    if let Some(broker) = broker.clone() {
        let core = Arc::new(Core {
            started: broker.wall().0,
            leases: Leases::default(),
            broker,
            config: config.clone(),
            access: access.clone(),
            clients,
            input: input.clone(),
            stop: stop.clone(),
        });
        let limit = config.request_bytes();
        let publish =
            PublishServiceServer::new(PublishHandler(Arc::clone(&core))).max_decoding_message_size(limit);
        let publish = publish.accept_compressed(CompressionEncoding::Gzip);
        let subscribe = SubscribeServiceServer::new(SubscribeHandler(Arc::clone(&core)));
        let subscribe = subscribe.max_decoding_message_size(REQUEST_BYTES);
        let subscribe = subscribe.accept_compressed(CompressionEncoding::Gzip);
        let admin = AdminServiceServer::new(AdminHandler(core)).max_decoding_message_size(REQUEST_BYTES);
        let admin = admin.accept_compressed(CompressionEncoding::Gzip);
        names.extend([name(&publish), name(&subscribe), name(&admin)]);
        routes = routes.add_service(publish).add_service(subscribe).add_service(admin);
    }
    if let Some(directory) = directory {
        let handler = DiscoveryHandler { directory, access: access.clone(), stop: stop.clone() };
        let discovery = DiscoveryServiceServer::new(handler).max_decoding_message_size(REQUEST_BYTES);
        let discovery = discovery.accept_compressed(CompressionEncoding::Gzip);
        names.push(name(&discovery));
        routes = routes.add_service(discovery);
    }
    let following = health::follow(reporter, broker, names, stop.clone());
    (reflection(routes, access), following)
}

fn name<S: NamedService>(_: &S) -> &'static str {
    S::NAME
}

/// Adds reflection, as new and as old clients ask for it, for those who may use the services.
fn reflection(routes: Routes, access: Option<Arc<Access>>) -> Routes {
    let builder = || {
        let descriptors =
            [DESCRIPTORS, tonic_health::pb::FILE_DESCRIPTOR_SET, tonic_types::pb::FILE_DESCRIPTOR_SET];
        descriptors.iter().fold(tonic_reflection::server::Builder::configure(), |builder, set| {
            builder.register_encoded_file_descriptor_set(set)
        })
    };
    match (builder().build_v1(), builder().build_v1alpha()) {
        (Ok(v1), Ok(v1alpha)) => {
            let old = Guarded::new(v1alpha, access.clone());
            routes.add_service(Guarded::new(v1, access)).add_service(old)
        }
        (Err(error), _) | (_, Err(error)) => {
            // The descriptors are part of the program: its tests find out.
            tracing::error!(%error, "no reflection");
            routes
        }
    }
}

/// Accepts until `stop`; handshakes go on side by side.
async fn take_in(
    listener: Listener,
    tls: Option<TlsConfig>,
    config: Config,
    accepted: mpsc::Sender<io::Result<Connection>>,
    stop: CancellationToken,
) {
    let acceptor = Acceptor::new("gRPC", config.max_connections, Excess::Waits);
    // The same patience as with a connection that has begun and falls silent.
    let patience = config.keepalive_interval + config.keepalive_timeout;
    let streams_max = usize::try_from(config.max_streams).unwrap_or(usize::MAX);
    let start = |transport, peer: String, place| {
        let (tls, accepted, budget) = (tls.clone(), accepted.clone(), config.budget.clone());
        async move {
            let transport = match tls {
                Some(tls) => {
                    let handshake = tls.accept_http(transport, &budget);
                    let Some(transport) = accept::handshake("gRPC", &peer, handshake).await else { return };
                    transport
                }
                None => transport,
            };
            let link = Link::new(Peer::new(peer, &transport), &budget, streams_max);
            // Nobody takes it any more when the server stops.
            let _ = accepted.send(Ok(Connection::new(transport, link, patience, place))).await;
        }
    };
    // Handshakes end with the server.
    drop(acceptor.run(&listener, stop.cancelled(), start).await);
}
