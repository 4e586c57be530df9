//! The rules of nodes and lookup servers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::words::{counted, time};
use crate::finding::{Finding, Kind, Severity};
use crate::snapshot::{Lookup, Node, Snapshot};
use crate::upstream::Failure;

/// Seconds after its start during which a broker counts as just started.
const JUST_STARTED: f64 = 600.0;
/// Bytes free on its disk below which a broker is about to stop: some files of its log.
const DISK_FREE_MIN: f64 = 512.0 * 1024.0 * 1024.0;
/// Seconds until a disk is full from which on that is said, and from which on it is urgent.
const DISK_FILLS: f64 = 24.0 * 3600.0;
const DISK_FILLS_SOON: f64 = 2.0 * 3600.0;
/// Seconds until a certificate expires from which on that is said, and from which on it is urgent.
const CERTIFICATE_EXPIRES: f64 = 30.0 * 86_400.0;
const CERTIFICATE_EXPIRES_SOON: f64 = 3.0 * 86_400.0;
/// Share of its disk budget beyond which a broker is nearly full.
const DISK_FULL_SHARE: f64 = 0.9;

pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in &snapshot.nodes {
        findings.extend(of_node(node, snapshot.at, newest_version(&snapshot.nodes, node.program())));
    }
    findings.extend(drift(&snapshot.nodes));
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
pub(crate) fn newest_version<'n>(nodes: &'n [Arc<Node>], program: &str) -> Option<&'n str> {
    let same = nodes.iter().filter(|node| node.error.is_none() && node.program() == program);
    same.map(|node| node.version()).max_by_key(|version| numbers(version))
}

fn of_node(node: &Node, now: f64, newest: Option<&str>) -> Vec<Finding> {
    if let Some(error) = &node.error {
        return vec![unreachable(node, error)];
    }
    let id = node.id();
    let mut findings = Vec::new();
    let mut add = |severity, kind, text: String, help: &'static str| {
        findings.push(Finding::new(severity, kind, text, help).at_node(id));
    };
    if node.health != "OK" && !node.health.is_empty() {
        let text = format!("{id} is not well: {}", node.health.trim_start_matches("NOK - "));
        add(Severity::Critical, Kind::Unhealthy, text, "see its log");
    }
    if let Some(failures) = node.metric("mq_log_sync_failures_total").filter(|failures| *failures > 0.0) {
        let text = format!("{id} has had {} that failed since it started", counted(failures as u64, "fsync"));
        add(Severity::Warning, Kind::SyncFails, text, "look for the reason in its log, and at the disk");
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
    findings.extend(of_disk(node));
    findings.extend(of_certificate(node, now));
    findings
}

/// The finding of a node that gave no answer, or none without a token.
fn unreachable(node: &Node, error: &Failure) -> Finding {
    let id = node.id();
    let (severity, kind, text, help) = if error.is_unauthorized() {
        let help = if node.upstream.is_configured {
            "give this page a token that the broker knows"
        } else {
            "name the broker with --nsqd-http-address: a token goes to no address that a lookup server reports"
        };
        (Severity::Warning, Kind::Unauthorized, format!("{id} wants a token"), help)
    } else {
        let known =
            node.registered.first().map(|(lookup, _)| format!(", though it is registered at {lookup}"));
        let text = format!("{id} can't be reached{}: {error}", known.unwrap_or_default());
        let help = "see whether it runs, and whether its broadcast address and HTTP port are right";
        (Severity::Critical, Kind::Unreachable, text, help)
    };
    Finding::new(severity, kind, text, help).at_node(id)
}

