//! Requests to an HTTP server.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::Method;
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::StatusCode;
use super::answer::Answer;
use super::left::{LeftBody, UnreadBody};
use super::query::Query;
use super::route::Parameter;
use crate::transport::Transport;
use crate::transport::tls::TlsPeer;

/// A body up to this size is not counted: the connection's own buffers take as much.
const UNCOUNTED_BYTES: u64 = 16 * 1024;

/// Bytes that one permit of the body budget stands for.
pub(super) const BUDGET_UNIT: u64 = 1024;

/// The other end of a connection.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    /// Its address, or the path of a unix socket.
    pub address: String,
    /// The outcome of its TLS handshake, over HTTPS.
    pub tls: Option<TlsPeer>,
    /// Whether it connected to a loopback address of this machine.
    pub is_on_loopback: bool,
}

impl Peer {
    /// The other end of `transport`, which is called `address`.
    pub fn new(address: String, transport: &Transport) -> Self {
        Self { address, tls: transport.tls_peer(), is_on_loopback: transport.is_on_loopback() }
    }
}

/// A request whose body is not read yet.
pub struct Request {
    head: Parts,
    body: UnreadBody,
    peer: Arc<Peer>,
    budget: Arc<Semaphore>,
    body_timeout: Duration,
    declared: &'static [Parameter],
    tail: String,
}

/// A request's body. It has its place in the memory for all of them until it is dropped.
pub struct Body {
    bytes: Bytes,
    _place: Option<OwnedSemaphorePermit>,
}

impl Deref for Body {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The reason why a body can't be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyError {
    /// It is larger than it may be. It was not read, or not to its end.
    TooBig,
    /// It is not chunked as it says it is.
    Malformed,
    /// The connection broke off, or was too slow.
    Lost,
}

impl BodyError {
    /// The answer to the request; `too_big` is the code where the body is.
    pub fn answer(self, too_big: &str) -> Answer {
        match self {
            Self::TooBig => Answer::error(StatusCode::PAYLOAD_TOO_LARGE, too_big),
            Self::Malformed => Answer::error(StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            Self::Lost => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
        }
    }

    fn of(error: &(dyn Error + Send + Sync + 'static)) -> Self {
        if error.is::<http_body_util::LengthLimitError>() {
            return Self::TooBig;
        }
        let first: &(dyn Error + 'static) = error;
        let mut causes = std::iter::successors(Some(first), |error| (*error).source());
        let kind = causes.find_map(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
        match kind {
            Some(io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput) => Self::Malformed,
            _ => Self::Lost,
        }
    }
}

impl Request {
    /// `left`: where the body goes when nobody reads it any more.
    pub(super) fn new(
        request: hyper::Request<Incoming>,
        left: &LeftBody,
        peer: Arc<Peer>,
        budget: Arc<Semaphore>,
        body_timeout: Duration,
    ) -> Self {
        let (head, body) = request.into_parts();
        let body = UnreadBody::new(body, left);
        Self { head, body, peer, budget, body_timeout, declared: &[], tail: String::new() }
    }

    pub(super) fn set_route(&mut self, declared: &'static [Parameter], tail: String) {
        self.declared = declared;
        self.tail = tail;
    }

    /// Its method.
    pub fn method(&self) -> &Method {
        &self.head.method
    }

    /// Its path.
    pub fn path(&self) -> &str {
        self.head.uri.path()
    }

    /// The host that the target names, where it is a whole URI.
    pub(super) fn authority(&self) -> Option<&str> {
        self.head.uri.authority().map(|authority| authority.as_str())
    }

    /// The path's variable part.
    pub fn tail(&self) -> &str {
        &self.tail
    }

    pub(super) fn query_text(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    /// Its parameters.
    ///
    /// # Errors
    /// The answer to give if they can't be parsed.
    pub fn query(&self) -> Result<Query, Answer> {
        Query::parse(self.query_text(), self.declared)
    }

    /// Its headers.
    pub fn headers(&self) -> &HeaderMap {
        &self.head.headers
    }

    /// The token of its header `Authorization: Bearer`.
    pub fn bearer(&self) -> Option<&[u8]> {
        let value = self.head.headers.get(AUTHORIZATION)?.as_bytes();
        let (scheme, token) = value.split_at_checked("Bearer ".len())?;
        scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
    }

    /// The sender.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Values noted about the request.
    pub fn extensions(&self) -> &Extensions {
        &self.head.extensions
    }

    /// Values noted about the request, to be changed.
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        &mut self.head.extensions
    }

    /// Bytes of the body, as its head has it.
    pub fn content_length(&self) -> Option<u64> {
        self.body.size_hint().exact()
    }

    /// Reads its body, of at most `max` bytes. A large one waits until there is memory for it, of which all
    /// requests of a server have a share.
    pub fn body(self, max: u64) -> impl Future<Output = Result<Body, BodyError>> + Send {
        let Self { body, budget, body_timeout, .. } = self;
        async move {
            let expected = body.size_hint().exact().unwrap_or(max);
            if expected > max {
                return Err(BodyError::TooBig);
            }
            let read = async {
                let place = if expected > UNCOUNTED_BYTES {
                    let permits = expected.div_ceil(BUDGET_UNIT);
                    let permits = u32::try_from(permits).map_err(|_| BodyError::TooBig)?;
                    Some(budget.acquire_many_owned(permits).await.map_err(|_| BodyError::Lost)?)
                } else {
                    None
                };
                let max = usize::try_from(max).unwrap_or(usize::MAX);
                match Limited::new(body, max).collect().await {
                    Ok(body) => Ok(Body { bytes: body.to_bytes(), _place: place }),
                    Err(error) => Err(BodyError::of(&*error)),
                }
            };
            timeout(body_timeout, read).await.unwrap_or(Err(BodyError::Lost))
        }
    }
}

impl fmt::Debug for Request {
    /// Leaves out query and headers, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} from {}", self.method(), self.path(), self.peer.address)
    }
}
