//! The subscribers of a channel: credit, fair turns, and who is woken when.

use crate::channel::byte_credit::{ByteCredit, ByteRoom};
use crate::message::Offset;

/// A subscriber of one channel. Names its slot's tenancy: once unsubscribed it acts on nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SubId {
    slot: u32,
    generation: u32,
}

/// A subscriber's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SubscriberStats {
    pub(crate) credit: u32,
    pub(crate) in_flight: u32,
    /// Messages delivered to it.
    pub(crate) message_count: u64,
    pub(crate) finish_count: u64,
    pub(crate) requeue_count: u64,
}

/// Messages one turn takes at most: enough to make a turn worth its wake-up, few enough to be fair.
pub(crate) const TURN_MAX: u32 = 64;

/// The end of the ring's links and of the free list.
const NONE: u32 = u32::MAX;

/// A subscriber's state between being woken and pulling.
///
/// `Woken` is a duty: whoever holds it parks, rests or leaves at last, and each of those wakes the next if
/// messages are left. So nothing that waits is ever forgotten, and one subscriber is woken at a time, not
/// all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stance {
    /// A subscriber without credit. Joins the ring by itself once it has some.
    Full,
    /// In the ring, from which subscribers are woken.
    Waiting,
    /// Woken, and has neither pulled nor parked since.
    Woken,
    /// Can't take anything now, whatever its credit. Comes back by parking.
    Resting,
    /// The next message is larger than its bytes that are left. Joins the ring by itself once one of its
    /// messages is no longer in flight.
    Starved,
}

struct Slot<W> {
    /// Rises with each tenant.
    generation: u32,
    /// `None`: nobody lives here.
    wake: Option<W>,
    timeout_ms: u32,
    sample_rate: u8,
    stance: Stance,
    /// Has credit left and isn't resting or starved; counted in [`Subscribers::able`].
    able: bool,
    /// Messages that it may still take in the turn it was woken for; counted in [`Subscribers::woken_room`].
    room: u32,
    ring_before: u32,
    ring_after: u32,
    stats: SubscriberStats,
    /// There where it bounds the bytes in flight.
    bytes: Option<Box<ByteCredit>>,
}

impl<W> Slot<W> {
    fn spare(&self) -> u32 {
        self.stats.credit.saturating_sub(self.stats.in_flight)
    }

    /// Notes that its bound of bytes may let the next message pass.
    fn has_more_bytes(&mut self) {
        if self.stance == Stance::Starved {
            self.stance = Stance::Full;
        }
    }
}

/// A channel's subscribers, in slots that are used again, and the ring of those that wait.
pub(super) struct Subscribers<W> {
    slots: Vec<Slot<W>>,
    free: Vec<u32>,
    ring_front: u32,
    ring_back: u32,
    /// Number of subscribers that have credit left and aren't resting or starved.
    able: u32,
    /// Messages that the subscribers woken so far are going to take.
    woken_room: u64,
}

