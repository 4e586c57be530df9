//! One channel, with its clients and its settings.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use mq_net::http::Answer;
use serde_json::{Value, json};

use super::client::ClientRow;
use super::{is_ephemeral, missing};
use crate::finding;
use crate::fleet::{all, clients_of, seconds_now};
use crate::snapshot::{Snapshot, worst_latency};
use crate::trouble::{ChannelFacts, ClientFacts};
use crate::upstream::{Call, Upstream};

/// Clients of an answer.
const CLIENTS_MAX: usize = 500;

pub(crate) async fn channel(
    snapshot: &Snapshot,
    call: &Call,
    topic: &str,
    name: &str,
) -> Result<Answer, Answer> {
    let found = snapshot.topics.get(topic).ok_or_else(|| missing("TOPIC_NOT_FOUND"))?;
    let channel = found.channels.get(name).ok_or_else(|| missing("CHANNEL_NOT_FOUND"))?;
    let ((mut clients, failed), mut settings) =
        tokio::join!(clients_of(snapshot, call, topic, name), settings_of(snapshot, call, topic, name));
    clients.sort_by_key(|(_, client)| Reverse(client.in_flight_count));
    let listed: Vec<_> = clients.iter().map(|(node, client)| ClientFacts::new(node, client)).collect();
    let facts = ChannelFacts {
        topic,
        channel: name,
        numbers: &channel.numbers,
        clients: channel.clients,
        by_node: &channel.by_node,
        listed: Some(&listed),
        now: snapshot.at,
    };
    let mut findings = facts.find();
    finding::sort(&mut findings);
    let on_nodes: Vec<_> =
        snapshot.nodes_of(topic).filter_map(|(node, topic)| Some((node, topic.channel(name)?))).collect();
    let rows = on_nodes.iter().map(|(node, (channel, numbers))| {
        let mut row = serde_json::to_value(numbers).unwrap_or_default();
        row["node"] = node.id().into();
        row["clients"] = channel.client_count.into();
        row["latency"] = json!(channel.e2e_processing_latency.percentiles);
        if let Some(settings) = settings.remove(node.id()) {
            row["settings"] = settings;
        }
        row
    });
    let mut answer = serde_json::to_value(&channel.numbers).unwrap_or_default();
    answer["at"] = json!(snapshot.at);
    answer["warnings"] = json!([&snapshot.warnings[..], &failed].concat());
    answer["topic"] = topic.into();
    answer["channel"] = name.into();
    answer["ephemeral"] = is_ephemeral(name).into();
    let latencies = on_nodes.iter().map(|(_, (channel, _))| &channel.e2e_processing_latency.percentiles[..]);
    let dead_letters: u64 = on_nodes.iter().map(|(_, (channel, _))| channel.dead_letter_count).sum();
    answer["dead_letters"] = dead_letters.into();
    answer["latency"] = json!(worst_latency(latencies));
    answer["findings"] = json!(findings);
    answer["nodes"] = rows.collect();
    answer["clients_at"] = json!(seconds_now());
    answer["clients_total"] = clients.len().into();
    let clients = clients.into_iter().take(CLIENTS_MAX);
    answer["clients"] =
        json!(clients.map(|(node, client)| ClientRow::new(&node, client)).collect::<Vec<_>>());
    Ok(Answer::json(&answer))
}

/// Settings of the channel by node, of the `mq` brokers that have it and answer.
async fn settings_of(snapshot: &Snapshot, call: &Call, topic: &str, name: &str) -> HashMap<String, Value> {
    let having =
        snapshot.nodes_of(topic).filter(|(node, topic)| node.keeps_history && topic.channel(name).is_some());
    let nodes: Vec<Upstream> = having.map(|(node, _)| node.upstream.clone()).collect();
    let place: Arc<(String, String)> = Arc::new((topic.to_owned(), name.to_owned()));
    let answers = all(nodes, |upstream| {
        let (call, place) = (call.clone(), Arc::clone(&place));
        async move {
            let query = [("topic", &*place.0), ("channel", &*place.1)];
            let settings = upstream.get::<Value>(&call, "/channel/config", &query).await;
            Some((upstream.id, settings.ok()?))
        }
    });
    answers.await.into_iter().flatten().collect()
}
