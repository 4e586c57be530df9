//! Listens, and starts a task for each connection.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::connection::{Shared, serve};
use super::route::Api;
use crate::accept::{Acceptor, Excess, Place};
use crate::budget::Budget;
use crate::transport::tls::TlsConfig;
use crate::transport::{Address, Listener};

/// Limits that an HTTP server sets its peers.
#[derive(Clone, Debug)]
pub struct HttpLimits {
    /// Most connections at a time. One more is answered 503 and closed.
    pub connections_max: usize,
    /// Largest head of a request in bytes, at least 8 KiB; a connection has as much to read bodies into.
    pub head_bytes_max: usize,
    /// Longest time for a head, and longest idle time of a connection.
    pub head_timeout: Duration,
    /// Memory for bodies and answers. Where it is spent, bodies wait to be read.
    pub budget: Budget,
    /// Longest time for a body, its wait for memory included.
    pub body_timeout: Duration,
    /// Longest time for which a peer takes nothing of its answer.
    pub write_timeout: Duration,
    /// Longest time for requests under way to end once the server stops.
    pub shutdown_timeout: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            head_bytes_max: 64 * 1024,
            head_timeout: Duration::from_secs(60),
            budget: Budget::default(),
            body_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(30),
            shutdown_timeout: Duration::from_secs(5),
        }
    }
}

/// A server of HTTP/1, or of HTTPS.
pub struct HttpServer {
    listener: Arc<Listener>,
    address: Address,
    tls: Option<TlsConfig>,
    limits: HttpLimits,
}

impl HttpServer {
    /// Listens on `host:port` or the path of a unix socket. With `tls`, connections start with a handshake;
    /// files read again there count for those that come later.
    ///
    /// # Errors
    /// If the address is none, or taken.
    pub async fn bind(address: &str, tls: Option<TlsConfig>, limits: HttpLimits) -> io::Result<Self> {
        let listener = Arc::new(Listener::bind(address).await?);
        let address = listener.local_addr()?;
        Ok(Self { listener, address, tls, limits })
    }

    /// The address it listens at, with the port that the system chose for port 0.
    pub fn local_addr(&self) -> &Address {
        &self.address
    }

    /// The server's listener: its holder keeps the port after the server has ended.
    pub fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    /// Serves `api` until `shutdown`; then accepts no more, lets each request that was taken in be answered,
    /// and returns when all have been, or after the time there is for it.
    pub async fn run<A: Api>(self, api: Arc<A>, shutdown: impl Future<Output = ()>) {
        let acceptor = Acceptor::new("HTTP", self.limits.connections_max, self.excess());
        let patience = self.limits.shutdown_timeout;
        let shared = Arc::new(Shared { api, tls: self.tls, limits: self.limits });
        let (stop, stopped) = watch::channel(false);
        let start = |transport, peer, place| {
            let serving = serve(Arc::clone(&shared), transport, peer, stopped.clone());
            async move {
                let _place: Place = place;
                serving.await;
            }
        };
        let connections = acceptor.run(&self.listener, shutdown, start).await;
        drop(self.listener);
        let _ = stop.send(true);
        connections.drain(patience).await;
    }

    /// The answer to a client that is one too many. In the midst of a handshake there is none.
    fn excess(&self) -> Excess {
        const ANSWER: &[u8] =
            b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
        Excess::Refused(if self.tls.is_none() { ANSWER.to_vec() } else { Vec::new() })
    }
}
