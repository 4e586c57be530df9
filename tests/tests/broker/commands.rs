//! `mq pub` and `mq tail` as a user calls them.

use std::io::{BufRead, BufReader, Write};

use mq_tests::{Broker, mq, mq_with_input, start, until};

use crate::clients::{create_channel, next, subscribe};

fn publish(broker: &Broker, topic: &str, input: &[u8]) -> mq_tests::Finished {
    mq_with_input(&["pub", "--topic", topic, "--tcp-address", broker.address()], input)
}

fn tail(broker: &Broker, topic: &str, more: &[&str]) -> Vec<u8> {
    let args = ["tail", "-topic", topic, "-tcp-address", broker.address()];
    mq(&[&args[..], more].concat()).ok()
}

#[tokio::test]
async fn a_tail_without_a_channel_moves_nothing() {
    let broker = Broker::start();
    publish(&broker, "t", b"one\n\ntwo\r\nthree").ok();
    for _ in 0..2 {
        assert_eq!(tail(&broker, "t", &["-n", "3"]), b"one\ntwo\r\nthree\n");
    }
    let mut consumer = subscribe(&broker, "t", "first", 3).await;
    for body in ["one", "two\r", "three"] {
        assert_eq!(next(&mut consumer).await.body, body);
    }
}

#[tokio::test]
async fn a_tail_beside_a_channel_takes_nothing_from_it() {
    let broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    let mut tail = start(&["tail", "--topic", "t", "--tcp-address", broker.address()]);
    let mut lines = BufReader::new(tail.stdout.take().unwrap()).lines();
    // A tail shows what comes after it began; so publish until it has begun.
    let mut published = 0;
    let (first_seen, seen) = std::sync::mpsc::channel();
    let reader = std::thread::spawn(move || {
        let first = lines.next().unwrap().unwrap();
        first_seen.send(first).unwrap();
        lines.next().unwrap().unwrap()
    });
    let first: u32 = until("the tail to begin", || {
        published += 1;
        publish(&broker, "t", published.to_string().as_bytes()).ok();
        seen.try_recv().ok()
    })
    .parse()
    .unwrap();
    publish(&broker, "t", b"last").ok();
    let second = reader.join().unwrap();
    assert!(second == "last" || second == (first + 1).to_string(), "{second} after {first}");
    tail.kill().unwrap();
    tail.wait().unwrap();
    let mut consumer = subscribe(&broker, "t", "c", 10).await;
    for n in 1..=published {
        let message = next(&mut consumer).await;
        assert_eq!(message.body, n.to_string());
        consumer.finish(message.id);
    }
}

#[tokio::test]
async fn a_tail_on_a_channel_finishes_what_it_printed_and_no_more() {
    let broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    publish(&broker, "t", b"1\n2\n3\n4\n").ok();
    assert_eq!(tail(&broker, "t", &["--channel", "c", "-n=2"]), b"1\n2\n");
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    let message = next(&mut consumer).await;
    assert_eq!((message.body.as_ref(), message.attempts), (&b"3"[..], 1));
}

#[test]
fn a_reader_that_has_enough_ends_the_tail_quietly() {
    let broker = Broker::start();
    publish(&broker, "t", b"one\n").ok();
    let mut tail = start(&["tail", "--topic", "t", "--tcp-address", broker.address()]);
    let mut line = String::new();
    let mut reader = BufReader::new(tail.stdout.take().unwrap());
    reader.read_line(&mut line).unwrap();
    assert_eq!(line, "one\n");
    drop(reader);
    publish(&broker, "t", b"nobody reads this\n").ok();
    let status = until("the tail to end", || tail.try_wait().unwrap());
    let complaint = std::io::read_to_string(tail.stderr.take().unwrap()).unwrap();
    assert!(status.success() && complaint.is_empty(), "{status} {complaint:?}");
}

#[test]
fn a_line_that_is_too_long_is_named_and_left_out_and_the_others_are_published() {
    let broker = Broker::start();
    let mut input = b"good\n".repeat(3);
    input.extend(vec![b'x'; (1 << 20) + 1]);
    input.extend(b"\nlast\n");
    let error = publish(&broker, "t", &input).failed();
    assert!(error.contains("mq pub: line 4 is longer than --max-msg-size (1048576 bytes)"), "{error}");
    assert!(error.contains("1 line was") && error.contains("4 of 4 messages"), "{error}");
    assert_eq!(tail(&broker, "t", &["-n", "4"]), b"good\ngood\ngood\nlast\n");
}

