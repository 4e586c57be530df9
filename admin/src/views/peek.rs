//! Messages of a topic, read without consuming them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mq_net::http::{Answer, Query, StatusCode};
use serde_json::{Value, json};

use super::{invalid, missing};
use crate::actions::refused;
use crate::snapshot::{Node, Snapshot};
use crate::upstream::Call;
use crate::upstream::answers::{Peeked, PeekedMessage};

/// Messages of an answer.
const LIMIT: usize = 20;
const LIMIT_MAX: usize = 100;
/// Bytes of a body that are shown.
const BODY_BYTES_MAX: usize = 64 * 1024;

pub(crate) async fn peek(snapshot: &Snapshot, call: &Call, query: &Query) -> Result<Answer, Answer> {
    let topic = query.get_some("topic").ok_or_else(|| invalid("topic is missing"))?;
    let node = node_of(snapshot, topic, query.get_some("node"))?;
    let limit = match query.get_some("limit") {
        None => LIMIT,
        Some(text) => text
            .parse()
            .ok()
            .filter(|limit| (1..=LIMIT_MAX).contains(limit))
            .ok_or_else(|| invalid(&format!("limit {text:?} is no number from 1 to {LIMIT_MAX}")))?,
    };
    let limit = limit.to_string();
    let mut parameters = vec![("topic", topic), ("max", &limit)];
    parameters.extend(query.get_some("channel").map(|channel| ("channel", channel)));
    parameters.extend(query.get_some("from").map(|from| ("from", from)));
    let peeked: Peeked = match node.upstream.get(call, "/peek", &parameters).await {
        Ok(peeked) => peeked,
        Err(error) if error.status() == Some(StatusCode::NOT_FOUND) && !node.keeps_history => {
            let detail = format!("{} can't be peeked at: only brokers of libmq can", node.id());
            return Err(Answer::error_with(StatusCode::BAD_REQUEST, "NOT_SUPPORTED", &detail));
        }
        Err(error) => return Err(refused(&error)),
    };
    Ok(Answer::json(&json!({
        "at": snapshot.at,
        "warnings": snapshot.warnings,
        "topic": topic,
        "channel": query.get_some("channel"),
        "node": node.id(),
        "next": peeked.next,
        "messages": peeked.messages.iter().map(message).collect::<Vec<_>>(),
    })))
}

/// The broker that is meant, or the only one there is.
fn node_of<'s>(snapshot: &'s Snapshot, topic: &str, id: Option<&str>) -> Result<&'s Node, Answer> {
    if let Some(id) = id {
        return snapshot.node(id).ok_or_else(|| missing("NODE_NOT_FOUND"));
    }
    let mut nodes = snapshot.nodes_of(topic).map(|(node, _)| node);
    let first = nodes.next().ok_or_else(|| missing("TOPIC_NOT_FOUND"))?;
    match nodes.next() {
        None => Ok(first),
        Some(_) => Err(invalid("several brokers have this topic: say which one by its node")),
    }
}

fn message(message: &PeekedMessage) -> Value {
    let mut body = STANDARD.decode(&message.body).unwrap_or_default();
    let size = body.len();
    let truncated = size > BODY_BYTES_MAX;
    body.truncate(BODY_BYTES_MAX);
    let text = match std::str::from_utf8(&body) {
        Ok(text) => Some(text),
        // The cut may be within a character.
        Err(error) if truncated && error.error_len().is_none() => {
            std::str::from_utf8(&body[..error.valid_up_to()]).ok()
        }
        Err(_) => None,
    };
    let headers = message.headers.iter().map(|header| {
        let value = STANDARD.decode(&header.value).unwrap_or_default();
        json!({"name": header.name, "value": String::from_utf8_lossy(&value)})
    });
    json!({
        "id": message.id,
        "time": (message.timestamp / 1_000_000) as f64 / 1000.0,
        "attempts": message.attempts,
        "size": size,
        "text": text,
        "base64": STANDARD.encode(&body),
        "truncated": truncated,
        "headers": headers.collect::<Vec<_>>(),
        "state": message.state,
    })
}
