//! `mq bench` against a live broker: small counts, but every workload.

use mq_tests::{Broker, Finished, mq, signal, start, until};
use serde_json::Value;

fn bench(broker: &Broker, args: &[&str]) -> Finished {
    let pid = broker.pid().to_string();
    mq(&[&["bench"], args, &["--tcp-address", broker.address(), "--pid", &pid, "--json"]].concat())
}

fn json(finished: Finished) -> Value {
    serde_json::from_slice(&finished.ok()).unwrap()
}

/// `(published, delivered, bytes)` of a phase, whose server's memory must have been seen.
#[track_caller]
fn counts(phase: &Value) -> (u64, u64, u64) {
    assert!(phase["server"]["rss_bytes"].as_u64().unwrap() > 0, "{phase}");
    assert!(phase["seconds"].as_f64().unwrap() > 0.0, "{phase}");
    let field = |name: &str| phase[name].as_u64().unwrap();
    (field("published"), field("delivered"), field("bytes"))
}

#[track_caller]
fn is_whole(report: &Value) {
    assert_eq!(report["check"]["lost"], 0, "{report}");
    assert_eq!(report["check"]["duplicates"], 0, "{report}");
}

#[test]
fn what_is_published_is_consumed_later_whole() {
    let broker = Broker::start();
    let publish =
        json(bench(&broker, &["publish", "-n", "1000", "--channel", "bench", "--connections", "4"]));
    assert_eq!(counts(&publish["phases"][0]), (1000, 0, 200_000));
    let consume = json(bench(&broker, &["consume", "-n", "600", "--rdy", "1", "--consumers", "3"]));
    let (_, delivered, _) = counts(&consume["phases"][0]);
    // What the others had in flight when there were enough counts too.
    assert!((600..=602).contains(&delivered), "{delivered}");
    assert_eq!(consume["phases"][0]["shares"]["consumers"], 3);
    is_whole(&consume);
    let rest = json(bench(&broker, &["consume", "--patience", "200ms"]));
    assert_eq!(counts(&rest["phases"][0]).1, 1000 - delivered);
    // There is no more.
    let complaint = bench(&broker, &["consume", "-n", "5", "--patience", "200ms"]).failed();
    assert!(complaint.contains("5 messages did not come"), "{complaint}");
}

#[test]
fn batches_topics_and_channels_are_as_many_as_asked_for() {
    let broker = Broker::start();
    let args = ["both", "-n", "5000", "--batch", "20", "--window", "8", "--connections", "2"];
    let both = json(bench(&broker, &[&args[..], &["--topics", "5", "--channels", "3"]].concat()));
    assert_eq!(counts(&both["phases"][0]), (5000, 15_000, 3_000_000));
    is_whole(&both);
    // Earlier messages of the topic are not counted.
    json(bench(&broker, &["publish", "-n", "10"]));
    let both = json(bench(&broker, &["both", "-n", "100", "--size", "1KiB"]));
    assert_eq!(counts(&both["phases"][0]), (100, 100, 102_400));
    assert_eq!(both["check"]["strangers"], 10);
    is_whole(&both);
}

#[test]
fn a_backlog_is_filled_and_drained() {
    let broker = Broker::start_with(&["--memory-limit", "4MiB"]);
    let backlog = json(bench(
        &broker,
        &["backlog", "-n", "20000", "--batch", "100", "--window", "8", "--size", "1KiB"],
    ));
    assert_eq!(counts(&backlog["phases"][0]), (20_000, 0, 20_480_000));
    assert_eq!(counts(&backlog["phases"][1]), (0, 20_000, 20_480_000));
    is_whole(&backlog);
}

#[test]
fn latency_is_measured_from_the_intended_time() {
    let broker = Broker::start();
    let args = ["latency", "--rate", "500", "-n", "200", "--warm-up", "100ms"];
    let unbuffered = ["--output-buffer-size", "-1", "--output-buffer-timeout", "-1"];
    for args in [args.to_vec(), [&args[..], &unbuffered].concat()] {
        let report = json(bench(&broker, &args));
        assert_eq!(counts(&report["phases"][0]), (200, 200, 40_000));
        is_whole(&report);
        let latency = &report["latency"];
        // Those of the first 100 ms are left out.
        assert_eq!(latency["messages"], 150);
        let at = |name: &str| latency[name].as_f64().unwrap();
        assert!(
            at("p50_us") > 0.0 && at("p50_us") <= at("p99_us") && at("p99_us") <= at("max_us"),
            "{latency}"
        );
        assert!(report["phases"][0]["seconds"].as_f64().unwrap() >= 199.0 / 500.0);
    }
}

