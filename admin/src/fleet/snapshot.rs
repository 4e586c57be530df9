//! All brokers and lookup servers at one moment, merged as nsqadmin merges them.

use std::collections::{BTreeMap, BTreeSet};

use super::numbers::{Known, Numbers};
use crate::trouble::{self, Finding};
use crate::upstream::answers::{self, Info, Metrics, Registered, Series};
use crate::upstream::{Failure, Upstream};

/// A fleet at one moment.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Time when it was read, in seconds since 1970.
    pub(crate) at: f64,
    /// Sentences about who did not answer.
    pub(crate) warnings: Vec<String>,
    /// All brokers, sorted by id.
    pub(crate) nodes: Vec<Node>,
    pub(crate) lookups: Vec<Lookup>,
    pub(crate) topics: BTreeMap<String, Topic>,
    /// Worst first.
    pub(crate) findings: Vec<Finding>,
}

/// A broker.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) upstream: Upstream,
    /// The reason why it has no numbers.
    pub(crate) error: Option<Failure>,
    pub(crate) info: Info,
    /// Version of libmq, if it is an `mq`; `info` has NSQ's.
    pub(crate) own_version: Option<String>,
    pub(crate) health: String,
    /// Sorted by name.
    pub(crate) topics: BTreeMap<String, answers::Topic>,
    /// The last minute of each `topic` or `topic:channel`; `None` where none is kept.
    pub(crate) history: Option<BTreeMap<String, Series>>,
    /// Topics and channels that the history lacks for want of room.
    pub(crate) history_missing: u64,
    /// Whether the history has two readings, so that silence means that nothing happens.
    pub(crate) has_rates: bool,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) is_draining: Option<bool>,
    /// The lookup servers that know it, and what they know.
    pub(crate) registered: Vec<(String, Registered)>,
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
    /// Its worst finding, as an index.
    pub(crate) worst: Option<usize>,
}

/// A channel over all nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Channel {
    pub(crate) numbers: Numbers,
    pub(crate) clients: u64,
    /// Each node's numbers, by the node's id.
    pub(crate) by_node: Vec<(String, Numbers)>,
    pub(crate) worst: Option<usize>,
}

impl Node {
    /// A broker that nothing is known of.
    pub(crate) fn new(upstream: Upstream) -> Self {
        Self {
            upstream,
            error: None,
            info: Info::default(),
            own_version: None,
            health: String::new(),
            topics: BTreeMap::new(),
            history: None,
            history_missing: 0,
            has_rates: false,
            metrics: None,
            is_draining: None,
            registered: Vec::new(),
        }
    }

    pub(crate) fn id(&self) -> &str {
        &self.upstream.id
    }

    /// The program that it runs: nobody but an `mq` keeps a history.
    pub(crate) fn program(&self) -> &'static str {
        if self.history.is_some() { "mq" } else { "nsqd" }
    }

    /// The version of its program.
    pub(crate) fn version(&self) -> &str {
        self.own_version.as_deref().unwrap_or(&self.info.version)
    }

    /// The history of a topic or a channel.
    pub(crate) fn known(&self, topic: &str, channel: Option<&str>) -> Known<'_> {
        let Some(history) = &self.history else { return Known::Nothing };
        let found = match channel {
            Some(channel) => history.get(&format!("{topic}:{channel}")),
            None => history.get(topic),
        };
        match found {
            Some(series) => Known::Series(series),
            None if self.has_rates && self.history_missing == 0 => Known::Quiet,
            None => Known::Nothing,
        }
    }

    /// Whether lookup servers hide it from those who look for `topic`.
    pub(crate) fn is_tombstoned(&self, topic: &str) -> bool {
        self.registered.iter().any(|(_, at)| {
            at.topics.iter().zip(&at.tombstones).any(|(name, hidden)| *hidden && name == topic)
        })
    }

    /// A topic's numbers on it.
    pub(crate) fn topic(&self, topic: &answers::Topic, now: f64) -> Numbers {
        Numbers::of_topic(topic, self.known(&topic.topic_name, None), now)
    }

    /// A channel's numbers on it.
    pub(crate) fn channel(&self, topic: &str, channel: &answers::Channel, now: f64) -> Numbers {
        Numbers::of_channel(channel, self.known(topic, Some(&channel.channel_name)), now)
    }
}

impl Snapshot {
    /// Merges what was read.
    pub(crate) fn new(at: f64, mut nodes: Vec<Node>, lookups: Vec<Lookup>) -> Self {
        nodes.sort_by(|a, b| a.id().cmp(b.id()));
        let mut snapshot = Self { at, nodes, lookups, ..Self::default() };
        snapshot.warnings = snapshot.silent();
        snapshot.merge();
        let findings = trouble::find(&snapshot);
        snapshot.set_findings(findings);
        snapshot
    }

    /// The broker of that id.
    pub(crate) fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id() == id)
    }

    /// The brokers that have a topic.
    pub(crate) fn nodes_of<'s>(
        &'s self,
        topic: &str,
    ) -> impl Iterator<Item = (&'s Node, &'s answers::Topic)> {
        self.nodes.iter().filter_map(move |node| Some((node, node.topics.get(topic)?)))
    }

    /// Whether nobody answered.
    pub(crate) fn is_empty(&self) -> bool {
        let nodes = self.nodes.iter().all(|node| node.error.is_some());
        nodes && self.lookups.iter().all(|lookup| lookup.error.is_some())
    }

    /// Sets the findings, worst first.
    pub(crate) fn set_findings(&mut self, mut findings: Vec<Finding>) {
        trouble::sort(&mut findings);
        for topic in self.topics.values_mut() {
            topic.worst = None;
            topic.channels.values_mut().for_each(|channel| channel.worst = None);
        }
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
        let now = self.at;
        let mut topics: BTreeMap<String, (Topic, Vec<Numbers>)> = BTreeMap::new();
        for lookup in &self.lookups {
            for topic in &lookup.topics {
                topics.entry(topic.clone()).or_default();
            }
        }
        for node in &self.nodes {
            for (name, found) in &node.topics {
                let (topic, numbers) = topics.entry(name.clone()).or_default();
                topic.nodes += 1;
                topic.own_depth += found.depth;
                topic.bytes += found.message_bytes;
                numbers.push(node.topic(found, now));
                for channel in &found.channels {
                    let merged = topic.channels.entry(channel.channel_name.clone()).or_default();
                    merged.clients += channel.client_count;
                    topic.clients += channel.client_count;
                    let numbers = node.channel(name, channel, now);
                    merged.by_node.push((node.id().to_owned(), numbers));
                }
            }
        }
        let settle = |(name, (mut topic, numbers)): (String, (Topic, Vec<Numbers>))| {
            topic.numbers = Numbers::sum(numbers);
            for channel in topic.channels.values_mut() {
                channel.numbers = Numbers::sum(channel.by_node.iter().map(|(_, numbers)| numbers.clone()));
            }
            (name, topic)
        };
        self.topics = topics.into_iter().map(settle).collect();
    }
}
