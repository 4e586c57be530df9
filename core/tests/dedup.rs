//! Messages sent again with the id they had are stored once: while the broker runs, and after it was stopped or killed.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use mq_core::store::disk::crash_disk::{Crash, CrashDisk, Fault, Op};
use mq_core::store::repair::repair_on;
use mq_core::{
    Attributes, Broker, ChannelName, Dedup, Delivery, Durability, ErrorKind, Limits, ManualClock, Offset,
    Options, Outcome, Published, Pulled, Step, StoreSizes, SubscribeOptions, Topic, TopicName, Wake,
};

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

fn nobody() -> Arc<dyn Wake> {
    Arc::new(Count::default())
}

const SIZES: StoreSizes =
    StoreSizes { file_bytes: 4 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 64 };
const SECOND: u64 = 1_000_000_000;

struct World {
    disk: CrashDisk,
    clock: Arc<ManualClock>,
    broker: Broker,
    topic: Arc<Topic>,
}

fn name(text: &str) -> TopicName {
    TopicName::parse(text).unwrap()
}

impl World {
    fn new(durability: Durability) -> Self {
        Self::on(CrashDisk::new(), Arc::new(ManualClock::new(1_800_000_000 * SECOND)), durability)
    }

    fn on(disk: CrashDisk, clock: Arc<ManualClock>, durability: Durability) -> Self {
        let options = Options { durability, memory_limit: 4 << 20, ..Options::default() };
        let broker = Broker::open_on(Arc::new(disk.clone()), clock.clone(), SIZES, options).unwrap();
        assert_eq!(broker.damage(), [] as [String; 0]);
        let topic = broker.topic(&name("t")).unwrap();
        Self { disk, clock, broker, topic }
    }

    /// What starts after this one was killed, or the power was lost.
    fn after(&self, crash: Crash) -> Self {
        let disk = self.disk.image(self.disk.events(), crash);
        Self::on(disk, self.clock.clone(), Durability::Flush)
    }

    /// Publishes messages whose bodies are their ids; those that begin with `-` have none.
    fn send(&self, ids: &[&str]) -> Published {
        let mut batch = self.topic.batch();
        for id in ids {
            let dedup_id = (!id.starts_with('-')).then_some(id.as_bytes());
            batch.push(&Attributes { dedup_id, ..Attributes::NONE }, id.as_bytes()).unwrap();
        }
        let published = self.topic.publish(batch, &nobody()).unwrap();
        self.broker.commit();
        published
    }

    fn places(&self, ids: &[&str]) -> Vec<(Offset, bool)> {
        let published = self.send(ids);
        self.maintain(&[Step::Sync]);
        assert!(matches!(self.broker.outcome(published.ticket), Outcome::Done));
        published.offsets().collect()
    }

    /// The bodies that a channel has, all of which it finishes.
    fn consume(&self, channel: &str) -> Vec<String> {
        let (channel, _) = self.topic.channel(&ChannelName::parse(channel).unwrap(), &nobody()).unwrap();
        let options = SubscribeOptions { msg_timeout: Duration::from_secs(60), sample_rate: 0 };
        let mut sub = channel.subscribe(options, nobody()).unwrap();
        sub.acks().set_credit(100_000);
        let (mut bodies, mut ids) = (Vec::new(), Vec::new());
        let mut take = |m: &Delivery<'_>| {
            bodies.push(String::from_utf8(m.body.to_vec()).unwrap());
            ids.push(m.id);
        };
        while sub.pull(1 << 20, &mut take) == Pulled::More {}
        ids.iter().for_each(|id| sub.acks().finish(*id).unwrap());
        bodies
    }

    fn maintain(&self, steps: &[Step]) {
        steps.iter().for_each(|step| self.broker.maintain(*step).unwrap());
    }

    /// Removes from the disk all that nobody waits for.
    fn clean(&self) {
        use Step::{Checkpoint, Clean, State, Sync};
        self.maintain(&[State, Sync, Checkpoint, Clean, Clean]);
    }
}

