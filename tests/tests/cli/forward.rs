//! `nsq_to_http`, `nsq_to_nsq` and `mq forward`.

use std::io::{BufRead, BufReader};
use std::sync::atomic::{AtomicU32, Ordering};

use mq_tests::{Broker, mq, until};

use crate::steps::{Request, Running, Web, number, publish, tools, until_finished};

/// The requests of each make of nsq_to_http for `lines`.
fn requests(lines: &str, count: usize, flags: impl Fn(&str) -> Vec<String>) -> Vec<Vec<Request>> {
    let all = tools("nsq_to_http").into_iter().map(|tool| {
        let (broker, web) = (Broker::start(), Web::start(|_| 200));
        publish(&broker, "t", lines);
        let flags = flags(&web.address);
        let flags: Vec<_> = flags.iter().map(String::as_str).collect();
        let running =
            tool.start(&[&["-topic", "t", "-nsqd-tcp-address", broker.address()][..], &flags].concat());
        until_finished(&broker, "t", "nsq_to_http", lines.lines().count() as u64);
        let requests = web.until(count);
        assert_eq!(running.stop(), Some(0));
        requests
    });
    all.collect()
}

fn same(requests: &[Vec<Request>]) -> &[Request] {
    assert!(requests.iter().all(|one| *one == requests[0]), "{requests:?}");
    &requests[0]
}

#[test]
fn requests_are_those_of_nsq() {
    let lines = "plain\na b&c=d/é?#%\n{\"x\":1}\n";
    let posted = requests(lines, 3, |web| {
        ["-post", &format!("http://{web}/in?key=1"), "-header", "X-Test: a b", "-content-type", "text/x"]
            .map(ToOwned::to_owned)
            .to_vec()
    });
    let posted = same(&posted);
    assert_eq!(posted.len(), 3);
    assert_eq!(posted[0].line, "POST /in?key=1");
    assert_eq!(posted[0].headers, ["content-type: text/x", "user-agent: nsq_to_http v1.3.0", "x-test: a b"]);
    let got = requests(lines, 3, |web| vec!["-get".to_owned(), format!("http://{web}/in?m=%s&x=y")]);
    let got = same(&got);
    assert!(
        got.iter().any(|request| request.line == "GET /in?m=a+b%26c%3Dd%2F%C3%A9%3F%23%25&x=y"),
        "{got:?}"
    );
}

#[test]
fn round_robin_gives_each_its_part_and_a_sample_of_nothing_sends_nothing() {
    let lines = "1\n2\n3\n4\n";
    let shared = requests(lines, 4, |web| {
        let url = |path: &str| format!("http://{web}/{path}");
        ["-mode", "round-robin", "-post", &url("a"), "-post", &url("b")].map(ToOwned::to_owned).to_vec()
    });
    for requests in &shared {
        let of =
            |path: &str| requests.iter().filter(|request| request.line == format!("POST /{path}")).count();
        assert_eq!((of("a"), of("b")), (2, 2));
    }
    let none = requests(lines, 0, |web| {
        ["-sample", "0.0", "-post", &format!("http://{web}/")].map(ToOwned::to_owned).to_vec()
    });
    assert!(none.iter().all(Vec::is_empty), "{none:?}");
}

fn forward(broker: &Broker, to: &str, flags: &[&str]) -> Running {
    let url = format!("mq://{}", broker.address());
    Running(mq_tests::start(&[&["forward", "--topic", "t", "--url", &url, "--to", to][..], flags].concat()))
}

