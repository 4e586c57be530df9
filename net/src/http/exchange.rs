//! The client's end: one request, one connection.

use std::error::Error;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::transport::Transport;

/// Asks the server at `address` (`host:port`, or the path of a unix socket) and gives its answer, of at most
/// 1 MiB.
///
/// # Errors
/// Why there is none, or what status it has.
pub async fn ask(
    address: &str,
    method: Method,
    target: &str,
    bearer: Option<&str>,
) -> Result<Vec<u8>, String> {
    /// Largest answer that is read, 1 MiB: far more than any answer to an administrator.
    const ANSWER_BYTES_MAX: usize = 1024 * 1024;
    let mut request = Request::builder().method(method).uri(target).header(HOST, "localhost");
    if let Some(token) = bearer {
        request = request.header(AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(String::new()).map_err(|error| error.to_string())?;
    let transport = Transport::connect(address).await.map_err(|error| format!("no connection: {error}"))?;
    exchange(transport, request, ANSWER_BYTES_MAX).await
}

/// Sends `request` and takes in an answer of at most `max` bytes.
///
/// # Errors
/// Why there is no answer with the status 200, as a text for a log.
pub async fn exchange<S>(stream: S, request: Request<String>, max: usize) -> Result<Vec<u8>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match send(stream, request, max).await? {
        (StatusCode::OK, body) => Ok(body),
        (status, _) => Err(format!("status {status}")),
    }
}

/// [`exchange`] whatever the answer's status, which is given too.
///
/// # Errors
/// Why there is no answer, as a text for a log.
pub async fn send<S, B>(stream: S, request: Request<B>, max: usize) -> Result<(StatusCode, Vec<u8>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Into<Bytes>,
{
    send_metered(stream, request, max, |_| Ok(())).await
}

/// [`send`] that asks `meter` about the bytes of each piece of the answer before it keeps them.
///
/// # Errors
/// Those of [`send`], and what `meter` says.
pub async fn send_metered<S, B>(
    stream: S,
    request: Request<B>,
    max: usize,
    meter: impl FnMut(usize) -> Result<(), String>,
) -> Result<(StatusCode, Vec<u8>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    B: Into<Bytes>,
{
    Link::new(stream).await?.send(request, max, meter).await
}

/// A connection for requests one after another.
pub struct Link<S: AsyncRead + AsyncWrite + Unpin> {
    sender: http1::SendRequest<Full<Bytes>>,
    /// The connection, which reads and writes; `None` once it has ended.
    connection: Option<http1::Connection<TokioIo<S>, Full<Bytes>>>,
}

impl<S> Link<S>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    /// Begins to speak HTTP/1 on `stream`.
    ///
    /// # Errors
    /// Why that can't be.
    pub async fn new(stream: S) -> Result<Self, String> {
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
        Ok(Self { sender, connection: Some(connection) })
    }

    /// Sends a request and takes in an answer of at most `max` bytes; asks `meter` about each piece of it.
    ///
    /// # Errors
    /// Why there is no answer: also where the other end has closed the connection after an earlier one.
    pub async fn send<B: Into<Bytes>>(
        &mut self,
        request: Request<B>,
        max: usize,
        mut meter: impl FnMut(usize) -> Result<(), String>,
    ) -> Result<(StatusCode, Vec<u8>), String> {
        /// Most bytes that are reserved on the other end's word, 1 MiB.
        const RESERVED_MAX: u64 = 1024 * 1024;
        let request = request.map(|body| Full::new(body.into()));
        let Self { sender, connection } = self;
        let answer = async {
            sender.ready().await.map_err(|error| chain(&error))?;
            let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
            let status = response.status();
            let mut pieces = response.into_body();
            let mut body = Vec::with_capacity(pieces.size_hint().lower().min(RESERVED_MAX) as usize);
            while let Some(frame) = pieces.frame().await {
                let frame = frame.map_err(|error| chain(&error))?;
                let Ok(data) = frame.into_data() else { continue };
                if data.len() > max - body.len() {
                    return Err(format!("the answer is larger than {} MiB", max >> 20));
                }
                meter(data.len())?;
                body.extend_from_slice(&data);
            }
            Ok((status, body))
        };
        let mut answer = pin!(answer);
        let Some(running) = connection else { return answer.await };
        tokio::select! {
            answer = &mut answer => return answer,
            // It may end before all it has read was taken.
            _ = running => {}
        }
        *connection = None;
        answer.await
    }
}

/// An error with its causes.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
