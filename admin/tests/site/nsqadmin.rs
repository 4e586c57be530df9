//! nsqadmin's own API, and what goes wrong there.

use std::collections::BTreeSet;

use mq_admin::{NsqadminSettings, Settings};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;
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
    for missing in ["/api/topics/t/none", "/api/topics/none", "/api/nodes/none:1"] {
        assert_eq!(call(&at, "GET", missing, &[], "").await.status, 404, "{missing}");
    }
    assert_eq!(call(&at, "GET", "/ping", &[], "").await.body, b"OK");
}

#[tokio::test]
async fn its_changes_are_made_and_notified() {
    let (lookup, node) = (Lookup::start().await, Node::start().await);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/hook", listener.local_addr().unwrap());
    let settings = Settings {
        nsqadmin: NsqadminSettings { notification_endpoint: Some(endpoint), ..NsqadminSettings::default() },
        ..fleet(&[&lookup.http], &[])
    };
    let at = page(settings).await;
    node.api("POST", "/topic/create?topic=t", "").await;
    lookup.register(&node.http, &["t"]);
    assert_eq!(
        post(&at, "/api/topics", &json!({"topic": "t", "channel": "c"})).await.json(),
        json!({"message": ""})
    );
    let heard = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut text = String::new();
        // The other end waits for an answer, and so does not close.
        while !text.contains("\"via\"") {
            let mut part = [0; 4096];
            let read = stream.read(&mut part).await.unwrap();
            assert!(read > 0, "{text}");
            text.push_str(&String::from_utf8_lossy(&part[..read]));
        }
        text
    };
    let heard = tokio::time::timeout(PATIENCE, heard).await.unwrap();
    assert!(heard.starts_with("POST /hook HTTP/1.1"), "{heard}");
    let body: Value = serde_json::from_str(heard.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(
        (&body["action"], &body["topic"], &body["channel"]),
        (&json!("create_channel"), &json!("t"), &json!("c"))
    );
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
