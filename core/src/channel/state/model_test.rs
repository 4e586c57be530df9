//! Random histories of a channel against a naive model that keeps a life for each message.
//!
//! Checked after every step: each message is in exactly one life and all counts follow (I1, I3), nobody gets
//! more than their credit or what another holds (I4), only the holder's acknowledgement counts (I5),
//! `wake_at` is never late, a wake-up is never lost, and the deltas taken so far give a recovery the truth.

use std::time::Duration;

use proptest::prelude::*;

use crate::channel::PendingMessage;

use super::model::*;
use super::*;

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
        orderly: bool,
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
    Release {
        nth: usize,
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
    /// An administrator's drop of one message, also of one that was never delivered.
    DropOne {
        rank: usize,
    },
    RequeueOne {
        rank: usize,
    },
    /// An administrator limits attempts, or lifts the limit.
    Configure {
        max_attempts: u16,
        redelivery_delay_ms: u64,
    },
    BeginMove {
        max: usize,
    },
    EndMove {
        stored: usize,
    },
    TakeDelta,
    Restart,
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    let sub = 0..6usize;
    prop_oneof![
        8 => (1..12usize, prop::bool::weighted(0.1)).prop_map(|(count, new_block)| Op::Publish { count, new_block }),
        2 => (0..60u64).prop_map(|delay_ms| Op::PublishLater { delay_ms }),
        2 => (1..80u64, prop_oneof![4 => Just(0u8), 1 => Just(30u8)])
            .prop_map(|(timeout_ms, sample_rate)| Op::Subscribe { timeout_ms, sample_rate }),
        1 => (sub.clone(), any::<bool>()).prop_map(|(sub, orderly)| Op::Unsubscribe { sub, orderly }),
        5 => (sub.clone(), 0..12u32).prop_map(|(sub, credit)| Op::Credit { sub, credit }),
        4 => (sub.clone(), 0..20usize, prop::bool::weighted(0.2))
            .prop_map(|(sub, most, rest)| Op::Turn { sub, most, rest }),
        12 => (0..6usize).prop_map(|nth| Op::WokenTurn { nth }),
        3 => (sub.clone(), 0..40usize).prop_map(|(sub, nth)| Op::Finish { sub, nth }),
        12 => (0..40usize).prop_map(|nth| Op::FinishHeld { nth }),
        1 => (sub, 0..200usize).prop_map(|(sub, rank)| Op::FinishAny { sub, rank }),
        3 => (0..40usize, prop_oneof![Just(0), 1..50u64]).prop_map(|(nth, delay_ms)| Op::Requeue { nth, delay_ms }),
        2 => (0..40usize).prop_map(|nth| Op::Release { nth }),
        2 => (0..40usize).prop_map(|nth| Op::Touch { nth }),
        4 => (0..30 * MS).prop_map(|ns| Op::Advance { ns }),
        4 => Just(Op::Expire),
        1 => any::<bool>().prop_map(Op::Pause),
        1 => any::<bool>().prop_map(Op::HoldPump),
        1 => Just(Op::EmptyTopic),
        1 => prop::bool::weighted(0.3).prop_map(|all| if all { Op::Empty } else { Op::Expire }),
        1 => (0..6usize).prop_map(|by| Op::Jump { by }),
        2 => (0..200usize).prop_map(|rank| Op::DropOne { rank }),
        2 => (0..200usize).prop_map(|rank| Op::RequeueOne { rank }),
        1 => (0..4u16, 0..40u64)
            .prop_map(|(max_attempts, redelivery_delay_ms)| Op::Configure { max_attempts, redelivery_delay_ms }),
        3 => (1..6usize).prop_map(|max| Op::BeginMove { max }),
        3 => (0..6usize).prop_map(|stored| Op::EndMove { stored }),
        2 => Just(Op::TakeDelta),
        1 => Just(Op::Restart),
        1 => Just(Op::Crash),
    ]
}

impl World {
    fn apply(&mut self, op: Op) {
        let subs = self.subs.len();
        match op {
            Op::Publish { count, new_block } => {
                for i in 0..count {
                    self.publish(new_block && i == 0, None);
                }
            }
            Op::PublishLater { delay_ms } => {
                let (rank, due) = (self.messages.len(), self.now.plus(delay_ms * MS));
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
            Op::Unsubscribe { sub, orderly } if sub < subs => {
                let departure = if orderly { Departure::Orderly } else { Departure::Abrupt };
                self.unsubscribe(subs - 1 - sub, departure);
            }
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
            Op::FinishHeld { nth } | Op::Requeue { nth, .. } | Op::Release { nth } | Op::Touch { nth } => {
                let held = self.held();
                if !held.is_empty() {
                    self.acknowledge(held[nth % held.len()], op);
                }
            }
            Op::FinishAny { sub, rank } if sub < subs && rank < self.messages.len() => {
                self.finish(subs - 1 - sub, rank);
            }
            Op::Advance { ns } => self.now = self.now.plus(ns),
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
                self.dropped.push((from, to));
                for message in &mut self.messages[self.pump..] {
                    message.life = Life::Finished;
                }
                self.pump = self.messages.len();
            }
            Op::Empty => {
                self.state.empty(self.end());
                self.empty_below(self.pump);
                self.first_delivery_turn = false;
            }
            Op::Jump { by } => {
                let to = (self.cursor() + by).min(self.pump);
                let skips = |m: &&mut Message| m.life == Life::New;
                let pos = self.pos(to);
                let skipped = self.messages[..to].iter_mut().filter(skips).map(|m| m.life = Life::Finished);
                assert_eq!(skipped.count() as u64, self.state.jump(pos));
            }
            Op::DropOne { rank } if rank < self.pump => self.drop_one(rank),
            Op::RequeueOne { rank } if rank < self.pump => self.requeue_one(rank),
            Op::Configure { max_attempts, redelivery_delay_ms } => self.configure(ChannelSettings {
                max_attempts,
                redelivery_delay: Duration::from_millis(redelivery_delay_ms),
                ..ChannelSettings::default()
            }),
            Op::BeginMove { max } => self.begin_move(max),
            Op::EndMove { stored } => self.end_move(stored),
            Op::TakeDelta => self.take_delta(),
            Op::Restart => self.restart(),
            Op::Crash => self.crash(),
            _ => {}
        }
        self.taken_out();
        let woken = self.state.notify(self.end());
        self.woke(woken);
        self.check();
    }

