//! `to_nsq`, `nsq_tail`, `nsq_stat`; `mq pub --url` and `mq tail --url`.

use std::io::{BufRead, BufReader};

use mq_tests::{Broker, mq, mq_with_input, mq_with_url, until};
use serde_json::Value;

use crate::steps::{publish, tools, unfinished};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_pieces_of_stdin_go_to_every_address_whole() {
    for tool in tools("to_nsq") {
        let brokers = [Broker::start(), Broker::start()];
        let mut args = vec!["-topic", "t", "-delimiter", ","];
        for broker in &brokers {
            args.extend(["-nsqd-tcp-address", broker.address()]);
        }
        // NSQ's own takes the last byte of a piece that has no delimiter.
        let out = tool.run(&args, if tool.is_ours() { b"one,,two,three" } else { b"one,,two,three," });
        assert_eq!(out.status.code(), Some(0), "{}", text(&out.stderr));
        for broker in &brokers {
            let args =
                ["tail", "--topic", "t", "-n", "3", "--channel", "c", "--tcp-address", broker.address()];
            assert_eq!(text(&mq(&args).ok()), "one\ntwo\nthree\n");
        }
    }
}

#[test]
fn a_rate_spreads_messages_over_time() {
    let broker = Broker::start();
    for tool in tools("to_nsq") {
        let began = std::time::Instant::now();
        let args = ["-topic", "t", "-rate", "20", "-nsqd-tcp-address", broker.address()];
        assert!(tool.run(&args, b"1\n2\n3\n4\n5\n6\n").status.success());
        assert!(began.elapsed().as_millis() >= 190, "{:?}", began.elapsed());
    }
}

#[test]
fn a_tail_ends_after_so_many_and_shows_topics_if_asked() {
    let broker = Broker::start();
    for (n, tool) in tools("nsq_tail").iter().enumerate() {
        let topic = format!("t{n}");
        publish(&broker, &topic, "one\ntwo\nthree\n");
        let channel = |args: &[&str]| {
            let all = ["-topic", &topic, "-channel", "c", "-nsqd-tcp-address", broker.address()];
            tool.run(&[&all[..], args].concat(), b"")
        };
        let first = channel(&["-n", "1", "-print-topic"]);
        assert_eq!((first.status.code(), text(&first.stdout)), (Some(0), format!("{topic} | one\n")));
        let rest = channel(&["-n", "2", "-print-topic=false"]);
        let rest = text(&rest.stdout);
        if tool.is_ours() {
            // What was printed is finished; NSQ's own ends before it says so.
            assert_eq!(rest, "two\nthree\n");
            until("all to be finished", || (unfinished(&broker, &topic, "c") == 0).then_some(()));
        } else {
            assert!(rest.contains("two\n"), "{rest}");
        }
    }
}

