//! A large fleet: 200 brokers that are no more than answers, with 10,000 topics.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use mq_admin::Settings;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::common::{PATIENCE, call, fleet, get, page};

const NODES: usize = 200;
const TOPICS: usize = 10_000;
/// Brokers that have each topic.
const EACH: usize = 4;

/// Brokers that answer while `open` says so.
struct Many {
    nodes: Vec<String>,
    open: watch::Sender<bool>,
    asked: Arc<AtomicUsize>,
    /// Requests for curves.
    charts: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Many {
    async fn start() -> Self {
        let (open, is_open) = watch::channel(true);
        let [asked, charts, connections]: [Arc<AtomicUsize>; 3] = Default::default();
        let mut nodes = Vec::new();
        for node in 0..NODES {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            nodes.push(listener.local_addr().unwrap().to_string());
            tokio::spawn(serve(
                listener,
                Arc::new(stats(node).to_string()),
                is_open.clone(),
                Arc::clone(&asked),
                Arc::clone(&charts),
                Arc::clone(&connections),
            ));
        }
        Self { nodes, open, asked, charts, connections }
    }
}

/// Its topics, one channel each; the last has a backlog that nobody takes.
fn stats(node: usize) -> Value {
    let of = |topic: usize| {
        let depth = if topic == TOPICS - 1 { 5 } else { 0 };
        let channel = json!({
            "channel_name": "work", "depth": depth, "backend_depth": 0, "in_flight_count": 0, "deferred_count": 0,
            "message_count": 100, "requeue_count": 0, "timeout_count": 0, "client_count": 0, "paused": false,
        });
        json!({
            "topic_name": format!("topic-{topic:05}"), "channels": [channel], "depth": 0, "backend_depth": 0,
            "message_count": 100, "message_bytes": 1000, "paused": false,
        })
    };
    let topics = (0..TOPICS).filter(|topic| topic % (NODES / EACH) == node % (NODES / EACH));
    json!({"version": "1.3.0", "health": "OK", "start_time": 1, "topics": topics.map(of).collect::<Vec<_>>()})
}

async fn serve(
    listener: TcpListener,
    stats: Arc<String>,
    open: watch::Receiver<bool>,
    asked: Arc<AtomicUsize>,
    charts: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        connections.fetch_add(1, Ordering::Relaxed);
        let (stats, mut open) = (Arc::clone(&stats), open.clone());
        let (asked, charts) = (Arc::clone(&asked), Arc::clone(&charts));
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            loop {
                let (mut line, mut rest) = (String::new(), String::new());
                if !stream.read_line(&mut line).await.is_ok_and(|read| read > 0) {
                    break;
                }
                while stream.read_line(&mut rest).await.is_ok_and(|read| read > 2) {
                    rest.clear();
                }
                asked.fetch_add(1, Ordering::Relaxed);
                charts.fetch_add(usize::from(line.contains("/history?span=")), Ordering::Relaxed);
                let body = match line.split([' ', '?']).nth(1).unwrap_or_default() {
                    "/stats" => stats.as_str(),
                    "/info" => r#"{"version":"1.3.0","hostname":"h","start_time":1}"#,
                    "/history" => r#"{"version":"0.0.1","missing":0,"node":{"growth":0.0},"series":[]}"#,
                    "/drain" => r#"{"state":"none"}"#,
                    _ => "mq_memory_used_bytes 1\n",
                };
                if open.wait_for(|open| *open).await.is_ok() {
                    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                    let _ = stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await;
                }
            }
        });
    }
}

/// Lets time pass for everything here.
async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

