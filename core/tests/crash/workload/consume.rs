//! Channels, subscribers and what they do with messages.

use super::*;
use mq_core::clock::Wall;

impl Driver {
    pub(super) fn create_channel(&mut self) -> String {
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
                (Start::Time(Wall(from.time)), model.kept(is_kept))
            }
            _ => (Start::Now, Messages::new()),
        };
        let topic_name = TopicName::parse(&topic).unwrap();
        let found = self.broker.topic(&topic_name).unwrap();
        let opened = found.channel_at(&ChannelName::parse(&name).unwrap(), start, &nobody()).unwrap();
        let ticket = opened.ticket;
        self.done(ticket);
        let numbers: Vec<_> = kept.keys().copied().collect();
        let model = self.model.topics.get_mut(&topic).unwrap();
        model.channels.insert(name.clone(), Channel { messages: kept, ..Channel::default() });
        model.pump();
        format!("create channel {topic}/{name} at {start:?}: {numbers:?}")
    }

    pub(super) fn subscribe(&mut self) -> String {
        let Some((topic, channel)) = self.any_channel() else { return self.create_channel() };
        let found = self.topic(&topic).find_channel(&ChannelName::parse(&channel).unwrap()).unwrap();
        let options = SubscribeOptions { msg_timeout: Duration::from_secs(5), sample_rate: 0 };
        let mut subscription = found.subscribe(options, nobody()).unwrap();
        let credit = self.random.u32(1..30);
        subscription.acks().set_credit(credit);
        let text = format!("subscribe {topic}/{channel}, credit {credit}");
        self.readers.push(Reader { topic, channel, subscription, credit, held: Vec::new() });
        text
    }

    pub(super) fn consume(&mut self) -> String {
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
    pub(super) fn acknowledge(&mut self, index: usize) -> String {
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

    pub(super) fn unsubscribe(&mut self) -> String {
        if self.readers.is_empty() {
            return self.subscribe();
        }
        let index = self.random.usize(..self.readers.len());
        let reader = self.readers.swap_remove(index);
        format!("unsubscribe {}/{}", reader.topic, reader.channel)
    }
}
