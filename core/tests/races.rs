//! Topics and channels that come and go while others use them, many of them over a restart, and a clock that
//! is set back.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use mq_core::testkit::{
    self, Crash, CrashDisk, Disk, SECOND, WALL, channel_name as name, finish, nobody, pull, texts as bodies,
    topic, try_subscribe,
};
use mq_core::{
    Attributes, Broker, Clock, Durability, Error, ErrorKind, ManualClock, MessageId, Options, Outcome,
    Pulled, Step, StoreSizes, Subscription, Ticket, Topic, TopicName,
};

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 64 << 10, chunk_bytes: 16 << 10, read_bytes: 16 << 10, blocks: 64 };

fn options(durability: Durability) -> Options {
    Options { durability, ..testkit::options() }
}

fn open(disk: &CrashDisk, clock: &Arc<ManualClock>, durability: Durability) -> Broker {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    Broker::open_on(disk, clock.clone(), SIZES, options(durability)).unwrap()
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(WALL))
}

fn publish(
    broker: &Broker,
    topic: &Topic,
    attributes: &Attributes<'_>,
    body: &[u8],
) -> Result<Ticket, Error> {
    let mut batch = topic.batch();
    batch.push(attributes, body).unwrap();
    let ticket = topic.publish(batch, &nobody())?.ticket;
    broker.commit();
    Ok(ticket)
}

fn subscribe(topic: &Topic, channel: &str) -> Result<Subscription, Error> {
    try_subscribe(topic, channel, 10_000, nobody())
}

/// Runs `work`, and fails on a deadlock: the process stands still before `work` has ended. How long it takes
/// on the wall says nothing, since others may keep the machine busy.
fn without_deadlock(work: impl FnOnce() + Send + 'static) {
    const LOOK: Duration = Duration::from_secs(60);
    /// More than timers of idle brokers use between two looks, and little enough for a process that hardly
    /// gets a turn.
    const CPU_MIN: Duration = Duration::from_millis(100);
    let (done, ended) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        work();
        // Whoever waits may have given up.
        let _ = done.send(());
    });
    let mut used = cpu_time();
    while ended.recv_timeout(LOOK) == Err(mpsc::RecvTimeoutError::Timeout) {
        let now = cpu_time();
        assert!(now - used >= CPU_MIN, "{:?} of processor time in {LOOK:?}: a deadlock", now - used);
        used = now;
    }
    worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

/// Processor time of this process so far.
fn cpu_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(") ").unwrap();
    // User and system time, in hundredths of a second.
    let ticks: u64 = fields.split(' ').skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(10 * ticks)
}

const TOPICS: [&str; 3] = ["a", "b", "c"];
const CHANNELS: [&str; 3] = ["x", "y", "z#ephemeral"];

/// Asserts that a call which comes late is answered as it may be, and by nothing else.
fn late<T>(result: Result<T, Error>) -> Option<T> {
    match result {
        Ok(value) => Some(value),
        Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::NotFound) => None,
        Err(error) => panic!("{error:?}"),
    }
}

/// Deletes and re-creates topics and channels.
fn churn(broker: &Broker, random: &mut fastrand::Rng) {
    let topic_name = TopicName::parse(random.choice(TOPICS).unwrap()).unwrap();
    let channel = name(random.choice(CHANNELS).unwrap());
    match random.u8(..10) {
        0 => _ = late(broker.delete_topic(&topic_name)),
        1..4 => {
            let found = broker.find_topic(&topic_name);
            _ = found.and_then(|topic| late(topic.delete_channel(&channel)));
        }
        4 => {
            let level = *random.choice(&Durability::ALL).unwrap();
            _ = late(broker.topic(&topic_name).unwrap().update(move |s| s.durability = level));
        }
        5 => _ = late(broker.topic(&topic_name).unwrap().empty()),
        6 => {
            let found = broker.find_topic(&topic_name).and_then(|topic| topic.find_channel(&channel));
            _ = found.and_then(|channel| late(channel.empty()));
        }
        _ => _ = late(broker.topic(&topic_name).unwrap().channel(&channel, &nobody())),
    }
}

