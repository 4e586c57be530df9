//! A disk that fails, fills up, hangs or loses files under a running broker.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{self, IoSlice};
use std::sync::{Arc, Condvar, Mutex};

use mq_core::testkit::{
    self, Crash, CrashDisk, Disk, Fault, File, Op, OpenMode, SIZES, channel, channel_name, is_done, nobody,
    options, texts, topic,
};
use mq_core::{
    Broker, Durability, Error, ErrorKind, ManualClock, Options, Outcome, Step, StoreSizes, Subscription,
    Ticket,
};

fn open(disk: Arc<dyn Disk>, durability: Durability) -> Broker {
    testkit::open(disk, SIZES, Options { durability, ..options() }).unwrap()
}

fn broker(disk: &CrashDisk, durability: Durability) -> Broker {
    open(Arc::new(disk.clone()), durability)
}

fn publish(broker: &Broker, name: &str, body: &str) -> Result<Ticket, Error> {
    let ticket = testkit::publish(broker, &topic(broker, name), &[body])?.ticket;
    match broker.outcome(ticket) {
        Outcome::Failed(error) => Err(error),
        _ => Ok(ticket),
    }
}

fn subscribe(broker: &Broker, name: &str) -> Subscription {
    testkit::subscribe(&channel(&topic(broker, name), "c"), 10_000)
}

/// Pulls all there is, and finishes it.
fn drain(sub: &mut Subscription) -> Vec<String> {
    texts(&testkit::drain(sub)).into_iter().map(str::to_owned).collect()
}

/// The disk of a machine that loses power right now, as it is when it starts again.
fn after_power_loss(disk: &CrashDisk) -> Vec<String> {
    after_power_loss_of(disk, 0)
}

fn after_power_loss_of(disk: &CrashDisk, seed: u64) -> Vec<String> {
    let image = disk.image(disk.events(), Crash::Power { seed });
    let broker = broker(&image, Durability::Flush);
    assert_eq!(broker.damage(), [] as [String; 0]);
    drain(&mut subscribe(&broker, "t"))
}

#[test]
fn at_sync_a_publish_is_acknowledged_and_seen_once_it_is_fsynced() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Sync);
    let mut sub = subscribe(&broker, "t");
    let tickets: Vec<_> = ["a", "b", "c"].map(|body| publish(&broker, "t", body).unwrap()).into();
    assert!(tickets.iter().all(|ticket| !is_done(&broker, *ticket)));
    assert_eq!(drain(&mut sub), [] as [String; 0]);
    let syncs = broker.stats().syncs;
    broker.maintain(Step::Sync).unwrap();
    assert_eq!(broker.stats().syncs, syncs + 1, "one fsync for all that waited");
    assert!(tickets.iter().all(|ticket| is_done(&broker, *ticket)));
    assert_eq!(after_power_loss(&disk), ["a", "b", "c"]);
    assert_eq!(drain(&mut sub), ["a", "b", "c"]);
}

#[test]
fn order_holds_from_level_to_level() {
    for from in Durability::ALL {
        for to in Durability::ALL {
            let broker = broker(&CrashDisk::new(), from);
            let mut sub = subscribe(&broker, "t");
            let _ = publish(&broker, "t", "a").unwrap();
            let _ = topic(&broker, "t").update(move |s| s.durability = to).unwrap();
            let _ = publish(&broker, "t", "b").unwrap();
            assert_eq!(topic(&broker, "t").durability(), to);
            broker.maintain(Step::Sync).unwrap();
            let _ = publish(&broker, "t", "c").unwrap();
            broker.maintain(Step::Sync).unwrap();
            assert_eq!(drain(&mut sub), ["a", "b", "c"], "{from:?} to {to:?}");
        }
    }
}

