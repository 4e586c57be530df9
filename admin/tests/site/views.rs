//! Files, and the answers to each view.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::common::{Node, PATIENCE, call, get};

#[tokio::test]
async fn the_page_is_served_with_a_strict_policy_and_an_etag() {
    let node = Node::start().await;
    let index = call(&node.http, "GET", "/admin/", &[], "").await;
    assert_eq!((index.status, index.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = index.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; script-src 'self' 'sha256-"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(index.header("x-content-type-options"), "nosniff");
    assert_eq!(index.header("cache-control"), "no-cache");
    let etag = index.header("etag").to_owned();
    let again = call(&node.http, "GET", "/admin/", &[("If-None-Match", &etag)], "").await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let script = call(&node.http, "GET", "/admin/src/main.js", &[], "").await;
    assert_eq!((script.status, script.header("content-type")), (200, "text/javascript; charset=utf-8"));
    let bare = call(&node.http, "GET", "/admin", &[], "").await;
    assert_eq!((bare.status, bare.header("location")), (302, "/admin/"));
    let old = call(&node.http, "GET", "/admin/topics/a/b", &[], "").await;
    assert_eq!((old.status, old.header("location")), (302, "/admin/#/topics/a/b"));
    for nothing in ["/admin/nothing", "/admin/../Cargo.toml", "/admin/%2e%2e/Cargo.toml", "/admin/data/x"] {
        let reply = call(&node.http, "GET", nothing, &[], "").await;
        assert!(matches!(reply.status, 404 | 400), "{nothing}: {}", reply.status);
        assert!(reply.header("content-security-policy").contains("'none'") || reply.status == 404);
    }
    assert_eq!(call(&node.http, "POST", "/admin/", &[], "").await.status, 405);
    assert_eq!(call(&node.http, "GET", "/ping", &[], "").await.status, 200, "the API is where it was");
}

#[tokio::test]
async fn each_view_has_what_the_page_shows() {
    let node = Node::start().await;
    node.api("POST", "/topic/create?topic=orders", "").await;
    node.api("POST", "/channel/create?topic=orders&channel=email", "").await;
    node.api("POST", "/mpub?topic=orders", "a\nb\nc").await;
    node.api("POST", "/topic/create?topic=quiet", "").await;
    let at = &node.http;
    let me = get(at, "/admin/data/me").await;
    assert_eq!((&me["login"], &me["mode"], &me["name"]), (&json!("none"), &json!("broker"), &json!(at)));
    let overview = get(at, "/admin/data/overview").await;
    assert_eq!(overview["totals"]["depth"], 3);
    assert_eq!(overview["totals"]["topics"], 2);
    let finding = &overview["findings"][0];
    assert_eq!((&finding["kind"], &finding["channel"]), (&json!("no_consumers"), &json!("email")));
    assert_eq!(overview["nodes"], json!([{"node": at, "reachable": true, "health": "OK"}]));
    assert_eq!(overview["busiest"][0]["topic"], "orders");
    let topics = get(at, "/admin/data/topics?search=ORD").await;
    assert_eq!((&topics["total"], &topics["matching"]), (&json!(2), &json!(1)));
    assert_eq!(topics["topics"][0]["worst"]["kind"], "no_consumers");
    let topic = get(at, "/admin/data/topic?topic=orders").await;
    assert_eq!((&topic["depth"], &topic["own_depth"], &topic["bytes"]), (&json!(3), &json!(0), &json!(3)));
    assert_eq!(topic["nodes"][0]["settings"]["durability"], "flush");
    assert_eq!(topic["channels"][0]["channel"], "email");
    let channel = get(at, "/admin/data/channel?topic=orders&channel=email").await;
    assert_eq!((&channel["depth"], &channel["clients"]), (&json!(3), &json!([])));
    assert_eq!(channel["nodes"][0]["node"], json!(at));
    let nodes = get(at, "/admin/data/nodes").await;
    let row = &nodes["nodes"][0];
    assert_eq!(
        (&row["program"], &row["configured"], &row["topics"]),
        (&json!("mq"), &json!(true), &json!(2))
    );
    assert!(row["memory_limit_bytes"].as_f64().unwrap() > 0.0 && row["draining"] == false, "{row}");
    let one = get(at, &format!("/admin/data/node?node={at}&sort=depth")).await;
    assert_eq!(
        (&one["topics"][0]["topic"], &one["topics"][0]["tombstoned"]),
        (&json!("orders"), &json!(false))
    );
    assert_eq!(get(at, "/admin/data/lookup").await["lookups"], json!([]));
    let peek = get(at, "/admin/data/peek?topic=quiet").await;
    assert_eq!(peek["messages"], json!([]));
    for (path, status) in [
        ("topic?topic=none", 404),
        ("topic", 400),
        ("channel?topic=orders&channel=none", 404),
        ("channel?topic=none&channel=none", 404),
        ("node?node=none:1", 404),
        ("history?node=none:1", 404),
        ("history?span=1y", 400),
        ("topics?sort=colour", 400),
        ("topics?page=0", 400),
        ("topics?per_page=201", 400),
        ("topics?order=up", 400),
        ("peek", 400),
        ("peek?topic=none", 404),
        ("peek?topic=orders&limit=0", 400),
        ("peek?topic=orders&from=xyz", 400),
        ("nothing", 404),
    ] {
        let reply = call(at, "GET", &format!("/admin/data/{path}"), &[], "").await;
        assert_eq!(reply.status, status, "{path}");
        assert!(!reply.json()["message"].as_str().unwrap().is_empty());
        assert_eq!(reply.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn a_broker_keeps_its_history_and_knows_its_rates() {
    let node = Node::start().await;
    node.api("POST", "/channel/create?topic=t&channel=c", "").await;
    node.api("POST", "/topic/create?topic=t", "").await;
    node.api("POST", "/channel/create?topic=t&channel=c", "").await;
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        node.api("POST", "/pub?topic=t", "x").await;
        let history = get(&node.http, "/admin/data/history?topic=t&channel=c").await;
        let known = history["depth"].as_array().unwrap().iter().any(|depth| depth.as_f64() > Some(0.0));
        let moved = history["published"].as_array().unwrap().iter().any(|rate| rate.as_f64() > Some(0.0));
        let times = history["times"].as_array().unwrap().len();
        assert_eq!(history["in_flight"].as_array().unwrap().len(), times);
        if known && moved {
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "no history: {history}");
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let rates = node.api("GET", "/history", "").await.json();
    assert!(rates["node"]["published_rate"].as_f64().unwrap() > 0.0, "{rates}");
    assert!(rates["bytes"].as_u64().unwrap() < 8 << 20);
    let day = get(&node.http, "/admin/data/history?span=1d").await;
    assert_eq!(day["step"], 60);
}

#[tokio::test]
async fn a_channel_shows_its_clients_and_what_they_hold() {
    let node = Node::start().await;
    let mut consumer = TcpStream::connect(&node.tcp).await.unwrap();
    consumer.write_all(b"  V2SUB t c\nRDY 1\n").await.unwrap();
    let mut answer = [0; 10];
    consumer.read_exact(&mut answer).await.unwrap();
    node.api("POST", "/mpub?topic=t", "1\n2\n3").await;
    // The first message is at the consumer when a frame has come.
    consumer.read_exact(&mut answer).await.unwrap();
    let channel = get(&node.http, "/admin/data/channel?topic=t&channel=c").await;
    assert_eq!(
        (&channel["depth"], &channel["in_flight"], &channel["clients_total"]),
        (&json!(2), &json!(1), &json!(1))
    );
    let client = &channel["clients"][0];
    assert_eq!(
        (&client["ready"], &client["in_flight"], &client["protocol"]),
        (&json!(1), &json!(1), &json!("V2"))
    );
    assert_eq!((&client["node"], &client["tls"]), (&json!(node.http), &json!("")));
    let held = get(&node.http, "/admin/data/peek?topic=t&channel=c").await;
    let states: Vec<_> =
        held["messages"].as_array().unwrap().iter().map(|message| &message["state"]).collect();
    assert_eq!(states, ["in_flight", "waiting", "waiting"]);
    let two = get(&node.http, "/admin/data/peek?topic=t&limit=2").await;
    assert_eq!(two["messages"].as_array().unwrap().len(), 2);
    let next = two["next"].as_str().unwrap();
    let third = get(&node.http, &format!("/admin/data/peek?topic=t&from={next}")).await;
    assert_eq!(third["messages"][0]["text"], "3");
}
