//! Messages and publishing.

use super::*;
use mq_core::clock::Wall;

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
        let not_before = Some(Wall(self.not_before)).filter(|at| *at > Wall(0));
        Attributes { not_before, dedup_id: self.id.as_deref(), ..Attributes::NONE }
    }
}

/// The id of a message.
pub(crate) fn id(number: u64) -> Vec<u8> {
    format!("message {number}").into_bytes()
}

impl Driver {
    /// Publishes messages, some of them with an id, and some that were published before and are sent again.
    pub(super) fn publish(&mut self) -> String {
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
        // What is sent again is reported where it was, unless that was refused.
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
                // A refusal may not have been reported yet.
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
            let time = self.clock.wall().0;
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
        let not_before = if later { self.clock.wall().plus(delay).0 } else { 0 };
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
}

/// The body of message `number`: its number and some filling that depends on it, now and then larger than a
/// chunk.
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
