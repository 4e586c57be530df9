//! Messages that were handed to a subscriber and neither finished, requeued nor timed out.

use std::collections::{BTreeMap, VecDeque};

use crate::clock::Mono;
use crate::message::Offset;

/// The reason why an acknowledgement changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckError {
    /// Finished, timed out, emptied, or never delivered.
    NotInFlight,
    /// In flight at another subscriber.
    NotOwner,
}

/// A message on its way back: no longer in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Released {
    pub(super) offset: Offset,
    pub(super) attempts: u16,
    pub(super) owner: u32,
}

/// Everything in flight on a channel.
///
/// First deliveries happen in offset order, so they form a sorted queue that is only appended to;
/// redeliveries are the rare path. Cost: a first delivery is 24 bytes, with at most one in eight removed but
/// still there, and an eighth of room to grow: 31 bytes. A redelivery is 32 bytes in a tree whose nodes are
/// half full at worst: up to 61.
///
/// There is no timer and no order by deadline: `earliest` is a lower bound, and when it is reached one scan
/// finds what timed out and the next bound. Deadlines are a message timeout away, so scans are rare, and
/// acknowledgements need not maintain any second order.
pub(super) struct InFlight {
    first: FirstDeliveries,
    redelivered: BTreeMap<Offset, Redelivery>,
    /// A time below which no deadline lies. Meaningless while nothing is in flight.
    earliest: Mono,
}

/// The subscriber that holds a message, and its deadline.
#[derive(Clone, Copy)]
struct Hold {
    /// Always a whole number of milliseconds after the delivery, so that `held_ms` finds the delivery again.
    deadline: Mono,
    /// A subscriber's slot.
    owner: u32,
    /// From delivery to deadline.
    held_ms: u32,
}

const NS_PER_MS: u64 = 1_000_000;

impl Hold {
    fn new(owner: u32, now: Mono, timeout_ms: u32) -> Self {
        let deadline = now.plus(u64::from(timeout_ms) * NS_PER_MS);
        Self { deadline, owner, held_ms: timeout_ms }
    }

    fn touch(&mut self, now: Mono, timeout_ms: u32, timeout_ms_max: u32) {
        let delivered = self.deadline.before(u64::from(self.held_ms) * NS_PER_MS);
        let held_ms = now.since(delivered).div_ceil(NS_PER_MS).saturating_add(timeout_ms.into());
        let held_ms = u32::try_from(held_ms).unwrap_or(u32::MAX).min(timeout_ms_max);
        *self = Self::new(self.owner, delivered, held_ms);
    }
}

struct Redelivery {
    hold: Hold,
    attempts: u16,
}

impl InFlight {
    pub(super) fn new() -> Self {
        Self { first: FirstDeliveries::new(), redelivered: BTreeMap::new(), earliest: Mono::MAX }
    }

    pub(super) fn len(&self) -> usize {
        self.first.live + self.redelivered.len()
    }

    /// A first delivery. Offsets must rise.
    pub(super) fn push_first_delivery(&mut self, offset: Offset, owner: u32, now: Mono, timeout_ms: u32) {
        let hold = Hold::new(owner, now, timeout_ms);
        self.lower_bound(hold.deadline);
        self.first.push(Entry { offset, hold });
    }

    /// A delivery out of order, its `attempts`-th.
    pub(super) fn push_redelivery(
        &mut self,
        offset: Offset,
        attempts: u16,
        owner: u32,
        now: Mono,
        timeout_ms: u32,
    ) {
        let hold = Hold::new(owner, now, timeout_ms);
        self.lower_bound(hold.deadline);
        self.redelivered.insert(offset, Redelivery { hold, attempts });
    }

    /// Takes `offset` out for its owner and gives its attempts.
    pub(super) fn remove(&mut self, offset: Offset, owner: u32) -> Result<u16, AckError> {
        if let Some(index) = self.first.find(offset) {
            self.first.hold_of(index, owner)?;
            self.first.remove(index);
            return Ok(1);
        }
        let redelivery = self.redelivered.get(&offset).ok_or(AckError::NotInFlight)?;
        if redelivery.hold.owner != owner {
            return Err(AckError::NotOwner);
        }
        let attempts = redelivery.attempts;
        self.redelivered.remove(&offset);
        Ok(attempts)
    }

    /// Number of deliveries of `offset`, this one included, if it is in flight at `owner`.
    pub(super) fn attempts(&self, offset: Offset, owner: u32) -> Option<u16> {
        match self.first.find(offset) {
            Some(index) => (self.first.queue[index].hold.owner == owner).then_some(1),
            None => {
                let held = self.redelivered.get(&offset).filter(|redelivery| redelivery.hold.owner == owner);
                held.map(|redelivery| redelivery.attempts)
            }
        }
    }