#[test]
fn what_comes_after_a_refused_publish_follows_what_came_before() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Flush);
    let mut sub = subscribe(&broker, "t");
    let _ = publish(&broker, "t", "before").unwrap();
    disk.set_faults(Box::new(|call| (call.op == Op::Write).then_some(Fault::Eio)));
    let error = publish(&broker, "t", "refused").unwrap_err();
    assert!(
        error.kind() == ErrorKind::Io && error.to_string().contains("nothing of this was stored"),
        "{error}"
    );
    assert_eq!(broker.health().unwrap_err().kind(), ErrorKind::Io);
    disk.clear_faults();
    let _ = publish(&broker, "t", "after").unwrap();
    broker.health().unwrap();
    // In one pull: the reader goes from one block of offsets to the next.
    assert_eq!(drain(&mut sub), ["before", "after"]);
    let _ = publish(&broker, "t", "once more").unwrap();
    drop(sub);
    broker.close().unwrap();
    let broker = self::broker(&disk, Durability::Flush);
    let _ = publish(&broker, "t", "last").unwrap();
    assert_eq!(drain(&mut subscribe(&broker, "t")), ["once more", "last"]);
}

#[test]
fn after_a_failed_fsync_the_file_is_written_anew_before_anything_is_acknowledged() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Sync);
    let _sub = subscribe(&broker, "t");
    let ticket = publish(&broker, "t", "a").unwrap();
    let calls = disk.calls();
    disk.set_faults(Box::new(move |call| {
        (call.op == Op::Sync && call.index == calls).then_some(Fault::SyncFails)
    }));
    broker.maintain(Step::Sync).unwrap();
    assert!(is_done(&broker, ticket));
    broker.health().unwrap();
    assert_eq!(broker.stats().sync_failures, 1);
    assert!(!disk.dump().contains_key("doubt"));
    assert_eq!(after_power_loss(&disk), ["a"]);
    let ticket = publish(&broker, "t", "b").unwrap();
    broker.maintain(Step::Sync).unwrap();
    assert!(is_done(&broker, ticket));
    assert_eq!(after_power_loss(&disk), ["a", "b"]);
}

/// The system calls pages clean whose fsync failed, so a later one does nothing for them: what a killed
/// process left suspect is no more durable for being fsync'd at the next start.
#[test]
fn a_file_suspect_after_a_failed_fsync_is_durable_once_the_folder_is_open_again() {
    for files in [1, 3] {
        let disk = CrashDisk::new();
        let running = broker(&disk, Durability::Flush);
        subscribe(&running, "t");
        let mut bodies = vec!["a".repeat(100)];
        let _ = publish(&running, "t", &bodies[0]).unwrap();
        running.maintain(Step::Sync).unwrap();
        for n in 0..files * SIZES.file_bytes / 1000 {
            bodies.push(format!("{n:0900}"));
            let _ = publish(&running, "t", &bodies[bodies.len() - 1]).unwrap();
        }
        disk.set_faults(Box::new(|call| (call.op == Op::Sync).then_some(Fault::SyncFails)));
        running.maintain(Step::Sync).unwrap_err();
        let killed = disk.image(disk.events(), Crash::Kill);
        assert!(killed.dump().contains_key("doubt"));
        let _open = broker(&killed, Durability::Flush);
        assert!(!killed.dump().contains_key("doubt"));
        for seed in 0..50 {
            assert!(after_power_loss_of(&killed, seed) == bodies, "{files} files, seed {seed}");
        }
    }
}

#[test]
fn while_no_fsync_works_nothing_is_acknowledged_and_consumers_go_on() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Sync);
    let mut sub = subscribe(&broker, "t");
    let _ = publish(&broker, "t", "a").unwrap();
    broker.maintain(Step::Sync).unwrap();
    let waiting = publish(&broker, "t", "b").unwrap();
    disk.set_faults(Box::new(|call| (call.op == Op::Sync).then_some(Fault::SyncFails)));
    broker.maintain(Step::Sync).unwrap_err();
    assert!(matches!(broker.outcome(waiting), Outcome::Pending));
    let error = publish(&broker, "t", "c").unwrap_err();
    assert!(
        error.kind() == ErrorKind::Io && error.is_retryable() && error.to_string().contains("fsync"),
        "{error}"
    );
    assert_eq!(broker.health().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(drain(&mut sub), ["a"]);
    broker.maintain(Step::State).unwrap();
    disk.clear_faults();
    broker.maintain(Step::Maintain).unwrap();
    broker.health().unwrap();
    assert!(is_done(&broker, waiting));
    let _ = publish(&broker, "t", "d").unwrap();
    broker.maintain(Step::Sync).unwrap();
    assert_eq!(drain(&mut sub), ["b", "d"]);
}