#[test]
fn what_is_sent_again_is_stored_once() {
    for durability in Durability::ALL {
        let world = World::new(durability);
        let first = world.places(&["a", "-", "b"]);
        assert!(first.iter().all(|(_, is_duplicate)| !is_duplicate));
        // Alone, in a batch of others, and twice in one batch.
        assert_eq!(world.places(&["b"]), [(first[2].0, true)]);
        let mixed = world.places(&["c", "a", "-", "c", "d", "b"]);
        let marks: Vec<bool> = mixed.iter().map(|(_, is_duplicate)| *is_duplicate).collect();
        assert_eq!(marks, [false, true, false, true, false, true]);
        assert_eq!((mixed[1].0, mixed[5].0, mixed[3].0), (first[0].0, first[2].0, mixed[0].0));
        assert_eq!(mixed[4].0.0, mixed[0].0.0 + 2, "what is stored of a batch is consecutive");
        let stats = world.topic.stats();
        assert_eq!((stats.message_count, stats.duplicates, stats.dedup_ids), (6, 4, 4));
        assert_eq!(world.consume("c"), ["a", "-", "b", "c", "-", "d"]);
        // What was consumed is remembered no less.
        assert_eq!(world.places(&["c", "a"]), [(mixed[0].0, true), (first[0].0, true)]);
        world.broker.close().unwrap();
        let again = world.after(Crash::Kill);
        assert_eq!(again.places(&["b", "c"]), [(first[2].0, true), (mixed[0].0, true)]);
        assert!(!again.places(&["e"])[0].1);
    }
}

/// Over checkpoints, and though the files that held the messages are gone.
#[test]
fn ids_outlive_a_crash_and_their_messages() {
    for durability in [Durability::Flush, Durability::Sync] {
        let world = World::new(durability);
        let first = world.places(&["a", "b"]);
        world.consume("c");
        let body = "-".repeat(600);
        (0..20).for_each(|_| _ = world.places(&[&body]));
        world.consume("c");
        (0..3).for_each(|_| world.clean());
        let later = world.places(&["c"]);
        let power = world.after(Crash::Power { seed: 7 });
        for crashed in [&world.after(Crash::Kill), &power, &power.after(Crash::Kill)] {
            let places = crashed.places(&["b", "a", "c", "d"]);
            assert_eq!(places[..3], [(first[1].0, true), (first[0].0, true), (later[0].0, true)]);
            assert!(!places[3].1);
        }
        assert_eq!(world.topic.stats().duplicates, 0);
    }
}

#[test]
fn at_memory_a_message_and_its_id_are_lost_together() {
    let world = World::new(Durability::Memory);
    world.topic.channel(&ChannelName::parse("c").unwrap(), &nobody()).unwrap();
    world.places(&["spilled"]);
    let spilled = world.places(&["spilled"])[0].0;
    let body = "-".repeat(400);
    world.places(&[&body, &body, &body]);
    world.maintain(&[Step::Spill, Step::Sync]);
    world.places(&["held"]);
    world.maintain(&[Step::Checkpoint]);
    let killed = world.after(Crash::Kill);
    assert_eq!(killed.places(&["spilled"]), [(spilled, true)]);
    assert!(!killed.places(&["held"])[0].1, "a checkpoint must not know what a crash takes");
    assert_eq!(killed.consume("c").iter().filter(|body| *body == "held").count(), 1);
    // What left memory for a file by a change of level is there with its id.
    world.topic.set_durability(Durability::Flush).unwrap();
    world.maintain(&[Step::Checkpoint]);
    assert!(world.after(Crash::Kill).places(&["held"])[0].1);
}