#[test]
fn exit_statuses_are_those_of_nsq() {
    for (name, args) in [
        ("nsq_tail", &["-topic", "t"][..]),
        ("nsq_tail", &["-nsqd-tcp-address", "127.0.0.1:1"]),
        ("nsq_tail", &["-topic", "t", "-nsqd-tcp-address", "127.0.0.1:1"]),
        ("nsq_tail", &["-topic", "t", "-nsqd-tcp-address", "a:1", "-lookupd-http-address", "b:1"]),
        ("nsq_tail", &["-nonsense"]),
        ("nsq_to_file", &["-nonsense"]),
        ("nsq_tail", &["-version"]),
        ("to_nsq", &["-topic", "t"]),
        ("to_nsq", &["-topic", "t", "-delimiter", "ab", "-nsqd-tcp-address", "127.0.0.1:1"]),
        ("to_nsq", &["-nsqd-tcp-address", "127.0.0.1:1"]),
        ("nsq_to_file", &["-nsqd-tcp-address", "127.0.0.1:1"]),
        ("nsq_to_file", &["-topic", "t", "-gzip-level", "10", "-nsqd-tcp-address", "127.0.0.1:1"]),
        ("nsq_to_http", &["-topic", "t", "-nsqd-tcp-address", "127.0.0.1:1"]),
        ("nsq_to_http", &["-topic", "t", "-get", "http://h/x", "-nsqd-tcp-address", "127.0.0.1:1"]),
        (
            "nsq_to_http",
            &["-topic", "t", "-post", "http://h/x", "-sample", "2", "-nsqd-tcp-address", "127.0.0.1:1"],
        ),
        ("nsq_to_nsq", &["-topic", "t", "-nsqd-tcp-address", "127.0.0.1:1"]),
        ("nsq_stat", &["-topic", "t", "-channel", "c", "-nsqd-http-address", "127.0.0.1:1"]),
        ("nsq_stat", &["-topic", "t", "-channel", "c", "-count", "0", "-nsqd-http-address", "127.0.0.1:1"]),
        ("nsq_stat", &["-topic", "t", "-channel", "c", "-nsqd-http-address", "http://a:1"]),
    ] {
        let codes: Vec<_> = tools(name).iter().map(|tool| tool.run(args, b"").status.code()).collect();
        let want = match args {
            ["-nonsense"] => 2,
            ["-version"] => 0,
            _ => 1,
        };
        assert!(codes.iter().all(|code| *code == Some(want)), "{name} {args:?}: {codes:?}");
    }
}

#[test]
fn the_numbers_of_a_channel_are_those_that_nsq_shows() {
    let broker = Broker::start();
    mq(&["topics", "create", "t", "--channel", "c", "--http-address", broker.http_address()]).ok();
    publish(&broker, "t", "one\ntwo\nthree\n");
    let rows: Vec<_> = tools("nsq_stat")
        .iter()
        .map(|tool| {
            let args = ["-topic", "t", "-channel", "c", "-interval", "10ms", "-count", "2"];
            let out = tool.run(&[&args[..], &["-nsqd-http-address", broker.http_address()]].concat(), b"");
            assert_eq!(out.status.code(), Some(0));
            text(&out.stdout)
        })
        .collect();
    assert_eq!(rows[0].lines().count(), 4, "{}", rows[0]);
    assert!(
        rows[0].contains("      3       3       0     0     0 |       0       0            3       0"),
        "{}",
        rows[0]
    );
    assert!(rows.iter().all(|other| *other == rows[0]), "{rows:?}");
}

#[test]
fn a_url_reaches_brokers_and_a_folder() {
    let brokers = [Broker::start(), Broker::start()];
    let url = format!("mq://{},{}", brokers[0].address(), brokers[1].address());
    mq_with_input(&["pub", "--topic", "t", "--url", &url], b"one\ntwo\n").ok();
    mq(&["pub", "--topic", "t", "--url", &url, "three"]).ok();
    let out = mq(&["tail", "--topic", "t", "--channel", "c", "--url", &url, "-n", "3", "--json"]).ok();
    let mut bodies: Vec<_> = text(&out)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["body"].as_str().unwrap().to_owned())
        .collect();
    bodies.sort();
    assert_eq!(bodies, ["one", "three", "two"]);
    let folder = tempfile::tempdir().unwrap();
    let url = format!("mq:{}", folder.path().display());
    mq(&["pub", "--topic", "t", "--url", &url, "kept"]).ok();
    assert_eq!(mq(&["tail", "--topic", "t", "--channel", "c", "--url", &url, "-n", "1"]).ok(), b"kept\n");
}

#[test]
fn a_url_without_a_broker_is_an_error_that_counts() {
    let complaint =
        mq(&["pub", "--topic", "t", "--url", "mq://127.0.0.1:1?publish_timeout=100ms", "x"]).failed();
    assert!(complaint.contains("0 of 1 message read was acknowledged"), "{complaint}");
    let complaint = mq(&["tail", "--topic", "t", "--url", "nonsense"]).failed();
    assert!(complaint.contains("mq://nonsense:4150"), "{complaint}");
}

