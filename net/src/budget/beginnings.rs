//! Units that peers have begun and not ended, in layers that hold them before anybody sees what they are: the
//! handshake and the records of TLS, frames of HTTP/2, heads of HTTP/1.
//!
//! Each is small and soon whole, so nobody waits for memory with one. Beyond their part of the budget the
//! oldest are closed: one that is on its way is younger than those that an attacker leaves lying.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;

use super::owners::Closing;
use super::{Budget, Closed, FREE_BYTES};
use crate::signal::Signal;

/// Part of the budget's limit that beginnings may have.
const PART_OF_LIMIT: usize = 8;

/// Bytes by which what the budget counts may differ from the sum.
const COUNTED_STEP: usize = 64 * 1024;

/// Beginnings of all peers by age, each with its bytes and its owner. Pure.
#[derive(Debug)]
pub(super) struct Beginnings<T> {
    max: usize,
    bytes: usize,
    next: u64,
    by_age: BTreeMap<u64, (usize, T)>,
}

impl<T> Beginnings<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { max: limit / PART_OF_LIMIT, bytes: 0, next: 0, by_age: BTreeMap::new() }
    }

    /// Bytes that are counted for all: their sum, in steps.
    pub(super) fn counted(&self) -> usize {
        self.bytes / COUNTED_STEP * COUNTED_STEP
    }

    /// Adds one of `bytes`. Returns its place, and the owners of the oldest that have to give way; the new
    /// one is never among them.
    fn add(&mut self, bytes: usize, owner: T) -> (u64, Vec<T>) {
        let place = self.next;
        self.next += 1;
        self.by_age.insert(place, (bytes, owner));
        self.bytes += bytes;
        (place, self.shrink(place))
    }

    /// The one at `place` has `bytes` now, and is as old as before. Returns the owners of those that have to
    /// give way.
    fn set(&mut self, place: u64, bytes: usize) -> Vec<T> {
        let Some((old, _)) = self.by_age.get_mut(&place) else { return Vec::new() };
        self.bytes = self.bytes - *old + bytes;
        *old = bytes;
        self.shrink(place)
    }

    fn remove(&mut self, place: u64) {
        if let Some((bytes, _)) = self.by_age.remove(&place) {
            self.bytes -= bytes;
        }
    }

    fn shrink(&mut self, but: u64) -> Vec<T> {
        let mut gone = Vec::new();
        while self.bytes > self.max {
            let Some(oldest) = self.by_age.keys().copied().find(|place| *place != but) else { break };
            if let Some((bytes, owner)) = self.by_age.remove(&oldest) {
                self.bytes -= bytes;
                gone.push(owner);
            }
        }
        gone
    }
}

/// The unit that a peer has begun on one layer of its connection, if any.
#[derive(Debug)]
pub struct Beginning {
    budget: Budget,
    signal: Arc<Signal>,
    closing: Arc<Closing>,
    /// Its place and bytes while it is counted.
    counted: Option<(u64, usize)>,
}

impl Beginning {
    pub(super) fn new(budget: Budget) -> Self {
        let signal = Arc::new(Signal::default());
        let closing = Arc::new(Closing::new(Arc::clone(&signal) as _));
        Self { budget, signal, closing, counted: None }
    }

    /// Counts `bytes` that are there of a unit, to be called before its layer waits for more of it. The task
    /// is woken if it has to give way.
    ///
    /// # Errors
    /// It has to give way to younger ones.
    pub fn hold(&mut self, bytes: usize, cx: &Context<'_>) -> Result<(), Closed> {
        if bytes <= FREE_BYTES {
            self.release();
            return Ok(());
        }
        self.signal.register(cx.waker());
        if self.closing.is_closed.load(Ordering::Acquire) {
            return Err(Closed);
        }
        match self.counted {
            Some((_, before)) if before == bytes => {}
            Some((place, _)) => {
                self.counted = Some((place, bytes));
                self.budget.change_beginnings(|all| all.set(place, bytes));
            }
            None => {
                let owner = Arc::clone(&self.closing);
                let counted = &mut self.counted;
                self.budget.change_beginnings(|all| {
                    let (place, gone) = all.add(bytes, owner);
                    *counted = Some((place, bytes));
                    gone
                });
            }
        }
        Ok(())
    }

    /// The unit is whole, or gone.
    pub fn release(&mut self) {
        if let Some((place, _)) = self.counted.take() {
            self.budget.change_beginnings(|all| {
                all.remove(place);
                Vec::new()
            });
        }
    }
}

impl Drop for Beginning {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn the_oldest_give_way_and_one_that_grows_is_as_old_as_before() {
        let mut all = Beginnings::new(8 * 100);
        let (first, gone) = all.add(40, 'a');
        assert!(gone.is_empty());
        let (second, gone) = all.add(40, 'b');
        assert!(gone.is_empty());
        assert_eq!(all.set(second, 60), []);
        assert_eq!(all.add(30, 'c').1, ['a']);
        all.remove(first);
        assert_eq!((all.bytes, all.by_age.len()), (90, 2));
        assert_eq!(all.add(90, 'd').1, ['b', 'c']);
        all.remove(second);
        assert_eq!(all.bytes, 90);
    }

    #[test]
    fn one_alone_may_be_larger_than_the_part() {
        let mut all = Beginnings::new(8 * 100);
        let (place, gone) = all.add(150, 'a');
        assert!(gone.is_empty());
        assert!(all.set(place, 200).is_empty());
        assert_eq!(all.add(10, 'b').1, ['a']);
    }

    #[test]
    fn a_peer_that_gives_way_is_refused_and_the_budget_counts_what_is_left() {
        let budget = Budget::new(8 << 20);
        let cx = Context::from_waker(Waker::noop());
        let part = (8 << 20) / PART_OF_LIMIT;
        let mut old = budget.beginning();
        assert_eq!(old.hold(part / 2, &cx), Ok(()));
        assert_eq!(budget.used(), part / 2);
        let mut young = budget.beginning();
        assert_eq!(young.hold(part, &cx), Ok(()));
        assert_eq!((old.hold(part / 2, &cx), young.hold(part, &cx)), (Err(Closed), Ok(())));
        assert_eq!(budget.used(), part);
        // Whole units, and small ones, are nobody's concern.
        assert_eq!(young.hold(FREE_BYTES, &cx), Ok(()));
        assert_eq!(budget.used(), 0);
        drop((old, young));
        assert_eq!(budget.used(), 0);
    }
}
