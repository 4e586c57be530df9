//! nsqadmin's JSON API, field for field, and the paths of its pages.
//!
//! Its known faults are mended here: a topic without a broker has numbers of 0, an unknown channel is
//! answered 404, the least of percentiles is the least.
//!
//! - `answers`: the objects; `config`: options; `graphite`: what is asked of it

mod answers;
mod config;
mod graphite;

use std::collections::BTreeMap;
use std::sync::Arc;

use mq_net::http::{Answer, Method, Parameter, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use self::answers::{channel_stats, node_stats, nodes, topic_stats};
use crate::actions;
use crate::admin::Admin;
use crate::change::{Action, Change};
use crate::fleet;
use crate::notify::Origin;
use crate::snapshot::Snapshot;
use crate::viewer::Viewer;
use crate::views::missing;

/// Largest body of a change.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

const PARAMETERS: &[Parameter] =
    &[Parameter::new("inactive", ""), Parameter::new("metric", ""), Parameter::new("target", "")];

/// Whether a path below the page's is of the API.
pub(crate) fn has(path: &str) -> bool {
    matches!(path, "ping" | "render") || path.starts_with("api/") || path.starts_with("config/")
}

/// The place in our page of one of nsqadmin's.
pub(crate) fn page_of(path: &str) -> Option<String> {
    let first = path.split('/').next().unwrap_or_default();
    match first {
        "topics" | "nodes" | "lookup" => Some(path.trim_end_matches('/').to_owned()),
        "counter" => Some(String::new()),
        _ => None,
    }
}

/// The answer to a request that is refused.
fn refused(status: StatusCode, code: &str) -> Answer {
    Answer::error(status, code)
}

/// Answers a request for `path`, which [`has`] says is of the API.
pub(crate) async fn answer(admin: &Arc<Admin>, path: &str, request: Request) -> Result<Answer, Answer> {
    if path == "ping" {
        return Ok(Answer::text("OK").plain());
    }
    if let Some(name) = path.strip_prefix("config/") {
        return config::answer(admin, name, request).await;
    }
    let viewer = Viewer::of(admin, &request).await?;
    if path == "render" {
        return graphite::proxy(&admin.settings, &request).await;
    }
    // One that can't be read is not passed over: a channel's path would be its topic's.
    let parts: Option<Vec<String>> = path.split('/').skip(1).map(unescaped).collect();
    let parts = parts.ok_or_else(Answer::not_found)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let method = request.method().clone();
    let changes = matches!(method, Method::POST | Method::PUT | Method::DELETE);
    if changes {
        return change(admin, &viewer, &method, &parts, request).await;
    }
    if method != Method::GET {
        return Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"));
    }
    let request = request.declaring(PARAMETERS);
    if parts == ["graphite"] {
        return graphite::rate(&admin.settings, &request.query()?).await;
    }
    let snapshot = viewer.snapshot(admin).await?;
    let mut value = match *parts {
        ["topics"] if request.query()?.get("inactive") == Some("true") => {
            let inactive = fleet::inactive(&snapshot, &viewer.call).await;
            let inactive: BTreeMap<_, _> = inactive
                .into_iter()
                .map(|(topic, channels)| (topic, Some(channels).filter(|channels| !channels.is_empty())))
                .collect();
            json!({"topics": inactive})
        }
        ["topics"] => {
            let names: Vec<_> = snapshot.topics.keys().collect();
            json!({"topics": Some(names).filter(|names| !names.is_empty())})
        }
        ["topics", topic] => topic_stats(&snapshot, topic).ok_or_else(|| missing("TOPIC_NOT_FOUND"))?,
        ["topics", topic, channel] => {
            let (found, _) = fleet::clients_of(&snapshot, &viewer.call, topic, channel).await;
            let clients = |_: &str, _: &str, node: &str| {
                let here = found.iter().filter(|(id, _)| id == node);
                here.map(|(_, client)| client.clone()).collect()
            };
            channel_stats(&snapshot, topic, channel, Some(&clients))
                .ok_or_else(|| missing("CHANNEL_NOT_FOUND"))?
        }
        ["nodes"] => nodes(&snapshot),
        ["nodes", node] => {
            let found = fleet::clients_on(&snapshot, &viewer.call, node).await;
            let clients = |topic: &str, channel: &str, _: &str| {
                found.get(&(topic.to_owned(), channel.to_owned())).cloned().unwrap_or_default()
            };
            node_stats(&snapshot, node, Some(&clients)).ok_or_else(|| missing("NODE_NOT_FOUND"))?
        }
        ["counter"] => counter(&snapshot),
        _ => return Err(Answer::not_found()),
    };
    value["message"] = warning(&snapshot).into();
    Ok(Answer::json(&value))
}

/// The sentence about who did not answer; empty if all did.
fn warning(snapshot: &Snapshot) -> String {
    match snapshot.warnings.is_empty() {
        true => String::new(),
        false => format!("WARNING: {}", snapshot.warnings.join("; ")),
    }
}

fn counter(snapshot: &Snapshot) -> Value {
    let mut stats = serde_json::Map::new();
    for node in &snapshot.nodes {
        for (topic, found) in &node.topics {
            for channel in &found.channels {
                let name = &channel.channel_name;
                stats.insert(
                    format!("{topic}:{name}:{}", node.id()),
                    json!({
                        "node": node.id(), "topic_name": topic, "channel_name": name,
                        "message_count": channel.message_count,
                    }),
                );
            }
        }
    }
    json!({"stats": stats})
}

/// A change, as nsqadmin takes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Body {
    topic: String,
    channel: String,
    action: String,
}