/// Findings about room: on the disk, and within the broker's budget of it.
fn of_disk(node: &Node) -> Vec<Finding> {
    let id = node.id();
    let mut findings = Vec::new();
    let mut add = |severity, kind, text: String, help: &'static str| {
        findings.push(Finding::new(severity, kind, text, help).at_node(id));
    };
    let is_full = |(used, limit): &(f64, f64)| *limit > 0.0 && *used > limit * DISK_FULL_SHARE;
    if let Some((used, limit)) = node.disk().filter(is_full) {
        let text = format!("{id} has used {:.0} % of its disk budget", used / limit * 100.0);
        let help = "have messages consumed, raise --max-disk-bytes, or give topics limits";
        add(Severity::Critical, Kind::DiskFull, text, help);
    }
    if let Some(left) = node.disk_full_seconds().filter(|left| *left < DISK_FILLS) {
        let text = format!("{id} has its disk full in about {}, as it grows now", time(left));
        let severity = if left < DISK_FILLS_SOON { Severity::Critical } else { Severity::Warning };
        let help =
            "have messages consumed, make room, or give topics limits: publishes are refused once it is full";
        add(severity, Kind::DiskFills, text, help);
    }
    if let Some(free) = node.metric("mq_disk_free_bytes").filter(|free| *free < DISK_FREE_MIN) {
        let text = format!("{id} has {:.0} MiB left on its disk", free / 1024.0 / 1024.0);
        let help = "make room on the disk, or have messages consumed: publishes are refused once it is full";
        add(Severity::Critical, Kind::DiskFull, text, help);
    }
    findings
}

/// The finding of a certificate that has expired, or soon will have.
fn of_certificate(node: &Node, now: f64) -> Option<Finding> {
    let id = node.id();
    let expires = node.metric("mq_tls_certificate_expiry_seconds").filter(|at| *at > 0.0)?;
    let left = expires - now;
    let (severity, text) = if left <= 0.0 {
        (Severity::Critical, format!("{id} shows a certificate that expired {} ago", time(-left)))
    } else if left < CERTIFICATE_EXPIRES {
        let severity = if left < CERTIFICATE_EXPIRES_SOON { Severity::Critical } else { Severity::Warning };
        (severity, format!("{id} has a certificate that expires in {}", time(left)))
    } else {
        return None;
    };
    let help = "put a new one where --tls-cert names it, and send the broker SIGHUP";
    Some(Finding::new(severity, Kind::CertificateExpires, text, help).at_node(id))
}

/// Brokers whose settings differ from what most of the same program have.
fn drift(nodes: &[Arc<Node>]) -> Vec<Finding> {
    let mut all: BTreeMap<(&str, &str), Vec<(&Node, &str)>> = BTreeMap::new();
    for node in nodes.iter().filter(|node| node.error.is_none()) {
        for (name, value) in node.options.iter().flat_map(|options| options.iter()) {
            all.entry((node.program(), name)).or_default().push((node, value));
        }
    }
    let mut differing: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for ((_, name), values) in &all {
        let count = |value: &str| values.iter().filter(|(_, other)| *other == value).count();
        let Some(most) = values.iter().map(|(_, value)| *value).max_by_key(|value| (count(value), *value))
        else {
            continue;
        };
        for (node, value) in values.iter().filter(|(_, value)| *value != most) {
            let shown = |value: &str| if value.is_empty() { "nothing" } else { value }.to_owned();
            let text = format!("{name} is {}, others have {}", shown(value), shown(most));
            differing.entry(node.id()).or_default().push(text);
        }
    }
    let finding = |(id, texts): (&str, Vec<String>)| {
        let text = format!("{id} is set otherwise than the rest: {}", texts.join("; "));
        let help = "if that is not meant, start it with the same settings";
        Finding::new(Severity::Notice, Kind::ConfigDrift, text, help).at_node(id)
    };
    differing.into_iter().map(finding).collect()
}

fn of_lookup(lookup: &Lookup, all: &[Arc<Lookup>]) -> Option<Finding> {
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
pub(crate) fn disagreement(lookup: &Lookup, all: &[Arc<Lookup>]) -> Option<String> {
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
    let known: BTreeSet<String> = all.iter().flat_map(|lookup| ids(lookup)).collect();
    let lacking: Vec<&String> = known.difference(&own).collect();
    let first = lacking.first()?;
    Some(match lacking.len() {
        1 => format!("it lacks broker {first}"),
        more => format!("it lacks {more} brokers, {first} among them"),
    })
}