#[test]
fn what_does_nothing_is_counted_too() {
    let broker = Broker::start();
    for (workload, name) in [("topics", "create"), ("connections", "connect")] {
        let report = json(bench(&broker, &[workload, "--count", "50", "--idle", "200ms"]));
        assert_eq!(report["phases"][0]["name"], name);
        assert_eq!(report["phases"][0]["operations"], 50);
        assert!(report["phases"][1]["server_cpu_percent"].as_f64().unwrap() >= 0.0);
    }
    let listed = mq(&["topics", "--http-address", broker.http_address()]).ok();
    assert_eq!(String::from_utf8(listed).unwrap().lines().count(), 2 * 51);
}

#[test]
fn it_encrypts_and_compresses() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let [cert, key, other] = ["cert.pem", "key.pem", "other.pem"].map(|name| {
        let path = folder.path().join(name);
        path.to_str().unwrap().to_owned()
    });
    std::fs::write(&cert, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    std::fs::write(&other, stranger.cert.pem()).unwrap();
    let broker = Broker::start_with(&["--tls-cert", &cert, "--tls-key", &key, "--tls-required=tcp-https"]);
    for layers in [&["--tls-insecure"][..], &["--tls", "--tls-ca", &cert], &["--tls-insecure", "--snappy"]] {
        let args = ["both", "-n", "5000", "--batch", "20", "--size", "1KiB", "--rdy", "200"];
        let both = json(bench(&broker, &[&args[..], layers].concat()));
        assert_eq!(counts(&both["phases"][0]), (5000, 5000, 5_120_000), "{layers:?}");
        is_whole(&both);
    }
    let complaint = bench(&broker, &["publish", "--tls", "--tls-ca", &other]).failed();
    assert!(complaint.contains("certificate"), "{complaint}");

    let plain = Broker::start();
    let both = json(bench(&plain, &["both", "-n", "5000", "--snappy"]));
    assert_eq!(counts(&both["phases"][0]), (5000, 5000, 1_000_000));
    is_whole(&both);
    let complaint = bench(&plain, &["publish", "--tls-insecure"]).failed();
    assert!(complaint.contains("the server has no TLS"), "{complaint}");
}

#[test]
fn it_publishes_over_http() {
    let broker = Broker::start_with(&["--max-msg-size", "1000"]);
    for (batch, count) in [("1", 300), ("20", 400)] {
        let count = count.to_string();
        let args = ["publish", "-n", &count, "--connections", "2", "--batch", batch, "--channel", "bench"];
        let publish = json(bench(&broker, &[&args[..], &["--http", broker.http_address()]].concat()));
        assert_eq!(counts(&publish["phases"][0]).0.to_string(), count);
        let consume = json(bench(&broker, &["consume", "-n", &count]));
        is_whole(&consume);
        assert_eq!(consume["check"]["strangers"], 0);
    }
    let args = ["publish", "-n", "1", "--size", "2000", "--http", broker.http_address()];
    let complaint = bench(&broker, &args).failed();
    assert!(complaint.contains("HTTP 413"), "{complaint}");
    let complaint = bench(&broker, &["publish", "--http", broker.http_address(), "--window", "2"]).failed();
    assert!(complaint.contains("--window"), "{complaint}");
}

#[test]
fn an_interrupted_run_prints_what_it_has() {
    let broker = Broker::start();
    let args = ["bench", "latency", "--rate", "1000", "--warm-up", "0s", "--duration", "1h", "--json"];
    let load = start(&[&args[..], &["--tcp-address", broker.address()]].concat());
    let list = ["topics", "--http-address", broker.http_address()];
    until("the load to begin", || {
        String::from_utf8(mq(&list).ok()).unwrap().contains("clients 1").then_some(())
    });
    // Published and finished: some are in the figures.
    let stat = ["stat", "--once", "--json", "--http-address", broker.http_address()];
    until("some messages", || {
        let row: Value = serde_json::from_slice(&mq(&stat).ok()).unwrap();
        (row["message_count"].as_u64().unwrap() > 100).then_some(())
    });
    signal(load.id(), 15);
    let output = load.wait_with_output().unwrap();
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && complaint.contains("interrupted"), "{}: {complaint}", output.status);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(report["latency"]["messages"].as_u64().unwrap() > 100, "{report}");
    is_whole(&report);
    // Without --pid the process that listens there is measured.
    assert!(report["phases"][0]["server"]["rss_bytes"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn what_is_wrong_is_said() {
    let broker = Broker::start();
    for (args, word) in [
        (&["publish", "--size", "10"][..], "--size 10 is too small"),
        (&["publish", "--size", "2MiB", "-n", "1"], "E_BAD_MESSAGE"),
        (&["publish", "--pid", "4294967295"], "--pid"),
        (&["latency", "-n", "10"], "--warm-up is too long"),
        (&["publish", "--tcp-address", "127.0.0.1:1"], "is a broker running there"),
    ] {
        let args = [&["bench"], args].concat();
        let address = ["--tcp-address", broker.address()];
        let own = args.contains(&"--tcp-address");
        let complaint = mq(&if own { args } else { [&args[..], &address].concat() }).failed();
        assert!(complaint.contains(word), "{complaint}");
    }
}
