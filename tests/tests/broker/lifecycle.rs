//! Start, stop, and start again.

use std::net::TcpStream;
use std::time::Instant;

use mq_tests::{Broker, binary, mq};

use crate::clients::{connect, create_channel, next, subscribe, topic};

#[test]
fn a_ready_broker_prints_its_address_and_two_lines_that_work() {
    let broker = Broker::start();
    assert!(broker.stdout_line().starts_with("data /"));
    let (publish, consume) = (broker.stdout_line(), broker.stdout_line());
    let sh = |line: &str| std::process::Command::new("sh").args(["-c", line]).output().unwrap();
    let published = sh(&publish);
    assert!(published.status.success(), "{publish}: {published:?}");
    assert_eq!(sh(&format!("{consume} -n 1")).stdout, b"hello\n", "{consume}");
}

#[test]
fn a_folder_open_elsewhere_is_refused() {
    let broker = Broker::start();
    let folder = broker.data_path();
    let second =
        mq(&["serve", "--tcp-address", "127.0.0.1:0", "--data-path", folder.to_str().unwrap()]).failed();
    assert!(second.contains("--data-path") && second.contains(folder.to_str().unwrap()), "{second}");
}

#[test]
fn a_port_in_use_is_refused_by_name() {
    let broker = Broker::start();
    let folder = tempfile::tempdir().unwrap();
    let second =
        mq(&["serve", "-tcp-address", broker.address(), "-data-path", folder.path().to_str().unwrap()])
            .failed();
    assert!(second.contains("--tcp-address") && second.contains("port"), "{second}");
}

#[test]
fn a_wrong_flag_ends_the_start_with_the_right_form() {
    let error = mq(&["serve", "--memory-limit", "lots"]).failed();
    assert!(error.contains("--memory-limit lots") && error.contains("MiB"), "{error}");
    assert!(mq(&["serve", "-no-such-flag"]).failed().contains("--no-such-flag"));
}

#[tokio::test]
async fn after_a_kill_the_same_port_and_folder_serve_at_once() {
    let mut broker = Broker::start();
    create_channel(&broker, "t", "c").await;
    let mut publisher = connect(&broker).await;
    publisher.publish(&topic("t"), b"kept").await.unwrap();
    publisher.flush().await.unwrap();
    // With connections open, whose sockets would hold the port.
    let _held = TcpStream::connect(broker.address()).unwrap();
    broker.kill();
    broker.restart();
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    assert_eq!(next(&mut consumer).await.body, "kept");
}

#[tokio::test]
async fn a_clean_stop_keeps_what_is_only_in_memory() {
    let mut broker = Broker::start_with(&["--durability", "memory"]);
    create_channel(&broker, "t", "c").await;
    let mut publisher = connect(&broker).await;
    for n in 0..1_000_u32 {
        publisher.publish(&topic("t"), n.to_string().as_bytes()).await.unwrap();
    }
    publisher.flush().await.unwrap();
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    for n in 0..500_u32 {
        let message = next(&mut consumer).await;
        assert_eq!(message.body, n.to_string());
        consumer.finish(message.id);
    }
    consumer.close().await.unwrap();
    broker.stop();
    broker.restart();
    let mut consumer = subscribe(&broker, "t", "c", 1).await;
    for n in 500..1_000_u32 {
        let message = next(&mut consumer).await;
        assert_eq!(message.body, n.to_string());
        consumer.finish(message.id);
    }
    assert!(crate::clients::is_quiet(&mut consumer).await);
}

#[test]
fn under_nsqds_name_it_takes_nsqds_flags() {
    let folder = tempfile::tempdir().unwrap();
    let link = folder.path().join("nsqd");
    std::os::unix::fs::symlink(binary(), &link).unwrap();
    let version = std::process::Command::new(&link).arg("-version").output().unwrap();
    assert!(version.status.success() && version.stdout.starts_with(b"nsqd v"), "{version:?}");
    let wrong = std::process::Command::new(&link).arg("-sync-every=often").output().unwrap();
    let complaint = String::from_utf8(wrong.stderr).unwrap();
    assert!(complaint.starts_with("nsqd: --sync-every often"), "{complaint}");
}

#[test]
fn how_long_a_start_takes() {
    let asked = Instant::now();
    let _broker = Broker::start();
    // Printed, not asserted: a time on a loaded machine proves nothing.
    println!("ready after {:?}", asked.elapsed());
}
