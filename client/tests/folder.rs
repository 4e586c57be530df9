//! A folder as a broker in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

use std::time::Duration;

use libmq::{Error, SubscribeOptions};
use tempfile::TempDir;

#[test]
fn a_folder_is_open_once_and_the_error_names_it_and_its_process() {
    let folder = TempDir::new().unwrap();
    let url = folder.path().display().to_string();
    let client = libmq::connect(&url).unwrap();
    let error = libmq::connect(&url).unwrap_err();
    assert_eq!(error, Error::Locked { folder: folder.path().into(), pid: Some(std::process::id()) });
    assert!(error.retry() && error.to_string().contains(&url), "{error}");
    drop(client);
    libmq::connect(&url).unwrap();
}

#[test]
fn what_was_sent_is_there_after_the_client_is_gone() {
    let folder = TempDir::new().unwrap();
    let url = format!("mq:{}?durability=sync", folder.path().display());
    let client = libmq::connect(&url).unwrap();
    client.publish("t", "1").unwrap();
    (2..=100).for_each(|number| drop(client.send("t", number.to_string()).unwrap()));
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    subscription.next(Duration::from_secs(30)).unwrap().unwrap().finish();
    drop((client, subscription));

    let client = libmq::connect(&url).unwrap();
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    for number in 2..=100 {
        let message = subscription.next(Duration::from_secs(30)).unwrap().unwrap();
        assert_eq!(message.body(), number.to_string().as_bytes());
        message.finish();
    }
}

#[test]
fn a_broker_in_memory_is_nobody_elses_and_leaves_nothing() {
    let first = libmq::connect("mq:memory").unwrap();
    let second = libmq::connect("mq:memory").unwrap();
    first.publish("t", "x").unwrap();
    let subscription = second.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    assert!(subscription.next(Duration::ZERO).unwrap().is_none());
}
