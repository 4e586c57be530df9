//! The naive model: for each channel, every message it was given, and what may be said of each after a crash.

use std::collections::{BTreeMap, BTreeSet};

use mq_core::{Durability, Offset};

/// The fates that a channel's message may have after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// Published at level `memory`: may be lost by a crash.
    Held,
    /// Acknowledged at `flush` or `sync`: must come.
    Due,
    /// May have been dropped at a limit: may come.
    Dropped,
    /// Finished, and the log does not know: may come.
    Finished,
    /// Finished, and the log was written: may come only after a power loss.
    FinishedWritten,
}

/// A message that may come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    pub(crate) status: Status,
    /// Whether what it is due for was fsync'd.
    pub(crate) synced: bool,
    /// Deferred by its publisher: not before this wall time.
    pub(crate) not_before: u64,
    /// Requeued or published for later: comes out of order.
    pub(crate) unordered: bool,
}

impl Entry {
    pub(crate) fn new(not_before: u64) -> Self {
        Self { status: Status::Due, synced: false, not_before, unordered: not_before > 0 }
    }

    pub(crate) fn must_come(&self, power: bool) -> bool {
        self.status == Status::Due && (self.synced || !power)
    }

    pub(crate) fn may_come(&self, power: bool) -> bool {
        self.status != Status::FinishedWritten || power
    }
}

/// Messages by their number, which is their body.
pub(crate) type Messages = BTreeMap<u64, Entry>;

/// Something that administrators set, and what it was since the last fsync.
#[derive(Clone, Debug, Default)]
pub(crate) struct Setting<T> {
    pub(crate) now: T,
    /// A power loss may bring any of these back.
    before: Vec<T>,
}

impl<T: Copy + PartialEq> Setting<T> {
    pub(crate) fn set(&mut self, value: T) {
        self.before.push(std::mem::replace(&mut self.now, value));
    }

    fn synced(&mut self) {
        self.before.clear();
    }

    pub(crate) fn may_be(&self, value: T, power: bool) -> bool {
        self.now == value || (power && self.before.contains(&value))
    }
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Channel {
    pub(crate) messages: Messages,
    /// Messages dropped by an empty or a deletion since the last fsync: may come after a power loss.
    pub(crate) dropped: Messages,
    pub(crate) created_synced: bool,
    pub(crate) paused: Setting<bool>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Topic {
    pub(crate) channels: BTreeMap<String, Channel>,
    /// Messages at or above the pump position.
    pub(crate) waiting: Messages,
    /// Messages that lay there until the last fsync, and do not any more.
    pub(crate) waited: Messages,
    /// Published, and not acknowledged yet: may come.
    pub(crate) unanswered: Messages,
    /// Refused: must not come, but where the refusal itself is not durable.
    pub(crate) refused: Messages,
    /// Refused at first, and sent again.
    pub(crate) again: BTreeSet<u64>,
    /// All that was ever published with an id, refused or not.
    pub(crate) sent: BTreeMap<u64, Sent>,
    pub(crate) level: Setting<Durability>,
    pub(crate) paused: Setting<bool>,
    pub(crate) created_synced: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Model {
    pub(crate) topics: BTreeMap<String, Topic>,
    /// Names whose deletion was acknowledged and fsync'd, or only acknowledged.
    pub(crate) deleted_topics: BTreeMap<String, bool>,
    pub(crate) deleted_channels: BTreeMap<(String, String), bool>,
}

/// A message that was published with an id, and where it stands.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) offset: Offset,
    pub(crate) not_before: u64,
    pub(crate) time: u64,
}

impl Topic {
    /// Messages of a channel that begins now, at the first message for which `from` is true.
    pub(crate) fn kept(&self, from: impl Fn(u64) -> bool) -> Messages {
        let mut kept = Messages::new();
        for (number, entry) in self.channels.values().flat_map(|channel| &channel.messages) {
            let is_kept = matches!(entry.status, Status::Held | Status::Due);
            let may_be = is_kept || entry.status == Status::Dropped;
            let is_better = kept.get(number).is_none_or(|known| known.status == Status::Dropped);
            if from(*number) && may_be && is_better {
                // Requeued in one channel, it is fresh in another; but it comes before what is fresh
                // everywhere.
                kept.insert(*number, Entry { synced: false, ..*entry });
            }
        }
        kept
    }

    pub(crate) fn flows(&self) -> bool {
        !self.channels.is_empty() && !self.paused.now
    }

    /// A message was published and acknowledged.
    pub(crate) fn publish(&mut self, number: u64, entry: Entry) {
        let status = if self.level.now == Durability::Memory { Status::Held } else { Status::Due };
        self.waiting.insert(number, Entry { status, ..entry });
        self.pump();
    }

    /// A message that waited for an fsync was acknowledged.
    pub(crate) fn acknowledge(&mut self, number: u64, entry: Entry) {
        self.waiting.insert(number, Entry { synced: true, ..entry });
    }

    /// Notes an fsync: what waited for it was acknowledged, and all that came before is durable too.
    pub(crate) fn acknowledged(&mut self) {
        self.created_synced = true;
        self.channels.values_mut().for_each(|channel| channel.created_synced = true);
        self.pump();
    }

    /// Gives what waits to all channels where the topic flows.
    pub(crate) fn pump(&mut self) {
        if self.flows() {
            let waiting = std::mem::take(&mut self.waiting);
            for channel in self.channels.values_mut() {
                channel.messages.extend(waiting.iter().map(|(n, e)| (*n, *e)));
            }
            // That the channels have them may not be durable: they may wait again.
            self.waited.extend(waiting);
        }
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Entry> {
        let channels = self.channels.values_mut().flat_map(|c| c.messages.values_mut());
        channels.chain(self.waiting.values_mut())
    }

    /// Notes that what was held in memory is on disk now.
    pub(crate) fn spilled(&mut self) {
        for entry in self.all() {
            if entry.status == Status::Held {
                entry.status = Status::Due;
                entry.synced = false;
            }
        }
    }
}

impl Model {
    /// Finishes are in the log.
    pub(crate) fn state_written(&mut self) {
        for topic in self.topics.values_mut() {
            for entry in topic.all() {
                if entry.status == Status::Finished {
                    entry.status = Status::FinishedWritten;
                }
            }
        }
    }

    /// All that is in the log is fsync'd.
    pub(crate) fn synced(&mut self) {
        for topic in self.topics.values_mut() {
            topic.created_synced = true;
            topic.level.synced();
            topic.paused.synced();
            topic.waited.clear();
            for entry in topic.waiting.values_mut() {
                entry.synced = true;
            }
            for channel in topic.channels.values_mut() {
                channel.created_synced = true;
                channel.paused.synced();
                channel.dropped.clear();
                channel.messages.retain(|_, e| e.status != Status::FinishedWritten);
                for entry in channel.messages.values_mut() {
                    entry.synced = true;
                }
            }
        }
        self.deleted_topics.values_mut().for_each(|synced| *synced = true);
        self.deleted_channels.values_mut().for_each(|synced| *synced = true);
    }
}
