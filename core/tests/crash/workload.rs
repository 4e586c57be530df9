//! The workload: random actions on a broker and on the model, with the disk's event numbers around each.

mod admin;
mod consume;
mod publish;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use mq_core::testkit::nobody;
use mq_core::testkit::{CrashDisk, Fault, Op};
use mq_core::{
    Attributes, Broker, ChannelName, Clock, Durability, Limits, ManualClock, MessageId, Offset, Options,
    Outcome, Overflow, Pulled, Start, Step, StoreSizes, SubscribeOptions, Subscription, Ticket, TopicName,
};

pub(crate) use self::publish::{body, id, number};
use crate::model::{Channel, Entry, Messages, Model, Sent, Status, Topic};
use mq_core::clock::Wall;

pub(crate) const SIZES: StoreSizes =
    StoreSizes { file_bytes: 4 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 4 };
pub(crate) const START: u64 = 1_800_000_000_000_000_000;
const ANY: Limits =
    Limits { max_messages: 0, max_bytes: 0, max_age: Duration::ZERO, overflow: Overflow::Refuse };
const ACTIONS: usize = 150;
const TOPICS_MAX: usize = 4;

/// The state that a run leaves to be checked.
pub(crate) struct Run {
    pub(crate) disk: CrashDisk,
    /// The model after each action, with the number of disk events and the wall time by then.
    pub(crate) states: Vec<State>,
    /// Ids as they were seen, by message, and the number of events by then.
    pub(crate) seen: HashMap<u64, (MessageId, usize)>,
    pub(crate) options: Options,
}

pub(crate) struct State {
    pub(crate) events: usize,
    pub(crate) wall: u64,
    pub(crate) model: Arc<Model>,
    pub(crate) action: String,
    /// Whether the disk failed in the action, or may have since it began to.
    pub(crate) faulty: bool,
}

pub(crate) fn options() -> Options {
    let dedup_window = Duration::from_secs(24 * 3600);
    Options { memory_limit: 4 << 20, dedup_window, ..Options::default() }
}

/// A subscriber and what it holds.
struct Reader {
    topic: String,
    channel: String,
    subscription: Subscription,
    credit: u32,
    held: Vec<(MessageId, u64)>,
}

struct Driver {
    random: fastrand::Rng,
    clock: Arc<ManualClock>,
    disk: CrashDisk,
    broker: Broker,
    readers: Vec<Reader>,
    model: Model,
    next_message: u64,
    next_name: u32,
    seen: HashMap<u64, (MessageId, usize)>,
    by_id: BTreeMap<MessageId, u64>,
    /// Publishes that wait for an fsync.
    unanswered: Vec<Unanswered>,
    /// Places of all messages, and the times of their publishes.
    places: HashMap<u64, (Offset, u64)>,
    /// Messages with ids that are stored, or on their way.
    known: HashMap<u64, Known>,
    /// Whether the disk fails now and then.
    faulty: bool,
}

struct Unanswered {
    ticket: Ticket,
    topic: String,
    /// Numbers and not-before times.
    messages: Vec<(u64, u64)>,
    /// The messages sent again with them.
    earlier: Vec<u64>,
}

/// A message with an id as the broker is known to have it.
struct Known {
    offset: Offset,
    /// While it is not known to be acknowledged.
    ticket: Option<Ticket>,
}

/// Runs the workload of `seed`.
pub(crate) fn run(seed: u64) -> Run {
    let disk = CrashDisk::new();
    let clock = Arc::new(ManualClock::new(Wall(START)));
    let broker = Broker::open_on(Arc::new(disk.clone()), clock.clone(), SIZES, options()).unwrap();
    let mut driver = Driver {
        random: fastrand::Rng::with_seed(seed),
        clock,
        disk: disk.clone(),
        broker,
        readers: Vec::new(),
        model: Model::default(),
        next_message: 0,
        next_name: 0,
        seen: HashMap::new(),
        by_id: BTreeMap::new(),
        unanswered: Vec::new(),
        places: HashMap::new(),
        known: HashMap::new(),
        faulty: false,
    };
    let mut states = vec![driver.state("open".into())];
    for _ in 0..ACTIONS {
        let action = driver.act();
        if crate::number("MQ_CRASH_TRACE", 0) > 0 {
            eprintln!("  {:4} {action}", driver.disk.events());
        }
        driver.land();
        states.push(driver.state(action));
    }
    let Driver { seen, .. } = driver;
    Run { disk, states, seen, options: options() }
}

impl Driver {
    fn state(&self, action: String) -> State {
        State {
            events: self.disk.events(),
            wall: self.clock.wall().0,
            model: Arc::new(self.model.clone()),
            action,
            faulty: self.faulty,
        }
    }

    fn act(&mut self) -> String {
        if self.faulty {
            return match self.random.u32(0..10) {
                // Creating one is no part of this: its ticket may fail.
                _ if self.model.topics.is_empty() => self.mend(),
                0..4 => self.publish(),
                4 => self.state_step(),
                5 => self.sync(),
                6 => self.maintain(Step::Checkpoint),
                7 => self.maintain(Step::Maintain),
                _ => self.mend(),
            };
        }
        let pick = self.random.u32(0..104);
        match pick {
            100..102 => self.break_disk(),
            102..104 => self.drop_oldest(),
            0..30 => self.publish(),
            30..34 => self.create_topic(),
            34..40 => self.create_channel(),
            40..46 => self.subscribe(),
            46..64 => self.consume(),
            64..68 => self.time(),
            68..75 => self.state_step(),
            75..80 => self.sync(),
            80..82 => self.maintain(Step::Checkpoint),
            82..85 => self.maintain(Step::Spill),
            85..88 => self.maintain(Step::Clean),
            88..90 => self.unsubscribe(),
            90..92 => self.pause_topic(),
            92..93 => self.pause_channel(),
            93..94 => self.empty_channel(),
            94..95 => self.empty_topic(),
            95..96 => self.delete_channel(),
            96..97 => self.delete_topic(),
            97..99 => self.change_level(),
            99..100 => self.reopen(),
            _ => unreachable!(),
        }
    }

