//! Single cases, each with its name; `model_test` has the rest.

use super::*;

const MS: u64 = 1_000_000;
const MINUTE: u64 = 60_000 * MS;

fn at(n: u64) -> Pos {
    Pos { offset: Offset(n), rank: n }
}

fn channel() -> State<&'static str> {
    State::new(at(0), 1)
}

fn joins(state: &mut State<&'static str>, name: &'static str, credit: u32) -> SubId {
    let id = state.subscribe(MINUTE, 0, name);
    state.set_credit(id, credit);
    id
}

/// Takes up to `count` messages and gives their offsets and attempts.
fn takes(state: &mut State<&'static str>, id: SubId, count: usize, end: u64, now: u64) -> Vec<(u64, u16)> {
    let now = Mono(now);
    let mut got = Vec::new();
    while got.len() < count {
        let (offset, taken) = match state.pick(id, at(end)) {
            Pick::Redelivery(offset) => (offset, state.take_redelivery(id, offset, None, now)),
            Pick::FirstDelivery(from) => (from.offset, state.take_first_delivery(id, from.offset, None, now)),
            Pick::Nothing => break,
        };
        if let Taken::Deliver(attempts) = taken {
            got.push((offset.0, attempts));
        }
    }
    got
}

#[test]
fn a_requeued_message_follows_all_that_waited_then_takes_turns_with_what_came_since() {
    let mut state = channel();
    let id = joins(&mut state, "a", 100);
    takes(&mut state, id, 3, 5, 0);
    for offset in 0..3 {
        state.requeue(id, Offset(offset), 0, Mono(0), at(5)).unwrap();
    }
    let got: Vec<u64> = takes(&mut state, id, 100, 8, 0).iter().map(|taken| taken.0).collect();
    assert_eq!(got, [3, 4, 0, 5, 1, 6, 2, 7]);
}

#[test]
fn a_message_that_timed_out_or_came_due_follows_all_that_waited() {
    let mut state = channel();
    let id = joins(&mut state, "a", 100);
    assert!(state.absorb(at(0), Mono(MINUTE)));
    takes(&mut state, id, 1, 2, 0);
    state.expire(Mono(MINUTE), at(4));
    assert_eq!(takes(&mut state, id, 100, 4, MINUTE), [(2, 1), (3, 1), (0, 1), (1, 2)]);
}

#[test]
fn a_new_message_that_is_not_delivered_takes_no_turn() {
    let mut state = channel();
    let id = joins(&mut state, "a", 100);
    takes(&mut state, id, 2, 2, 0);
    for offset in 0..2 {
        state.requeue(id, Offset(offset), 0, Mono(0), at(2)).unwrap();
    }
    assert_eq!(takes(&mut state, id, 1, 4, 0), [(0, 2)]);
    // Message 2 is for later, so 3 still comes before the next redelivery.
    assert_eq!(state.pick(id, at(4)), Pick::FirstDelivery(at(2)));
    assert_eq!(state.take_first_delivery(id, Offset(2), Some(Mono(MINUTE)), Mono(0)), Taken::Deferred);
    assert_eq!(takes(&mut state, id, 2, 4, 0), [(3, 1), (1, 2)]);
}

#[test]
fn upcoming_redeliveries_are_named_in_the_order_they_are_taken() {
    let returned = [9, 3, 7].map(|offset| Unfinished { offset: Offset(offset), attempts: 0, due: Mono(0) });
    let mut state = State::restore(at(10), 1, &ChannelSettings::default(), returned);
    assert_eq!(state.upcoming(2), [Offset(3), Offset(7)]);
    let id = joins(&mut state, "a", 100);
    assert_eq!(takes(&mut state, id, 1, 10, 0), [(3, 1)]);
    // What is returned later may go before what was looked at already.
    state.unsubscribe(id, Departure::Abrupt, Mono(0));
    let id = joins(&mut state, "a", 100);
    assert_eq!(state.upcoming(9), [Offset(3), Offset(7), Offset(9)]);
    assert_eq!(takes(&mut state, id, 2, 10, 0), [(3, 2), (7, 1)]);
    state.requeue(id, Offset(7), 0, Mono(0), at(10)).unwrap();
    state.requeue(id, Offset(3), 0, Mono(0), at(10)).unwrap();
    assert_eq!(state.upcoming(9), [Offset(9), Offset(7), Offset(3)]);
    assert_eq!(takes(&mut state, id, 9, 10, 0), [(9, 1), (7, 2), (3, 3)]);
    assert_eq!(state.upcoming(9), []);
}

