//! /metrics by a parser and a lint that know nothing of who wrote it; and the dashboard over them.

use std::collections::{BTreeMap, BTreeSet};

use mq_nsq::server::Config;

use crate::common::with_body;
use crate::{ask, send, start, until};

/// A family of metrics as a scraper reads it.
#[derive(Debug, Default)]
struct Family {
    kind: String,
    help: String,
    unit: String,
    /// Suffix after the family's name, labels, value.
    samples: Vec<(String, BTreeMap<String, String>, f64)>,
}

/// Parses OpenMetrics text; panics at anything that is none.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let body = text.strip_suffix("# EOF\n").expect("# EOF at the end");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let mut words = comment.splitn(3, ' ');
            let (what, name, rest) =
                (words.next().unwrap(), words.next().unwrap().to_owned(), words.next().unwrap_or_default());
            if name != current {
                assert!(!families.contains_key(&name), "{name} is not in one piece");
                current.clone_from(&name);
            }
            let family = families.entry(name).or_default();
            let field = match what {
                "HELP" => &mut family.help,
                "TYPE" => &mut family.kind,
                "UNIT" => &mut family.unit,
                _ => panic!("{line}"),
            };
            assert!(field.is_empty(), "twice: {line}");
            *field = rest.to_owned();
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect(line);
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let suffix = name.strip_prefix(&current).unwrap_or_else(|| panic!("{line} is not of {current}"));
        let labels = labels.strip_suffix('}').expect(line);
        let pairs = labels.split(',').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').expect(line);
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).expect(line);
            (key.to_owned(), value.to_owned())
        });
        let value = if value == "+Inf" { f64::INFINITY } else { value.parse().expect(line) };
        families.get_mut(&current).unwrap().samples.push((suffix.to_owned(), pairs.collect(), value));
    }
    families
}

/// Checks what promtool checks, and more.
fn lint(families: &BTreeMap<String, Family>) {
    for (name, family) in families {
        let plain = |b: u8| b.is_ascii_lowercase() || b == b'_';
        assert!(name.starts_with("mq_") && name.bytes().all(plain), "{name}");
        assert!(!family.help.is_empty() && !family.help.ends_with('.'), "{name}: {}", family.help);
        for wrong in
            ["_ms", "_millis", "_kb", "_mb", "_total", "_count", "_sum", "_bucket", "_seconds_seconds"]
        {
            assert!(!name.ends_with(wrong), "{name}");
        }
        assert!(family.unit.is_empty() || name.ends_with(&format!("_{}", family.unit)), "{name}");
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "gauge" => &[""],
            "info" => &["_info"],
            "histogram" => &["_sum", "_count", "_bucket"],
            other => panic!("{name} is a {other}"),
        };
        let mut seen = BTreeSet::new();
        for (suffix, labels, value) in &family.samples {
            assert!(suffixes.contains(&suffix.as_str()), "{name}{suffix}");
            assert!(value.is_finite() && *value >= 0.0, "{name}{suffix} {value}");
            assert!(seen.insert((suffix, labels)), "{name}{suffix} {labels:?} twice");
        }
        if family.kind == "histogram" {
            lint_histogram(name, family);
        }
    }
}

fn lint_histogram(name: &str, family: &Family) {
    let mut series: BTreeMap<BTreeMap<String, String>, Vec<(f64, f64)>> = BTreeMap::new();
    for (_, labels, value) in family.samples.iter().filter(|(suffix, ..)| suffix == "_bucket") {
        let mut labels = labels.clone();
        let bound = labels.remove("le").expect("a bound");
        let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().unwrap() };
        series.entry(labels).or_default().push((bound, *value));
    }
    for (labels, buckets) in series {
        assert!(buckets.len() <= 16, "{name} has {} buckets", buckets.len());
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name} {buckets:?}");
        let count =
            family.samples.iter().find(|(suffix, l, _)| suffix == "_count" && *l == labels).unwrap().2;
        assert_eq!(*buckets.last().unwrap(), (f64::INFINITY, count), "{name}");
    }
}

/// One value, of the series whose labels hold these values.
fn value(families: &BTreeMap<String, Family>, name: &str, suffix: &str, values: &[&str]) -> f64 {
    let is =
        |labels: &BTreeMap<String, String>| labels.values().map(String::as_str).collect::<Vec<_>>() == values;
    let found = families[name].samples.iter().find(|(s, labels, _)| s == suffix && is(labels));
    found.unwrap_or_else(|| panic!("no {name}{suffix} {values:?}")).2
}

