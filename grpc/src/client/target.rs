//! Servers to connect to.

use std::time::Duration;

use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tonic::{Request, Status};

use super::Error;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Asked after this long without a sign of life; gone after as long again.
const KEEPALIVE: Duration = Duration::from_secs(20);
/// Bytes that may be on their way to the client, on a stream and on a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// A server: its address, and what is shown to it.
#[derive(Clone)]
pub struct Target {
    address: String,
    endpoint: Endpoint,
    token: Option<MetadataValue<Ascii>>,
    tls: Option<ClientTlsConfig>,
}

impl Target {
    /// A server at `host:port`.
    ///
    /// # Errors
    /// `Address`.
    pub fn new(address: &str) -> Result<Self, Error> {
        Ok(Self { endpoint: endpoint("http", address)?, address: address.to_owned(), token: None, tls: None })
    }

    /// The same over TLS.
    ///
    /// # Errors
    /// `Address` if a certificate or key of `tls` is none.
    pub fn with_tls(mut self, tls: ClientTlsConfig) -> Result<Self, Error> {
        let endpoint = endpoint("https", &self.address)?.tls_config(tls.clone());
        self.endpoint = endpoint.map_err(|error| Error::Address(format!("{}: {error}", self.address)))?;
        self.tls = Some(tls);
        Ok(self)
    }

    /// Shows `token` with each call. Without TLS it can be read on its way.
    ///
    /// # Errors
    /// `Address` if it can't stand in a header.
    pub fn with_token(mut self, token: &str) -> Result<Self, Error> {
        let value = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
        let mut value = value.map_err(|_| Error::Address("the token can't stand in a header".to_owned()))?;
        value.set_sensitive(true);
        self.token = Some(value);
        Ok(self)
    }

    /// Another server that is shown the same.
    pub(super) fn at(&self, address: &str) -> Result<Self, Error> {
        let mut target = Self::new(address)?;
        if let Some(tls) = &self.tls {
            target = target.with_tls(tls.clone())?;
        }
        target.token.clone_from(&self.token);
        Ok(target)
    }

    /// Its address.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) async fn connect(&self) -> Result<Connected, Error> {
        let channel = self.endpoint.connect().await;
        let channel = channel.map_err(|error| Error::Unreachable(format!("{}: {error}", self.address)))?;
        Ok(Connected { channel, token: self.token.clone() })
    }
}

fn endpoint(scheme: &str, address: &str) -> Result<Endpoint, Error> {
    let endpoint = Endpoint::from_shared(format!("{scheme}://{address}"));
    let endpoint = endpoint.map_err(|error| Error::Address(format!("{address}: {error}")))?;
    Ok(endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW))
}

/// Shows no token.
impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("endpoint", self.endpoint.uri()).finish_non_exhaustive()
    }
}

/// A connection.
#[derive(Clone)]
pub(super) struct Connected {
    pub(super) channel: Channel,
    token: Option<MetadataValue<Ascii>>,
}

impl Connected {
    /// A request that shows what is to be shown.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(token) = &self.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

/// The error of a call; a call without an answer has one of its own.
pub(super) fn refused(status: Status) -> Error {
    match std::error::Error::source(&status) {
        Some(_) => Error::Unreachable(status.to_string()),
        None => status.into(),
    }
}
