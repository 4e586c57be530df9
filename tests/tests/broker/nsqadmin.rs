//! Ours beside NSQ's own nsqadmin, on the same fleet of an mq and an nsqd: every answer of the JSON API,
//! field by field. NSQ's programs are in the folder that MQ_PEERS names (`cargo xtask test` puts them there);
//! without it this says so and passes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use mq_tests::{Broker, PATIENCE, binary, until};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A program of NSQ's, or ours under its name. Killed when it is dropped.
struct Program {
    process: Child,
    /// Addresses that its log names, by protocol.
    listens: Vec<(String, String)>,
}

impl Program {
    /// Starts it, and waits until its log says where it listens for each of `protocols`.
    fn start(path: &Path, args: &[&str], protocols: &[&str]) -> Self {
        let started = Command::new(path).args(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn();
        let mut process = started.unwrap();
        let (sender, receiver) = mpsc::channel();
        let lines = BufReader::new(process.stderr.take().unwrap()).lines();
        // Reads to the end, or the process would stop at a full pipe.
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if let Some((before, address)) = line.split_once(": listening on ") {
                    let protocol = before.rsplit(' ').next().unwrap_or_default();
                    let _ = sender.send((protocol.to_owned(), address.to_owned()));
                }
            }
        });
        let mut listens = Vec::new();
        while !protocols.iter().all(|protocol| listens.iter().any(|(have, _)| have == protocol)) {
            listens.push(receiver.recv_timeout(PATIENCE).expect("where it listens"));
        }
        Self { process, listens }
    }

    fn at(&self, protocol: &str) -> &str {
        &self.listens.iter().find(|(have, _)| have == protocol).unwrap().1
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Status of an answer, and its JSON, or else its text.
fn ask(address: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
    let mut socket = TcpStream::connect(address).unwrap();
    let length = body.len();
    let head =
        format!("{method} {path} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}");
    socket.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_else(|_| body.into()))
}

/// A consumer that holds what it gets.
struct Consumer(TcpStream);

impl Consumer {
    fn start(tcp: &str, topic: &str, channel: &str, credit: u32) -> Self {
        let mut stream = TcpStream::connect(tcp).unwrap();
        let identity = json!({"client_id": "c", "hostname": "h", "user_agent": "test/1"});
        let identity = identity.to_string();
        stream.write_all(b"  V2IDENTIFY\n").unwrap();
        stream.write_all(&(identity.len() as u32).to_be_bytes()).unwrap();
        stream.write_all(identity.as_bytes()).unwrap();
        stream.write_all(format!("SUB {topic} {channel}\nRDY {credit}\n").as_bytes()).unwrap();
        Self(stream)
    }

    /// Waits for `messages`, and finishes and requeues the first two of them.
    fn hold(&mut self, messages: usize) {
        let mut ids = Vec::new();
        while ids.len() < messages {
            let mut head = [0; 8];
            self.0.read_exact(&mut head).unwrap();
            let size = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
            let mut body = vec![0; size - 4];
            self.0.read_exact(&mut body).unwrap();
            if head[7] == 2 {
                ids.push(String::from_utf8(body[10..26].to_vec()).unwrap());
            }
        }
        self.0.write_all(format!("RDY 0\nFIN {}\nREQ {} 600000\n", ids[0], ids[1]).as_bytes()).unwrap();
    }
}

/// A lookup server, an nsqd and an mq with the same topics, and both nsqadmins.
struct Fleet {
    _lookup: Program,
    nsqd: Program,
    broker: Broker,
    theirs: Program,
    ours: Program,
    _consumers: Vec<Consumer>,
    _folder: TempDir,
}

