//! nsqadmin's own API, and what goes wrong there.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mq_admin::{Credentials, Graphite, NsqadminSettings, Settings};
use mq_net::secret::Secret;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::common::{Lookup, Node, PATIENCE, call, fleet, get, page, post};

fn keys(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[tokio::test]
async fn its_answers_have_its_fields() {
    let (lookup, node) = (Lookup::start().await, Node::start().await);
    let at = page(fleet(&[&lookup.http], &[])).await;
    node.api("POST", "/topic/create?topic=t", "").await;
    node.api("POST", "/channel/create?topic=t&channel=c", "").await;
    node.api("POST", "/mpub?topic=t", "1\n2").await;
    lookup.register(&node.http, &["t"]);
    call(&lookup.http, "POST", "/channel/create?topic=old&channel=a", &[], "").await;
    assert_eq!(get(&at, "/api/topics").await, json!({"topics": ["old", "t"], "message": ""}));
    let inactive = get(&at, "/api/topics?inactive=true").await;
    assert_eq!(inactive, json!({"topics": {"old": ["a"]}, "message": ""}));
    let topic = get(&at, "/api/topics/t").await;
    let wanted = "node hostname topic_name depth memory_depth backend_depth message_count delivery_msg_count nodes \
                  channels paused e2e_processing_latency message";
    assert_eq!(keys(&topic), wanted.split(' ').collect());
    assert_eq!((&topic["node"], &topic["message_count"]), (&json!("*"), &json!(2)));
    let channel = get(&at, "/api/topics/t/c").await;
    let wanted = "node hostname topic_name channel_name depth memory_depth backend_depth in_flight_count deferred_count \
                  requeue_count timeout_count message_count delivery_msg_count client_count nodes clients paused \
                  e2e_processing_latency message";
    assert_eq!(keys(&channel), wanted.split(' ').collect());
    assert_eq!((&channel["depth"], &channel["nodes"][0]["node"]), (&json!(2), &json!(node.http)));
    let nodes = get(&at, "/api/nodes").await;
    let wanted = "remote_addresses remote_address hostname broadcast_address tcp_port http_port version out_of_date \
                  topology_zone topology_region topics";
    assert_eq!(keys(&nodes["nodes"][0]), wanted.split(' ').collect());
    assert_eq!(nodes["nodes"][0]["topics"], json!([{"topic": "t", "tombstoned": false}]));
    assert_eq!(nodes["nodes"][0]["remote_addresses"], json!([format!("{}/127.0.0.1:5", lookup.http)]));
    let one = get(&at, &format!("/api/nodes/{}", node.http)).await;
    assert_eq!((&one["total_messages"], &one["total_clients"]), (&json!(2), &json!(0)));
    let counter = get(&at, "/api/counter").await;
    assert_eq!(counter["stats"][format!("t:c:{}", node.http)]["message_count"], 2);
    // Where nsqadmin fails: a topic without a broker, an unknown channel.
    assert_eq!(get(&at, "/api/topics/old").await["message_count"], 0);
    for missing in [
        "/api/topics/t/none",
        "/api/topics/none",
        "/api/nodes/none:1",
        "/api/topics/%ff",
        "/api/topics/t/%ff",
        "/api/nodes/%zz",
    ] {
        assert_eq!(call(&at, "GET", missing, &[], "").await.status, 404, "{missing}");
    }
    for unreadable in ["/api/topics/t/%ff", "/api/topics/t/%", "/api/topics/%zz/c"] {
        assert_eq!(call(&at, "DELETE", unreadable, &[], "").await.status, 404, "{unreadable}");
    }
    assert_eq!(get(&at, "/api/topics/t").await["message_count"], 2, "nothing was deleted");
    assert_eq!(call(&at, "GET", "/ping", &[], "").await.body, b"OK");
}

#[tokio::test]
async fn its_changes_are_made_and_notified() {
    let (lookup, node) = (Lookup::start().await, Node::start().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/hook", listener.local_addr().unwrap());
    let settings = Settings {
        nsqadmin: NsqadminSettings {
            notification_endpoint: Some(endpoint),
            via: "this-host".to_owned(),
            ..NsqadminSettings::default()
        },
        ..fleet(&[&lookup.http], &[])
    };
    let at = page(settings).await;
    node.api("POST", "/topic/create?topic=t", "").await;
    lookup.register(&node.http, &["t"]);
    assert_eq!(
        post(&at, "/api/topics", &json!({"topic": "t", "channel": "c"})).await.json(),
        json!({"message": ""})
    );
    let heard = async || {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        // The other end waits for an answer, and so does not close.
        while !text.contains("\"via\"") {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        assert!(text.starts_with("POST /hook HTTP/1.1"), "{text}");
        let body: Value = serde_json::from_str(text.split("\r\n\r\n").nth(1).unwrap()).unwrap();
        assert_eq!((&body["via"], &body["user"]), (&json!("this-host"), &Value::Null), "{body}");
        assert!(body["remote_ip"].as_str().unwrap().starts_with("127.0.0.1:"), "{body}");
        assert_eq!(body["url"], format!("http://{at}/api/topics"));
        [&body["action"], &body["topic"], &body["channel"]]
            .map(|value| value.as_str().unwrap_or("-").to_owned())
    };
    // nsqadmin tells of both, and nobody says in which order they arrive.
    let both = async { [heard().await, heard().await] };
    let mut both = tokio::time::timeout(PATIENCE, both).await.unwrap();
    both.sort();
    assert_eq!(both, [["create_channel", "t", "c"], ["create_topic", "t", "-"]]);
    assert_eq!(post(&at, "/api/topics/t/c", &json!({"action": "pause"})).await.status, 200);
    let stats = get(&node.http, "/stats?format=json").await;
    assert_eq!(stats["topics"][0]["channels"][0]["paused"], true);
    for (method, path, body, status, code) in [
        ("POST", "/api/topics/t", r#"{"action":"explode"}"#, 400, "INVALID_ACTION"),
        ("POST", "/api/topics", r#"{"topic":"a b"}"#, 400, "INVALID_TOPIC"),
        ("DELETE", "/api/nodes/n:1", "x", 400, "INVALID_BODY"),
    ] {
        let reply = call(&at, method, path, &[], body).await;
        assert_eq!((reply.status, &reply.json()["message"]), (status, &json!(code)), "{method} {path}");
    }
    assert_eq!(call(&at, "DELETE", "/api/topics/t/c", &[], "").await.status, 200);
    let body = r#"{"topic":"t"}"#;
    assert_eq!(call(&at, "DELETE", &format!("/api/nodes/{}", node.http), &[], body).await.status, 200);
    assert_eq!(get(&node.http, "/stats?format=json").await["topics"], json!([]));
}

#[tokio::test]
async fn config_is_for_addresses_that_may_ask() {
    let settings = |range: &str| Settings {
        nsqadmin: NsqadminSettings {
            allow_config_from: Some(range.parse().unwrap()),
            ..NsqadminSettings::default()
        },
        ..fleet(&["127.0.0.1:1"], &[])
    };
    let (near, far) = (page(settings("127.0.0.1/8")).await, page(settings("10.0.0.0/8")).await);
    assert_eq!(get(&near, "/config/nsqlookupd_http_addresses").await, json!(["127.0.0.1:1"]));
    assert_eq!(call(&far, "GET", "/config/nsqlookupd_http_addresses", &[], "").await.status, 403);
    assert_eq!(call(&near, "GET", "/config/none", &[], "").await.status, 400);
}

#[tokio::test]
async fn other_lookup_servers_are_named_while_the_page_runs_and_get_no_token() {
    let (first, second, node) = (Lookup::start().await, Lookup::start().await, Node::start().await);
    node.api("POST", "/topic/create?topic=t", "").await;
    second.register(&node.http, &["t"]);
    let (trap, heard) = super::access::trap().await;
    let token = Credentials::Own(Some(Secret::new(Arc::from(&b"hush-hush"[..]))));
    let at = page(Settings { credentials: token, ..fleet(&[&first.http], &[]) }).await;
    assert_eq!(get(&at, "/api/topics").await["topics"], Value::Null);
    let put = async |value: &str| call(&at, "PUT", "/config/nsqlookupd_http_addresses", &[], value).await;
    for wrong in
        ["x", "{}", "[1]", r#"["a b:1"]"#, r#"["a"]"#, r#"["a:0"]"#, r#"["u@a:1"]"#, r#"["/etc/mq.sock:1"]"#]
    {
        assert_eq!(put(wrong).await.status, 400, "{wrong}");
    }
    assert_eq!(put("").await.status, 413);
    let both = json!([second.http, trap]);
    assert_eq!(put(&both.to_string()).await.json(), both);
    assert_eq!(get(&at, "/api/topics").await["topics"], json!(["t"]));
    let heard = heard.lock().clone();
    assert!(heard.contains("GET /nodes ") && !heard.contains("hush-hush"), "{heard}");
    // Beside a broker or a lookup server the page shows that one.
    let put = call(&node.http, "PUT", "/admin/config/nsqlookupd_http_addresses", &[], r#"["a:1"]"#).await;
    assert_eq!((put.status, &put.json()["message"]), (400, &json!("INVALID_OPTION")));
}

/// A graphite that answers every request alike, and notes the requests.
async fn graphite(kind: &'static str, body: &'static str) -> (String, Arc<Mutex<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = Arc::new(Mutex::new(String::new()));
    let note = Arc::clone(&heard);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 8192];
            let read = stream.read(&mut buffer).await.unwrap_or_default();
            note.lock().push_str(&String::from_utf8_lossy(&buffer[..read]));
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
            stream.write_all(&[head.as_bytes(), body.as_bytes()].concat()).await.unwrap();
        }
    });
    (address, heard)
}

async fn page_with(graphite: &str, is_proxied: bool) -> String {
    let graphite = Graphite::new(graphite, is_proxied, Duration::from_secs(60));
    assert!(graphite.is_some());
    let nsqadmin = NsqadminSettings { graphite, ..NsqadminSettings::default() };
    page(Settings { nsqadmin, ..fleet(&[], &["127.0.0.1:1"]) }).await
}

#[tokio::test]
async fn graphite_is_asked_for_a_rate_and_nothing_else_is() {
    let points = r#"[{"target":"a","datapoints":[[90.0,1.0]]}]"#;
    let (address, heard) = graphite("application/json", points).await;
    let at = page_with(&format!("http://reader:hush@{address}/sub/"), false).await;
    assert_eq!(get(&at, "/api/graphite?metric=rate&target=sum%28a%26b%29").await, json!({"rate": "1.50"}));
    let asked = heard.lock().clone();
    let line = "GET /sub/render?format=json&from=-120sec&target=sum%28a%26b%29&until=-60sec HTTP/1.1";
    assert!(asked.starts_with(line), "{asked}");
    assert!(asked.to_lowercase().contains("authorization: basic cmvhzgvyomh1c2g="), "{asked}");
    for (path, status, code) in
        [("?metric=count&target=a", 400, "INVALID_ARG_METRIC"), ("?metric=rate", 400, "INVALID_ARG_TARGET")]
    {
        let reply = call(&at, "GET", &format!("/api/graphite{path}"), &[], "").await;
        assert_eq!((reply.status, &reply.json()["message"]), (status, &json!(code)));
    }
    assert_eq!(call(&at, "GET", "/render?target=a", &[], "").await.status, 404, "it is not proxied");
    // Negative is not known, none and nonsense are errors, as is a graphite that is gone.
    for (points, want) in [
        (r#"[{"target":"a","datapoints":[[-1.0,1.0]]}]"#, Some("N/A")),
        (r#"[{"target":"a","datapoints":[[null,1.0]]}]"#, None),
        ("[]", None),
        ("<html>", None),
    ] {
        let (address, _) = graphite("application/json", points).await;
        let at = page_with(&format!("http://{address}"), false).await;
        let reply = call(&at, "GET", "/api/graphite?metric=rate&target=a", &[], "").await;
        assert_eq!(reply.status, if want.is_some() { 200 } else { 500 }, "{points}");
        if let Some(want) = want {
            assert_eq!(reply.json()["rate"], want);
        }
    }
}

#[tokio::test]
async fn an_answer_of_graphite_is_never_served_as_a_page() {
    let script = "<script>alert(1)</script>";
    let (address, heard) = graphite("text/html", script).await;
    let at = page_with(&format!("http://{address}"), true).await;
    let shown = call(&at, "GET", "/render?target=a&width=5", &[], "").await;
    assert_eq!((shown.status, shown.header("content-type")), (200, "text/plain; charset=utf-8"));
    assert_eq!(shown.header("x-content-type-options"), "nosniff");
    assert!(heard.lock().starts_with("GET /render?target=a&width=5 HTTP/1.1"), "{}", heard.lock());
    let elsewhere = call(&at, "GET", "/render/../metrics", &[], "").await;
    assert_ne!(elsewhere.status, 200);
    assert_eq!(call(&at, "POST", "/render", &[], "").await.status, 405);
    for wrong in ["https://g", "g:80", "http://", "http://a b", "http://a/?x"] {
        assert!(Graphite::new(wrong, true, Duration::from_secs(1)).is_none(), "{wrong}");
    }
}
