//! Tables: numbers, and what is said about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use mq_net::http::StatusCode;

use super::*;
use crate::finding::{Kind, Severity, sort};
use crate::snapshot::{Lookup, Node, Numbers};
use crate::upstream::answers::{self, History, Info, Metrics, Registered, Series};
use crate::upstream::{Failure, Upstream};

const NOW: f64 = 10_000.0;

fn snapshot(nodes: Vec<Node>, lookups: Vec<Lookup>) -> Snapshot {
    let lookups = lookups.into_iter().map(Arc::new).collect();
    let mut snapshot = Snapshot::new(NOW, nodes.into_iter().map(Arc::new).collect(), lookups);
    let findings = find(&snapshot);
    snapshot.set_findings(findings);
    snapshot
}

/// A channel that waits for 6 minutes.
fn waits(depth: u64) -> Numbers {
    Numbers { depth, behind_since: Some(NOW as u64 - 360), ..Numbers::default() }
}

fn rates(numbers: Numbers, published: f64, finished: f64) -> Numbers {
    let growth = Some(published - finished);
    let drain = (finished > published).then(|| numbers.depth as f64 / (finished - published));
    Numbers {
        published_rate: Some(published),
        finished_rate: Some(finished),
        requeued_rate: Some(0.0),
        timed_out_rate: Some(0.0),
        growth,
        drain_seconds: drain,
        ..numbers
    }
}

fn client(ready: u64, in_flight: u64, finished: u64) -> ClientFacts {
    let name = format!("c{finished} at 10.0.0.9:5");
    ClientFacts {
        name,
        node: "n:1".to_owned(),
        ready,
        in_flight,
        finished,
        requeued: 0,
        connected_at: NOW as u64 - 600,
    }
}

fn of_channel(numbers: &Numbers, clients: u64, listed: Option<&[ClientFacts]>) -> Vec<Finding> {
    let by_node = [("n:1".into(), numbers.clone()), ("n:2".into(), Numbers::default())];
    let facts = ChannelFacts {
        topic: "orders",
        channel: "email",
        numbers,
        clients,
        by_node: &by_node,
        listed,
        now: NOW,
    };
    let mut findings = facts.find();
    sort(&mut findings);
    findings
}

