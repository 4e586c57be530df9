//! Changes that people make: one request, which goes to each server that it concerns.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use mq_net::http::{Answer, Method, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::change::{Action, Change};
use crate::fleet::{Sources, all};
use crate::snapshot::Snapshot;
use crate::upstream::{Call, Failure, Upstream};

/// Largest body of a test message.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;

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

fn is_id(id: &str) -> bool {
    id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit())
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

/// Makes the change.
///
/// # Errors
/// The answer to a request that is wrong, or where there is nobody to ask.
pub(crate) async fn run(
    change: &Change,
    snapshot: &Snapshot,
    sources: &Sources,
    call: &Call,
) -> Result<Done, Answer> {
    let plan = Plan { change, snapshot, sources };
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
    change: &'a Change,
    snapshot: &'a Snapshot,
    sources: &'a Sources,
}

impl Plan<'_> {
    fn stages(&self) -> Result<Vec<Vec<Step>>, Answer> {
        Ok(match self.change.action {
            Action::CreateTopic => {
                let query = vec![("topic", self.topic()?)];
                let brokers = match &self.change.node {
                    Some(_) => vec![self.node()?],
                    None => self.sources.nodes.clone(),
                };
                vec![self.at_lookups("/topic/create", &query, false), post(brokers, "/topic/create", &query)]
            }
            Action::CreateChannel => {
                let query = vec![("topic", self.topic()?), ("channel", self.channel()?)];
                let brokers = self.brokers()?;
                vec![
                    self.at_lookups("/channel/create", &query, false),
                    post(brokers, "/channel/create", &query),
                ]
            }
            Action::DeleteTopic | Action::DeleteChannel => self.delete()?,
            Action::EmptyTopic => self.of_topic("/topic/empty")?,
            Action::PauseTopic => self.of_topic("/topic/pause")?,
            Action::UnpauseTopic => self.of_topic("/topic/unpause")?,
            Action::EmptyChannel => self.of_channel("/channel/empty")?,
            Action::PauseChannel => self.of_channel("/channel/pause")?,
            Action::UnpauseChannel => self.of_channel("/channel/unpause")?,
            Action::Tombstone => {
                let node = self.node()?;
                let query = vec![("topic", self.topic()?)];
                let mut tombstone = query.clone();
                tombstone.push(("node", node.id.clone()));
                let mut delete = post(vec![node], "/topic/delete", &query);
                delete.iter_mut().for_each(|step| step.may_be_gone = true);
                vec![self.at_lookups("/topic/tombstone", &tombstone, false), delete]
            }
            Action::Drain => {
                let mut query = Vec::new();
                query.extend(
                    self.change.timeout_seconds.map(|s| ("timeout", s.saturating_mul(1000).to_string())),
                );
                vec![post(vec![self.node()?], "/drain", &query)]
            }
            Action::Publish => vec![vec![self.publish()?]],
            Action::ConfigureTopic => self.configured(self.of_topic("/topic/config")?)?,
            Action::ConfigureChannel => self.configured(self.of_channel("/channel/config")?)?,
            Action::DropMessage => self.message("/message/drop")?,
            Action::RequeueMessage => self.message("/message/requeue")?,
        })
    }

    fn of_topic(&self, path: &str) -> Result<Vec<Vec<Step>>, Answer> {
        let query = [("topic", self.topic()?)];
        Ok(vec![post(self.brokers()?, path, &query)])
    }

    fn of_channel(&self, path: &str) -> Result<Vec<Vec<Step>>, Answer> {
        let query = [("topic", self.topic()?), ("channel", self.channel()?)];
        Ok(vec![post(self.brokers()?, path, &query)])
    }

    fn topic(&self) -> Result<String, Answer> {
        let name = self.change.topic.as_deref().filter(|name| is_name(name));
        name.map(str::to_owned).ok_or_else(|| {
            Answer::error_with(
                StatusCode::BAD_REQUEST,
                "INVALID_TOPIC",
                "topic: 1 to 64 of a-z A-Z 0-9 . _ -",
            )
        })
    }

    fn channel(&self) -> Result<String, Answer> {
        let name = self.change.channel.as_deref().filter(|name| is_name(name));
        name.map(str::to_owned).ok_or_else(|| {
            Answer::error_with(
                StatusCode::BAD_REQUEST,
                "INVALID_CHANNEL",
                "channel: 1 to 64 of a-z A-Z 0-9 . _ -",
            )
        })
    }

    fn node(&self) -> Result<Upstream, Answer> {
        let id = self.change.node.as_deref().ok_or_else(|| invalid("node is missing"))?;
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
        if self.change.node.is_some() {
            return Ok(vec![self.node()?]);
        }
        let topic = self.topic()?;
        let found = self.snapshot.nodes_of(&topic).map(|(node, _)| node.upstream.clone());
        Ok(found.collect())
    }

    fn delete(&self) -> Result<Vec<Vec<Step>>, Answer> {
        let mut query = vec![("topic", self.topic()?)];
        let path = match self.change.action {
            Action::DeleteChannel => {
                query.push(("channel", self.channel()?));
                "/channel/delete"
            }
            _ => "/topic/delete",
        };
        // On one node alone the others keep it, and so do lookup servers.
        let lookups = match &self.change.node {
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
        let change = self.change;
        let body = match (&change.body, &change.base64) {
            (Some(text), None) => text.clone().into_bytes(),
            (None, Some(text)) => STANDARD.decode(text).map_err(|_| invalid("base64 is none"))?,
            _ => return Err(invalid("a message has either a body or base64")),
        };
        if body.is_empty() || body.len() > MESSAGE_BYTES_MAX {
            return Err(invalid("a test message has 1 byte to 1 MiB"));
        }
        let upstream = match &change.node {
            Some(_) => self.node()?,
            None => {
                let having = self.snapshot.nodes_of(&topic).map(|(node, _)| node);
                let all = self.snapshot.nodes.iter().map(|node| &**node);
                let mut any = having.chain(all).filter(|node| node.error.is_none());
                let node = any.next().ok_or_else(|| invalid("no broker can be reached"))?;
                node.upstream.clone()
            }
        };
        let mut query = vec![("topic", topic)];
        query.extend(change.defer_ms.map(|ms| ("defer", ms.to_string())));
        let headers = change.headers.iter();
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

    /// A change to one message, on the node that has it: ids are of a node.
    fn message(&self, path: &str) -> Result<Vec<Vec<Step>>, Answer> {
        let id = self.change.message.as_deref().filter(|id| is_id(id));
        let id = id.ok_or_else(|| invalid("message is no id: 16 hexadecimal digits"))?;
        let query = vec![("topic", self.topic()?), ("channel", self.channel()?), ("id", id.to_owned())];
        Ok(vec![post(vec![self.node()?], path, &query)])
    }

    /// Requests that set settings: the whole change is in the body.
    fn configured(&self, mut stages: Vec<Vec<Step>>) -> Result<Vec<Vec<Step>>, Answer> {
        let settings = self.change.settings.as_ref().filter(|settings| settings.is_object());
        let settings = settings.ok_or_else(|| invalid("settings is no object"))?;
        for step in stages.iter_mut().flatten() {
            step.method = Method::PUT;
            step.body = settings.to_string().into();
        }
        Ok(stages)
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
