//! The list of topics.

use mq_net::http::{Answer, Query};
use serde::Serialize;
use serde_json::json;

use super::is_ephemeral;
use super::list::{Part, SortKey};
use crate::finding::Finding;
use crate::fleet::Reading;
use crate::snapshot::{Numbers, Snapshot, Topic};

/// A topic in a list.
#[derive(Serialize)]
pub(super) struct TopicRow<'a> {
    topic: &'a str,
    #[serde(flatten)]
    numbers: &'a Numbers,
    own_depth: u64,
    channels: usize,
    clients: u64,
    nodes: usize,
    ephemeral: bool,
    worst: Option<&'a Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tombstoned: Option<bool>,
}

/// The facts of a topic that a list sorts by.
pub(super) struct TopicFacts<'a> {
    pub(super) numbers: &'a Numbers,
    pub(super) own_depth: u64,
    pub(super) channels: usize,
    pub(super) clients: u64,
    pub(super) nodes: usize,
    pub(super) worst: Option<usize>,
    pub(super) tombstoned: Option<bool>,
}

impl TopicFacts<'_> {
    /// The value of a column; `None` where there is none of that name.
    pub(super) fn key(&self, column: &str) -> Option<SortKey> {
        let numbers = self.numbers;
        Some(match column {
            // The index of the worst finding rises as it becomes harmless.
            "trouble" => Some(self.worst.map_or(-1e9, |worst| -(worst as f64))),
            "depth" => Some(numbers.depth as f64),
            "published_rate" => numbers.published_rate,
            "finished_rate" => numbers.finished_rate,
            "growth" => numbers.growth,
            "in_flight" => Some(numbers.in_flight as f64),
            "deferred" => Some(numbers.deferred as f64),
            "requeued" => Some(numbers.requeued as f64),
            "timed_out" => Some(numbers.timed_out as f64),
            "messages" => Some(numbers.messages as f64),
            "channels" => Some(self.channels as f64),
            "clients" => Some(self.clients as f64),
            "oldest_seconds" => numbers.oldest_seconds,
            _ => return None,
        })
    }

    pub(super) fn row<'s>(&'s self, name: &'s str, snapshot: &'s Snapshot) -> TopicRow<'s> {
        TopicRow {
            topic: name,
            numbers: self.numbers,
            own_depth: self.own_depth,
            channels: self.channels,
            clients: self.clients,
            nodes: self.nodes,
            ephemeral: is_ephemeral(name),
            worst: self.worst.and_then(|at| snapshot.findings.get(at)),
            tombstoned: self.tombstoned,
        }
    }
}

pub(crate) fn topics(snapshot: &Snapshot, query: &Query, reading: Option<Reading>) -> Result<Answer, Answer> {
    let part = Part::of(query)?;
    let rows: Vec<_> = snapshot
        .topics
        .iter()
        .filter(|(name, _)| part.matches(name))
        .map(|(name, topic)| (name.as_str(), facts_of(topic)))
        .collect();
    let matching = rows.len();
    let rows = part.cut(rows, |column, facts| facts.key(column))?;
    let rows: Vec<_> = rows.iter().map(|(name, facts)| facts.row(name, snapshot)).collect();
    Ok(Answer::json(&json!({
        "at": snapshot.at,
        "reading": reading,
        "warnings": snapshot.warnings,
        "page": part.page,
        "per_page": part.per_page,
        "total": snapshot.topics.len(),
        "matching": matching,
        "topics": rows,
    })))
}

fn facts_of(topic: &Topic) -> TopicFacts<'_> {
    TopicFacts {
        numbers: &topic.numbers,
        own_depth: topic.own_depth,
        channels: topic.channels.len(),
        clients: topic.clients,
        nodes: topic.nodes,
        worst: topic.worst,
        tombstoned: None,
    }
}
