//! Power is lost under a running server: its threads, its sessions and its clients are real, its disk keeps
//! what an unkind one would keep. Whatever was acknowledged by then is held against what the next start
//! delivers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Helpers of tests are tests too.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mq_core::testkit::nobody;
use mq_core::testkit::{CrashDisk, Replay};
use mq_core::{
    Broker, ChannelName, Durability, MessageId, Options, Pulled, StoreSizes, SubscribeOptions, SystemClock,
    TopicName, Wake,
};
use mq_nsq::client::{Connection, Identify};
use mq_nsq::server::{Config, Server};
use tokio::sync::oneshot;

const PUBLISHERS: u64 = 4;
const BATCH: u64 = 5;
const BATCHES: u64 = 200;
/// Small, so that files are filled, cleaned and removed while the server runs.
const SIZES: StoreSizes =
    StoreSizes { file_bytes: 32 << 10, chunk_bytes: 4 << 10, read_bytes: 4 << 10, blocks: 64 };
/// Number of moments of a run that are tried.
const CUTS: usize = 200;

fn topic() -> TopicName {
    TopicName::parse("load").unwrap()
}

fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name).unwrap()
}

fn options() -> Options {
    Options { durability: Durability::Sync, memory_limit: 4 << 20, ..Options::default() }
}

/// Number of disk events when the publisher, or the consumer, had a message, by message.
type Ledger = BTreeMap<u64, usize>;

/// Publishes numbers from `first` on, each batch after the one before was acknowledged.
async fn publish(address: String, disk: CrashDisk, first: u64) -> Ledger {
    let mut connection = Connection::connect(&address, Identify::default()).await.unwrap();
    let mut ledger = Ledger::new();
    for batch in 0..BATCHES {
        let numbers = first + batch * BATCH..first + (batch + 1) * BATCH;
        let bodies: Vec<String> = numbers.clone().map(|number| format!("{number:0100}")).collect();
        connection.publish_batch(&topic(), &bodies).await.unwrap();
        connection.flush().await.unwrap();
        ledger.extend(numbers.map(|number| (number, disk.events())));
    }
    ledger
}

/// Consumes `count` messages.
async fn consume(address: String, disk: CrashDisk, count: usize) -> Ledger {
    let mut connection = Connection::connect(&address, Identify::default()).await.unwrap();
    connection.subscribe(&topic(), &channel("fast"), 50).await.unwrap();
    let mut ledger = Ledger::new();
    while ledger.len() < count {
        let message = connection.next().await.unwrap().unwrap();
        let number = std::str::from_utf8(&message.body).unwrap().parse().unwrap();
        ledger.entry(number).or_insert(disk.events());
        connection.finish(message.id);
    }
    ledger
}

/// All that a channel delivers: numbers in order, with their ids.
fn drain(broker: &Broker, name: &str) -> Vec<(u64, MessageId)> {
    let wake: Arc<dyn Wake> = nobody();
    let (channel, _) = broker.topic(&topic()).unwrap().channel(&channel(name), &wake).unwrap();
    let options = SubscribeOptions { msg_timeout: Duration::from_secs(60), sample_rate: 0 };
    let mut subscription = channel.subscribe(options, wake).unwrap();
    subscription.acks().set_credit(u32::MAX);
    let mut all = Vec::new();
    let mut take = |m: &mq_core::Delivery<'_>| {
        all.push((std::str::from_utf8(m.body).unwrap().parse().unwrap(), m.id));
    };
    while subscription.pull(1 << 20, &mut take) == Pulled::More {}
    all
}

/// Compares the messages there are after a loss of power at this moment with the promises made by then.
fn check(replay: &Replay, seed: u64, acknowledged: &Ledger, consumed: &Ledger) {
    let event = replay.event();
    let broker =
        Broker::open_on(Arc::new(replay.power_image(seed)), Arc::new(SystemClock::new()), SIZES, options())
            .unwrap();
    assert_eq!(broker.damage(), [] as [String; 0], "event {event}");
    let promised = || acknowledged.iter().filter(|(_, by)| **by <= event).map(|(number, _)| *number);
    for name in ["fast", "slow"] {
        let got = drain(&broker, name);
        let ids: HashMap<u64, MessageId> = got.iter().copied().collect();
        assert_eq!(ids.len(), got.len(), "event {event}: {name} has a message twice");
        for publisher in 0..PUBLISHERS {
            let own = got.iter().map(|(number, _)| number).filter(|n| *n / (BATCHES * BATCH) == publisher);
            assert!(own.is_sorted(), "event {event}: {name} is out of order");
        }
        let had = |number: &u64| name == "fast" && consumed.get(number).is_some_and(|by| *by <= event);
        let lost: Vec<u64> = promised().filter(|number| !ids.contains_key(number) && !had(number)).collect();
        assert!(lost.is_empty(), "event {event}: {name} lost {lost:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_at_sync_survives_a_loss_of_power() {
    let disk = CrashDisk::new();
    let broker =
        Broker::open_on(Arc::new(disk.clone()), Arc::new(SystemClock::new()), SIZES, options()).unwrap();
    broker.start().unwrap();
    let wake: Arc<dyn Wake> = nobody();
    for name in ["fast", "slow"] {
        let _ = broker.topic(&topic()).unwrap().channel(&channel(name), &wake).unwrap();
    }
    let config = Config { tcp_address: "127.0.0.1:0".into(), ..Config::default() };
    let server = Server::bind(config, broker.clone()).await.unwrap();
    let address = server.local_addr().to_string();
    let (stop, stopped) = oneshot::channel::<()>();
    let server = tokio::spawn(server.run(async {
        let _ = stopped.await;
    }));

    let all = PUBLISHERS * BATCHES * BATCH;
    let consumer = tokio::spawn(consume(address.clone(), disk.clone(), all as usize));
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|n| tokio::spawn(publish(address.clone(), disk.clone(), n * BATCHES * BATCH)))
        .collect();
    let mut acknowledged = Ledger::new();
    for publisher in publishers {
        acknowledged.extend(publisher.await.unwrap());
    }
    let consumed = consumer.await.unwrap();
    let events = disk.events();
    stop.send(()).unwrap();
    server.await.unwrap();
    broker.close().unwrap();
    assert_eq!((acknowledged.len() as u64, consumed.len() as u64), (all, all));

    // Each write is worth an fsync at most, but for the few in rhythm and those of new files.
    let count = |what: &str| disk.history().iter().filter(|line| line.starts_with(what)).count();
    let (syncs, writes) = (count("sync"), count("write"));
    assert!(syncs <= 2 * writes + 200, "{syncs} fsyncs for {writes} writes");
    let seed = fastrand::u64(..);
    println!("{events} events, seed {seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut cuts: Vec<usize> = (0..CUTS).map(|_| random.usize(1..=events)).collect();
    cuts.sort_unstable();
    let mut replay = disk.replay();
    for cut in cuts {
        while replay.event() < cut {
            assert!(replay.step());
        }
        check(&replay, random.u64(..), &acknowledged, &consumed);
    }
}
