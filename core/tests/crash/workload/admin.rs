//! Changes that administrators make to topics and channels.

use super::*;

impl Driver {
    pub(super) fn create_topic(&mut self) -> String {
        if self.model.topics.len() >= TOPICS_MAX {
            return self.publish();
        }
        self.next_name += 1;
        let name = format!("t{}", self.next_name);
        let topic = self.topic(&name);
        let level = Durability::ALL[self.random.usize(0..3)];
        self.set_level(&topic, level);
        let mut model = Topic::default();
        model.level.set(level);
        self.model.topics.insert(name.clone(), model);
        format!("create topic {name}, {level:?}")
    }

    /// Limits a topic to few messages and publishes one: the oldest are dropped.
    pub(super) fn drop_oldest(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        let topic = self.topic(&name);
        // What is on its way can't be dropped.
        self.broker.maintain(Step::Sync).unwrap();
        self.land();
        let max_messages = self.random.u64(2..30);
        self.done(
            topic
                .update(move |s| s.limits = Limits { max_messages, overflow: Overflow::DropOldest, ..ANY })
                .unwrap(),
        );
        self.land();
        let mut kept = Vec::new();
        let mut batch = topic.batch();
        self.next_message += 1;
        batch.push(&Attributes::NONE, &body(self.next_message)).unwrap();
        let published = topic.publish(batch, &nobody()).unwrap();
        let place = (published.offsets().next().unwrap().0, self.clock.wall().0);
        self.places.insert(self.next_message, place);
        self.broker.commit();
        self.done(published.ticket);
        self.land();
        self.done(topic.update(|s| s.limits = ANY).unwrap());
        let model = self.model.topics.get_mut(&name).unwrap();
        model.publish(self.next_message, Entry::new(0));
        // The channels' numbers say which ones; here it counts that no newer one is missing.
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

    pub(super) fn pause_topic(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        let model = self.model.topics.get_mut(&name).unwrap();
        let paused = !model.paused.now;
        model.paused.set(paused);
        model.pump();
        let topic = self.topic(&name);
        self.done(if paused { topic.pause() } else { topic.unpause() }.unwrap());
        format!("pause {name}: {paused}")
    }

    pub(super) fn pause_channel(&mut self) -> String {
        let Some((topic, name)) = self.any_channel() else { return self.create_channel() };
        let channel = self.topic(&topic).find_channel(&ChannelName::parse(&name).unwrap()).unwrap();
        let model = self.model.topics.get_mut(&topic).unwrap().channels.get_mut(&name).unwrap();
        let paused = !model.paused.now;
        model.paused.set(paused);
        self.done(if paused { channel.pause() } else { channel.unpause() }.unwrap());
        format!("pause {topic}/{name}: {paused}")
    }

    pub(super) fn empty_channel(&mut self) -> String {
        let Some((topic, name)) = self.any_channel() else { return self.create_channel() };
        let channel = self.topic(&topic).find_channel(&ChannelName::parse(&name).unwrap()).unwrap();
        self.done(channel.empty().unwrap());
        let model = self.model.topics.get_mut(&topic).unwrap().channels.get_mut(&name).unwrap();
        let dropped = std::mem::take(&mut model.messages);
        model.dropped.extend(dropped);
        format!("empty {topic}/{name}")
    }

    pub(super) fn empty_topic(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        self.done(self.topic(&name).empty().unwrap());
        let model = self.model.topics.get_mut(&name).unwrap();
        let waiting = std::mem::take(&mut model.waiting);
        model.waited.extend(waiting);
        format!("empty {name}")
    }

    pub(super) fn delete_channel(&mut self) -> String {
        let Some((topic, name)) = self.any_channel() else { return self.create_channel() };
        self.done(self.topic(&topic).delete_channel(&ChannelName::parse(&name).unwrap()).unwrap());
        self.model.topics.get_mut(&topic).unwrap().channels.remove(&name);
        self.model.deleted_channels.insert((topic.clone(), name.clone()), false);
        format!("delete {topic}/{name}")
    }

    pub(super) fn delete_topic(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        self.done(self.broker.delete_topic(&TopicName::parse(&name).unwrap()).unwrap());
        let gone = self.model.topics.remove(&name).unwrap();
        gone.sent.keys().for_each(|number| _ = self.known.remove(number));
        self.model.deleted_topics.insert(name.clone(), false);
        format!("delete {name}")
    }

    pub(super) fn change_level(&mut self) -> String {
        let Some(name) = self.any_topic() else { return self.create_topic() };
        let level = Durability::ALL[self.random.usize(0..3)];
        let model = self.model.topics.get_mut(&name).unwrap();
        if level != Durability::Memory {
            model.spilled();
        }
        model.level.set(level);
        let topic = self.topic(&name);
        self.set_level(&topic, level);
        format!("{name} to {level:?}")
    }

    fn set_level(&mut self, topic: &mq_core::Topic, level: Durability) {
        self.done(topic.update(move |s| s.durability = level).unwrap());
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