#[test]
fn mq_url_names_the_brokers_unless_a_flag_names_one() {
    let [named, other] = [Broker::start(), Broker::start()];
    let url = format!("mq://{}", named.address());
    let run = |args: &[&str], more: &[&str]| mq_with_url(&[args, &["--topic", "t"], more].concat(), &url);
    let (at, by_url) = (["--tcp-address", other.address()], format!("mq://{}", other.address()));
    run(&["pub"], &["by variable"]).ok();
    run(&["pub"], &["--tcp-address", other.address(), "by address"]).ok();
    assert_eq!(run(&["tail", "-n", "1"], &[]).ok(), b"by variable\n");
    assert_eq!(run(&["tail", "-n", "1"], &at).ok(), b"by address\n");
    assert_eq!(run(&["tail", "-n", "1"], &["--url", &by_url]).ok(), b"by address\n");
    let complaint = run(&["tail", "-n", "1", "--url", &by_url], &at).failed();
    assert!(complaint.contains("--url and --tcp-address exclude each other"), "{complaint}");
}

#[test]
fn a_tail_of_a_url_takes_nothing_and_shows_headers() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    for url in [format!("mq://{}", broker.address()), format!("mq:{}", folder.path().display())] {
        mq(&["pub", "--topic", "t", "--url", &url, "--header", "trace=7", "kept"]).ok();
        for channel in [&[][..], &[], &["--channel", "c"]] {
            let args = ["tail", "--topic", "t", "-n", "1", "--json", "--url", &url];
            let line: Value = serde_json::from_slice(&mq(&[&args, channel].concat()).ok()).unwrap();
            assert_eq!((line["topic"].as_str(), line["body"].as_str()), (Some("t"), Some("kept")));
            if !channel.is_empty() {
                assert_eq!(line["headers"], serde_json::json!([{"name": "trace", "value": "7"}]));
                assert_eq!(line["attempts"], 1, "it was not delivered before");
            }
        }
    }
}

#[test]
fn a_refused_publish_names_the_unit_and_the_flag_of_the_limit() {
    let broker = Broker::start();
    let complaint =
        mq(&["pub", "--topic", "t", "--delay", "5h", "x", "--tcp-address", broker.address()]).failed();
    assert!(
        complaint.contains("a delay of 5h is longer than the broker's --max-req-timeout, 1h"),
        "{complaint}"
    );
}

/// A time as RFC 3339 has it.
fn rfc3339(nanoseconds: u64) -> String {
    let (seconds, rest) = (nanoseconds / 1_000_000_000, nanoseconds % 1_000_000_000);
    let when = format!("@{seconds}.{rest:09}");
    let date = std::process::Command::new("date").args(["-u", "-d", &when, "+%FT%T.%NZ"]).output().unwrap();
    text(&date.stdout).trim().to_owned()
}

