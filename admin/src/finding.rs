//! Findings: sentences about a topic, channel or server that needs somebody. `trouble` finds them.

use std::cmp::Reverse;

use serde::Serialize;

/// Urgency of a finding, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
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
pub enum Kind {
    /// A broker that does not answer.
    Unreachable,
    /// A lookup server that does not answer.
    LookupUnreachable,
    /// A broker that says it is not well.
    Unhealthy,
    /// A topic that is stopped for damage.
    Damage,
    /// A disk, or a budget of one, with little left.
    DiskFull,
    /// A disk that is full soon, as it grows now.
    DiskFills,
    /// A certificate that expires soon, or has.
    CertificateExpires,
    /// An fsync that failed.
    SyncFails,
    /// A broker that wants a token.
    Unauthorized,
    /// A channel with messages and no consumer.
    NoConsumers,
    /// A channel whose messages wait: its consumers are too few or too slow.
    Slow,
    /// A channel whose consumers hold all they take, or take none.
    Pinned,
    /// A consumer that holds messages and finishes none.
    StuckClient,
    /// Messages that time out.
    TimingOut,
    /// Messages that are requeued.
    Requeueing,
    /// A topic or channel that is paused and has messages.
    Paused,
    /// A topic with messages and no channel.
    NoChannels,
    /// One broker that has nearly all that waits.
    Skew,
    /// A lookup server that knows fewer brokers than the others.
    LookupDisagrees,
    /// A broker of an older version than others.
    VersionDrift,
    /// A broker that is set otherwise than others.
    ConfigDrift,
    /// A broker that started a moment ago.
    Restarted,
}

/// One thing that is wrong, in words.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Urgency.
    pub severity: Severity,
    /// Reason.
    pub kind: Kind,
    /// Topic that it is about.
    pub topic: Option<String>,
    /// Channel of that topic that it is about.
    pub channel: Option<String>,
    /// Server that it is about.
    pub node: Option<String>,
    /// Seconds since 1970.
    pub since: Option<u64>,
    /// The sentence.
    pub text: String,
    /// Advice.
    pub help: &'static str,
    /// Messages that wait.
    pub depth: Option<u64>,
}

impl Finding {
    pub(crate) fn new(severity: Severity, kind: Kind, text: String, help: &'static str) -> Self {
        Self { severity, kind, topic: None, channel: None, node: None, since: None, text, help, depth: None }
    }

    pub(crate) fn at_node(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..self }
    }
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
