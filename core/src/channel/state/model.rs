//! A naive channel that keeps a life for each message, and what must hold between it and the real one.

use std::collections::BTreeMap;

use super::*;

pub(super) const MS: u64 = 1_000_000;
/// Below the longest message timeout: a touch can also cut short.
pub(super) const TOUCH_MAX: u64 = 50 * MS;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Life {
    New,
    InFlight { sub: usize, attempts: u16, delivered: Mono, deadline: Mono },
    Returned { attempts: u16 },
    Ready { attempts: u16 },
    Deferred { attempts: u16, due: Mono },
    Dead { attempts: u16 },
    Finished,
}

#[derive(Clone, Copy)]
pub(super) struct Message {
    pub(super) offset: Offset,
    pub(super) not_before: Option<Mono>,
    pub(super) life: Life,
}

pub(super) struct Sub {
    pub(super) id: SubId,
    pub(super) here: bool,
    pub(super) credit: u32,
    pub(super) timeout: u64,
    pub(super) samples: bool,
    pub(super) resting: bool,
    pub(super) woken: bool,
}

pub(super) struct World {
    pub(super) state: State<usize>,
    /// All messages by rank.
    pub(super) messages: Vec<Message>,
    /// Number of them that the channel may read.
    pub(super) pump: usize,
    pub(super) pump_stands: bool,
    pub(super) now: Mono,
    pub(super) subs: Vec<Sub>,
    /// Ranks in [`Life::Ready`], in order, each with the rank that the cursor must reach first.
    pub(super) ready: Vec<(usize, usize)>,
    pub(super) first_delivery_turn: bool,
    pub(super) paused: bool,
    pub(super) settings: ChannelSettings,
    /// Dead letters that somebody moves, all of them, and those that were not taken out meanwhile.
    pub(super) moving: Option<(Vec<DeadLetter>, Vec<Offset>)>,
    /// No dead letter is moved before.
    pub(super) try_at: Mono,
    pub(super) moved: u64,
    pub(super) requeues: u64,
    pub(super) timeouts: u64,
    /// The cursor that a recovery knows from the deltas so far.
    pub(super) known_next: Offset,
    pub(super) known_finished: Vec<(Offset, Offset)>,
    pub(super) known_requeued: BTreeMap<Offset, (u16, Mono)>,
    /// Ranges that the topic's log has as dropped.
    pub(super) dropped: Vec<(Pos, Pos)>,
}

const START: u64 = 1 << 20;

impl World {
    pub(super) fn new() -> Self {
        Self {
            state: State::new(Pos { offset: Offset(START), rank: 0 }, 1),
            messages: Vec::new(),
            pump: 0,
            pump_stands: false,
            now: Mono(1_000 * MS),
            subs: Vec::new(),
            ready: Vec::new(),
            first_delivery_turn: false,
            paused: false,
            settings: ChannelSettings::default(),
            moving: None,
            try_at: Mono(0),
            moved: 0,
            requeues: 0,
            timeouts: 0,
            known_next: Offset(START),
            known_finished: Vec::new(),
            known_requeued: BTreeMap::new(),
            dropped: Vec::new(),
        }
    }

    /// Two offsets may stand for the position before the first message of a block; both occur.
    pub(super) fn pos(&self, rank: usize) -> Pos {
        let after = rank.checked_sub(1).map_or(Offset(START), |before| self.messages[before].offset.plus(1));
        let offset =
            if rank.is_multiple_of(2) { self.messages.get(rank).map_or(after, |m| m.offset) } else { after };
        Pos { offset, rank: rank as u64 }
    }

    pub(super) fn end(&self) -> Pos {
        self.pos(self.pump)
    }

    pub(super) fn cursor(&self) -> usize {
        self.messages.iter().position(|m| m.life == Life::New).unwrap_or(self.messages.len())
    }

    fn new_messages(&self) -> usize {
        self.messages[..self.pump].iter().filter(|m| m.life == Life::New).count()
    }