#[test]
fn i5_a_late_finish_and_a_strangers_change_nothing() {
    let mut state = channel();
    let (a, b) = (joins(&mut state, "a", 1), joins(&mut state, "b", 1));
    assert_eq!(takes(&mut state, a, 1, 1, 0), [(0, 1)]);
    assert_eq!(state.finish(b, Offset(0)), Err(AckError::NotOwner));
    assert_eq!(state.expire(Mono(MINUTE - 1), at(0)), Mono(MINUTE));
    assert_eq!(state.expire(Mono(MINUTE), at(0)), Mono::MAX);
    assert_eq!(state.finish(a, Offset(0)), Err(AckError::NotInFlight));
    assert_eq!(takes(&mut state, b, 1, 1, MINUTE), [(0, 2)]);
    assert_eq!(state.finish(a, Offset(0)), Err(AckError::NotOwner));
    assert_eq!(state.touch(a, Offset(0), Mono(MINUTE), MINUTE), Err(AckError::NotOwner));
    assert_eq!(state.requeue(a, Offset(0), 0, Mono(MINUTE), at(1)), Err(AckError::NotOwner));
    assert_eq!(state.finish(b, Offset(0)), Ok(()));
    assert_eq!((state.in_flight(), state.depth(at(1)), state.timeout_count()), (0, 0, 1));
}

#[test]
fn i5_a_stale_subscriber_id_acts_on_nobody() {
    let mut state = channel();
    let gone = joins(&mut state, "gone", 5);
    state.unsubscribe(gone, Departure::Abrupt, Mono(0));
    let heir = joins(&mut state, "heir", 5);
    assert_eq!(takes(&mut state, heir, 1, 9, 0), [(0, 1)]);
    assert_eq!(state.finish(gone, Offset(0)), Err(AckError::NotInFlight));
    state.set_credit(gone, 0);
    state.unsubscribe(gone, Departure::Abrupt, Mono(0));
    assert_eq!(state.pick(gone, at(9)), Pick::Nothing);
    assert_eq!(state.subscriber_stats(heir).map(|stats| (stats.credit, stats.in_flight)), Some((5, 1)));
}

#[test]
fn a_poison_message_does_not_race_through_all_consumers() {
    let mut state = channel();
    let mut now = 0;
    for attempts in 1..=4u16 {
        let id = joins(&mut state, "victim", 1);
        assert_eq!(takes(&mut state, id, 1, 1, now), [(0, attempts)]);
        state.unsubscribe(id, Departure::Abrupt, Mono(now));
        if attempts > 1 {
            let wait = u64::from(attempts) * 1_000 * MS;
            assert_eq!(state.expire(Mono(now), at(0)), Mono(now + wait));
            now += wait;
            state.expire(Mono(now), at(0));
        }
    }
}

#[test]
fn after_an_orderly_departure_a_message_delivered_before_comes_again_at_once() {
    let mut state = channel();
    for attempts in 1..=4u16 {
        let id = joins(&mut state, "worker", 1);
        assert_eq!(takes(&mut state, id, 1, 1, 0), [(0, attempts)]);
        state.unsubscribe(id, Departure::Orderly, Mono(0));
        assert_eq!((state.deferred(), state.depth(at(1))), (0, 1));
    }
}

#[test]
fn a_released_message_comes_first_and_its_delivery_does_not_count() {
    let mut state = channel();
    let id = joins(&mut state, "a", 3);
    assert_eq!(takes(&mut state, id, 3, 3, 0), [(0, 1), (1, 1), (2, 1)]);
    state.requeue(id, Offset(0), 0, Mono(0), at(3)).unwrap();
    state.release(id, Offset(2)).unwrap();
    state.release(id, Offset(1)).unwrap();
    assert_eq!(state.release(id, Offset(1)), Err(AckError::NotInFlight));
    assert_eq!(takes(&mut state, id, 3, 3, 0), [(1, 1), (2, 1), (0, 2)]);
    // Once more: the first delivery of those still does not count, the requeue does.
    (0..3).for_each(|offset| state.release(id, Offset(offset)).unwrap());
    assert_eq!(takes(&mut state, id, 3, 3, 0), [(0, 2), (1, 1), (2, 1)]);
    assert_eq!(state.requeue_count(), 1);
}

