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