#[test]
fn a_message_that_a_server_refuses_comes_again_until_it_is_taken() {
    let failures = AtomicU32::new(0);
    let web = Web::start(move |_| if failures.fetch_add(1, Ordering::Relaxed) < 2 { 503 } else { 204 });
    let broker = Broker::start();
    publish(&broker, "t", "one\n");
    let to = format!("http://{}/", web.address);
    let running = forward(&broker, &to, &["--requeue-delay", "10ms", "--max-backoff", "10ms"]);
    until_finished(&broker, "t", "forward", 1);
    let bodies: Vec<_> = web.requests().into_iter().map(|request| request.body).collect();
    assert_eq!(bodies, ["one", "one", "one"]);
    assert_eq!(number(&broker, "t", "forward", "requeue_count"), 2);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_message_that_always_fails_is_given_up_only_if_asked() {
    let web = Web::start(|request| if request.body == "bad" { 500 } else { 200 });
    let broker = Broker::start();
    publish(&broker, "t", "bad\ngood\n");
    let to = format!("http://{}/", web.address);
    let flags = ["--requeue-delay", "1ms", "--max-backoff", "0", "--max-attempts", "3"];
    let running = forward(&broker, &to, &flags);
    until_finished(&broker, "t", "forward", 2);
    assert_eq!(number(&broker, "t", "forward", "requeue_count"), 2, "the last failure ends it");
    assert_eq!(web.requests().iter().filter(|request| request.body == "bad").count(), 3);
    assert_eq!(running.stop(), Some(0));
}

#[test]
fn a_message_with_one_attempt_is_given_up_at_once_and_under_nsqs_name_once_it_comes_again() {
    let web = Web::start(|_| 500);
    let to = format!("http://{}/", web.address);
    let broker = Broker::start();
    publish(&broker, "t", "bad\n");
    // Nothing waits for as long as a redelivery would take.
    let running = forward(&broker, &to, &["--requeue-delay", "10m", "--max-attempts", "1"]);
    until_finished(&broker, "t", "forward", 1);
    assert_eq!((number(&broker, "t", "forward", "requeue_count"), web.requests().len()), (0, 1));
    assert_eq!(running.stop(), Some(0));
    for tool in tools("nsq_to_http") {
        let broker = Broker::start();
        publish(&broker, "t", "bad\n");
        let flags = ["-topic", "t", "-nsqd-tcp-address", broker.address(), "-post", &to];
        let options = ["max_attempts,1", "default_requeue_delay,10ms", "max_backoff_duration,0"];
        let options: Vec<_> = options.iter().flat_map(|option| ["-consumer-opt", option]).collect();
        let running = tool.start(&[&flags[..], &options].concat());
        until_finished(&broker, "t", "nsq_to_http", 1);
        assert_eq!(number(&broker, "t", "nsq_to_http", "requeue_count"), 1);
        assert_eq!(running.stop(), Some(0));
    }
}

#[test]
fn a_message_that_is_given_up_goes_to_the_topic_for_such_with_its_headers() {
    let web = Web::start(|request| if request.body == "bad" { 500 } else { 200 });
    let broker = Broker::start();
    let tcp = ["--tcp-address", broker.address()];
    mq(&[&["pub", "--topic", "t", "--header", "trace=1", "bad"][..], &tcp].concat()).ok();
    let to = format!("http://{}/", web.address);
    let flags =
        ["--requeue-delay", "1ms", "--max-backoff", "0", "--max-attempts", "2", "--give-up-topic", "lost"];
    let running = forward(&broker, &to, &flags);
    until_finished(&broker, "t", "forward", 1);
    let peek = ["peek", "--topic", "lost", "--json", "--http-address", broker.http_address()];
    let lost: serde_json::Value = serde_json::from_slice(&mq(&peek).ok()).unwrap();
    assert_eq!((&lost["body"], &lost["headers"][0]["name"]), (&"bad".into(), &"trace".into()));
    assert_eq!(running.stop(), Some(0));
    for (flags, word) in [
        (&["--give-up-topic", "lost"][..], "--max-attempts"),
        (&["--give-up-topic", "t", "--max-attempts", "1"], "for ever"),
    ] {
        let args = ["forward", "--topic", "t", "--url", "mq://127.0.0.1:1", "--to", &to];
        let complaint = mq(&[&args[..], flags].concat()).failed();
        assert!(complaint.contains(word), "{complaint}");
    }
}

#[test]
fn tools_without_a_broker_say_that_they_go_on_trying_and_a_new_channel_where_it_begins() {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let url = format!("mq://{port}");
    let out = folder.path().to_str().unwrap();
    let both = [
        &["forward", "--topic", "t", "--url", &url, "--to", "http://127.0.0.1:1/"][..],
        &["archive", "--topic", "t", "--url", &url, "--output-dir", out],
    ];
    let started: Vec<_> = both
        .iter()
        .map(|args| {
            let mut child = mq_tests::start(args);
            let stderr = BufReader::new(child.stderr.take().unwrap());
            let mut said = stderr.lines().map_while(Result::ok);
            let first = said.next().unwrap();
            assert!(first.contains("is a broker running there? It is tried again"), "{first}");
            assert!(!first.contains("os error"), "{first}");
            (Running(child), said)
        })
        .collect();
    let _broker = Broker::start_at([&port, "127.0.0.1:0", "127.0.0.1:0"], &[]);
    for (running, mut said) in started {
        assert!(said.any(|line| line.contains(&format!("connected to {port}"))), "until it ends");
        assert!(said.any(|line| line.contains("the channel is new, and begins with")), "until it ends");
        assert_eq!(running.stop(), Some(0));
    }
}

#[test]
fn another_broker_gets_what_the_filters_let_through_as_nsq_writes_it() {
    let lines = concat!(
        "{\"keep\":\"yes\",\"b\":1.0,\"a\":\"<x>&é\",\"c\":[1.5,{\"z\":1,\"y\":null}]}\n",
        "{\"keep\":\"no\"}\n",
        "not json\n",
        "{\"keep\":\"yes\",\"a\":1e-7}\n",
    );
    let made: Vec<_> = tools("nsq_to_nsq")
        .iter()
        .map(|tool| {
            let (from, to) = (Broker::start(), Broker::start());
            publish(&from, "t", lines);
            let flags = ["-topic", "t", "-nsqd-tcp-address", from.address(), "-destination-topic", "u"];
            let filters = ["-require-json-field", "keep", "-require-json-value", "yes"];
            let only =
                ["-whitelist-json-field", "c", "-whitelist-json-field", "b", "-whitelist-json-field", "a"];
            let to_flags = ["-destination-nsqd-tcp-address", to.address()];
            let running = tool.start(&[&flags[..], &filters, &only, &to_flags].concat());
            until_finished(&from, "t", "nsq_to_nsq", 4);
            assert_eq!(running.stop(), Some(0));
            let args = ["tail", "--topic", "u", "--channel", "c", "-n", "2", "--tcp-address", to.address()];
            String::from_utf8(mq(&args).ok()).unwrap()
        })
        .collect();
    assert!(made.iter().all(|one| *one == made[0]), "{made:?}");
    assert!(
        made[0].contains(r#"{"a":"\u003cx\u003e\u0026é","b":1,"c":[1.5,{"y":null,"z":1}]}"#),
        "{}",
        made[0]
    );
}

#[test]
fn a_destination_that_is_gone_is_left_out_and_nothing_is_lost() {
    let (from, to) = (Broker::start(), Broker::start());
    let lines: String = (0..200).map(|n| format!("{n}\n")).collect();
    publish(&from, "t", &lines);
    let alive = format!("mq://{}", to.address());
    let flags = [
        "--to",
        "mq://127.0.0.1:1",
        "--timeout",
        "300ms",
        "--requeue-delay",
        "10ms",
        "--max-backoff",
        "10ms",
    ];
    let running = forward(&from, &alive, &flags);
    until_finished(&from, "t", "forward", 200);
    assert_eq!(running.stop(), Some(0));
    let args = ["tail", "--topic", "t", "--channel", "c", "-n", "200", "--tcp-address", to.address()];
    let mut got: Vec<u32> =
        String::from_utf8(mq(&args).ok()).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    got.sort_unstable();
    assert_eq!(got, (0..200).collect::<Vec<_>>());
}

#[test]
fn a_killed_destination_finishes_nothing() {
    let (from, mut to) = (Broker::start(), Broker::start());
    to.kill();
    publish(&from, "t", "one\n");
    let running =
        forward(&from, &format!("mq://{}", to.address()), &["--timeout", "100ms", "--max-backoff", "0"]);
    until("a failure", || (number(&from, "t", "forward", "requeue_count") > 0).then_some(()));
    assert_eq!(running.stop(), Some(0));
    assert_eq!(crate::steps::unfinished(&from, "t", "forward"), 1);
}

#[test]
fn headers_go_on_unless_they_are_dropped() {
    let (from, to, web) = (Broker::start(), Broker::start(), Web::start(|_| 200));
    let url = format!("mq://{}", from.address());
    mq(&["pub", "--topic", "t", "--url", &url, "--header", "trace=7", "--id", "one", "body"]).ok();
    mq(&["pub", "--topic", "t", "--url", &url, "--header", "trace=7", "--id", "one", "body"]).ok();
    let running = forward(&from, &format!("mq://{}", to.address()), &[]);
    until_finished(&from, "t", "forward", 1);
    assert_eq!(running.stop(), Some(0));
    let to_url = format!("mq://{}", to.address());
    let shown = mq(&["tail", "--topic", "t", "--channel", "c", "-n", "1", "--json", "--url", &to_url]).ok();
    let shown: serde_json::Value = serde_json::from_slice(&shown).unwrap();
    assert_eq!((&shown["body"], &shown["headers"][0]["value"]), (&"body".into(), &"7".into()), "{shown}");
    assert_eq!(number(&from, "t", "forward", "message_count"), 1, "the id was stored once");
    for channel in ["a", "b"] {
        mq(&["topics", "create", "u", "--channel", channel, "--http-address", from.http_address()]).ok();
    }
    mq(&["pub", "--topic", "u", "--url", &url, "--header", "trace=7", "body"]).ok();
    for (channel, flags, want) in [("a", &[][..], 1), ("b", &["--drop-headers"], 0)] {
        let to = format!("http://{}/{channel}", web.address);
        let args = ["forward", "--topic", "u", "--channel", channel, "--url", &url, "--to", &to];
        let running = Running(mq_tests::start(&[&args[..], flags].concat()));
        until_finished(&from, "u", channel, 1);
        assert_eq!(running.stop(), Some(0));
        let requests = web.requests();
        let request = requests.iter().find(|request| request.line == format!("POST /{channel}")).unwrap();
        let count = request.headers.iter().filter(|header| *header == "mq-header-trace: 7").count();
        assert_eq!(count, want, "{request:?}");
    }
}
