//! Asks lookup servers which channels a topic has elsewhere.

use std::time::Duration;

use hyper::header::{ACCEPT, HOST};
use hyper::{Method, Request};
use mq_core::{ChannelName, TopicName};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::wire::lookup::{self, Identity};
use mq_net::http::exchange;

/// Longest answer: thousands of channels.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;

/// The lasting channels that `server` knows of a topic.
///
/// # Errors
/// Why there is no answer, for the log.
pub(super) async fn ask(
    server: &Identity,
    topic: &TopicName,
    connect_timeout: Duration,
    request_timeout: Duration,
) -> Result<Vec<ChannelName>, String> {
    let host = server.broadcast_address.trim_matches(['[', ']']);
    let authority = match host.contains(':') {
        true => format!("[{host}]:{}", server.http_port),
        false => format!("{host}:{}", server.http_port),
    };
    let request = Request::builder()
        .method(Method::GET)
        .uri(format!("/channels?topic={}&{}=true", topic.as_str().replace('#', "%23"), lookup::EXISTING))
        .header(HOST, &authority)
        .header(ACCEPT, "application/vnd.nsq; version=1.0")
        .body(String::new())
        .map_err(|error| error.to_string())?;
    let asked = async {
        let stream = timeout(connect_timeout, TcpStream::connect((host, server.http_port)))
            .await
            .map_err(|_| format!("no connection within {connect_timeout:?}"))?
            .map_err(|error| format!("no connection: {error}"))?;
        exchange(stream, request, ANSWER_BYTES_MAX).await
    };
    let answer = timeout(request_timeout, asked)
        .await
        .unwrap_or_else(|_| Err(format!("no answer within {request_timeout:?}")));
    answer.and_then(|body| parse(&body)).map_err(|error| format!("http://{authority}: {error}"))
}

/// Parses a lookup server's list of channels. Skips invalid and ephemeral names.
fn parse(body: &[u8]) -> Result<Vec<ChannelName>, String> {
    #[derive(Deserialize)]
    struct Answer {
        channels: Vec<String>,
    }
    let answer: Answer = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    let names = answer.channels.iter().filter_map(|name| ChannelName::parse(name).ok());
    Ok(names.filter(|name| !name.is_ephemeral()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lasting_channels_count() {
        let channels = parse(br#"{"channels":["a","b#ephemeral","c!","d"],"more":1}"#).unwrap();
        assert_eq!(channels.iter().map(ChannelName::as_str).collect::<Vec<_>>(), ["a", "d"]);
        assert!(parse(b"{}").unwrap_err().contains("channels"));
        assert!(parse(b"<html>").is_err());
    }
}