#[test]
fn messages_come_from_arguments_and_a_file_too() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("message");
    std::fs::write(&file, "two\nlines").unwrap();
    let with = |more: &[&str], input: &[u8]| {
        let args = ["pub", "--topic", "t", "--tcp-address", broker.address()];
        mq_with_input(&[&args[..], more].concat(), input)
    };
    with(&["one", "--two--"], b"").failed();
    with(&["one", "1 1"], b"").ok();
    with(&["--file", file.to_str().unwrap()], b"").ok();
    with(&["--file", "-"], b"from\nstdin").ok();
    assert_eq!(tail(&broker, "t", &["-n", "4"]), b"one\n1 1\ntwo\nlines\nfrom\nstdin\n");
    // The same id twice is one message; headers are stored, which gRPC's clients see.
    for _ in 0..2 {
        with(&["--id", "a", "--header", "trace=1", "once"], b"").ok();
    }
    with(&["later", "--delay", "1h"], b"").ok();
    // The longest that may be sent: a topic of its own.
    mq(&["pub", "--topic", "longest", "--tcp-address", broker.address(), "--max-msg-size", "3", "abc"]).ok();
    let listed = mq(&["topics", "create", "t", "--channel", "c", "--http-address", broker.http_address()]);
    listed.ok();
    let listed = mq(&["topics", "--http-address", broker.http_address()]).ok();
    assert!(String::from_utf8_lossy(&listed).contains("c  depth 6 "), "{}", String::from_utf8_lossy(&listed));
    // The one that is to come later does not come now.
    assert_eq!(tail(&broker, "t", &["--channel", "c", "-n", "5"]).last(), Some(&b'\n'));
    for (more, word) in [
        (&["--header", "a=b"][..], "arguments or --file"),
        (&["--id", "x", "a", "b"], "--id is the id of one message"),
        (&["--header", "novalue", "a"], "name=value"),
        (&[""], "empty"),
        (&["--delay", "soon", "a"], "250ms"),
        (&["--max-msg-size", "3", "four"], "message 1 is longer than --max-msg-size (3 bytes)"),
        (&["--file", "/nowhere"], "--file /nowhere"),
    ] {
        let complaint = with(more, b"");
        assert!(!complaint.status.success());
        assert!(complaint.stderr.contains(word), "{more:?}: {}", complaint.stderr);
    }
}

#[tokio::test]
async fn settings_of_topics_and_channels_are_shown_and_changed() {
    let broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    let settings =
        |more: &[&str]| mq(&[&["settings", "t", "--http-address", broker.http_address()], more].concat());
    let text = |more: &[&str]| String::from_utf8(settings(more).ok()).unwrap();
    let shown = text(&["max_age=72h", "durability=sync", "dedup_window=none"]);
    assert!(shown.contains("durability     sync\n") && shown.contains("max_age        259200s\n"), "{shown}");
    assert_eq!(text(&[]), shown, "without a change all are shown");
    let channel = ["--channel", "c", "max_attempts=1", "dead_letter_topic=dead", "redelivery_delay=2s"];
    let expected = "max_attempts       1\ndead_letter_topic  dead\nredelivery_delay   2s\n";
    assert_eq!(text(&channel), expected);
    assert!(text(&["--channel", "c", "redelivery_delay=0s"]).ends_with("redelivery_delay   0s\n"));
    assert_eq!(text(&channel), expected);
    let json: serde_json::Value = serde_json::from_str(&text(&["--channel", "c", "--json"])).unwrap();
    assert_eq!((&json["max_attempts"], &json["redelivery_delay"]), (&1.into(), &2000.into()));
    for (more, hint) in [
        (&["max_attempts=1"][..], "name it with --channel"),
        (&["--channel", "c", "max_attempts=0"], "set both, or neither"),
        (&["--channel", "nope", "max_attempts=0"], "CHANNEL_NOT_FOUND"),
        (&["max_age=soon"], "250ms"),
        (&["colour"], "NAME=VALUE"),
    ] {
        let complaint = settings(more);
        assert!(!complaint.status.success());
        assert!(complaint.stderr.contains(hint), "{more:?}: {}", complaint.stderr);
    }
    let unlimited = text(&["--channel", "c", "max_attempts=0", "dead_letter_topic=none"]);
    assert!(unlimited.contains("dead_letter_topic  none\n"), "{unlimited}");
}

#[tokio::test]
async fn what_a_closed_pipe_leaves_comes_back() {
    let broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    let lines: Vec<String> = (1..=12_000).map(|n| format!("{n}\n")).collect();
    publish(&broker, "t", lines.concat().as_bytes()).ok();
    let mut tail = start(&["tail", "--topic", "t", "--tcp-address", broker.address(), "--channel", "c"]);
    // Byte by byte: not one of the third line is taken.
    let mut reader = BufReader::with_capacity(1, tail.stdout.take().unwrap());
    for n in 1..=2 {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert_eq!(line, format!("{n}\n"));
    }
    drop(reader);
    let status = until("the tail to end", || tail.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let mut consumer = subscribe(&broker, "t", "c", 2_500).await;
    let mut seen = std::collections::BTreeSet::new();
    while seen.range(3..).count() < 11_998 {
        let message = next(&mut consumer).await;
        seen.insert(std::str::from_utf8(&message.body).unwrap().parse::<u32>().unwrap());
        consumer.finish(message.id);
    }
}

#[test]
fn a_line_the_broker_refuses_is_a_failure() {
    let broker = Broker::start_with(&["--max-msg-size", "100"]);
    let error = publish(&broker, "t", &[b'x'; 200]).failed();
    assert!(error.contains("--max-msg-size, 100 B: 0 of 1 message read"), "{error}");
}

#[test]
fn lines_go_out_while_stdin_stays_open() {
    let broker = Broker::start();
    let mut publisher = start(&["pub", "--topic", "t", "--tcp-address", broker.address()]);
    let mut stdin = publisher.stdin.take().unwrap();
    stdin.write_all(b"now\nthen").unwrap();
    stdin.flush().unwrap();
    assert_eq!(tail(&broker, "t", &["-n", "1"]), b"now\n");
    drop(stdin);
    assert!(publisher.wait().unwrap().success());
    assert_eq!(tail(&broker, "t", &["-n", "2"]), b"now\nthen\n");
}

#[test]
fn without_a_broker_both_say_where_they_looked() {
    // Taken and given back: nobody listens there.
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    for command in ["pub", "tail"] {
        let error = mq(&[command, "--topic", "t", "--tcp-address", &address]).failed();
        assert!(error.contains(&address) && error.contains("mq serve"), "{error}");
    }
    assert!(mq(&["pub", "--topic", "no spaces"]).failed().contains("topic name"));
}
