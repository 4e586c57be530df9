//! One topic: its nodes, channels, settings, publishers.

use std::sync::Arc;

use mq_net::http::Answer;
use serde_json::{Value, json};

use super::client::ClientRow;
use super::{is_ephemeral, missing};
use crate::finding::Finding;
use crate::fleet::all;
use crate::snapshot::{Node, Snapshot, TopicHere, worst_latency};
use crate::upstream::answers::{self, Stats};
use crate::upstream::{Call, Failure, Upstream};

/// Rows of an answer.
const CHANNELS_MAX: usize = 500;
const NODES_MAX: usize = 200;
const PRODUCERS_MAX: usize = 200;

pub(crate) async fn topic(snapshot: &Snapshot, call: &Call, name: &str) -> Result<Answer, Answer> {
    let topic = snapshot.topics.get(name).ok_or_else(|| missing("TOPIC_NOT_FOUND"))?;
    let on_nodes: Vec<_> = snapshot.nodes_of(name).take(NODES_MAX).collect();
    let asked = ask(on_nodes.iter().map(|(node, _)| *node), call, name).await;
    let mut warnings = snapshot.warnings.clone();
    let mut producers = Vec::new();
    let mut nodes = Vec::new();
    for ((node, found), (settings, clients)) in on_nodes.iter().zip(asked) {
        nodes.push(node_row(node, found, settings));
        match clients {
            Ok(found) => producers.extend(found),
            Err(error) => warnings.push(format!("node {} does not answer: {error}", node.id())),
        }
    }
    let channels = topic.channels.iter().take(CHANNELS_MAX).map(|(channel_name, channel)| {
        let latencies = on_nodes.iter().filter_map(|(_, found)| {
            let (channel, _) = found.channel(channel_name)?;
            Some(&channel.e2e_processing_latency.percentiles[..])
        });
        let mut row = serde_json::to_value(&channel.numbers).unwrap_or_default();
        row["channel"] = channel_name.as_str().into();
        row["clients"] = channel.clients.into();
        row["ephemeral"] = is_ephemeral(channel_name).into();
        row["latency"] = json!(worst_latency(latencies));
        row["worst"] = json!(channel.worst.and_then(|at| snapshot.findings.get(at)));
        row
    });
    let is_here = |finding: &&Finding| finding.topic.as_deref() == Some(name);
    let mut answer = serde_json::to_value(&topic.numbers).unwrap_or_default();
    answer["at"] = json!(snapshot.at);
    answer["warnings"] = json!(warnings);
    answer["topic"] = name.into();
    answer["own_depth"] = topic.own_depth.into();
    answer["bytes"] = topic.bytes.into();
    answer["clients"] = topic.clients.into();
    answer["ephemeral"] = is_ephemeral(name).into();
    answer["findings"] = json!(snapshot.findings.iter().filter(is_here).take(100).collect::<Vec<_>>());
    answer["nodes"] = nodes.into();
    answer["nodes_total"] = topic.nodes.into();
    answer["channels"] = channels.collect();
    answer["channels_total"] = topic.channels.len().into();
    answer["producers_total"] = producers.len().into();
    producers.truncate(PRODUCERS_MAX);
    answer["producers"] = json!(producers);
    Ok(Answer::json(&answer))
}

fn node_row(node: &Node, found: &TopicHere, settings: Option<Value>) -> Value {
    let mut row = serde_json::to_value(&found.numbers).unwrap_or_default();
    row["node"] = node.id().into();
    row["own_depth"] = found.depth.into();
    row["channels"] = found.channels.len().into();
    row["clients"] = found.numbers.clients.into();
    row["tombstoned"] = node.is_tombstoned(&found.topic_name).into();
    row["damage"] = json!(found.damage);
    row["latency"] = json!(found.e2e_processing_latency.percentiles);
    if let Some(settings) = settings {
        row["settings"] = settings;
    }
    row
}

/// Settings of the topic on a node, if that is an `mq`, and who publishes there.
type Asked = (Option<Value>, Result<Vec<ClientRow>, Failure>);

async fn ask<'n>(nodes: impl Iterator<Item = &'n Node>, call: &Call, name: &str) -> Vec<Asked> {
    let nodes: Vec<(Upstream, bool)> =
        nodes.map(|node| (node.upstream.clone(), node.keeps_history)).collect();
    let name: Arc<str> = name.into();
    all(nodes, |(upstream, is_mq)| {
        let (call, name) = (call.clone(), Arc::clone(&name));
        async move {
            let query = [("format", "json"), ("topic", &*name), ("include_mem", "false")];
            let settings = async {
                match is_mq {
                    true => upstream.get::<Value>(&call, "/topic/config", &[("topic", &*name)]).await.ok(),
                    false => None,
                }
            };
            let (settings, stats) = tokio::join!(settings, upstream.get::<Stats>(&call, "/stats", &query));
            let producers = stats.map(|stats| {
                let here =
                    |client: &answers::Client| client.pub_counts.iter().any(|count| count.topic == *name);
                let producers = stats.producers.into_iter().filter(here);
                producers.map(|client| ClientRow::new(&upstream.id, client)).collect()
            });
            (settings, producers)
        }
    })
    .await
}
