//! The objects of nsqadmin's API.

use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::snapshot::{Node, Snapshot, TopicHere};
use crate::trouble::fleet::numbers;
use crate::upstream::answers::{Channel, Client, Latency, Topic};

/// Adds numbers of `from` to those of `to`, by name.
fn add(to: &mut Value, from: &Value, names: &[&str]) {
    for name in names {
        let sum = to[*name].as_u64().unwrap_or_default() + from[*name].as_u64().unwrap_or_default();
        to[*name] = sum.into();
    }
}

const TOPIC_SUMS: [&str; 5] =
    ["depth", "memory_depth", "backend_depth", "message_count", "delivery_msg_count"];
const CHANNEL_SUMS: [&str; 10] = [
    "depth",
    "memory_depth",
    "backend_depth",
    "in_flight_count",
    "deferred_count",
    "requeue_count",
    "timeout_count",
    "message_count",
    "delivery_msg_count",
    "client_count",
];

/// Percentiles of several nodes: the least, the most and the mean of each.
fn latency(all: &[&Latency], topic: &str, channel: &str, host: &str) -> Value {
    struct Merged {
        quantile: f64,
        min: f64,
        max: f64,
        /// Weighted by the messages measured.
        sum: f64,
        count: u64,
    }
    let mut merged: Vec<Merged> = Vec::new();
    for latency in all {
        for percentile in &latency.percentiles {
            let count = latency.count;
            let weighted = percentile.value * count as f64;
            match merged.iter_mut().find(|one| one.quantile == percentile.quantile) {
                Some(one) => {
                    one.min = one.min.min(percentile.value);
                    one.max = one.max.max(percentile.value);
                    one.sum += weighted;
                    one.count += count;
                }
                None => merged.push(Merged {
                    quantile: percentile.quantile,
                    min: percentile.value,
                    max: percentile.value,
                    sum: weighted,
                    count,
                }),
            }
        }
    }
    let percentiles: Vec<_> = merged
        .iter()
        .map(|one| {
            let average = if one.count > 0 { one.sum / one.count as f64 } else { 0.0 };
            json!({"quantile": one.quantile, "min": one.min, "max": one.max, "average": average, "count": one.count})
        })
        .collect();
    json!({
        "count": all.iter().map(|latency| latency.count).sum::<u64>(),
        "percentiles": Some(percentiles).filter(|all| !all.is_empty()),
        "topic": topic, "channel": channel, "host": host,
    })
}

/// Percentiles of one node, which say nothing of where that is.
fn latency_on(one: &Latency) -> Value {
    let mut value = latency(&[one], "", "", "");
    for (shown, percentile) in value["percentiles"].as_array_mut().into_iter().flatten().zip(&one.percentiles)
    {
        shown["value"] = json!(percentile.value);
    }
    value
}

/// Clients of a channel (of a topic, by its name, on a node), where they were asked for.
pub(super) type Clients<'a> = Option<&'a dyn Fn(&str, &str, &str) -> Vec<Client>>;

/// The brokers that have a topic and are not hidden from those who look for it.
fn nodes_of<'s>(snapshot: &'s Snapshot, topic: &str) -> Vec<(&'s Node, &'s TopicHere)> {
    let is_hidden = |node: &Node| {
        let flags = node.registered.iter().flat_map(|(_, at)| at.topics.iter().zip(&at.tombstones));
        let mut flags = flags.filter(|(name, _)| *name == topic).map(|(_, hidden)| *hidden).peekable();
        flags.peek().is_some() && flags.all(|hidden| hidden)
    };
    snapshot.nodes_of(topic).filter(|(node, _)| !is_hidden(node)).collect()
}

/// A list as Go writes it: `null` if it is empty.
fn list(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { values.into() }
}

fn channel_on(node: &Node, topic: &str, channel: &Channel, clients: Clients<'_>) -> Value {
    let clients = clients.map(|clients| {
        let listed = clients(topic, &channel.channel_name, node.id());
        listed.iter().map(|client| client_of(node, client)).collect::<Vec<_>>()
    });
    json!({
        "node": node.id(),
        "hostname": node.info.hostname,
        "topic_name": topic,
        "channel_name": channel.channel_name,
        "depth": channel.depth,
        "memory_depth": channel.depth.saturating_sub(channel.backend_depth),
        "backend_depth": channel.backend_depth,
        "in_flight_count": channel.in_flight_count,
        "deferred_count": channel.deferred_count,
        "requeue_count": channel.requeue_count,
        "timeout_count": channel.timeout_count,
        "message_count": channel.message_count,
        "delivery_msg_count": channel.zone_local_msg_count + channel.region_local_msg_count + channel.global_msg_count,
        "client_count": channel.client_count,
        "nodes": null,
        "clients": clients,
        "paused": channel.paused,
        "e2e_processing_latency": latency_on(&channel.e2e_processing_latency),
    })
}

fn client_of(node: &Node, client: &Client) -> Value {
    let mut value = serde_json::to_value(client).unwrap_or_default();
    value["node"] = node.id().into();
    // Time since then, in nanoseconds, as Go counts it; by whole seconds, which is all that a broker says.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    value["connected"] = now.saturating_sub(client.connect_ts).saturating_mul(1_000_000_000).into();
    value["node_topology_region"] = node.info.topology_region.as_str().into();
    value["node_topology_zone"] = node.info.topology_zone.as_str().into();
    value
}