    fn returned(&self) -> Option<usize> {
        self.messages.iter().position(|m| matches!(m.life, Life::Returned { .. }))
    }

    fn depth(&self) -> usize {
        self.new_messages()
            + self.ready.len()
            + self.messages.iter().filter(|m| matches!(m.life, Life::Returned { .. })).count()
    }

    fn held_by(&self, sub: usize) -> Vec<usize> {
        let holds = |m: &Message| matches!(m.life, Life::InFlight { sub: owner, .. } if owner == sub);
        (0..self.messages.len()).filter(|&rank| holds(&self.messages[rank])).collect()
    }

    pub(super) fn held(&self) -> Vec<usize> {
        let held = |m: &Message| matches!(m.life, Life::InFlight { .. });
        (0..self.messages.len()).filter(|&rank| held(&self.messages[rank])).collect()
    }

    fn spare(&self, sub: usize) -> usize {
        (self.subs[sub].credit as usize).saturating_sub(self.held_by(sub).len())
    }

    pub(super) fn publish(&mut self, new_block: bool, not_before: Option<Mono>) {
        let mut offset = self.messages.last().map_or(START, |last| last.offset.0 + 1);
        if new_block {
            offset = (offset | 0xffff) + 1;
        }
        self.messages.push(Message { offset: Offset(offset), not_before, life: Life::New });
        if !self.pump_stands {
            self.pump = self.messages.len();
        }
    }

    fn expected_pick(&self, sub: usize) -> Pick {
        if !self.subs[sub].here || self.paused || self.spare(sub) == 0 {
            return Pick::Nothing;
        }
        let again = self.returned().or_else(|| {
            let &(rank, after) = self.ready.first()?;
            let waits = self.new_messages() > 0 && (self.first_delivery_turn || self.cursor() < after);
            (!waits).then_some(rank)
        });
        match again {
            Some(rank) => Pick::Redelivery(self.messages[rank].offset),
            None if self.new_messages() > 0 => Pick::FirstDelivery(self.state.next()),
            None => Pick::Nothing,
        }
    }

    fn take_one(&mut self, sub: usize) -> bool {
        let (id, now) = (self.subs[sub].id, self.now);
        let pick = self.state.pick(id, self.end());
        assert_eq!(pick, self.expected_pick(sub));
        let (rank, attempts, taken) = match pick {
            Pick::Nothing => {
                if !self.subs[sub].here || self.paused || self.spare(sub) == 0 {
                    let last = Offset(u64::MAX >> 10);
                    assert_eq!(self.state.take_first_delivery(id, last, None, now), Taken::Stale);
                }
                return false;
            }
            Pick::Redelivery(offset) => {
                let rank = self.messages.iter().position(|m| m.offset == offset).unwrap();
                let attempts = match self.messages[rank].life {
                    Life::Ready { attempts } => {
                        self.first_delivery_turn = true;
                        self.ready.remove(0);
                        attempts
                    }
                    Life::Returned { attempts } => attempts,
                    other => panic!("{other:?} delivered again"),
                };
                (rank, attempts, self.state.take_redelivery(id, offset, self.messages[rank].not_before, now))
            }
            Pick::FirstDelivery(from) => {
                let rank = self.cursor();
                let Message { offset, not_before, .. } = self.messages[rank];
                assert!(from.offset <= offset && from.rank == rank as u64);
                let taken = self.state.take_first_delivery(id, offset, not_before, now);
                self.first_delivery_turn &= !taken.is_delivery();
                (rank, 0, taken)
            }
        };
        let later = self.messages[rank].not_before.filter(|&due| attempts == 0 && due > now);
        self.messages[rank].life = match taken {
            Taken::Deliver(count) => {
                assert_eq!((count, later), (attempts + 1, None));
                let deadline = now.plus(self.subs[sub].timeout);
                Life::InFlight { sub, attempts: count, delivered: now, deadline }
            }
            Taken::Deferred => Life::Deferred { attempts, due: later.unwrap() },
            Taken::Sampled => {
                assert!(self.subs[sub].samples && attempts == 0);
                Life::Finished
            }
            Taken::Stale => panic!("nothing has changed since the pick"),
        };
        assert!(self.held_by(sub).len() <= self.subs[sub].credit as usize, "I4: above its credit");
        true
    }

