//! From what a broker and lookup servers say to findings. Pure.

use mq_server::config::units::show_size;
use serde::Deserialize;

use super::finding::Finding;
use crate::stats::{Info, Metrics, Stats};
use crate::words::count;

/// Topics and channels that are named one by one; the others are counted.
const NAMED_MAX: usize = 10;
/// Share of the memory above which there is little left.
const MEMORY_HIGH: f64 = 0.9;

/// Free bytes of a disk, or a twentieth of it, below which there is little left: some log files.
const DISK_LOW: u64 = 1 << 30;
/// Free files of a disk below which there are few left.
const FILES_LOW: u64 = 1000;

/// A lookup server and what it says.
pub(super) enum Lookup {
    /// One that the broker registers at.
    Tcp { address: String, is_reached: bool },
    /// One that consumers ask.
    Http { address: String, nodes: Result<Nodes, String> },
}

/// The brokers that a lookup server has.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Nodes {
    producers: Vec<Node>,
}

#[derive(Clone, Debug, Deserialize)]
struct Node {
    broadcast_address: String,
    tcp_port: u16,
}

/// The broker's version beside the program's.
pub(super) fn version(info: &Info, metrics: &Metrics, own: &str) -> Vec<Finding> {
    if let Some(version) = &metrics.version {
        return vec![match version == own {
            true => Finding::ok(format!("it is mq {version}, as this program")),
            false => Finding::warn(
                format!("it is mq {version}, and this program is {own}"),
                "run one version everywhere: before 0.1 formats change",
            ),
        }];
    }
    let what = format!("it is no mq but nsqd {}: what a crash takes is in its memory", info.version);
    vec![Finding::warn(what, "for messages that outlive a crash run mq in its place")]
}

/// Memory, the log and the disk.
pub(super) fn room(metrics: &Metrics) -> Vec<Finding> {
    let number = |name: &str| metrics.number(name);
    let mut findings = Vec::new();
    if let (Some(used), Some(limit)) = (number("mq_memory_used_bytes"), number("mq_memory_limit_bytes")) {
        let text =
            format!("messages hold {} of {} of memory", show_size(used as u64), show_size(limit as u64));
        findings.push(match used > limit * MEMORY_HIGH {
            true => Finding::warn(text, "raise --memory-limit, or let consumers finish more"),
            false => Finding::ok(text),
        });
    }
    for (name, what) in [("mq_log_write_failures_total", "write"), ("mq_log_sync_failures_total", "fsync")] {
        if let Some(failures) = number(name).filter(|failures| *failures > 0.0) {
            let what = format!("{failures} calls of {what} on the log have failed since it started");
            findings.push(Finding::bad(
                what,
                "see the broker's log and the system's: the disk may be full or failing",
            ));
        }
    }
    if let (Some(live), Some(dead)) = (number("mq_log_live_bytes"), number("mq_log_dead_bytes")) {
        let (live, dead) = (show_size(live as u64), show_size(dead as u64));
        findings
            .push(Finding::ok(format!("its log holds {live} that is needed, and {dead} to be given back")));
    }
    findings
}

/// The disk of a data folder: free bytes of all, and free files.
pub(super) fn disk(free: u64, all: u64, files: u64) -> Finding {
    let text = format!("its disk has {} free of {}", show_size(free), show_size(all));
    let todo = "free some, or bound the broker with --max-disk-bytes: on a full disk it refuses publishes";
    match (free < DISK_LOW || free < all / 20, files < FILES_LOW) {
        (false, false) => Finding::ok(text),
        (true, _) => Finding::warn(text, todo),
        (false, true) => Finding::warn(format!("{text}, and room for {files} files"), todo),
    }
}