fn topic_on(node: &Node, topic: &Topic, clients: Clients<'_>) -> Value {
    let name = &topic.topic_name;
    let channels = topic.channels.iter().map(|channel| channel_on(node, name, channel, clients));
    json!({
        "node": node.id(),
        "hostname": node.info.hostname,
        "topic_name": name,
        "depth": topic.depth,
        "memory_depth": topic.depth.saturating_sub(topic.backend_depth),
        "backend_depth": topic.backend_depth,
        "message_count": topic.message_count,
        "delivery_msg_count": 0,
        "nodes": null,
        "channels": channels.collect::<Vec<_>>(),
        "paused": topic.paused,
        "e2e_processing_latency": latency_on(&topic.e2e_processing_latency),
    })
}

/// A topic over all nodes.
pub(super) fn topic_stats(snapshot: &Snapshot, name: &str) -> Option<Value> {
    let topic = snapshot.topics.get(name)?;
    let on_nodes = nodes_of(snapshot, name);
    let nodes: Vec<_> = on_nodes.iter().map(|(node, found)| topic_on(node, found, None)).collect();
    let channels: Vec<_> =
        topic.channels.keys().filter_map(|channel| channel_stats(snapshot, name, channel, None)).collect();
    let latencies: Vec<_> = on_nodes.iter().map(|(_, found)| &found.e2e_processing_latency).collect();
    let mut all = json!({
        "node": "*",
        "hostname": "",
        "topic_name": name,
        "paused": nodes.iter().any(|node| node["paused"] == true),
        "e2e_processing_latency": latency(&latencies, name, "", "*"),
    });
    TOPIC_SUMS.iter().for_each(|field| all[*field] = 0.into());
    nodes.iter().for_each(|node| add(&mut all, node, &TOPIC_SUMS));
    all["nodes"] = list(nodes);
    all["channels"] = list(channels);
    Some(all)
}

/// A channel over all nodes, with its clients.
pub(super) fn channel_stats(
    snapshot: &Snapshot,
    topic: &str,
    name: &str,
    clients: Clients<'_>,
) -> Option<Value> {
    let on_nodes: Vec<_> = nodes_of(snapshot, topic)
        .into_iter()
        .filter_map(|(node, found)| Some((node, found.channel(name)?.0)))
        .collect();
    if on_nodes.is_empty() {
        return None;
    }
    let nodes: Vec<_> =
        on_nodes.iter().map(|(node, channel)| channel_on(node, topic, channel, clients)).collect();
    let latencies: Vec<_> = on_nodes.iter().map(|(_, channel)| &channel.e2e_processing_latency).collect();
    let clients: Vec<_> =
        nodes.iter().flat_map(|node| node["clients"].as_array().cloned().unwrap_or_default()).collect();
    let mut all = json!({
        "node": "*",
        "hostname": "",
        "topic_name": topic,
        "channel_name": name,
        "clients": list(clients),
        "paused": nodes.iter().any(|node| node["paused"] == true),
        "e2e_processing_latency": latency(&latencies, topic, name, "*"),
    });
    CHANNEL_SUMS.iter().for_each(|field| all[*field] = 0.into());
    nodes.iter().for_each(|node| add(&mut all, node, &CHANNEL_SUMS));
    all["nodes"] = list(nodes);
    Some(all)
}

/// All nodes.
pub(super) fn nodes(snapshot: &Snapshot) -> Value {
    // NSQ's version, which every broker says it is of.
    let newest = snapshot.nodes.iter().map(|node| numbers(&node.info.version)).max();
    let row = |node: &Node| {
        let known = node.registered.first().map(|(_, known)| known.clone()).unwrap_or_default();
        let info = &node.info;
        let or =
            |own: &str, registered: &str| if own.is_empty() { registered.to_owned() } else { own.to_owned() };
        let version = or(&info.version, &known.version);
        let topics: Vec<_> = match node.registered.is_empty() {
            true => node.topics.keys().map(|topic| json!({"topic": topic, "tombstoned": false})).collect(),
            false => known
                .topics
                .iter()
                .map(|topic| json!({"topic": topic, "tombstoned": node.is_tombstoned(topic)}))
                .collect(),
        };
        let at = node.registered.iter().map(|(lookup, known)| format!("{lookup}/{}", known.remote_address));
        json!({
            "remote_addresses": at.collect::<Vec<_>>(),
            "remote_address": known.remote_address,
            "hostname": or(&info.hostname, &known.hostname),
            "broadcast_address": or(&info.broadcast_address, &known.broadcast_address),
            "tcp_port": if info.tcp_port > 0 { info.tcp_port } else { known.tcp_port.into() },
            "http_port": if info.http_port > 0 { info.http_port } else { known.http_port.into() },
            "out_of_date": newest.is_some_and(|newest| numbers(&version) < newest),
            "version": version,
            "topology_zone": or(&info.topology_zone, &known.topology_zone),
            "topology_region": or(&info.topology_region, &known.topology_region),
            "topics": topics,
        })
    };
    json!({"nodes": snapshot.nodes.iter().map(|node| row(node)).collect::<Vec<_>>()})
}

/// One node with its topics.
pub(super) fn node_stats(snapshot: &Snapshot, id: &str, clients: Clients<'_>) -> Option<Value> {
    let node = snapshot.node(id)?;
    let topics: Vec<_> = node.topics.values().map(|topic| topic_on(node, topic, clients)).collect();
    let channels = node.topics.values().flat_map(|topic| &topic.channels);
    Some(json!({
        "node": id,
        "topics": topics,
        "total_messages": node.topics.values().map(|topic| topic.message_count).sum::<u64>(),
        "total_clients": channels.map(|channel| channel.client_count).sum::<u64>(),
    }))
}