#[test]
fn the_window_ends_with_time_and_with_number() {
    let world = World::new(Durability::Flush);
    let first = world.places(&["a"]);
    world.clock.advance(119 * SECOND);
    assert_eq!(world.places(&["a"]), [(first[0].0, true)]);
    world.clock.advance(SECOND);
    // Sending again has not prolonged it.
    let second = world.places(&["a"]);
    assert!(!second[0].1 && second[0].0 > first[0].0);
    assert_eq!(world.after(Crash::Kill).places(&["a"]), [(second[0].0, true)]);

    let none = Dedup::default();
    world.topic.set_dedup(Dedup { max_ids: Some(3), ..none }).unwrap();
    world.places(&["b", "c", "d"]);
    assert_eq!((world.topic.stats().dedup_ids, world.topic.stats().dedup_evicted), (3, 1));
    assert!(world.places(&["b"])[0].1 && !world.places(&["a"])[0].1 && !world.places(&["b"])[0].1);
    let killed = world.after(Crash::Kill);
    assert_eq!(killed.topic.dedup(), Dedup { max_ids: Some(3), window: None });
    assert_eq!(killed.topic.stats().dedup_ids, 3);

    world.topic.set_dedup(Dedup { window: Some(Duration::from_secs(10)), ..none }).unwrap();
    world.places(&["e"]);
    world.clock.advance(10 * SECOND);
    world.maintain(&[Step::Memory]);
    assert_eq!(world.topic.stats().dedup_ids, 0, "what is over is forgotten by and by");
    world.topic.set_dedup(Dedup { window: Some(Duration::ZERO), ..none }).unwrap();
    assert!(!world.places(&["f"])[0].1 && !world.places(&["f"])[0].1);
    let refused = |dedup| world.topic.set_dedup(dedup).unwrap_err().kind();
    assert_eq!(refused(Dedup { max_ids: Some(0), ..none }), ErrorKind::InvalidArgument);
    let week = Duration::from_secs(7 * 24 * 3600 + 1);
    assert_eq!(refused(Dedup { window: Some(week), ..none }), ErrorKind::InvalidArgument);
}

/// Ids take a quarter of the memory at most, whatever the settings.
#[test]
fn ids_stay_within_their_share_of_memory() {
    let world = World::new(Durability::Flush);
    for n in 0..400 {
        let ids: Vec<String> = (0..100).map(|i| format!("{n} {i}")).collect();
        let ids: Vec<&str> = ids.iter().map(String::as_str).collect();
        world.send(&ids);
        world.consume("c");
    }
    let stats = world.topic.stats();
    assert!(stats.dedup_ids > (1 << 20) / 64 && stats.dedup_ids < (1 << 20) / 32, "{}", stats.dedup_ids);
    assert_eq!(stats.dedup_evicted, 40_000 - stats.dedup_ids);
    assert!(world.send(&["399 99"]).duplicates() == 1);
    let before = world.broker.memory_used();
    world.broker.delete_topic(&name("t")).unwrap();
    drop(world.topic);
    assert!(world.broker.memory_used() + (1 << 19) < before);
}

/// Who sends again what is not stored yet is answered when it is.
#[test]
fn an_answer_waits_for_the_original() {
    let world = World::new(Durability::Sync);
    let first = world.send(&["a"]);
    let (again, with_others) = (world.send(&["a"]), world.send(&["b", "a"]));
    for published in [&first, &again, &with_others] {
        assert!(matches!(world.broker.outcome(published.ticket), Outcome::Pending));
    }
    assert_eq!(again.duplicates(), 1);
    let wake = Arc::new(Count::default());
    let mut batch = world.topic.batch();
    batch.push(&Attributes { dedup_id: Some(b"a"), ..Attributes::NONE }, b"a").unwrap();
    let woken = world.topic.publish(batch, &(wake.clone() as Arc<dyn Wake>)).unwrap();
    world.broker.commit();
    assert!(matches!(world.broker.outcome(woken.ticket), Outcome::Pending));
    world.maintain(&[Step::Sync]);
    assert!(wake.0.load(Ordering::Relaxed) > 0);
    for published in [&first, &again, &with_others, &woken] {
        assert!(matches!(world.broker.outcome(published.ticket), Outcome::Done));
    }
    assert_eq!(world.consume("c"), ["a", "b"]);
}