    pub(super) fn turn(&mut self, sub: usize, most: usize, rest: bool) {
        let (id, end) = (self.subs[sub].id, self.end());
        let share = self.state.share(id, end) as usize;
        let takes = self.subs[sub].here && !self.paused && self.spare(sub) > 0 && self.depth() > 0;
        assert_eq!(share > 0, takes);
        if takes {
            let able = (0..self.subs.len()).filter(|&sub| self.is_able(sub)).count().max(1);
            assert_eq!(share, self.depth().div_ceil(able).min(self.spare(sub)).min(64));
        }
        for _ in 0..share.min(most) {
            if !self.take_one(sub) {
                break;
            }
        }
        if self.subs[sub].here {
            (self.subs[sub].woken, self.subs[sub].resting) = (false, rest);
        }
        let end = self.end();
        let woken = if rest { self.state.rest(id, end) } else { self.state.park(id, end) };
        self.woke(woken);
    }

    pub(super) fn woke(&mut self, woken: Option<usize>) {
        if let Some(sub) = woken {
            let resting = self.subs[sub].resting;
            assert!(self.subs[sub].here && !self.subs[sub].woken && !resting, "a wake for who can't use it");
            assert!(self.spare(sub) > 0 && self.depth() > 0 && !self.paused);
            self.subs[sub].woken = true;
        }
    }

    /// I5: only the holder gets through.
    fn expected_ack(&self, sub: usize, rank: usize) -> Result<(), AckError> {
        match self.messages[rank].life {
            Life::InFlight { sub: owner, .. } if self.subs[sub].here => {
                if owner == sub {
                    Ok(())
                } else {
                    Err(AckError::NotOwner)
                }
            }
            _ => Err(AckError::NotInFlight),
        }
    }

    pub(super) fn finish(&mut self, sub: usize, rank: usize) {
        let expected = self.expected_ack(sub, rank);
        assert_eq!(self.state.finish(self.subs[sub].id, self.messages[rank].offset), expected);
        if expected.is_ok() {
            self.messages[rank].life = Life::Finished;
        }
    }

    /// Whether a message that comes back from so many deliveries is a dead letter.
    pub(super) fn is_dead(&self, attempts: u16) -> bool {
        self.settings.max_attempts > 0 && attempts >= self.settings.max_attempts
    }

    pub(super) fn dead(&self) -> usize {
        self.messages.iter().filter(|m| matches!(m.life, Life::Dead { .. })).count()
    }

    /// A message was requeued or timed out.
    pub(super) fn comes_back(&mut self, rank: usize, attempts: u16) {
        if self.is_dead(attempts) {
            self.messages[rank].life = Life::Dead { attempts };
        } else {
            self.ready(rank, attempts);
        }
    }

    pub(super) fn ready(&mut self, rank: usize, attempts: u16) {
        self.messages[rank].life = Life::Ready { attempts };
        self.ready.push((rank, self.pump));
    }

    pub(super) fn expire(&mut self) {
        let mut due: Vec<(Mono, usize, u16)> = Vec::new();
        for (rank, message) in self.messages.iter().enumerate() {
            match message.life {
                Life::Deferred { attempts, due: at } if at <= self.now => due.push((at, rank, attempts)),
                _ => {}
            }
        }
        due.sort();
        for (_, rank, attempts) in due {
            self.ready(rank, attempts);
        }
        for rank in self.held() {
            match self.messages[rank].life {
                Life::InFlight { attempts, deadline, .. } if deadline <= self.now => {
                    self.timeouts += 1;
                    self.comes_back(rank, attempts);
                }
                _ => {}
            }
        }
        let next = self.state.expire(self.now, self.end());
        assert!(next > self.now || next == self.try_at && self.dead() > 0, "something due was left");
    }