    /// The slot of the subscriber that holds `offset`, if it is in flight.
    pub(super) fn owner(&self, offset: Offset) -> Option<u32> {
        match self.first.find(offset) {
            Some(index) => Some(self.first.queue[index].hold.owner),
            None => self.redelivered.get(&offset).map(|redelivery| redelivery.hold.owner),
        }
    }

    /// Starts the timeout anew, up to `timeout_ms_max` after the delivery.
    pub(super) fn touch(
        &mut self,
        offset: Offset,
        owner: u32,
        now: Mono,
        timeout_ms: u32,
        timeout_ms_max: u32,
    ) -> Result<(), AckError> {
        let hold = match self.first.find(offset) {
            Some(index) => self.first.hold_of(index, owner)?,
            None => {
                let redelivery = self.redelivered.get_mut(&offset).ok_or(AckError::NotInFlight)?;
                if redelivery.hold.owner != owner {
                    return Err(AckError::NotOwner);
                }
                &mut redelivery.hold
            }
        };
        hold.touch(now, timeout_ms, timeout_ms_max);
        // The cap may have cut the deadline short.
        self.earliest = self.earliest.min(hold.deadline);
        Ok(())
    }

    /// A time before which no message times out; `Mono::MAX` if none is in flight.
    pub(super) fn wake_at(&self) -> Mono {
        if self.len() == 0 { Mono::MAX } else { self.earliest }
    }

    /// Takes out what has timed out by `now`, in offset order.
    pub(super) fn expire(&mut self, now: Mono) -> Vec<Released> {
        if self.wake_at() > now {
            return Vec::new();
        }
        let mut earliest = Mono::MAX;
        let mut is_due = |hold: &Hold| {
            let due = hold.deadline <= now;
            if !due {
                earliest = earliest.min(hold.deadline);
            }
            due
        };
        let mut released = Vec::new();
        self.first.release(usize::MAX, &mut is_due, &mut released);
        let first = released.len();
        self.redelivered.retain(|&offset, redelivery| {
            let due = is_due(&redelivery.hold);
            if due {
                released.push(Released {
                    offset,
                    attempts: redelivery.attempts,
                    owner: redelivery.hold.owner,
                });
            }
            !due
        });
        if first > 0 && first < released.len() {
            released.sort_unstable_by_key(|message| message.offset);
        }
        self.earliest = earliest;
        released
    }

    /// Takes out the `count` messages that `owner` holds, in no order.
    pub(super) fn release(&mut self, owner: u32, count: usize) -> Vec<Released> {
        let mut released = Vec::with_capacity(count);
        self.first.release(count, &mut |hold| hold.owner == owner, &mut released);
        if released.len() < count {
            self.redelivered.retain(|&offset, redelivery| {
                let theirs = redelivery.hold.owner == owner;
                if theirs {
                    released.push(Released { offset, attempts: redelivery.attempts, owner });
                }
                !theirs
            });
        }
        released
    }

    pub(super) fn lowest(&self) -> Option<Offset> {
        let first = self.first.queue.front().map(|entry| entry.offset);
        first.into_iter().chain(self.redelivered.keys().next().copied()).min()
    }

    /// All messages in flight: offset and attempts of each.
    pub(super) fn iter(&self) -> impl Iterator<Item = (Offset, u16)> + '_ {
        let first = self.first.queue.iter().filter(|entry| entry.hold.owner != GONE);
        let redelivered = self.redelivered.iter().map(|(&offset, redelivery)| (offset, redelivery.attempts));
        first.map(|entry| (entry.offset, 1)).chain(redelivered)
    }

    pub(super) fn clear(&mut self) {
        *self = Self::new();
    }

    /// Gives back memory that a past burst needed.
    pub(super) fn tidy(&mut self) {
        let queue = &mut self.first.queue;
        if queue.capacity() > 4 * queue.len() + 64 {
            queue.shrink_to_fit();
        }
    }

    /// Bytes of memory, the tree's slack aside.
    pub(super) fn bytes(&self) -> usize {
        self.first.queue.capacity() * size_of::<Entry>()
            + self.redelivered.len() * size_of::<(Offset, Redelivery)>()
    }

    fn lower_bound(&mut self, deadline: Mono) {
        // Into an empty set the bound is exact again, so an idle channel does not wake for what left long
        // ago.
        self.earliest = if self.len() == 0 { deadline } else { self.earliest.min(deadline) };
    }
}

/// First deliveries in offset order. What left in the middle stays as a tombstone until the front reaches it
/// or one entry in eight is one.
struct FirstDeliveries {
    /// Sorted by offset; the front is never a tombstone.
    queue: VecDeque<Entry>,
    /// Entries that are not tombstones.
    live: usize,
}