    /// Looks what was acknowledged since.
    fn land(&mut self) {
        let Self { broker, model, known, .. } = self;
        self.unanswered.retain(|publish| {
            let answered = match broker.outcome(publish.ticket) {
                Outcome::Pending => return true,
                outcome => matches!(outcome, Outcome::Done),
            };
            let Some(topic) = model.topics.get_mut(&publish.topic) else { return false };
            for (number, not_before) in &publish.messages {
                let Some(entry) = topic.unanswered.remove(number) else { continue };
                if answered {
                    topic.acknowledge(*number, entry);
                    known.entry(*number).and_modify(|known| known.ticket = None);
                } else {
                    known.remove(number);
                    topic.refused.insert(*number, Entry::new(*not_before));
                }
            }
            if answered {
                topic.acknowledged();
                for number in &publish.earlier {
                    let was = known.get(number).and_then(|known| known.ticket).map(|t| broker.outcome(t));
                    assert!(matches!(was, None | Some(Outcome::Done)), "{number} is {was:?}");
                }
            }
            false
        });
    }

    /// From now on the disk fails now and then, or is full.
    fn break_disk(&mut self) -> String {
        self.faulty = true;
        let mut random = self.random.fork();
        let fault = match random.u8(0..5) {
            0 => {
                let room = random.u64(0..3000);
                self.disk.capacity(Some(self.disk.used() + room));
                return format!("room for {room} bytes is left");
            }
            1 => Fault::Enospc,
            2 => Fault::Eio,
            3 => Fault::ShortWrite(random.usize(0..300)),
            _ => Fault::SyncFails,
        };
        let one_in = random.u8(2..6);
        self.disk.set_faults(Box::new(move |call| {
            let meant = call.op.changes() && (fault != Fault::SyncFails || call.op == Op::Sync);
            (meant && random.u8(0..one_in) == 0).then_some(fault)
        }));
        format!("one in {one_in} calls is {fault:?}")
    }

    /// The disk works again, and so does the broker.
    fn mend(&mut self) -> String {
        self.faulty = false;
        self.disk.clear_faults();
        self.disk.capacity(None);
        self.broker.maintain(Step::Maintain).unwrap();
        self.broker.maintain(Step::State).unwrap();
        self.broker.health().unwrap();
        "the disk works again".into()
    }

    /// Sees to it that a change is acknowledged: at level `sync`, by an fsync.
    fn done(&self, ticket: Ticket) {
        if matches!(self.broker.outcome(ticket), Outcome::Pending) {
            self.broker.maintain(Step::Sync).unwrap();
        }
        assert!(matches!(self.broker.outcome(ticket), Outcome::Done));
    }

    fn topic(&self, name: &str) -> Arc<mq_core::Topic> {
        self.broker.topic(&TopicName::parse(name).unwrap()).unwrap()
    }

    fn any_topic(&mut self) -> Option<String> {
        let names: Vec<_> = self.model.topics.keys().cloned().collect();
        (!names.is_empty()).then(|| names[self.random.usize(..names.len())].clone())
    }

    fn any_channel(&mut self) -> Option<(String, String)> {
        let topic = self.any_topic()?;
        let names: Vec<_> = self.model.topics[&topic].channels.keys().cloned().collect();
        (!names.is_empty()).then(|| (topic, names[self.random.usize(..names.len())].clone()))
    }

    fn time(&mut self) -> String {
        let ns = self.random.u64(1..8_000_000_000);
        self.clock.advance(ns);
        self.broker.maintain(Step::Timers).unwrap();
        format!("{ns} ns pass")
    }

    fn state_step(&mut self) -> String {
        self.broker.maintain(Step::State).unwrap();
        if !self.faulty {
            self.model.state_written();
        }
        "state".into()
    }

    fn sync(&mut self) -> String {
        let result = self.broker.maintain(Step::Sync);
        assert!(self.faulty || result.is_ok(), "{result:?}");
        // Where writes failed, what is synced is not all.
        if !self.faulty {
            self.model.synced();
        }
        format!("sync: {result:?}")
    }

    fn maintain(&mut self, step: Step) -> String {
        if self.random.bool() {
            self.broker.maintain(Step::Memory).unwrap();
        }
        let result = self.broker.maintain(step);
        assert!(self.faulty || result.is_ok(), "{result:?}");
        format!("{step:?}: {result:?}")
    }

    /// A clean stop and start on the same disk.
    fn reopen(&mut self) -> String {
        self.readers.clear();
        self.broker.close().unwrap();
        self.land();
        assert!(self.unanswered.is_empty(), "a clean stop answers all");
        self.broker =
            Broker::open_on(Arc::new(self.disk.clone()), self.clock.clone(), SIZES, options()).unwrap();
        self.model.state_written();
        self.model.topics.values_mut().for_each(Topic::spilled);
        self.model.synced();
        "stop and start".into()
    }
}
