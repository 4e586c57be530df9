//! The order of publishes of one client, and the bound on what it has in the crate. Pure.

use std::collections::VecDeque;

use bytes::Bytes;
use libmq::{NewMessage, Outgoing};

/// Messages of a group: beyond it a failed group costs more than a larger one would save.
const GROUP_MESSAGES_MAX: usize = 1000;
/// Bytes of a group: brokers take a megabyte in one command at least.
const GROUP_BYTES_MAX: usize = 256 << 10;

/// Messages as JavaScript gave them.
pub(crate) enum Payload {
    /// Bodies alone, each of which may be published again by itself.
    Bodies(Bodies),
    /// Bodies alone, and their number: all or none of them are stored, so they are encoded already.
    Encoded(Outgoing, usize),
    Messages(Vec<NewMessage>),
}

/// Bodies one after the other, and the end of each: nothing is allocated for one of them.
pub(crate) struct Bodies {
    bytes: Bytes,
    ends: Vec<u32>,
}

impl Bodies {
    pub(crate) fn new(bytes: Bytes, ends: Vec<u32>) -> Self {
        Self { bytes, ends }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        split(&self.bytes, &self.ends)
    }
}

/// Bodies that stand one after the other. Ends that are out of order or beyond the bytes leave some empty,
/// which nothing takes.
pub(crate) fn split<'a>(bytes: &'a [u8], ends: &'a [u32]) -> impl Iterator<Item = &'a [u8]> {
    let mut start = 0;
    ends.iter().map(move |&end| {
        let end = (end as usize).clamp(start, bytes.len());
        &bytes[std::mem::replace(&mut start, end)..end]
    })
}

/// Messages that were published by one call, or one after the other.
pub(crate) struct Part {
    /// Number of the task that JavaScript waits for.
    pub(crate) task: u32,
    pub(crate) payload: Payload,
    bytes: usize,
}

impl Part {
    /// The number of messages.
    pub(crate) fn messages(&self) -> usize {
        match &self.payload {
            Payload::Bodies(bodies) => bodies.ends.len(),
            Payload::Encoded(_, count) => *count,
            Payload::Messages(messages) => messages.len(),
        }
    }
}

/// A publish that waits its turn, or has it.
pub(crate) struct Publish {
    pub(crate) topic: String,
    pub(crate) parts: Vec<Part>,
    /// Whether its messages, bodies alone, succeed or fail each for itself, so that others can join them.
    pub(crate) is_group: bool,
}

impl Publish {
    pub(crate) fn new(task: u32, topic: String, payload: Payload, bytes: usize, is_group: bool) -> Self {
        Self { topic, parts: vec![Part { task, payload, bytes }], is_group }
    }

    /// The number of messages.
    pub(crate) fn messages(&self) -> usize {
        self.parts.iter().map(Part::messages).sum()
    }

