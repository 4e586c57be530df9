//! Notifications of changes, as nsqadmin posts them to an endpoint.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HOST, HeaderName, USER_AGENT};
use mq_net::http::{Method, Request, send};
use mq_net::transport::Transport;
use serde::Serialize;
use tokio::time::timeout;

use crate::change::{Action, Change};
use crate::viewer::Viewer;

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
    /// Whether it came by nsqadmin's API.
    is_nsqadmins: bool,
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
    pub(crate) fn of(request: &Request, viewer: &Viewer, is_nsqadmins: bool) -> Self {
        let header = |name: HeaderName| {
            let value = request.headers().get(name).and_then(|value| value.to_str().ok());
            value.unwrap_or_default().to_owned()
        };
        let is_https = request.peer().tls.is_some()
            || request.headers().get("x-scheme").is_some_and(|scheme| scheme.as_bytes() == b"https");
        let scheme = if is_https { "https" } else { "http" };
        let query = match request.query_text() {
            "" => String::new(),
            query => format!("?{query}"),
        };
        Self {
            user: viewer.known().map(str::to_owned).or_else(|| basic_user(request)).unwrap_or_default(),
            // With its port, whatever the field is called.
            remote_ip: request.peer().address.clone(),
            user_agent: header(USER_AGENT),
            url: format!("{scheme}://{}{}{query}", header(HOST), request.path()),
            is_nsqadmins,
        }
    }
}

/// The user that a proxy logged in, by the name that it passes on.
fn basic_user(request: &Request) -> Option<String> {
    let login = request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let login = String::from_utf8(STANDARD.decode(login).ok()?).ok()?;
    Some(login.split_once(':')?.0.to_owned())
}

/// The action in nsqadmin's words; `None` for those it does not have.
fn name(action: Action) -> Option<&'static str> {
    match action {
        Action::Tombstone => Some("tombstone_topic_producer"),
        Action::CreateTopic
        | Action::CreateChannel
        | Action::DeleteTopic
        | Action::DeleteChannel
        | Action::EmptyTopic
        | Action::EmptyChannel
        | Action::PauseTopic
        | Action::PauseChannel
        | Action::UnpauseTopic
        | Action::UnpauseChannel => Some(action.name()),
        Action::ConfigureTopic
        | Action::ConfigureChannel
        | Action::Publish
        | Action::DropMessage
        | Action::RequeueMessage
        | Action::Drain => None,
    }
}

/// Posts a change to `endpoint` while the caller goes on. A failure is logged.
pub(crate) fn notify(endpoint: &str, via: &str, change: &Change, origin: &Origin) {
    let Some(action) = name(change.action) else { return };
    // A channel that is made by nsqadmin's API makes its topic, too.
    if change.action == Action::CreateChannel && origin.is_nsqadmins {
        post_one(
            endpoint,
            &Notification { channel: "", ..notification("create_topic", via, change, origin) },
        );
    }
    post_one(endpoint, &notification(action, via, change, origin));
}

fn notification<'a>(
    action: &'a str,
    via: &'a str,
    change: &'a Change,
    origin: &'a Origin,
) -> Notification<'a> {
    Notification {
        action,
        topic: change.topic.as_deref().unwrap_or_default(),
        channel: change.channel.as_deref().unwrap_or_default(),
        node: change.node.as_deref().unwrap_or_default(),
        timestamp: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        user: &origin.user,
        remote_ip: &origin.remote_ip,
        user_agent: &origin.user_agent,
        url: &origin.url,
        via,
    }
}

fn post_one(endpoint: &str, notification: &Notification<'_>) {
    let body = serde_json::to_string(notification).unwrap_or_default();
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
