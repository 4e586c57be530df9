//! Dead letters: messages that were delivered as often as may be, on their way to another topic.

use std::collections::VecDeque;

use super::State;
use crate::channel::delta::Unfinished;
use crate::channel::lowest::Lowest;
use crate::clock::{Mono, nanos};
use crate::config::ChannelSettings;
use crate::message::Offset;

/// A message that is to be moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DeadLetter {
    pub(crate) offset: Offset,
    /// Deliveries it had.
    pub(crate) attempts: u16,
}

/// The dead letters of a channel. They stay here, unfinished, until the other topic has them.
pub(in crate::channel) struct DeadLetters {
    waiting: VecDeque<DeadLetter>,
    /// Dead letters that are being moved.
    moving: Vec<DeadLetter>,
    /// Whether somebody moves them: from [`State::begin_move`] to [`State::end_move`].
    is_busy: bool,
    /// None is moved before, since the last could not be.
    try_at: Mono,
    lowest: Lowest,
    /// Deliveries that make a message one; 0 for never.
    max_attempts: u16,
    moved_count: u64,
}

/// Time after which dead letters are tried again that could not be moved.
const RETRY_NS: u64 = 10_000_000_000;

impl DeadLetters {
    pub(super) fn new() -> Self {
        Self {
            waiting: VecDeque::new(),
            moving: Vec::new(),
            is_busy: false,
            try_at: Mono(0),
            lowest: Lowest::new(),
            max_attempts: 0,
            moved_count: 0,
        }
    }

    /// Whether attempts are limited.
    pub(super) fn are_kept(&self) -> bool {
        self.max_attempts > 0
    }

    pub(super) fn len(&self) -> usize {
        self.moving.len() + self.waiting.len()
    }

    /// Time at which they are to be moved; `Mono::MAX` if there are none, or somebody is at it.
    pub(super) fn wake_at(&self) -> Mono {
        if self.is_busy || self.waiting.is_empty() { Mono::MAX } else { self.try_at }
    }

    /// A lower bound of all offsets, as [`Lowest::bound`] has it.
    pub(super) fn floor(&mut self) -> Option<Offset> {
        self.lowest.bound(self.moving.len() + self.waiting.len(), offsets(&self.moving, &self.waiting))
    }

    /// The lowest offset.
    pub(super) fn lowest(&mut self) -> Option<Offset> {
        self.lowest.exact(offsets(&self.moving, &self.waiting))
    }

    pub(in crate::channel) fn iter(&self) -> impl Iterator<Item = DeadLetter> + '_ {
        self.moving.iter().chain(&self.waiting).copied()
    }

    /// Takes `offset` out, and gives its attempts so far.
    pub(super) fn remove(&mut self, offset: Offset) -> Option<u16> {
        let attempts = self.iter().find(|dead| dead.offset == offset)?.attempts;
        self.moving.retain(|dead| dead.offset != offset);
        self.waiting.retain(|dead| dead.offset != offset);
        self.lowest.removed(offset);
        Some(attempts)
    }

    /// Takes out what lies below `to`.
    pub(super) fn drop_below(&mut self, to: Offset) -> Vec<Offset> {
        let dropped = offsets(&self.moving, &self.waiting).filter(|offset| *offset < to).collect();
        self.moving.retain(|dead| dead.offset >= to);
        self.waiting.retain(|dead| dead.offset >= to);
        self.lowest = Lowest::new();
        offsets(&self.moving, &self.waiting).for_each(|offset| self.lowest.inserted(offset));
        dropped
    }

    pub(super) fn clear(&mut self) {
        self.moving.clear();
        self.waiting.clear();
        self.lowest = Lowest::new();
    }

    /// Gives back memory that a past burst needed.
    pub(super) fn tidy(&mut self) {
        if self.waiting.capacity() > 4 * self.waiting.len() + 64 {
            self.waiting.shrink_to_fit();
        }
    }

    pub(super) fn bytes(&self) -> usize {
        (self.moving.capacity() + self.waiting.capacity()) * size_of::<DeadLetter>()
    }

    /// Whether a message that was delivered `attempts` times is a dead letter.
    pub(super) fn is_made_by(&self, attempts: u16) -> bool {
        self.are_kept() && attempts >= self.max_attempts
    }

    pub(super) fn push(&mut self, dead: DeadLetter) {
        self.lowest.inserted(dead.offset);
        self.waiting.push_back(dead);
    }
}

fn offsets<'a>(
    moving: &'a [DeadLetter],
    waiting: &'a VecDeque<DeadLetter>,
) -> impl Iterator<Item = Offset> + 'a {
    moving.iter().chain(waiting).map(|dead| dead.offset)
}

impl<W: Clone> State<W> {
    /// Puts settings in force. A dead letter that is none by them is delivered again, unless it is being
    /// moved; a message that waits for a delivery still gets it.
    pub(crate) fn configure(&mut self, settings: &ChannelSettings) {
        self.redelivery_delay_ns = nanos(settings.redelivery_delay);
        let dead = &mut self.dead_letters;
        dead.max_attempts = settings.max_attempts;
        dead.try_at = Mono(0);
        let waiting = std::mem::take(&mut dead.waiting);
        waiting.into_iter().for_each(|letter| self.put_back(letter));
    }

    /// Puts a dead letter back among those that wait; or among what is delivered, if it is none any more.
    fn put_back(&mut self, letter: DeadLetter) {
        let DeadLetter { offset, attempts } = letter;
        if self.dead_letters.is_made_by(attempts) {
            self.dead_letters.waiting.push_back(letter);
        } else {
            self.dead_letters.lowest.removed(offset);
            self.ready.push_returned(offset, attempts);
        }
    }

    /// Makes a message that came back a dead letter, if it was delivered as often as may be. Whether it was.
    pub(super) fn bury(&mut self, offset: Offset, attempts: u16) -> bool {
        let is_dead = self.dead_letters.is_made_by(attempts);
        if is_dead {
            self.dead_letters.push(DeadLetter { offset, attempts });
            self.delta.requeue(Unfinished { offset, attempts, due: Mono(0) });
        }
        is_dead
    }

    /// At most `max` dead letters that the caller is to move now, and then to call [`State::end_move`]. None
    /// if another caller is at it.
    pub(crate) fn begin_move(&mut self, max: usize, now: Mono) -> Vec<DeadLetter> {
        let dead = &mut self.dead_letters;
        if dead.wake_at() > now {
            return Vec::new();
        }
        dead.is_busy = true;
        let count = dead.waiting.len().min(max);
        dead.moving.extend(dead.waiting.drain(..count));
        dead.moving.clone()
    }

    /// The other topic has the `moved` ones of those that [`State::begin_move`] gave; those left are tried
    /// again later. What was dropped meanwhile is passed over.
    pub(crate) fn end_move(&mut self, moved: &[Offset], now: Mono) {
        let dead = &mut self.dead_letters;
        dead.is_busy = false;
        dead.try_at = Mono(0);
        for letter in std::mem::take(&mut dead.moving) {
            if moved.contains(&letter.offset) {
                self.dead_letters.lowest.removed(letter.offset);
                self.dead_letters.moved_count += 1;
                self.delta.finish(letter.offset);
            } else {
                self.dead_letters.try_at = now.plus(RETRY_NS);
                self.put_back(letter);
            }
        }
    }

    /// Messages that were moved to the dead letter topic.
    pub(crate) fn dead_letter_count(&self) -> u64 {
        self.dead_letters.moved_count
    }
}