impl Fleet {
    fn start(peers: &Path) -> Self {
        let folder = TempDir::new().unwrap();
        let any = ["-tcp-address", "127.0.0.1:0", "-http-address", "127.0.0.1:0"];
        let here = ["-broadcast-address", "127.0.0.1"];
        let both = ["TCP", "HTTP"];
        let percentiles = ["-e2e-processing-latency-percentile", "0.5,0.99"];
        let lookup = Program::start(&peers.join("nsqlookupd"), &[&any[..], &here].concat(), &both);
        let data = folder.path().to_str().unwrap();
        let at = ["-lookupd-tcp-address", lookup.at("TCP"), "-data-path", data];
        let nsqd = Program::start(&peers.join("nsqd"), &[&any[..], &here, &at, &percentiles].concat(), &both);
        let flags = [&here[..], &["--lookupd-tcp-address", lookup.at("TCP")], &percentiles].concat();
        let broker = Broker::start_with(&flags);
        let consumers = [(nsqd.at("TCP"), nsqd.at("HTTP")), (broker.address(), broker.http_address())]
            .map(|(tcp, http)| fill(tcp, http));
        ask(lookup.at("HTTP"), "POST", "/topic/create?topic=ghost", "");
        ask(lookup.at("HTTP"), "POST", "/channel/create?topic=ghost&channel=old", "");
        until("both are registered with all they have", || {
            let (_, nodes) = ask(lookup.at("HTTP"), "GET", "/nodes", "");
            let producers = nodes["producers"].as_array()?;
            let topics = |producer: &Value| producer["topics"].as_array().map_or(0, Vec::len);
            (producers.len() == 2 && producers.iter().all(|producer| topics(producer) == 3)).then_some(())
        });
        let tombstone = format!("/topic/tombstone?topic=quiet&node={}", nsqd.at("HTTP"));
        assert_eq!(ask(lookup.at("HTTP"), "POST", &tombstone, "").0, 200);
        let link = folder.path().join("nsqadmin");
        symlink(binary(), &link).unwrap();
        let flags = ["-http-address", "127.0.0.1:0", "-lookupd-http-address", lookup.at("HTTP")];
        let theirs = Program::start(&peers.join("nsqadmin"), &flags, &["HTTP"]);
        let ours = Program::start(&link, &flags, &["HTTP"]);
        Self { theirs, ours, _lookup: lookup, nsqd, broker, _consumers: consumers.into(), _folder: folder }
    }

    /// Answers of theirs and ours.
    fn both(&self, method: &str, path: &str, body: &str) -> [(u16, Value); 2] {
        [&self.theirs, &self.ours].map(|admin| ask(admin.at("HTTP"), method, path, body))
    }
}

/// The same topics, channels and messages at a broker, whichever it is.
fn fill(tcp: &str, http: &str) -> Consumer {
    let api = |path: &str, body: &str| assert_eq!(ask(http, "POST", path, body).0, 200, "{path}");
    for topic in ["orders", "quiet", "gone%23ephemeral"] {
        api(&format!("/topic/create?topic={topic}"), "");
    }
    for channel in ["work", "idle"] {
        api(&format!("/channel/create?topic=orders&channel={channel}"), "");
    }
    let mut consumer = Consumer::start(tcp, "orders", "work", 3);
    api("/mpub?topic=orders", "1\n2\n3\n4\n5");
    consumer.hold(3);
    until("the consumer's answers", || {
        let (_, stats) = ask(http, "GET", "/stats?format=json&topic=orders&channel=work", "");
        let channel = &stats["topics"][0]["channels"][0];
        (channel["requeue_count"] == 1 && channel["in_flight_count"] == 1).then_some(())
    });
    api("/channel/pause?topic=orders&channel=idle", "");
    api("/topic/pause?topic=quiet", "");
    consumer
}

/// Sorts lists by what names their members, which both give in an order of their own where names are equal.
fn sorted(value: &mut Value) {
    match value {
        Value::Array(list) => {
            list.iter_mut().for_each(sorted);
            list.sort_by_key(|each| {
                let fields = ["node", "tcp_port", "topic_name", "channel_name", "topic", "remote_address"];
                fields.map(|field| each[field].to_string())
            });
        }
        Value::Object(fields) => fields.values_mut().for_each(sorted),
        _ => {}
    }
}

/// Fields of later versions of nsqadmin and of ours, which 1.3.0 does not have.
const MORE: [&str; 10] = [
    "delivery_msg_count",
    "topology_zone",
    "topology_region",
    "node_topology_zone",
    "node_topology_region",
    "zone_local_msg_count",
    "region_local_msg_count",
    "global_msg_count",
    "pub_counts",
    "state",
];

/// Leaves out of a topic's answer what nsqadmin gets wrong: it adds the first node's channels up in place, so
/// that they show the sum, and the sum lacks them.
fn without_aliases(topic: &mut Value) {
    let list = |topic: &mut Value, name: &str, fields: &[&str]| {
        for each in topic[name].as_array_mut().into_iter().flatten() {
            fields.iter().for_each(|field| drop(each.as_object_mut().unwrap().remove(*field)));
        }
    };
    list(topic, "nodes", &["channels"]);
    list(topic, "channels", &["nodes", "hostname"]);
    for channel in topic["channels"].as_array_mut().into_iter().flatten() {
        let latency = channel["e2e_processing_latency"].as_object_mut().unwrap();
        ["topic", "channel"].into_iter().for_each(|field| drop(latency.remove(field)));
        for percentile in latency["percentiles"].as_array_mut().into_iter().flatten() {
            percentile.as_object_mut().unwrap().remove("value");
        }
    }
}