    pub(super) fn unsubscribe(&mut self, sub: usize, departure: Departure) {
        self.state.unsubscribe(self.subs[sub].id, departure, self.now);
        if !self.subs[sub].here {
            return;
        }
        (self.subs[sub].here, self.subs[sub].woken, self.subs[sub].resting) = (false, false, false);
        for rank in self.held_by(sub) {
            if let Life::InFlight { attempts, .. } = self.messages[rank].life {
                let delay = nanos(self.settings.redelivery_delay);
                let wait = (delay * u64::from(attempts)).min(self.subs[sub].timeout);
                self.messages[rank].life = match (departure, attempts) {
                    _ if self.is_dead(attempts) => Life::Dead { attempts },
                    _ if wait == 0 => Life::Returned { attempts },
                    (Departure::Orderly, _) | (_, 1) => Life::Returned { attempts },
                    _ => Life::Deferred { attempts, due: self.now.plus(wait) },
                };
            }
        }
    }

    /// Puts settings in force.
    pub(super) fn configure(&mut self, settings: ChannelSettings) {
        self.state.configure(&settings);
        self.settings = settings;
        self.try_at = Mono(0);
        for rank in 0..self.messages.len() {
            let Message { offset, life, .. } = self.messages[rank];
            let is_moved = self.moving.iter().any(|(_, still)| still.contains(&offset));
            if let Life::Dead { attempts } = life
                && !is_moved
            {
                self.messages[rank].life = self.restored(attempts);
            }
        }
    }

    /// Begins to move dead letters, at most `max`.
    pub(super) fn begin_move(&mut self, max: usize) {
        let begun = self.state.begin_move(max, self.now);
        let may = self.moving.is_none() && self.try_at <= self.now;
        assert_eq!(begun.len(), if may { self.dead().min(max) } else { 0 });
        for letter in &begun {
            let message = self.messages.iter().find(|m| m.offset == letter.offset).unwrap();
            assert_eq!(message.life, Life::Dead { attempts: letter.attempts });
        }
        if !begun.is_empty() {
            let offsets = begun.iter().map(|letter| letter.offset).collect();
            self.moving = Some((begun, offsets));
        }
    }

    /// Ends the move: the first `stored` of them were, the others could not be.
    pub(super) fn end_move(&mut self, stored: usize) {
        let Some((moving, still)) = self.moving.take() else { return };
        let stored = &moving[..stored.min(moving.len())];
        let offsets: Vec<_> = stored.iter().map(|letter| letter.offset).collect();
        self.state.end_move(&offsets, self.now);
        self.try_at = Mono(0);
        for rank in 0..self.messages.len() {
            let Message { offset, life, .. } = self.messages[rank];
            let Life::Dead { attempts } = life else { continue };
            if !still.contains(&offset) {
                continue;
            }
            if offsets.contains(&offset) {
                self.messages[rank].life = Life::Finished;
                self.moved += 1;
            } else {
                self.try_at = self.now.plus(10_000 * MS);
                self.messages[rank].life = self.restored(attempts);
            }
        }
    }

    pub(super) fn empty_below(&mut self, end: usize) {
        for message in &mut self.messages[..end] {
            message.life = Life::Finished;
        }
        let Self { ready, messages, .. } = self;
        ready.retain(|&(rank, _)| messages[rank].life != Life::Finished);
    }

