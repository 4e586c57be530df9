//! `kill -9` under load, held against a ledger of what was acknowledged.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use mq_core::MessageId;
use mq_nsq::client::Connection;
use mq_tests::{Broker, PATIENCE};

use crate::clients::{connect, create_channel, subscribe, topic};

const ROUNDS: usize = 4;
const BATCH: u64 = 20;

/// Publishes rising numbers in batches until the broker dies. Gives the numbers that were acknowledged, and the next
/// one never sent.
async fn publish(mut connection: Connection, first: u64) -> (BTreeSet<u64>, u64) {
    let mut next = first;
    loop {
        let bodies: Vec<String> = (next..next + BATCH).map(|n| n.to_string()).collect();
        next += BATCH;
        if connection.publish_batch(&topic("load"), &bodies).await.is_err() {
            break;
        }
    }
    // Answers come in the order of the commands.
    ((first..first + connection.acknowledged()).collect(), next)
}

/// What one channel has handed out, over all rounds.
#[derive(Default)]
struct Channel {
    ids: HashSet<MessageId>,
    /// By first delivery.
    numbers: Vec<u64>,
}

impl Channel {
    /// Consumes until the broker dies or nothing has come for a while.
    async fn consume(&mut self, mut connection: Connection, patience: Duration) {
        while let Ok(Ok(Some(message))) = tokio::time::timeout(patience, connection.next()).await {
            connection.finish(message.id);
            if self.ids.insert(message.id) {
                self.numbers.push(std::str::from_utf8(&message.body).unwrap().parse().unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_in_kills_under_load() {
    const KILL_AFTER_MAX_MS: u64 = 400;
    let mut broker = Broker::start();
    for channel in ["fast", "slow"] {
        create_channel(&broker, "load", channel).await;
    }
    let mut acknowledged = BTreeSet::new();
    let mut number = 0;
    let (mut fast, mut slow) = (Channel::default(), Channel::default());
    for _ in 0..ROUNDS {
        let publisher = tokio::spawn(publish(connect(&broker).await, number));
        let consumer = subscribe(&broker, "load", "fast", 200).await;
        let mut consuming = fast;
        let consumer = tokio::spawn(async move {
            consuming.consume(consumer, PATIENCE).await;
            consuming
        });
        // The kill comes at a time nobody knows: that is the test, not a condition waited for.
        tokio::time::sleep(Duration::from_millis(100 + fastrand::u64(..KILL_AFTER_MAX_MS))).await;
        broker.kill();
        fast = consumer.await.unwrap();
        let (answered, next) = publisher.await.unwrap();
        assert!(!answered.is_empty(), "nothing was acknowledged in this round");
        acknowledged.extend(answered);
        number = next;
        broker.restart();
    }
    for (name, channel) in [("fast", &mut fast), ("slow", &mut slow)] {
        let consumer = subscribe(&broker, "load", name, 200).await;
        channel.consume(consumer, Duration::from_secs(1)).await;
        let got: BTreeSet<u64> = channel.numbers.iter().copied().collect();
        let lost: Vec<_> = acknowledged.difference(&got).collect();
        assert!(lost.is_empty(), "{name} lost {} of {}: {:?}", lost.len(), acknowledged.len(), lost.first());
        assert!(channel.numbers.is_sorted(), "{name} is out of order");
        assert_eq!(got.len(), channel.numbers.len(), "{name}: one message under two ids");
    }
}