#[test]
fn touch_is_capped_and_its_deadline_is_found() {
    let mut state = channel();
    let id = joins(&mut state, "a", 1);
    takes(&mut state, id, 1, 1, 0);
    state.touch(id, Offset(0), Mono(MINUTE / 2), 2 * MINUTE).unwrap();
    // The bound is reached, nothing is due, the scan finds the new deadline.
    assert_eq!(state.expire(Mono(MINUTE), at(0)), Mono(MINUTE * 3 / 2));
    state.touch(id, Offset(0), Mono(MINUTE), MINUTE + MS).unwrap();
    assert_eq!(state.wake_at(), Mono(MINUTE + MS));
    assert_eq!(state.expire(Mono(MINUTE + MS), at(0)), Mono::MAX);
    assert_eq!(state.depth(at(1)), 1);
}

#[test]
fn i1_a_deferral_found_after_a_crash_is_kept() {
    let unfinished = [Unfinished { offset: Offset(0), attempts: 0, due: Mono(0) }];
    let mut state = State::restore(at(1), 1, &ChannelSettings::default(), unfinished);
    let id = joins(&mut state, "a", 1);
    assert_eq!(state.pick(id, at(1)), Pick::Redelivery(Offset(0)));
    assert_eq!(state.take_redelivery(id, Offset(0), Some(Mono(MINUTE)), Mono(0)), Taken::Deferred);
    assert_eq!((state.deferred(), state.expire(Mono(0), at(0))), (1, Mono(MINUTE)));
    state.expire(Mono(MINUTE), at(0));
    assert_eq!(takes(&mut state, id, 1, 1, MINUTE), [(0, 1)]);
}

#[test]
fn a_message_too_large_for_its_subscriber_is_a_dead_letter_after_so_many_tries() {
    let mut state = channel();
    let id = joins(&mut state, "a", 10);
    state.configure(&ChannelSettings { max_attempts: 2, ..ChannelSettings::default() });
    state.put_aside(id, Offset(0), Mono(0));
    assert_eq!((state.oversized_count(), state.wake_at()), (1, Mono(MINUTE)));
    state.expire(Mono(MINUTE), at(1));
    state.put_aside(id, Offset(0), Mono(MINUTE));
    assert_eq!(state.begin_move(9, Mono(MINUTE)), [DeadLetter { offset: Offset(0), attempts: 2 }]);
    state.end_move(&[Offset(0)], Mono(MINUTE));
    assert_eq!((state.dead_letter_count(), state.floor()), (1, Offset(1)));
}

#[test]
fn a_message_given_back_unseen_is_no_dead_letter() {
    let mut state = channel();
    let id = joins(&mut state, "a", 10);
    state.configure(&ChannelSettings { max_attempts: 1, ..ChannelSettings::default() });
    takes(&mut state, id, 1, 1, 0);
    state.release(id, Offset(0)).unwrap();
    assert_eq!(state.begin_move(9, Mono(0)), []);
    assert_eq!(takes(&mut state, id, 1, 1, 0), [(0, 1)]);
}

#[test]
fn sampling_follows_nsqd_and_consumes_what_it_skips() {
    let mut state = channel();
    let id = state.subscribe(MINUTE, 24, "a");
    state.set_credit(id, u32::MAX);
    let got = takes(&mut state, id, usize::MAX, 100_000, 0).len();
    // 25 of 100 draws are not above 24.
    assert!((24_000..26_000).contains(&got), "{got}");
    let mut delta = Delta::default();
    state.take_delta(&mut delta);
    let sampled: u64 = delta.finished.iter().map(|(first, last)| last.0 - first.0 + 1).sum();
    assert_eq!(sampled as usize + got, 100_000);
    assert_eq!((state.depth(at(100_000)), state.in_flight()), (0, got as u64));
}

#[test]
fn i3_an_emptied_topic_is_skipped_and_not_counted() {
    let mut state = channel();
    let id = joins(&mut state, "a", 100);
    state.add_gap(at(5), at(10));
    state.add_gap(at(10), at(12));
    assert_eq!((state.depth(at(12)), state.depth(at(15))), (5, 8));
    let got: Vec<u64> = takes(&mut state, id, 100, 15, 0).iter().map(|taken| taken.0).collect();
    assert_eq!(got, [0, 1, 2, 3, 4, 12, 13, 14]);
}