async fn change(
    admin: &Admin,
    viewer: &Viewer,
    method: &Method,
    parts: &[&str],
    request: Request,
) -> Result<Answer, Answer> {
    let origin = Origin::of(&request, viewer, true);
    let is_tombstone = matches!((method, parts), (&Method::DELETE, ["nodes", _]));
    let is_there = match method {
        &Method::POST => matches!(parts, ["topics"] | ["topics", _] | ["topics", _, _]),
        _ => matches!((method, parts), (&Method::DELETE, ["nodes", _] | ["topics", _] | ["topics", _, _])),
    };
    if !is_there {
        return Err(Answer::not_found());
    }
    let body = request.body(BODY_BYTES_MAX).await.map_err(|error| error.answer("BODY_TOO_BIG"))?;
    let bad = |code: &str| Answer::error(StatusCode::BAD_REQUEST, code);
    let body: Body = match (method, body.is_empty()) {
        (&Method::DELETE, true) if !is_tombstone => Body::default(),
        _ => serde_json::from_slice(&body).map_err(|error| match is_tombstone {
            true => bad("INVALID_BODY"),
            false => Answer::error_with(StatusCode::BAD_REQUEST, "INVALID_BODY", &error.to_string()),
        })?,
    };
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let of_kind = |verb: &str, channel: Option<&str>| {
        let noun = if channel.is_some() { "channel" } else { "topic" };
        Action::named(&format!("{verb}_{noun}")).ok_or_else(|| bad("INVALID_ACTION"))
    };
    let (action, topic, channel, node) = match (method, parts) {
        (&Method::POST, ["topics"]) => {
            let channel = some(&body.channel);
            (of_kind("create", channel.as_deref())?, some(&body.topic), channel, None)
        }
        (&Method::POST, ["topics", topic, rest @ ..]) if rest.len() <= 1 => {
            if !matches!(body.action.as_str(), "pause" | "unpause" | "empty") {
                return Err(bad("INVALID_ACTION"));
            }
            let channel = rest.first().copied();
            (of_kind(&body.action, channel)?, some(topic), channel.and_then(some), None)
        }
        (&Method::DELETE, ["topics", topic, rest @ ..]) if rest.len() <= 1 => {
            let channel = rest.first().copied();
            (of_kind("delete", channel)?, some(topic), channel.and_then(some), None)
        }
        (&Method::DELETE, ["nodes", _]) if !actions::is_name(&body.topic) => {
            return Err(bad("INVALID_TOPIC"));
        }
        (&Method::DELETE, ["nodes", node]) => (Action::Tombstone, some(&body.topic), None, some(node)),
        _ => return Err(Answer::not_found()),
    };
    let wanted = Change::new(action, topic, channel, node);
    let done = admin.act(viewer, &wanted, &origin).await?;
    match done.failure() {
        None if done.message().is_empty() => Ok(Answer::json(&json!({"message": ""}))),
        None => Ok(Answer::json(&json!({"message": format!("WARNING: {}", done.message())}))),
        Some(failure) => {
            let text = format!("UPSTREAM_ERROR: {failure}");
            Err(Answer::json(&json!({"message": text})).status(StatusCode::BAD_GATEWAY))
        }
    }
}

/// A part of a path without escapes; `None` if one is broken, or it is not UTF-8.
fn unescaped(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                u8::try_from(digit()? << 4 | digit()?).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}
