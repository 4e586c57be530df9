//! Brokers and lookup servers.

use std::borrow::Cow;
use std::collections::BTreeMap;

use mq_net::http::{Answer, Query};
use serde_json::{Value, json};

use super::list::Part;
use super::missing;
use super::topics::TopicFacts;
use crate::fleet::numbers::Numbers;
use crate::fleet::snapshot::Lookup;
use crate::fleet::{Node, Snapshot};
use crate::trouble::Finding;
use crate::trouble::fleet::{disagreement, disk, newest_version, numbers};

/// Topics without a broker in an answer.
const INACTIVE_MAX: usize = 1000;

pub(crate) fn nodes(snapshot: &Snapshot) -> Answer {
    let newest = |program| newest_version(&snapshot.nodes, program);
    let rows = snapshot.nodes.iter().map(|node| row(node, snapshot.at, newest(node.program())));
    let findings = snapshot.findings.iter().filter(|finding| is_of_fleet(finding));
    Answer::json(&json!({
        "at": snapshot.at,
        "warnings": snapshot.warnings,
        "findings": findings.collect::<Vec<_>>(),
        "newest_version": newest("mq").or_else(|| newest("nsqd")),
        "nodes": rows.collect::<Vec<_>>(),
        "lookups": lookups(snapshot),
    }))
}

pub(crate) fn node(snapshot: &Snapshot, query: &Query, id: &str) -> Result<Answer, Answer> {
    let node = snapshot.node(id).ok_or_else(|| missing("NODE_NOT_FOUND"))?;
    let part = Part::of(query)?;
    let facts = |name: &str, topic| facts_on(node, snapshot, name, topic);
    let found = node.topics.iter().filter(|(name, _)| part.matches(name));
    let rows: Vec<_> = found.map(|(name, topic)| (name.as_str(), facts(name, topic))).collect();
    let matching = rows.len();
    let rows = part.cut(rows, |column, facts| facts.key(column))?;
    let rows: Vec<_> = rows.iter().map(|(name, facts)| facts.row(name, snapshot)).collect();
    let newest = newest_version(&snapshot.nodes, node.program());
    let findings = snapshot.findings.iter().filter(|finding| finding.node.as_deref() == Some(id));
    Ok(Answer::json(&json!({
        "at": snapshot.at,
        "warnings": snapshot.warnings,
        "node": row(node, snapshot.at, newest),
        "findings": findings.take(100).collect::<Vec<_>>(),
        "page": part.page,
        "per_page": part.per_page,
        "total": node.topics.len(),
        "matching": matching,
        "topics": rows,
    })))
}

pub(crate) fn lookup(snapshot: &Snapshot, inactive: &BTreeMap<String, Vec<String>>) -> Answer {
    let inactive = inactive.iter().map(|(topic, channels)| json!({"topic": topic, "channels": channels}));
    Answer::json(&json!({
        "at": snapshot.at,
        "warnings": snapshot.warnings,
        "lookups": lookups(snapshot),
        "inactive": inactive.take(INACTIVE_MAX).collect::<Vec<_>>(),
    }))
}

fn is_of_fleet(finding: &Finding) -> bool {
    finding.topic.is_none() || finding.kind == crate::trouble::Kind::Damage
}

fn facts_on<'s>(
    node: &'s Node,
    snapshot: &'s Snapshot,
    name: &str,
    topic: &crate::upstream::answers::Topic,
) -> TopicFacts<'s> {
    TopicFacts {
        numbers: Cow::Owned(node.topic(topic, snapshot.at)),
        own_depth: topic.depth,
        channels: topic.channels.len(),
        clients: topic.channels.iter().map(|channel| channel.client_count).sum(),
        nodes: 1,
        worst: snapshot.topics.get(name).and_then(|topic| topic.worst),
        tombstoned: Some(node.is_tombstoned(name)),
    }
}