    pub(super) fn take_delta(&mut self) {
        let mut delta = Delta::default();
        let nothing = self.state.delta_is_empty();
        self.state.take_delta(&mut delta);
        assert_eq!(nothing, delta.is_empty());
        assert!(self.state.delta_is_empty());
        delta.normalize();
        for message in &delta.requeued {
            self.known_requeued.insert(message.offset, (message.attempts, message.due));
        }
        self.known_finished.extend(&delta.finished);
        self.known_next = delta.next;
        for message in &self.messages[..self.cursor()] {
            let within =
                |&(first, last): &(Offset, Offset)| first <= message.offset && message.offset <= last;
            let finished = self.known_finished.iter().any(within);
            assert_eq!(finished, message.life == Life::Finished, "{:?}", message.offset);
            let known = self.known_requeued.get(&message.offset).copied();
            match message.life {
                Life::Ready { attempts } | Life::Returned { attempts } | Life::Dead { attempts }
                    if attempts > 0 =>
                {
                    let (known, due) = known.unwrap();
                    assert!(known == attempts && due <= self.now);
                }
                Life::Deferred { attempts, due } if attempts > 0 => assert_eq!(known, Some((attempts, due))),
                _ => {}
            }
        }
        for message in &self.messages[self.cursor()..] {
            assert!(
                self.known_finished.iter().all(|range| range.1 < message.offset || range.0 > message.offset)
            );
        }
    }

    /// A clean stop and start: what was in flight or ready comes first, the rest as it was.
    pub(super) fn restart(&mut self) {
        self.take_delta();
        let mut unfinished = self.state.unfinished();
        unfinished.sort_unstable_by_key(|message| message.offset);
        let gaps: Vec<_> = self.state.gaps().collect();
        self.state = State::restore(self.state.next(), 7, &self.settings, unfinished);
        for (from, to) in gaps {
            self.state.add_gap(from, to);
        }
        self.starts_anew();
        for rank in 0..self.messages.len() {
            let attempts = match self.messages[rank].life {
                Life::InFlight { attempts, .. } | Life::Ready { attempts } => attempts,
                Life::Returned { attempts } | Life::Dead { attempts } => attempts,
                Life::New | Life::Deferred { .. } | Life::Finished => continue,
            };
            self.messages[rank].life = self.restored(attempts);
            self.known_requeued.insert(self.messages[rank].offset, (attempts, Mono(0)));
        }
    }

    /// A crash: only what the deltas and the topic recorded is known. What was finished since comes again,
    /// nothing else does, and nothing is lost (I1).
    pub(super) fn crash(&mut self) {
        let mut unfinished = Vec::new();
        let mut rank = 0;
        for message in &mut self.messages {
            if message.offset >= self.known_next {
                message.life = Life::New;
                continue;
            }
            rank += 1;
            let within =
                |&(first, last): &(Offset, Offset)| first <= message.offset && message.offset <= last;
            if self.known_finished.iter().any(within) {
                assert_eq!(message.life, Life::Finished);
                continue;
            }
            let (attempts, due) = self.known_requeued.get(&message.offset).copied().unwrap_or_default();
            unfinished.push(Unfinished { offset: message.offset, attempts, due });
            let is_dead = self.settings.max_attempts > 0 && attempts >= self.settings.max_attempts;
            message.life = match due {
                Mono(0) if is_dead => Life::Dead { attempts },
                Mono(0) => Life::Returned { attempts },
                due => Life::Deferred { attempts, due },
            };
        }
        let next = Pos { offset: self.known_next, rank };
        self.state = State::restore(next, 7, &self.settings, unfinished);
        for &(from, to) in &self.dropped {
            self.state.add_gap(from, to);
            for message in &mut self.messages[from.rank.max(rank) as usize..to.rank.max(rank) as usize] {
                message.life = Life::Finished;
            }
        }
        self.starts_anew();
    }

    fn restored(&self, attempts: u16) -> Life {
        if self.is_dead(attempts) { Life::Dead { attempts } } else { Life::Returned { attempts } }
    }