#[test]
fn a_start_is_a_word_an_offset_or_a_time_with_a_channel_and_without() {
    let broker = Broker::start();
    let tcp = ["--tcp-address", broker.address()];
    // The topic that has a channel keeps all for that; the other has what waits.
    mq(&["topics", "create", "kept", "--channel", "keep", "--http-address", broker.http_address()]).ok();
    for topic in ["kept", "waiting"] {
        for body in ["1", "2", "3", "4"] {
            mq(&[&["pub", "--topic", topic, body][..], &tcp].concat()).ok();
        }
        let tail = |flags: &[&str]| text(&mq(&[&["tail", "--topic", topic][..], flags, &tcp].concat()).ok());
        let all = tail(&["--start", "earliest", "--json", "-n", "4"]);
        let all: Vec<Value> = all.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let bodies: Vec<_> = all.iter().map(|line| line["body"].as_str().unwrap()).collect();
        assert_eq!(bodies, ["1", "2", "3", "4"]);
        let offset = all[2]["offset"].as_u64().unwrap().to_string();
        let time = rfc3339(all[2]["timestamp"].as_u64().unwrap());
        for (place, n, rest) in [
            (offset.as_str(), "2", "3\n4\n"),
            (time.as_str(), "2", "3\n4\n"),
            ("0", "4", "1\n2\n3\n4\n"),
            ("1970-01-01T00:00:00Z", "4", "1\n2\n3\n4\n"),
        ] {
            assert_eq!(tail(&["--start", place, "-n", n]), rest, "{topic} from {place}");
            if topic == "kept" {
                let channel = format!("c{}", place.replace([':', '-'], "_"));
                assert_eq!(tail(&["--start", place, "-n", n, "--channel", &channel]), rest, "{place}");
            }
        }
        let mut latest = mq_tests::start(
            &[&["tail", "--topic", topic, "--start", "latest", "-n", "1"][..], &tcp].concat(),
        );
        let stdout = latest.stdout.take().unwrap();
        // It ends only once what it printed is read.
        let reading = std::thread::spawn(move || std::io::read_to_string(stdout).unwrap());
        // It says nothing when it is ready, so there is something new again and again.
        until("it to show what is new", || {
            mq(&[&["pub", "--topic", topic, "new"][..], &tcp].concat()).ok();
            reading.is_finished().then_some(())
        });
        assert_eq!(reading.join().unwrap(), "new\n", "{topic}");
        assert!(latest.wait().unwrap().success());
    }
    let complaint = mq(&["tail", "--topic", "t", "--start", "soon"]).failed();
    assert!(complaint.contains("an offset as mq tail --json shows it, or a time such as"), "{complaint}");
}

#[test]
fn empty_lines_are_counted_by_pub_and_passed_over_in_silence_under_nsqs_name() {
    let broker = Broker::start();
    let published =
        mq_with_input(&["pub", "--topic", "t", "--tcp-address", broker.address()], b"one\n\ntwo\n\n\n");
    assert!(published.stderr.contains("mq pub: 3 empty lines were skipped"), "{}", published.stderr);
    published.ok();
    let whole = mq_with_input(&["pub", "--topic", "t", "--tcp-address", broker.address()], b"three\n");
    assert!(!whole.stderr.contains("skipped"), "{}", whole.stderr);
    for tool in tools("to_nsq") {
        let out = tool.run(&["-topic", "t", "-nsqd-tcp-address", broker.address()], b"\n\nfour\n");
        assert!(!text(&out.stderr).contains("skipped"), "{}", text(&out.stderr));
    }
    let args = ["tail", "--topic", "t", "-n", "4", "--channel", "c", "--tcp-address", broker.address()];
    assert_eq!(text(&mq(&args).ok()), "one\ntwo\nthree\nfour\n");
}

#[test]
fn a_pub_that_waits_for_a_broker_says_so_once_and_when_it_goes_on() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let mut child = mq_tests::start(&["pub", "--topic", "t", "--url", &format!("mq://{port}"), "one"]);
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let first = said.next().unwrap();
    assert!(first.contains(&port) && first.contains("refused: waiting for a broker"), "{first}");
    assert!(!first.contains("os error"), "{first}");
    let broker = Broker::start_at([&port, "127.0.0.1:0", "127.0.0.1:0"], &[]);
    assert_eq!(said.next().unwrap(), format!("mq pub: connected to {port}: it goes on"));
    assert!(said.next().unwrap().starts_with("1 message acknowledged"), "and nothing between");
    assert!(until("mq pub to end", || child.try_wait().unwrap()).success());
    let args = ["tail", "--topic", "t", "-n", "1", "--channel", "c", "--tcp-address", broker.address()];
    assert_eq!(text(&mq(&args).ok()), "one\n");
}

#[test]
fn a_channel_without_its_flag_is_answered_with_the_command_that_would_be_right() {
    for action in ["create", "pause", "delete"] {
        let complaint = mq(&["topics", action, "t", "c"]).failed();
        assert!(complaint.contains(&format!("mq topics {action} t --channel c")), "{complaint}");
    }
    let help = text(&mq(&["help", "topics"]).ok());
    assert!(!help.contains("WORD"), "{help}");
}