/// What was refused can be sent again, and is stored then.
#[test]
fn a_refused_message_is_not_remembered() {
    let world = World::new(Durability::Flush);
    let before = world.places(&["before"]);
    world.disk.set_faults(Box::new(|call| (call.op == Op::Write).then_some(Fault::Eio)));
    let published = |ids: &[&str]| {
        let mut batch = world.topic.batch();
        for id in ids {
            batch
                .push(&Attributes { dedup_id: Some(id.as_bytes()), ..Attributes::NONE }, id.as_bytes())
                .unwrap();
        }
        world.topic.publish(batch, &nobody()).unwrap()
    };
    // The second is queued while it is not known that the first will fail; the third has only what was stored.
    let (first, again, other) = (published(&["a"]), published(&["a", "b"]), published(&["before"]));
    assert_eq!((again.duplicates(), other.duplicates()), (1, 1));
    world.broker.commit();
    for refused in [&first, &again] {
        assert!(matches!(world.broker.outcome(refused.ticket), Outcome::Failed(_)));
    }
    assert!(matches!(world.broker.outcome(other.ticket), Outcome::Done));
    world.disk.clear_faults();
    world.maintain(&[Step::KeepHouse]);
    let places = world.places(&["a", "b", "before"]);
    assert_eq!(places[2], (before[0].0, true));
    assert!(!places[0].1 && !places[1].1);
    assert!(world.places(&["a", "b"]).iter().all(|(_, is_duplicate)| *is_duplicate));
    assert_eq!(world.consume("c"), ["before", "a", "b"]);
    assert_eq!(world.after(Crash::Kill).places(&["a"]), [(places[0].0, true)]);
}

#[test]
fn emptying_keeps_ids_and_deleting_drops_them() {
    let world = World::new(Durability::Flush);
    let first = world.places(&["a"]);
    world.topic.empty().unwrap();
    assert_eq!(world.places(&["a"]), [(first[0].0, true)]);
    world.broker.delete_topic(&name("t")).unwrap();
    let again = World { topic: world.broker.topic(&name("t")).unwrap(), ..world };
    assert!(!again.places(&["a"])[0].1);
    assert_eq!(again.after(Crash::Kill).consume("c"), ["a"]);
}

/// A retry is answered though the topic takes no more, and a batch that is refused leaves no ids behind.
#[test]
fn duplicates_do_not_count_against_limits() {
    let world = World::new(Durability::Flush);
    world.places(&["a", "b"]);
    world.topic.set_limits(Limits { max_messages: 2, ..Limits::default() }).unwrap();
    assert_eq!(world.send(&["a", "b"]).duplicates(), 2);
    let mut batch = world.topic.batch();
    for id in [&b"a"[..], b"c"] {
        batch.push(&Attributes { dedup_id: Some(id), ..Attributes::NONE }, id).unwrap();
    }
    assert_eq!(world.topic.publish(batch, &nobody()).unwrap_err().kind(), ErrorKind::Full);
    world.topic.set_limits(Limits::default()).unwrap();
    assert!(!world.places(&["c"])[0].1);
}

/// Where the checkpoint is gone, a repair finds the ids in the messages that are there.
#[test]
fn a_repair_keeps_ids() {
    for is_checkpoint_lost in [false, true] {
        let world = World::new(Durability::Flush);
        let first = world.places(&["a", "b"]);
        world.clean();
        let second = world.places(&["c", &"-".repeat(5000)]);
        world.maintain(&[Step::Sync]);
        let disk = world.disk.image(world.disk.events(), Crash::Kill);
        let names = mq_core::store::disk::Disk::list(&disk).unwrap();
        let damaged = names.iter().find(|name| match is_checkpoint_lost {
            true => name.ends_with(".checkpoint"),
            false => *name == "manifest",
        });
        disk.flip_bit(damaged.unwrap(), 160);
        assert!(repair_on(&disk, true, &mut |_, _| {}).unwrap().is_written);
        let options = Options { memory_limit: 4 << 20, ..Options::default() };
        let broker = Broker::open_on(Arc::new(disk), world.clock.clone(), SIZES, options).unwrap();
        let topic = broker.topics().into_iter().next().unwrap();
        let mut batch = topic.batch();
        for id in [&b"a"[..], b"b", b"c", b"d"] {
            batch.push(&Attributes { dedup_id: Some(id), ..Attributes::NONE }, id).unwrap();
        }
        let places: Vec<_> = topic.publish(batch, &nobody()).unwrap().offsets().collect();
        assert_eq!(places[..3], [(first[0].0, true), (first[1].0, true), (second[0].0, true)]);
        assert!(!places[3].1);
    }
}
