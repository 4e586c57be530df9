//! Listens on both ports.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{interval, timeout};

use super::api::LookupApi;
use super::config::LookupConfig;
use super::session::{Shared, serve};
use crate::wire::error::{Code, WireError};
use crate::wire::lookup::{Identity, put_error};
use mq_net::accept::{Acceptor, Excess, Place};
use mq_net::budget::Budget;
use mq_net::directory::Directory;
use mq_net::http::{HostNames, HttpServer, LocalApi, LocalHttp, Site};
use mq_net::transport::{Address, Listener};

/// Interval at which expired entries are removed. Answers leave them out at once.
const EXPIRE_INTERVAL: Duration = Duration::from_secs(10);

/// A lookup server.
pub struct Lookupd {
    listener: Listener,
    address: Address,
    http: HttpServer,
    config: LookupConfig,
    directory: Arc<Directory>,
    api: Arc<LookupApi>,
}

impl Lookupd {
    /// Listens where `config` says. Connections wait until [`Lookupd::run`].
    ///
    /// # Errors
    /// If an address is none, or taken: its setting and why.
    pub async fn bind(config: LookupConfig) -> Result<Self, (&'static str, io::Error)> {
        let tcp = |error| ("tcp-address", error);
        let listener = Listener::bind(&config.tcp_address).await.map_err(tcp)?;
        let address = listener.local_addr().map_err(tcp)?;
        let http = HttpServer::bind(&config.http_address, None, config.http.clone());
        let http = http.await.map_err(|error| ("http-address", error))?;
        let directory = Arc::new(Directory::new(config.settings()));
        let own = [&config.hostname, &config.broadcast_address];
        let hosts = own.into_iter().chain(&config.http_allowed_hosts).map(String::as_str);
        let hosts = HostNames::new(hosts);
        let api = Arc::new(LookupApi::new(Arc::clone(&directory), config.version.clone(), hosts));
        Ok(Self { listener, address, http, config, directory, api })
    }

    /// Address at which brokers register, with the port that the system chose if it was asked to.
    pub fn tcp_address(&self) -> &Address {
        &self.address
    }

    /// Address of HTTP.
    pub fn http_address(&self) -> &Address {
        self.http.local_addr()
    }

    /// The memory for what is held for its clients.
    pub fn budget(&self) -> Budget {
        self.config.http.budget.clone()
    }

    /// Its HTTP API, for who is in this process. The handle may outlive the server.
    pub fn local_http(&self) -> Arc<dyn LocalHttp> {
        Arc::new(LocalApi::new(&self.api, self.budget()))
    }

    /// Serves `pages` beside its HTTP API. There is one site at most: the first counts.
    pub fn add_pages(&self, pages: Arc<dyn Site>) {
        self.api.add_pages(pages);
    }

    /// The registry.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }

    /// Serves until `shutdown`; then closes the brokers' connections and lets HTTP requests that were taken
    /// in be answered.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let identity = Identity {
            broadcast_address: self.config.broadcast_address.clone(),
            hostname: self.config.hostname.clone(),
            http_port: port(self.http.local_addr()),
            tcp_port: port(&self.address),
            version: self.config.version.clone(),
        };
        let shared = Shared {
            directory: Arc::clone(&self.directory),
            identity: identity.to_json(),
            idle_timeout: self.config.idle_timeout(),
            budget: self.budget(),
        };
        let (stop, stopped) = watch::channel(false);
        let until_stopped = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        tokio::join!(
            async {
                shutdown.await;
                let _ = stop.send(true);
            },
            self.http.run(self.api, until_stopped(stopped.clone())),
            accept(self.listener, Arc::new(shared), &self.config, until_stopped(stopped.clone())),
            expire(&self.directory, until_stopped(stopped)),
        );
    }
}

async fn accept(
    listener: Listener,
    shared: Arc<Shared>,
    config: &LookupConfig,
    stop: impl Future<Output = ()>,
) {
    let limit = config.max_connections;
    let error = WireError::new(Code::Invalid, format!("connections exceed limit of {limit}"));
    let mut reason = Vec::new();
    put_error(&mut reason, &error);
    let acceptor = Acceptor::new("lookup", limit, Excess::Refused(reason));
    let start = |transport, peer, place| {
        let serving = serve(Arc::clone(&shared), transport, peer);
        async move {
            let _place: Place = place;
            serving.await;
        }
    };
    let sessions = acceptor.run(&listener, stop, start).await;
    drop(listener);
    // A session has nothing to finish: brokers register again wherever they connect next.
    let _ = timeout(config.shutdown_timeout, sessions.cut()).await;
}

async fn expire(directory: &Directory, stop: impl Future<Output = ()>) {
    let mut stop = pin!(stop);
    let mut ticks = interval(EXPIRE_INTERVAL);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => directory.expire(),
        }
    }
}

/// The port of an address; 0 for a unix socket.
fn port(address: &Address) -> u16 {
    match address {
        Address::Tcp(address) => address.port(),
        Address::Unix(_) => 0,
    }
}