    fn starts_anew(&mut self) {
        (self.moving, self.try_at, self.moved) = (None, Mono(0), 0);
        self.state.pause(self.paused);
        self.subs.clear();
        self.ready.clear();
        (self.first_delivery_turn, self.requeues, self.timeouts) = (false, 0, 0);
    }

    /// Notes that a message is no dead letter any more, whoever moves it.
    pub(super) fn taken_out(&mut self) {
        let Some((_, still)) = &mut self.moving else { return };
        let is_dead = |m: &Message| matches!(m.life, Life::Dead { .. });
        still.retain(|offset| self.messages.iter().any(|m| m.offset == *offset && is_dead(m)));
    }

    pub(super) fn check(&mut self) {
        let state = &mut self.state;
        let (mut unfinished, mut wake_at, mut in_flight, mut deferred) = (Vec::new(), Mono::MAX, 0, 0);
        for message in &self.messages {
            let (attempts, due) = match message.life {
                Life::New | Life::Finished => continue,
                Life::InFlight { attempts, deadline, .. } => {
                    wake_at = wake_at.min(deadline);
                    in_flight += 1;
                    (attempts, Mono(0))
                }
                Life::Returned { attempts } | Life::Ready { attempts } => (attempts, Mono(0)),
                Life::Dead { attempts } => {
                    if self.moving.is_none() {
                        wake_at = wake_at.min(self.try_at);
                    }
                    deferred += 1;
                    (attempts, Mono(0))
                }
                Life::Deferred { attempts, due } => {
                    wake_at = wake_at.min(due);
                    deferred += 1;
                    (attempts, due)
                }
            };
            unfinished.push(Unfinished { offset: message.offset, attempts, due });
        }
        let mut listed = state.unfinished();
        listed.sort_unstable_by_key(|message| message.offset);
        assert_eq!(listed, unfinished);
        assert_eq!((state.in_flight(), state.deferred()), (in_flight, deferred));
        assert!(state.wake_at() <= wake_at, "a deadline would be missed");
        assert_eq!(state.wake_at() == Mono::MAX, wake_at == Mono::MAX);
        assert_eq!((state.requeue_count(), state.timeout_count()), (self.requeues, self.timeouts));
        assert_eq!(state.dead_letter_count(), self.moved);
        let floor = unfinished.first().map_or(state.next().offset, |message| message.offset);
        assert_eq!((state.floor(), state.oldest()), (floor, floor));
        assert_eq!(self.state.next().rank, self.cursor() as u64);
        assert_eq!(self.state.depth(self.end()), self.depth() as u64);
        assert_eq!(self.state.subscribers(), self.subs.iter().filter(|sub| sub.here).count());
        for (i, sub) in self.subs.iter().enumerate() {
            let stats = self.state.subscriber_stats(sub.id);
            let expected = sub.here.then(|| (self.held_by(i).len(), sub.credit));
            assert_eq!(stats.map(|stats| (stats.in_flight as usize, stats.credit)), expected);
        }
        let stalled = self.depth() > 0 && !self.paused && self.someone_able();
        assert!(!stalled || self.subs.iter().any(|sub| sub.woken), "lost wake: messages wait, credit waits");
    }

    fn someone_able(&self) -> bool {
        (0..self.subs.len()).any(|sub| self.is_able(sub))
    }

    fn is_able(&self, sub: usize) -> bool {
        let Sub { here, resting, .. } = self.subs[sub];
        here && !resting && self.spare(sub) > 0
    }

    /// Lets those who are woken run until nobody is.
    pub(super) fn drain(&mut self) {
        for _ in 0..10_000 {
            let Some(sub) = self.subs.iter().position(|sub| sub.woken) else { break };
            self.turn(sub, usize::MAX, false);
            self.check();
        }
        assert!(self.paused || self.depth() == 0 || !self.someone_able(), "stalled");
    }
}

impl Taken {
    pub(super) fn is_delivery(self) -> bool {
        matches!(self, Self::Deliver(_))
    }
}