#[test]
fn a_channel_says_why_its_messages_wait() {
    use Kind::*;
    use Severity::*;
    let pinned = [client(25, 25, 9), client(25, 25, 8)];
    let idle = [client(0, 0, 9)];
    let free = [client(25, 3, 9)];
    let stuck = [client(25, 25, 0), client(25, 1, 9)];
    let soon = Numbers { behind_since: Some(NOW as u64 - 5), ..waits(50) };
    /// Numbers, clients, their list; the worst finding and words of it.
    type Case<'a> = (Numbers, u64, Option<&'a [ClientFacts]>, Option<(Severity, Kind)>, &'a str);
    let requeueing = Numbers { requeued_rate: Some(9.0), ..rates(waits(900), 50.0, 0.0) };
    let elsewhere = [client(25, 25, 9), ClientFacts { node: "n:2".to_owned(), ..client(25, 0, 9) }];
    let cases: [Case<'_>; 20] = [
        (Numbers::default(), 0, None, None, ""),
        (
            requeueing,
            2,
            Some(&pinned),
            Some((Critical, Requeueing)),
            "9.0 messages/s are requeued, none are finished; 900 messages wait, for 6 minutes",
        ),
        (rates(Numbers { depth: 50, ..Numbers::default() }, 50.0, 50.0), 2, Some(&pinned), None, ""),
        (
            rates(waits(900), 10.0, 10.0),
            2,
            Some(&elsewhere),
            Some((Warning, Pinned)),
            "its only consumer holds as many as it takes, 25",
        ),
        (rates(Numbers::default(), 5.0, 5.0), 1, Some(&free), None, ""),
        (
            waits(1200),
            0,
            None,
            Some((Critical, NoConsumers)),
            "1,200 messages and no consumer, for 6 minutes",
        ),
        (waits(3), 0, None, Some((Warning, NoConsumers)), "3 messages and no consumer"),
        (rates(waits(3), 1.0, 0.0), 0, None, Some((Critical, NoConsumers)), "no consumer"),
        (
            Numbers { paused: true, ..waits(3) },
            0,
            None,
            Some((Warning, Paused)),
            "is paused and has 3 messages",
        ),
        (rates(soon, 50.0, 10.0), 2, None, None, ""),
        (
            rates(waits(900), 50.0, 10.0),
            2,
            None,
            Some((Critical, Slow)),
            "50.0 messages/s come, 10.0 are finished",
        ),
        (rates(waits(900), 10.0, 20.0), 2, None, Some((Notice, Slow)), "empty in about 2 minutes"),
        (rates(waits(900), 10.0, 10.0), 2, None, Some((Warning, Slow)), "stays behind"),
        (rates(waits(900), 0.0, 0.0), 2, None, Some((Critical, Slow)), "finishes none"),
        (
            Numbers { depth: 5000, ..Numbers::default() },
            2,
            None,
            Some((Warning, Slow)),
            "5,000 messages that wait",
        ),
        (Numbers { depth: 50, ..Numbers::default() }, 2, None, None, ""),
        (
            rates(waits(900), 50.0, 10.0),
            2,
            Some(&pinned),
            Some((Critical, Pinned)),
            "hold as many as they take, 50",
        ),
        (
            rates(waits(900), 0.0, 0.0),
            1,
            Some(&idle),
            Some((Critical, Pinned)),
            "its only consumer asks for none, for 6 minutes",
        ),
        (rates(waits(900), 10.0, 10.0), 1, Some(&free), Some((Warning, Slow)), "stays behind"),
        (
            Numbers::default(),
            2,
            Some(&stuck),
            Some((Warning, StuckClient)),
            "c0 at 10.0.0.9:5 holds 25 messages",
        ),
    ];
    for (numbers, clients, listed, want, words) in cases {
        let findings = of_channel(&numbers, clients, listed);
        let first = findings.first();
        assert_eq!(first.map(|finding| (finding.severity, finding.kind)), want, "{findings:?}");
        if let Some(first) = first {
            assert!(first.text.contains(words), "{words:?} is not in {:?}", first.text);
            assert_eq!((first.topic.as_deref(), first.channel.as_deref()), (Some("orders"), Some("email")));
            assert!(!first.help.is_empty());
        }
    }
}

#[test]
fn timeouts_and_requeues_are_told_by_their_share() {
    let base = || rates(Numbers::default(), 100.0, 100.0);
    for (timed_out, requeued, want) in [
        (0.0, 0.0, None),
        (0.5, 5.0, None),
        (2.0, 0.0, Some((Severity::Warning, Kind::TimingOut))),
        (200.0, 0.0, Some((Severity::Critical, Kind::TimingOut))),
        (0.0, 20.0, Some((Severity::Warning, Kind::Requeueing))),
        (0.0, 200.0, Some((Severity::Critical, Kind::Requeueing))),
    ] {
        let numbers = Numbers { timed_out_rate: Some(timed_out), requeued_rate: Some(requeued), ..base() };
        let findings = of_channel(&numbers, 1, None);
        assert_eq!(findings.first().map(|f| (f.severity, f.kind)), want, "{timed_out} {requeued}");
    }
}

#[test]
fn a_node_that_has_nearly_all_that_waits_is_named() {
    let with = |depths: [u64; 2]| {
        // A node with a backlog of 900 has no client, all others have one.
        let of = |depth: u64| Numbers { clients: u64::from(depth != 900), ..waits(depth) };
        let by_node: Vec<_> =
            depths.iter().enumerate().map(|(n, d)| (format!("n{n}:1").into(), of(*d))).collect();
        let numbers = Numbers::sum(by_node.iter().map(|(_, numbers): &(Arc<str>, Numbers)| numbers));
        let facts = ChannelFacts {
            topic: "t",
            channel: "c",
            numbers: &numbers,
            clients: 1,
            by_node: &by_node,
            listed: None,
            now: NOW,
        };
        facts.find().into_iter().find(|finding| finding.kind == Kind::Skew)
    };
    assert_eq!(with([500, 480]), None);
    assert_eq!(with([20, 1]), None);
    assert_eq!(with([10, 901]), None, "it has as many clients as the other");
    let skew = with([10, 900]).unwrap();
    assert_eq!(skew.node.as_deref(), Some("n1:1"));
    assert!(skew.text.contains("900 of 910 messages wait on n1:1"), "{}", skew.text);
}

