//! gRPC's Rust client over a broker that is killed, and the files that others generate their clients from.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mq_grpc::client::{
    Brokers, Consumer, ConsumerOptions, OutgoingMessage, Publisher, PublisherOptions, Receipt, Target,
};
use mq_nsq::client::Admin;
use mq_tests::{Broker, PATIENCE, mq};

const ROUNDS: usize = 4;
const BATCH: u64 = 5;

fn batch(first: u64) -> Vec<OutgoingMessage> {
    let message = |number: u64| OutgoingMessage {
        body: number.to_string().into(),
        // Sent again after a kill, it is stored once.
        dedup_id: number.to_string(),
        ..OutgoingMessage::default()
    };
    (first..first + BATCH).map(message).collect()
}

/// Publishes through all kills; gives the numbers that were acknowledged.
async fn publish(publisher: Publisher, mut stop: tokio::sync::watch::Receiver<bool>) -> BTreeSet<u64> {
    let mut acknowledged = BTreeSet::new();
    let mut waiting: Vec<(u64, Receipt)> = Vec::new();
    let mut next = 0;
    while !*stop.borrow_and_update() {
        waiting.push((next, publisher.send("load", batch(next)).await.unwrap()));
        next += BATCH;
        if next % (5 * BATCH) == 0 {
            // A steady load, not all that the machine can do: what was stored is read again at the end.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if waiting.len() >= 100 {
            let (first, receipt) = waiting.remove(0);
            receipt.await.unwrap();
            acknowledged.extend(first..first + BATCH);
        }
    }
    for (first, receipt) in waiting {
        receipt.await.unwrap();
        acknowledged.extend(first..first + BATCH);
    }
    acknowledged
}

/// The number in a message, and its offset.
async fn next(consumer: &mut Consumer) -> (u64, u64) {
    let delivery = tokio::time::timeout(PATIENCE, consumer.next()).await.unwrap().unwrap().unwrap();
    let number = std::str::from_utf8(delivery.body()).unwrap().parse().unwrap();
    let offset = delivery.message().offset;
    delivery.finish();
    (number, offset)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_client_loses_nothing_acknowledged_when_its_broker_is_killed_or_restarted() {
    let mut broker = Broker::start();
    let target = Target::new(broker.grpc_address()).unwrap();
    let consumer = |channel: &str, options: ConsumerOptions| {
        Consumer::new(Brokers::Fixed(vec![target.clone()]), "load", channel, options)
    };
    // Both channels are there before the first message. The second keeps all of them until the end.
    let http = Admin::new(broker.http_address(), None);
    http.post("/topic/create", &[("topic", "load")]).await.unwrap();
    for channel in ["c", "k"] {
        http.post("/channel/create", &[("topic", "load"), ("channel", channel)]).await.unwrap();
    }
    let mut busy = consumer("c", ConsumerOptions::default());
    let publisher = Publisher::new(vec![target.clone()], PublisherOptions::default());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let publishing = tokio::spawn(publish(publisher, stopped));
    let seen = Arc::new(Mutex::new(BTreeSet::new()));
    let sink = Arc::clone(&seen);
    tokio::spawn(async move {
        loop {
            let (number, _) = next(&mut busy).await;
            sink.lock().unwrap().insert(number);
        }
    });
    for round in 0..ROUNDS {
        // The end comes at a time nobody knows: that is the test, not a condition waited for.
        tokio::time::sleep(Duration::from_millis(100 + fastrand::u64(..300))).await;
        if round % 2 == 0 {
            broker.kill();
        } else {
            broker.stop();
        }
        broker.restart();
    }
    stop.send_replace(true);
    let acknowledged = tokio::time::timeout(PATIENCE, publishing).await.unwrap().unwrap();
    assert!(acknowledged.len() > 100, "only {} were acknowledged", acknowledged.len());
    let lost = || acknowledged.difference(&seen.lock().unwrap()).count();
    let looking = async {
        while lost() > 0 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let all = tokio::time::timeout(PATIENCE, looking).await;
    assert!(all.is_ok(), "lost {} of {}", lost(), acknowledged.len());
    // What was sent again is stored once: no number has two offsets.
    let mut keeper = consumer("k", ConsumerOptions::default());
    let mut offsets = BTreeMap::new();
    let mut missing = acknowledged.clone();
    while !missing.is_empty() {
        let Ok((number, offset)) = tokio::time::timeout(PATIENCE / 2, next(&mut keeper)).await else {
            panic!("{} of {} do not come, such as {:?}", missing.len(), acknowledged.len(), missing.first());
        };
        missing.remove(&number);
        let before = offsets.insert(number, offset);
        assert!(before.is_none_or(|before| before == offset), "{number} is stored twice");
    }
    println!("{} acknowledged over {ROUNDS} kills and restarts", acknowledged.len());
}

#[test]
fn the_protos_are_printed_and_written() {
    let printed = String::from_utf8(mq(&["proto"]).ok()).unwrap();
    assert!(printed.contains("service PublishService") && printed.contains("// ---- mq/v1/discovery.proto"));
    let folder = tempfile::tempdir().unwrap();
    mq(&["proto", "--out", folder.path().to_str().unwrap()]).ok();
    let written = std::fs::read_to_string(folder.path().join("mq/v1/subscribe.proto")).unwrap();
    assert!(written.contains("service SubscribeService"));
}