#[test]
fn a_full_disk_refuses_publishes_and_heals_as_it_is_drained() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Flush);
    let mut sub = subscribe(&broker, "t");
    // The reserve is part of what is used.
    disk.capacity(Some(disk.used() + (40 << 10)));
    let body = "x".repeat(500);
    let mut stored = 0;
    let error = loop {
        match publish(&broker, "t", &format!("{stored} {body}")) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        let _ = broker.maintain(Step::Maintain);
    };
    assert!(error.kind() == ErrorKind::Full && error.is_retryable(), "{error}");
    assert_eq!(broker.health().unwrap_err().kind(), ErrorKind::Full);
    assert!(stored > 40, "{stored}");
    // Refused without a try, and without a word of it on the disk.
    let calls = disk.calls();
    assert_eq!(publish(&broker, "t", "no").unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(disk.calls(), calls);
    // New consumers, finishes and settings go on: that is what the reserve is for.
    let other = topic(&broker, "t").channel(&channel_name("d"), &nobody()).unwrap();
    assert!(is_done(&broker, other.1));
    assert!(is_done(&broker, topic(&broker, "t").delete_channel(&channel_name("d")).unwrap()));
    assert_eq!(drain(&mut sub).len(), stored);
    for _ in 0..3 {
        let _ = broker.maintain(Step::Maintain);
    }
    broker.health().unwrap();
    let _ = publish(&broker, "t", "yes").unwrap();
    assert_eq!(drain(&mut sub), ["yes"]);
    broker.maintain(Step::State).unwrap();
    broker.maintain(Step::Sync).unwrap();
    assert_eq!(after_power_loss(&disk), [] as [String; 0]);
}

#[test]
fn the_next_file_takes_no_space_that_others_need() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Flush);
    let fill = |count| {
        (0..count).try_for_each(|n| publish(&broker, "t", &format!("{n} {}", "x".repeat(500))).map(drop))
    };
    let taken = || {
        let before = disk.used();
        broker.maintain(Step::Maintain).unwrap();
        disk.used() - before
    };
    // A broker that has not filled a file may never do so.
    assert!(taken() < 1024);
    fill(10).unwrap();
    assert!(taken() < 1024);
    fill(16).unwrap();
    // Where there is less than a file none of it is taken, else all.
    disk.capacity(Some(disk.used() + SIZES.file_bytes / 2));
    assert!(taken() < 1024);
    disk.capacity(None);
    fill(16).unwrap();
    let space = taken();
    assert!(space >= SIZES.file_bytes, "{space}");
    // On a full disk the reserve comes first: without it publishes are refused.
    fill(16).unwrap();
    disk.capacity(Some(disk.used() + 100));
    assert_eq!(fill(48).unwrap_err().kind(), ErrorKind::Full);
    disk.capacity(Some(disk.used() + SIZES.file_bytes + SIZES.file_bytes / 4 + 1024));
    broker.maintain(Step::Maintain).unwrap();
    broker.health().unwrap();
}

#[test]
fn a_full_disk_stays_full_until_more_than_a_few_messages_have_room() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Flush);
    let _sub = subscribe(&broker, "t");
    let body = "x".repeat(1700);
    let _ = publish(&broker, "t", &body).unwrap();
    // Room for the checkpoint and the reserve, and for no other message.
    disk.capacity(Some(disk.used() + 1500));
    assert_eq!(publish(&broker, "t", &body).unwrap_err().kind(), ErrorKind::Full);
    for _ in 0..3 {
        assert!(broker.maintain(Step::Maintain).is_err());
        assert_eq!(broker.health().unwrap_err().kind(), ErrorKind::Full);
        assert_eq!(publish(&broker, "t", &body).unwrap_err().kind(), ErrorKind::Full);
    }
    disk.capacity(Some(disk.used() + SIZES.file_bytes + SIZES.file_bytes / 2));
    broker.maintain(Step::Maintain).unwrap();
    broker.health().unwrap();
    let _ = publish(&broker, "t", &body).unwrap();
}

