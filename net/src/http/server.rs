//! Listens, and starts a task for each connection.

use std::future::Future;
use std::io::{self, Write};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::{Shared, serve};
use super::route::Api;
use crate::budget::Budget;
use crate::transport::tls::TlsConfig;
use crate::transport::{Address, Listener, Socket, Transport};

/// Pause after a failed accept: most often the process is out of file descriptors.
const ACCEPT_PAUSE_MIN: Duration = Duration::from_millis(5);
const ACCEPT_PAUSE_MAX: Duration = Duration::from_secs(1);

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

    /// Its listener: whoever holds it keeps the port after the server has ended.
    pub fn listener(&self) -> Arc<Listener> {
        Arc::clone(&self.listener)
    }

    /// Serves `api` until `shutdown`; then accepts no more, lets each request that was taken in be answered,
    /// and returns when all have been, or after the time there is for it.
    pub async fn run<A: Api>(self, api: Arc<A>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = pin!(shutdown);
        let connections_max = self.limits.connections_max;
        let deadline = self.limits.shutdown_timeout;
        let shared = Arc::new(Shared { api, tls: self.tls, limits: self.limits });
        let (stop, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut pause = ACCEPT_PAUSE_MIN;
        loop {
            let accepted = tokio::select! {
                () = &mut shutdown => break,
                Some(_) = connections.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok((transport, peer)) => {
                    pause = ACCEPT_PAUSE_MIN;
                    if connections.len() < connections_max {
                        connections.spawn(serve(Arc::clone(&shared), transport, peer, stopped.clone()));
                    } else {
                        tracing::warn!(
                            peer,
                            limit = connections_max,
                            "HTTP connection refused: limit reached"
                        );
                        if shared.tls.is_none() {
                            refuse(transport);
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, ?pause, "accept failed");
                    tokio::select! {
                        () = &mut shutdown => break,
                        () = sleep(pause) => {}
                    }
                    pause = (pause * 2).min(ACCEPT_PAUSE_MAX);
                }
            }
        }
        let deadline = Instant::now() + deadline;
        drop(self.listener);
        let _ = stop.send(true);
        let ended = timeout_at(deadline, async { while connections.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!(connections = connections.len(), "HTTP requests cut off");
            connections.shutdown().await;
        }
    }
}

/// Answers a client that is one too many, without waiting for its request.
fn refuse(transport: Transport) {
    const ANSWER: &[u8] =
        b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    // The socket is new, so there is room; if there is not, the close says enough.
    let _ = match transport {
        Transport::Plain(Socket::Tcp(stream)) => {
            stream.into_std().and_then(|mut stream| stream.write(ANSWER))
        }
        Transport::Plain(Socket::Unix(stream)) => {
            stream.into_std().and_then(|mut stream| stream.write(ANSWER))
        }
        _ => Ok(0),
    };
}
