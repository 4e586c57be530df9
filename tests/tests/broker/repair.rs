//! `mq inspect` and `mq repair` as a user calls them, on folders that real brokers leave.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use mq_tests::{Broker, Finished, mq, start};
use serde_json::Value;

use crate::clients::{connect, create_channel, is_quiet, next, subscribe, topic};

fn inspect(folder: &Path, more: &[&str]) -> Finished {
    mq(&[&["inspect", "--data-path", folder.to_str().unwrap()], more].concat())
}

fn repair(folder: &Path, more: &[&str]) -> Finished {
    mq(&[&["repair", "--data-path", folder.to_str().unwrap()], more].concat())
}

#[track_caller]
fn ended(finished: Finished, code: i32) -> String {
    let stdout = String::from_utf8(finished.stdout).unwrap();
    assert_eq!(finished.status.code(), Some(code), "{stdout}{}", finished.stderr);
    assert!(code == 2 || finished.stderr.is_empty(), "{}", finished.stderr);
    if code == 2 { finished.stderr } else { stdout }
}

#[track_caller]
fn json(finished: Finished, code: i32) -> Value {
    serde_json::from_str(&ended(finished, code)).unwrap()
}

/// All files but the lock, in which each process leaves its id. A broker that runs may remove one meanwhile.
fn content(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.file_name().unwrap() != "lock");
    let read = |path: PathBuf| match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        bytes => Some((path, bytes.unwrap())),
    };
    files.filter_map(read).collect()
}

