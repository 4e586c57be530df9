//! Requests to an HTTP server.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::{Body as _, Incoming};
use hyper::header::{AUTHORIZATION, HeaderMap};
use hyper::http::Extensions;
use hyper::http::request::Parts;
use tokio::time::timeout;

use super::StatusCode;
use super::answer::Answer;
use super::left::{LeftBody, UnreadBody};
use super::memory::ConnectionMemory;
use super::query::Query;
use super::route::Parameter;
use crate::budget::{Closed, FREE_BYTES, Turn};
use crate::transport::Transport;
use crate::transport::tls::TlsPeer;

/// Part of a body that has to be there before memory for all of it is taken: one in four.
const BELIEVED: usize = 4;

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
    memory: Arc<ConnectionMemory>,
    body_timeout: Duration,
    declared: &'static [Parameter],
    tail: String,
}

/// A request's body, counted in its connection's part of the budget until it is dropped.
pub struct Body {
    bytes: Vec<u8>,
    memory: Arc<ConnectionMemory>,
}

impl Drop for Body {
    fn drop(&mut self) {
        self.bytes = Vec::new();
        self.memory.set_body(0);
    }
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
    /// The body is larger than it may be. It was not read, or not to its end.
    TooBig,
    /// The body is not chunked as its headers say.
    Malformed,
    /// The connection broke off, or was too slow.
    Lost,
    /// Others needed the memory for the body: it came slowly, and the budget is spent.
    Crowded,
}

impl BodyError {
    /// The answer to the request; `too_big` is the code where the body is.
    pub fn answer(self, too_big: &str) -> Answer {
        match self {
            Self::TooBig => Answer::error(StatusCode::PAYLOAD_TOO_LARGE, too_big),
            Self::Malformed => Answer::error(StatusCode::BAD_REQUEST, "INVALID_REQUEST"),
            Self::Lost => Answer::error(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL_ERROR"),
            Self::Crowded => {
                let text = "the memory for clients is spent, and this request held some of it for long";
                Answer::error_with(StatusCode::SERVICE_UNAVAILABLE, "MEMORY_SPENT", text).retry_after(1)
            }
        }
    }

    fn of(error: &hyper::Error) -> Self {
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
        memory: Arc<ConnectionMemory>,
        body_timeout: Duration,
    ) -> Self {
        let (head, body) = request.into_parts();
        let body = UnreadBody::new(body, left);
        Self { head, body, peer, memory, body_timeout, declared: &[], tail: String::new() }
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

    /// The query as it came, without its question mark.
    pub fn query_text(&self) -> &str {
        self.head.uri.query().unwrap_or_default()
    }

    /// Its parameters.
    ///
    /// # Errors
    /// The answer to give if they can't be parsed.
    pub fn query(&self) -> Result<Query, Answer> {
        Query::parse(self.query_text(), self.declared)
    }

    /// The request with the parameters that its query may hold, for who answers without a route.
    #[must_use]
    pub fn declaring(mut self, parameters: &'static [Parameter]) -> Self {
        self.declared = parameters;
        self
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

    /// A turn to make up an answer that may be large, once there is memory for one; for
    /// [`made_in`](super::Answer::made_in).
    pub async fn turn(&self) -> Option<Turn> {
        let turn = self.memory.budget().turn().await;
        // Nothing is held that it could be closed for.
        let _ = self.memory.room().await;
        turn
    }

    /// A turn for an answer with bodies of messages: nobody else makes up such a one beside it.
    pub async fn sole_turn(&self) -> Option<Turn> {
        self.memory.budget().sole_turn().await
    }

    /// Reads its body, of at most `max` bytes. Beyond a few KiB it waits until the budget has room.
    pub fn body(self, max: u64) -> impl Future<Output = Result<Body, BodyError>> + Send {
        let Self { body, memory, body_timeout, .. } = self;
        async move {
            let expected = body.size_hint().exact().unwrap_or_default();
            if expected > max {
                return Err(BodyError::TooBig);
            }
            let max = usize::try_from(max).unwrap_or(usize::MAX);
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            timeout(body_timeout, read(body, expected, max, memory)).await.unwrap_or(Err(BodyError::Lost))
        }
    }
}

/// Reads a body that is to have `expected` bytes and may have `max`.
async fn read(
    mut body: UnreadBody,
    expected: usize,
    max: usize,
    memory: Arc<ConnectionMemory>,
) -> Result<Body, BodyError> {
    let mut read = Body { bytes: Vec::new(), memory };
    loop {
        let len = read.bytes.len();
        let left = read.bytes.capacity() - len;
        let is_all_there = expected > 0 && read.bytes.capacity() >= expected;
        if expected.max(len) > FREE_BYTES && left < FREE_BYTES && !is_all_there {
            read.memory.room().await.map_err(|Closed| BodyError::Crowded)?;
        }
        let frame = read.memory.unless_closed(body.frame()).await.map_err(|Closed| BodyError::Crowded)?;
        let Some(frame) = frame else { return Ok(read) };
        let frame = frame.map_err(|error| BodyError::of(&error))?;
        let Some(data) = frame.data_ref() else { continue };
        if len + data.len() > max {
            return Err(BodyError::TooBig);
        }
        if read.bytes.capacity() < len + data.len() {
            // All of it once a quarter is there.
            let wanted = if expected <= BELIEVED * (len + data.len()) { expected } else { 2 * len };
            read.bytes.reserve_exact(wanted.min(max).max(len + data.len()) - len);
            read.memory.set_body(read.bytes.capacity());
        }
        read.bytes.extend_from_slice(data);
    }
}

impl fmt::Debug for Request {
    /// Leaves out query and headers, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} from {}", self.method(), self.path(), self.peer.address)
    }
}