/// Publishes a body that says where it was sent.
fn produce(broker: &Broker, random: &mut fastrand::Rng, count: &AtomicU64) {
    if broker.is_congested(&nobody()) {
        return;
    }
    let to = random.choice(TOPICS).unwrap();
    let number = count.fetch_add(1, Ordering::Relaxed);
    let body = format!("{to} {number} {}", "x".repeat(random.usize(..200)));
    let deferred = Attributes { not_before: Some(broker.wall().plus(5_000_000)), ..Attributes::NONE };
    let attributes = if random.u8(..8) == 0 { deferred } else { Attributes::NONE };
    late(publish(broker, &topic(broker, to), &attributes, body.as_bytes()));
}

/// The message that each delivered id stands for.
type Seen = Mutex<HashMap<MessageId, String>>;

/// Subscribes, takes, and finishes, requeues or drops what it got.
fn consume(broker: &Broker, random: &mut fastrand::Rng, seen: &Seen) {
    let from = random.choice(TOPICS).unwrap();
    let Some(mut sub) = late(subscribe(&topic(broker, from), random.choice(CHANNELS).unwrap())) else {
        return;
    };
    for _ in 0..random.usize(1..20) {
        for message in pull(&mut sub) {
            assert!(message.text().starts_with(&format!("{from} ")), "{} out of {from}", message.text());
            let mut seen = seen.lock().unwrap();
            let known = seen.entry(message.id).or_insert_with(|| message.text().to_owned());
            assert_eq!(known, message.text(), "one id for two messages");
            drop(seen);
            // An error if it was emptied or deleted meanwhile.
            match random.u8(..8) {
                0 => _ = sub.acks().requeue(message.id, Duration::ZERO),
                1 => {}
                _ => _ = sub.acks().finish(message.id),
            }
        }
    }
}

/// Messages that are taken at least in a race.
const TAKEN_MIN: usize = 100;

/// Has several threads do all that for a while, beside a topic that is left alone: of that, nothing may be
/// missing. `behind` is done again and again where the broker has no threads of its own. Gives what was
/// published there.
fn race(broker: &Broker, seen: &Seen, behind: &(dyn Fn(&mut fastrand::Rng) + Sync)) -> Vec<String> {
    const FOR: Duration = Duration::from_millis(400);
    let kept = topic(broker, "kept");
    let _ = kept.channel(&name("c"), &nobody()).unwrap();
    let stop = AtomicBool::new(false);
    let count = AtomicU64::new(0);
    let tickets = std::thread::scope(|scope| {
        let again = |seed: u64, work: &dyn Fn(&mut fastrand::Rng)| {
            let mut random = fastrand::Rng::with_seed(seed);
            while !stop.load(Ordering::Relaxed) {
                work(&mut random);
            }
        };
        for seed in 0..2 {
            scope.spawn(move || again(seed, &|random| churn(broker, random)));
            let count = &count;
            scope.spawn(move || again(10 + seed, &|random| produce(broker, random, count)));
            scope.spawn(move || again(20 + seed, &|random| consume(broker, random, seen)));
        }
        scope.spawn(move || again(30, &|random| behind(random)));
        let until = Instant::now() + FOR;
        let mut tickets = Vec::new();
        // However busy the machine is, enough has to happen.
        while Instant::now() < until || seen.lock().unwrap().len() <= TAKEN_MIN {
            if broker.is_congested(&nobody()) {
                std::thread::yield_now();
                continue;
            }
            let body = tickets.len().to_string();
            tickets.push(publish(broker, &kept, &Attributes::NONE, body.as_bytes()).unwrap());
            std::thread::yield_now();
        }
        stop.store(true, Ordering::Relaxed);
        tickets
    });
    broker.commit();
    for ticket in &tickets {
        // Bounded by whoever called.
        while matches!(broker.outcome(*ticket), Outcome::Pending) {
            std::thread::yield_now();
        }
        assert!(matches!(broker.outcome(*ticket), Outcome::Done));
    }
    (0..tickets.len()).map(|n| n.to_string()).collect()
}

