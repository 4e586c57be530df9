//! A folder as a broker in this process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

use std::time::Duration;

use libmq::{Error, IntoMessage, NewMessage, Outgoing, SubscribeOptions};
use tempfile::TempDir;

/// Longest wait for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_folder_is_open_once_and_the_error_names_it_and_its_process() {
    let folder = TempDir::new().unwrap();
    let url = folder.path().display().to_string();
    let client = libmq::connect(&url).unwrap();
    let error = libmq::connect(&url).unwrap_err();
    assert_eq!(error, Error::Locked { folder: folder.path().into(), pid: Some(std::process::id()) });
    assert!(error.retry() && error.to_string().contains(&url), "{error}");
    drop(client);
    let client = libmq::connect(&url).unwrap();
    client.close(Duration::ZERO).unwrap();
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
fn a_clock_that_is_turned_past_the_timeout_counts_no_attempt_of_what_nobody_took() {
    let client = libmq::connect("mq:memory?test_clock=true").unwrap();
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    client.publish_many("t", ["taken", "waits", "waits too"]).unwrap();
    let taken = subscription.next(PATIENCE).unwrap().unwrap();
    client.advance(Duration::from_secs(61)).unwrap();
    let messages = (0..3).map(|_| subscription.next(PATIENCE).unwrap().unwrap());
    let mut again: Vec<_> = messages.map(|message| (message.body().clone(), message.attempts())).collect();
    again.sort();
    let expected = [("taken", 2), ("waits", 1), ("waits too", 1)];
    assert_eq!(again, expected.map(|(body, attempts)| (body.into(), attempts)));
    assert!(!taken.is_answered());
}

#[test]
fn a_test_clock_moves_delays_and_timeouts_and_nothing_else_does() {
    let client = libmq::connect("mq:memory?test_clock=true").unwrap();
    let hour = Duration::from_secs(3600);
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    let next = || subscription.next(Duration::ZERO).unwrap();
    client.publish("t", NewMessage::new("later").delay(hour)).unwrap();
    for _ in 0..59 {
        client.advance(Duration::from_secs(60)).unwrap();
        assert!(next().is_none());
    }
    client.advance(Duration::from_secs(60)).unwrap();
    let timed_out = next().expect("it is due");
    client.advance(Duration::from_secs(59)).unwrap();
    assert!(next().is_none());
    timed_out.touch();
    client.advance(Duration::from_secs(59)).unwrap();
    assert!(next().is_none());
    client.advance(Duration::from_secs(1)).unwrap();
    let again = next().expect("it timed out");
    assert_eq!(again.attempts(), 2);
    again.requeue(hour);
    client.advance(hour).unwrap();
    next().expect("its delay is over").finish();
    timed_out.finish();
    assert_eq!(subscription.failures().len(), 1);
    client.close(hour).unwrap();

    for url in ["mq:memory", "mq://127.0.0.1:1?test_clock=true"] {
        let error = libmq::connect(url).unwrap().advance(hour).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    }
    let folder = TempDir::new().unwrap();
    let error = libmq::connect(&format!("{}?test_clock=true", folder.path().display())).unwrap_err();
    assert!(matches!(error, Error::Invalid(_)), "{error}");
}

#[test]
fn a_folder_that_is_gone_holds_up_no_publish_and_no_close() {
    let folder = TempDir::new().unwrap();
    let (here, gone) = (folder.path().join("data"), folder.path().join("gone"));
    let url = format!("{}?durability=sync&publish_timeout=200ms", here.display());
    let client = libmq::connect(&url).unwrap();
    client.publish("t", "1").unwrap();
    std::fs::rename(&here, &gone).unwrap();
    // Refused once it is noticed; before that nobody can say.
    let error = client.publish("t", "2").unwrap_err();
    assert!(matches!(error, Error::Unknown { .. } | Error::Refused { .. }), "{error:?}");
    let mut asked = 0;
    let mut interrupted = || {
        asked += 1;
        true
    };
    let third = Outgoing::fill(1, |batch| "3".append_to(batch));
    let error = client.publish_encoded("t", third, &mut interrupted).unwrap_err();
    assert!(matches!(error, Error::Unknown { .. } | Error::Refused { .. }), "{error:?}");
    let sent = client.send("t", "4");
    let closed = client.close(Duration::from_millis(200));
    assert!(closed.is_err() || sent.is_err(), "{closed:?}");
    if let Ok(sent) = sent {
        assert!(sent.wait(Duration::ZERO).is_err());
    }
}

#[test]
fn a_subscription_goes_on_when_its_client_is_dropped_and_frees_the_folder_at_its_end() {
    let folder = TempDir::new().unwrap();
    let url = folder.path().display().to_string();
    let client = libmq::connect(&url).unwrap();
    client.send("t", "sent").unwrap();
    let subscription = client.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    drop(client);
    let message = subscription.next(Duration::from_secs(30)).unwrap().expect("it was sent");
    message.finish();
    assert!(matches!(libmq::connect(&url), Err(Error::Locked { .. })));
    drop((message, subscription));
    libmq::connect(&url).unwrap();
}

#[test]
fn an_empty_id_is_refused_since_many_messages_would_have_it() {
    let client = libmq::connect("mq:memory").unwrap();
    let error = client.publish("t", NewMessage::new("x").id("")).unwrap_err();
    assert!(error.to_string().contains("leave it out"), "{error}");
}

#[test]
fn a_broker_in_memory_is_nobody_elses_and_leaves_nothing() {
    let first = libmq::connect("mq:memory").unwrap();
    let second = libmq::connect("mq:memory").unwrap();
    first.publish("t", "x").unwrap();
    let subscription = second.subscribe("t", "c", SubscribeOptions::default()).unwrap();
    assert!(subscription.next(Duration::ZERO).unwrap().is_none());
}

#[test]
fn a_publisher_that_is_quicker_than_the_broker_writes_waits_for_room() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("{}?durability=memory&memory_limit=4194304", folder.path().display());
    for url in ["mq:memory?memory_limit=4194304", &url] {
        let client = libmq::connect(url).unwrap();
        for _ in 0..320 {
            client.publish("t", vec![b'x'; 64 << 10]).unwrap();
        }
        let pending: Vec<_> = (0..320).map(|_| client.send("t", vec![b'x'; 64 << 10]).unwrap()).collect();
        assert_eq!(client.flush(PATIENCE), Ok(0));
        pending.iter().for_each(|sent| drop(sent.wait(PATIENCE).unwrap()));
        assert_eq!(client.stats().unwrap().topics[0].depth, 640);
    }
}
