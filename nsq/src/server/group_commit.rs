//! One write for all sessions that are ready.
//!
//! A session that publishes lets the sessions that are ready have their turn before it has the log write: the
//! first that comes around again writes for all of them.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;

use tokio::task::yield_now;

/// Turns that others had since a session's last one for it to wait: so many publish at a time.
const YIELD_AFTER_PEERS: u64 = 4;

/// Turns in which some session published.
#[derive(Debug, Default)]
pub(super) struct CommitTurns(AtomicU64);

/// A session's part in group commits.
#[derive(Debug, Default)]
pub(super) struct CommitTurn {
    /// Turns there had been when this session's last one began, and that one. `None` before its first.
    last: Option<u64>,
    /// Whether it lets others have theirs.
    waits: bool,
}

impl CommitTurn {
    /// Whether the session, which published, is to go on. If not, it is polled again once all that are ready
    /// were.
    pub(super) fn ended(&mut self, turns: &CommitTurns, cx: &mut Context<'_>) -> bool {
        if std::mem::take(&mut self.waits) {
            return true;
        }
        let before = turns.0.fetch_add(1, Ordering::Relaxed);
        let others = self.last.replace(before + 1).map_or(0, |last| before - last);
        self.waits = others >= YIELD_AFTER_PEERS && pin!(yield_now()).poll(cx).is_pending();
        !self.waits
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use super::*;

    async fn goes_on(turn: &mut CommitTurn, turns: &CommitTurns) -> bool {
        poll_fn(|cx| Poll::Ready(turn.ended(turns, cx))).await
    }

    #[tokio::test]
    async fn a_session_waits_once_for_many_and_never_for_few() {
        let turns = CommitTurns::default();
        let mut sessions: Vec<CommitTurn> = (0..=YIELD_AFTER_PEERS).map(|_| CommitTurn::default()).collect();
        let (few, one) = sessions.split_at_mut(YIELD_AFTER_PEERS as usize);
        assert!(goes_on(&mut one[0], &turns).await);
        for _ in 0..3 {
            for turn in &mut *few {
                assert!(goes_on(turn, &turns).await);
            }
        }
        assert!(!goes_on(&mut one[0], &turns).await, "others had their turn since");
        assert!(goes_on(&mut one[0], &turns).await, "now it is its own");
        assert!(goes_on(&mut one[0], &turns).await, "nobody had one since");
    }

    #[tokio::test]
    async fn who_waits_is_polled_again_after_those_that_are_ready() {
        let turns = std::sync::Arc::new(CommitTurns::default());
        let mut sessions: Vec<CommitTurn> = (0..3).map(|_| CommitTurn::default()).collect();
        for turn in &mut sessions {
            assert!(goes_on(turn, &turns).await);
        }
        for _ in 0..YIELD_AFTER_PEERS {
            goes_on(&mut CommitTurn::default(), &turns).await;
        }
        let order = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
        let tasks: Vec<_> = sessions
            .into_iter()
            .enumerate()
            .map(|(no, mut turn)| {
                let (turns, order) = (turns.clone(), order.clone());
                tokio::spawn(async move {
                    poll_fn(|cx| {
                        order.lock().unwrap().push(no);
                        if turn.ended(&turns, cx) { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let order = order.lock().unwrap();
        assert_eq!((order.len(), &order[..3]), (6, &[0, 1, 2][..]));
    }
}