/// Health, topics and channels.
pub(super) fn topics(stats: &Stats) -> Vec<Finding> {
    let mut findings = match stats.health.as_str() {
        "OK" => vec![Finding::ok("it is healthy")],
        health => vec![Finding::bad(
            format!("it is not well: {health}"),
            "see its log; `mq inspect` looks at a folder",
        )],
    };
    let mut troubles = Vec::new();
    for topic in stats.topics() {
        let name = &topic.topic_name;
        if let Some(damage) = &topic.damage {
            let todo = "stop it, then `mq repair` keeps every message that is whole";
            findings.push(Finding::bad(format!("topic {name} is stopped for damage: {damage}"), todo));
        }
        if topic.paused {
            troubles.push((format!("topic {name} is paused"), format!("mq topics unpause {name}")));
        }
        for channel in topic.channels() {
            let both = format!("channel {} of topic {name}", channel.channel_name);
            let waiting = count(channel.depth, "message waits", "messages wait");
            if channel.paused {
                let todo = format!("mq topics unpause {name} --channel {}", channel.channel_name);
                troubles.push((format!("{both} is paused, and {waiting}"), todo));
            } else if channel.depth > 0 && channel.client_count == 0 {
                let todo = "start its consumers, or delete it if nobody needs it".to_owned();
                troubles.push((format!("{both} has no consumer, and {waiting}"), todo));
            }
        }
    }
    let more = troubles.len().saturating_sub(NAMED_MAX);
    findings.extend(troubles.into_iter().take(NAMED_MAX).map(|(what, todo)| Finding::warn(what, todo)));
    if more > 0 {
        findings.push(Finding::warn(format!("and {more} more like these"), "`mq topics` lists all"));
    }
    findings
}

/// The address that consumers get from lookup servers.
pub(super) fn address(info: &Info, has_lookups: bool) -> Vec<Finding> {
    let address = &info.broadcast_address;
    let is_loopback = address == "localhost" || address.starts_with("127.") || address == "::1";
    if !has_lookups || !is_loopback {
        return Vec::new();
    }
    let what = format!("lookup servers name it as {address}: no consumer on another machine reaches that");
    vec![Finding::warn(what, "set --broadcast-address to a name that consumers can resolve")]
}

/// Lookup servers.
pub(super) fn lookups(info: Option<&Info>, servers: &[Lookup]) -> Vec<Finding> {
    let judge = |server: &Lookup| match server {
        Lookup::Tcp { address, is_reached: true } => {
            Finding::ok(format!("lookup server {address}, where it registers, is reached from here"))
        }
        Lookup::Tcp { address, .. } => Finding::bad(
            format!("lookup server {address}, where it registers, is not reached from here"),
            "start it, or take it out of --lookupd-tcp-address",
        ),
        Lookup::Http { address, nodes: Err(error) } => Finding::bad(
            format!("lookup server {address}: {error}"),
            "start it, or give the HTTP address of one that runs",
        ),
        Lookup::Http { address, nodes: Ok(nodes) } => {
            let is_it = |node: &Node| {
                info.is_some_and(|info| {
                    node.tcp_port == info.tcp_port && node.broadcast_address == info.broadcast_address
                })
            };
            match (info, nodes.producers.iter().any(is_it)) {
                (_, true) => Finding::ok(format!("lookup server {address} names it")),
                (None, false) => Finding::ok(format!("lookup server {address} answers")),
                (Some(info), false) => {
                    let own = format!("{}:{}", info.broadcast_address, info.tcp_port);
                    let others: Vec<_> = nodes.producers.iter().take(NAMED_MAX).map(Node::shown).collect();
                    let others = if others.is_empty() { "none".to_owned() } else { others.join(", ") };
                    Finding::bad(
                        format!("lookup server {address} does not name it as {own}; it names {others}"),
                        "start the broker with --lookupd-tcp-address for it",
                    )
                }
            }
        }
    };
    servers.iter().map(judge).collect()
}

