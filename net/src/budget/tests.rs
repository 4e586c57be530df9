//! The budget with accounts, streams and codecs that wait for each other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mq_core::Wake;
use tokio::time::{Instant, sleep};

use super::owners::{GRACE, SWEEP_EVERY};
use super::places::{FEW_STREAMS, STREAM_RUN};
use super::{Budget, DEFLATE_BYTES, FREE_BYTES, STREAM_BYTES};
use crate::signal::Signal;

#[derive(Default)]
struct Woken(AtomicBool);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn streams_have_half_of_it_and_give_it_back() {
    let budget = Budget::new(4 << 20);
    let mut places = Vec::new();
    places.extend(std::iter::from_fn(|| budget.stream(FEW_STREAMS)));
    assert_eq!((places.len(), budget.used()), (96, 96 * STREAM_BYTES));
    places.extend(std::iter::from_fn(|| budget.stream(0)));
    assert_eq!((places.len(), budget.used()), (128, 2 << 20));
    places.truncate(1);
    assert!(budget.used() <= 2 * STREAM_RUN * STREAM_BYTES, "{}", budget.used());
    assert!(budget.stream(FEW_STREAMS).is_some());
}

#[test]
fn deflate_takes_what_it_holds_and_leaves_streams_their_last_quarter() {
    let budget = Budget::new(4 << 20);
    let mut places: Vec<_> = std::iter::from_fn(|| budget.deflate()).collect();
    assert_eq!(places.len(), (3 << 19) / DEFLATE_BYTES);
    assert!(budget.used() >= places.len() * DEFLATE_BYTES, "{}", budget.used());
    assert!((0..32).all(|_| budget.stream(0).map(|place| places.push(place)).is_some()));
    places.clear();
    assert!(budget.used() <= 2 * STREAM_RUN * STREAM_BYTES, "{}", budget.used());
    assert!(budget.deflate().is_some());
}

#[test]
fn a_quarter_of_the_memory_for_messages_between_a_least_and_a_most() {
    for (memory, limit) in [(4, 16), (64, 16), (128, 32), (256, 64), (4096, 64)] {
        assert_eq!(Budget::beside(memory << 20).limit(), limit << 20, "{memory} MiB");
    }
}

#[tokio::test(start_paused = true)]
async fn repeated_refusals_close_the_stalled_account() {
    let budget = Budget::new(STREAM_BYTES);
    let mut stuck = budget.account(Arc::new(Signal::default()));
    assert!(stuck.take(STREAM_BYTES));
    let mut asking = budget.standing_account();
    let began = Instant::now();
    while !stuck.is_closed() {
        assert!(!asking.take(STREAM_BYTES));
        assert!(began.elapsed() < 2 * GRACE, "it is never closed");
        sleep(SWEEP_EVERY / 10).await;
    }
    drop(stuck);
    assert!(asking.take(STREAM_BYTES));
}

#[tokio::test(start_paused = true)]
async fn a_sole_turn_waits_without_spinning_until_a_stalled_account_has_made_room() {
    let budget = Budget::new(STREAM_BYTES);
    let mut stuck = budget.account(Arc::new(Signal::default()));
    stuck.set(1 << 20);
    let woken = Arc::new(Woken::default());
    let waker = std::task::Waker::from(Arc::clone(&woken));
    let mut cx = std::task::Context::from_waker(&waker);
    let mut turn = std::pin::pin!(budget.sole_turn());
    assert!(turn.as_mut().poll(&mut cx).is_pending());
    assert!(!woken.0.load(Ordering::Relaxed), "there is no room");
    // It does not take the place of the one that may go on beyond the limit.
    let mut finisher = budget.account(Arc::new(Signal::default()));
    assert!(finisher.may_grow());
    while !stuck.is_closed() {
        sleep(SWEEP_EVERY).await;
        assert!(budget.0.began.elapsed() < 2 * GRACE, "it is never closed");
    }
    drop(stuck);
    assert!(woken.0.load(Ordering::Relaxed));
    let first = turn.await;
    assert!(first.is_some());
    let mut second = std::pin::pin!(budget.sole_turn());
    assert!(second.as_mut().poll(&mut cx).is_pending(), "one at a time");
    drop(first);
    assert!(second.await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_waiting_account_grows_once_a_stalled_one_is_closed() {
    let budget = Budget::new(STREAM_BYTES);
    let account = || {
        let signal = Arc::new(Signal::default());
        (budget.account(Arc::clone(&signal) as Arc<dyn Wake>), signal)
    };
    let (mut stuck, stuck_signal) = account();
    stuck.set(1 << 20);
    let (mut finisher, _) = account();
    assert!(finisher.may_grow());
    finisher.set(FREE_BYTES + 1);
    let (mut waits, signal) = account();
    assert!(!waits.may_grow());
    let giving_way = async {
        std::future::poll_fn(|cx| {
            stuck_signal.register(cx.waker());
            if stuck.is_closed() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        drop(stuck);
        // The finisher is at its end.
        finisher.set(0);
    };
    let (_, room) = tokio::join!(giving_way, waits.room(&signal));
    assert_eq!(room, Ok(()));
    assert_eq!(budget.used(), 0);
}
