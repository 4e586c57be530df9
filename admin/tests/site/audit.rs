//! The audit log: a line for each change and each peek, with the name of who did it and the address.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use super::common::{Node, call};

/// Fields of a line but its words.
type Line = BTreeMap<String, String>;

/// Lines of the page, of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<(String, Line)>>>);

impl Lines {
    fn take(&self) -> Vec<(String, Line)> {
        std::mem::take(&mut self.0.lock())
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && metadata.target().starts_with("mq_admin")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Fields(String, Line);
        impl Visit for Fields {
            fn record_str(&mut self, field: &Field, value: &str) {
                self.1.insert(field.name().to_owned(), value.to_owned());
            }

            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                match format!("{value:?}") {
                    // The words are called `message`, as is the id of one.
                    words if words.starts_with("admin: ") => self.0 = words,
                    other => drop(self.1.insert(field.name().to_owned(), other)),
                }
            }
        }
        let mut fields = Fields(String::new(), Line::new());
        event.record(&mut fields);
        self.0.lock().push((fields.0, fields.1));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

const JSON: (&str, &str) = ("Content-Type", "application/json");
const SECOND: (&str, &str) = ("Authorization", "Bearer hush-hush");

/// A broker whose page asks for one of two tokens.
async fn asking() -> (Node, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "first\nhush-hush\n").unwrap();
    (Node::start_with(Some(file)).await, folder)
}

/// The one line there is, which names the second token and this machine's address.
fn only(lines: &Lines, what: &str) -> (String, Line) {
    let mut lines = lines.take();
    assert_eq!(lines.len(), 1, "{what}: {lines:?}");
    let (words, line) = lines.remove(0);
    assert_eq!(line["by"], "token 2", "{what}: {line:?}");
    let peer: SocketAddr = line["peer"].parse().unwrap();
    assert!(peer.ip().is_loopback(), "{what}: {line:?}");
    assert!(!line.values().any(|value| value.contains("hush-hush")), "{what}: {line:?}");
    (words, line)
}

#[tokio::test]
async fn every_change_and_every_peek_leaves_one_line_with_who_and_from_where() {
    let (node, _folder) = asking().await;
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let at = &node.http;
    let action =
        async |body: &Value| call(at, "POST", "/admin/data/action", &[JSON, SECOND], &body.to_string()).await;
    let unknown = action(&json!({"action": "explode", "topic": "t"})).await;
    assert_eq!((unknown.status, lines.take().len()), (400, 0));
    let detail = unknown.json()["detail"].as_str().unwrap().to_owned();
    let mut missing: Vec<_> = detail.split_once(", but ").unwrap().1.split(", ").collect();
    missing.iter_mut().for_each(|name| *name = name.split(' ').next().unwrap());

    let topic = json!({"topic": "t"});
    let channel = json!({"topic": "t", "channel": "c"});
    let node_only = json!({"node": at});
    let with = |place: &Value, more: Value| {
        let mut both = place.clone();
        both.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        both
    };
    let on_node = with(&topic, node_only.clone());
    for (name, body) in [
        ("create_topic", topic.clone()),
        ("create_channel", channel.clone()),
        ("publish", with(&topic, json!({"body": "secret order"}))),
        ("requeue_message", with(&channel, node_only.clone())),
        ("drop_message", with(&channel, node_only.clone())),
        ("configure_topic", with(&topic, json!({"settings": {"max_messages": 7}}))),
        (
            "configure_channel",
            with(&channel, json!({"settings": {"max_attempts": 5, "dead_letter_topic": "dead"}})),
        ),
        ("pause_topic", topic.clone()),
        ("unpause_topic", topic.clone()),
        ("pause_channel", channel.clone()),
        ("unpause_channel", channel.clone()),
        ("empty_topic", topic.clone()),
        ("empty_channel", channel.clone()),
        ("delete_channel", channel.clone()),
        ("tombstone", on_node),
        // The topic is gone, so nobody does it: that is a line too.
        ("delete_topic", topic.clone()),
        ("drain", node_only.clone()),
    ] {
        let mut body = with(&body, json!({"action": name}));
        if name.ends_with("_message") {
            let peeked = call(at, "GET", "/admin/data/peek?topic=t&channel=c", &[SECOND], "").await.json();
            let (words, line) = only(&lines, "peek");
            assert_eq!(words, "admin: peek");
            assert_eq!([&line["topic"], &line["channel"], &line["status"]], ["t", "c", "200"]);
            body["message"] = peeked["messages"][0]["id"].clone();
        }
        let reply = action(&body).await;
        let (words, line) = only(&lines, name);
        assert_eq!((words.as_str(), line["action"].as_str()), ("admin: change", name));
        for field in ["topic", "channel", "node", "message"] {
            assert_eq!(line[field], body[field].as_str().unwrap_or_default(), "{name}: {line:?}");
        }
        let settings = body.get("settings").map(ToString::to_string).unwrap_or_default();
        assert_eq!(line["settings"], settings, "{name}");
        assert!(!line.values().any(|value| value.contains("secret order")), "no body is logged: {line:?}");
        let is_done = line["failure"].is_empty();
        assert_eq!(
            (is_done, reply.status == 200),
            (name != "delete_topic", name != "delete_topic"),
            "{line:?}"
        );
        missing.retain(|each| *each != name);
    }
    assert!(missing.is_empty(), "not tried: {missing:?}");
}

#[tokio::test]
async fn changes_by_nsqadmins_api_and_those_that_are_refused_leave_one_line_too_and_long_values_are_cut() {
    let (node, _folder) = asking().await;
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let at = &node.http;
    for (method, path, body, name) in [
        ("POST", "topics", r#"{"topic":"t","channel":"c"}"#, "create_channel"),
        ("POST", "topics/t", r#"{"action":"pause"}"#, "pause_topic"),
        ("POST", "topics/t/c", r#"{"action":"empty"}"#, "empty_channel"),
        ("DELETE", "topics/t/c", "", "delete_channel"),
        ("DELETE", &format!("nodes/{at}"), r#"{"topic":"t"}"#, "tombstone"),
    ] {
        call(at, method, &format!("/admin/api/{path}"), &[JSON, SECOND], body).await;
        let (_, line) = only(&lines, path);
        assert_eq!(line["action"], name);
    }
    let long = json!({"action": "pause_topic", "topic": "é".repeat(100_000)}).to_string();
    assert_eq!(call(at, "POST", "/admin/data/action", &[JSON, SECOND], &long).await.status, 400);
    let (_, line) = only(&lines, "a long name");
    assert_eq!((line["topic"].len(), line["failure"].contains("INVALID_TOPIC")), (512, true), "{line:?}");
    let login = json!({"token": "hush-hush"}).to_string();
    assert_eq!(call(at, "POST", "/admin/data/login", &[JSON], &login).await.status, 200);
    assert_eq!(only(&lines, "login").0, "admin: login");
    // Without a token nothing is done, and there is nobody to name.
    let create = json!({"action": "create_topic", "topic": "t"}).to_string();
    assert_eq!(call(at, "POST", "/admin/data/action", &[JSON], &create).await.status, 401);
    assert_eq!(lines.take(), []);
}
