//! Trouble in words: which topic, channel or node needs somebody, why, and what would help. Pure.
//!
//! - [`Finding`]: one sentence; [`find`]: all of a snapshot; `channel`, `topic`, `node`: rules of each
//! - `words`: numbers and times for people

mod channel;
pub(crate) mod fleet;
#[cfg(test)]
mod tests;
mod topic;
mod words;

use std::cmp::Reverse;

use serde::Serialize;

pub(crate) use channel::{ChannelFacts, ClientFacts};

use crate::fleet::snapshot::Snapshot;

/// Urgency of a finding, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Severity {
    /// Messages wait without end, are in danger, or a server is gone.
    Critical,
    /// Somebody should look.
    Warning,
    /// Good to know.
    Notice,
}

/// A reason why somebody is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    Unreachable,
    LookupUnreachable,
    Unhealthy,
    Damage,
    DiskFull,
    Unauthorized,
    NoConsumers,
    Slow,
    Pinned,
    StuckClient,
    TimingOut,
    Requeueing,
    Paused,
    NoChannels,
    Skew,
    LookupDisagrees,
    VersionDrift,
    Restarted,
}

/// One thing that is wrong, in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) severity: Severity,
    pub(crate) kind: Kind,
    pub(crate) topic: Option<String>,
    pub(crate) channel: Option<String>,
    pub(crate) node: Option<String>,
    /// Seconds since 1970.
    pub(crate) since: Option<u64>,
    pub(crate) text: String,
    /// Advice.
    pub(crate) help: String,
    pub(crate) depth: Option<u64>,
}

impl Finding {
    fn new(severity: Severity, kind: Kind, text: String, help: &str) -> Self {
        Self {
            severity,
            kind,
            topic: None,
            channel: None,
            node: None,
            since: None,
            text,
            help: help.to_owned(),
            depth: None,
        }
    }

    fn at_node(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..self }
    }
}

/// All findings of a snapshot, as far as they show without the clients of channels.
pub(crate) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = fleet::find(snapshot);
    for (name, topic) in &snapshot.topics {
        findings.extend(topic::find(name, topic, snapshot));
        for (channel_name, channel) in &topic.channels {
            let facts = ChannelFacts {
                topic: name,
                channel: channel_name,
                numbers: &channel.numbers,
                clients: channel.clients,
                by_node: &channel.by_node,
                listed: None,
                now: snapshot.at,
            };
            findings.extend(facts.find());
        }
    }
    findings
}

/// Sorts findings: the most urgent first, then those with the most messages.
pub(crate) fn sort(findings: &mut [Finding]) {
    findings.sort_by(|a, b| {
        let key = |f: &Finding| (f.severity, Reverse(f.depth.unwrap_or_default()), f.kind);
        key(a)
            .cmp(&key(b))
            .then_with(|| (&a.topic, &a.channel, &a.node).cmp(&(&b.topic, &b.channel, &b.node)))
    });
}
