//! Brokers and lookup servers.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use mq_net::http::{Answer, Query};
use serde_json::{Value, json};

use super::list::{Part, SortKey};
use super::missing;
use super::topics::TopicFacts;
use crate::finding::{Finding, Kind};
use crate::fleet::Reading;
use crate::snapshot::{Lookup, Node, Snapshot, TopicHere};
use crate::trouble::fleet::{disagreement, newest_version, numbers as numbers_of};

/// Findings of an answer.
const FINDINGS_MAX: usize = 100;
/// Topics without a broker in an answer.
const INACTIVE_MAX: usize = 1000;

pub(crate) fn nodes(snapshot: &Snapshot, query: &Query, reading: Option<Reading>) -> Result<Answer, Answer> {
    let part = Part::of(query)?;
    let [mq, nsqd] = ["mq", "nsqd"].map(|program| newest_version(&snapshot.nodes, program));
    let is_wanted = |node: &&Arc<Node>| part.matches(node.id()) || part.matches(&node.info.hostname);
    let found: Vec<_> = snapshot.nodes.iter().filter(is_wanted).map(|node| (node.id(), &**node)).collect();
    let matching = found.len();
    let rank = ranks(&snapshot.findings);
    let found = part.cut(found, |column, node| key(node, column, &rank))?;
    let rows = found.iter().map(|(_, node)| row(node, if node.keeps_history { mq } else { nsqd }));
    let findings = || snapshot.findings.iter().filter(|finding| is_of_fleet(finding));
    Ok(Answer::json(&json!({
        "at": snapshot.at,
        "reading": reading,
        "warnings": snapshot.warnings,
        "findings": findings().take(FINDINGS_MAX).collect::<Vec<_>>(),
        "findings_total": findings().count(),
        "newest_version": mq.or(nsqd),
        "page": part.page,
        "per_page": part.per_page,
        "total": snapshot.nodes.len(),
        "matching": matching,
        "nodes": rows.collect::<Vec<_>>(),
        "lookups": lookups(snapshot),
    })))
}

/// Each node's place among the findings, the worst first.
fn ranks(findings: &[Finding]) -> HashMap<&str, usize> {
    let mut ranks = HashMap::new();
    for (at, finding) in findings.iter().enumerate().filter(|(_, finding)| finding.topic.is_none()) {
        ranks.extend(finding.node.as_deref().filter(|node| !ranks.contains_key(node)).map(|node| (node, at)));
    }
    ranks
}

/// The value of a column; `None` where there is none of that name.
fn key(node: &Node, column: &str, ranks: &HashMap<&str, usize>) -> Option<SortKey> {
    let (numbers, up) = (&node.numbers, node.error.is_none());
    let counted = |value: u64| up.then_some(value as f64);
    Some(match column {
        // The place of the worst finding rises as it becomes harmless.
        "trouble" => Some(ranks.get(node.id()).map_or(-1e9, |rank| -(*rank as f64))),
        "version" => {
            let [major, minor, patch] = numbers_of(node.version());
            up.then_some(major as f64 * 1e8 + minor as f64 * 1e4 + patch as f64)
        }
        "started_at" => counted(node.info.start_time).filter(|at| *at > 0.0),
        "depth" => counted(numbers.depth),
        "published_rate" => numbers.published_rate,
        "finished_rate" => numbers.finished_rate,
        "in_flight" => counted(numbers.in_flight),
        "topics" => counted(node.topics.len() as u64),
        "clients" => counted(numbers.clients),
        "memory" => node.metric("mq_memory_used_bytes"),
        "disk" => node.disk().map(|(used, _)| used),
        "fsync" => node.fsync_mean_seconds(),
        _ => return None,
    })
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
        "node": row(node, newest),
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
    finding.topic.is_none() || finding.kind == Kind::Damage
}

fn facts_on<'s>(node: &'s Node, snapshot: &'s Snapshot, name: &str, topic: &'s TopicHere) -> TopicFacts<'s> {
    TopicFacts {
        numbers: &topic.numbers,
        own_depth: topic.depth,
        channels: topic.channels.len(),
        clients: topic.numbers.clients,
        nodes: 1,
        worst: snapshot.topics.get(name).and_then(|topic| topic.worst),
        tombstoned: Some(node.is_tombstoned(name)),
    }
}

fn row(node: &Node, newest: Option<&str>) -> Value {
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
    let mut row = serde_json::to_value(&node.numbers).unwrap_or_default();
    let metric = |name: &str| node.metric(name);
    let version = or(node.version(), known.map(|known| &known.version));
    let fields = [
        ("node", json!(node.id())),
        ("address", json!(node.id())),
        ("reachable", json!(up)),
        ("error", json!(node.error.as_ref().map(ToString::to_string))),
        ("configured", json!(node.upstream.is_configured)),
        ("program", json!(up.then_some(node.program()))),
        (
            "out_of_date",
            json!(up && newest.is_some_and(|newest| numbers_of(node.version()) < numbers_of(newest))),
        ),
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
        ("channels", json!(up.then_some(node.channels))),
        ("clients", json!(up.then_some(node.numbers.clients))),
        ("memory_bytes", json!(metric("mq_memory_used_bytes"))),
        ("memory_limit_bytes", json!(metric("mq_memory_limit_bytes"))),
        ("disk_bytes", json!(node.disk().map(|(used, _)| used))),
        ("disk_limit_bytes", json!(node.disk().map(|(_, limit)| limit))),
        ("disk_free_bytes", json!(metric("mq_disk_free_bytes"))),
        ("disk_growth", json!(node.log_growth.map(f64::round))),
        ("disk_full_seconds", json!(node.disk_full_seconds())),
        ("live_bytes", json!(metric("mq_log_live_bytes"))),
        ("cleaned_files", json!(metric("mq_cleaner_removed_files_total"))),
        ("cleaned_bytes", json!(metric("mq_cleaner_copied_bytes_total"))),
        ("unsynced_bytes", json!(metric("mq_log_unsynced_bytes"))),
        ("sync_failures", json!(metric("mq_log_sync_failures_total"))),
        ("write_failures", json!(metric("mq_log_write_failures_total"))),
        ("certificate_expires_at", json!(metric("mq_tls_certificate_expiry_seconds").filter(|at| *at > 0.0))),
        ("settings", json!(node.options.as_deref())),
        ("damaged", json!(metric("mq_damaged_topics"))),
        ("fsync_mean_seconds", json!(node.fsync_mean_seconds())),
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
    snapshot.lookups.iter().map(|lookup| row(lookup)).collect()
}
