//! The workload: random actions on a broker and on the model, with the disk's event numbers around each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mq_core::store::crash_disk::{CrashDisk, Fault, Op};
use mq_core::{
    Attributes, Broker, ChannelName, Clock, Durability, Limits, ManualClock, MessageId, Options, Outcome,
    Overflow, Pulled, Step, StoreSizes, SubscribeOptions, Subscription, Ticket, TopicName, Wake,
};

use crate::model::{Channel, Entry, Model, Status, Topic};

pub(crate) const SIZES: StoreSizes =
    StoreSizes { file_bytes: 4 << 10, chunk_bytes: 1 << 10, read_bytes: 1 << 10, blocks: 4 };
pub(crate) const START: u64 = 1_800_000_000_000_000_000;
const ANY: Limits =
    Limits { max_messages: 0, max_bytes: 0, max_age: Duration::ZERO, overflow: Overflow::Refuse };
const ACTIONS: usize = 150;
const TOPICS_MAX: usize = 4;

pub(crate) struct Nobody;

impl Wake for Nobody {
    fn wake(&self) {}
}

pub(crate) fn nobody() -> Arc<dyn Wake> {
    Arc::new(Nobody)
}

/// What a run leaves to be checked.
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
    Options { memory_limit: 4 << 20, ..Options::default() }
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
    /// Whether the disk fails now and then.
    faulty: bool,
}

struct Unanswered {
    ticket: Ticket,
    topic: String,
    /// Numbers and not-before times.
    messages: Vec<(u64, u64)>,
}

