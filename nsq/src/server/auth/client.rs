//! Asks the auth servers: one request, one connection, since answers are kept for their time to live.
//!
//! hyper's bare connection is all it takes: with tokio and rustls here already, and hyper needed for HTTP
//! anyway, a whole client would add pools, redirects and proxies that nothing here uses.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::Request;
use mq_net::access::{self, Asker, AuthServers, Denied, Granting};
use mq_net::http::exchange;
use mq_net::transport::tls::http_connector;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::endpoint::{AuthMethod, Endpoint};
use super::pattern::Patterns;
use super::permissions::Grant;
use crate::server::config::Config;

/// Largest answer. Permissions of thousands of topics fit.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// Largest secret: what HTTP servers take in a URL, and little enough for each of many connections to hold.
pub(in crate::server) const SECRET_BYTES_MAX: usize = 16 * 1024;

/// Questions under way at a time. Others wait: each has a socket and up to an answer's memory.
const QUERIES_MAX: usize = 256;

/// The auth servers of a broker.
pub(in crate::server) struct AuthClient {
    endpoints: Vec<Endpoint>,
    method: AuthMethod,
    connect_timeout: Duration,
    request_timeout: Duration,
    /// TLS, for servers that are asked over it; `None` if there is no such server.
    tls: Option<TlsConnector>,
    patterns: Arc<Patterns>,
    queries: Semaphore,
}

/// Reason for a missing answer, for the log alone: clients do not get it. Never holds a secret.
#[derive(Debug)]
pub(in crate::server) struct Failure(String);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AuthClient {
    /// The client that `config` asks for; `None` if it names no server.
    ///
    /// # Errors
    /// If an address is none, or the root certificates can't be read.
    pub(in crate::server) fn new(config: &Config) -> io::Result<Option<Arc<Self>>> {
        if config.auth_http_addresses.is_empty() {
            return Ok(None);
        }
        let endpoints = config
            .auth_http_addresses
            .iter()
            .map(|address| Endpoint::parse(address))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let tls = match endpoints.iter().any(|endpoint| endpoint.tls) {
            true => Some(http_connector(config.tls_root_ca_file.as_deref(), config.tls_min_version)?),
            false => None,
        };
        Ok(Some(Arc::new(Self {
            endpoints,
            method: config.auth_http_request_method,
            connect_timeout: config.http_client_connect_timeout,
            request_timeout: config.http_client_request_timeout,
            tls,
            patterns: Arc::default(),
            queries: Semaphore::new(QUERIES_MAX),
        })))
    }

    /// Asks the servers in turn, beginning with any of them, and returns the first valid answer.
    pub(in crate::server) async fn query(&self, asker: &Asker) -> Result<Grant, Failure> {
        if asker.secret.expose().len() > SECRET_BYTES_MAX {
            return Err(Failure(format!("the secret is longer than {SECRET_BYTES_MAX} bytes")));
        }
        // Never closed.
        let _permit = self.queries.acquire().await;
        let mut failures = String::new();
        let (last, first) = self.endpoints.split_at(fastrand::usize(..self.endpoints.len()));
        for endpoint in first.iter().chain(last) {
            match self.ask(endpoint, asker).await {
                Ok(grant) => return Ok(grant),
                Err(error) => {
                    let separator = if failures.is_empty() { "" } else { "; " };
                    failures.push_str(&format!("{separator}{endpoint}: {error}"));
                }
            }
        }
        Err(Failure(failures))
    }

    async fn ask(&self, endpoint: &Endpoint, asker: &Asker) -> Result<Grant, String> {
        let request = endpoint.request(self.method, asker).map_err(|error| error.to_string())?;
        let answer = timeout(self.request_timeout, self.send(endpoint, request))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {:?}", self.request_timeout)))?;
        // Expressions take their time to compile.
        let patterns = Arc::clone(&self.patterns);
        tokio::task::spawn_blocking(move || Grant::parse(&answer, &patterns))
            .await
            .map_err(|error| error.to_string())?
            .map_err(|error| error.to_string())
    }

    async fn send(&self, endpoint: &Endpoint, request: Request<String>) -> Result<Vec<u8>, String> {
        let stream = timeout(self.connect_timeout, TcpStream::connect((&*endpoint.host, endpoint.port)))
            .await
            .map_err(|_| format!("no connection within {:?}", self.connect_timeout))?
            .map_err(|error| format!("no connection: {error}"))?;
        match &self.tls {
            Some(tls) if endpoint.tls => {
                let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| error.to_string())?;
                let stream = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
                exchange(stream, request, ANSWER_BYTES_MAX).await
            }
            _ => exchange(stream, request, ANSWER_BYTES_MAX).await,
        }
    }
}

impl AuthServers for AuthClient {
    fn grant(&self, asker: Asker) -> Granting<'_> {
        Box::pin(async move {
            let grant = self.query(&asker).await.map_err(|failure| {
                tracing::warn!(remote_ip = asker.remote_ip, %failure, "AUTH failed");
                Denied::Unauthorized
            })?;
            match grant.authorized.permission_count {
                0 => Err(Denied::Forbidden),
                _ => Ok(access::Grant {
                    ttl: grant.ttl,
                    identity: grant.authorized.identity,
                    permissions: Arc::new(grant.permissions),
                }),
            }
        })
    }
}

impl fmt::Debug for AuthClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.endpoints.iter().map(ToString::to_string)).finish()
    }
}
