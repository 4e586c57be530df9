//! Changes that people make: one request, which goes to each server that it concerns.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mq_net::http::{Answer, Method, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::fleet::{Snapshot, Sources, all};
use crate::upstream::{Call, Failure, Upstream};

/// Largest body of a test message.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

/// A change, as the page asks for it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Request {
    pub(crate) action: String,
    pub(crate) topic: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) node: Option<String>,
    timeout_seconds: Option<u64>,
    body: Option<String>,
    base64: Option<String>,
    headers: BTreeMap<String, String>,
    defer_ms: Option<u64>,
    settings: Option<Value>,
}

impl Request {
    /// A change that needs no more than to say where.
    pub(crate) fn new(
        action: String,
        topic: Option<String>,
        channel: Option<String>,
        node: Option<String>,
    ) -> Self {
        Self { action, topic, channel, node, ..Self::default() }
    }
}

/// The outcome at one server.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    node: String,
    ok: bool,
    error: Option<String>,
    #[serde(skip)]
    failure: Option<Failure>,
}

/// The outcome at all of them.
pub(crate) struct Done(pub(crate) Vec<Outcome>);

/// One request to one server.
struct Step {
    upstream: Upstream,
    method: Method,
    path: String,
    query: Vec<(&'static str, String)>,
    headers: Vec<(String, String)>,
    body: Bytes,
    /// Whether the server may answer that it has no such thing: then there is nothing to do.
    may_be_gone: bool,
}

/// The answer to a request that an upstream refused.
pub(crate) fn refused(error: &Failure) -> Answer {
    match error {
        Failure::Refused(status, code, detail) if status.is_client_error() => {
            Answer::error_with(*status, code, detail)
        }
        error => Answer::error_with(StatusCode::BAD_GATEWAY, "UPSTREAM_ERROR", &error.to_string()),
    }
}

fn invalid(detail: &str) -> Answer {
    Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_REQUEST", detail)
}

/// Whether `name` is one of a topic or a channel.
pub(crate) fn is_name(name: &str) -> bool {
    let plain = name.strip_suffix("#ephemeral").unwrap_or(name);
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=64).contains(&name.len()) && !plain.is_empty() && plain.bytes().all(good)
}

impl Done {
    /// The sentence about what failed; empty if nothing did.
    pub(crate) fn message(&self) -> String {
        let failed = self.0.iter().filter_map(|one| Some(format!("{}: {}", one.node, one.error.as_ref()?)));
        failed.collect::<Vec<_>>().join("; ")
    }

    /// The failure, where every server failed.
    pub(crate) fn failure(&self) -> Option<&Failure> {
        let all_failed = !self.0.is_empty() && self.0.iter().all(|one| !one.ok);
        all_failed.then(|| self.0.iter().find_map(|one| one.failure.as_ref())).flatten()
    }

    pub(crate) fn answer(&self) -> Answer {
        match self.failure() {
            None => Answer::json(&json!({"message": self.message(), "results": self.0})),
            Some(failure) => {
                let statuses = || self.0.iter().filter_map(|one| one.failure.as_ref()?.status());
                let same =
                    statuses().count() == self.0.len() && statuses().all(|s| Some(s) == failure.status());
                let (status, code) = match failure {
                    Failure::Refused(status, code, _) if same && status.is_client_error() => {
                        (*status, code.as_str())
                    }
                    _ => (StatusCode::BAD_GATEWAY, "UPSTREAM_ERROR"),
                };
                let body = json!({"message": code, "detail": self.message(), "results": self.0});
                Answer::json(&body).status(status)
            }
        }
    }
}

/// Does what `request` says.
///
/// # Errors
/// The answer to a request that is wrong, or where there is nobody to ask.
pub(crate) async fn run(
    request: &Request,
    snapshot: &Snapshot,
    sources: &Sources,
    call: &Call,
) -> Result<Done, Answer> {
    let plan = Plan { request, snapshot, sources };
    let mut outcomes = Vec::new();
    // Lookup servers first, so that nobody is led to what goes.
    for stage in plan.stages()? {
        outcomes.extend(all(stage, |step| run_step(step, call.clone())).await);
    }
    match outcomes.is_empty() {
        true => Err(Answer::error_with(StatusCode::NOT_FOUND, "TOPIC_NOT_FOUND", "no server has it")),
        false => Ok(Done(outcomes)),
    }
}