/// Runs the workload of `seed`.
pub(crate) fn run(seed: u64) -> Run {
    let disk = CrashDisk::new();
    let clock = Arc::new(ManualClock::new(START));
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
            wall: self.clock.wall(),
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
                6 => self.housekeep(Step::Checkpoint),
                7 => self.housekeep(Step::KeepHouse),
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
            80..82 => self.housekeep(Step::Checkpoint),
            82..85 => self.housekeep(Step::Spill),
            85..88 => self.housekeep(Step::Clean),
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
        let broker = &self.broker;
        let model = &mut self.model;
        self.unanswered.retain(|publish| {
            let answered = match broker.outcome(publish.ticket) {
                Outcome::Pending => return true,
                outcome => matches!(outcome, Outcome::Done),
            };
            let Some(topic) = model.topics.get_mut(&publish.topic) else { return false };
            if answered {
                topic.acknowledge(&publish.messages);
            } else {
                for (number, not_before) in &publish.messages {
                    topic.unanswered.remove(number);
                    topic.refused.insert(*number, Entry::new(*not_before));
                }
            }
            false
        });
    }

    /// Limits a topic to few messages and publishes one: the oldest are dropped.
    fn drop_oldest(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        let topic = self.topic(&name);
        // What is on its way can't be dropped.
        self.broker.maintain(Step::Sync).unwrap();
        self.land();
        let max_messages = self.random.u64(2..30);
        self.done(topic.set_limits(Limits { max_messages, overflow: Overflow::DropOldest, ..ANY }).unwrap());
        self.land();
        let mut kept = Vec::new();
        let mut batch = topic.batch();
        self.next_message += 1;
        batch.push(&Attributes::NONE, &body(self.next_message)).unwrap();
        let ticket = topic.publish(batch, &nobody()).unwrap().ticket;
        self.broker.commit();
        self.done(ticket);
        self.land();
        self.done(topic.set_limits(ANY).unwrap());
        let model = self.model.topics.get_mut(&name).unwrap();
        model.publish(self.next_message, 0);
        // Which ones, the channels' numbers tell; here it counts that no newer one is missing.
        for (channel, known) in &mut model.channels {
            let found = topic.find_channel(&ChannelName::parse(channel).unwrap()).unwrap();
            let stats = found.stats();
            let left = stats.depth + stats.in_flight + stats.deferred;
            assert!(left <= max_messages.max(stats.in_flight + 1), "{left} of {max_messages} in {channel}");
            kept.push(left);
            // What is in flight or waits in the topic is not dropped here, and counts.
            let keeps = max_messages.saturating_sub(stats.in_flight + model.waiting.len() as u64);
            let newest: Vec<u64> = known.messages.keys().rev().take(keeps as usize).copied().collect();
            for (number, entry) in &mut known.messages {
                if !newest.contains(number) && entry.status != Status::FinishedWritten {
                    entry.status = Status::Dropped;
                }
            }
        }
        let waiting: Vec<u64> = model.waiting.keys().rev().take(max_messages as usize).copied().collect();
        for (number, entry) in &mut model.waiting {
            if !waiting.contains(number) {
                entry.status = Status::Dropped;
            }
        }
        format!("limit {name} to {max_messages}: channels keep {kept:?}")
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
        self.broker.maintain(Step::KeepHouse).unwrap();
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

    fn create_topic(&mut self) -> String {
        if self.model.topics.len() >= TOPICS_MAX {
            return self.publish();
        }
        self.next_name += 1;
        let name = format!("t{}", self.next_name);
        let topic = self.topic(&name);
        let level = Durability::ALL[self.random.usize(0..3)];
        self.set_level(&topic, level);
        self.model.topics.insert(name.clone(), Topic { level, ..Topic::default() });
        format!("create topic {name}, {level:?}")
    }

    fn publish(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        let topic = self.topic(&name);
        let count = if self.random.u8(0..8) == 0 { self.random.u32(5..40) } else { self.random.u32(1..4) };
        let mut batch = topic.batch();
        let mut published = Vec::new();
        for _ in 0..count {
            self.next_message += 1;
            let later = self.random.u8(0..12) == 0;
            let delay = self.random.u64(1..20) * 1_000_000_000;
            let not_before = if later { self.clock.wall() + delay } else { 0 };
            let attributes = Attributes { not_before: later.then_some(not_before), ..Attributes::NONE };
            batch.push(&attributes, &body(self.next_message)).unwrap();
            published.push((self.next_message, not_before));
        }
        let text = format!("publish {:?} to {name}", published.iter().map(|(n, _)| n).collect::<Vec<_>>());
        let ticket = topic.publish(batch, &nobody()).map(|published| published.ticket);
        self.broker.commit();
        // What waited for an fsync may have been acknowledged before this was published.
        self.land();
        let model = self.model.topics.get_mut(&name).unwrap();
        let outcome = ticket.as_ref().map(|ticket| self.broker.outcome(*ticket));
        match outcome {
            Ok(Outcome::Done) => published.iter().for_each(|(n, at)| model.publish(*n, *at)),
            Ok(Outcome::Pending) => {
                model.unanswered.extend(published.iter().map(|(n, at)| (*n, Entry::new(*at))));
                let (ticket, topic) = (ticket.unwrap(), name.clone());
                self.unanswered.push(Unanswered { ticket, topic, messages: published });
            }
            Ok(Outcome::Failed(_)) | Err(_) if self.faulty => {
                model.refused.extend(published.iter().map(|(n, at)| (*n, Entry::new(*at))));
                return format!("{text}: refused");
            }
            refused => panic!("{text}: {refused:?}"),
        }
        text
    }

    fn create_channel(&mut self) -> String {
        let Some(topic) = self.any_topic() else { return self.create_topic() };
        self.next_name += 1;
        let name = format!("c{}", self.next_name);
        let (_, ticket) = self.topic(&topic).channel(&ChannelName::parse(&name).unwrap(), &nobody()).unwrap();
        self.done(ticket);
        let model = self.model.topics.get_mut(&topic).unwrap();
        model.channels.insert(name.clone(), Channel::default());
        model.pump();
        format!("create channel {topic}/{name}")
    }

    fn subscribe(&mut self) -> String {
        let Some((topic, channel)) = self.any_channel() else { return self.create_channel() };
        let found = self.topic(&topic).find_channel(&ChannelName::parse(&channel).unwrap()).unwrap();
        let options = SubscribeOptions { msg_timeout: Duration::from_secs(5), sample_rate: 0 };
        let subscription = found.subscribe(options, nobody()).unwrap();
        let credit = self.random.u32(1..30);
        subscription.acks().set_credit(credit);
        let text = format!("subscribe {topic}/{channel}, credit {credit}");
        self.readers.push(Reader { topic, channel, subscription, credit, held: Vec::new() });
        text
    }

    fn consume(&mut self) -> String {
        if self.readers.is_empty() {
            return self.subscribe();
        }
        let index = self.random.usize(..self.readers.len());
        let mut got = Vec::new();
        {
            let reader = &mut self.readers[index];
            let room = self.random.usize(1..4000);
            let pulled = reader.subscription.pull(room, &mut |m| got.push((m.id, number(m.body))));
            if pulled == Pulled::More {
                reader.subscription.rest();
            }
            // I4: never more than the credit.
            let in_flight = reader.subscription.in_flight();
            assert!(in_flight <= u64::from(reader.credit), "{in_flight} over {}", reader.credit);
            reader.held.extend(got.iter().copied());
        }
        let events = self.disk.events();
        for (id, number) in &got {
            // Nothing is delivered that a publisher may still be refused.
            assert!(!self.unanswered.iter().any(|u| u.messages.iter().any(|(n, _)| n == number)));
            // I9: one id for one message, for good.
            assert_eq!(*self.by_id.entry(*id).or_insert(*number), *number);
            let seen = self.seen.entry(*number).or_insert((*id, events));
            assert_eq!(seen.0, *id);
        }
        self.acknowledge(index)
    }

    /// Finishes, requeues, touches some of what a reader holds.
    fn acknowledge(&mut self, index: usize) -> String {
        let reader = &mut self.readers[index];
        let channel = self
            .model
            .topics
            .get_mut(&reader.topic)
            .and_then(|topic| topic.channels.get_mut(&reader.channel));
        let Some(channel) = channel else { return "consume of what is deleted".into() };
        let mut finished = Vec::new();
        let mut kept = Vec::new();
        let mut acks = reader.subscription.acks();
        for (id, number) in reader.held.drain(..) {
            match self.random.u8(0..10) {
                0..6 => {
                    if acks.finish(id).is_ok() {
                        finished.push(number);
                        let entry = channel.messages.get_mut(&number).unwrap_or_else(|| {
                            panic!("message {number} was delivered, which the channel does not have")
                        });
                        entry.status = Status::Finished;
                        // I5: a late finish changes nothing.
                        assert!(acks.finish(id).is_err());
                    }
                }
                6 => {
                    let delay = Duration::from_secs(self.random.u64(0..5));
                    if acks.requeue(id, delay).is_ok() {
                        channel.messages.get_mut(&number).unwrap().unordered = true;
                    }
                }
                7 => {
                    let _ = acks.touch(id);
                    kept.push((id, number));
                }
                _ => kept.push((id, number)),
            }
        }
        drop(acks);
        for (_, number) in &kept {
            if let Some(entry) = channel.messages.get_mut(number) {
                entry.unordered = true;
            }
        }
        reader.held = kept;
        format!("consume {}/{}: finished {finished:?}, holds {:?}", reader.topic, reader.channel, reader.held)
    }

    fn unsubscribe(&mut self) -> String {
        if self.readers.is_empty() {
            return self.subscribe();
        }
        let index = self.random.usize(..self.readers.len());
        let reader = self.readers.swap_remove(index);
        format!("unsubscribe {}/{}", reader.topic, reader.channel)
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

    fn housekeep(&mut self, step: Step) -> String {
        if self.random.bool() {
            self.broker.maintain(Step::Memory).unwrap();
        }
        let result = self.broker.maintain(step);
        assert!(self.faulty || result.is_ok(), "{result:?}");
        format!("{step:?}: {result:?}")
    }

    fn pause_topic(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        let model = self.model.topics.get_mut(&name).unwrap();
        model.paused = !model.paused;
        model.pump();
        let paused = model.paused;
        let topic = self.topic(&name);
        self.done(if paused { topic.pause() } else { topic.unpause() }.unwrap());
        format!("pause {name}: {paused}")
    }

    fn pause_channel(&mut self) -> String {
        let Some((topic, name)) = self.any_channel() else { return self.create_channel() };
        let channel = self.topic(&topic).find_channel(&ChannelName::parse(&name).unwrap()).unwrap();
        let model = self.model.topics.get_mut(&topic).unwrap().channels.get_mut(&name).unwrap();
        model.paused = !model.paused;
        let paused = model.paused;
        self.done(if paused { channel.pause() } else { channel.unpause() }.unwrap());
        format!("pause {topic}/{name}: {paused}")
    }

    fn empty_channel(&mut self) -> String {
        let Some((topic, name)) = self.any_channel() else { return self.create_channel() };
        let channel = self.topic(&topic).find_channel(&ChannelName::parse(&name).unwrap()).unwrap();
        self.done(channel.empty().unwrap());
        let model = self.model.topics.get_mut(&topic).unwrap().channels.get_mut(&name).unwrap();
        let dropped = std::mem::take(&mut model.messages);
        model.dropped.extend(dropped);
        format!("empty {topic}/{name}")
    }

    fn empty_topic(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        self.done(self.topic(&name).empty().unwrap());
        let model = self.model.topics.get_mut(&name).unwrap();
        let waiting = std::mem::take(&mut model.waiting);
        model.waited.extend(waiting);
        format!("empty {name}")
    }

    fn delete_channel(&mut self) -> String {
        let Some((topic, name)) = self.any_channel() else { return self.create_channel() };
        self.done(self.topic(&topic).delete_channel(&ChannelName::parse(&name).unwrap()).unwrap());
        self.model.topics.get_mut(&topic).unwrap().channels.remove(&name);
        self.model.deleted_channels.insert((topic.clone(), name.clone()), false);
        format!("delete {topic}/{name}")
    }

    fn delete_topic(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        self.done(self.broker.delete_topic(&TopicName::parse(&name).unwrap()).unwrap());
        self.model.topics.remove(&name);
        self.model.deleted_topics.insert(name.clone(), false);
        format!("delete {name}")
    }

    fn change_level(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        let level = Durability::ALL[self.random.usize(0..3)];
        let model = self.model.topics.get_mut(&name).unwrap();
        if level != Durability::Memory {
            model.spilled();
        }
        model.level = level;
        let topic = self.topic(&name);
        self.set_level(&topic, level);
        format!("{name} to {level:?}")
    }

    fn set_level(&mut self, topic: &mq_core::Topic, level: Durability) {
        self.done(topic.set_durability(level).unwrap());
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

/// The body of message `number`: its number and some filling that depends on it, now and then larger than a chunk.
pub(crate) fn body(number: u64) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let len = if random.u8(0..30) == 0 { random.usize(300..2000) } else { random.usize(0..60) };
    let mut body = number.to_le_bytes().to_vec();
    body.extend((0..len).map(|_| random.u8(..)));
    body
}

/// The number of a message, from its body, all of which must be right (I8).
pub(crate) fn number(bytes: &[u8]) -> u64 {
    let number = u64::from_le_bytes(*bytes.first_chunk().expect("a body begins with its number"));
    assert_eq!(bytes, body(number), "the body of message {number} is wrong");
    number
}