async fn scrape(server: &crate::common::Running) -> BTreeMap<String, Family> {
    let reply = ask(server, "GET /metrics").await;
    assert_eq!(reply.content_type(), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let families = parse(reply.text());
    lint(&families);
    families
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let server = start(Config::default()).await;
    let before = scrape(&server).await;
    assert!(before["mq_topic_depth"].samples.is_empty());
    let mut peer = server.peer().await;
    peer.send(b"SUB t c\nRDY 1\n").await;
    peer.expect("OK").await;
    peer.send(&with_body("PUB t", b"four")).await;
    let frames = [peer.frame().await.unwrap(), peer.frame().await.unwrap()];
    let id = frames.iter().find(|frame| frame.kind == 2).unwrap().id();
    peer.send(format!("FIN {id}\n").as_bytes()).await;
    send(&server, "POST /pub?topic=t%23ephemeral", b"x").await;
    until("the FIN", async || {
        value(&scrape(&server).await, "mq_channel_finished_messages", "_total", &["c", "t"]) == 1.0
    })
    .await;
    let after = scrape(&server).await;
    for (name, suffix, values, want) in [
        ("mq_build", "_info", &[env!("CARGO_PKG_VERSION")][..], 1.0),
        ("mq_healthy", "", &[], 1.0),
        ("mq_topics", "", &[], 2.0),
        ("mq_connections", "", &[], 1.0),
        ("mq_log_files", "", &[], 1.0),
        ("mq_topic_published_messages", "_total", &["t"], 1.0),
        ("mq_topic_published_bytes", "_total", &["t"], 4.0),
        ("mq_topic_depth", "", &["t#ephemeral"], 1.0),
        ("mq_channel_depth", "", &["c", "t"], 0.0),
        ("mq_channel_in_flight", "", &["c", "t"], 0.0),
        ("mq_channel_clients", "", &["c", "t"], 1.0),
        ("mq_channel_arrived_messages", "_total", &["c", "t"], 1.0),
        ("mq_publish_latency_seconds", "_count", &[], 2.0),
        ("mq_channel_latency_seconds", "_count", &["c", "t"], 1.0),
    ] {
        assert_eq!(value(&after, name, suffix, values), want, "{name}");
    }
    assert!(value(&after, "mq_log_written_bytes", "_total", &[]) > 0.0);
    assert!(value(&after, "mq_channel_latency_seconds", "_sum", &["c", "t"]) > 0.0);
}

#[tokio::test]
async fn a_broker_that_drains_is_well_and_says_that_it_drains() {
    let server = start(Config::default()).await;
    for draining in [false, true] {
        let families = scrape(&server).await;
        assert_eq!(value(&families, "mq_healthy", "", &[]), 1.0);
        assert_eq!(value(&families, "mq_draining", "", &[]), f64::from(u8::from(draining)));
        assert_eq!(ask(&server, "GET /ping").await.text(), "OK");
        let text = ask(&server, "GET /stats").await.text().to_owned();
        let lines =
            if draining { "\nHealth: OK\nDraining: publishes are refused\n" } else { "\nHealth: OK\n\n" };
        assert!(text.contains(lines), "{text}");
        for path in ["GET /stats?format=json", "GET /info"] {
            let answer: serde_json::Value = serde_json::from_str(ask(&server, path).await.text()).unwrap();
            assert_eq!(answer.get("draining"), draining.then_some(&true.into()), "{path}");
        }
        server.broker.drain();
    }
}

#[tokio::test]
async fn a_fleet_can_have_its_channels_added_up() {
    let server = start(Config { metrics_per_channel: false, ..Config::default() }).await;
    for channel in ["a", "b"] {
        ask(&server, "POST /topic/create?topic=t").await;
        ask(&server, &format!("POST /channel/create?topic=t&channel={channel}")).await;
    }
    ask(&server, "POST /topic/create?topic=bare").await;
    send(&server, "POST /mpub?topic=t", b"1\n2\n3").await;
    let families = scrape(&server).await;
    assert_eq!(families["mq_channel_depth"].samples.len(), 1);
    assert_eq!(value(&families, "mq_channel_depth", "", &["t"]), 6.0);
}

#[tokio::test]
async fn the_dashboard_and_the_alerts_use_what_there_is() {
    let server = start(Config::default()).await;
    let families = scrape(&server).await;
    let mut names = BTreeSet::new();
    for (name, family) in &families {
        let suffixes: &[&str] = match family.kind.as_str() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" => &["_info"],
            _ => &[""],
        };
        names.extend(suffixes.iter().map(|suffix| format!("{name}{suffix}")));
    }
    let dashboard: serde_json::Value =
        serde_json::from_str(include_str!("../../../docs/grafana.json")).unwrap();
    let mut used = BTreeSet::new();
    collect(&dashboard, &mut used);
    assert!(used.len() > 15, "{used:?}");
    let unknown: Vec<_> = used.difference(&names).collect();
    assert!(unknown.is_empty(), "docs/grafana.json uses metrics that do not exist: {unknown:?}");
    let mut used = BTreeSet::new();
    let rules = include_str!("../../../docs/prometheus-rules.yml");
    collect(&serde_json::json!({ "expr": rules }), &mut used);
    assert!(used.len() > 15, "{used:?}");
    let unknown: Vec<_> = used.difference(&names).collect();
    assert!(unknown.is_empty(), "docs/prometheus-rules.yml uses metrics that do not exist: {unknown:?}");
}

/// The names in every expression and query.
fn collect(value: &serde_json::Value, names: &mut BTreeSet<String>) {
    match value {
        serde_json::Value::Object(map) => {
            for (key, value) in map {
                match value.as_str().filter(|_| matches!(key.as_str(), "expr" | "query" | "definition")) {
                    Some(text) => {
                        let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
                        names.extend(words.filter(|word| word.starts_with("mq_")).map(str::to_owned));
                    }
                    None => collect(value, names),
                }
            }
        }
        serde_json::Value::Array(list) => list.iter().for_each(|value| collect(value, names)),
        _ => {}
    }
}
