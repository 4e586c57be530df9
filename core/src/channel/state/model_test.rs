//! Random histories of a channel against a naive model that keeps a life for each message.
//!
//! Checked after every step: each message is in exactly one life and all counts follow (I1, I3), nobody gets more than
//! their credit or what another holds (I4), only the holder's acknowledgement counts (I5), `wake_at` is never late, a
//! wake-up is never lost, and the deltas taken so far tell a recovery the truth.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MS: u64 = 1_000_000;
const TOUCH_MAX: u64 = 90 * MS;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Life {
    Fresh,
    InFlight { sub: usize, attempts: u16, delivered: Mono, deadline: Mono },
    Returned { attempts: u16 },
    Ready { attempts: u16 },
    Deferred { attempts: u16, due: Mono },
    Finished,
}

struct Message {
    offset: Offset,
    not_before: Option<Mono>,
    life: Life,
}

struct Sub {
    id: SubId,
    here: bool,
    credit: u32,
    timeout: Mono,
    samples: bool,
    resting: bool,
    woken: bool,
}

struct World {
    state: State<usize>,
    /// By rank.
    messages: Vec<Message>,
    /// How many of them the channel may read.
    pump: usize,
    pump_stands: bool,
    now: Mono,
    subs: Vec<Sub>,
    /// Ranks in [`Life::Ready`], in order.
    ready: Vec<usize>,
    fresh_turn: bool,
    paused: bool,
    requeues: u64,
    timeouts: u64,
    /// What a recovery knows from the deltas so far.
    known_finished: Vec<(Offset, Offset)>,
    known_requeued: BTreeMap<Offset, (u16, Mono)>,
}

#[derive(Clone, Debug)]
enum Op {
    Publish {
        count: usize,
        new_block: bool,
    },
    PublishLater {
        delay_ms: u64,
    },
    Subscribe {
        timeout_ms: u64,
        sample_rate: u8,
    },
    Unsubscribe {
        sub: usize,
    },
    Credit {
        sub: usize,
        credit: u32,
    },
    /// A session's turn; `rest`: its output is full after it.
    Turn {
        sub: usize,
        most: usize,
        rest: bool,
    },
    /// The turn of one that was woken.
    WokenTurn {
        nth: usize,
    },
    Finish {
        sub: usize,
        nth: usize,
    },
    FinishHeld {
        nth: usize,
    },
    FinishAny {
        sub: usize,
        rank: usize,
    },
    Requeue {
        nth: usize,
        delay_ms: u64,
    },
    Touch {
        nth: usize,
    },
    Advance {
        ns: u64,
    },
    Expire,
    Pause(bool),
    HoldPump(bool),
    EmptyTopic,
    Empty,
    Jump {
        by: usize,
    },
    TakeDelta,
    Restart,
}

fn op() -> impl Strategy<Value = Op> {
    let sub = 0..6usize;
    prop_oneof![
        8 => (1..12usize, prop::bool::weighted(0.1)).prop_map(|(count, new_block)| Op::Publish { count, new_block }),
        2 => (0..60u64).prop_map(|delay_ms| Op::PublishLater { delay_ms }),
        2 => (1..80u64, prop_oneof![4 => Just(0u8), 1 => Just(30u8)])
            .prop_map(|(timeout_ms, sample_rate)| Op::Subscribe { timeout_ms, sample_rate }),
        1 => sub.clone().prop_map(|sub| Op::Unsubscribe { sub }),
        5 => (sub.clone(), 0..12u32).prop_map(|(sub, credit)| Op::Credit { sub, credit }),
        4 => (sub.clone(), 0..20usize, prop::bool::weighted(0.2))
            .prop_map(|(sub, most, rest)| Op::Turn { sub, most, rest }),
        12 => (0..6usize).prop_map(|nth| Op::WokenTurn { nth }),
        3 => (sub.clone(), 0..40usize).prop_map(|(sub, nth)| Op::Finish { sub, nth }),
        12 => (0..40usize).prop_map(|nth| Op::FinishHeld { nth }),
        1 => (sub, 0..200usize).prop_map(|(sub, rank)| Op::FinishAny { sub, rank }),
        3 => (0..40usize, prop_oneof![Just(0), 1..50u64]).prop_map(|(nth, delay_ms)| Op::Requeue { nth, delay_ms }),
        2 => (0..40usize).prop_map(|nth| Op::Touch { nth }),
        4 => (0..30 * MS).prop_map(|ns| Op::Advance { ns }),
        4 => Just(Op::Expire),
        1 => any::<bool>().prop_map(Op::Pause),
        1 => any::<bool>().prop_map(Op::HoldPump),
        1 => Just(Op::EmptyTopic),
        1 => prop::bool::weighted(0.3).prop_map(|all| if all { Op::Empty } else { Op::Expire }),
        1 => (0..6usize).prop_map(|by| Op::Jump { by }),
        2 => Just(Op::TakeDelta),
        1 => Just(Op::Restart),
    ]
}

