//! The client's end: one request, one connection.

use std::error::Error;
use std::pin::pin;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
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
    /// Far more than any answer to an administrator.
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
    let request = request.map(|body| Full::new(body.into()));
    let (mut sender, connection) =
        http1::handshake(TokioIo::new(stream)).await.map_err(|error| chain(&error))?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(|error| chain(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), max).collect().await;
        body.map(|body| (status, body.to_bytes().into())).map_err(|error| chain(&*error))
    };
    let mut answer = pin!(answer);
    tokio::select! {
        answer = &mut answer => answer,
        // It may end before all it has read was taken.
        _ = connection => answer.await,
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