#[test]
fn on_a_full_disk_the_file_whose_space_was_taken_ahead_is_written_to_its_end() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Flush);
    let _sub = subscribe(&broker, "t");
    let body = |n: usize| format!("{n} {}", "x".repeat(500));
    let mut stored = 0;
    // Some of the second file, so that the third is likely to be needed.
    let begun = SIZES.file_bytes as usize * 5 / 4 / 600;
    while stored < begun {
        let _ = publish(&broker, "t", &body(stored)).unwrap();
        stored += 1;
        broker.maintain(Step::Maintain).unwrap();
    }
    disk.capacity(Some(disk.used()));
    while publish(&broker, "t", &body(stored)).is_ok() {
        stored += 1;
    }
    let in_space_taken = SIZES.file_bytes as usize / 600;
    assert!(stored >= begun + in_space_taken, "{} of {in_space_taken}", stored - begun);
    assert_eq!(broker.health().unwrap_err().kind(), ErrorKind::Full);
    let image = disk.image(disk.events(), Crash::Kill);
    image.capacity(None);
    let broker = self::broker(&image, Durability::Flush);
    assert_eq!(broker.damage(), [] as [String; 0]);
    let expected: Vec<String> = (0..stored).map(body).collect();
    assert_eq!(drain(&mut subscribe(&broker, "t")), expected);
}

#[test]
fn a_broker_stops_cleanly_where_there_is_no_room_for_the_reserve() {
    let disk = CrashDisk::new();
    disk.capacity(Some(SIZES.file_bytes / 2));
    let broker = broker(&disk, Durability::Flush);
    assert_eq!(publish(&broker, "t", "no").unwrap_err().kind(), ErrorKind::Full);
    broker.close().unwrap();
    // Where there is none at all it says so.
    let broker = self::broker(&disk, Durability::Flush);
    disk.capacity(Some(disk.used()));
    topic(&broker, "u");
    assert_eq!(broker.close().unwrap_err().kind(), ErrorKind::Full);
}

#[test]
fn what_is_in_memory_survives_a_clean_stop_on_a_full_disk() {
    let disk = CrashDisk::new();
    let first = broker(&disk, Durability::Memory);
    let _sub = subscribe(&first, "t");
    (0..10).for_each(|n| _ = publish(&first, "t", &format!("{n} {}", "x".repeat(500))).unwrap());
    disk.capacity(Some(disk.used() + 100));
    first.close().unwrap();
    disk.capacity(None);
    let broker = broker(&disk, Durability::Memory);
    assert_eq!(drain(&mut subscribe(&broker, "t")).len(), 10);
}

#[test]
fn a_broker_opens_on_a_full_disk_and_can_be_drained() {
    let disk = CrashDisk::new();
    let first = broker(&disk, Durability::Flush);
    let _sub = subscribe(&first, "t");
    (0..40).for_each(|n| _ = publish(&first, "t", &format!("{n} {}", "x".repeat(500))).unwrap());
    let image = disk.image(disk.events(), Crash::Kill);
    image.capacity(Some(image.used() + (8 << 10)));
    let broker = broker(&image, Durability::Flush);
    let mut sub = subscribe(&broker, "t");
    assert_eq!(drain(&mut sub).len(), 40);
    for _ in 0..3 {
        let _ = broker.maintain(Step::Maintain);
    }
    broker.health().unwrap();
    let _ = publish(&broker, "t", "yes").unwrap();
}

