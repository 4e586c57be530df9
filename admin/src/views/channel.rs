//! One channel, with its clients.

use std::cmp::Reverse;

use mq_net::http::Answer;
use serde_json::json;

use super::client::ClientRow;
use super::{is_ephemeral, missing};
use crate::fleet::numbers::worst_latency;
use crate::fleet::{Snapshot, clients_of};
use crate::trouble::{self, ChannelFacts, ClientFacts};
use crate::upstream::Call;

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
    let (mut clients, failed) = clients_of(snapshot, call, topic, name).await;
    clients.sort_by_key(|(_, client)| Reverse(client.in_flight_count));
    let listed: Vec<_> = clients.iter().map(|(_, client)| ClientFacts::new(client)).collect();
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
    trouble::sort(&mut findings);
    let on_nodes: Vec<_> = snapshot
        .nodes_of(topic)
        .filter_map(|(node, topic)| Some((node, topic.channels.iter().find(|c| c.channel_name == name)?)))
        .collect();
    let rows = on_nodes.iter().map(|(node, channel)| {
        let mut row = serde_json::to_value(node.channel(topic, channel, snapshot.at)).unwrap_or_default();
        row["node"] = node.id().into();
        row["clients"] = channel.client_count.into();
        row["latency"] = json!(channel.e2e_processing_latency.percentiles);
        row
    });
    let mut answer = serde_json::to_value(&channel.numbers).unwrap_or_default();
    answer["at"] = json!(snapshot.at);
    answer["warnings"] = json!([&snapshot.warnings[..], &failed].concat());
    answer["topic"] = topic.into();
    answer["channel"] = name.into();
    answer["ephemeral"] = is_ephemeral(name).into();
    let latencies = on_nodes.iter().map(|(_, channel)| &channel.e2e_processing_latency.percentiles[..]);
    answer["latency"] = json!(worst_latency(latencies));
    answer["findings"] = json!(findings);
    answer["nodes"] = rows.collect();
    answer["clients_total"] = clients.len().into();
    let clients = clients.into_iter().take(CLIENTS_MAX);
    answer["clients"] =
        json!(clients.map(|(node, client)| ClientRow::new(&node, client)).collect::<Vec<_>>());
    Ok(Answer::json(&answer))
}
