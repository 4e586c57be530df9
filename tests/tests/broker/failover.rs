//! One of three brokers killed and started again under a publisher that retries by id, and under a consumer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use libmq::{Client, Config, Error, NewMessage, SubscribeOptions, Subscription};
use mq_tests::{Broker, PATIENCE};

const KILLS: usize = 6;

/// Publishes numbers with ids until it is stopped. Gives those that are acknowledged.
fn publish(
    client: &Client,
    topic: &str,
    stopped: &AtomicBool,
    acknowledged_now: &AtomicUsize,
) -> BTreeSet<u64> {
    let mut acknowledged = BTreeSet::new();
    for first in (0..).step_by(10) {
        // Several at once, so that a kill finds some sent and some not.
        let numbers = first..first + 10;
        let send = |n: u64| client.send(topic, NewMessage::new(n.to_string()).id(n.to_string()));
        let sent: Vec<_> = numbers.clone().map(|n| send(n).unwrap()).collect();
        for (number, sent) in numbers.zip(sent) {
            match sent.wait(PATIENCE) {
                Ok(_) => drop(acknowledged.insert(number)),
                Err(Error::Unknown { .. }) => {}
                Err(error) => panic!("{number}: {error}"),
            }
        }
        acknowledged_now.store(acknowledged.len(), Ordering::Release);
        if stopped.load(Ordering::Acquire) {
            break;
        }
    }
    acknowledged
}

/// Places, by broker and offset, at which each number was found.
#[derive(Default)]
struct Found(BTreeMap<u64, BTreeSet<(String, u64)>>);

impl Found {
    fn take(&mut self, subscription: &Subscription) {
        let message = subscription.next(PATIENCE).unwrap().expect("a message comes");
        let number = std::str::from_utf8(message.body()).unwrap().parse().unwrap();
        let place = (message.broker().to_owned(), message.offset().unwrap());
        self.0.entry(number).or_default().insert(place);
        message.finish();
    }

    fn has(&self, numbers: &BTreeSet<u64>) -> bool {
        numbers.iter().all(|number| self.0.contains_key(number))
    }
}

#[test]
fn an_id_retried_over_kills_with_failover_is_stored_once_and_nothing_acknowledged_is_lost() {
    let mut brokers: Vec<_> = (0..3).map(|_| Broker::start()).collect();
    let addresses: Vec<_> = brokers.iter().map(|broker| broker.address().to_owned()).collect();
    for publish_to in ["one", "all"] {
        let config = Config { max_reconnect_delay: Duration::from_millis(50), ..Config::default() };
        let url = format!("mq://{}?publish_to={publish_to}", addresses.join(","));
        let client = libmq::connect_with(&url, config).unwrap();
        let subscription = client.subscribe(publish_to, "c", SubscribeOptions::default()).unwrap();
        let (stopped, now) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let publisher = std::thread::spawn({
            let (client, stopped, now) = (client.clone(), Arc::clone(&stopped), Arc::clone(&now));
            move || publish(&client, publish_to, &stopped, &now)
        });
        let mut found = Found::default();
        for kill in 0..KILLS {
            let (published, consumed) = (now.load(Ordering::Acquire), found.0.len());
            while now.load(Ordering::Acquire) < published + 100 || found.0.len() < consumed + 100 {
                found.take(&subscription);
            }
            let broker = &mut brokers[kill % 3];
            broker.kill();
            broker.restart();
        }
        stopped.store(true, Ordering::Release);
        let acknowledged = publisher.join().unwrap();
        while !found.has(&acknowledged) {
            found.take(&subscription);
        }
        let twice: Vec<_> = found.0.iter().filter(|(_, places)| places.len() > 1).collect();
        assert!(twice.is_empty(), "stored more than once: {twice:?}");
        client.close(PATIENCE).unwrap();
    }
}
