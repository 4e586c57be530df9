//! `mq ping`, `status`, `doctor`, `peek`, `top`, `version`, `completions`, `man`.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use mq_tests::{Broker, binary, mq};
use serde_json::Value;

use crate::steps::{api, dated_api, publish, token_api};

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
fn a_command_whose_output_meets_a_full_disk_fails() {
    let broker = Broker::start();
    publish(&broker, "t", "one\n");
    let http = ["--http-address", broker.http_address()];
    let ports = ["--tcp-address", broker.address(), http[0], http[1]];
    let commands: [(&[&str], &[&str]); 13] = [
        (&["topics"], &http),
        (&["topics", "--json"], &http),
        (&["status"], &http),
        (&["doctor"], &ports),
        (&["ping"], &ports),
        (&["top", "--once"], &http),
        (&["stat", "--once", "--json"], &http),
        (&["peek", "--topic", "t"], &http),
        (&["settings", "t"], &http),
        (&["completions", "bash"], &[]),
        (&["man", "pub"], &[]),
        (&["version"], &[]),
        (&["help"], &[]),
    ];
    for (command, flags) in commands {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let args = [command, flags].concat();
        let ended = Command::new(binary()).args(&args).stdout(full).output().unwrap();
        let complaint = text(ended.stderr);
        assert!(!ended.status.success(), "{args:?}: {complaint}");
        assert!(complaint.contains("could not print"), "{args:?}: {complaint}");
    }
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
fn one_port_that_is_named_is_asked_alone_and_the_other_is_said() {
    let broker = Broker::start();
    for (flag, address, port, other) in [
        ("--tcp-address", broker.address(), "tcp", "http was not asked: --http-address"),
        ("--http-address", broker.http_address(), "http", "tcp was not asked: --tcp-address"),
    ] {
        let ping = mq(&["ping", "--json", flag, address]);
        assert!(ping.stderr.contains(other), "{}", ping.stderr);
        let answers = lines(ping.ok());
        assert_eq!((answers.len(), &answers[0]["port"]), (1, &port.into()));
        let doctor = mq(&["doctor", "--json", flag, address]);
        assert_eq!(doctor.status.code(), Some(0), "{}", text(doctor.stdout));
        let findings = lines(doctor.stdout);
        let is_note = |finding: &Value| {
            finding["grade"] == "note" && finding["what"].as_str().unwrap().starts_with(other)
        };
        assert!(findings.iter().any(is_note), "{findings:?}");
    }
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
    assert!(shown.contains("ok    no topic or channel is in trouble"), "{shown}");
    assert!(!shown.contains('\x1b'), "no colours where there is no terminal");
    mq(&["topics", "create", "t", "--channel", "c", "--http-address", broker.http_address()]).ok();
    publish(&broker, "t", "one\n");
    let sick = both(&broker, "doctor", &["--json", "--lookupd-http-address", "127.0.0.1:1"]);
    assert_eq!(sick.status.code(), Some(1));
    let findings = lines(sick.stdout);
    assert!(has(&findings, "warn", "t / c has 1 message and no consumer"), "{findings:?}");
    assert!(has(&findings, "bad", "lookup server 127.0.0.1:1: Connection refused"), "{findings:?}");
    assert_eq!(both(&broker, "doctor", &["--data-path", "/nowhere"]).status.code(), Some(2));
}

fn has(findings: &[Value], grade: &str, what: &str) -> bool {
    findings.iter().any(|finding| {
        let text = finding["what"].as_str().unwrap();
        finding["grade"] == grade && text.contains(what) && finding["todo"].is_string()
    })
}

#[test]
fn a_doctor_that_nobody_answers_ends_with_2_and_one_at_the_wrong_port_says_so() {
    let gone = mq(&["doctor", "--tcp-address", "127.0.0.1:1", "--http-address", "127.0.0.1:1"]);
    assert_eq!(gone.status.code(), Some(2));
    let shown = text(gone.stdout);
    assert!(shown.contains("Connection refused") && !shown.contains("os error"), "{shown}");
    let none = mq(&["doctor", "--nsqd-http-address", "127.0.0.1:1"]);
    assert_eq!(none.status.code(), Some(2));
    let broker = Broker::start();
    let (tcp, http) = (broker.address(), broker.http_address());
    let swapped = mq(&["doctor", "--json", "--tcp-address", http, "--http-address", tcp]);
    let findings = lines(swapped.stdout);
    assert!(has(&findings, "bad", "does not speak HTTP"), "{findings:?}");
    assert!(has(&findings, "bad", "the server speaks HTTP"), "{findings:?}");
}

#[test]
fn a_doctor_notices_that_its_addresses_are_of_different_brokers() {
    let (one, other) = (Broker::start(), Broker::start());
    let data = other.data_path();
    let ports = ["--tcp-address", other.address(), "--http-address", one.http_address()];
    let mixed = mq(&[&["doctor", "--json", "--data-path", data.to_str().unwrap()][..], &ports].concat());
    assert_eq!(mixed.status.code(), Some(1));
    let findings = lines(mixed.stdout);
    assert!(has(&findings, "warn", "they may be two brokers"), "{findings:?}");
    assert!(has(&findings, "warn", "is not its data folder"), "{findings:?}");
}

/// A broker on which channel c of topic t waits for consumers that ask for nothing, since long ago.
fn stuck(path: &str) -> Option<String> {
    let client = r#"{"client_id":"a","remote_address":"b:1","ready_count":0,"in_flight_count":0}"#;
    let channel = format!(r#"{{"channel_name":"c","depth":1200,"client_count":1,"clients":[{client}]}}"#);
    let topic = format!(r#"{{"topic_name":"t","channels":[{channel}]}}"#);
    let growing = r#"{"topic":"t","channel":"c","published_rate":9,"growth":9,"behind_since":1000000000}"#;
    match path {
        "/stats" => Some(format!(r#"{{"version":"1.3.0","health":"OK","topics":[{topic}]}}"#)),
        "/history" => Some(format!(r#"{{"version":"0.1.0","node":{{"growth":9}},"series":[{growing}]}}"#)),
        "/info" => Some(r#"{"version":"1.3.0","tcp_port":4150}"#.to_owned()),
        _ => None,
    }
}

#[test]
fn a_doctor_finds_consumers_that_ask_for_nothing_as_the_page_does() {
    let broker = api(stuck);
    let sick = mq(&["doctor", "--json", "--nsqd-http-address", &broker]);
    assert_eq!(sick.status.code(), Some(1));
    let findings = lines(sick.stdout);
    assert!(
        has(&findings, "bad", "t / c has 1,200 messages, and its only consumer asks for none"),
        "{findings:?}"
    );
    assert!(!has(&findings, "ok", "in trouble"), "{findings:?}");
}

#[test]
fn a_doctor_looks_at_clock_memory_and_version_of_every_broker_of_a_fleet() {
    let well = Broker::start();
    let sick = dated_api(Some("Sat, 28 Nov 2020 02:57:39 GMT"), |path| match path {
        "/stats" => Some(r#"{"version":"1.3.0","health":"OK","topics":[]}"#.to_owned()),
        "/info" => Some(r#"{"version":"1.3.0","tcp_port":4150}"#.to_owned()),
        "/metrics" => {
            let lines =
                "mq_build_info{version=\"0.0.0\"} 1\nmq_memory_used_bytes 95\nmq_memory_limit_bytes 100\n";
            Some(lines.to_owned())
        }
        "/ping" => Some("OK".to_owned()),
        _ => None,
    });
    let (_, port) = sick.rsplit_once(':').unwrap();
    let nodes =
        format!(r#"{{"producers":[{{"broadcast_address":"127.0.0.1","tcp_port":1,"http_port":{port}}}]}}"#);
    let lookup = api(move |path| match path {
        "/nodes" => Some(nodes.clone()),
        "/topics" => Some(r#"{"topics":[]}"#.to_owned()),
        "/info" => Some(r#"{"version":"1.3.0"}"#.to_owned()),
        _ => None,
    });
    let other = ["--nsqd-http-address", well.http_address()];
    for flags in [["--nsqd-http-address", &sick], ["--lookupd-http-address", &lookup]] {
        let found = mq(&[&["doctor", "--json"][..], &other, &flags].concat());
        assert_eq!(found.status.code(), Some(1));
        let findings = lines(found.stdout);
        for what in ["its clock is ", "it is mq 0.0.0, and this program is", "messages hold 95"] {
            assert!(has(&findings, "warn", &format!("broker {sick}: {what}")), "{what}: {findings:?}");
            let about = |finding: &&Value| finding["what"].as_str().unwrap().contains(what);
            assert!(
                findings.iter().filter(about).all(|finding| finding["node"] == sick.as_str()),
                "{findings:?}"
            );
        }
    }
}

#[test]
fn a_fleet_is_summed_by_topic_and_a_broker_that_is_gone_is_said() {
    let (one, other) = (Broker::start(), Broker::start());
    publish(&one, "t", "1\n2\n");
    publish(&other, "t", "3\n");
    publish(&other, "u", "4\n");
    let producers = [&one, &other].map(|broker| {
        let port = broker.http_address().rsplit_once(':').unwrap().1.to_owned();
        format!(r#"{{"broadcast_address":"127.0.0.1","tcp_port":1,"http_port":{port}}}"#)
    });
    let nodes = format!(r#"{{"producers":[{}]}}"#, producers.join(","));
    let lookup = api(move |path| match path {
        "/nodes" => Some(nodes.clone()),
        "/topics" => Some(r#"{"topics":["t","u"]}"#.to_owned()),
        "/info" => Some(r#"{"version":"1.3.0"}"#.to_owned()),
        _ => None,
    });
    let (a, b) = (one.http_address(), other.http_address());
    let by_lookup = ["--lookupd-http-address", lookup.as_str()];
    let by_name = ["--nsqd-http-address", a, "--nsqd-http-address", b];
    for flags in [&by_lookup[..], &by_name] {
        for command in [&["top", "--json", "--interval", "20ms"][..], &["stat", "--json", "--once"]] {
            let rows = lines(mq(&[command, flags].concat()).ok());
            let row = rows.iter().find(|row| row["topic"] == "t").unwrap();
            let mut nodes = [a, b];
            nodes.sort_unstable();
            assert_eq!((&row["depth"], &row["nodes"]), (&3.into(), &nodes.as_slice().into()), "{command:?}");
        }
        let doctor = lines(mq(&[&["doctor", "--json"][..], flags].concat()).stdout);
        for broker in [a, b] {
            let what = format!("broker {broker} answers");
            assert!(doctor.iter().any(|finding| finding["what"] == what.as_str()), "{doctor:?}");
        }
        assert!(
            doctor.iter().any(|finding| finding["what"] == "u has 1 message and no channel"),
            "{doctor:?}"
        );
    }
    let part = mq(&["stat", "--once", "--nsqd-http-address", a, "--nsqd-http-address", "127.0.0.1:1"]);
    let shown = part.failed();
    assert!(shown.contains("left out: 127.0.0.1:1: Connection refused"), "{shown}");
}

/// A broker that counts the requests without and with a token.
fn counting(counts: &Arc<[AtomicU32; 2]>) -> String {
    let counts = Arc::clone(counts);
    token_api(None, move |path, has_token| {
        counts[usize::from(has_token)].fetch_add(1, Ordering::Relaxed);
        match path {
            "/stats" => Some(r#"{"version":"1.3.0","health":"OK","topics":[]}"#.to_owned()),
            "/info" => Some(r#"{"version":"1.3.0","tcp_port":4150}"#.to_owned()),
            "/ping" => Some("OK".to_owned()),
            _ => None,
        }
    })
}

#[test]
fn a_token_goes_to_brokers_that_flags_name_and_to_none_that_a_lookup_server_names() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").unwrap();
    let (of_named, of_learned) = (Arc::default(), Arc::default());
    let (named, learned) = (counting(&of_named), counting(&of_learned));
    let (_, port) = learned.rsplit_once(':').unwrap();
    let nodes =
        format!(r#"{{"producers":[{{"broadcast_address":"127.0.0.1","tcp_port":1,"http_port":{port}}}]}}"#);
    let lookup = api(move |path| match path {
        "/nodes" => Some(nodes.clone()),
        "/topics" => Some(r#"{"topics":[]}"#.to_owned()),
        "/info" => Some(r#"{"version":"1.3.0"}"#.to_owned()),
        _ => None,
    });
    let fleet = ["--nsqd-http-address", &named, "--lookupd-http-address", &lookup];
    let token = ["--auth-token-file", token.to_str().unwrap()];
    for command in [&["stat", "--once"][..], &["top", "--once"], &["doctor"]] {
        mq(&[command, &fleet, &token].concat());
        let taken = |counts: &[AtomicU32; 2]| counts.each_ref().map(|count| count.swap(0, Ordering::Relaxed));
        assert!(taken(&of_named)[1] > 0, "{command:?}: the named one is shown it");
        let [without, with] = taken(&of_learned);
        assert!(without > 0 && with == 0, "{command:?}: {with} requests with it, {without} without");
    }
}

#[test]
fn a_broker_that_refuses_or_is_not_well_is_an_answer_with_its_own_status() {
    let folder = tempfile::tempdir().unwrap();
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, "secret\n").unwrap();
    let closed = Broker::start_with(&["--http-auth-token-file", tokens.to_str().unwrap()]);
    let refused = mq(&["doctor", "--http-address", closed.http_address()]);
    assert_eq!(refused.status.code(), Some(1), "somebody has answered: {}", text(refused.stdout));
    let sick = api(|path| match path {
        "/stats" => Some(r#"{"version":"1.3.0","health":"NOK - full","topics":[]}"#.to_owned()),
        "/info" => Some(r#"{"version":"1.3.0","tcp_port":4150}"#.to_owned()),
        _ => None,
    });
    let status = mq(&["status", "--http-address", &sick]);
    assert_eq!(status.status.code(), Some(1));
    assert!(text(status.stdout).contains("NOK - full"));
}

fn peek(broker: &Broker, args: &[&str]) -> String {
    let http = ["peek", "--topic", "t", "--http-address", broker.http_address()];
    text(mq(&[&http[..], args].concat()).ok())
}

#[test]
fn a_peek_shows_messages_in_three_forms_and_moves_none() {
    let broker = Broker::start();
    publish(&broker, "t", "one\nt\u{1b}wo\nthree\n");
    let peek = |args: &[&str]| peek(&broker, args);
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
fn a_peek_at_a_channel_shows_what_it_holds_with_headers() {
    let broker = Broker::start();
    let (tcp, http) = (["--tcp-address", broker.address()], ["--http-address", broker.http_address()]);
    mq(&[&["topics", "create", "t", "--channel", "c"][..], &http].concat()).ok();
    publish(&broker, "t", "done\n");
    mq(&[&["tail", "--topic", "t", "--channel", "c", "-n", "1"][..], &tcp].concat()).ok();
    mq(&[&["pub", "--topic", "t", "--header", "trace=a\tb", "left"][..], &tcp].concat()).ok();
    let held = peek(&broker, &["--channel", "c"]);
    assert!(held.lines().next().unwrap().ends_with("  waiting    left"), "{held}");
    assert_eq!(held.lines().nth(1), Some("    trace: a\\tb"), "{held}");
    let json = lines(peek(&broker, &["--channel", "c", "--json"]).into_bytes());
    assert_eq!((json.len(), &json[0]["state"]), (1, &"waiting".into()));
    assert_eq!(json[0]["headers"], serde_json::json!([{"name": "trace", "value": "a\tb"}]));
    // What is finished is stored for a while.
    assert!(peek(&broker, &[]).contains("done"));
}

#[test]
fn a_peek_at_what_is_not_there_fails_and_at_what_is_empty_does_not() {
    let broker = Broker::start();
    let http = ["--http-address", broker.http_address()];
    mq(&[&["topics", "create", "t", "--channel", "c"][..], &http].concat()).ok();
    let of = |args: &[&str]| mq(&[&["peek"][..], args, &http].concat());
    assert!(of(&["--topic", "nope"]).failed().contains("there is no topic nope"));
    assert!(of(&["--topic", "t", "--channel", "nope"]).failed().contains("topic t has no channel nope"));
    let empty = of(&["--topic", "t", "--channel", "c"]);
    assert!(
        empty.status.success() && empty.stderr.contains("channel c of topic t has no message"),
        "{}",
        empty.stderr
    );
}

#[test]
fn data_is_json_where_it_is_asked_for() {
    let broker = Broker::start();
    let http = ["--http-address", broker.http_address()];
    mq(&[&["topics", "create", "t", "--channel", "c"][..], &http].concat()).ok();
    publish(&broker, "t", "one\n");
    let topics = lines(mq(&[&["topics", "--json"][..], &http].concat()).ok());
    assert_eq!((&topics[0]["topic"], &topics[0]["channels"][0]["depth"]), (&"t".into(), &1.into()));
    let drained = mq(&[&["drain", "--json", "--timeout", "0s"][..], &http].concat());
    let last = lines(drained.stdout).pop().unwrap();
    assert_eq!((&last["messages"], &last["stopped"]), (&1.into(), &true.into()));
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
