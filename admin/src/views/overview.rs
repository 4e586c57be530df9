//! The first page: trouble, totals, what is busiest.

use mq_net::http::Answer;
use serde::Serialize;
use serde_json::json;

use crate::fleet::Reading;
use crate::snapshot::{Numbers, Snapshot};

/// Findings of the first page.
const FINDINGS_MAX: usize = 100;
/// Topics of the first page.
const BUSIEST: usize = 10;

#[derive(Serialize)]
struct Busy<'a> {
    topic: &'a str,
    #[serde(flatten)]
    numbers: &'a Numbers,
}

pub(crate) fn overview(snapshot: &Snapshot, reading: Option<Reading>) -> Answer {
    let numbers = Numbers::sum(snapshot.topics.values().filter(|t| t.nodes > 0).map(|t| &t.numbers));
    let mut totals = serde_json::to_value(numbers).unwrap_or_default();
    totals["topics"] = snapshot.topics.len().into();
    totals["channels"] = snapshot.topics.values().map(|topic| topic.channels.len()).sum::<usize>().into();
    totals["clients"] = snapshot.topics.values().map(|topic| topic.clients).sum::<u64>().into();
    totals["nodes"] = snapshot.nodes.len().into();
    totals["lookups"] = snapshot.lookups.len().into();
    let nodes = snapshot
        .nodes
        .iter()
        .map(|node| json!({"node": node.id(), "reachable": node.error.is_none(), "health": node.health}));
    Answer::json(&json!({
        "at": snapshot.at,
        "reading": reading,
        "warnings": snapshot.warnings,
        "findings": snapshot.findings.iter().take(FINDINGS_MAX).collect::<Vec<_>>(),
        "findings_total": snapshot.findings.len(),
        "totals": totals,
        "nodes": nodes.collect::<Vec<_>>(),
        "busiest": busiest(snapshot),
    }))
}

fn busiest(snapshot: &Snapshot) -> Vec<Busy<'_>> {
    let mut topics: Vec<_> = snapshot.topics.iter().filter(|(_, topic)| topic.numbers.messages > 0).collect();
    let key = |numbers: &Numbers| (numbers.published_rate.unwrap_or_default(), numbers.depth as f64);
    topics.sort_by(|(_, a), (_, b)| {
        key(&b.numbers).partial_cmp(&key(&a.numbers)).unwrap_or(std::cmp::Ordering::Equal)
    });
    let busy = topics.into_iter().take(BUSIEST);
    busy.map(|(name, topic)| Busy { topic: name, numbers: &topic.numbers }).collect()
}
