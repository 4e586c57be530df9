//! Reads a fleet: all of it at once, within bounds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Fleet, Reading, Sources};
use crate::finding;
use crate::snapshot::{Lookup, Node, Snapshot};
use crate::trouble;
use crate::upstream::answers::{DrainStatus, History, Info, Metrics, NodeList, Stats, TopicList};
use crate::upstream::{Call, Failure, Upstream, is_reachable_for, joined, unreadable};

/// Brokers that are read at the same time.
const AT_ONCE: usize = 32;
/// Most brokers of a fleet: others are left out, and that is said.
const NODES_MAX: usize = 1000;

/// The part of a fleet that is read so far.
#[derive(Default)]
pub(super) struct Progress(Mutex<Read>);

#[derive(Clone, Default)]
struct Read {
    /// Time when it began, in seconds since 1970.
    at: f64,
    lookups: Vec<Arc<Lookup>>,
    nodes: Vec<Arc<Node>>,
    /// Brokers there are; `None` before the lookup servers have answered.
    of: Option<usize>,
    left_out: usize,
}

impl Progress {
    /// The fleet as far as it is read, and how many of its brokers that are.
    pub(super) fn snapshot(&self) -> (Snapshot, Reading) {
        let read = self.0.lock().clone();
        let reading = Reading { done: read.nodes.len(), of: read.of };
        (read.merged(), reading)
    }

    /// Forgets it: all is read.
    pub(super) fn clear(&self) {
        *self.0.lock() = Read::default();
    }
}

impl Read {
    /// The snapshot of what was read. Its findings are there, the worst first, and nothing points at them
    /// before [`Snapshot::set_findings`].
    fn merged(self) -> Snapshot {
        let mut snapshot = Snapshot::new(self.at, self.nodes, self.lookups);
        snapshot.findings = trouble::find(&snapshot);
        finding::sort(&mut snapshot.findings);
        if self.left_out > 0 {
            let text = format!("brokers left out: {}; at most {NODES_MAX} are read", self.left_out);
            snapshot.warnings.push(text);
        }
        snapshot
    }
}

/// The time, in seconds since 1970.
pub(crate) fn seconds_now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}

/// Reads everything, and notes in `progress` what is there.
pub(super) async fn read(fleet: &Arc<Fleet>, call: &Call, progress: &Progress) -> Snapshot {
    let at = seconds_now();
    let sources = &*fleet.sources();
    let lookups = all(sources.lookups.clone(), |upstream| {
        let call = call.clone();
        async move { lookup(upstream, &call).await }
    });
    let lookups = lookups.await;
    let (nodes, left_out) = known(sources, &lookups);
    let lookups = lookups.into_iter().map(Arc::new).collect();
    *progress.0.lock() = Read { at, lookups, nodes: Vec::new(), of: Some(nodes.len()), left_out };
    let brokers = nodes.into_iter().map(|node| {
        let (fleet, call) = (Arc::clone(fleet), call.clone());
        async move { broker(node, &fleet, &call, at).await }
    });
    each(brokers.collect(), |_, node| progress.0.lock().nodes.push(Arc::new(node))).await;
    let read = progress.0.lock().clone();
    call.room.work(move || read.merged()).await.unwrap_or_default()
}

/// Does something with each, a bounded number at a time, and gives what came of it in order.
pub(crate) async fn all<T, R, F>(items: Vec<T>, work: impl Fn(T) -> F) -> Vec<R>
where
    F: Future<Output = R> + Send + 'static,
    R: Send + 'static,
{
    let mut done: BTreeMap<usize, R> = BTreeMap::new();
    let work = items.into_iter().map(work).collect();
    each(work, |at, one| {
        done.insert(at, one);
    })
    .await;
    done.into_values().collect()
}

/// Does all of `work`, a bounded number at a time, and hands over each as it is done.
async fn each<R, F>(work: Vec<F>, mut done: impl FnMut(usize, R))
where
    F: Future<Output = R> + Send + 'static,
    R: Send + 'static,
{
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut tasks = JoinSet::new();
    for (at, work) in work.into_iter().enumerate() {
        let turns = Arc::clone(&turns);
        tasks.spawn(async move {
            // Never closed.
            let _turn = turns.acquire().await;
            (at, work.await)
        });
    }
    while let Some(one) = tasks.join_next().await {
        if let Ok((at, one)) = one {
            done(at, one);
        }
    }
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

async fn broker(mut node: Node, fleet: &Fleet, call: &Call, now: f64) -> Node {
    if node.error.is_some() {
        return node;
    }
    let upstream = node.upstream.clone();
    let mut link = upstream.link();
    let query = [("format", "json"), ("include_clients", "false"), ("include_mem", "false")];
    let stats = match link.ask(call, "/stats", &query).await {
        Ok(stats) => stats,
        Err(error) => {
            node.error = Some(error);
            return node;
        }
    };
    let history = link.ask(call, "/history", &[]).await.ok();
    let filled = call.room.work(move || filled(node, &stats, history.as_deref(), now)).await;
    let mut node = match filled {
        Ok(node) => node,
        Err(error) => return Node { error: Some(unreadable(error)), ..Node::new(upstream) },
    };
    if node.error.is_some() {
        return node;
    }
    node.info = fleet.info_of(&node, &mut link, call).await;
    // Whoever keeps a history is an mq, and has the rest.
    if node.keeps_history {
        let metrics = link.ask(call, "/metrics", &[("topics", "false")]).await;
        node.metrics = metrics.ok().map(|text| Metrics::parse(&String::from_utf8_lossy(&text)));
        let drain = link.ask(call, "/drain", &[]).await.ok();
        let drain = drain.and_then(|drain| serde_json::from_slice::<DrainStatus>(&drain).ok());
        node.is_draining = drain.map(|status| status.state != "none");
    }
    node.options = fleet.options.of(&node);
    let used = node.disk().map(|(used, _)| used);
    node.log_growth = used.and_then(|used| fleet.trends.lock().note(node.id(), now, used));
    node
}

/// The node with what its answers say.
fn filled(mut node: Node, stats: &[u8], history: Option<&[u8]>, now: f64) -> Node {
    let stats: Stats = match serde_json::from_slice(stats) {
        Ok(stats) => stats,
        Err(error) => {
            node.error = Some(unreadable(error));
            return node;
        }
    };
    node.info.version.clone_from(&stats.version);
    node.info.start_time = stats.start_time;
    node.health = stats.health;
    let history: Option<History<'_>> = history.and_then(|history| serde_json::from_slice(history).ok());
    node.own_version = history.as_ref().map(|history| history.version.clone()).filter(|own| !own.is_empty());
    node.fill(stats.topics, history.as_ref(), now);
    node
}