impl Node {
    fn shown(&self) -> String {
        format!("{}:{}", self.broadcast_address, self.tcp_port)
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Grade;
    use super::*;
    use crate::stats::{Channel, Topic};

    fn info() -> Info {
        Info { broadcast_address: "here".to_owned(), tcp_port: 4150, ..Info::default() }
    }

    #[test]
    fn a_paused_topic_and_a_channel_without_consumers_are_named_with_what_to_do() {
        let channel = |name: &str, depth, client_count, paused| Channel {
            channel_name: name.to_owned(),
            depth,
            client_count,
            paused,
            ..Channel::default()
        };
        let channels = vec![
            channel("fine", 5, 1, false),
            channel("idle", 0, 0, false),
            channel("left", 1, 0, false),
            channel("held", 2, 3, true),
        ];
        let topic =
            Topic { topic_name: "t".to_owned(), paused: true, channels: Some(channels), ..Topic::default() };
        let stats = Stats { health: "OK".to_owned(), topics: Some(vec![topic]) };
        let findings: Vec<_> = topics(&stats).into_iter().filter(|f| f.grade > Grade::Ok).collect();
        let whats: Vec<_> = findings.iter().map(|f| f.what.as_str()).collect();
        assert_eq!(
            whats,
            [
                "topic t is paused",
                "channel left of topic t has no consumer, and 1 message waits",
                "channel held of topic t is paused, and 2 messages wait"
            ]
        );
        assert_eq!(findings[2].todo.as_deref(), Some("mq topics unpause t --channel held"));
    }

    #[test]
    fn many_troubles_are_counted() {
        let topic = |n| Topic { topic_name: format!("t{n}"), paused: true, ..Topic::default() };
        let stats = Stats { health: "sick".to_owned(), topics: Some((0..15).map(topic).collect()) };
        let findings = topics(&stats);
        assert_eq!((findings.len(), findings[0].grade), (12, Grade::Bad));
        assert_eq!(findings[11].what, "and 5 more like these");
    }

    #[test]
    fn memory_and_failed_writes_are_noticed() {
        let of = |used: f64| {
            let text = format!(
                "mq_memory_used_bytes {used}\nmq_memory_limit_bytes 100\nmq_log_write_failures_total 2\n"
            );
            let findings = room(&Metrics::parse(&text));
            findings.iter().map(|finding| finding.grade).collect::<Vec<_>>()
        };
        assert_eq!(of(50.0), [Grade::Ok, Grade::Bad]);
        assert_eq!(of(95.0), [Grade::Warn, Grade::Bad]);
        assert!(room(&Metrics::default()).is_empty(), "nsqd has no such numbers");
        let (small, large) = (1 << 29, 1 << 40);
        assert_eq!(disk(large / 2, large, 5000).grade, Grade::Ok);
        assert_eq!(disk(large / 50, large, 5000).grade, Grade::Warn);
        assert_eq!(disk(small, small, 5000).grade, Grade::Warn);
        assert!(disk(large / 2, large, 5).what.contains("5 files"));
    }

    #[test]
    fn another_version_and_an_nsqd_are_noticed() {
        let of = |text: &str| version(&info(), &Metrics::parse(text), "0.0.1")[0].clone();
        assert_eq!(of("mq_build_info{version=\"0.0.1\"} 1").grade, Grade::Ok);
        assert_eq!(of("mq_build_info{version=\"0.0.2\"} 1").grade, Grade::Warn);
        assert!(of("").what.contains("nsqd"));
    }

    #[test]
    fn a_lookup_server_that_does_not_name_the_broker_is_bad() {
        let nodes = |ports: &[u16]| {
            let node = |port: &u16| Node { broadcast_address: "here".to_owned(), tcp_port: *port };
            Ok(Nodes { producers: ports.iter().map(node).collect() })
        };
        let http = |nodes| Lookup::Http { address: "l:4161".to_owned(), nodes };
        let grade = |server| lookups(Some(&info()), &[server])[0].grade;
        assert_eq!(grade(http(nodes(&[1, 4150]))), Grade::Ok);
        assert_eq!(grade(http(nodes(&[1]))), Grade::Bad);
        assert_eq!(grade(http(Err("refused".to_owned()))), Grade::Bad);
        assert_eq!(grade(Lookup::Tcp { address: "l:4160".to_owned(), is_reached: false }), Grade::Bad);
        let loopback = Info { broadcast_address: "127.0.0.1".to_owned(), ..Info::default() };
        assert_eq!(address(&loopback, true)[0].grade, Grade::Warn);
        assert!(address(&loopback, false).is_empty() && address(&info(), true).is_empty());
    }
}
