//! Listens, and starts a session for each connection.

use std::future::Future;
use std::io;
use std::sync::Arc;

use mq_core::Broker;
use mq_net::accept::{Acceptor, Excess, Place};
use mq_net::access::{Access, HttpTokens};
use mq_net::budget::Budget;
use mq_net::clients::Clients;
use mq_net::http::{LocalHttp, Site};
use mq_net::transport::tls::{TlsConfig, TlsRequired};
use mq_net::transport::{Address, Listener, Transport};
use tokio::sync::watch;

use super::auth::AuthClient;
use super::config::Config;
use super::group_commit::CommitTurns;
use super::session::{Session, Shared};
use super::web::Web;
use crate::wire::error::{Code, WireError};
use crate::wire::frame::put_error;

/// NSQ's protocol, as statistics show it.
pub(super) const PROTOCOL: &str = "V2";

/// A server of NSQ's TCP protocol.
pub struct Server {
    listener: Listener,
    address: Address,
    shared: Arc<Shared>,
    clients: Clients,
    web: Web,
}

impl Server {
    /// Listens where `config` says. Connections wait until [`Server::run`].
    ///
    /// # Errors
    /// If the address is none, or taken; or what auth servers need is not right; or the files of TLS are not:
    /// then the error's source is a [`TlsError`](super::TlsError). If HTTP can't be served, it is a
    /// [`WebError`](super::WebError).
    pub async fn bind(config: Config, broker: Broker) -> io::Result<Self> {
        let tls = config.tls.clone().map(TlsConfig::load).transpose()?;
        let required = config.tls.as_ref().map_or(TlsRequired::False, |tls| tls.effective_required());
        let tls_required = required != TlsRequired::False;
        let auth = AuthClient::new(&config)?;
        let listener = Listener::bind(&config.tcp_address).await?;
        let address = listener.local_addr()?;
        let (limits, bounds) = (config.limits(), config.bounds());
        let publishing = Arc::default();
        let shared = Arc::new(Shared {
            broker,
            config,
            limits,
            bounds,
            tls,
            tls_required,
            auth,
            publishing,
            turns: CommitTurns::default(),
        });
        let clients = Clients::default();
        let web = Web::bind(&shared, clients.clone(), &address).await?;
        Ok(Self { listener, address, shared, clients, web })
    }

    /// Address of NSQ's TCP protocol, with the port that the system chose if it was asked to.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// Address of HTTP, if it is served.
    pub fn http_addr(&self) -> Option<&Address> {
        self.web.http_addr()
    }

    /// Address of HTTPS, if it is served.
    pub fn https_addr(&self) -> Option<&Address> {
        self.web.https_addr()
    }

    /// The listeners of HTTP and HTTPS: whoever holds them keeps the ports after the server has ended.
    pub fn http_listeners(&self) -> Vec<Arc<Listener>> {
        self.web.listeners()
    }

    /// The tokens of its HTTP API, to read them again. The handle may outlive the server.
    pub fn http_tokens(&self) -> Option<HttpTokens> {
        self.web.tokens()
    }

    /// Rights of the HTTP API, and of whatever else asks for the same secrets. The handle may outlive the
    /// server.
    pub fn access(&self) -> Arc<Access> {
        self.web.access()
    }

    /// Its HTTP API, for who is in this process. The handle may outlive the server.
    pub fn local_http(&self) -> Arc<dyn LocalHttp> {
        self.web.local()
    }

    /// Serves `pages` beside its HTTP API. There is one site at most: the first counts.
    pub fn add_pages(&self, pages: Arc<dyn Site>) {
        self.web.add_pages(pages);
    }

    /// Its connections. The handle may outlive the server.
    pub fn clients(&self) -> Clients {
        self.clients.clone()
    }

    /// The memory for what is held for its clients, for whatever else has clients in this process.
    pub fn budget(&self) -> Budget {
        self.shared.config.budget.clone()
    }

    /// Its TLS, to read the files again. The handle may outlive the server.
    pub fn tls(&self) -> Option<TlsConfig> {
        self.shared.tls.clone()
    }

    /// Serves until `shutdown`; then accepts no more, lets each session answer what it has taken in, and
    /// returns when all have ended, or after the time the configuration gives them.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) {
        let (stop, stopped) = watch::channel(false);
        let mut web = self.web.start(&stopped);
        let acceptor = Acceptor::new("NSQ", self.shared.config.max_connections, self.excess());
        let start = |transport, peer, place| self.session(transport, peer, place);
        let sessions = acceptor.run(&self.listener, shutdown, start).await;
        drop(self.listener);
        let _ = stop.send(true);
        for client in self.clients.list() {
            client.signal().stop();
        }
        sessions.drain(self.shared.config.shutdown_timeout).await;
        // It has a deadline of its own, as long as this one.
        while web.join_next().await.is_some() {}
    }

    /// A session over a new connection.
    fn session(&self, transport: Transport, peer: String, place: Place) -> impl Future<Output = ()> + use<> {
        let listed = self.clients.register(PROTOCOL, peer);
        let client = listed.client();
        tracing::debug!(client = client.id, peer = client.remote_address, "connection accepted");
        let session = Session::new(Arc::clone(&self.shared), Arc::clone(client), transport);
        async move {
            let _listed = listed;
            // Dropped before it: whoever sees that the client is gone finds its place free.
            let _place = place;
            session.run().await;
        }
    }

    /// The error for a client that is one too many, as a guess at its protocol: it has sent nothing yet.
    fn excess(&self) -> Excess {
        let limit = self.shared.config.max_connections;
        let error = WireError::new(Code::Invalid, format!("connections exceed limit of {limit}"));
        let mut frame = Vec::new();
        put_error(&mut frame, &error);
        Excess::Refused(frame)
    }
}