#[test]
fn i3_an_emptied_channel_forgets_what_is_in_flight() {
    let mut state = channel();
    let id = joins(&mut state, "a", 2);
    takes(&mut state, id, 2, 9, 0);
    state.empty(at(9));
    assert_eq!(state.finish(id, Offset(1)), Err(AckError::NotInFlight));
    assert_eq!((state.depth(at(9)), state.in_flight(), state.wake_at()), (0, 0, Mono::MAX));
    assert_eq!(takes(&mut state, id, 9, 12, 0), [(9, 1), (10, 1)]);
    let mut delta = Delta::default();
    state.take_delta(&mut delta);
    assert_eq!(delta.finished, [(Offset(0), Offset(8))]);
}

#[test]
fn i4_turns_are_fair() {
    let mut state = channel();
    let (a, b) = (joins(&mut state, "a", 1_000), joins(&mut state, "b", 3));
    assert_eq!(state.share(a, at(10)), 5);
    assert_eq!(state.share(b, at(10)), 3);
    assert_eq!(state.share(a, at(1)), 1);
    assert_eq!(state.share(a, at(1_000)), 64);
    assert_eq!(state.share(a, at(0)), 0);
}

#[test]
fn one_is_woken_then_the_next_and_a_leaver_passes_it_on() {
    let mut state = channel();
    let (a, b, c) = (joins(&mut state, "a", 9), joins(&mut state, "b", 9), joins(&mut state, "c", 9));
    assert_eq!(state.notify(at(0)), None);
    assert_eq!(state.notify(at(4)), Some("a"));
    // "a" is going to take all four.
    assert_eq!(state.notify(at(4)), None);
    // It can't: its output is full.
    assert_eq!(state.rest(a, at(4)), Some("b"));
    // "b" is closed before it comes.
    state.unsubscribe(b, Departure::Abrupt, Mono(0));
    assert_eq!(state.notify(at(4)), Some("c"));
    // "c" loses its credit before it comes, and "a" is back.
    state.set_credit(c, 0);
    assert_eq!(state.notify(at(4)), None);
    assert_eq!(state.park(a, at(4)), Some("a"));
    assert_eq!(takes(&mut state, a, 2, 4, 0).len(), 2);
    // Alone, it is woken again itself.
    assert_eq!(state.park(a, at(4)), Some("a"));
    state.set_credit(a, 2);
    assert_eq!(state.park(a, at(4)), None);
    // A timeout gives credit and a message: that wakes it without any call of its own.
    state.expire(Mono(MINUTE), at(0));
    assert_eq!(state.notify(at(4)), Some("a"));
}

#[test]
fn i4_nothing_is_taken_with_a_pick_that_has_become_stale() {
    let mut state = channel();
    let id = joins(&mut state, "a", 5);
    state.empty(at(3));
    assert_eq!(state.take_first_delivery(id, Offset(2), None, Mono(0)), Taken::Stale);
    assert_eq!(state.take_redelivery(id, Offset(2), None, Mono(0)), Taken::Stale);
    state.pause(true);
    assert_eq!(state.take_first_delivery(id, Offset(3), None, Mono(0)), Taken::Stale);
    state.pause(false);
    state.set_credit(id, 0);
    assert_eq!(state.take_first_delivery(id, Offset(3), None, Mono(0)), Taken::Stale);
    assert_eq!((state.in_flight(), state.depth(at(4))), (0, 1));
}

#[test]
fn i6_a_million_in_flight_then_deferred_take_32_bytes_each() {
    const COUNT: u64 = 1_000_000;
    let mut state = channel();
    let id = joins(&mut state, "a", u32::MAX);
    for offset in 0..COUNT {
        state.take_first_delivery(id, Offset(offset), None, Mono(0));
    }
    assert!(state.bytes() <= 32 * COUNT as usize);
    let mut delta = Delta::default();
    for offset in (0..COUNT).rev() {
        state.requeue(id, Offset(offset), MINUTE, Mono(0), at(COUNT)).unwrap();
        if offset % 1_000 == 0 {
            state.take_delta(&mut delta);
        }
    }
    state.tidy();
    assert!(state.bytes() <= 32 * COUNT as usize, "{}", state.bytes());
    state.expire(Mono(MINUTE), at(0));
    assert_eq!((state.depth(at(COUNT)), state.deferred(), state.floor()), (COUNT, 0, Offset(0)));
    state.tidy();
    assert!(state.bytes() <= 32 * COUNT as usize, "{}", state.bytes());
}
