//! The examples over libmq, on a folder.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Write;
use std::process::{Command, Stdio};

#[test]
fn a_worker_gets_what_a_publisher_left_in_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let mut publisher = Command::new(env!("CARGO_BIN_EXE_client_publisher"))
        .args(["--url", "./data", "--topic", "orders"])
        .current_dir(&folder)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    publisher.stdin.take().unwrap().write_all(b"one pizza\n\ntwo pizzas\n").unwrap();
    assert!(publisher.wait().unwrap().success());

    // Two workers, one after the other: the second gets what the first left.
    for want in ["one pizza\n", "two pizzas\n"] {
        let run = Command::new(env!("CARGO_BIN_EXE_client_worker"))
            .args(["--url", "./data", "--topic", "orders", "--channel", "billing", "--count", "1"])
            .current_dir(&folder)
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&run.stderr);
        assert!(run.status.success(), "{errors}");
        assert_eq!(String::from_utf8_lossy(&run.stdout), want, "{errors}");
    }
}

#[test]
fn a_worker_in_the_manner_of_go_nsq_handles_what_a_broker_has_and_gives_up_what_is_no_text() {
    let folder = tempfile::tempdir().unwrap();
    let broker = libmq::connect(folder.path().join("data").to_str().unwrap()).unwrap();
    let served = broker.serve(["--tcp-address=127.0.0.1:0", "--http-address=", "--grpc-address="]).unwrap();
    broker.publish_many("orders", ["one pizza", "two pizzas"]).unwrap();
    broker.publish("orders", &b"\xff"[..]).unwrap();
    let run = Command::new(env!("CARGO_BIN_EXE_nsq_worker"))
        .args(["--nsqd", &served.tcp, "--topic", "orders", "--channel", "billing"])
        .args(["--count", "3", "--threads", "1"])
        .args([
            "--set",
            "max-attempts=1",
            "--set",
            "max_backoff_duration=0",
            "--set",
            "default_requeue_delay=0",
        ])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&run.stderr);
    assert!(run.status.success(), "{errors}");
    assert_eq!(String::from_utf8_lossy(&run.stdout), "one pizza\ntwo pizzas\n", "{errors}");
    assert!(errors.contains("given up after 1 attempts"), "{errors}");
}
