//! Trouble in words: which topic, channel or node needs somebody, why, and what would help. Pure.
//!
//! - [`find`]: all findings of a snapshot; `channel`, `topic`, `fleet`: rules of each
//! - `words`: numbers and times for people

mod channel;
pub(crate) mod fleet;
#[cfg(test)]
mod tests;
mod topic;
mod words;

pub(crate) use channel::{ChannelFacts, ClientFacts};

use crate::finding::Finding;
use crate::snapshot::Snapshot;

/// All findings of a snapshot, as far as they show without the clients of channels.
pub(crate) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = fleet::find(snapshot);
    for (name, topic) in &snapshot.topics {
        findings.extend(topic::find(name, topic));
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
