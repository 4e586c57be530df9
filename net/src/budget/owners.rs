//! Connections that accounts belong to, and closing those that held most for longest while others wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use mq_core::Wake;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::Budget;

/// Time without progress after which an account is closed while others wait.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Interval between two looks for such accounts, while anybody waits.
pub(super) const SWEEP_EVERY: Duration = Duration::from_millis(100);

/// The connection that an account belongs to.
#[derive(Debug)]
pub(super) struct Owner {
    pub(super) closing: Arc<Closing>,
    /// Whether it may be closed for others.
    pub(super) may_close: bool,
}

pub(super) struct Closing {
    pub(super) is_closed: AtomicBool,
    pub(super) wake: Arc<dyn Wake>,
}

impl Closing {
    pub(super) fn new(wake: Arc<dyn Wake>) -> Self {
        Self { is_closed: AtomicBool::new(false), wake }
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.wake.wake();
    }
}

impl std::fmt::Debug for Closing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Closing").field(&self.is_closed).finish()
    }
}

impl Budget {
    /// Closes accounts for those that wait, as long as there are any.
    pub(super) fn begin_to_sweep(&self) {
        if self.0.sweeps.load(Ordering::Acquire) || self.0.sweeps.swap(true, Ordering::AcqRel) {
            return;
        }
        let Ok(runtime) = Handle::try_current() else {
            self.0.sweeps.store(false, Ordering::Release);
            return;
        };
        let budget = self.clone();
        runtime.spawn(async move {
            loop {
                sleep(SWEEP_EVERY).await;
                if !budget.sweep() {
                    return;
                }
            }
        });
    }

    /// Returns whether anybody waits still.
    fn sweep(&self) -> bool {
        let mut ledger = self.0.ledger.lock();
        if !ledger.any_waiting() {
            self.0.sweeps.store(false, Ordering::Release);
            return false;
        }
        ledger.release_finisher();
        let wanted = ledger.wanted();
        let next = ledger.next(self.now());
        drop(ledger);
        self.close_for(wanted);
        self.wake(&next);
        true
    }

    /// Closes what held most for longest, so that there will be room for `wanted` bytes.
    fn close_for(&self, wanted: usize) {
        let owners = self.0.owners.lock();
        let may_close = |id| {
            owners.get(&id).is_some_and(|owner: &Owner| {
                owner.may_close && !owner.closing.is_closed.load(Ordering::Acquire)
            })
        };
        let (now, grace) = (self.now(), GRACE.as_millis() as u64);
        let victims = self.0.ledger.lock().victims(wanted, now, grace, may_close);
        let closed: Vec<_> =
            victims.iter().filter_map(|id| owners.get(id)).map(|owner| Arc::clone(&owner.closing)).collect();
        drop(owners);
        if !closed.is_empty() {
            let limit = self.0.limit;
            tracing::warn!(
                connections = closed.len(),
                limit,
                "memory for clients is spent: those that held most for longest are closed"
            );
        }
        closed.iter().for_each(|closing| closing.close());
    }

    /// Has room made for `wanted` bytes that were refused, so that they find some when they come again.
    pub(super) fn make_room(&self, wanted: usize) {
        let now = self.now();
        let last = self.0.last_room.load(Ordering::Acquire);
        // Not for each of a flood, but again and again while it lasts.
        let is_due = now.saturating_sub(last) >= SWEEP_EVERY.as_millis() as u64;
        if is_due && self.0.last_room.compare_exchange(last, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
        {
            self.close_for(wanted);
        }
    }
}
