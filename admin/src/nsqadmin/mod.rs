//! nsqadmin's JSON API, field for field, and the paths of its pages.
//!
//! What goes wrong there is right here: a topic without a broker has numbers of 0, an unknown channel is
//! answered 404, the least of percentiles is the least.
//!
//! - `answers`: the objects

mod answers;

use std::collections::BTreeMap;
use std::sync::Arc;

use mq_net::http::{Answer, Method, Parameter, Request, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use self::answers::{channel_stats, node_stats, nodes, topic_stats};
use crate::actions;
use crate::fleet::{self, Snapshot};
use crate::notify::Origin;
use crate::site::Admin;
use crate::viewer::{Viewer, ip_of};
use crate::views::missing;

/// Largest body of a change.
const BODY_BYTES_MAX: u64 = 1024 * 1024;

const PARAMETERS: &[Parameter] = &[Parameter::new("inactive", "")];

/// Whether a path below the page's is of the API.
pub(crate) fn has(path: &str) -> bool {
    path == "ping" || path.starts_with("api/") || path.starts_with("config/")
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

/// Answers a request for `path`, which [`has`] says is of the API.
pub(crate) async fn answer(admin: &Arc<Admin>, path: &str, request: Request) -> Result<Answer, Answer> {
    if path == "ping" {
        return Ok(Answer::text("OK").plain());
    }
    if path.starts_with("config/") {
        return config(admin, &request);
    }
    let viewer = Viewer::of(admin, &request).await?;
    let parts: Vec<String> = path.split('/').skip(1).filter_map(unescaped).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let method = request.method().clone();
    let changes = matches!(method, Method::POST | Method::PUT | Method::DELETE);
    if changes {
        return change(admin, &viewer, &method, &parts, request).await;
    }
    if method != Method::GET {
        return Err(Answer::error(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED"));
    }
    let snapshot = viewer.snapshot(admin).await?;
    let request = request.declaring(PARAMETERS);
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
            let (clients, _) = fleet::clients_of(&snapshot, &viewer.call, topic, channel).await;
            channel_stats(&snapshot, topic, channel, &clients).ok_or_else(|| missing("CHANNEL_NOT_FOUND"))?
        }
        ["nodes"] => nodes(&snapshot),
        ["nodes", node] => node_stats(&snapshot, node).ok_or_else(|| missing("NODE_NOT_FOUND"))?,
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
    let origin = Origin::of(&request, viewer);
    let is_tombstone = matches!((method, parts), (&Method::DELETE, ["nodes", _]));
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
        format!("{verb}_{}", if channel.is_some() { "channel" } else { "topic" })
    };
    let (action, topic, channel, node) = match (method, parts) {
        (&Method::POST, ["topics"]) => {
            let channel = some(&body.channel);
            (of_kind("create", channel.as_deref()), some(&body.topic), channel, None)
        }
        (&Method::POST, ["topics", topic, rest @ ..]) if rest.len() <= 1 => {
            if !matches!(body.action.as_str(), "pause" | "unpause" | "empty") {
                return Err(bad("INVALID_ACTION"));
            }
            let channel = rest.first().copied();
            (of_kind(&body.action, channel), some(topic), channel.and_then(some), None)
        }
        (&Method::DELETE, ["topics", topic, rest @ ..]) if rest.len() <= 1 => {
            let channel = rest.first().copied();
            (of_kind("delete", channel), some(topic), channel.and_then(some), None)
        }
        (&Method::DELETE, ["nodes", node]) => ("tombstone".to_owned(), some(&body.topic), None, some(node)),
        _ => return Err(Answer::not_found()),
    };
    let wanted = actions::Request::new(action, topic, channel, node);
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

/// `/config`: what nsqadmin shows of itself, to those it is meant for. Nothing can be changed at run time.
fn config(admin: &Admin, request: &Request) -> Result<Answer, Answer> {
    let range = admin.settings.nsqadmin.allow_config_from;
    let ip = ip_of(request.peer()).parse();
    let is_allowed = range.is_none_or(|range| ip.is_ok_and(|ip| range.contains(ip)));
    if !is_allowed {
        return Err(Answer::error(StatusCode::FORBIDDEN, "FORBIDDEN"));
    }
    if request.method() != Method::GET {
        let detail = "settings of the admin page change with its next start";
        return Err(Answer::error_with(StatusCode::NOT_IMPLEMENTED, "NOT_IMPLEMENTED", detail));
    }
    match request.path().rsplit('/').next() {
        Some("nsqlookupd_http_addresses") => Ok(Answer::json(&admin.settings.lookups)),
        Some("nsqd_http_addresses") => Ok(Answer::json(&admin.settings.nodes)),
        _ => Err(Answer::error(StatusCode::BAD_REQUEST, "INVALID_OPTION")),
    }
}

/// A part of a path without escapes; `None` if one is broken.
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