/// 24 bytes. A first delivery has no use for an attempts count: it is 1.
struct Entry {
    offset: Offset,
    hold: Hold,
}

/// The owner of a tombstone. Slots are indices of a `Vec` of larger things and don't get there.
const GONE: u32 = u32::MAX;

impl FirstDeliveries {
    fn new() -> Self {
        Self { queue: VecDeque::new(), live: 0 }
    }

    fn push(&mut self, entry: Entry) {
        if self.queue.len() == self.queue.capacity() {
            // Doubling would cost 48 bytes a message.
            self.queue.reserve_exact((self.queue.len() / 8).max(32));
        }
        self.queue.push_back(entry);
        self.live += 1;
    }

    fn find(&self, offset: Offset) -> Option<usize> {
        let (front, back) = (self.queue.front()?.offset.0, self.queue.back()?.offset.0);
        // Offsets rise by at least one from entry to entry, which bounds the index from both ends; the bounds
        // are exact unless a compaction or a change of block lies on that side.
        let from_front = usize::try_from(offset.0.checked_sub(front)?).unwrap_or(usize::MAX);
        let from_back = usize::try_from(back.checked_sub(offset.0)?).unwrap_or(usize::MAX);
        let mut low = (self.queue.len() - 1).saturating_sub(from_back);
        let mut high = (self.queue.len() - 1).min(from_front);
        let mut index = if self.queue[high].offset == offset { high } else { low };
        if self.queue[index].offset != offset {
            while low < high {
                let middle = low.midpoint(high);
                if self.queue[middle].offset < offset {
                    low = middle + 1;
                } else {
                    high = middle;
                }
            }
            index = low;
        }
        let entry = &self.queue[index];
        (entry.offset == offset && entry.hold.owner != GONE).then_some(index)
    }

    fn hold_of(&mut self, index: usize, owner: u32) -> Result<&mut Hold, AckError> {
        let hold = &mut self.queue[index].hold;
        if hold.owner == owner { Ok(hold) } else { Err(AckError::NotOwner) }
    }

    fn remove(&mut self, index: usize) {
        self.queue[index].hold.owner = GONE;
        self.live -= 1;
        if index == 0 {
            self.pop_gone();
        } else {
            self.compact();
        }
    }

    /// Takes out up to `count` entries that `leaves` picks, in offset order.
    fn release(&mut self, count: usize, leaves: &mut dyn FnMut(&Hold) -> bool, released: &mut Vec<Released>) {
        let before = released.len();
        for entry in &mut self.queue {
            if released.len() - before == count {
                break;
            }
            if entry.hold.owner != GONE && leaves(&entry.hold) {
                released.push(Released { offset: entry.offset, attempts: 1, owner: entry.hold.owner });
                entry.hold.owner = GONE;
                self.live -= 1;
            }
        }
        self.pop_gone();
        self.compact();
    }

    fn pop_gone(&mut self) {
        while self.queue.front().is_some_and(|entry| entry.hold.owner == GONE) {
            self.queue.pop_front();
        }
    }

    /// Each compaction moves at most eight entries for each one that left since the last.
    fn compact(&mut self) {
        let gone = self.queue.len() - self.live;
        if self.queue.len() > 32 && gone > self.queue.len() / 8 {
            self.queue.retain(|entry| entry.hold.owner != GONE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_delivery_takes_at_most_32_bytes_in_any_order_of_finishing() {
        assert_eq!(size_of::<Entry>(), 24);
        assert_eq!(size_of::<(Offset, Redelivery)>(), 32);
        let mut flights = InFlight::new();
        // 1,000 stay in flight; three of four leave, the stuck first never.
        for i in 0..400_000u64 {
            flights.push_first_delivery(Offset(i), 0, Mono(0), 1);
            if i % 4 != 0 {
                flights.remove(Offset(i - i % 3), 0).ok();
            }
            assert!(flights.first.queue.len() <= flights.len() * 8 / 7 + 33);
            assert!(flights.bytes() <= 32 * flights.len() + 64 * 32);
        }
    }

    #[test]
    fn touching_over_and_over_never_moves_the_delivery_time() {
        let mut hold = Hold::new(0, Mono(5), 60_000);
        for i in 1..10_000u64 {
            hold.touch(Mono(5 + i * 1_234_567), 60_000, 900_000);
            assert_eq!(hold.deadline.before(u64::from(hold.held_ms) * NS_PER_MS), Mono(5));
            assert!(hold.deadline <= Mono(5 + 900_000 * NS_PER_MS));
        }
        assert_eq!(hold.held_ms, 72_345);
        hold.touch(Mono(5 + 890_000 * NS_PER_MS), 60_000, 900_000);
        assert_eq!(hold.held_ms, 900_000);
    }
}
