//! One request to a broker or a lookup server.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::Request;
use hyper::header::{ACCEPT, AUTHORIZATION, HOST, HeaderValue};
use mq_net::http::{LocalHttp, Method, Peer, StatusCode, send};
use mq_net::secret::Secret;
use mq_net::transport::Transport;
use mq_net::transport::tls::ClientTls;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::address;

/// Largest answer: statistics of tens of thousands of topics.
const ANSWER_BYTES_MAX: usize = 128 * 1024 * 1024;
/// Longest text of an error that is passed on.
const DETAIL_CHARS_MAX: usize = 300;

/// A broker or a lookup server.
#[derive(Clone)]
pub(crate) struct Upstream {
    /// `host:port`, by which people know it.
    pub(crate) id: String,
    reach: Reach,
    /// Whether it was named by who runs this page. Only then it gets a token.
    pub(crate) is_configured: bool,
}

#[derive(Clone)]
enum Reach {
    /// In this process.
    Local(Arc<dyn LocalHttp>),
    /// At its id, over TLS if there is any.
    Configured(Option<ClientTls>),
    /// At its id, which a lookup server reported.
    Learned { lookup_is_here: bool },
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.id)
    }
}

/// A request to be made of upstreams, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// The one who looks at the page: what runs in this process has rights for it.
    pub(crate) peer: Peer,
    /// The token for configured upstreams.
    pub(crate) token: Option<Secret<Arc<[u8]>>>,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
}

/// A reason why an upstream did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// There was no answer.
    NoAnswer(String),
    /// It refused: the answer's status, code and detail.
    Refused(StatusCode, String, String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoAnswer(text) => f.write_str(text),
            Self::Refused(StatusCode::UNAUTHORIZED, ..) => f.write_str("it wants a token that it knows"),
            Self::Refused(_, code, detail) if detail.is_empty() => f.write_str(code),
            Self::Refused(_, code, detail) => write!(f, "{detail} ({code})"),
        }
    }
}

impl Failure {
    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<StatusCode> {
        match self {
            Self::NoAnswer(_) => None,
            Self::Refused(status, ..) => Some(*status),
        }
    }
}

impl Upstream {
    /// A server in this process.
    pub(crate) fn local(id: String, server: Arc<dyn LocalHttp>) -> Self {
        Self { id, reach: Reach::Local(server), is_configured: true }
    }

    /// One that who runs this page named.
    pub(crate) fn configured(address: &str, tls: Option<ClientTls>) -> Self {
        Self { id: address.to_owned(), reach: Reach::Configured(tls), is_configured: true }
    }

    /// One that the lookup server at `lookup` reported, and that may be called.
    pub(crate) fn learned(address: String, lookup: &str) -> Self {
        let lookup_is_here = address::is_here(lookup);
        Self { id: address, reach: Reach::Learned { lookup_is_here }, is_configured: false }
    }

    /// Asks for JSON.
    pub(crate) async fn get<T: DeserializeOwned + Send + 'static>(
        &self,
        call: &Call,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let body = self.ask(call, Method::GET, path, query, Bytes::new()).await?;
        let parse = move || serde_json::from_slice(&body).map_err(|error| error.to_string());
        // Statistics of thousands of topics take a while.
        let parsed = tokio::task::spawn_blocking(parse).await.map_err(|error| error.to_string());
        parsed.flatten().map_err(|error| Failure::NoAnswer(format!("its answer can't be read: {error}")))
    }

    /// Sends a request, and gives the body of an answer with status 200.
    pub(crate) async fn ask(
        &self,
        call: &Call,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Vec<u8>, Failure> {
        self.ask_with(call, method, path, query, &[], body).await
    }

    /// [`Upstream::ask`] with headers.
    pub(crate) async fn ask_with(
        &self,
        call: &Call,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Vec<u8>, Failure> {
        let request = self.request(call, method, path, query, headers, body).map_err(Failure::NoAnswer)?;
        let answer = timeout(call.request_timeout, self.exchange(call, request)).await;
        let late = |_| Err(format!("no answer within {:?}", call.request_timeout));
        let (status, body) = answer.unwrap_or_else(late).map_err(Failure::NoAnswer)?;
        match status {
            StatusCode::OK => Ok(body),
            _ => Err(refusal(status, &body)),
        }
    }

    fn request(
        &self,
        call: &Call,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        headers: &[(String, String)],
        body: Bytes,
    ) -> Result<Request<Bytes>, String> {
        let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
        let separator = if pairs.is_empty() { "" } else { "?" };
        let host = match &self.reach {
            Reach::Local(_) => "localhost",
            _ if self.id.contains('/') => "localhost",
            _ => &self.id,
        };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}{separator}{}", pairs.join("&")))
            .header(HOST, host)
            .header(ACCEPT, "application/vnd.nsq; version=1.0");
        if let Some(token) = call.token.as_ref().filter(|_| self.is_configured) {
            let mut value = HeaderValue::from_bytes(&[b"Bearer ", &**token.expose()].concat())
                .map_err(|_| "the token has control characters")?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        for (name, value) in headers {
            request = request.header(name, value);
        }
        request.body(body).map_err(|error| error.to_string())
    }

    async fn exchange(&self, call: &Call, request: Request<Bytes>) -> Result<(StatusCode, Vec<u8>), String> {
        if let Reach::Local(server) = &self.reach {
            return send(server.connect(&call.peer), request, ANSWER_BYTES_MAX).await;
        }
        let connecting = timeout(call.connect_timeout, self.connect()).await;
        let late = |_| Err(format!("no connection within {:?}", call.connect_timeout));
        let stream = connecting.unwrap_or_else(late)?;
        send(stream, request, ANSWER_BYTES_MAX).await
    }

    async fn connect(&self) -> Result<Transport, String> {
        let failed = |error: std::io::Error| format!("no connection: {error}");
        match &self.reach {
            // Resolved once, so that the address that was checked is the one that is called.
            Reach::Learned { lookup_is_here } => {
                let found: Vec<SocketAddr> =
                    tokio::net::lookup_host(&self.id).await.map_err(failed)?.collect();
                let allowed = |address: &&SocketAddr| address::is_callable(*lookup_is_here, address.ip());
                let address = found.iter().find(allowed).ok_or(
                    "its address leads to this machine or link: name it with --nsqd-http-address if it is a broker",
                )?;
                Transport::connect(&address.to_string()).await.map_err(failed)
            }
            Reach::Configured(Some(tls)) => {
                let stream = Transport::connect(&self.id).await.map_err(failed)?;
                tls.connect(stream, &self.id).await.map_err(|error| format!("TLS: {error}"))
            }
            _ => Transport::connect(&self.id).await.map_err(failed),
        }
    }
}

fn refusal(status: StatusCode, body: &[u8]) -> Failure {
    #[derive(serde::Deserialize)]
    struct Reason {
        message: String,
        #[serde(default)]
        detail: String,
    }
    let short = |text: &str| text.chars().filter(|c| !c.is_control()).take(DETAIL_CHARS_MAX).collect();
    match serde_json::from_slice::<Reason>(body) {
        Ok(reason) => Failure::Refused(status, short(&reason.message), short(&reason.detail)),
        // Health, and what stands before a broker, answer plain text.
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let line = text.lines().next().unwrap_or_default();
            Failure::Refused(status, format!("status {}", status.as_u16()), short(line))
        }
    }
}

/// `value` as part of a query.
fn escaped(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(byte.into()),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