    /// The bodies of a group.
    pub(crate) fn bodies(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().flat_map(|part| match &part.payload {
            Payload::Bodies(bodies) => Some(bodies.iter()).into_iter().flatten(),
            Payload::Encoded(..) | Payload::Messages(_) => None.into_iter().flatten(),
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        self.parts.iter().map(|part| part.bytes).sum()
    }

    /// Adds the messages of `other` behind its own, if one group may have both.
    fn join(&mut self, other: Self) -> Option<Self> {
        let fits = self.is_group
            && other.is_group
            && self.topic == other.topic
            && self.messages() + other.messages() <= GROUP_MESSAGES_MAX
            && self.bytes() + other.bytes() <= GROUP_BYTES_MAX;
        if !fits {
            return Some(other);
        }
        self.parts.extend(other.parts);
        None
    }

    /// Whether JavaScript waits for this task with it.
    pub(crate) fn has(&self, task: u32) -> bool {
        self.parts.iter().any(|part| part.task == task)
    }

    /// Drops the messages of one part. Returns whether it was there.
    fn remove(&mut self, task: u32) -> bool {
        let Some(at) = self.parts.iter().position(|part| part.task == task) else { return false };
        self.parts.remove(at);
        true
    }
}

/// Publishes that wait their turn. The crate has room for all that a gate lets through: it counts the same
/// bytes as the gate, which hears later that they are free.
///
/// One group is on its way at a time, and nothing overtakes it: if it fails, its messages are published one
/// by one. Those that come meanwhile are the next group, the larger the slower the broker is.
pub(crate) struct Gate {
    max: usize,
    held: usize,
    /// Subscriptions being opened: publishes wait for them, so that what is published after a call of
    /// `subscribe` is in its channel.
    opening: usize,
    has_group: bool,
    waiting: VecDeque<Publish>,
}

impl Gate {
    pub(crate) fn new(max: usize) -> Self {
        Self { max, held: 0, opening: 0, has_group: false, waiting: VecDeque::new() }
    }

    pub(crate) fn push(&mut self, publish: Publish) {
        let alone = match self.waiting.back_mut() {
            Some(last) => last.join(publish),
            None => Some(publish),
        };
        self.waiting.extend(alone);
    }

    /// The next that may go on, if it may. [`Gate::leave`] ends its way.
    pub(crate) fn pass(&mut self) -> Option<Publish> {
        let bytes = self.waiting.front()?.bytes();
        // One that is larger than the bound goes alone, as in the crate.
        let is_full = self.held > 0 && self.held.saturating_add(bytes) > self.max;
        if self.opening > 0 || self.has_group || is_full {
            return None;
        }
        let publish = self.waiting.pop_front()?;
        self.held += bytes;
        self.has_group = publish.is_group;
        Some(publish)
    }

    /// Ends the way of a publish that had these bytes.
    pub(crate) fn leave(&mut self, bytes: usize, is_group: bool) {
        self.held -= bytes;
        if is_group {
            self.has_group = false;
        }
    }

    /// Takes back a part that still waits. Returns whether it did.
    pub(crate) fn withdraw(&mut self, task: u32) -> bool {
        let Some(at) = self.waiting.iter_mut().position(|publish| publish.remove(task)) else { return false };
        if self.waiting[at].parts.is_empty() {
            self.waiting.remove(at);
        }
        true
    }

    /// Puts back what had its turn and was not sent, before all others and without one part.
    pub(crate) fn put_back(&mut self, mut publish: Publish, without: u32) {
        publish.remove(without);
        if !publish.parts.is_empty() {
            self.waiting.push_front(publish);
        }
    }

    pub(crate) fn begin_opening(&mut self) {
        self.opening += 1;
    }

    pub(crate) fn end_opening(&mut self) {
        self.opening -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publish(task: u32, bytes: usize, is_group: bool) -> Publish {
        let payload = Payload::Bodies(Bodies::new(Bytes::from_static(b"x"), vec![1]));
        Publish::new(task, "t".to_owned(), payload, bytes, is_group)
    }

    /// The tasks of the next publish.
    fn passed(gate: &mut Gate) -> Vec<u32> {
        gate.pass().map_or_else(Vec::new, |publish| publish.parts.iter().map(|part| part.task).collect())
    }

    #[test]
    fn bodies_of_a_group_stand_one_after_the_other() {
        let of = |bytes: &'static [u8], ends: &[u32]| {
            let payload = Payload::Bodies(Bodies::new(Bytes::from_static(bytes), ends.to_vec()));
            Publish::new(1, "t".to_owned(), payload, 1, true)
        };
        let mut group = of(b"onetwo", &[3, 6]);
        assert!(group.join(of(b"three", &[5])).is_none());
        assert!(group.join(of(b"xy", &[9, 1])).is_none(), "ends that JavaScript never gives");
        assert_eq!(group.messages(), 5);
        assert_eq!(group.bodies().collect::<Vec<_>>(), [&b"one"[..], b"two", b"three", b"xy", b""]);
    }

    #[test]
    fn publishes_pass_in_order_and_within_the_bound() {
        let mut gate = Gate::new(10);
        for (task, bytes) in [(1, 6), (2, 20), (3, 1)] {
            gate.push(publish(task, bytes, false));
        }
        assert_eq!(passed(&mut gate), [1]);
        // The third has room, and still waits for the second.
        assert_eq!(passed(&mut gate), [0; 0]);
        gate.leave(6, false);
        assert_eq!(passed(&mut gate), [2]);
        assert_eq!(passed(&mut gate), [0; 0]);
        gate.leave(20, false);
        assert_eq!(passed(&mut gate), [3]);
        assert_eq!(passed(&mut gate), [0; 0]);
    }

    #[test]
    fn publishes_wait_for_subscriptions_and_can_be_withdrawn() {
        let mut gate = Gate::new(10);
        gate.begin_opening();
        gate.push(publish(1, 1, false));
        gate.push(publish(2, 1, false));
        assert_eq!(passed(&mut gate), [0; 0]);
        assert_eq!((gate.withdraw(1), gate.withdraw(1)), (true, false));
        gate.end_opening();
        assert_eq!(passed(&mut gate), [2]);
    }

    #[test]
    fn what_was_not_sent_goes_first_again_without_what_was_given_up() {
        let mut gate = Gate::new(1 << 20);
        gate.push(publish(1, 1, true));
        gate.push(publish(2, 1, true));
        let first = gate.pass().unwrap();
        assert!(first.has(1) && first.has(2) && !first.has(3));
        gate.push(publish(3, 1, false));
        gate.leave(2, true);
        gate.put_back(first, 1);
        assert_eq!(passed(&mut gate), [2]);
        gate.leave(1, true);
        assert_eq!(passed(&mut gate), [3]);
        gate.put_back(publish(4, 1, true), 4);
        assert_eq!(passed(&mut gate), [0; 0]);
    }

    #[test]
    fn publishes_behind_a_group_form_the_next_one_in_their_order() {
        let mut gate = Gate::new(1 << 20);
        gate.push(publish(1, 1, true));
        assert_eq!(passed(&mut gate), [1]);
        for task in [2, 3, 4] {
            gate.push(publish(task, 1, true));
        }
        gate.push(publish(5, 1, false));
        gate.push(publish(6, 1, true));
        gate.push(publish(7, GROUP_BYTES_MAX, true));
        gate.push(Publish { topic: "u".to_owned(), ..publish(8, 1, true) });
        assert!(gate.withdraw(3));
        assert_eq!(passed(&mut gate), [0; 0]);
        for wanted in [&[2, 4][..], &[5], &[6], &[7], &[8]] {
            gate.leave(0, true);
            assert_eq!(passed(&mut gate), wanted);
        }
        assert!(gate.waiting.is_empty());
    }
}