async fn run_step(step: Step, call: Call) -> Outcome {
    let query: Vec<_> = step.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let Step { upstream, method, path, headers, body, may_be_gone, .. } = &step;
    let done = upstream.ask_with(&call, method.clone(), path, &query, headers, body.clone()).await;
    let is_gone = |error: &Failure| *may_be_gone && error.status() == Some(StatusCode::NOT_FOUND);
    let failure = done.err().filter(|error| !is_gone(error));
    Outcome {
        node: upstream.id.clone(),
        ok: failure.is_none(),
        error: failure.as_ref().map(ToString::to_string),
        failure,
    }
}

/// Servers to ask, and what for.
struct Plan<'a> {
    request: &'a Request,
    snapshot: &'a Snapshot,
    sources: &'a Sources,
}

impl Plan<'_> {
    fn stages(&self) -> Result<Vec<Vec<Step>>, Answer> {
        let action = self.request.action.as_str();
        Ok(match action {
            "create_topic" => {
                let query = vec![("topic", self.topic()?)];
                let brokers = match &self.request.node {
                    Some(_) => vec![self.node()?],
                    None => self.sources.nodes.clone(),
                };
                vec![self.at_lookups("/topic/create", &query, false), post(brokers, "/topic/create", &query)]
            }
            "create_channel" => {
                let query = vec![("topic", self.topic()?), ("channel", self.channel()?)];
                let brokers = self.brokers()?;
                vec![
                    self.at_lookups("/channel/create", &query, false),
                    post(brokers, "/channel/create", &query),
                ]
            }
            "delete_topic" | "delete_channel" => self.delete()?,
            "empty_topic" | "pause_topic" | "unpause_topic" => {
                let query = vec![("topic", self.topic()?)];
                let path = format!("/topic/{}", action.trim_end_matches("_topic"));
                vec![post(self.brokers()?, &path, &query)]
            }
            "empty_channel" | "pause_channel" | "unpause_channel" => {
                let query = vec![("topic", self.topic()?), ("channel", self.channel()?)];
                let path = format!("/channel/{}", action.trim_end_matches("_channel"));
                vec![post(self.brokers()?, &path, &query)]
            }
            "tombstone" => {
                let node = self.node()?;
                let query = vec![("topic", self.topic()?)];
                let mut tombstone = query.clone();
                tombstone.push(("node", node.id.clone()));
                let mut delete = post(vec![node], "/topic/delete", &query);
                delete.iter_mut().for_each(|step| step.may_be_gone = true);
                vec![self.at_lookups("/topic/tombstone", &tombstone, false), delete]
            }
            "drain" => {
                let mut query = Vec::new();
                query.extend(
                    self.request.timeout_seconds.map(|s| ("timeout", s.saturating_mul(1000).to_string())),
                );
                vec![post(vec![self.node()?], "/drain", &query)]
            }
            "publish" => vec![vec![self.publish()?]],
            "configure" => vec![self.configure()?],
            other => return Err(invalid(&format!("there is no action {other:?}"))),
        })
    }

    fn topic(&self) -> Result<String, Answer> {
        let name = self.request.topic.as_deref().filter(|name| is_name(name));
        name.map(str::to_owned).ok_or_else(|| {
            Answer::error_with(
                StatusCode::BAD_REQUEST,
                "INVALID_TOPIC",
                "topic: 1 to 64 of a-z A-Z 0-9 . _ -",
            )
        })
    }

    fn channel(&self) -> Result<String, Answer> {
        let name = self.request.channel.as_deref().filter(|name| is_name(name));
        name.map(str::to_owned).ok_or_else(|| {
            Answer::error_with(
                StatusCode::BAD_REQUEST,
                "INVALID_CHANNEL",
                "channel: 1 to 64 of a-z A-Z 0-9 . _ -",
            )
        })
    }

    fn node(&self) -> Result<Upstream, Answer> {
        let id = self.request.node.as_deref().ok_or_else(|| invalid("node is missing"))?;
        let node = self.snapshot.node(id);
        let node = node.ok_or_else(|| Answer::error(StatusCode::NOT_FOUND, "NODE_NOT_FOUND"))?;
        match &node.error {
            // An address that may not be called stays uncalled.
            Some(error) if !node.upstream.is_configured => Err(refused(error)),
            _ => Ok(node.upstream.clone()),
        }
    }

    /// The brokers that have the topic, or the one that is named.
    fn brokers(&self) -> Result<Vec<Upstream>, Answer> {
        if self.request.node.is_some() {
            return Ok(vec![self.node()?]);
        }
        let topic = self.topic()?;
        let found = self.snapshot.nodes_of(&topic).map(|(node, _)| node.upstream.clone());
        Ok(found.collect())
    }

    fn delete(&self) -> Result<Vec<Vec<Step>>, Answer> {
        let mut query = vec![("topic", self.topic()?)];
        let path = match self.request.action.as_str() {
            "delete_channel" => {
                query.push(("channel", self.channel()?));
                "/channel/delete"
            }
            _ => "/topic/delete",
        };
        // On one node alone the others keep it, and so do lookup servers.
        let lookups = match &self.request.node {
            Some(_) => Vec::new(),
            None => self.at_lookups(path, &query, true),
        };
        let mut brokers = post(self.brokers()?, path, &query);
        if !lookups.is_empty() {
            brokers.iter_mut().for_each(|step| step.may_be_gone = true);
        }
        Ok(vec![lookups, brokers])
    }

    fn at_lookups(&self, path: &str, query: &[(&'static str, String)], may_be_gone: bool) -> Vec<Step> {
        let mut steps = post(self.sources.lookups.clone(), path, query);
        steps.iter_mut().for_each(|step| step.may_be_gone = may_be_gone);
        steps
    }

    fn publish(&self) -> Result<Step, Answer> {
        let topic = self.topic()?;
        let request = self.request;
        let body = match (&request.body, &request.base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|_| invalid("base64 is none"))?,
            _ => return Err(invalid("a message has either a body or base64")),
        };
        if body.is_empty() || body.len() > MESSAGE_BYTES_MAX {
            return Err(invalid("a test message has 1 byte to 1 MiB"));
        }
        let upstream = match &request.node {
            Some(_) => self.node()?,
            None => {
                let having = self.snapshot.nodes_of(&topic).map(|(node, _)| node);
                let mut any = having.chain(&self.snapshot.nodes).filter(|node| node.error.is_none());
                let node = any.next().ok_or_else(|| invalid("no broker can be reached"))?;
                node.upstream.clone()
            }
        };
        let mut query = vec![("topic", topic)];
        query.extend(request.defer_ms.map(|ms| ("defer", ms.to_string())));
        let headers = request.headers.iter();
        let headers = headers.map(|(name, value)| (format!("Mq-Header-{name}"), value.clone())).collect();
        Ok(Step {
            upstream,
            method: Method::POST,
            path: "/pub".to_owned(),
            query,
            headers,
            body: body.into(),
            may_be_gone: false,
        })
    }

    fn configure(&self) -> Result<Vec<Step>, Answer> {
        let settings = self.request.settings.as_ref().filter(|settings| settings.is_object());
        let settings = settings.ok_or_else(|| invalid("settings is no object"))?;
        let query = vec![("topic", self.topic()?)];
        let mut steps = post(self.brokers()?, "/topic/config", &query);
        for step in &mut steps {
            step.method = Method::PUT;
            step.body = settings.to_string().into();
        }
        Ok(steps)
    }
}

fn post(upstreams: Vec<Upstream>, path: &str, query: &[(&'static str, String)]) -> Vec<Step> {
    let query: Arc<[_]> = query.into();
    let step = |upstream| Step {
        upstream,
        method: Method::POST,
        path: path.to_owned(),
        query: query.to_vec(),
        headers: Vec::new(),
        body: Bytes::new(),
        may_be_gone: false,
    };
    upstreams.into_iter().map(step).collect()
}
