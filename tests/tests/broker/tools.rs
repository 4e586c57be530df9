//! `mq stat` and `mq topics` on a live broker.

use std::process::Stdio;

use mq_tests::{Broker, mq, until};
use serde_json::Value;

use crate::clients::{connect, create_channel, is_quiet, next, subscribe, topic};

fn topics(broker: &Broker, args: &[&str]) -> mq_tests::Finished {
    mq(&[&["topics"], args, &["--http-address", broker.http_address()]].concat())
}

fn listed(broker: &Broker) -> String {
    String::from_utf8(topics(broker, &["list"]).ok()).unwrap()
}

#[tokio::test]
async fn topics_are_managed_from_the_shell() {
    let broker = Broker::start();
    assert_eq!(listed(&broker), "");
    topics(&broker, &["create", "a"]).ok();
    topics(&broker, &["create", "b", "--channel", "c"]).ok();
    topics(&broker, &["create", "b", "--channel", "d#ephemeral"]).ok();
    let mut publisher = connect(&broker).await;
    for name in ["a", "b"] {
        publisher.publish(&topic(name), b"x").await.unwrap();
    }
    publisher.flush().await.unwrap();
    let channel = |name: &str| format!("  {name}  depth 1 in flight 0 deferred 0 clients 0\n");
    let (c, d) = (channel("c"), channel("d#ephemeral"));
    assert_eq!(listed(&broker), format!("a  depth 1\nb  depth 0\n{c}{d}"));
    topics(&broker, &["pause", "a"]).ok();
    topics(&broker, &["pause", "b", "--channel", "c"]).ok();
    assert_eq!(listed(&broker).matches("paused").count(), 2);
    topics(&broker, &["unpause", "a"]).ok();
    topics(&broker, &["unpause", "b", "--channel", "c"]).ok();
    assert_eq!(listed(&broker).matches("paused").count(), 0);
    // What destroys asks, and nobody is there to answer.
    for (args, lost) in [
        (&["delete", "b"][..], "2 messages"),
        (&["empty", "b", "--channel", "c"], "1 message waits"),
        (&["empty", "b"], "0 messages"),
    ] {
        let complaint = topics(&broker, args).failed();
        assert!(complaint.contains("--yes") && complaint.contains(lost), "{complaint}");
    }
    assert_eq!(listed(&broker), format!("a  depth 1\nb  depth 0\n{c}{d}"));
    topics(&broker, &["empty", "a", "--yes"]).ok();
    topics(&broker, &["empty", "b", "--channel", "c", "-y"]).ok();
    topics(&broker, &["delete", "b", "--channel", "d#ephemeral", "--yes"]).ok();
    assert_eq!(listed(&broker), format!("a  depth 0\nb  depth 0\n{}", c.replace("depth 1", "depth 0")));
    topics(&broker, &["delete", "b", "--yes"]).ok();
    assert_eq!(listed(&broker), "a  depth 0\n");
    for (args, word) in [
        (&["delete", "none", "--yes"][..], "TOPIC_NOT_FOUND"),
        (&["delete", "none"], "no topic none"),
        (&["empty", "a", "--channel", "none", "--yes"], "CHANNEL_NOT_FOUND"),
        (&["pause"], "name a topic"),
    ] {
        let complaint = topics(&broker, args).failed();
        assert!(complaint.contains(word), "{args:?}: {complaint}");
    }
    let complaint = mq(&["topics", "--http-address", "127.0.0.1:1"]).failed();
    assert!(complaint.contains("127.0.0.1:1") && complaint.contains("mq serve"), "{complaint}");
}

#[tokio::test]
async fn a_token_opens_the_tools() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tokens");
    std::fs::write(&file, "sesame\n").unwrap();
    let file = file.to_str().unwrap();
    let broker = Broker::start_with(&["--http-auth-token-file", file]);
    assert!(topics(&broker, &["list"]).failed().contains("--auth-token-file"));
    topics(&broker, &["create", "a", "--http-auth-token-file", file]).ok();
    std::fs::write(folder.path().join("tokens"), "other\n").unwrap();
    broker.hang_up();
    until("the new token", || {
        let listed = topics(&broker, &["list", "--http-auth-token-file", file]);
        listed.status.success().then_some(())
    });
    assert!(!broker.stderr().contains("sesame"), "{}", broker.stderr());
}

#[tokio::test]
async fn stat_tells_what_channels_do() {
    let broker = Broker::start();
    for channel in ["c", "d"] {
        create_channel(&broker, "t", channel).await;
    }
    let mut publisher = connect(&broker).await;
    for _ in 0..3 {
        publisher.publish(&topic("t"), b"x").await.unwrap();
    }
    publisher.flush().await.unwrap();
    let once =
        |more: &[&str]| mq(&[&["stat", "--http-address", broker.http_address(), "--once"], more].concat());
    let line: Value = serde_json::from_slice(&once(&["--json"]).ok()).unwrap();
    for (field, want) in
        [("depth", 6), ("memory_depth", 6), ("backend_depth", 0), ("message_count", 6), ("client_count", 0)]
    {
        assert_eq!(line[field], want, "{field}: {line}");
    }
    assert!(line["ingress"].is_null(), "{line}");
    let one: Value =
        serde_json::from_slice(&once(&["--json", "--topic", "t", "--channel", "c"]).ok()).unwrap();
    assert_eq!(one["depth"], 3);
    let table = String::from_utf8(once(&[]).ok()).unwrap();
    assert_eq!(
        table.lines().nth(2).unwrap(),
        "      -       - |       6       6       0     0     0 |       0       0            6       0 | t"
    );
    assert!(once(&["--topic", "none"]).failed().contains("no topic none"));
    assert!(once(&["--topic", "t", "--channel", "none"]).failed().contains("topic t has no channel none"));
    let live =
        mq(&["stat", "--http-address", broker.http_address(), "--interval", "20ms", "-n", "3", "--json"])
            .ok();
    assert_eq!(String::from_utf8(live).unwrap().lines().count(), 3);
    // It ends with its reader.
    let mut endless = std::process::Command::new(mq_tests::binary())
        .args(["stat", "--http-address", broker.http_address(), "--interval", "5ms"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(endless.stdout.take());
    let status = until("mq stat to end", || endless.try_wait().unwrap());
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_paused_channel_delivers_nothing() {
    let broker = Broker::start();
    let mut consumer = subscribe(&broker, "t", "c", 10).await;
    topics(&broker, &["pause", "t", "--channel", "c"]).ok();
    let mut publisher = connect(&broker).await;
    publisher.publish(&topic("t"), b"held").await.unwrap();
    publisher.flush().await.unwrap();
    assert!(is_quiet(&mut consumer).await);
    topics(&broker, &["unpause", "t", "--channel", "c"]).ok();
    assert_eq!(next(&mut consumer).await.body, "held");
}
