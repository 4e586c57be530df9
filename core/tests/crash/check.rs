//! Cuts a run at every event, reopens what would have survived, and holds it against the model.

use std::collections::{BTreeMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use mq_core::testkit::CrashDisk;
use mq_core::{
    Attributes, Broker, ChannelName, Delivery, ManualClock, MessageId, Outcome, Pulled, Step,
    SubscribeOptions, Subscription, TopicName,
};

use crate::model::{Channel, Messages, Status, Topic};
use crate::workload::{Run, SIZES, State, body, id, nobody, number};
use mq_core::clock::Wall;

/// Reopens every image of `run` and returns how many there were.
pub(crate) fn every_cut(seed: u64, run: &Run) -> u64 {
    let mut images = 0;
    let mut replay = run.disk.replay();
    let mut at = 0;
    // Before the broker was first open there is nothing to lose.
    let first = run.states[0].events;
    loop {
        let event = replay.event();
        while at + 1 < run.states.len() && run.states[at + 1].events <= event {
            at += 1;
        }
        if event >= first {
            // Within an action, both what was before it and what is after it may be.
            let after = run.states.get(at + 1).filter(|_| run.states[at].events < event);
            let states = [Some(&run.states[at]), after];
            let mut check = |image: CrashDisk, power: bool, torn: bool| {
                images += 1;
                let kind = if power {
                    "power"
                } else if torn {
                    "torn"
                } else {
                    "kill"
                };
                let states = if torn { [Some(&run.states[at]), run.states.get(at + 1)] } else { states };
                let cut = Cut { run, states, event, power };
                let history = crate::number("MQ_CRASH_HISTORY", 30) as usize;
                let checked = std::panic::catch_unwind(AssertUnwindSafe(|| cut.check(&image)));
                if let Err(panic) = checked {
                    eprintln!("seed {seed}, cut at event {event} ({kind}), in:");
                    for state in run.states[at.saturating_sub(history)..].iter().take(history + 2) {
                        eprintln!("  {:4} {}", state.events, state.action);
                    }
                    eprintln!("and of the disk:");
                    for (n, what) in run
                        .disk
                        .history()
                        .iter()
                        .enumerate()
                        .take(event)
                        .skip(event.saturating_sub(2 * history))
                    {
                        eprintln!("  {:4} {what}", n + 1);
                    }
                    std::panic::resume_unwind(panic);
                }
            };
            check(replay.kill_image(), false, false);
            check(replay.power_image(seed ^ event as u64), true, false);
            if let Some(torn) = replay.torn_image(seed ^ event as u64) {
                check(torn, false, true);
            }
        }
        if !replay.step() {
            return images;
        }
    }
}

struct Cut<'a> {
    run: &'a Run,
    /// The state before the cut and, if the cut lies within an action, the one after that.
    states: [Option<&'a State>; 2],
    event: usize,
    power: bool,
}

/// A delivery after the crash.
struct Got {
    id: MessageId,
    number: u64,
    time: u64,
}

/// Long enough that nothing times out while it is checked.
const FOREVER: SubscribeOptions = SubscribeOptions { msg_timeout: Duration::from_secs(9000), sample_rate: 0 };

/// Pulls all there is.
fn drain(sub: &mut Subscription, got: &mut Vec<Got>) {
    let mut take = |m: &Delivery<'_>| got.push(Got { id: m.id, number: number(m.body), time: m.time.0 });
    while sub.pull(1 << 20, &mut take) == Pulled::More {}
}

impl Cut<'_> {
    fn states(&self) -> impl Iterator<Item = &State> {
        self.states.iter().copied().flatten()
    }

    fn check(&self, image: &CrashDisk) {
        let wall = self.states().map(|s| s.wall).max().unwrap();
        let clock = Arc::new(ManualClock::new(Wall(wall)));
        let broker =
            Broker::open_on(Arc::new(image.clone()), clock.clone(), SIZES, self.run.options.clone()).unwrap();
        assert_eq!(broker.damage(), [] as [String; 0], "a crash is no damage");
        let mut used: HashSet<MessageId> = HashSet::new();
        let seen = self.run.seen.values().filter(|(_, events)| *events < self.event);
        used.extend(seen.map(|(id, _)| *id));
        let mut drains = Vec::new();
        for topic in broker.topics() {
            self.check_exists(topic.name().as_str());
            self.check_settings(&topic);
            let _ = topic.unpause().unwrap();
            if topic.channels().is_empty() {
                let _ = topic.channel(&ChannelName::parse("probe").unwrap(), &nobody()).unwrap();
            }
            for channel in topic.channels() {
                let _ = channel.unpause().unwrap();
                let mut sub = channel.subscribe(FOREVER, nobody()).unwrap();
                sub.acks().set_credit(1_000_000);
                let mut got = Vec::new();
                drain(&mut sub, &mut got);
                drains.push((topic.clone(), channel, sub, got.len(), got));
            }
        }
        clock.advance(3_600_000_000_000);
        broker.maintain(Step::Timers).unwrap();
        for (topic, channel, sub, early, got) in &mut drains {
            drain(sub, got);
            self.check_channel(topic.name().as_str(), channel.name().as_str(), got, *early, wall);
            used.extend(got.iter().map(|g| g.id));
        }
        let mut delivered: BTreeMap<String, Vec<(String, HashSet<u64>)>> = BTreeMap::new();
        for (topic, channel, _, _, got) in &drains {
            let numbers = got.iter().map(|g| g.number).collect();
            delivered
                .entry(topic.name().to_string())
                .or_default()
                .push((channel.name().to_string(), numbers));
        }
        drop(drains);
        for state in self.states().take(1) {
            self.check_topics(state, &broker);
        }
        for (topic, channels) in &delivered {
            self.check_sent_again(&broker, topic, channels);
        }
        self.check_fresh_ids(&broker, &used);
    }

    /// Checks that all is there of which the model knows that it must be.
    fn check_topics(&self, state: &State, broker: &Broker) {
        if self.states().any(|state| state.faulty) {
            // What was created while nothing could be written is written later.
            return;
        }
        for (name, topic) in &state.model.topics {
            let sure = topic.created_synced || !self.power;
            let going = self.states().any(|s| !s.model.topics.contains_key(name));
            if !sure || going || (self.power && state.model.deleted_topics.contains_key(name)) {
                continue;
            }
            let found = broker.find_topic(&TopicName::parse(name).unwrap());
            let found = found.unwrap_or_else(|| panic!("topic {name} is gone"));
            for (channel_name, channel) in &topic.channels {
                let sure = channel.created_synced || !self.power;
                let going = self.states().any(|s| !s.model.topics[name].channels.contains_key(channel_name));
                if sure && !going {
                    let found = found.find_channel(&ChannelName::parse(channel_name).unwrap());
                    assert!(found.is_some(), "channel {name}/{channel_name} is gone");
                }
            }
        }
    }

    /// Checks that all that is there may be.
    fn check_exists(&self, name: &str) {
        let known = self.states().any(|s| s.model.topics.contains_key(name));
        let deleted = self.states().any(|s| s.model.deleted_topics.get(name).is_some_and(|synced| !synced));
        assert!(known || (self.power && deleted), "topic {name} should not be there");
    }

    /// Checks that settings are as administrators made them.
    fn check_settings(&self, found: &mq_core::Topic) {
        let name = found.name().as_str();
        let known: Vec<_> = self.states().filter_map(|s| s.model.topics.get(name)).collect();
        let is_sure = |known: usize| known == self.states().count();
        if !is_sure(known.len()) {
            return;
        }
        let (level, paused) = (found.durability(), found.is_paused());
        assert!(known.iter().any(|t| t.level.may_be(level, self.power)), "topic {name} is at {level:?}");
        assert!(known.iter().any(|t| t.paused.may_be(paused, self.power)), "topic {name} paused: {paused}");
        for channel in found.channels() {
            let name = channel.name().as_str();
            let known: Vec<_> = known.iter().filter_map(|t| t.channels.get(name)).collect();
            let paused = channel.is_paused();
            let may_be = known.iter().any(|c| c.paused.may_be(paused, self.power));
            assert!(!is_sure(known.len()) || may_be, "channel {name} paused: {paused}");
        }
    }

    /// I1, I2, I8, I10 for one channel.
    fn check_channel(&self, topic: &str, channel: &str, got: &[Got], early: usize, wall: u64) {
        let place = format!("{topic}/{channel}");
        let probe = channel == "probe";
        let mut counts = BTreeMap::new();
        for g in got {
            *counts.entry(g.number).or_insert(0) += 1;
            if let Some((id, events)) = self.run.seen.get(&g.number)
                && *events < self.event
            {
                assert_eq!(*id, g.id, "message {} has another id now", g.number);
            }
        }
        assert!(counts.values().all(|n| *n == 1), "{place}: a message came twice");
        let known: Vec<_> = self.states().filter_map(|s| s.model.topics.get(topic)).collect();
        if known.is_empty() {
            return;
        }
        let messages: Vec<(Messages, Messages)> =
            known.iter().filter_map(|t| self.expected(topic, t, channel, probe)).collect();
        if messages.is_empty() {
            let deleted = self.states().any(|s| {
                let name = (topic.to_owned(), channel.to_owned());
                s.model.deleted_channels.get(&name).is_some_and(|synced| !synced)
            });
            assert!(self.power && deleted, "channel {place} should not be there");
            return;
        }
        // What must come in every state must come; what may in any may.
        let musts: Vec<u64> = messages[0].0.keys().copied().collect();
        let before_known = self.states().next().is_some_and(|s| s.model.topics.contains_key(topic));
        for number in musts.iter().filter(|_| before_known) {
            let due_in_all = messages.iter().all(|(must, _)| must.contains_key(number));
            let all_known = messages.len() == self.states().count();
            if due_in_all && all_known {
                assert!(counts.contains_key(number), "{place}: message {number} is lost");
            }
        }
        let mut last = None;
        for (i, g) in got.iter().enumerate() {
            let entries: Vec<_> = messages.iter().filter_map(|(_, may)| may.get(&g.number)).collect();
            assert!(!entries.is_empty(), "{place}: message {} should not come", g.number);
            if i < early {
                let waits = entries.iter().all(|e| e.not_before > wall);
                assert!(!waits, "{place}: message {} came before its time", g.number);
            }
            if entries.iter().any(|e| e.unordered) {
                continue;
            }
            if let Some((number, time)) = last.replace((g.number, g.time)) {
                assert!(number < g.number, "{place}: message {} came after {number}", g.number);
                assert!(time <= g.time, "{place}: time went back");
            }
        }
    }

    /// Messages that were not acknowledged, and those refused: the latter only if it may not be known yet
    /// that it was.
    fn uncertain(&self, name: &str, topic: &Topic) -> Messages {
        let before = self.states[0].and_then(|s| s.model.topics.get(name));
        // What was written of a refused frame may be whole, where it could not be cut off the file either.
        let faulty = self.states().any(|state| state.faulty);
        let known = |number: &u64| !faulty && before.is_some_and(|t| t.refused.contains_key(number));
        let refused = topic.refused.iter().filter(|(number, _)| self.power || !known(number));
        topic.unanswered.iter().chain(refused).map(|(n, e)| (*n, *e)).collect()
    }

    /// The messages that must come out of a channel, and those that may.
    fn expected(
        &self,
        topic_name: &str,
        topic: &Topic,
        channel: &str,
        probe: bool,
    ) -> Option<(Messages, Messages)> {
        let must = |all: &Messages| -> Messages {
            all.iter().filter(|(_, e)| e.must_come(self.power)).map(|(n, e)| (*n, *e)).collect()
        };
        let may = |all: &Messages| -> Messages {
            all.iter().filter(|(_, e)| e.may_come(self.power)).map(|(n, e)| (*n, *e)).collect()
        };
        if probe {
            // A channel made just now gets what waits; after a power loss, so may what waited before.
            let mut allowed = topic.waiting.clone();
            allowed.extend(self.uncertain(topic_name, topic));
            if self.power || self.states[1].is_some() {
                allowed.extend(topic.waited.iter().map(|(n, e)| (*n, *e)));
                for Channel { messages, dropped, .. } in topic.channels.values() {
                    allowed.extend(messages.iter().chain(dropped).map(|(n, e)| (*n, *e)));
                }
            }
            let must = if self.power { Messages::new() } else { must(&topic.waiting) };
            return Some((must, allowed));
        }
        let known = topic.channels.get(channel)?;
        // The topic was unpaused: what waited in it comes too, if the pause is known.
        let mut due = must(&known.messages);
        let mut allowed = may(&known.messages);
        if !self.power {
            due.extend(must(&topic.waiting));
        }
        let mut allow = |more: &Messages| more.iter().for_each(|(n, e)| _ = allowed.entry(*n).or_insert(*e));
        allow(&topic.waiting);
        allow(&self.uncertain(topic_name, topic));
        if self.power {
            allow(&known.dropped);
            allow(&topic.waited);
        }
        Some((due, allowed))
    }

    /// Checks that a message sent again after the crash is stored if it was not, and only then.
    fn check_sent_again(&self, broker: &Broker, name: &str, channels: &[(String, HashSet<u64>)]) {
        let known: Vec<&Topic> = self.states().filter_map(|s| s.model.topics.get(name)).collect();
        let Some(last) = known.last() else { return };
        if last.sent.is_empty() {
            return;
        }
        let topic = broker.find_topic(&TopicName::parse(name).unwrap()).unwrap();
        let _ = topic.update(|s| s.limits = mq_core::Limits::default()).unwrap();
        let numbers: Vec<u64> = last.sent.keys().copied().collect();
        let send = || {
            let mut batch = topic.batch();
            for &number in &numbers {
                let id = id(number);
                let attributes = Attributes { dedup_id: Some(&id), ..Attributes::NONE };
                batch.push(&attributes, &body(number)).unwrap();
            }
            let published = topic.publish(batch, &nobody()).unwrap();
            broker.commit();
            broker.maintain(Step::Sync).unwrap();
            assert!(matches!(broker.outcome(published.ticket), Outcome::Done));
            published.offsets().collect::<Vec<_>>()
        };
        let places = send();
        for (number, (offset, is_duplicate)) in numbers.iter().zip(&places) {
            let came = channels.iter().any(|(_, numbers)| numbers.contains(number));
            let place = format!("{name}: message {number}");
            if !is_duplicate {
                assert!(!came, "{place} is stored twice");
                assert!(!self.must_be_known(name, *number), "{place} is forgotten");
                continue;
            }
            if let Some((id, events)) = self.run.seen.get(number)
                && *events < self.event
                && came
            {
                assert_eq!(id.offset(), *offset, "{place} has another offset now");
            }
            // No waiter is answered that it is there when it is not.
            for (channel, numbers) in channels {
                let waits = |topic: &Topic| {
                    let channel = topic.channels.get(channel);
                    let entry = channel.and_then(|channel| channel.messages.get(number));
                    entry.is_some_and(|entry| matches!(entry.status, Status::Held | Status::Due))
                };
                if known.len() == self.states().count() && known.iter().all(|topic| waits(topic)) {
                    assert!(numbers.contains(number), "{place} is lost for {channel}, and not taken again");
                }
            }
            let unanswered = |topic: &&Topic| topic.unanswered.contains_key(number);
            assert!(!known.iter().all(unanswered) || came, "{place} was not stored, and is not taken again");
        }
        assert!(send().iter().zip(&places).all(|(now, then)| now.1 && now.0 == then.0));
    }

    /// Whether the message was acknowledged as what the crash leaves, with its id.
    fn must_be_known(&self, name: &str, number: u64) -> bool {
        self.states().all(|state| {
            let Some(topic) = state.model.topics.get(name) else { return false };
            let waits = topic.waiting.get(&number);
            let mut entries =
                topic.channels.values().filter_map(|c| c.messages.get(&number)).chain(waits).peekable();
            topic.sent.contains_key(&number)
                && entries.peek().is_some()
                && entries.all(|entry| entry.must_come(self.power))
        })
    }

    /// I9: what is published now gets ids that were never seen, and is delivered.
    fn check_fresh_ids(&self, broker: &Broker, used: &HashSet<MessageId>) {
        for topic in broker.topics() {
            let mut batch = topic.batch();
            batch.push(&Attributes::NONE, &body(1_000_000)).unwrap();
            let ticket = topic.publish(batch, &nobody()).unwrap().ticket;
            broker.commit();
            broker.maintain(Step::Sync).unwrap();
            assert!(matches!(broker.outcome(ticket), Outcome::Done));
            for channel in topic.channels() {
                let mut sub = channel.subscribe(FOREVER, nobody()).unwrap();
                sub.acks().set_credit(10_000);
                let mut fresh = None;
                let mut take = |m: &Delivery<'_>| {
                    if number(m.body) == 1_000_000 {
                        fresh = Some(m.id);
                    }
                };
                while sub.pull(1 << 20, &mut take) == Pulled::More {}
                let id = fresh.expect("what is published after a crash is delivered");
                assert!(!used.contains(&id), "id {id:?} was used before");
            }
        }
    }
}
