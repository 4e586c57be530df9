//! The workload: random actions on a broker and on the model, with the disk's event numbers around each.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use mq_core::store::crash_disk::{CrashDisk, Fault, Op};
use mq_core::{
    Attributes, Broker, ChannelName, Clock, Durability, Limits, ManualClock, MessageId, Offset, Options,
    Outcome, Overflow, Pulled, Start, Step, StoreSizes, SubscribeOptions, Subscription, Ticket, TopicName,
    Wake,
};

use crate::model::{Channel, Entry, Messages, Model, Sent, Status, Topic};

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
    /// Where all messages stand, and when they were published.
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
    /// What was sent again with them.
    earlier: Vec<u64>,
}

/// A message with an id as the broker is known to have it.
struct Known {
    offset: Offset,
    /// While it is not known to be acknowledged.
    ticket: Option<Ticket>,
}

/// A message to publish.
#[derive(Debug)]
struct Message {
    number: u64,
    not_before: u64,
    id: Option<Vec<u8>>,
    is_again: bool,
}

impl Message {
    fn attributes(&self) -> Attributes<'_> {
        let not_before = Some(self.not_before).filter(|at| *at > 0);
        Attributes { not_before, dedup_id: self.id.as_deref(), ..Attributes::NONE }
    }
}

/// The id of a message.
pub(crate) fn id(number: u64) -> Vec<u8> {
    format!("message {number}").into_bytes()
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
        let published = topic.publish(batch, &nobody()).unwrap();
        let place = (published.offsets().next().unwrap().0, self.clock.wall());
        self.places.insert(self.next_message, place);
        self.broker.commit();
        self.done(published.ticket);
        self.land();
        self.done(topic.set_limits(ANY).unwrap());
        let model = self.model.topics.get_mut(&name).unwrap();
        model.publish(self.next_message, Entry::new(0));
        // Which ones, the channels' numbers tell; here it counts that no newer one is missing.
        for (channel, known) in &mut model.channels {
            let found = topic.find_channel(&ChannelName::parse(channel).unwrap()).unwrap();
            let stats = found.stats();
            let left = stats.depth + stats.in_flight + stats.deferred;
            assert!(left <= max_messages.max(stats.in_flight + 1), "{left} of {max_messages} in {channel}");
            kept.push(left);
            // What is in flight or waits in the topic is not dropped here, and counts.
            let keeps = max_messages.saturating_sub(stats.in_flight + model.waiting.len() as u64);
            let newest = newest(known.messages.keys(), &self.places, keeps as usize);
            for (number, entry) in &mut known.messages {
                if !newest.contains(number) && entry.status != Status::FinishedWritten {
                    entry.status = Status::Dropped;
                }
            }
        }
        let waiting = newest(model.waiting.keys(), &self.places, max_messages as usize);
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

    /// Publishes messages, some of them with an id, and some that were published before and are sent again.
    fn publish(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        let topic = self.topic(&name);
        let count = if self.random.u8(0..8) == 0 { self.random.u32(5..40) } else { self.random.u32(1..4) };
        let again_in = self.random.u8(1..8);
        let mut batch = topic.batch();
        let mut messages: Vec<Message> = Vec::new();
        for _ in 0..count {
            let message = match self.random.u8(0..again_in) {
                0 => self.any_sent(&name, &messages).unwrap_or_else(|| self.message()),
                _ => self.message(),
            };
            batch.push(&message.attributes(), &body(message.number)).unwrap();
            messages.push(message);
        }
        let numbers: Vec<_> = messages.iter().map(|m| m.number).collect();
        let text = format!("publish {numbers:?} to {name}");
        let result = topic.publish(batch, &nobody());
        self.broker.commit();
        let outcome = result.as_ref().map(|published| self.broker.outcome(published.ticket));
        // What is sent again is told to be where it was, unless that was refused.
        let places: Vec<_> = result.iter().flat_map(|published| published.offsets()).collect();
        let (mut fresh, mut earlier) = (Vec::new(), Vec::new());
        let model = self.model.topics.get_mut(&name).unwrap();
        for (at, message) in messages.iter().enumerate() {
            let twice = numbers[..at].contains(&message.number);
            let may_be_known = message.id.is_some() && model.sent.contains_key(&message.number);
            let place = places.get(at).copied();
            let known = self.known.get(&message.number).filter(|_| message.id.is_some());
            let is_duplicate = match (place, known) {
                (Some((offset, is_duplicate)), Some(before)) if is_duplicate => {
                    assert!(may_be_known, "{text}: {message:?} is no duplicate");
                    assert_eq!(offset, before.offset, "{text}: {message:?} stands elsewhere");
                    true
                }
                (Some((offset, is_duplicate)), None) if is_duplicate => {
                    assert!(twice, "{text}: {message:?} is no duplicate");
                    let first = numbers.iter().position(|n| *n == message.number).unwrap();
                    assert_eq!(offset, places[first].0);
                    true
                }
                _ => twice && message.id.is_some(),
            };
            if is_duplicate {
                earlier.push(message.number);
            } else {
                // A refusal may not have been told yet.
                let refused = self.known.get(&message.number).is_some_and(|before| {
                    before.ticket.is_some_and(|t| matches!(self.broker.outcome(t), Outcome::Failed(_)))
                });
                assert!(
                    place.is_none() || known.is_none() || refused,
                    "{text}: {message:?} was stored, and is stored again"
                );
                fresh.push((message, place));
            }
        }
        // What waited for an fsync may have been acknowledged, or refused, before this was published.
        self.land();
        let model = self.model.topics.get_mut(&name).unwrap();
        let published: Vec<(u64, u64)> = fresh.iter().map(|(m, _)| (m.number, m.not_before)).collect();
        let entry = |message: &Message| Entry {
            // What was refused and is sent again comes after what was published in between.
            unordered: message.not_before > 0 || message.is_again,
            ..Entry::new(message.not_before)
        };
        let is_done = matches!(outcome, Ok(Outcome::Done));
        if let Ok(Outcome::Done | Outcome::Pending) = outcome {
            let ticket = result.as_ref().unwrap().ticket;
            let time = self.clock.wall();
            for (message, place) in fresh.iter().filter(|(m, _)| m.id.is_some()) {
                let (offset, not_before) = (place.unwrap().0, message.not_before);
                let sent = Sent { offset, not_before, time };
                model.sent.insert(message.number, sent);
                self.known.insert(message.number, Known { offset, ticket: (!is_done).then_some(ticket) });
            }
            for (message, place) in &fresh {
                self.places.insert(message.number, (place.unwrap().0, time));
                model.refused.remove(&message.number);
                if message.is_again {
                    model.again.insert(message.number);
                }
            }
            // What was sent again is answered no earlier than it was stored.
            for number in earlier.iter().filter(|_| is_done) {
                let ticket = self.known[number].ticket;
                let was = ticket.map(|ticket| self.broker.outcome(ticket));
                assert!(matches!(was, None | Some(Outcome::Done)), "{text}: {number} is {was:?}");
            }
        }
        match outcome {
            Ok(Outcome::Done) => fresh.iter().for_each(|(m, _)| model.publish(m.number, entry(m))),
            Ok(Outcome::Pending) => {
                model.unanswered.extend(fresh.iter().map(|(m, _)| (m.number, entry(m))));
                let (ticket, topic) = (result.unwrap().ticket, name.clone());
                let earlier = earlier.clone();
                self.unanswered.push(Unanswered { ticket, topic, messages: published, earlier });
            }
            Ok(Outcome::Failed(_)) | Err(_) if self.faulty => {
                // What was there before still is.
                let is_new =
                    |message: &Message| !places.is_empty() || !self.known.contains_key(&message.number);
                let refused: Vec<_> = fresh.iter().filter(|(message, _)| is_new(message)).collect();
                for (message, _) in refused {
                    self.known.remove(&message.number);
                    model.refused.insert(message.number, entry(message));
                    if message.id.is_some() {
                        let sent = Sent { offset: Offset(0), not_before: message.not_before, time: 0 };
                        model.sent.insert(message.number, sent);
                    }
                }
                return format!("{text}: refused");
            }
            refused => panic!("{text}: {refused:?}"),
        }
        format!("{text}, known {earlier:?}")
    }

    /// A new message.
    fn message(&mut self) -> Message {
        self.next_message += 1;
        let later = self.random.u8(0..12) == 0;
        let delay = self.random.u64(1..20) * 1_000_000_000;
        let not_before = if later { self.clock.wall() + delay } else { 0 };
        let id = self.random.bool().then(|| id(self.next_message));
        Message { number: self.next_message, not_before, id, is_again: false }
    }

    /// One that was published to the topic with an id before, or stands in the batch already.
    fn any_sent(&mut self, topic: &str, batch: &[Message]) -> Option<Message> {
        let sent = &self.model.topics[topic].sent;
        let sent = sent.iter().map(|(number, sent)| (*number, sent.not_before));
        let with_ids = batch.iter().filter(|m| m.id.is_some()).map(|m| (m.number, m.not_before));
        let all: Vec<_> = sent.chain(with_ids).collect();
        // The newest are the likeliest to be sent again.
        let from = if self.random.bool() { all.len().saturating_sub(5) } else { 0 };
        let (number, not_before) = *all.get(self.random.usize(from..=all.len()))?;
        Some(Message { number, not_before, id: Some(id(number)), is_again: true })
    }

    fn create_channel(&mut self) -> String {
        let Some(topic) = self.any_topic() else { return self.create_topic() };
        self.next_name += 1;
        let name = format!("c{}", self.next_name);
        let model = self.model.topics.get_mut(&topic).unwrap();
        let sent: Vec<_> = model.sent.values().filter(|sent| sent.time > 0).copied().collect();
        // A message that waits in the topic would be another's, too.
        let any = if model.waiting.is_empty() { sent.get(self.random.usize(0..=sent.len())) } else { None };
        let (start, kept) = match (self.random.u8(0..4), any) {
            (0, _) => (Start::Earliest, model.kept(|_| true)),
            (1, Some(from)) => {
                let is_kept = |n: u64| self.places.get(&n).is_some_and(|(at, _)| *at >= from.offset);
                (Start::Offset(from.offset), model.kept(is_kept))
            }
            (2, Some(from)) => {
                let is_kept = |n: u64| self.places.get(&n).is_some_and(|(_, time)| *time >= from.time);
                (Start::Time(from.time), model.kept(is_kept))
            }
            _ => (Start::Now, Messages::new()),
        };
        let topic_name = TopicName::parse(&topic).unwrap();
        let found = self.broker.topic(&topic_name).unwrap();
        let (_, ticket) = found.channel_at(&ChannelName::parse(&name).unwrap(), start, &nobody()).unwrap();
        self.done(ticket);
        let numbers: Vec<_> = kept.keys().copied().collect();
        let model = self.model.topics.get_mut(&topic).unwrap();
        model.channels.insert(name.clone(), Channel { messages: kept, ..Channel::default() });
        model.pump();
        format!("create channel {topic}/{name} at {start:?}: {numbers:?}")
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
        let gone = self.model.topics.remove(&name).unwrap();
        gone.sent.keys().for_each(|number| _ = self.known.remove(number));
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

/// The `count` of these messages that were stored last.
fn newest<'a>(
    numbers: impl Iterator<Item = &'a u64>,
    places: &HashMap<u64, (Offset, u64)>,
    count: usize,
) -> Vec<u64> {
    let mut numbers: Vec<u64> = numbers.copied().collect();
    numbers.sort_unstable_by_key(|number| std::cmp::Reverse(places[number].0));
    numbers.truncate(count);
    numbers
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
