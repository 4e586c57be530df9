//! The arrows between the crates: what may depend on what.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::process::Command;

/// The names of the crates that a build of `package` with these arguments links.
fn tree(package: &str, arguments: &[&str]) -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args(["tree", "--locked", "--prefix", "none", "--format", "{p}", "--package", package])
        .args(arguments)
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().filter_map(|line| line.split(' ').next()).map(str::to_owned).collect()
}

/// Crates of this workspace among them, without `package` itself.
fn ours(package: &str) -> Vec<String> {
    let crates = tree(package, &["--edges", "normal,build", "--all-features"]);
    crates.into_iter().filter(|name| name.starts_with("mq") && name != package).collect()
}

#[test]
fn each_crate_sees_only_those_below_it() {
    assert_eq!(ours("mq-core"), [""; 0]);
    assert_eq!(ours("mq-net"), ["mq-core"]);
    assert_eq!(ours("mq-nsq"), ["mq-core", "mq-net"]);
    assert_eq!(ours("mq-grpc"), ["mq-core", "mq-net"]);
    assert_eq!(ours("mq-admin"), ["mq-core", "mq-net"]);
    let client = tree("libmq", &["--edges", "normal,build"]);
    assert!(!client.contains("mq-server") && !client.contains("mq-grpc"), "{client:?}");
    // To serve a broker of the program takes what serves.
    assert_eq!(ours("libmq"), ["mq-admin", "mq-core", "mq-grpc", "mq-net", "mq-nsq", "mq-server"]);
}

#[test]
fn a_grpc_client_alone_builds_nothing_of_a_server() {
    let crates = tree("mq-grpc", &["--no-default-features", "--features", "client", "--edges", "normal"]);
    assert!(crates.contains("tonic"), "{crates:?}");
    for server in ["mq-core", "mq-net", "mq-nsq", "regex", "hickory-resolver", "prometheus-client", "snap"] {
        assert!(!crates.contains(server), "{server} is among {crates:?}");
    }
}
