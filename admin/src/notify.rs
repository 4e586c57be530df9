//! Notifications of changes, as nsqadmin posts them to an endpoint.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hyper::header::{CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use mq_net::http::{Method, Request, send};
use mq_net::transport::Transport;
use serde::Serialize;
use tokio::time::timeout;

use crate::actions;
use crate::viewer::{Viewer, ip_of};

/// Longest time for a notification: nobody waits for it, and it holds a connection.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest answer of the endpoint, which is not looked at.
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// The origin of a change.
pub(crate) struct Origin {
    user: String,
    remote_ip: String,
    user_agent: String,
    url: String,
}

/// A change, field for field as nsqadmin reports it.
#[derive(Serialize)]
struct Notification<'a> {
    action: &'a str,
    topic: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    channel: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    node: &'a str,
    timestamp: u64,
    #[serde(skip_serializing_if = "str::is_empty")]
    user: &'a str,
    remote_ip: &'a str,
    user_agent: &'a str,
    url: &'a str,
    via: &'a str,
}

impl Origin {
    pub(crate) fn of(request: &Request, viewer: &Viewer) -> Self {
        let header = |name: HeaderName| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let is_https = request.peer().tls.is_some()
            || request.headers().get("x-scheme").is_some_and(|scheme| scheme.as_bytes() == b"https");
        let scheme = if is_https { "https" } else { "http" };
        Self {
            user: viewer.name.clone(),
            remote_ip: ip_of(request.peer()),
            user_agent: header(USER_AGENT),
            url: format!("{scheme}://{}{}", header(HOST), request.path()),
        }
    }
}

/// The action in nsqadmin's words; `None` for those it does not have.
fn name(action: &str) -> Option<&str> {
    match action {
        "tombstone" => Some("tombstone_topic_producer"),
        "create_topic" | "create_channel" | "delete_topic" | "delete_channel" | "empty_topic"
        | "empty_channel" | "pause_topic" | "pause_channel" | "unpause_topic" | "unpause_channel" => {
            Some(action)
        }
        _ => None,
    }
}

/// Posts a change to `endpoint` while the caller goes on. A failure is logged.
pub(crate) fn notify(endpoint: &str, via: &str, request: &actions::Request, origin: &Origin) {
    let Some(action) = name(&request.action) else { return };
    let notification = Notification {
        action,
        topic: request.topic.as_deref().unwrap_or_default(),
        channel: request.channel.as_deref().unwrap_or_default(),
        node: request.node.as_deref().unwrap_or_default(),
        timestamp: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        user: &origin.user,
        remote_ip: &origin.remote_ip,
        user_agent: &origin.user_agent,
        url: &origin.url,
        via,
    };
    let body = serde_json::to_string(&notification).unwrap_or_default();
    let endpoint = endpoint.to_owned();
    tokio::spawn(async move {
        let posted = timeout(TIMEOUT, post(&endpoint, body)).await;
        let outcome = posted.unwrap_or_else(|_| Err(format!("no answer within {TIMEOUT:?}")));
        if let Err(error) = outcome {
            tracing::warn!(endpoint, error, "notification not delivered");
        }
    });
}

async fn post(endpoint: &str, body: String) -> Result<(), String> {
    let (authority, path) = parse(endpoint).ok_or("it is no http:// URL")?;
    let request = hyper::Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(HOST, &authority)
        .header(CONTENT_TYPE, "application/json")
        .body(body)
        .map_err(|error| error.to_string())?;
    let address = if authority.contains(':') { authority } else { format!("{authority}:80") };
    let stream = Transport::connect(&address).await.map_err(|error| error.to_string())?;
    let (status, _) = send(stream, request, ANSWER_BYTES_MAX).await?;
    if status.is_success() { Ok(()) } else { Err(format!("status {status}")) }
}

/// Host with its port, and path, of an `http://` URL.
pub(crate) fn parse(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("http://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => (&rest[..at], &rest[at..]),
        None => (rest, "/"),
    };
    (!authority.is_empty() && !authority.contains('@')).then(|| (authority.to_owned(), path.to_owned()))
}