    fn drop_one(&mut self, rank: usize) {
        if self.messages[rank].life == Life::New {
            for before in self.cursor()..=rank {
                if self.messages[before].life == Life::New {
                    self.state.pass_to_ready(self.messages[before].offset);
                    self.messages[before].life = Life::Returned { attempts: 0 };
                }
            }
        }
        let was = self.state.drop_one(self.messages[rank].offset, self.now);
        self.expect_pending(rank, was);
        self.messages[rank].life = Life::Finished;
        self.ready.retain(|&(ready, _)| ready != rank);
    }

    fn requeue_one(&mut self, rank: usize) {
        let (offset, now, end) = (self.messages[rank].offset, self.now, self.end());
        let was = self.state.requeue_one(offset, now, end);
        match self.messages[rank].life {
            Life::New => assert_eq!(was, None),
            Life::InFlight { attempts, .. } | Life::Deferred { attempts, .. } | Life::Dead { attempts } => {
                self.expect_pending(rank, was);
                self.requeues += u64::from(was.unwrap().in_flight);
                self.ready(rank, attempts);
            }
            Life::Ready { .. } | Life::Returned { .. } | Life::Finished => self.expect_pending(rank, was),
        }
    }

    fn expect_pending(&self, rank: usize, was: Option<PendingMessage>) {
        let was = was.map(|one| (one.attempts, one.in_flight, one.due));
        let expected = match self.messages[rank].life {
            Life::InFlight { attempts, .. } => Some((attempts, true, None)),
            Life::Ready { attempts } | Life::Returned { attempts } | Life::Dead { attempts } => {
                Some((attempts, false, None))
            }
            Life::Deferred { attempts, due } => {
                Some((attempts, false, Some(Duration::from_nanos(due.since(self.now)))))
            }
            Life::New | Life::Finished => None,
        };
        assert_eq!(was, expected);
    }

    fn acknowledge(&mut self, rank: usize, op: Op) {
        let Life::InFlight { sub, attempts, delivered, .. } = self.messages[rank].life else { return };
        let (id, offset, now) = (self.subs[sub].id, self.messages[rank].offset, self.now);
        match op {
            Op::Requeue { delay_ms, .. } => {
                self.state.requeue(id, offset, delay_ms * MS, now, self.end()).unwrap();
                self.requeues += 1;
                if delay_ms == 0 || self.is_dead(attempts) {
                    self.comes_back(rank, attempts);
                } else {
                    self.messages[rank].life = Life::Deferred { attempts, due: now.plus(delay_ms * MS) };
                }
            }
            Op::Release { .. } => {
                self.state.release(id, offset).unwrap();
                self.messages[rank].life = Life::Returned { attempts: attempts - 1 };
            }
            Op::Touch { .. } => {
                self.state.touch(id, offset, now, TOUCH_MAX).unwrap();
                // Whole milliseconds after the delivery.
                let asked = now.since(delivered).next_multiple_of(MS) + self.subs[sub].timeout;
                let deadline = delivered.plus(asked.min(TOUCH_MAX));
                self.messages[rank].life = Life::InFlight { sub, attempts, delivered, deadline };
            }
            _ => self.finish(sub, rank),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_024, ..ProptestConfig::default() })]

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

    /// I2: one consumer that never requeues sees publish order, across reconnects, crashes and deltas lost in
    /// them.
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
                            Pick::Redelivery(offset) => (offset, state.take_redelivery(id, offset, None, Mono(0))),
                            Pick::FirstDelivery(from) => (from.offset, state.take_first_delivery(id, from.offset, None, Mono(0))),
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
                        let mut unfinished = state.unfinished();
                        unfinished.sort_unstable_by_key(|message| message.offset);
                        unfinished.reverse();
                        let next = state.next();
                        state = State::restore(next, 1, &ChannelSettings::default(), unfinished.into_iter().map(|m| Unfinished { attempts: 0, ..m }));
                    } else {
                        state.unsubscribe(id, Departure::Abrupt, Mono(0));
                        // What came back twice backs off; its time passes before the consumer is here again.
                        let mut unfinished = state.unfinished();
                        unfinished.sort_unstable_by_key(|message| message.offset);
                        let next = state.next();
                        state = State::restore(next, 1, &ChannelSettings::default(), unfinished.into_iter().map(|m| Unfinished { due: Mono(0), ..m }));
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
