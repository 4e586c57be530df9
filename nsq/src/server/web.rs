//! The HTTP API beside the TCP protocol: where it is served, over HTTP and HTTPS.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use mq_net::access::{Access, AuthServers, HttpTokens};
use mq_net::clients::Clients;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::history::record;
use super::http::{Endpoints, Parts, Ports};
use super::session::Shared;
use super::stats::StatsCollector;
use super::statsd;
use mq_net::http::{HttpLimits, HttpServer, LocalApi, LocalHttp, Site};
use mq_net::transport::tls::TlsRequired;
use mq_net::transport::{Address, Listener};

/// A server's HTTP sockets, and what answers there.
pub(super) struct Web {
    http: Option<HttpServer>,
    https: Option<HttpServer>,
    tokens: Option<HttpTokens>,
    access: Arc<Access>,
    endpoints: Arc<Endpoints>,
}

/// Reason why HTTP can't be served: the source of the [`io::Error`] of [`Server::bind`](super::Server::bind).
#[derive(Debug)]
pub struct WebError {
    /// The setting that is wrong, as nsqd's flag is called: `http-address`, `https-address`,
    /// `http-auth-token-file`.
    pub flag: &'static str,
    /// The setting's value.
    pub value: String,
    /// The error of that address.
    pub source: io::Error,
}

impl fmt::Display for WebError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.flag, self.value, self.source)
    }
}

impl std::error::Error for WebError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn wrong(flag: &'static str, value: impl fmt::Display, source: io::Error) -> io::Error {
    io::Error::new(source.kind(), WebError { flag, value: value.to_string(), source })
}

impl Web {
    /// Listens where the configuration says, beside `tcp`.
    pub(super) async fn bind(shared: &Arc<Shared>, clients: Clients, tcp: &Address) -> io::Result<Self> {
        let config = &shared.config;
        let tokens = match &config.http_auth_token_file {
            Some(path) => {
                let tokens = HttpTokens::load(path);
                Some(tokens.map_err(|error| wrong("http-auth-token-file", path.display(), error))?)
            }
            None => None,
        };
        let limits = HttpLimits {
            shutdown_timeout: config.shutdown_timeout,
            budget: config.budget.clone(),
            ..HttpLimits::default()
        };
        let mut http = None;
        if let Some(address) = &config.http_address {
            let bound = HttpServer::bind(address, None, limits.clone()).await;
            http = Some(bound.map_err(|error| wrong("http-address", address, error))?);
        }
        let mut https = None;
        if let (Some(address), Some(tls)) = (&config.https_address, &shared.tls) {
            let bound = HttpServer::bind(address, Some(tls.clone()), limits).await;
            https = Some(bound.map_err(|error| wrong("https-address", address, error))?);
        }
        let port =
            |server: &Option<HttpServer>| server.as_ref().map_or(0, |server| port(server.local_addr()));
        let mut percentiles = config.latency_percentiles.clone();
        percentiles.sort_by(|a, b| b.total_cmp(a));
        if !percentiles.is_empty() {
            shared.broker.measure_latency(Some(config.latency_window));
        }
        let required = config.tls.as_ref().map(|tls| tls.effective_required());
        let auth = shared.auth.clone().map(|auth| auth as Arc<dyn AuthServers>);
        let access = Arc::new(Access::new(tokens.clone(), auth));
        let endpoints = Arc::new(Endpoints::new(Parts {
            collector: StatsCollector {
                broker: shared.broker.clone(),
                clients,
                version: config.version.clone(),
                started: SystemTime::now(),
                percentiles: percentiles.into(),
            },
            ports: Ports { tcp: self::port(tcp), http: port(&http), https: port(&https) },
            access: Arc::clone(&access),
            tls_required: required == Some(TlsRequired::True),
            shared: Arc::clone(shared),
        }));
        Ok(Self { http, https, tokens, access, endpoints })
    }

    /// Address of HTTP, if it is served.
    pub(super) fn http_addr(&self) -> Option<&Address> {
        self.http.as_ref().map(HttpServer::local_addr)
    }

    /// Address of HTTPS, if it is served.
    pub(super) fn https_addr(&self) -> Option<&Address> {
        self.https.as_ref().map(HttpServer::local_addr)
    }

    /// Listeners for HTTP and HTTPS.
    pub(super) fn listeners(&self) -> Vec<Arc<Listener>> {
        [&self.http, &self.https].into_iter().flatten().map(HttpServer::listener).collect()
    }

    /// The API, for who is in this process.
    pub(super) fn local(&self) -> Arc<dyn LocalHttp> {
        let budget = self.endpoints.shared.config.budget.clone();
        Arc::new(LocalApi::new(&self.endpoints, budget))
    }

    /// Serves `pages` beside the API.
    pub(super) fn add_pages(&self, pages: Arc<dyn Site>) {
        // There is one site at most.
        let _ = self.endpoints.pages.set(pages);
    }

    pub(super) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    pub(super) fn tokens(&self) -> Option<HttpTokens> {
        self.tokens.clone()
    }

    /// Serves, and pushes statistics, until `stop` is true.
    pub(super) fn start(&mut self, stop: &watch::Receiver<bool>) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let config = &self.endpoints.shared.config;
        if let Some(statsd) = &config.statsd {
            let port = match config.broadcast_http_port {
                0 => self.endpoints.ports.http.max(0),
                port => port.into(),
            };
            let prefix = statsd::prefix(&statsd.prefix, &config.broadcast_address, port);
            let collector = self.endpoints.collector.clone();
            tasks.spawn(statsd::push(collector, statsd.clone(), prefix, stop.clone()));
        }
        let history = Arc::clone(&self.endpoints.history);
        tasks.spawn(record(history, self.endpoints.broker.clone(), stop.clone()));
        for server in self.http.take().into_iter().chain(self.https.take()) {
            let mut stop = stop.clone();
            tasks.spawn(server.run(Arc::clone(&self.endpoints), async move {
                // It ends with the server, too.
                let _ = stop.wait_for(|stop| *stop).await;
            }));
        }
        tasks
    }
}

fn port(address: &Address) -> i32 {
    match address {
        Address::Tcp(address) => address.port().into(),
        Address::Unix(_) => -1,
    }
}
