//! Changes: each does what it says, at each server that it concerns.

use serde_json::{Value, json};

use super::common::{Consumer, Lookup, Node, PATIENCE, fleet, get, page, post};

async fn act(at: &str, body: Value) -> Value {
    let reply = post(at, "/data/action", &body).await;
    assert_eq!(reply.status, 200, "{body}: {}", String::from_utf8_lossy(&reply.body));
    let answer = reply.json();
    assert_eq!(answer["message"], "", "{body}: {answer}");
    answer
}

async fn refused(at: &str, body: Value) -> (u16, String) {
    let reply = post(at, "/data/action", &body).await;
    (reply.status, reply.json()["message"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn each_change_does_what_it_says() {
    let (lookup, node) = (Lookup::start().await, Node::start().await);
    let at = page(fleet(&[&lookup.http], &[&node.http])).await;
    let topic = |action: &str| json!({"action": action, "topic": "t"});
    let channel = |action: &str| json!({"action": action, "topic": "t", "channel": "c"});
    act(&at, topic("create_topic")).await;
    act(&at, channel("create_channel")).await;
    assert_eq!(get(&lookup.http, "/channels?topic=t").await["channels"], json!(["c"]));
    let stats = async || get(&node.http, "/stats?format=json").await["topics"].clone();
    assert_eq!(stats().await[0]["channels"][0]["channel_name"], "c");
    act(&at, topic("pause_topic")).await;
    act(&at, json!({"action": "publish", "topic": "t", "body": "hello", "headers": {"trace": "7"}})).await;
    assert_eq!((&stats().await[0]["paused"], &stats().await[0]["depth"]), (&json!(true), &json!(1)));
    let peeked = get(&at, &format!("/data/peek?topic=t&node={}", node.http)).await;
    let message = &peeked["messages"][0];
    assert_eq!(
        (&message["text"], &message["size"], &message["base64"]),
        (&json!("hello"), &json!(5), &json!("aGVsbG8="))
    );
    assert_eq!(message["headers"], json!([{"name": "trace", "value": "7"}]));
    act(&at, topic("empty_topic")).await;
    act(&at, topic("unpause_topic")).await;
    act(&at, json!({"action": "publish", "topic": "t", "base64": "AP8="})).await;
    assert_eq!(stats().await[0]["channels"][0]["depth"], 1);
    act(&at, channel("pause_channel")).await;
    assert_eq!(stats().await[0]["channels"][0]["paused"], true);
    act(&at, channel("unpause_channel")).await;
    act(&at, channel("empty_channel")).await;
    assert_eq!(stats().await[0]["channels"][0]["depth"], 0);
    let settings = json!({"max_messages": 7, "overflow": "drop-oldest"});
    act(&at, json!({"action": "configure_topic", "topic": "t", "settings": settings})).await;
    let shown = get(&at, "/data/topic?topic=t").await;
    assert_eq!(shown["nodes"][0]["settings"]["max_messages"], 7);
    let settings = json!({"max_attempts": 5, "dead_letter_topic": "t.dead"});
    let change = json!({"action": "configure_channel", "topic": "t", "channel": "c", "settings": settings});
    act(&at, change).await;
    let shown = get(&at, "/data/channel?topic=t&channel=c").await;
    let set = json!({"max_attempts": 5, "dead_letter_topic": "t.dead", "redelivery_delay": 1000});
    assert_eq!(shown["nodes"][0]["settings"], set);
    act(&at, channel("delete_channel")).await;
    assert_eq!(stats().await[0]["channels"], json!([]));
    act(&at, topic("delete_topic")).await;
    act(&at, json!({"action": "delete_topic", "topic": "t.dead"})).await;
    assert_eq!(stats().await, json!([]));
    assert_eq!(get(&lookup.http, "/topics").await["topics"], json!([]));
}

#[tokio::test]
async fn one_message_that_is_stuck_is_requeued_or_dropped() {
    let node = Node::start().await;
    let at = page(fleet(&[], &[&node.http])).await;
    let mut consumer = Consumer::start(&node.tcp, "t", "c", 2).await;
    node.api("POST", "/mpub?topic=t", "first\nsecond\nthird").await;
    consumer.message().await;
    consumer.message().await;
    let held = async || {
        let peeked = get(&at, &format!("/data/peek?topic=t&channel=c&node={}", node.http)).await;
        let row = |message: &Value| {
            let text = |field: &str| message[field].as_str().unwrap().to_owned();
            (text("text"), text("state"), text("id"))
        };
        peeked["messages"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
    };
    let before = held().await;
    let states: Vec<_> = before.iter().map(|(text, state, _)| (text.as_str(), state.as_str())).collect();
    assert_eq!(states, [("first", "in_flight"), ("second", "in_flight"), ("third", "waiting")]);
    let change = |action: &str, id: &str| json!({"action": action, "topic": "t", "channel": "c", "node": node.http, "message": id});
    act(&at, change("drop_message", &before[0].2)).await;
    // Its credit is free again, so the third comes.
    assert_eq!(consumer.message().await, "third");
    act(&at, change("requeue_message", &before[1].2)).await;
    assert_eq!(consumer.message().await, "second");
    let again = refused(&at, change("drop_message", &before[0].2)).await;
    assert_eq!(again, (404, "MESSAGE_NOT_FOUND".to_owned()));
    for wrong in ["", "1", "zzzzzzzzzzzzzzzz"] {
        assert_eq!(refused(&at, change("drop_message", wrong)).await, (400, "INVALID_REQUEST".to_owned()));
    }
    let left: Vec<_> = held().await.into_iter().map(|(text, ..)| text).collect();
    assert_eq!(left, ["second", "third"]);
}

#[tokio::test]
async fn a_tombstone_hides_a_node_and_deletes_the_topic_there() {
    let lookup = Lookup::start().await;
    let (a, b) = (Node::start().await, Node::start().await);
    for node in [&a, &b] {
        node.api("POST", "/topic/create?topic=t", "").await;
        lookup.register(&node.http, &["t"]);
    }
    let at = page(fleet(&[&lookup.http], &[])).await;
    act(&at, json!({"action": "tombstone", "topic": "t", "node": a.http})).await;
    let found = get(&lookup.http, "/lookup?topic=t").await;
    assert_eq!(found["producers"].as_array().unwrap().len(), 1);
    assert_eq!(get(&a.http, "/stats?format=json").await["topics"], json!([]));
    let node = get(&at, &format!("/data/node?node={}", b.http)).await;
    assert_eq!(node["topics"][0]["topic"], "t");
    assert_eq!(node["node"]["lookups"], json!([lookup.http]));
}

#[tokio::test]
async fn what_is_wrong_is_said() {
    let node = Node::start().await;
    node.api("POST", "/topic/create?topic=t", "").await;
    node.api("POST", "/channel/create?topic=t&channel=c", "").await;
    let at = page(fleet(&[], &[&node.http])).await;
    for (body, status, code) in [
        (json!({"action": "explode", "topic": "t"}), 400, "INVALID_REQUEST"),
        (json!({"action": "create_topic", "topic": "a b"}), 400, "INVALID_TOPIC"),
        (json!({"action": "create_topic", "topic": "x".repeat(65)}), 400, "INVALID_TOPIC"),
        (json!({"action": "create_topic"}), 400, "INVALID_TOPIC"),
        (json!({"action": "create_channel", "topic": "t", "channel": ""}), 400, "INVALID_CHANNEL"),
        (json!({"action": "pause_topic", "topic": "gone"}), 404, "TOPIC_NOT_FOUND"),
        (json!({"action": "pause_channel", "topic": "t", "channel": "gone"}), 404, "CHANNEL_NOT_FOUND"),
        (json!({"action": "pause_topic", "topic": "t", "node": "10.0.0.1:1"}), 404, "NODE_NOT_FOUND"),
        (json!({"action": "publish", "topic": "t"}), 400, "INVALID_REQUEST"),
        (json!({"action": "publish", "topic": "t", "body": ""}), 400, "INVALID_REQUEST"),
        (
            json!({"action": "configure_topic", "topic": "t", "settings": {"durability": "most"}}),
            400,
            "INVALID_CONFIG",
        ),
        (
            json!({"action": "configure_channel", "topic": "t", "settings": {"max_attempts": 5}}),
            400,
            "INVALID_CHANNEL",
        ),
        (
            json!({"action": "configure_channel", "topic": "t", "channel": "gone", "settings": {"max_attempts": 5}}),
            404,
            "CHANNEL_NOT_FOUND",
        ),
        (
            json!({"action": "configure_channel", "topic": "t", "channel": "c", "settings": {"max_attempts": 5}}),
            400,
            "INVALID_CONFIG",
        ),
        (json!({"action": "drain"}), 400, "INVALID_REQUEST"),
    ] {
        assert_eq!(refused(&at, body.clone()).await, (status, code.to_owned()), "{body}");
    }
}

#[tokio::test]
async fn dead_letters_are_counted_by_their_channel() {
    let node = Node::start().await;
    let at = page(fleet(&[], &[&node.http])).await;
    let mut consumer = Consumer::start(&node.tcp, "t", "c", 1).await;
    let settings = json!({"max_attempts": 1, "dead_letter_topic": "dead"});
    act(&at, json!({"action": "configure_channel", "topic": "t", "channel": "c", "settings": settings}))
        .await;
    act(&at, json!({"action": "publish", "topic": "t", "body": "poison"})).await;
    assert_eq!(get(&at, "/data/channel?topic=t&channel=c").await["dead_letters"], 0);
    consumer.message().await;
    // A message whose consumer's connection ends comes back unfinished.
    drop(consumer);
    let counted = async {
        while get(&at, "/data/channel?topic=t&channel=c").await["dead_letters"] != 1 {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, counted).await.unwrap();
    assert_eq!(get(&at, "/data/topic?topic=dead").await["own_depth"], 1);
}