impl<W: Clone> Subscribers<W> {
    pub(super) fn new() -> Self {
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            ring_front: NONE,
            ring_back: NONE,
            able: 0,
            woken_room: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn add(&mut self, timeout_ms: u32, sample_rate: u8, wake: W) -> SubId {
        let tenant = |generation| Slot {
            generation,
            wake: Some(wake),
            timeout_ms,
            sample_rate,
            stance: Stance::Full,
            able: false,
            room: 0,
            ring_before: NONE,
            ring_after: NONE,
            stats: SubscriberStats::default(),
            bytes: None,
        };
        if let Some(slot) = self.free.pop() {
            let generation = self.slots[slot as usize].generation.wrapping_add(1);
            self.slots[slot as usize] = tenant(generation);
            return SubId { slot, generation };
        }
        // Slots are far larger than a byte: their indices fit.
        let slot = self.slots.len() as u32;
        self.slots.push(tenant(0));
        SubId { slot, generation: 0 }
    }

    /// Frees the slot. What was in flight is no longer its.
    pub(super) fn remove(&mut self, slot: u32) {
        let index = slot as usize;
        if self.slots[index].stance == Stance::Waiting {
            self.leave_ring(slot);
        }
        self.able -= u32::from(self.slots[index].able);
        self.woken_room -= u64::from(self.slots[index].room);
        let tenant = &mut self.slots[index];
        (tenant.wake, tenant.able, tenant.room, tenant.bytes) = (None, false, 0, None);
        self.free.push(slot);
    }

    /// The slot of `id`, unless it has unsubscribed.
    pub(super) fn slot(&self, id: SubId) -> Option<u32> {
        let tenant = self.slots.get(id.slot as usize)?;
        (tenant.generation == id.generation && tenant.wake.is_some()).then_some(id.slot)
    }

    pub(super) fn timeout_ms(&self, slot: u32) -> u32 {
        self.slots[slot as usize].timeout_ms
    }

    pub(super) fn set_timeout_ms(&mut self, slot: u32, timeout_ms: u32) {
        self.slots[slot as usize].timeout_ms = timeout_ms;
    }

    pub(super) fn sample_rate(&self, slot: u32) -> u8 {
        self.slots[slot as usize].sample_rate
    }

    /// The number of messages that it may be sent besides those in flight.
    pub(super) fn spare(&self, slot: u32) -> u32 {
        self.slots[slot as usize].spare()
    }

    pub(super) fn stats(&self, slot: u32) -> SubscriberStats {
        self.slots[slot as usize].stats
    }

    /// The number of messages that it may take of `available` in one turn.
    pub(super) fn share(&self, slot: u32, available: u64) -> u32 {
        let fair = available.div_ceil(u64::from(self.able.max(1)));
        u32::try_from(fair).unwrap_or(u32::MAX).min(TURN_MAX).min(self.spare(slot))
    }

    pub(super) fn set_credit(&mut self, slot: u32, credit: u32) {
        self.slots[slot as usize].stats.credit = credit;
        self.update_ring(slot);
    }

    /// Bounds the bytes of bodies in flight there; 0: any number. What is in flight while there is no bound
    /// is not counted later.
    pub(super) fn set_byte_credit(&mut self, slot: u32, limit: u64) {
        let tenant = &mut self.slots[slot as usize];
        match &mut tenant.bytes {
            _ if limit == 0 => tenant.bytes = None,
            Some(bytes) => bytes.set(limit),
            none => *none = Some(Box::new(ByteCredit::new(limit))),
        }
        tenant.has_more_bytes();
        self.update_ring(slot);
    }

    /// Room for more bodies; `None` where their bytes are not bounded.
    pub(super) fn byte_room(&self, slot: u32) -> Option<ByteRoom> {
        self.slots[slot as usize].bytes.as_ref().map(|bytes| bytes.room())
    }

    /// Counts the body of a message that was delivered. Returns the room for more; `None` where there is no
    /// bound.
    pub(super) fn count_bytes(&mut self, slot: u32, offset: Offset, bytes: usize) -> Option<ByteRoom> {
        let credit = self.slots[slot as usize].bytes.as_mut()?;
        credit.add(offset, bytes);
        Some(credit.room())
    }

    pub(super) fn delivered(&mut self, slot: u32) {
        let tenant = &mut self.slots[slot as usize];
        tenant.stats.in_flight += 1;
        tenant.stats.message_count += 1;
        let used = tenant.room.min(1);
        tenant.room -= used;
        self.woken_room -= u64::from(used);
        self.update_ring(slot);
    }

    /// One of its messages is no longer in flight: timed out, or as below.
    pub(super) fn released(&mut self, slot: u32, offset: Offset) {
        let tenant = &mut self.slots[slot as usize];
        tenant.stats.in_flight = tenant.stats.in_flight.saturating_sub(1);
        if let Some(bytes) = &mut tenant.bytes {
            bytes.remove(offset);
            tenant.has_more_bytes();
        }
        self.update_ring(slot);
    }

    pub(super) fn finished(&mut self, slot: u32, offset: Offset) {
        self.slots[slot as usize].stats.finish_count += 1;
        self.released(slot, offset);
    }

    pub(super) fn requeued(&mut self, slot: u32, offset: Offset) {
        self.slots[slot as usize].stats.requeue_count += 1;
        self.released(slot, offset);
    }

    /// Records that nothing of any subscriber is in flight any more.
    pub(super) fn released_all(&mut self) {
        for slot in 0..self.slots.len() as u32 {
            let tenant = &mut self.slots[slot as usize];
            if tenant.wake.is_some() {
                tenant.stats.in_flight = 0;
                if let Some(bytes) = &mut tenant.bytes {
                    bytes.clear();
                    tenant.has_more_bytes();
                }
                self.update_ring(slot);
            }
        }
    }

    /// Its turn is over: to the back of the ring, or out of it while it has no credit.
    pub(super) fn park(&mut self, slot: u32) {
        self.end_turn(slot, Stance::Full);
    }

    /// Ends the subscriber's turn: it takes nothing until it parks again.
    pub(super) fn rest(&mut self, slot: u32) {
        self.end_turn(slot, Stance::Resting);
    }

    /// Ends the turn of a subscriber whose bytes in flight keep the next message back.
    pub(super) fn starve(&mut self, slot: u32) {
        self.end_turn(slot, Stance::Starved);
    }

    /// Wakes the first in the ring if those woken before are not going to take all of `available`.
    pub(super) fn wake_next(&mut self, available: u64) -> Option<W> {
        if available <= self.woken_room || self.ring_front == NONE {
            return None;
        }
        let slot = self.ring_front;
        self.leave_ring(slot);
        let tenant = &mut self.slots[slot as usize];
        tenant.stance = Stance::Woken;
        tenant.room = tenant.spare().min(TURN_MAX);
        self.woken_room += u64::from(tenant.room);
        tenant.wake.clone()
    }

    fn end_turn(&mut self, slot: u32, stance: Stance) {
        if self.slots[slot as usize].stance == Stance::Waiting {
            self.leave_ring(slot);
        }
        let tenant = &mut self.slots[slot as usize];
        self.woken_room -= u64::from(tenant.room);
        tenant.room = 0;
        tenant.stance = stance;
        self.update_ring(slot);
    }

    /// After any change of credit, in flight or stance: those able and not woken are in the ring, nobody else
    /// is.
    fn update_ring(&mut self, slot: u32) {
        let tenant = &mut self.slots[slot as usize];
        let spare = tenant.spare();
        let able = spare > 0 && !matches!(tenant.stance, Stance::Resting | Stance::Starved);
        if able != tenant.able {
            tenant.able = able;
            self.able = if able { self.able + 1 } else { self.able - 1 };
        }
        if tenant.room > spare {
            self.woken_room -= u64::from(tenant.room - spare);
            tenant.room = spare;
        }
        match tenant.stance {
            Stance::Full if able => self.join_ring(slot),
            Stance::Waiting if !able => {
                self.leave_ring(slot);
                self.slots[slot as usize].stance = Stance::Full;
            }
            Stance::Full | Stance::Waiting | Stance::Woken | Stance::Resting | Stance::Starved => {}
        }
    }

    fn join_ring(&mut self, slot: u32) {
        let back = self.ring_back;
        let tenant = &mut self.slots[slot as usize];
        tenant.stance = Stance::Waiting;
        (tenant.ring_before, tenant.ring_after) = (back, NONE);
        self.ring_back = slot;
        match self.slots.get_mut(back as usize) {
            Some(before) => before.ring_after = slot,
            None => self.ring_front = slot,
        }
    }

    fn leave_ring(&mut self, slot: u32) {
        let tenant = &self.slots[slot as usize];
        let (before, after) = (tenant.ring_before, tenant.ring_after);
        match self.slots.get_mut(before as usize) {
            Some(before) => before.ring_after = after,
            None => self.ring_front = after,
        }
        match self.slots.get_mut(after as usize) {
            Some(after) => after.ring_before = before,
            None => self.ring_back = before,
        }
    }
}

/// A message timeout as subscribers keep it: whole milliseconds, at least one, at most 49 days.
pub(super) fn timeout_ms(timeout_ns: u64) -> u32 {
    u32::try_from(timeout_ns.div_ceil(1_000_000)).unwrap_or(u32::MAX).max(1)
}
