//! `mq ping`, `status`, `doctor`, `peek`, `top`, `version`, `completions`, `man`.

use mq_tests::{Broker, mq};
use serde_json::Value;

use crate::steps::publish;

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

fn lines(bytes: Vec<u8>) -> Vec<Value> {
    text(bytes).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn both(broker: &Broker, command: &str, args: &[&str]) -> mq_tests::Finished {
    let ports = ["--tcp-address", broker.address(), "--http-address", broker.http_address()];
    mq(&[&[command][..], &ports, args].concat())
}

#[test]
fn a_ping_names_the_port_that_does_not_answer() {
    let broker = Broker::start();
    let answers = lines(both(&broker, "ping", &["--json"]).ok());
    assert_eq!((&answers[0]["port"], &answers[1]["port"]), (&"tcp".into(), &"http".into()));
    assert!(answers.iter().all(|answer| answer["ok"] == true), "{answers:?}");
    let half = mq(&["ping", "--tcp-address", broker.address(), "--http-address", "127.0.0.1:1"]);
    assert_eq!(half.status.code(), Some(1));
    let shown = text(half.stdout);
    assert!(shown.starts_with("tcp ") && shown.contains("http 127.0.0.1:1: "), "{shown}");
}

#[test]
fn a_status_sums_up_a_broker() {
    let broker = Broker::start();
    publish(&broker, "t", "one\ntwo\n");
    let http = ["--http-address", broker.http_address()];
    let status = &lines(mq(&[&["status", "--json"][..], &http].concat()).ok())[0];
    assert_eq!(
        (&status["health"], &status["topics"], &status["depth"]),
        (&"OK".into(), &1.into(), &2.into())
    );
    let page = text(mq(&[&["status"][..], &http].concat()).ok());
    assert!(page.contains("1 topic, 0 channels") && page.contains("2 messages waiting"), "{page}");
    assert!(mq(&["status", "--http-address", "127.0.0.1:1"]).failed().contains("mq serve"));
}

#[test]
fn a_doctor_says_what_is_wrong_and_what_to_do() {
    let broker = Broker::start();
    let data = broker.data_path();
    let well = both(&broker, "doctor", &["--data-path", data.to_str().unwrap()]);
    let shown = text(well.stdout);
    assert!(shown.contains("ok    it is healthy") && shown.contains("its disk has"), "{shown}");
    assert!(!shown.contains('\x1b'), "no colours where there is no terminal");
    mq(&["topics", "create", "t", "--channel", "c", "--http-address", broker.http_address()]).ok();
    publish(&broker, "t", "one\n");
    let sick = both(&broker, "doctor", &["--json", "--lookupd-http-address", "127.0.0.1:1"]);
    assert_eq!(sick.status.code(), Some(1));
    let findings = lines(sick.stdout);
    let has = |grade: &str, what: &str| {
        findings.iter().any(|finding| {
            let text = finding["what"].as_str().unwrap();
            finding["grade"] == grade && text.contains(what) && finding["todo"].is_string()
        })
    };
    assert!(has("warn", "channel c of topic t has no consumer, and 1 message waits"), "{findings:?}");
    assert!(has("bad", "lookup server 127.0.0.1:1"), "{findings:?}");
    let gone = mq(&["doctor", "--tcp-address", "127.0.0.1:1", "--http-address", "127.0.0.1:1"]);
    assert_eq!(gone.status.code(), Some(1));
    assert_eq!(both(&broker, "doctor", &["--data-path", "/nowhere"]).status.code(), Some(2));
}

#[test]
fn a_peek_shows_messages_in_three_forms_and_moves_none() {
    let broker = Broker::start();
    publish(&broker, "t", "one\nt\u{1b}wo\nthree\n");
    let peek = |args: &[&str]| {
        text(mq(&[&["peek", "--topic", "t", "--tcp-address", broker.address()][..], args].concat()).ok())
    };
    let shown = peek(&["-n", "2"]);
    assert!(
        shown.lines().count() == 2 && shown.contains("  one\n") && shown.contains("t\\u{1b}wo"),
        "{shown}"
    );
    assert!(peek(&["--format", "hex", "-n", "1"]).contains("00000000  6f 6e 65"));
    assert_eq!(peek(&["--format", "raw"]), "one\nt\u{1b}wo\nthree\n");
    let all = lines(peek(&["--json"]).into_bytes());
    assert_eq!((all.len(), &all[2]["body"]), (3, &"three".into()));
    let from = peek(&["--json", "--from", all[1]["id"].as_str().unwrap()]);
    assert_eq!(from.lines().count(), 2, "{from}");
}

#[test]
fn a_top_without_a_terminal_prints_one_table() {
    let broker = Broker::start();
    mq(&["topics", "create", "t", "--channel", "c", "--http-address", broker.http_address()]).ok();
    publish(&broker, "t", "one\ntwo\n");
    let top = |args: &[&str]| {
        mq(&[&["top", "--http-address", broker.http_address(), "--interval", "20ms"][..], args].concat()).ok()
    };
    let table = text(top(&[]));
    assert_eq!(table.lines().count(), 3, "{table}");
    assert!(table.lines().nth(2).unwrap().starts_with("  c "), "{table}");
    let rows = lines(top(&["--json"]));
    assert_eq!(
        (&rows[0]["topic"], &rows[1]["channel"], &rows[1]["depth"]),
        (&"t".into(), &"c".into(), &2.into())
    );
}

#[test]
fn shells_and_man_find_every_command() {
    assert!(text(mq(&["version"]).ok()).starts_with("mq "));
    for shell in ["bash", "zsh", "fish"] {
        let script = text(mq(&["completions", shell]).ok());
        assert!(script.contains("doctor") && script.contains("archive"), "{shell}");
    }
    let folder = tempfile::tempdir().unwrap();
    mq(&["man", "--out", folder.path().to_str().unwrap()]).ok();
    assert!(folder.path().join("mq-doctor.1").is_file() && folder.path().join("mq.1").is_file());
    assert!(!folder.path().join("mq-nsq_tail.1").exists());
    assert!(text(mq(&["man", "top"]).ok()).contains("Shows topics and their rates live in the terminal"));
}
