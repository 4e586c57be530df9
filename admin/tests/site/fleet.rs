//! Several servers: one that is gone, and many topics.

use serde_json::json;

use super::common::{Lookup, Node, fleet, get, page};

#[tokio::test]
async fn a_broker_that_is_gone_is_a_warning_and_the_rest_stays() {
    let lookup = Lookup::start().await;
    let (a, b) = (Node::start().await, Node::start().await);
    for node in [&a, &b] {
        node.api("POST", "/topic/create?topic=t", "").await;
        node.api("POST", "/mpub?topic=t", "1\n2").await;
        lookup.register(&node.http, &["t"]);
    }
    let at = page(fleet(&[&lookup.http, "127.0.0.1:1"], &[])).await;
    let both = get(&at, "/data/topic?topic=t").await;
    assert_eq!((&both["depth"], &both["nodes_total"]), (&json!(4), &json!(2)));
    assert!(both["warnings"][0].as_str().unwrap().contains("lookup server 127.0.0.1:1 does not answer"));
    b.kill();
    let again = page(fleet(&[&lookup.http], &[])).await;
    let one = get(&again, "/data/topic?topic=t").await;
    assert_eq!((&one["depth"], &one["nodes_total"]), (&json!(2), &json!(1)));
    assert!(one["warnings"][0].as_str().unwrap().contains(&b.http), "{}", one["warnings"]);
    let overview = get(&again, "/data/overview").await;
    let finding = &overview["findings"][0];
    assert_eq!((&finding["kind"], &finding["node"]), (&json!("unreachable"), &json!(b.http)));
    let nodes = get(&again, "/data/nodes").await;
    let gone =
        nodes["nodes"].as_array().unwrap().iter().find(|node| node["node"] == b.http.as_str()).unwrap();
    assert_eq!((&gone["reachable"], &gone["topics"]), (&json!(false), &json!(null)));
}

#[tokio::test]
async fn nobody_answers_is_said_as_an_error() {
    let at = page(fleet(&["127.0.0.1:1"], &[])).await;
    let reply = super::common::call(&at, "GET", "/data/overview", &[], "").await;
    assert_eq!((reply.status, &reply.json()["message"]), (502, &json!("UPSTREAM_ERROR")));
}

#[tokio::test]
async fn a_thousand_topics_are_searched_sorted_and_paged() {
    let node = Node::start().await;
    for n in 0..1000 {
        node.api("POST", &format!("/topic/create?topic=topic-{n:04}"), "").await;
    }
    for (topic, body) in [("topic-0500", "1\n2\n3"), ("topic-0777", "1\n2"), ("topic-0001", "1")] {
        node.api("POST", &format!("/mpub?topic={topic}"), body).await;
    }
    let at = &node.http;
    let names = |page: &serde_json::Value| -> Vec<String> {
        let rows = page["topics"].as_array().unwrap().iter();
        rows.map(|row| row["topic"].as_str().unwrap().to_owned()).collect()
    };
    let deepest = get(at, "/admin/data/topics?sort=depth&per_page=3").await;
    assert_eq!(names(&deepest), ["topic-0500", "topic-0777", "topic-0001"]);
    assert_eq!((&deepest["total"], &deepest["matching"]), (&json!(1000), &json!(1000)));
    let last = get(at, "/admin/data/topics?sort=name&order=desc&per_page=2").await;
    assert_eq!(names(&last), ["topic-0999", "topic-0998"]);
    let second = get(at, "/admin/data/topics?sort=name&page=2&per_page=200&search=topic-0").await;
    assert_eq!((names(&second).len(), &second["matching"]), (200, &json!(1000)));
    assert_eq!(names(&second)[0], "topic-0200");
    let beyond = get(at, "/admin/data/topics?page=99").await;
    assert_eq!(names(&beyond), [""; 0]);
    let trouble = get(at, "/admin/data/topics?per_page=1").await;
    assert_eq!(trouble["topics"][0]["worst"]["kind"], "no_channels");
}
