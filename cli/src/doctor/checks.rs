//! From what a broker and lookup servers say to findings. Pure.

use std::path::Path;

use mq_bench::broker_flags::HttpFlags;
use mq_bench::plain_words::without_codes;
use mq_nsq::client::AdminError;
use mq_server::config::units::show_size;
use serde::Deserialize;

use super::certificate;
use super::finding::Finding;
use crate::stats::{Info, Metrics};

/// Brokers of a lookup server that are named.
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
    tcp_port: i32,
}

/// An HTTP port that did not answer as a broker's.
pub(super) fn http(http: &HttpFlags, error: &AdminError) -> Finding {
    let address = http.address();
    if let AdminError::NoAnswer(text) = error
        && let Some(finding) = certificate::refused(&format!("https {address}"), text)
    {
        return finding;
    }
    match error {
        AdminError::NoAnswer(text) if text.contains("invalid HTTP version") => Finding::bad(
            format!("http {address} does not speak HTTP"),
            "give --http-address the broker's HTTP port: this may be its TCP port",
        ),
        AdminError::NoAnswer(text) => Finding::bad(
            format!("http {address}: {}", without_codes(text)),
            "start a broker there, or give --http-address",
        ),
        AdminError::Refused { status: 401 | 403, .. } => Finding::bad(
            format!("http {address}: {error}"),
            "--auth-token-file names a file with a token that the broker knows",
        ),
        AdminError::Refused { .. } => Finding::bad(
            format!("http {address}: {error}"),
            "see whether a broker is there, and what stands before it",
        ),
    }
}

/// Two addresses that may not be those of one broker.
pub(super) fn is_one_broker(tcp: &str, http: &str, info: &Info) -> Option<Finding> {
    let port: i32 = tcp.rsplit_once(':')?.1.parse().ok()?;
    (info.tcp_port > 0 && info.tcp_port != port).then(|| {
        let what = format!(
            "the broker at http {http} has TCP port {}, and tcp {tcp} is another: they may be two brokers",
            info.tcp_port
        );
        Finding::warn(
            what,
            "give --tcp-address and --http-address of one broker, unless a proxy changes ports",
        )
    })
}

/// A folder that is not the data folder of the broker, which says that it is `own`.
pub(super) fn folder(given: &Path, own: &str) -> Option<Finding> {
    let path = Path::new(own);
    let whole = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    // One that is relative to where the broker started is compared by its end.
    let is_same = match path.is_absolute() {
        true => whole(given) == whole(path),
        false => whole(given).ends_with(path.components().as_path()),
    };
    let plain = path.components().all(|part| !matches!(part, std::path::Component::ParentDir));
    let is_known = !own.is_empty() && own != "." && (path.is_absolute() || plain);
    (is_known && !is_same).then(|| {
        let what = format!("--data-path {} is not its data folder, which is {own}", given.display());
        Finding::warn(what, "give --data-path of the broker that is looked at")
    })
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
    if let Some(failures) = number("mq_log_write_failures_total").filter(|failures| *failures > 0.0) {
        let what = format!("{failures} calls of write on the log have failed since it started");
        let todo = "see the broker's log and the system's: the disk may be full or failing";
        findings.push(match number("mq_healthy") == Some(1.0) {
            true => Finding::warn(format!("{what}; the log works now"), todo),
            false => Finding::bad(what, todo),
        });
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

/// Whether the broker is being emptied.
pub(super) fn draining(metrics: &Metrics) -> Option<Finding> {
    let todo = "`mq drain` or somebody else has asked for it; it stops once all is delivered";
    let drains = || Finding::warn("it drains: publishes and new topics are refused", todo);
    (metrics.number("mq_draining") == Some(1.0)).then(drains)
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

    fn info() -> Info {
        Info { broadcast_address: "here".to_owned(), tcp_port: 4150, ..Info::default() }
    }

    #[test]
    fn addresses_and_folders_of_different_brokers_are_noticed() {
        let of = |tcp: &str| is_one_broker(tcp, "a:4151", &info());
        assert!(of("a:4150").is_none() && of("/run/mq.sock").is_none());
        assert!(of("a:4250").unwrap().what.contains("has TCP port 4150"));
        let root = tempfile::tempdir().unwrap();
        let (one, other) = (root.path().join("one"), root.path().join("other"));
        std::fs::create_dir_all(one.join("data")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        let is_fine = |given: &Path, own: &str| folder(given, own).is_none();
        assert!(is_fine(&one, one.to_str().unwrap()) && is_fine(&one.join("data"), "data"));
        assert!(is_fine(&one, "") && is_fine(&one, ".") && is_fine(&one, "../one"));
        assert!(!is_fine(&other, one.to_str().unwrap()) && !is_fine(&other, "data"));
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
        let recovered = Metrics::parse("mq_log_write_failures_total 2\nmq_healthy 1\n");
        assert_eq!(room(&recovered)[0].grade, Grade::Warn);
        assert!(room(&Metrics::default()).is_empty(), "nsqd has no such numbers");
        let (small, large) = (1 << 29, 1 << 40);
        assert_eq!(disk(large / 2, large, 5000).grade, Grade::Ok);
        assert_eq!(disk(large / 50, large, 5000).grade, Grade::Warn);
        assert_eq!(disk(small, small, 5000).grade, Grade::Warn);
        assert!(disk(large / 2, large, 5).what.contains("5 files"));
    }

    #[test]
    fn a_broker_that_drains_is_named_and_one_that_does_not_is_not() {
        let of = |text: &str| draining(&Metrics::parse(text)).map(|finding| finding.grade);
        assert_eq!(of("mq_draining 1\n"), Some(Grade::Warn));
        assert_eq!(of("mq_draining 0\n"), None);
        assert_eq!(of(""), None, "an nsqd, or an older mq");
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
        let nodes = |ports: &[i32]| {
            let node = |port: &i32| Node { broadcast_address: "here".to_owned(), tcp_port: *port };
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
