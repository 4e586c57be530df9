//! Reads a fleet: all of it at once, within bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use mq_net::http::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Sources;
use super::snapshot::{Lookup, Node, Snapshot};
use crate::upstream::answers::{self, DrainStatus, History, Info, Metrics, NodeList, Stats, TopicList};
use crate::upstream::{Call, Failure, Upstream, is_reachable_for, joined};

/// Brokers that are read at the same time.
const AT_ONCE: usize = 32;
/// Most brokers of a fleet: others are left out, and that is said.
const NODES_MAX: usize = 1000;

/// Reads everything.
pub(super) async fn read(sources: &Sources, call: &Call) -> Snapshot {
    let lookups = all(sources.lookups.clone(), |upstream| {
        let call = call.clone();
        async move { lookup(upstream, &call).await }
    });
    let lookups = lookups.await;
    let (mut nodes, left_out) = known(sources, &lookups);
    let registered: BTreeMap<String, _> =
        nodes.iter_mut().map(|node| (node.id().to_owned(), std::mem::take(&mut node.registered))).collect();
    let nodes = all(nodes, |node| {
        let call = call.clone();
        async move { broker(node, &call).await }
    });
    let mut nodes = nodes.await;
    for node in &mut nodes {
        node.registered = registered.get(node.id()).cloned().unwrap_or_default();
    }
    let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
    let merged = tokio::task::spawn_blocking(move || {
        let mut snapshot = Snapshot::new(at, nodes, lookups);
        if left_out > 0 {
            snapshot.warnings.push(format!("{left_out} brokers are left out: at most {NODES_MAX} are read"));
        }
        snapshot
    });
    merged.await.unwrap_or_default()
}

/// Does something with each, a bounded number at a time, in order.
pub(crate) async fn all<T, R, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Vec<R>
where
    F: Future<Output = R> + Send + 'static,
    R: Send + 'static,
{
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (at, item) in items.into_iter().enumerate() {
        let (turns, work) = (Arc::clone(&turns), work(item));
        tasks.spawn(async move {
            // Never closed.
            let _turn = turns.acquire().await;
            (at, work.await)
        });
    }
    let mut done: BTreeMap<usize, R> = BTreeMap::new();
    while let Some(one) = tasks.join_next().await {
        done.extend(one.ok());
    }
    done.into_values().collect()
}

/// The brokers that were named, and those that lookup servers know; and how many are too many.
fn known(sources: &Sources, lookups: &[Lookup]) -> (Vec<Node>, usize) {
    let mut nodes: Vec<Node> = sources.nodes.iter().cloned().map(Node::new).collect();
    let mut left_out = 0;
    for lookup in lookups {
        for broker in &lookup.brokers {
            let id = joined(&broker.broadcast_address, broker.http_port);
            let at = (lookup.upstream.id.clone(), broker.clone());
            if let Some(node) = nodes.iter_mut().find(|node| node.id() == id) {
                node.registered.push(at);
                continue;
            }
            if nodes.len() >= NODES_MAX {
                left_out += 1;
                continue;
            }
            let mut node = Node::new(Upstream::learned(id, &lookup.upstream.id));
            if !is_reachable_for(&lookup.upstream.id, &broker.broadcast_address, broker.http_port) {
                let text = "its registered address leads to this machine or link: name it with --nsqd-http-address if it is a broker";
                node.error = Some(Failure::NoAnswer(text.to_owned()));
            }
            node.registered.push(at);
            nodes.push(node);
        }
    }
    (nodes, left_out)
}

async fn lookup(upstream: Upstream, call: &Call) -> Lookup {
    let (nodes, topics, info) = tokio::join!(
        upstream.get::<NodeList>(call, "/nodes", &[]),
        upstream.get::<TopicList>(call, "/topics", &[]),
        upstream.get::<Info>(call, "/info", &[]),
    );
    let error = nodes.as_ref().err().or(topics.as_ref().err()).cloned();
    Lookup {
        error,
        version: info.unwrap_or_default().version,
        brokers: nodes.unwrap_or_default().producers,
        topics: topics.unwrap_or_default().topics.into_iter().collect(),
        upstream,
    }
}

async fn broker(mut node: Node, call: &Call) -> Node {
    if node.error.is_some() {
        return node;
    }
    let upstream = &node.upstream;
    let query = [("format", "json"), ("include_clients", "false"), ("include_mem", "false")];
    let (stats, info, history) = tokio::join!(
        upstream.get::<Stats>(call, "/stats", &query),
        upstream.get::<Info>(call, "/info", &[]),
        upstream.get::<History>(call, "/history", &[]),
    );
    match stats {
        Ok(stats) => {
            node.info.version.clone_from(&stats.version);
            node.info.start_time = stats.start_time;
            node.health = stats.health;
            let by_name = |topic: answers::Topic| (topic.topic_name.clone(), topic);
            node.topics = stats.topics.into_iter().map(by_name).collect();
        }
        Err(error) => {
            node.error = Some(error);
            return node;
        }
    }
    node.info = info.unwrap_or(node.info);
    // Whoever keeps a history is an mq, and has the rest.
    if let Ok(history) = history {
        node.own_version = Some(history.version).filter(|version| !version.is_empty());
        node.history_missing = history.missing;
        node.has_rates = history.node.as_ref().is_some_and(|node| node.growth.is_some());
        let by_key = |series: answers::Series| match &series.channel {
            Some(channel) => (format!("{}:{channel}", series.topic), series),
            None => (series.topic.clone(), series),
        };
        node.history = Some(history.series.into_iter().map(by_key).collect());
        let (metrics, drain) = tokio::join!(
            node.upstream.ask(call, Method::GET, "/metrics", &[("topics", "false")], Bytes::new()),
            node.upstream.get::<DrainStatus>(call, "/drain", &[]),
        );
        node.metrics = metrics.ok().map(|text| Metrics::parse(&String::from_utf8_lossy(&text)));
        node.is_draining = drain.ok().map(|status| status.state != "none");
    }
    node
}

/// Whether an error says that a token is missing.
pub(crate) fn is_unauthorized(error: &Failure) -> bool {
    error.status() == Some(StatusCode::UNAUTHORIZED)
}