fn row(node: &Node, now: f64, newest: Option<&str>) -> Value {
    let info = &node.info;
    let known = node.registered.first().map(|(_, known)| known);
    let or = |own: &str, registered: Option<&String>| match own.is_empty() {
        true => registered.cloned(),
        false => Some(own.to_owned()),
    };
    let port = |own: i64, registered: Option<u16>| match own {
        0 => registered.map(i64::from),
        own => Some(own),
    };
    let up = node.error.is_none();
    let numbers_here = Numbers::sum(node.topics.values().map(|topic| node.topic(topic, now)));
    let mut row = serde_json::to_value(numbers_here).unwrap_or_default();
    let channels = node.topics.values().flat_map(|topic| &topic.channels);
    let metric = |name: &str| node.metrics.as_ref().and_then(|metrics| metrics.get(name));
    let syncs = metric("mq_log_syncs_total").filter(|syncs| *syncs > 0.0);
    let version = or(node.version(), known.map(|known| &known.version));
    let fields = [
        ("node", json!(node.id())),
        ("address", json!(node.id())),
        ("reachable", json!(up)),
        ("error", json!(node.error.as_ref().map(ToString::to_string))),
        ("configured", json!(node.upstream.is_configured)),
        ("program", json!(up.then_some(node.program()))),
        ("out_of_date", json!(up && newest.is_some_and(|newest| numbers(node.version()) < numbers(newest)))),
        ("version", json!(version)),
        ("health", json!(Some(&node.health).filter(|_| up))),
        ("hostname", json!(or(&info.hostname, known.map(|known| &known.hostname)))),
        (
            "broadcast_address",
            json!(or(&info.broadcast_address, known.map(|known| &known.broadcast_address))),
        ),
        ("tcp_port", json!(port(info.tcp_port, known.map(|known| known.tcp_port)))),
        ("http_port", json!(port(info.http_port, known.map(|known| known.http_port)))),
        ("zone", json!(or(&info.topology_zone, known.map(|known| &known.topology_zone)))),
        ("region", json!(or(&info.topology_region, known.map(|known| &known.topology_region)))),
        ("started_at", json!(Some(info.start_time).filter(|at| *at > 0))),
        ("topics", json!(up.then_some(node.topics.len()))),
        ("channels", json!(up.then_some(channels.clone().count()))),
        ("clients", json!(up.then_some(channels.map(|channel| channel.client_count).sum::<u64>()))),
        ("memory_bytes", json!(metric("mq_memory_used_bytes"))),
        ("memory_limit_bytes", json!(metric("mq_memory_limit_bytes"))),
        ("disk_bytes", json!(disk(node).map(|(used, _)| used))),
        ("disk_limit_bytes", json!(disk(node).map(|(_, limit)| limit))),
        ("disk_free_bytes", json!(metric("mq_disk_free_bytes").filter(|free| free.is_finite()))),
        ("damaged", json!(metric("mq_damaged_topics"))),
        ("fsync_mean_seconds", json!(metric("mq_log_sync_seconds_total").zip(syncs).map(|(s, n)| s / n))),
        ("draining", json!(node.is_draining)),
        ("lookups", json!(node.registered.iter().map(|(lookup, _)| lookup).collect::<Vec<_>>())),
    ];
    for (name, value) in fields {
        row[name] = value;
    }
    row
}

fn lookups(snapshot: &Snapshot) -> Vec<Value> {
    let row = |lookup: &Lookup| {
        let up = lookup.error.is_none();
        json!({
            "lookup": lookup.upstream.id,
            "reachable": up,
            "error": lookup.error.as_ref().map(ToString::to_string),
            "version": Some(&lookup.version).filter(|_| up),
            "brokers": up.then_some(lookup.brokers.len()),
            "topics": up.then_some(lookup.topics.len()),
            "disagrees": disagreement(lookup, &snapshot.lookups),
        })
    };
    snapshot.lookups.iter().map(row).collect()
}