/// Differences in what both have, and what one lacks, a line each.
fn compare(place: &str, theirs: &Value, ours: &Value, found: &mut Vec<String>) {
    match (theirs, ours) {
        (Value::Object(theirs), Value::Object(ours)) => {
            for (field, value) in theirs {
                match ours.get(field) {
                    Some(own) => compare(&format!("{place}.{field}"), value, own, found),
                    None => found.push(format!("{place}.{field}: ours lacks {value}")),
                }
            }
            let more = ours.keys().filter(|key| !theirs.contains_key(*key) && !MORE.contains(&key.as_str()));
            found.extend(more.map(|key| format!("{place}.{key}: only ours")));
        }
        (Value::Array(theirs), Value::Array(ours)) if theirs.len() == ours.len() => {
            for (at, (theirs, ours)) in theirs.iter().zip(ours).enumerate() {
                compare(&format!("{place}[{at}]"), theirs, ours, found);
            }
        }
        (Value::Number(theirs), Value::Number(ours)) if theirs.as_f64() == ours.as_f64() => {}
        (theirs, ours) if is_known(place, theirs, ours) || theirs == ours => {}
        (theirs, ours) => found.push(format!("{place}: theirs {theirs}, ours {ours}")),
    }
}

/// Differences that are meant.
fn is_known(place: &str, theirs: &Value, ours: &Value) -> bool {
    let field = place.rsplit('.').next().unwrap_or_default();
    match field {
        // Elapsed time since the connection, of either's own clock.
        // nsqadmin computes the least from what is most.
        "min" => ours.as_f64() <= theirs.as_f64(),
        "connected" => (ours.as_i64().unwrap() - theirs.as_i64().unwrap()).abs() <= 3_000_000_000,
        _ => false,
    }
}

#[test]
fn ours_answers_what_nsqadmin_answers() {
    let Some(peers) = std::env::var_os("MQ_PEERS").map(PathBuf::from) else {
        println!("skipped: no nsqadmin; `cargo xtask test rust` installs it where Go is present");
        return;
    };
    let fleet = Fleet::start(&peers);
    let nodes = [fleet.nsqd.at("HTTP"), fleet.broker.http_address()];
    let mut found = Vec::new();
    let mut paths: Vec<String> = [
        "/ping",
        "/api/topics",
        "/api/topics?inactive=true",
        "/api/topics/orders",
        "/api/topics/quiet",
        "/api/topics/gone%23ephemeral",
        "/api/topics/orders/work",
        "/api/topics/orders/idle",
        "/api/nodes",
        "/api/nodes/127.0.0.1:1",
        "/api/counter",
        "/api/graphite",
        "/api/graphite?metric=rate",
        "/config/nsqlookupd_http_addresses",
        "/config/nsqd_http_addresses",
        "/config/log_level",
        "/config/statsd_interval",
        "/config/graphite_url",
        "/config/none",
    ]
    .map(str::to_owned)
    .into();
    paths.extend(nodes.map(|node| format!("/api/nodes/{node}")));
    for path in &paths {
        let [(their_status, mut theirs), (our_status, mut ours)] = fleet.both("GET", path, "");
        if their_status != our_status {
            found.push(format!("GET {path}: status {their_status}, ours {our_status} {ours}"));
            continue;
        }
        [&mut theirs, &mut ours].into_iter().for_each(sorted);
        if path.matches('/').count() == 3 && path.starts_with("/api/topics/") {
            [&mut theirs, &mut ours].into_iter().for_each(without_aliases);
        }
        if their_status == 200 {
            compare(path, &theirs, &ours, &mut found);
        } else if theirs["message"] != ours["message"] {
            found.push(format!("GET {path}: {theirs}, ours {ours}"));
        }
    }
    // What is refused, and how.
    for (method, path, body) in [
        ("POST", "/api/topics", "{}"),
        ("POST", "/api/topics", r#"{"topic":"a b"}"#),
        ("POST", "/api/topics", r#"{"topic":"a","channel":"b c"}"#),
        ("POST", "/api/topics/orders", r#"{"action":"explode"}"#),
        ("POST", "/api/topics/orders/work", "{}"),
        ("DELETE", "/api/nodes/127.0.0.1:1", "x"),
        ("DELETE", "/api/nodes/127.0.0.1:1", r#"{"topic":"a b"}"#),
        ("PUT", "/config/log_level", "loud"),
        ("PUT", "/config/log_level", "debug"),
        ("PUT", "/config/nsqlookupd_http_addresses", "x"),
        ("PUT", "/config/nsqlookupd_http_addresses", ""),
        ("PUT", "/config/none", "x"),
        ("POST", "/api/nothing", ""),
    ] {
        let [theirs, ours] = fleet.both(method, path, body);
        if theirs.0 != ours.0 || (theirs.0 != 200 && theirs.1["message"] != ours.1["message"]) {
            found.push(format!("{method} {path} {body}: {theirs:?}, ours {ours:?}"));
        }
    }
    assert!(found.is_empty(), "{} differences\n{}", found.len(), found.join("\n"));
}