/// The messages that a broker which was raced on has after its next start.
fn check_after(broker: &Broker, kept: &[String], seen: &Seen) {
    assert_eq!(broker.damage(), [] as [String; 0]);
    let mut sub = subscribe(&topic(broker, "kept"), "c").unwrap();
    let mut got = Vec::new();
    let mut last = Instant::now();
    while got.len() < kept.len() {
        let part = pull(&mut sub);
        // Some may have to be read from a disk first, by another thread.
        let is_late = part.is_empty() && last.elapsed() >= Duration::from_secs(30);
        if !part.is_empty() {
            last = Instant::now();
        }
        assert!(!is_late, "{} of {} in the topic that was left alone", got.len(), kept.len());
        finish(&mut sub, &part);
        got.extend(part.iter().map(|m| m.text().to_owned()));
    }
    assert!(got == kept, "order");
    let mut random = fastrand::Rng::with_seed(99);
    let count = AtomicU64::new(u64::from(u32::MAX));
    for _ in 0..200 {
        churn(broker, &mut random);
        produce(broker, &mut random, &count);
        consume(broker, &mut random, seen);
    }
}

#[test]
fn topics_and_channels_come_and_go_under_everyone() {
    without_deadlock(|| {
        let (disk, clock, seen) = (CrashDisk::new(), clock(), Seen::default());
        let broker = open(&disk, &clock, Durability::Flush);
        let kept = race(&broker, &seen, &|random| {
            clock.advance(random.u64(..10_000_000));
            let steps = [
                Step::Timers,
                Step::State,
                Step::Sync,
                Step::Checkpoint,
                Step::Maintain,
                Step::Memory,
                Step::Spill,
            ];
            broker.maintain(*random.choice(&steps).unwrap()).unwrap();
        });
        assert!(seen.lock().unwrap().len() > TAKEN_MIN, "{} messages were taken", seen.lock().unwrap().len());
        let killed = disk.image(disk.events(), Crash::Kill);
        broker.close().unwrap();
        for disk in [killed, disk] {
            // Each goes its own way from here.
            let seen = Mutex::new(seen.lock().unwrap().clone());
            check_after(&open(&disk, &clock, Durability::Flush), &kept, &seen);
        }
    });
}

#[test]
fn they_come_and_go_under_the_brokers_own_threads() {
    without_deadlock(|| {
        let folder = tempfile::tempdir().unwrap();
        let seen = Seen::default();
        let open = || {
            let data_path = folder.path().to_owned();
            Broker::open(Options { data_path, ..options(Durability::Flush) }).unwrap()
        };
        let broker = open();
        let kept = race(&broker, &seen, &|random| {
            let steps = [Step::Checkpoint, Step::Clean, Step::Spill];
            broker.maintain(*random.choice(&steps).unwrap()).unwrap();
        });
        // With it goes the folder's lock.
        drop(broker);
        check_after(&open(), &kept, &seen);
    });
}

#[test]
fn a_thousand_topics_start_again() {
    const TOPICS: usize = 1_000;
    for clean in [false, true] {
        let (disk, clock) = (CrashDisk::new(), clock());
        let broker = open(&disk, &clock, Durability::Flush);
        let names: Vec<_> = (0..TOPICS).map(|n| format!("t{n:03}")).collect();
        for (n, topic_name) in names.iter().enumerate() {
            let t = topic(&broker, topic_name);
            let _ = t.update(|s| s.durability = Durability::ALL[n % 3]).unwrap();
            // Every fifth has no channel: its messages wait for one.
            let mut sub = (n % 5 > 0).then(|| subscribe(&t, "c").unwrap());
            for part in ["first", "second", "third"] {
                let _ = publish(&broker, &t, &Attributes::NONE, format!("{part} of {n}").as_bytes()).unwrap();
            }
            broker.maintain(Step::Sync).unwrap();
            if let Some(sub) = &mut sub {
                let got = pull(sub);
                finish(sub, &got[..1]);
            }
        }
        broker.maintain(Step::State).unwrap();
        let disk = match clean {
            true => {
                broker.close().unwrap();
                disk
            }
            false => disk.image(disk.events(), Crash::Kill),
        };
        let broker = open(&disk, &clock, Durability::Flush);
        assert_eq!(broker.damage(), [] as [String; 0]);
        let found: Vec<_> = broker.topics().iter().map(|t| t.name().to_string()).collect();
        assert_eq!(found, names);
        for (n, t) in broker.topics().iter().enumerate() {
            let level = Durability::ALL[n % 3];
            assert_eq!((t.durability(), t.channels().len()), (level, usize::from(n % 5 > 0)), "topic {n}");
            let mut expected =
                vec![format!("first of {n}"), format!("second of {n}"), format!("third of {n}")];
            if n % 5 > 0 {
                expected.remove(0);
            }
            if level == Durability::Memory && !clean {
                expected.clear();
            }
            assert_eq!(bodies(&pull(&mut subscribe(t, "c").unwrap())), expected, "{level:?}, clean: {clean}");
        }
    }
}

