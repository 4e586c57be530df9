//! All brokers and lookup servers at one moment, merged as nsqadmin merges them.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::node::{Node, TopicHere};
use super::numbers::Numbers;
use crate::finding::{self, Finding};
use crate::upstream::answers::Registered;
use crate::upstream::{Failure, Upstream};

/// A fleet at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Time when it was read, in seconds since 1970.
    pub(crate) at: f64,
    /// Sentences about who did not answer.
    pub(crate) warnings: Vec<String>,
    /// All brokers, sorted by id.
    pub(crate) nodes: Vec<Arc<Node>>,
    pub(crate) lookups: Vec<Arc<Lookup>>,
    pub(crate) topics: BTreeMap<String, Topic>,
    /// Worst first.
    pub(crate) findings: Vec<Finding>,
}

/// A lookup server.
#[derive(Debug)]
pub(crate) struct Lookup {
    pub(crate) upstream: Upstream,
    pub(crate) error: Option<Failure>,
    pub(crate) version: String,
    pub(crate) brokers: Vec<Registered>,
    pub(crate) topics: BTreeSet<String>,
}

/// A topic over all nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Topic {
    pub(crate) numbers: Numbers,
    /// Messages before any channel.
    pub(crate) own_depth: u64,
    /// Bytes of bodies published.
    pub(crate) bytes: u64,
    pub(crate) clients: u64,
    /// Number of nodes that have it.
    pub(crate) nodes: usize,
    pub(crate) channels: BTreeMap<String, Channel>,
    /// Nodes where damage has stopped it, with the reason: to search all nodes for each topic takes long.
    pub(crate) damaged: Vec<(Arc<str>, String)>,
    /// Its worst finding, as an index.
    pub(crate) worst: Option<usize>,
}

/// A channel over all nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Channel {
    pub(crate) numbers: Numbers,
    pub(crate) clients: u64,
    /// Each node's numbers, by the node's id.
    pub(crate) by_node: Vec<(Arc<str>, Numbers)>,
    pub(crate) worst: Option<usize>,
}

impl Snapshot {
    /// Merges what was read. There are no findings before [`Snapshot::set_findings`].
    pub(crate) fn new(at: f64, mut nodes: Vec<Arc<Node>>, lookups: Vec<Arc<Lookup>>) -> Self {
        nodes.sort_by(|a, b| a.id().cmp(b.id()));
        let mut snapshot = Self { at, nodes, lookups, ..Self::default() };
        snapshot.warnings = snapshot.silent();
        snapshot.merge();
        snapshot
    }

    /// The broker of that id.
    pub(crate) fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().map(|node| &**node).find(|node| node.id() == id)
    }

    /// The brokers that have a topic.
    pub(crate) fn nodes_of<'s>(&'s self, topic: &str) -> impl Iterator<Item = (&'s Node, &'s TopicHere)> {
        self.nodes.iter().filter_map(move |node| Some((&**node, node.topics.get(topic)?)))
    }

    /// Whether nobody answered.
    pub(crate) fn is_empty(&self) -> bool {
        let nodes = self.nodes.iter().all(|node| node.error.is_some());
        nodes && self.lookups.iter().all(|lookup| lookup.error.is_some())
    }

    /// Sorts the findings, worst first, and has topics and channels point at theirs.
    pub(crate) fn set_findings(&mut self, mut findings: Vec<Finding>) {
        finding::sort(&mut findings);
        for (at, finding) in findings.iter().enumerate() {
            let Some(topic) = finding.topic.as_ref().and_then(|name| self.topics.get_mut(name)) else {
                continue;
            };
            topic.worst.get_or_insert(at);
            if let Some(channel) = finding.channel.as_ref().and_then(|name| topic.channels.get_mut(name)) {
                channel.worst.get_or_insert(at);
            }
        }
        self.findings = findings;
    }

    fn silent(&self) -> Vec<String> {
        let lookups = self.lookups.iter().map(|lookup| ("lookup server", &lookup.upstream, &lookup.error));
        let nodes = self.nodes.iter().map(|node| ("node", &node.upstream, &node.error));
        let silent = lookups.chain(nodes).filter_map(|(what, upstream, error)| {
            error.as_ref().map(|error| format!("{what} {} does not answer: {error}", upstream.id))
        });
        silent.collect()
    }

    fn merge(&mut self) {
        let mut topics: HashMap<&str, Topic> = HashMap::new();
        for name in self.lookups.iter().flat_map(|lookup| &lookup.topics) {
            topics.entry(name).or_default();
        }
        for node in &self.nodes {
            let id: Arc<str> = node.id().into();
            for (name, found) in &node.topics {
                let topic = topics.entry(name).or_default();
                topic.add(found, &id);
            }
        }
        // Sorted at once, which is cheaper than one by one.
        self.topics = topics.into_iter().map(|(name, topic)| (name.to_owned(), topic)).collect();
    }
}

impl Topic {
    /// Adds what the node `id` has of it.
    fn add(&mut self, found: &TopicHere, id: &Arc<str>) {
        self.numbers = match self.nodes {
            0 => found.numbers.clone(),
            _ => Numbers::sum([&self.numbers, &found.numbers]),
        };
        self.nodes += 1;
        self.own_depth += found.depth;
        self.bytes += found.message_bytes;
        self.damaged.extend(found.damage.clone().map(|damage| (Arc::clone(id), damage)));
        for (channel, numbers) in found.all_channels() {
            self.clients += channel.client_count;
            let merged = match self.channels.get_mut(&channel.channel_name) {
                Some(merged) => {
                    merged.numbers = Numbers::sum([&merged.numbers, numbers]);
                    merged
                }
                None => {
                    let numbers = numbers.clone();
                    self.channels
                        .entry(channel.channel_name.clone())
                        .or_insert(Channel { numbers, ..Channel::default() })
                }
            };
            merged.clients += channel.client_count;
            merged.by_node.push((Arc::clone(id), numbers.clone()));
        }
    }
}
