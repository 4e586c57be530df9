//! The client's end: one request, one connection.

use std::error::Error;
use std::pin::pin;

use http_body_util::{BodyExt, Limited};
use hyper::client::conn::http1;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};

/// Sends `request` and takes in an answer of at most `max` bytes. Errors are for a log.
pub(crate) async fn exchange<S>(stream: S, request: Request<String>, max: usize) -> Result<Vec<u8>, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    match send(stream, request, max).await? {
        (StatusCode::OK, body) => Ok(body),
        (status, _) => Err(format!("status {status}")),
    }
}

/// [`exchange`] whatever the answer's status, which is given too.
pub(crate) async fn send<S>(
    stream: S,
    request: Request<String>,
    max: usize,
) -> Result<(StatusCode, Vec<u8>), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
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