#[test]
fn a_channel_deleted_under_its_messages_in_flight_starts_fresh() {
    for level in Durability::ALL {
        let (disk, clock) = (CrashDisk::new(), clock());
        let mut broker = open(&disk, &clock, level);
        let t = topic(&broker, "t");
        let send = |broker: &Broker, body: &str| {
            let _ = publish(broker, &topic(broker, "t"), &Attributes::NONE, body.as_bytes()).unwrap();
            broker.maintain(Step::Sync).unwrap();
        };
        let mut other = subscribe(&t, "other").unwrap();
        let mut old = subscribe(&t, "c").unwrap();
        ["a", "b", "c", "d"].iter().for_each(|body| send(&broker, body));
        let held = pull(&mut old);
        assert_eq!(bodies(&held), ["a", "b", "c", "d"]);
        old.acks().requeue(held[3].id, Duration::from_secs(1)).unwrap();
        let _ = t.delete_channel(&name("c")).unwrap();
        assert_eq!(old.pull(1 << 20, &mut |_| panic!("a message")), Pulled::Closed);
        // Re-created while the old subscription is there: they have nothing to do with each other.
        let mut new = subscribe(&t, "c").unwrap();
        send(&broker, "e");
        let fresh = pull(&mut new);
        assert_eq!((bodies(&fresh), fresh[0].attempts), (vec!["e"], 1));
        for (n, message) in held.iter().enumerate() {
            for sub in [&mut old, &mut new] {
                let mut acks = sub.acks();
                let results = [
                    acks.finish(message.id),
                    acks.touch(message.id),
                    acks.requeue(message.id, Duration::ZERO),
                ];
                for result in results {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::NotInFlight, "message {n}");
                }
            }
        }
        // The old one's timeouts, delays and end are nobody's.
        clock.advance(100 * SECOND);
        drop(old);
        broker.maintain(Step::Timers).unwrap();
        let again = pull(&mut new);
        assert_eq!((bodies(&again), again[0].attempts), (vec!["e"], 2));
        assert_eq!(bodies(&pull(&mut other)), ["a", "b", "c", "d", "e"]);
        let stats = new.channel().stats();
        assert_eq!((new.channel().depth(), new.in_flight(), stats.skipped), (0, 1, 0));
        drop((other, new));
        broker.maintain(Step::State).unwrap();
        let disk = match level {
            Durability::Memory => {
                broker.close().unwrap();
                disk
            }
            Durability::Flush | Durability::Sync => disk.image(disk.events(), Crash::Kill),
        };
        broker = open(&disk, &clock, level);
        assert_eq!(broker.damage(), [] as [String; 0]);
        send(&broker, "f");
        // What was held for the second time as its holder left is held back for a while, and follows what
        // waits by then.
        clock.advance(60 * SECOND);
        broker.maintain(Step::Timers).unwrap();
        assert_eq!(
            bodies(&pull(&mut subscribe(&topic(&broker, "t"), "c").unwrap())),
            ["f", "e"],
            "{level:?}"
        );
    }
}