const START: u64 = 1 << 20;

impl World {
    fn new() -> Self {
        Self {
            state: State::new(Pos { offset: Offset(START), rank: 0 }, 1),
            messages: Vec::new(),
            pump: 0,
            pump_stands: false,
            now: 1_000 * MS,
            subs: Vec::new(),
            ready: Vec::new(),
            fresh_turn: false,
            paused: false,
            requeues: 0,
            timeouts: 0,
            known_finished: Vec::new(),
            known_requeued: BTreeMap::new(),
        }
    }

    /// Two offsets may stand for the position before the first message of a block; both occur.
    fn pos(&self, rank: usize) -> Pos {
        let after = rank.checked_sub(1).map_or(Offset(START), |before| self.messages[before].offset.plus(1));
        let offset = if rank % 2 == 0 { self.messages.get(rank).map_or(after, |m| m.offset) } else { after };
        Pos { offset, rank: rank as u64 }
    }

    fn end(&self) -> Pos {
        self.pos(self.pump)
    }

    fn cursor(&self) -> usize {
        self.messages.iter().position(|m| m.life == Life::Fresh).unwrap_or(self.messages.len())
    }

    fn fresh(&self) -> usize {
        self.messages[..self.pump].iter().filter(|m| m.life == Life::Fresh).count()
    }

    fn returned(&self) -> Option<usize> {
        self.messages.iter().position(|m| matches!(m.life, Life::Returned { .. }))
    }

    fn depth(&self) -> usize {
        self.fresh()
            + self.ready.len()
            + self.messages.iter().filter(|m| matches!(m.life, Life::Returned { .. })).count()
    }

    fn held_by(&self, sub: usize) -> Vec<usize> {
        let holds = |m: &Message| matches!(m.life, Life::InFlight { sub: owner, .. } if owner == sub);
        (0..self.messages.len()).filter(|&rank| holds(&self.messages[rank])).collect()
    }

    fn held(&self) -> Vec<usize> {
        let held = |m: &Message| matches!(m.life, Life::InFlight { .. });
        (0..self.messages.len()).filter(|&rank| held(&self.messages[rank])).collect()
    }

    fn spare(&self, sub: usize) -> usize {
        (self.subs[sub].credit as usize).saturating_sub(self.held_by(sub).len())
    }

    fn publish(&mut self, new_block: bool, not_before: Option<Mono>) {
        let mut offset = self.messages.last().map_or(START, |last| last.offset.0 + 1);
        if new_block {
            offset = (offset | 0xffff) + 1;
        }
        self.messages.push(Message { offset: Offset(offset), not_before, life: Life::Fresh });
        if !self.pump_stands {
            self.pump = self.messages.len();
        }
    }

    fn expected_pick(&self, sub: usize) -> Pick {
        if !self.subs[sub].here || self.paused || self.spare(sub) == 0 {
            return Pick::Nothing;
        }
        let again = self.returned().or_else(|| {
            let wait = self.fresh() > 0 && self.fresh_turn;
            self.ready.first().copied().filter(|_| !wait)
        });
        match again {
            Some(rank) => Pick::Again(self.messages[rank].offset),
            None if self.fresh() > 0 => Pick::Fresh(self.state.next()),
            None => Pick::Nothing,
        }
    }

