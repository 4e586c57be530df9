//! The client's end of the HTTP API: one request, one connection.

use std::time::Duration;

use bytes::Bytes;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue};
use hyper::{Method, Request, StatusCode};
use serde::Deserialize;
use tokio::time::timeout;

use mq_net::http::send;
use mq_net::secret::Secret;
use mq_net::transport::Transport;
use mq_net::transport::tls::ClientTls;

/// Largest answer: statistics of many topics with many clients.
const ANSWER_BYTES_MAX: usize = 256 * 1024 * 1024;

/// Reason why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// There was no answer.
    #[error("{0}")]
    NoAnswer(String),
    /// The server refused.
    #[error("{}", refusal(*.status, .code, .detail))]
    Refused {
        /// The answer's status.
        status: u16,
        /// The error's code, such as `TOPIC_NOT_FOUND`.
        code: String,
        /// A sentence about it; may be empty.
        detail: String,
    },
}

fn refusal(status: u16, code: &str, detail: &str) -> String {
    match (code, detail) {
        ("UNAUTHORIZED", _) => "the server wants a token that it knows".to_owned(),
        (_, "") => format!("{code} (status {status})"),
        _ => format!("{detail} ({code}, status {status})"),
    }
}

/// A server's HTTP API.
#[derive(Clone, Debug)]
pub struct Admin {
    address: String,
    token: Option<Secret<Box<[u8]>>>,
    tls: Option<ClientTls>,
    timeout: Duration,
}

impl Admin {
    /// The API at `host:port` or the path of a unix socket. Nothing is sent yet.
    pub fn new(address: &str, token: Option<&[u8]>) -> Self {
        let token = token.map(|token| Secret::new(token.into()));
        Self { address: address.to_owned(), token, tls: None, timeout: Duration::from_secs(30) }
    }

    /// The same API over TLS.
    pub fn with_tls(self, tls: ClientTls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// The same API, whose answers may take as long as `timeout`; 30 s unless it is set.
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Whether somebody listens at the address. Nothing is asked.
    pub async fn is_reachable(&self) -> bool {
        Transport::connect(&self.address).await.is_ok()
    }

    /// Asks for something, such as `/stats`; values in `query` are escaped.
    ///
    /// # Errors
    /// [`AdminError`] says what went wrong.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>, AdminError> {
        self.request(Method::GET, path, query, Bytes::new()).await
    }

    /// Sends a POST without a body, and returns the body of the answer: empty for most paths.
    ///
    /// # Errors
    /// [`AdminError`] says what went wrong.
    pub async fn post(&self, path: &str, query: &[(&str, &str)]) -> Result<Vec<u8>, AdminError> {
        self.request(Method::POST, path, query, Bytes::new()).await
    }

    /// Changes something to what `body`, a JSON document, says, and gives the answer.
    ///
    /// # Errors
    /// [`AdminError`] says what went wrong.
    pub async fn put(
        &self,
        path: &str,
        query: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Vec<u8>, AdminError> {
        self.request(Method::PUT, path, query, body.into()).await
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Vec<u8>, AdminError> {
        let answer = timeout(self.timeout, self.answer(method, path, query, body)).await;
        let late = || Err(format!("no answer within {:?}", self.timeout));
        let (status, body) = answer.unwrap_or_else(|_| late()).map_err(AdminError::NoAnswer)?;
        if status == StatusCode::OK {
            return Ok(body);
        }
        #[derive(Deserialize)]
        struct Reason {
            message: String,
            #[serde(default)]
            detail: String,
        }
        // Health, and what stands before a broker, answer plain text.
        let plain = |_| Reason { message: first_line(&body), detail: String::new() };
        let Reason { message, detail } = serde_json::from_slice(&body).unwrap_or_else(plain);
        Err(AdminError::Refused { status: status.as_u16(), code: message, detail })
    }

    async fn answer(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Bytes,
    ) -> Result<(StatusCode, Vec<u8>), String> {
        let pairs: Vec<_> = query.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect();
        let separator = if pairs.is_empty() { "" } else { "?" };
        let host = if self.address.contains('/') { "localhost" } else { &self.address };
        let mut request = Request::builder()
            .method(method)
            .uri(format!("{path}{separator}{}", pairs.join("&")))
            .header(HOST, host);
        if let Some(token) = &self.token {
            let value = [&b"Bearer "[..], token.expose()].concat();
            let mut value =
                HeaderValue::from_bytes(&value).map_err(|_| "the token has control characters")?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let request = request.body(body).map_err(|error| error.to_string())?;
        let mut stream = Transport::connect(&self.address).await.map_err(|error| error.to_string())?;
        if let Some(tls) = &self.tls {
            stream = tls.connect(stream, &self.address).await.map_err(|error| format!("TLS: {error}"))?;
        }
        send(stream, request, ANSWER_BYTES_MAX).await
    }
}

/// The first line of an answer in plain text, at most 300 characters of it.
fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.lines().next().unwrap_or_default().chars().take(300).collect()
}

/// `value` as part of a query.
fn escape(value: &str) -> String {
    let mut escaped = String::with_capacity(value.len());
    for byte in value.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => escaped.push(byte.into()),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