/// A broker that took messages 0 to 999 in one topic with one channel, and finished the first hundred;
/// stopped.
async fn stopped() -> Broker {
    let mut broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    let mut publisher = connect(&broker).await;
    for n in 0..1_000_u32 {
        publisher.publish(&topic("t"), format!("message {n}").as_bytes()).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    for _ in 0..100 {
        let message = next(&mut consumer).await;
        consumer.finish(message.id);
    }
    consumer.close().await.unwrap();
    broker.stop();
    broker
}

/// Turns a bit of the body of `text`, wherever it stands.
fn damage(folder: &Path, text: &str) {
    let mut found = false;
    for (path, mut bytes) in content(folder) {
        if let Some(at) = bytes.windows(text.len()).position(|part| part == text.as_bytes()) {
            bytes[at] ^= 1;
            fs::write(path, bytes).unwrap();
            found = true;
        }
    }
    assert!(found, "{text} stands nowhere");
}

#[tokio::test]
async fn a_running_broker_can_be_inspected_and_not_repaired() {
    let broker = Broker::start();
    let folder = broker.data_path();
    create_channel(&broker, "t", "c").await;
    let mut publisher = start(&["pub", "--topic", "t", "--tcp-address", broker.address()]);
    let mut stdin = publisher.stdin.take().unwrap();
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    // Some messages for each look at the folder, published while it looks.
    let feeder = std::thread::spawn(move || {
        let lines = [&[b'x'; 300][..], b"\n"].concat().repeat(2_000);
        asked.iter().map(|()| stdin.write_all(&lines).map(|()| 2_000).unwrap()).sum::<u64>()
    });
    let mut last = 0;
    for _ in 0..15 {
        ask.send(()).unwrap();
        let report = json(inspect(&folder, &["--json"]), 0);
        let depth = report["topics"][0]["channels"][0]["depth"].as_u64().unwrap();
        assert!(depth >= last, "{depth} after {last}");
        last = depth;
    }
    drop(ask);
    let count = feeder.join().unwrap();
    assert!(publisher.wait().unwrap().success());
    let report = json(inspect(&folder, &["--json"]), 0);
    assert_eq!(report["topics"][0]["name"], "t");
    assert_eq!(report["topics"][0]["level"], "flush");
    assert_eq!(report["topics"][0]["channels"][0]["depth"], count);
    let text = ended(inspect(&folder, &[]), 0);
    for part in ["FILE", "00000001.log", "TOPIC", "  c ", &count.to_string(), "no damage"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let before = content(&folder);
    let refused = ended(repair(&folder, &["--write"]), 2);
    assert!(refused.contains("is open already, by process "), "{refused}");
    assert!(content(&folder) == before, "a refused repair changes nothing");
}

#[tokio::test]
async fn a_damaged_message_costs_itself() {
    let mut broker = stopped().await;
    let folder = broker.data_path();
    assert!(ended(repair(&folder, &[]), 0).contains("nothing to repair"));
    damage(&folder, "message 500");
    let before = content(&folder);
    let report = json(inspect(&folder, &["--json"]), 1);
    assert_eq!(report["damage"][0]["kind"], "messages");
    let text = ended(inspect(&folder, &[]), 1);
    assert!(text.contains("of topic number 1") && text.contains("mq repair --data-path"), "{text}");
    let text = ended(repair(&folder, &[]), 1);
    assert!(text.contains("topic t: 1 message is gone") && text.contains("--write"), "{text}");
    assert!(content(&folder) == before, "a dry run changes nothing");
    let done = json(repair(&folder, &["--write", "--json"]), 0);
    assert_eq!((&done["written"], &done["losses"][0]["messages"]), (&Value::Bool(true), &1.into()));
    let replaced = done["replaced_files"][0].as_str().unwrap();
    assert!(folder.join(format!("{replaced}.damaged")).exists());
    assert!(ended(repair(&folder, &["--write"]), 0).contains("nothing to repair"));
    ended(inspect(&folder, &[]), 0);
    broker.restart();
    let mut consumer = subscribe(&broker, "t", "c", 10).await;
    let mut got: Vec<u32> = Vec::new();
    while got.len() < 899 {
        let message = next(&mut consumer).await;
        let text = std::str::from_utf8(&message.body).unwrap();
        got.push(text.strip_prefix("message ").unwrap().parse().unwrap());
        consumer.finish(message.id);
    }
    // One that was in flight at the stop can come in the turn of those that come again.
    got.sort_unstable();
    assert_eq!(got, (100..1_000).filter(|n| *n != 500).collect::<Vec<_>>());
    assert!(is_quiet(&mut consumer).await);
    assert!(folder.join(format!("{replaced}.damaged")).exists(), "the broker leaves it");
}

#[tokio::test]
async fn a_topic_stopped_for_damage_is_shown_everywhere_and_its_consumers_learn_of_it() {
    let mut broker = stopped().await;
    broker.restart();
    damage(&broker.data_path(), "message 500");
    let admin = mq_nsq::client::Admin::new(broker.http_address(), None);
    let text = async |path: &str, query: &[(&str, &str)]| match admin.get(path, query).await {
        Ok(body) => String::from_utf8(body).unwrap(),
        Err(error) => format!("refused: {error}"),
    };
    assert_eq!(text("/ping", &[]).await, "OK", "nobody has read it yet");
    // Another topic goes on.
    create_channel(&broker, "u", "c").await;
    let channel = mq_core::ChannelName::parse("c").unwrap();
    let mut got = 0;
    let consume = async {
        let mut consumer = connect(&broker).await;
        // The damage may be met before the subscription is answered, or behind some messages.
        consumer.subscribe(&topic("t"), &channel, 2_500).await?;
        while let Some(message) = consumer.next().await? {
            consumer.finish(message.id);
            got += 1;
        }
        panic!("closed without a word")
    };
    let met: Result<(), mq_nsq::client::Error> =
        tokio::time::timeout(mq_tests::PATIENCE, consume).await.expect("an error in time");
    let error = met.unwrap_err().to_string();
    assert!(got <= 400, "{got} messages, of which one was damaged");
    assert!(error.contains("E_SUB_FAILED") && error.contains("mq repair"), "{error}");
    let again = connect(&broker).await.subscribe(&topic("t"), &channel, 1).await;
    assert!(again.unwrap_err().to_string().contains("E_SUB_FAILED"));

    let stopped = "stopped for damage: ";
    assert!(text("/ping", &[]).await.contains("topic t is stopped"), "{}", text("/ping", &[]).await);
    let page = text("/stats", &[]).await;
    assert!(
        page.contains("Health: NOK - topic t is stopped") && page.matches(stopped).count() == 1,
        "{page}"
    );
    let json: Value = serde_json::from_str(&text("/stats", &[("format", "json")]).await).unwrap();
    assert!(json["topics"][0]["damage"].as_str().unwrap().contains("mq repair"), "{json}");
    assert!(json["topics"][1]["damage"].is_null(), "{json}");
    let metrics = text("/metrics", &[]).await;
    for line in [
        "mq_healthy 0.0",
        "mq_damaged_topics 1.0",
        r#"mq_topic_damaged{topic="t"} 1.0"#,
        r#"mq_topic_damaged{topic="u"} 0.0"#,
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line}: {metrics}");
    }
    let tool = |args: &[&str]| {
        String::from_utf8(mq(&[args, &["--http-address", broker.http_address()]].concat()).ok()).unwrap()
    };
    assert!(tool(&["topics"]).contains(&format!("t  depth 0 {stopped}")), "{}", tool(&["topics"]));
    let stat = tool(&["stat", "--once", "--json"]);
    let lines: Vec<Value> = stat.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let damaged: Vec<_> = lines.iter().map(|line| (&line["topic"], &line["damaged_topics"])).collect();
    let (t, u, all, one, none) = ("t".into(), "u".into(), Value::Null, 1.into(), 0.into());
    assert_eq!(damaged, [(&t, &one), (&u, &none), (&all, &one)], "{stat}");
    let mut publisher = connect(&broker).await;
    let refused = match publisher.publish(&topic("t"), b"x").await {
        Ok(()) => publisher.flush().await.unwrap_err(),
        Err(error) => error,
    };
    assert!(refused.to_string().contains("topic t is stopped"), "{refused}");
    let mut publisher = connect(&broker).await;
    publisher.publish(&topic("u"), b"x").await.unwrap();
    publisher.flush().await.unwrap();

    // A start that finds the damage shows it before anybody reads.
    broker.stop();
    broker.restart();
    assert!(text("/ping", &[]).await.contains("topic t is stopped"), "{}", text("/ping", &[]).await);
    let refused = connect(&broker).await.subscribe(&topic("t"), &channel, 1).await;
    assert!(refused.unwrap_err().to_string().contains("mq repair"));
}

#[tokio::test]
async fn a_lost_manifest_and_a_lost_checkpoint_are_rebuilt() {
    let mut broker = stopped().await;
    let folder = broker.data_path();
    fs::remove_file(folder.join("manifest")).unwrap();
    let refused =
        mq(&["serve", "--tcp-address", "127.0.0.1:0", "--data-path", folder.to_str().unwrap()]).failed();
    assert!(refused.contains("manifest is missing") && refused.contains("mq repair"), "{refused}");
    assert!(ended(inspect(&folder, &[]), 1).contains("manifest: not there"));
    ended(repair(&folder, &["--write"]), 0);
    broker.restart();
    broker.stop();
    let checkpoint =
        content(&folder).into_keys().find(|path| path.extension().is_some_and(|e| e == "checkpoint"));
    fs::write(checkpoint.unwrap(), b"nothing of use").unwrap();
    assert!(ended(inspect(&folder, &[]), 1).contains("checkpoint: damaged"));
    let text = ended(repair(&folder, &["--write"]), 0);
    assert!(text.contains("may be delivered again"), "{text}");
    broker.restart();
    let report = json(inspect(&folder, &["--json"]), 0);
    assert_eq!(report["topics"][0]["messages"], 1_000, "{report}");
}

#[test]
fn what_can_not_be_told_is_exit_code_2() {
    let temp = tempfile::tempdir().unwrap();
    let missing = temp.path().join("missing");
    for finished in [inspect(&missing, &[]), repair(&missing, &["--write"])] {
        let error = ended(finished, 2);
        assert!(error.contains("no data folder at") && error.contains("missing"), "{error}");
    }
    assert!(!missing.exists());
    for command in ["inspect", "repair"] {
        let error = ended(mq(&[command, "--no-such-flag"]), 2);
        assert!(error.contains("--no-such-flag"), "{error}");
    }
    let empty = temp.path().join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(ended(inspect(&empty, &[]), 2).contains("no broker's data is there"));
    assert!(content(&empty).is_empty());
}

#[tokio::test]
async fn a_folder_of_a_later_version_is_refused_by_name() {
    let broker = stopped().await;
    let folder = broker.data_path();
    let mut manifest = fs::read(folder.join("manifest")).unwrap();
    manifest[8..12].copy_from_slice(&7_u32.to_le_bytes());
    let end = manifest.len() - 4;
    let crc = crc32c::crc32c(&manifest[..end]);
    manifest[end..].copy_from_slice(&crc.to_le_bytes());
    fs::write(folder.join("manifest"), manifest).unwrap();
    let before = content(&folder);
    let path = folder.to_str().unwrap();
    let errors = [
        mq(&["serve", "--tcp-address", "127.0.0.1:0", "--data-path", path]).failed(),
        ended(inspect(&folder, &[]), 2),
        ended(repair(&folder, &["--write"]), 2),
    ];
    for error in errors {
        assert!(error.contains("has format 7") && error.contains("reads format"), "{error}");
    }
    assert!(content(&folder) == before, "what is refused is left alone");
}

#[tokio::test]
async fn a_data_folder_is_for_one_user() {
    let broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&broker.data_path()), 0o700);
    for path in content(&broker.data_path()).into_keys().chain([broker.data_path().join("lock")]) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
}
