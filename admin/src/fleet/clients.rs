//! Clients of channels, asked for when somebody wants to know.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::reading::all;
use crate::finding::{Finding, Kind, Severity};
use crate::snapshot::Snapshot;
use crate::trouble::{ChannelFacts, ClientFacts};
use crate::upstream::answers::{ChannelList, Client, Stats};
use crate::upstream::{Call, Failure, Upstream};

/// Channels whose clients are asked for, to say why they are behind.
const EXPLAINED_MAX: usize = 8;
/// Topics without a broker whose channels are asked for.
const INACTIVE_MAX: usize = 200;

/// The clients of a channel, each with its node, and sentences about nodes that did not answer.
pub(crate) async fn clients_of(
    snapshot: &Snapshot,
    call: &Call,
    topic: &str,
    name: &str,
) -> (Vec<(String, Client)>, Vec<String>) {
    let nodes: Vec<Upstream> = snapshot
        .nodes_of(topic)
        .filter(|(_, found)| found.channels.iter().any(|c| c.channel_name == name && c.client_count > 0))
        .map(|(node, _)| node.upstream.clone())
        .collect();
    let place: Arc<(String, String)> = Arc::new((topic.to_owned(), name.to_owned()));
    let answers = all(nodes, |upstream| {
        let (call, place) = (call.clone(), Arc::clone(&place));
        async move {
            let query =
                [("format", "json"), ("topic", &*place.0), ("channel", &*place.1), ("include_mem", "false")];
            let stats: Result<Stats, Failure> = upstream.get(&call, "/stats", &query).await;
            (upstream.id, stats)
        }
    });
    let (mut clients, mut failed) = (Vec::new(), Vec::new());
    for (node, stats) in answers.await {
        match stats {
            Ok(stats) => {
                let channels = stats.topics.into_iter().flat_map(|topic| topic.channels);
                let of_channel = channels.filter(|channel| channel.channel_name == name);
                let listed = of_channel.flat_map(|channel| channel.clients);
                clients.extend(listed.map(|client| (node.clone(), client)));
            }
            Err(error) => failed.push(format!("node {node} does not answer: {error}")),
        }
    }
    (clients, failed)
}

/// The clients of all channels of a node, by topic and channel; none where it does not answer.
pub(crate) async fn clients_on(
    snapshot: &Snapshot,
    call: &Call,
    id: &str,
) -> HashMap<(String, String), Vec<Client>> {
    let Some(node) = snapshot.node(id).filter(|node| node.error.is_none()) else { return HashMap::new() };
    let query = [("format", "json"), ("include_mem", "false")];
    let stats: Result<Stats, Failure> = node.upstream.get(call, "/stats", &query).await;
    let topics = stats.unwrap_or_default().topics.into_iter();
    let channels = topics.flat_map(|topic| {
        let name = topic.topic_name;
        topic.channels.into_iter().map(move |channel| ((name.clone(), channel.channel_name), channel.clients))
    });
    channels.collect()
}

/// The findings of a snapshot, the worst slow channels explained by their clients.
pub(super) async fn explained(snapshot: &Snapshot, mut findings: Vec<Finding>, call: &Call) -> Vec<Finding> {
    let is_behind = |finding: &&Finding| {
        let asks_why = matches!(finding.kind, Kind::Slow | Kind::TimingOut | Kind::Requeueing);
        asks_why && finding.severity < Severity::Notice
    };
    let behind = findings.iter().filter(is_behind).take(EXPLAINED_MAX);
    let behind: Vec<(String, String)> =
        behind.filter_map(|finding| finding.topic.clone().zip(finding.channel.clone())).collect();
    for (topic, name) in &behind {
        let Some(channel) = snapshot.topics.get(topic).and_then(|topic| topic.channels.get(name)) else {
            continue;
        };
        let (clients, _) = clients_of(snapshot, call, topic, name).await;
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
        findings.retain(|f| f.topic.as_ref() != Some(topic) || f.channel.as_ref() != Some(name));
        findings.extend(facts.find());
    }
    findings
}

/// Topics that no broker has, with their channels as lookup servers know them; of the first 200.
pub(crate) async fn inactive(snapshot: &Snapshot, call: &Call) -> BTreeMap<String, Vec<String>> {
    let names = snapshot.topics.iter().filter(|(_, topic)| topic.nodes == 0).map(|(name, _)| name.clone());
    let mut found: BTreeMap<String, Vec<String>> = names.map(|name| (name, Vec::new())).collect();
    let lookups = || snapshot.lookups.iter().filter(|lookup| lookup.error.is_none());
    let pairs = found.keys().take(INACTIVE_MAX).flat_map(|topic| {
        lookups()
            .filter(|lookup| lookup.topics.contains(topic))
            .map(|at| (topic.clone(), at.upstream.clone()))
    });
    let answers = all(pairs.collect(), |(topic, upstream)| {
        let call = call.clone();
        async move {
            let list: Result<ChannelList, Failure> =
                upstream.get(&call, "/channels", &[("topic", &topic)]).await;
            (topic, list.unwrap_or_default().channels)
        }
    });
    for (topic, channels) in answers.await {
        let known = found.entry(topic).or_default();
        known.extend(channels);
        known.sort();
        known.dedup();
    }
    found
}