#[test]
fn a_channel_whose_creation_was_refused_can_be_asked_for_again() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Flush);
    let topic = topic(&broker, "t");
    let name = channel_name("c");
    disk.set_faults(Box::new(|call| (call.op == Op::Write).then_some(Fault::Eio)));
    let (_, ticket) = topic.channel(&name, &nobody()).unwrap();
    assert!(matches!(broker.outcome(ticket), Outcome::Failed(_)));
    disk.clear_faults();
    let (_, ticket) = topic.channel(&name, &nobody()).unwrap();
    broker.commit();
    assert!(is_done(&broker, ticket));
    let _ = publish(&broker, "t", "a").unwrap();
    let image = disk.image(disk.events(), Crash::Kill);
    let found = self::broker(&image, Durability::Flush);
    assert!(self::topic(&found, "t").find_channel(&name).is_some());
}

#[test]
fn files_removed_under_the_broker_are_written_again() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Flush);
    let _sub = subscribe(&broker, "t");
    let bodies: Vec<_> = (0..60).map(|n| format!("{n} {}", "x".repeat(500))).collect();
    bodies.iter().for_each(|body| _ = publish(&broker, "t", body).unwrap());
    broker.maintain(Step::Sync).unwrap();
    broker.maintain(Step::Checkpoint).unwrap();
    for name in disk.dump().into_keys().filter(|name| name != "reserve") {
        disk.remove(&name).unwrap();
    }
    broker.maintain(Step::Maintain).unwrap();
    let _ = publish(&broker, "t", "after").unwrap();
    broker.maintain(Step::Sync).unwrap();
    let mut expected = bodies;
    expected.push("after".into());
    assert_eq!(after_power_loss(&disk), expected);
}

/// A disk whose writes hang while the gate is shut.
struct Gated {
    disk: CrashDisk,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    /// Whether only fsyncs come by it, and no writes.
    is_for_syncs: bool,
    /// Whether it is shut, and how many wait at it.
    state: Mutex<(bool, u32)>,
    changed: Condvar,
}

impl Gate {
    fn shut(&self, shut: bool) {
        self.state.lock().unwrap().0 = shut;
        self.changed.notify_all();
    }

    fn pass(&self) {
        let mut state = self.state.lock().unwrap();
        state.1 += 1;
        self.changed.notify_all();
        state = self.changed.wait_while(state, |state| state.0).unwrap();
        state.1 -= 1;
    }

    fn wait_for_someone(&self) {
        let waited = self.changed.wait_while(self.state.lock().unwrap(), |state| state.1 == 0).unwrap();
        drop(waited);
    }
}

struct GatedFile(Arc<dyn File>, Arc<Gate>);

impl Disk for Gated {
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        Ok(Arc::new(GatedFile(self.disk.open(name, mode)?, self.gate.clone())))
    }
    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, name: &str) -> io::Result<()> {
        self.disk.remove(name)
    }
    fn sync_dir(&self) -> io::Result<()> {
        self.disk.sync_dir()
    }
    fn list(&self) -> io::Result<Vec<String>> {
        self.disk.list()
    }
    fn id(&self, name: &str) -> io::Result<(u64, u64)> {
        self.disk.id(name)
    }
    fn is_in_place(&self) -> io::Result<bool> {
        self.disk.is_in_place()
    }
    fn version(&self) -> io::Result<u64> {
        self.disk.version()
    }
}

