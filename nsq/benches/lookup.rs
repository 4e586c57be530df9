//! Time of `/lookup` in a lookup server with 500 brokers of 200 topics each, while one of them comes and
//! goes: `cargo bench -p mq-nsq --bench lookup`.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "a measurement fails by panicking")]

use std::future::pending;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mq_core::TopicName;
use mq_nsq::lookupd::{LookupConfig, Lookupd};
use mq_nsq::wire::lookup::{BrokerIdentity, put_identify, put_register};

const BROKERS: usize = 500;
const TOPICS: usize = 200;
const REQUESTS: usize = 5_000;

/// Registers a broker with topics named after `names`, and waits until all is answered.
fn register(address: &str, broker: usize, names: &[String]) -> TcpStream {
    let peer = BrokerIdentity {
        version: "1.3.0".into(),
        tcp_port: 4150,
        http_port: 4151,
        grpc_port: 0,
        hostname: format!("host-{broker}"),
        broadcast_address: format!("broker-{broker}.example.org"),
        topology_zone: String::new(),
        topology_region: String::new(),
    };
    let mut out = b"  V1".to_vec();
    put_identify(&mut out, &peer);
    names.iter().for_each(|name| put_register(&mut out, &TopicName::parse(name).unwrap(), None));
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(&out).unwrap();
    for _ in 0..=names.len() {
        let mut length = [0; 4];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut answer).unwrap();
        assert!(!answer.starts_with(b"E_"), "{}", answer.escape_ascii());
    }
    stream
}

/// Asks over one connection, one request after the other. Gives each one's time, and the bytes of an answer.
fn ask(address: &str, names: &[String]) -> (Vec<Duration>, usize) {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut reader = BufReader::with_capacity(1 << 18, stream);
    let (mut times, mut bytes) = (Vec::new(), 0);
    for n in 0..REQUESTS {
        let request =
            format!("GET /lookup?topic={} HTTP/1.1\r\nHost: localhost\r\n\r\n", names[n * 7 % names.len()]);
        let begun = Instant::now();
        reader.get_mut().write_all(request.as_bytes()).unwrap();
        let mut length = 0;
        let mut line = String::new();
        loop {
            line.clear();
            reader.read_line(&mut line).unwrap();
            let lower = line.to_ascii_lowercase();
            assert!(!lower.starts_with("http/1.1 ") || lower.contains(" 200 "), "{line}");
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        times.push(begun.elapsed());
        bytes = length;
    }
    times.sort_unstable();
    (times, bytes)
}

fn resident_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("0 kB");
    line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
}

fn measure(title: &str, names_of: impl Fn(usize) -> Vec<String> + Sync) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = LookupConfig {
        tcp_address: "127.0.0.1:0".into(),
        http_address: "127.0.0.1:0".into(),
        ..LookupConfig::default()
    };
    let before = resident_kb();
    let server = runtime.block_on(Lookupd::bind(config)).unwrap();
    let (tcp, http) = (server.tcp_address().to_string(), server.http_address().to_string());
    runtime.spawn(server.run(pending()));
    let brokers: Vec<TcpStream> = (0..BROKERS).map(|n| register(&tcp, n, &names_of(n))).collect();
    let memory = resident_kb().saturating_sub(before) / 1024;
    let (done, restarts) = (AtomicBool::new(false), AtomicU64::new(0));
    let (times, bytes) = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                drop(register(&tcp, BROKERS, &names_of(BROKERS)));
                restarts.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        let asked = ask(&http, &names_of(0));
        done.store(true, Ordering::Relaxed);
        asked
    });
    let at = |part: f64| times[((times.len() - 1) as f64 * part) as usize];
    println!(
        "{title}: {memory} MiB, answers of {bytes} bytes; p50 {:?}, p99 {:?}, max {:?}; {} restarts of a broker meanwhile",
        at(0.5),
        at(0.99),
        at(1.0),
        restarts.into_inner()
    );
    drop(brokers);
    runtime.shutdown_background();
}

fn main() {
    measure("the same 200 topics everywhere", |_| (0..TOPICS).map(|n| format!("topic-{n}")).collect());
    measure("100,000 different topics", |broker| {
        (0..TOPICS).map(|n| format!("topic-{broker}-{n}")).collect()
    });
}
