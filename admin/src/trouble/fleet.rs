//! The rules of nodes and lookup servers.

use std::collections::BTreeSet;

use super::words::time;
use super::{Finding, Kind, Severity};
use crate::fleet::is_unauthorized;
use crate::fleet::snapshot::{Lookup, Node, Snapshot};

/// Seconds after its start during which a broker counts as just started.
const JUST_STARTED: f64 = 600.0;
/// Bytes free on its disk below which a broker is about to stop: some files of its log.
const DISK_FREE_MIN: f64 = 512.0 * 1024.0 * 1024.0;
/// Share of its disk budget beyond which a broker is nearly full.
const DISK_FULL_SHARE: f64 = 0.9;

pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in &snapshot.nodes {
        findings.extend(of_node(node, snapshot.at, newest_version(&snapshot.nodes, node.program())));
    }
    for lookup in &snapshot.lookups {
        findings.extend(of_lookup(lookup, &snapshot.lookups));
    }
    findings
}

/// A version as numbers; what is none counts as 0.0.0.
pub(crate) fn numbers(version: &str) -> [u64; 3] {
    let version = version.trim_start_matches('v');
    let end = version.find(['-', '+', ' ']).unwrap_or(version.len());
    let mut parts = version[..end].split('.').map(|part| part.parse().ok());
    match [parts.next(), parts.next(), parts.next()] {
        [Some(Some(major)), Some(Some(minor)), Some(Some(patch))] => [major, minor, patch],
        _ => [0; 3],
    }
}

/// The newest version of a program on the brokers that answer.
pub(crate) fn newest_version<'n>(nodes: &'n [Node], program: &str) -> Option<&'n str> {
    let same = nodes.iter().filter(|node| node.error.is_none() && node.program() == program);
    same.map(Node::version).max_by_key(|version| numbers(version))
}

fn of_node(node: &Node, now: f64, newest: Option<&str>) -> Vec<Finding> {
    let id = node.id();
    let mut findings = Vec::new();
    let mut add = |severity, kind, text: String, help: &str| {
        findings.push(Finding::new(severity, kind, text, help).at_node(id));
    };
    if let Some(error) = &node.error {
        if is_unauthorized(error) {
            let help = if node.upstream.is_configured {
                "give this page a token that the broker knows"
            } else {
                "name the broker with --nsqd-http-address: a token goes to no address that a lookup server reports"
            };
            add(Severity::Warning, Kind::Unauthorized, format!("{id} wants a token"), help);
        } else {
            let known =
                node.registered.first().map(|(lookup, _)| format!(", though it is registered at {lookup}"));
            let text = format!("{id} can't be reached{}: {error}", known.unwrap_or_default());
            add(
                Severity::Critical,
                Kind::Unreachable,
                text,
                "see whether it runs, and whether its broadcast address and HTTP port are right",
            );
        }
        return findings;
    }
    if node.health != "OK" && !node.health.is_empty() {
        let text = format!("{id} is not well: {}", node.health.trim_start_matches("NOK - "));
        add(Severity::Critical, Kind::Unhealthy, text, "see its log");
    }
    if let Some((used, limit)) =
        disk(node).filter(|(used, limit)| *limit > 0.0 && *used > limit * DISK_FULL_SHARE)
    {
        let text = format!("{id} has used {:.0} % of its disk budget", used / limit * 100.0);
        add(
            Severity::Critical,
            Kind::DiskFull,
            text,
            "have messages consumed, raise --max-disk-bytes, or give topics limits",
        );
    }
    let free = node.metrics.as_ref().and_then(|metrics| metrics.get("mq_disk_free_bytes"));
    if let Some(free) = free.filter(|free| *free < DISK_FREE_MIN) {
        let text = format!("{id} has {:.0} MiB left on its disk", free / 1024.0 / 1024.0);
        add(
            Severity::Critical,
            Kind::DiskFull,
            text,
            "make room on the disk, or have messages consumed: publishes are refused once it is full",
        );
    }
    if newest.is_some_and(|newest| numbers(node.version()) < numbers(newest)) {
        let text = format!("{id} runs version {}, others run {}", node.version(), newest.unwrap_or_default());
        add(Severity::Notice, Kind::VersionDrift, text, "bring all brokers to the same version");
    }
    let up = now - node.info.start_time as f64;
    if node.info.start_time > 0 && up < JUST_STARTED {
        let text = format!("{id} started {} ago", time(up.max(0.0)));
        add(Severity::Notice, Kind::Restarted, text, "its counters and its history began then");
    }
    findings
}

/// Bytes of the log, and its budget (0: none).
pub(crate) fn disk(node: &Node) -> Option<(f64, f64)> {
    let metrics = node.metrics.as_ref()?;
    let used = metrics.get("mq_log_live_bytes")? + metrics.get("mq_log_dead_bytes")?;
    Some((used, metrics.get("mq_log_limit_bytes").unwrap_or_default()))
}

fn of_lookup(lookup: &Lookup, all: &[Lookup]) -> Option<Finding> {
    let id = &lookup.upstream.id;
    if let Some(error) = &lookup.error {
        let text = format!("lookup server {id} can't be reached: {error}");
        let help = "consumers that ask it alone find no broker: see whether it runs";
        return Some(Finding::new(Severity::Critical, Kind::LookupUnreachable, text, help).at_node(id));
    }
    disagreement(lookup, all).map(|what| {
        let text = format!("lookup server {id} disagrees with the others: {what}");
        let help = "see whether every broker names every lookup server in --lookupd-tcp-address";
        Finding::new(Severity::Warning, Kind::LookupDisagrees, text, help).at_node(id)
    })
}

/// Brokers that others know and `lookup` does not.
pub(crate) fn disagreement(lookup: &Lookup, all: &[Lookup]) -> Option<String> {
    if lookup.error.is_some() {
        return None;
    }
    let ids = |lookup: &Lookup| -> BTreeSet<String> {
        let id = |broker: &crate::upstream::answers::Registered| {
            crate::upstream::joined(&broker.broadcast_address, broker.http_port)
        };
        lookup.brokers.iter().map(id).collect()
    };
    let own = ids(lookup);
    let known: BTreeSet<String> = all.iter().flat_map(ids).collect();
    let lacking: Vec<&String> = known.difference(&own).collect();
    let first = lacking.first()?;
    Some(match lacking.len() {
        1 => format!("it lacks broker {first}"),
        more => format!("it lacks {more} brokers, {first} among them"),
    })
}