    fn take_one(&mut self, sub: usize) -> bool {
        let (id, now) = (self.subs[sub].id, self.now);
        let pick = self.state.pick(id, self.end());
        assert_eq!(pick, self.expected_pick(sub));
        let (rank, attempts, taken) = match pick {
            Pick::Nothing => {
                assert_eq!(self.state.take_fresh(id, Offset(u64::MAX >> 10), None, now).is_delivery(), false);
                return false;
            }
            Pick::Again(offset) => {
                let rank = self.messages.iter().position(|m| m.offset == offset).unwrap();
                let attempts = match self.messages[rank].life {
                    Life::Ready { attempts } => {
                        self.fresh_turn = true;
                        self.ready.remove(0);
                        attempts
                    }
                    Life::Returned { attempts } => attempts,
                    other => panic!("{other:?} delivered again"),
                };
                (rank, attempts, self.state.take_again(id, offset, self.messages[rank].not_before, now))
            }
            Pick::Fresh(from) => {
                let rank = self.cursor();
                let Message { offset, not_before, .. } = self.messages[rank];
                assert!(from.offset <= offset && from.rank == rank as u64);
                self.fresh_turn = false;
                (rank, 0, self.state.take_fresh(id, offset, not_before, now))
            }
        };
        let later = self.messages[rank].not_before.filter(|&due| attempts == 0 && due > now);
        self.messages[rank].life = match taken {
            Taken::Deliver(count) => {
                assert_eq!((count, later), (attempts + 1, None));
                let deadline = now + self.subs[sub].timeout;
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

    fn turn(&mut self, sub: usize, most: usize, rest: bool) {
        let (id, end) = (self.subs[sub].id, self.end());
        let share = self.state.share(id, end) as usize;
        let takes = self.subs[sub].here && !self.paused && self.spare(sub) > 0 && self.depth() > 0;
        assert_eq!(share > 0, takes);
        assert!(share <= self.spare(sub).min(64));
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

    fn woke(&mut self, woken: Option<usize>) {
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

    fn finish(&mut self, sub: usize, rank: usize) {
        let expected = self.expected_ack(sub, rank);
        assert_eq!(self.state.finish(self.subs[sub].id, self.messages[rank].offset), expected);
        if expected.is_ok() {
            self.messages[rank].life = Life::Finished;
        }
    }

    fn ready(&mut self, rank: usize, attempts: u16) {
        self.messages[rank].life = Life::Ready { attempts };
        self.ready.push(rank);
    }

    fn expire(&mut self) {
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
                    self.ready(rank, attempts);
                }
                _ => {}
            }
        }
        assert!(self.state.expire(self.now) > self.now, "something due was left");
    }

    fn unsubscribe(&mut self, sub: usize) {
        self.state.unsubscribe(self.subs[sub].id, self.now);
        if !self.subs[sub].here {
            return;
        }
        (self.subs[sub].here, self.subs[sub].woken, self.subs[sub].resting) = (false, false, false);
        for rank in self.held_by(sub) {
            if let Life::InFlight { attempts, .. } = self.messages[rank].life {
                let wait = (1_000 * MS * u64::from(attempts)).min(self.subs[sub].timeout);
                self.messages[rank].life = match attempts {
                    1 => Life::Returned { attempts },
                    _ => Life::Deferred { attempts, due: self.now + wait },
                };
            }
        }
    }

    fn empty_below(&mut self, end: usize) {
        for message in &mut self.messages[..end] {
            message.life = Life::Finished;
        }
        let Self { ready, messages, .. } = self;
        ready.retain(|&rank| messages[rank].life != Life::Finished);
    }

    fn take_delta(&mut self) {
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
        for message in &self.messages[..self.cursor()] {
            let within =
                |&(first, last): &(Offset, Offset)| first <= message.offset && message.offset <= last;
            let finished = self.known_finished.iter().any(within);
            assert_eq!(finished, message.life == Life::Finished, "{:?}", message.offset);
            let known = self.known_requeued.get(&message.offset).copied();
            match message.life {
                Life::Ready { attempts } | Life::Returned { attempts } if attempts > 0 => {
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
    fn restart(&mut self) {
        self.take_delta();
        let mut unfinished = Vec::new();
        self.state.unfinished(&mut unfinished);
        let gaps: Vec<_> = self.state.gaps().collect();
        self.state = State::restore(self.state.next(), 7, unfinished);
        for (from, to) in gaps {
            self.state.add_gap(from, to);
        }
        self.state.pause(self.paused);
        self.subs.clear();
        self.ready.clear();
        (self.fresh_turn, self.requeues, self.timeouts) = (false, 0, 0);
        for message in &mut self.messages {
            if let Life::InFlight { attempts, .. } | Life::Ready { attempts } = message.life {
                message.life = Life::Returned { attempts };
                self.known_requeued.insert(message.offset, (attempts, 0));
            }
        }
    }

    fn apply(&mut self, op: Op) {
        let subs = self.subs.len();
        match op {
            Op::Publish { count, new_block } => {
                for i in 0..count {
                    self.publish(new_block && i == 0, None);
                }
            }
            Op::PublishLater { delay_ms } => {
                let (rank, due) = (self.messages.len(), self.now + delay_ms * MS);
                let absorbs = !self.pump_stands && self.cursor() == rank;
                self.publish(false, Some(due));
                if !self.pump_stands {
                    let at = Pos { offset: self.messages[rank].offset, rank: rank as u64 };
                    assert_eq!(self.state.absorb(at, due), absorbs);
                }
                if absorbs {
                    self.messages[rank].life = Life::Deferred { attempts: 0, due };
                }
            }
            Op::Subscribe { timeout_ms, sample_rate } if self.subs.iter().filter(|s| s.here).count() < 5 => {
                let id = self.state.subscribe(timeout_ms * MS, sample_rate, subs);
                let (timeout, samples) = (timeout_ms * MS, sample_rate > 0);
                let (here, credit, resting, woken) = (true, 0, false, false);
                self.subs.push(Sub { id, here, credit, timeout, samples, resting, woken });
            }
            Op::Unsubscribe { sub } if sub < subs => self.unsubscribe(subs - 1 - sub),
            Op::Credit { sub, credit } if sub < subs => {
                let sub = subs - 1 - sub;
                self.state.set_credit(self.subs[sub].id, credit);
                self.subs[sub].credit = credit;
            }
            Op::Turn { sub, most, rest } if sub < subs => self.turn(subs - 1 - sub, most, rest),
            Op::WokenTurn { nth } => {
                let woken: Vec<usize> = (0..subs).filter(|&sub| self.subs[sub].woken).collect();
                if !woken.is_empty() {
                    self.turn(woken[nth % woken.len()], usize::MAX, false);
                }
            }
            Op::Finish { sub, nth } if sub < subs => {
                let held = self.held();
                if !held.is_empty() {
                    self.finish(subs - 1 - sub, held[nth % held.len()]);
                }
            }
            Op::FinishHeld { nth } | Op::Requeue { nth, .. } | Op::Touch { nth } => {
                let held = self.held();
                if !held.is_empty() {
                    self.acknowledge(held[nth % held.len()], op);
                }
            }
            Op::FinishAny { sub, rank } if sub < subs && rank < self.messages.len() => {
                self.finish(subs - 1 - sub, rank);
            }
            Op::Advance { ns } => self.now += ns,
            Op::Expire => self.expire(),
            Op::Pause(paused) => {
                self.paused = paused;
                self.state.pause(paused);
            }
            Op::HoldPump(stands) => {
                self.pump_stands = stands;
                if !stands {
                    self.pump = self.messages.len();
                }
            }
            Op::EmptyTopic => {
                let (from, to) = (self.pos(self.pump), self.pos(self.messages.len()));
                self.state.add_gap(from, to);
                for message in &mut self.messages[self.pump..] {
                    message.life = Life::Finished;
                }
                self.pump = self.messages.len();
            }
            Op::Empty => {
                self.state.empty(self.end());
                self.empty_below(self.pump);
            }
            Op::Jump { by } => {
                let to = (self.cursor() + by).min(self.pump);
                let skips = |m: &&mut Message| m.life == Life::Fresh;
                let pos = self.pos(to);
                let skipped = self.messages[..to].iter_mut().filter(skips).map(|m| m.life = Life::Finished);
                assert_eq!(skipped.count() as u64, self.state.jump(pos));
            }
            Op::TakeDelta => self.take_delta(),
            Op::Restart => self.restart(),
            _ => {}
        }
        let woken = self.state.notify(self.end());
        self.woke(woken);
        self.check();
    }

    fn acknowledge(&mut self, rank: usize, op: Op) {
        let Life::InFlight { sub, attempts, delivered, .. } = self.messages[rank].life else { return };
        let (id, offset, now) = (self.subs[sub].id, self.messages[rank].offset, self.now);
        match op {
            Op::Requeue { delay_ms, .. } => {
                self.state.requeue(id, offset, delay_ms * MS, now).unwrap();
                self.requeues += 1;
                if delay_ms == 0 {
                    self.ready(rank, attempts);
                } else {
                    self.messages[rank].life = Life::Deferred { attempts, due: now + delay_ms * MS };
                }
            }
            Op::Touch { .. } => {
                self.state.touch(id, offset, now, TOUCH_MAX).unwrap();
                // Whole milliseconds after the delivery.
                let asked = (now - delivered).next_multiple_of(MS) + self.subs[sub].timeout;
                let deadline = delivered + asked.min(TOUCH_MAX);
                self.messages[rank].life = Life::InFlight { sub, attempts, delivered, deadline };
            }
            _ => self.finish(sub, rank),
        }
    }

    fn check(&mut self) {
        let state = &mut self.state;
        let (mut unfinished, mut wake_at, mut in_flight, mut deferred) = (Vec::new(), Mono::MAX, 0, 0);
        for message in &self.messages {
            let (attempts, due) = match message.life {
                Life::Fresh | Life::Finished => continue,
                Life::InFlight { attempts, deadline, .. } => {
                    wake_at = wake_at.min(deadline);
                    in_flight += 1;
                    (attempts, 0)
                }
                Life::Returned { attempts } | Life::Ready { attempts } => (attempts, 0),
                Life::Deferred { attempts, due } => {
                    wake_at = wake_at.min(due);
                    deferred += 1;
                    (attempts, due)
                }
            };
            unfinished.push(Unfinished { offset: message.offset, attempts, due });
        }
        let mut told = Vec::new();
        state.unfinished(&mut told);
        assert_eq!(told, unfinished);
        assert_eq!((state.in_flight(), state.deferred()), (in_flight, deferred));
        assert!(state.wake_at() <= wake_at, "a deadline would be missed");
        assert_eq!(state.wake_at() == Mono::MAX, wake_at == Mono::MAX);
        assert_eq!((state.requeue_count(), state.timeout_count()), (self.requeues, self.timeouts));
        let floor = unfinished.first().map_or(state.next().offset, |message| message.offset);
        assert_eq!(state.floor(), floor);
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
        (0..self.subs.len()).any(|sub| {
            let Sub { here, resting, .. } = self.subs[sub];
            here && !resting && self.spare(sub) > 0
        })
    }

    /// Lets those who are woken run until nobody is.
    fn drain(&mut self) {
        for _ in 0..10_000 {
            let Some(sub) = self.subs.iter().position(|sub| sub.woken) else { break };
            self.turn(sub, usize::MAX, false);
            self.check();
        }
        assert!(self.paused || self.depth() == 0 || !self.someone_able(), "stalled");
    }
}

impl Taken {
    fn is_delivery(self) -> bool {
        matches!(self, Self::Deliver(_))
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// I1, I3, I4, I5, no lost wake: see the head of this file.
    #[test]
    fn any_history_agrees_with_the_model(ops in prop::collection::vec(op(), 1..250)) {
        let mut world = World::new();
        for op in ops {
            world.apply(op);
        }
        world.drain();
        world.take_delta();
    }

    /// I2: one consumer that never requeues sees publish order, across reconnects, crashes and deltas lost in them.
    #[test]
    fn one_consumer_sees_publish_order(steps in prop::collection::vec((0..8u8, 1..9usize), 1..120)) {
        let mut state = State::new(Pos::default(), 1);
        let mut id = state.subscribe(60_000 * MS, 0, ());
        state.set_credit(id, 20);
        let (mut published, mut expected) = (0u64, 0u64);
        let mut held: Vec<u64> = Vec::new();
        for (step, count) in steps {
            match step {
                0 | 1 => published += count as u64,
                2..=4 => {
                    for _ in 0..count {
                        let end = Pos { offset: Offset(published), rank: published };
                        let (offset, taken) = match state.pick(id, end) {
                            Pick::Again(offset) => (offset, state.take_again(id, offset, None, 0)),
                            Pick::Fresh(from) => (from.offset, state.take_fresh(id, from.offset, None, 0)),
                            Pick::Nothing => break,
                        };
                        prop_assert!(taken.is_delivery());
                        prop_assert_eq!(offset.0, expected);
                        held.push(expected);
                        expected += 1;
                    }
                }
                5 | 6 => {
                    for offset in held.drain(..count.min(held.len())) {
                        prop_assert_eq!(state.finish(id, Offset(offset)), Ok(()));
                    }
                }
                _ => {
                    if count % 2 == 0 {
                        // A poison message is another story: nobody holds anything twice here.
                        let mut unfinished = Vec::new();
                        state.unfinished(&mut unfinished);
                        unfinished.reverse();
                        let next = state.next();
                        state = State::restore(next, 1, unfinished.into_iter().map(|m| Unfinished { attempts: 0, ..m }));
                    } else {
                        state.unsubscribe(id, 0);
                        // What came back twice backs off; its time passes before the consumer is here again.
                        let mut unfinished = Vec::new();
                        state.unfinished(&mut unfinished);
                        let next = state.next();
                        state = State::restore(next, 1, unfinished.into_iter().map(|m| Unfinished { due: 0, ..m }));
                    }
                    id = state.subscribe(60_000 * MS, 0, ());
                    state.set_credit(id, 20);
                    expected = held.first().copied().unwrap_or(expected);
                    held.clear();
                }
            }
        }
    }
}