#[tokio::test]
async fn two_hundred_nodes_with_ten_thousand_topics_are_searched_and_what_is_known_is_shown_at_once() {
    let many = Many::start().await;
    let named: Vec<&str> = many.nodes.iter().map(String::as_str).collect();
    let at = page(fleet(&[], &named)).await;
    let began = Instant::now();
    let first = get(&at, "/data/topics?per_page=50").await;
    println!("first answer, everything read: {:?}", began.elapsed());
    // One connection a node for all that is read of it, maybe one more for its settings.
    let connections = many.connections.load(Ordering::Relaxed);
    assert!((NODES..=2 * NODES).contains(&connections), "{connections} connections");
    assert_eq!((&first["total"], first["topics"][0]["nodes"].as_u64()), (&json!(TOPICS), Some(EACH as u64)));
    assert_eq!(first["topics"][0]["worst"]["kind"], "no_consumers", "the worst comes first");
    assert_eq!(first["topics"][0]["topic"], format!("topic-{:05}", TOPICS - 1));
    for path in [
        "/data/topics?search=topic-0777&sort=name",
        "/data/topics?sort=depth&page=200",
        "/data/nodes?sort=topics&per_page=200",
        "/data/overview",
        "/data/topic?topic=topic-00777",
        "/data/channel?topic=topic-00777&channel=work",
    ] {
        let began = Instant::now();
        let answer = get(&at, path).await;
        println!("{path}: {:?}, {} bytes", began.elapsed(), answer.to_string().len());
    }
    let nodes = get(&at, "/data/nodes?page=4").await;
    assert_eq!((&nodes["total"], nodes["nodes"].as_array().unwrap().len()), (&json!(NODES), 50));
    let port = many.nodes[7].rsplit(':').next().unwrap();
    let found = get(&at, &format!("/data/nodes?search=:{port}")).await;
    assert_eq!((&found["matching"], &found["nodes"][0]["node"]), (&json!(1), &json!(many.nodes[7])));
    assert_eq!(get(&at, "/data/topics?search=topic-0777").await["matching"], 10);
    // The settings of all are read once, behind the scenes.
    // 1,600 requests, which a busy machine takes long for.
    let deadline = Instant::now() + 10 * PATIENCE;
    loop {
        let nodes = get(&at, "/data/nodes?per_page=200").await["nodes"].as_array().unwrap().clone();
        if nodes.iter().all(|node| !node["settings"].is_null()) {
            break;
        }
        assert!(Instant::now() < deadline, "no settings: {}", nodes[0]);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // Nobody looks: nobody is asked.
    let asked = many.asked.load(Ordering::Relaxed);
    pass(Duration::from_secs(60)).await;
    assert_eq!(many.asked.load(Ordering::Relaxed), asked);
    // Somebody comes back when no broker answers in time: what is known is there, with its age.
    many.open.send(false).unwrap();
    pass(Duration::from_secs(11)).await;
    let began = Instant::now();
    let known = tokio::time::timeout(PATIENCE, get(&at, "/data/topics")).await.unwrap();
    println!("what is known, after a while: {:?}", began.elapsed());
    assert_eq!(known["total"], json!(TOPICS));
    assert!(known["at"].as_f64() >= first["at"].as_f64(), "{}", known["at"]);
}

#[tokio::test]
async fn the_first_visitor_sees_the_nodes_read_so_far_and_that_they_are_a_part() {
    let many = Many::start().await;
    many.open.send(false).unwrap();
    let named: Vec<&str> = many.nodes.iter().map(String::as_str).collect();
    let at = page(Settings { request_timeout: PATIENCE, ..fleet(&[], &named) }).await;
    let deadline = Instant::now() + PATIENCE;
    while get(&at, "/data/overview?partial=1").await["reading"]["of"].is_null() {
        assert!(Instant::now() < deadline, "it has not begun");
    }
    for view in ["overview", "topics", "nodes"] {
        let part = get(&at, &format!("/data/{view}?partial=1")).await;
        assert_eq!(part["reading"], json!({"done": 0, "of": NODES}), "{view}");
        assert_eq!(part["warnings"], json!([]), "who has not answered yet is not gone");
    }
    for view in ["topic?topic=topic-00777&", "node?node=a:1&", "lookup?", "history?"] {
        let reply = call(&at, "GET", &format!("/data/{view}partial=1"), &[], "").await;
        assert_eq!((reply.status, &reply.json()["reading"]["of"]), (202, &json!(NODES)), "{view}");
        assert!(reply.json().get("depth").is_none(), "{view}: no number of a part");
    }
    many.open.send(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut last = 0;
    loop {
        let topics = get(&at, "/data/topics?partial=1").await;
        let Some(done) = topics["reading"]["done"].as_u64() else {
            assert_eq!(topics["total"], TOPICS);
            break;
        };
        assert!(done >= last, "{done} after {last}");
        last = done;
        assert!(Instant::now() < deadline, "{done} of {NODES} nodes");
    }
    let topic = call(&at, "GET", "/data/topic?topic=topic-00777&partial=1", &[], "").await;
    assert_eq!((topic.status, &topic.json()["nodes_total"]), (200, &json!(EACH)));
}

#[tokio::test]
async fn a_chart_of_all_topics_is_read_once_in_a_step_and_nobody_waits_for_the_next() {
    let many = Many::start().await;
    let named: Vec<&str> = many.nodes.iter().map(String::as_str).collect();
    let at = page(Settings { request_timeout: PATIENCE, ..fleet(&[], &named) }).await;
    get(&at, "/data/topics").await;
    let charts = || many.charts.load(Ordering::Relaxed);
    many.open.send(false).unwrap();
    let reply = call(&at, "GET", "/data/history?partial=1", &[], "").await;
    assert_eq!((reply.status, &reply.json()["reading"]["of"]), (202, &json!(NODES)), "it is not there yet");
    many.open.send(true).unwrap();
    let began = get(&at, "/data/history").await;
    assert_eq!(charts(), NODES, "who is asked already is not asked again");
    assert_eq!(get(&at, "/data/history?partial=1").await, began);
    assert_eq!(charts(), NODES, "no broker has recorded another step");
    let port = &many.nodes[7];
    get(&at, &format!("/data/history?node={port}")).await;
    assert_eq!(charts(), NODES + 1, "a chart of one node is another");
    many.open.send(false).unwrap();
    pass(Duration::from_secs(11)).await;
    let known = tokio::time::timeout(PATIENCE, get(&at, "/data/history?partial=1")).await.unwrap();
    assert_eq!(known["at"], began["at"], "what is known, while the next is read");
    many.open.send(true).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while get(&at, "/data/history?partial=1").await["at"] == began["at"] {
        assert!(Instant::now() < deadline, "the next step is never there");
    }
}