fn node(id: &str) -> Node {
    let info = Info { version: "1.3.0".to_owned(), start_time: 1, ..Info::default() };
    let mut node = Node::new(Upstream::configured(id, None));
    node.health = "OK".to_owned();
    node.info = info;
    node
}

fn lookup(id: &str, hosts: &[&str]) -> Lookup {
    let broker = |host: &&str| Registered {
        broadcast_address: (*host).to_owned(),
        http_port: 1,
        ..Registered::default()
    };
    Lookup {
        upstream: Upstream::configured(id, None),
        error: None,
        version: String::new(),
        brokers: hosts.iter().map(broker).collect(),
        topics: ["old".to_owned()].into(),
    }
}

#[test]
fn nodes_and_lookup_servers_say_what_is_wrong_with_them() {
    let mut gone = node("gone:1");
    gone.error = Some(Failure::NoAnswer("no connection".to_owned()));
    let mut locked = node("locked:1");
    locked.error = Some(Failure::Refused(StatusCode::UNAUTHORIZED, "UNAUTHORIZED".to_owned(), String::new()));
    let mut sick = node("sick:1");
    sick.health = "NOK - the disk is gone".to_owned();
    let mut old = node("old:1");
    old.info.version = "1.2.9".to_owned();
    let mut new = node("new:1");
    new.info.start_time = NOW as u64 - 60;
    let mut full = node("full:1");
    full.metrics = Some(Metrics::parse(
        "mq_log_live_bytes 90\nmq_log_dead_bytes 5\nmq_log_limit_bytes 100\nmq_disk_free_bytes NaN\nmq_topic_depth{topic=\"t\"} 1\n",
    ));
    let mut crowded = node("crowded:1");
    crowded.metrics = Some(Metrics::parse("mq_disk_free_bytes 104857600\n"));
    let lookups = vec![lookup("l1:1", &["a", "b"]), lookup("l2:1", &["a"])];
    let snapshot = snapshot(vec![gone, locked, sick, old, new, full, crowded], lookups);
    let got: Vec<_> =
        snapshot.findings.iter().map(|f| (f.severity, f.kind, f.node.clone().unwrap_or_default())).collect();
    let want = [
        (Severity::Critical, Kind::Unreachable, "gone:1"),
        (Severity::Critical, Kind::Unhealthy, "sick:1"),
        (Severity::Critical, Kind::DiskFull, "crowded:1"),
        (Severity::Critical, Kind::DiskFull, "full:1"),
        (Severity::Warning, Kind::Unauthorized, "locked:1"),
        (Severity::Warning, Kind::LookupDisagrees, "l2:1"),
        (Severity::Notice, Kind::VersionDrift, "old:1"),
        (Severity::Notice, Kind::Restarted, "new:1"),
    ];
    assert_eq!(got, want.map(|(severity, kind, node)| (severity, kind, node.to_owned())));
    assert_eq!(snapshot.warnings.len(), 2, "{:?}", snapshot.warnings);
    assert_eq!(snapshot.topics["old"].nodes, 0, "a topic that only lookup servers know");
}