/// I10, and what else hangs on the wall clock: it is set back by an hour, over and over, also between two
/// starts.
#[test]
fn a_clock_that_is_set_back_takes_no_message_time_back() {
    const HOUR: u64 = 3600 * SECOND;
    for level in Durability::ALL {
        let (mut disk, clock) = (CrashDisk::new(), clock());
        let mut broker = open(&disk, &clock, level);
        subscribe(&topic(&broker, "t"), "c").unwrap();
        let (mut sent, mut delayed) = (Vec::new(), 0);
        for start in 0..4 {
            let t = topic(&broker, "t");
            for n in 0..3 {
                let body = format!("{start}.{n}");
                let _ = publish(&broker, &t, &Attributes::NONE, body.as_bytes()).unwrap();
                sent.push(body);
                clock.advance(SECOND);
                clock.step_wall(clock.wall().before(HOUR));
            }
            // Not before a wall time means that: it comes late by what the clock was set back.
            let mut later = subscribe(&topic(&broker, "later"), "c").unwrap();
            let not_before = Some(clock.wall().plus(10 * SECOND));
            let attributes = Attributes { not_before, ..Attributes::NONE };
            let _ = publish(&broker, &topic(&broker, "later"), &attributes, start.to_string().as_bytes())
                .unwrap();
            broker.maintain(Step::Sync).unwrap();
            clock.step_wall(clock.wall().before(HOUR));
            clock.advance(HOUR + 9 * SECOND);
            broker.maintain(Step::Timers).unwrap();
            assert_eq!(pull(&mut later).len(), 0, "{level:?}: too early");
            clock.advance(SECOND);
            broker.maintain(Step::Timers).unwrap();
            let got = pull(&mut later);
            assert_eq!(bodies(&got), [start.to_string()], "{level:?}");
            // A requeue's delay is counted on the scale that can't be set.
            later.acks().requeue(got[0].id, Duration::from_secs(10)).unwrap();
            clock.step_wall(clock.wall().before(HOUR));
            clock.advance(9 * SECOND);
            broker.maintain(Step::Timers).unwrap();
            assert_eq!(pull(&mut later).len(), 0, "{level:?}: too early");
            clock.advance(SECOND);
            broker.maintain(Step::Timers).unwrap();
            let got = pull(&mut later);
            assert_eq!(bodies(&got), [start.to_string()], "{level:?}");
            finish(&mut later, &got);
            delayed += got.len();
            drop(later);
            broker.maintain(Step::State).unwrap();
            disk = match level {
                Durability::Memory => {
                    broker.close().unwrap();
                    disk
                }
                Durability::Flush | Durability::Sync => disk.image(disk.events(), Crash::Kill),
            };
            clock.step_wall(clock.wall().before(HOUR));
            broker = open(&disk, &clock, level);
        }
        assert_eq!(delayed, 4);
        let got = pull(&mut subscribe(&topic(&broker, "t"), "c").unwrap());
        assert_eq!(bodies(&got), sent, "{level:?}");
        assert!(
            got.is_sorted_by_key(|m| m.time),
            "{level:?}: {:?}",
            got.iter().map(|m| m.time).collect::<Vec<_>>()
        );
        assert_eq!(got.iter().map(|m| m.id).collect::<HashSet<_>>().len(), got.len(), "{level:?}: ids");
    }
}

/// A delay that is on the disk is kept as the wall clock's: after a start it comes once that has reached it.
#[test]
fn a_delayed_message_comes_after_a_start_on_a_clock_that_was_set_back() {
    let (disk, clock) = (CrashDisk::new(), clock());
    let broker = open(&disk, &clock, Durability::Flush);
    let t = topic(&broker, "t");
    subscribe(&t, "c").unwrap();
    let attributes = Attributes { not_before: Some(WALL.plus(10 * SECOND)), ..Attributes::NONE };
    let _ = publish(&broker, &t, &attributes, b"late").unwrap();
    let disk = disk.image(disk.events(), Crash::Kill);
    clock.step_wall(WALL.before(20 * SECOND));
    let broker = open(&disk, &clock, Durability::Flush);
    let mut sub = subscribe(&topic(&broker, "t"), "c").unwrap();
    assert_eq!(pull(&mut sub).len(), 0);
    clock.advance(29 * SECOND);
    broker.maintain(Step::Timers).unwrap();
    assert_eq!(pull(&mut sub).len(), 0);
    clock.advance(SECOND);
    broker.maintain(Step::Timers).unwrap();
    assert_eq!(bodies(&pull(&mut sub)), ["late"]);
}
