//! The rules of a topic.

use super::words::counted;
use crate::finding::{Finding, Kind, Severity};
use crate::snapshot::Topic;

pub(super) fn find(name: &str, topic: &Topic) -> Vec<Finding> {
    let mut findings: Vec<Finding> = waits(name, topic).into_iter().collect();
    for (node, damage) in &topic.damaged {
        let text = format!("{name} is stopped on {node}: {damage}");
        let help = "stop the broker and run `mq inspect`, then `mq repair` on its data folder";
        findings.push(Finding::new(Severity::Critical, Kind::Damage, text, help).at_node(node));
    }
    for finding in &mut findings {
        finding.topic = Some(name.to_owned());
        finding.depth = Some(topic.numbers.depth);
    }
    findings
}

fn waits(name: &str, topic: &Topic) -> Option<Finding> {
    let has = counted(topic.own_depth, "message");
    if topic.own_depth == 0 {
        return None;
    }
    if topic.numbers.paused {
        let text = format!("{name} is paused and holds {has} back from its channels");
        return Some(Finding::new(
            Severity::Warning,
            Kind::Paused,
            text,
            "unpause it when its channels may go on",
        ));
    }
    topic.channels.is_empty().then(|| {
        let text = format!("{name} has {has} and no channel");
        let help = "subscribe a consumer or create a channel: the first one gets them all";
        Finding::new(Severity::Notice, Kind::NoChannels, text, help)
    })
}