#[test]
fn a_node_says_when_its_disk_is_full_its_certificate_expires_and_its_settings_differ() {
    let with = |id: &str, metrics: &str| {
        let mut node = node(id);
        node.metrics = Some(Metrics::parse(metrics));
        node
    };
    let log = "mq_log_live_bytes 90\nmq_log_dead_bytes 10\nmq_log_limit_bytes 0\n";
    type Want = Option<(Severity, Kind)>;
    let mut cases: Vec<(Node, Want, &str)> = Vec::new();
    for (free, growth, want, words) in [
        (7.2e9, Some(1e6), Some((Severity::Critical, Kind::DiskFills)), "full in about 2 hours"),
        (3.6e10, Some(1e6), Some((Severity::Warning, Kind::DiskFills)), "full in about 10 hours"),
        (3.6e12, Some(1e6), None, ""),
        (7.2e9, Some(-1e6), None, ""),
        (7.2e9, None, None, ""),
    ] {
        let mut node = with("n:1", &format!("{log}mq_disk_free_bytes {}\n", free - 1e6));
        node.log_growth = growth;
        cases.push((node, want, words));
    }
    let certificate = |expires: f64| with("n:1", &format!("mq_tls_certificate_expiry_seconds {expires}\n"));
    let day = 86_400.0;
    for (expires, want, words) in [
        (NOW - 300.0, Some((Severity::Critical, Kind::CertificateExpires)), "expired 5 minutes ago"),
        (NOW + 2.0 * day, Some((Severity::Critical, Kind::CertificateExpires)), "expires in 2 days"),
        (NOW + 29.0 * day, Some((Severity::Warning, Kind::CertificateExpires)), "expires in 29 days"),
        (NOW + 31.0 * day, None, ""),
        (0.0, None, ""),
    ] {
        cases.push((certificate(expires), want, words));
    }
    cases.push((
        with("n:1", "mq_log_sync_failures_total 1\n"),
        Some((Severity::Warning, Kind::SyncFails)),
        "1 fsync ",
    ));
    for (node, want, words) in cases {
        let findings = snapshot(vec![node], Vec::new()).findings;
        assert_eq!(findings.first().map(|f| (f.severity, f.kind)), want, "{findings:?}");
        if let Some(first) = findings.first() {
            assert!(first.text.contains(words), "{words:?} is not in {:?}", first.text);
        }
    }
    let set = |id: &str, level: &str| {
        let mut node = node(id);
        node.options = Some(Arc::new(BTreeMap::from([("durability", level.to_owned())])));
        node
    };
    let nodes = vec![set("a:1", "flush"), set("b:1", "memory"), set("c:1", "flush"), node("d:1")];
    let findings = snapshot(nodes, Vec::new()).findings;
    assert_eq!(findings.len(), 1, "{findings:?}");
    assert_eq!((findings[0].kind, findings[0].node.as_deref()), (Kind::ConfigDrift, Some("b:1")));
    assert!(findings[0].text.contains("durability is memory, others have flush"), "{}", findings[0].text);
}

#[test]
fn a_snapshot_sums_nodes_and_points_at_the_worst() {
    let channel = |depth| answers::Channel {
        channel_name: "c".to_owned(),
        depth,
        client_count: 1,
        ..answers::Channel::default()
    };
    let topic = |depth| answers::Topic {
        topic_name: "t".to_owned(),
        channels: vec![channel(depth)],
        message_count: depth,
        damage: (depth == 7).then(|| "a file is gone".to_owned()),
        ..answers::Topic::default()
    };
    let series = Series {
        topic: "t".into(),
        channel: Some("c".into()),
        published_rate: 3.0,
        growth: Some(3.0),
        behind_since: Some(1),
        ..Series::default()
    };
    let mut nodes = vec![node("a:1"), node("b:1")];
    for (node, depth) in nodes.iter_mut().zip([5, 7]) {
        let node_series = Series { growth: Some(0.0), ..Series::default() };
        let series = vec![series.clone()];
        let history = History { node: Some(node_series), series, ..History::default() };
        node.fill(vec![topic(depth)], Some(&history), NOW);
    }
    let snapshot = snapshot(nodes, Vec::new());
    let merged = &snapshot.topics["t"];
    assert_eq!((merged.numbers.depth, merged.nodes, merged.clients), (12, 2, 2));
    assert_eq!(merged.numbers.published_rate, Some(0.0), "the topic's own series is quiet");
    assert_eq!(merged.channels["c"].numbers.growth, Some(6.0));
    let kinds: Vec<_> =
        snapshot.findings.iter().map(|finding| (finding.kind, finding.node.as_deref())).collect();
    assert_eq!(kinds, [(Kind::Damage, Some("b:1")), (Kind::Slow, None)], "both urgent, the same depth");
    assert_eq!((merged.worst, merged.channels["c"].worst), (Some(0), Some(1)));
}