impl File for GatedFile {
    fn read_at(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at(buf, at)
    }
    fn read_at_nowait(&self, buf: &mut [u8], at: u64) -> io::Result<usize> {
        self.0.read_at_nowait(buf, at)
    }
    fn write_at(&self, bufs: &mut [IoSlice<'_>], at: u64) -> io::Result<()> {
        if !self.1.is_for_syncs {
            self.1.pass();
        }
        self.0.write_at(bufs, at)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.0.truncate(len)
    }
    fn allocate(&self, len: u64) -> io::Result<()> {
        self.0.allocate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.pass();
        self.0.sync()
    }
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn id(&self) -> io::Result<(u64, u64)> {
        self.0.id()
    }
}

#[test]
fn a_frame_written_while_an_fsync_runs_waits_for_the_next() {
    let gate = Arc::new(Gate { is_for_syncs: true, ..Gate::default() });
    let broker = open(Arc::new(Gated { disk: CrashDisk::new(), gate: gate.clone() }), Durability::Sync);
    let _sub = subscribe(&broker, "t");
    broker.maintain(Step::Sync).unwrap();
    let before = publish(&broker, "t", "before").unwrap();
    gate.shut(true);
    let meanwhile = std::thread::scope(|scope| {
        let sync = scope.spawn(|| broker.maintain(Step::Sync));
        gate.wait_for_someone();
        let meanwhile = publish(&broker, "t", "meanwhile").unwrap();
        gate.shut(false);
        sync.join().unwrap().unwrap();
        meanwhile
    });
    assert!(is_done(&broker, before));
    assert!(!is_done(&broker, meanwhile), "the fsync began before it was written");
    broker.maintain(Step::Sync).unwrap();
    assert!(is_done(&broker, meanwhile));
}

#[test]
fn offsets_are_handed_out_only_from_reservations_that_are_fsynced() {
    let disk = CrashDisk::new();
    let sizes = StoreSizes { blocks: 512, ..SIZES };
    let options = Options { durability: Durability::Memory, memory_limit: 4 << 20, ..Options::default() };
    let clock = Arc::new(ManualClock::new(testkit::WALL));
    let broker = Broker::open_on(Arc::new(disk.clone()), clock, sizes, options).unwrap();
    // Each new topic draws a block: so many that the next reservation is made ahead.
    let publish_new = |n: u64| publish(&broker, &format!("t{n}"), "x");
    for n in 0..400 {
        let _ = publish_new(n).unwrap();
    }
    disk.set_faults(Box::new(|call| (call.op == Op::Sync).then_some(Fault::SyncFails)));
    broker.maintain(Step::Sync).unwrap_err();
    let more = (400..2000).map_while(|n| publish_new(n).ok()).count() as u64;
    assert!(more < sizes.blocks, "{more} blocks beyond what was reserved for sure");
}

#[test]
fn at_memory_a_publish_beyond_the_budget_is_refused_while_the_disk_is_full() {
    let disk = CrashDisk::new();
    let broker = broker(&disk, Durability::Memory);
    let mut sub = subscribe(&broker, "t");
    broker.maintain(Step::Sync).unwrap();
    disk.capacity(Some(disk.used()));
    let body = "x".repeat(100_000);
    let refused = (0..200).find_map(|_| publish(&broker, "t", &body).err()).expect("memory has a bound");
    assert!(refused.kind() == ErrorKind::Full && refused.is_retryable(), "{refused}");
    assert!(broker.memory_used() <= 5 << 20, "{} bytes", broker.memory_used());
    disk.capacity(None);
    let waited = drain(&mut sub).len();
    assert!(waited > 20, "{waited} were taken");
    broker.maintain(Step::Maintain).unwrap();
    let _ = publish(&broker, "t", &body).unwrap();
}

#[test]
fn while_a_write_hangs_memory_deliveries_and_publishers_go_on() {
    let gate = Arc::new(Gate::default());
    let broker = open(Arc::new(Gated { disk: CrashDisk::new(), gate: gate.clone() }), Durability::Flush);
    let mut written = subscribe(&broker, "t");
    let mut held = subscribe(&broker, "m");
    let _ = topic(&broker, "m").update(|s| s.durability = Durability::Memory).unwrap();
    let _ = publish(&broker, "t", "before").unwrap();
    gate.shut(true);
    std::thread::scope(|scope| {
        let hangs = scope.spawn(|| publish(&broker, "t", "hangs").unwrap());
        gate.wait_for_someone();
        // Of the topic whose write hangs, what is there already.
        assert_eq!(drain(&mut written), ["before"]);
        let _ = publish(&broker, "m", "memory").unwrap();
        assert_eq!(drain(&mut held), ["memory"]);
        // Who publishes meanwhile is not held, only answered later.
        let later = publish(&broker, "u", "later").unwrap();
        assert!(matches!(broker.outcome(later), Outcome::Pending));
        gate.shut(false);
        assert!(is_done(&broker, hangs.join().unwrap()));
        broker.commit();
        assert!(is_done(&broker, later));
        assert_eq!(drain(&mut written), ["hangs"]);
    });
}
