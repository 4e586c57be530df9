//! Bytes held for peers, as figures. Pure: time is an argument.

use std::collections::{BTreeMap, BTreeSet};

/// Bytes that a holder has uncounted: the beginning of a small command, an answer or two. They are part of
/// what a connection costs, whose number is limited elsewhere.
pub const FREE_BYTES: usize = 4 * 1024;

/// Bytes of the smallest reservation: a command of usual size that came in two pieces. With one step more it
/// is what a session without much to say has in its output.
const FIRST_STEP_BYTES: usize = 16 * 1024;

/// Bytes by which larger reservations grow.
pub const STEP_BYTES: usize = 64 * 1024;

/// Bytes that are reserved for `bytes`.
pub(super) fn reserved(bytes: usize) -> usize {
    match bytes {
        0..=FREE_BYTES => 0,
        _ => {
            let steps = bytes.saturating_sub(FIRST_STEP_BYTES).div_ceil(STEP_BYTES);
            FIRST_STEP_BYTES.saturating_add(steps.saturating_mul(STEP_BYTES))
        }
    }
}

/// A reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Holding {
    bytes: usize,
    /// Milliseconds at which it began, last changed or moved on: who sends or takes a step meanwhile is
    /// slow, not stuck.
    since: u64,
}

/// Reservations of all holders under one limit.
///
/// - `used` is the sum of all reservations.
/// - A holder grows while `used` is below the limit. At the limit one holder may go on all the same, the
///   finisher: there is always one that comes to its end, and no other exceeds the limit by more than it had
///   begun when the limit was reached.
/// - Of those that wait, the oldest and the youngest (by their numbers) come by turns: under an attack the
///   queue is full of holders that never end, and who behaves came before them or comes after. They get the
///   room below three quarters of the limit; the rest is for who asks for the first time.
#[derive(Debug)]
pub(super) struct Ledger {
    limit: usize,
    used: usize,
    /// Greatest value of `used` so far.
    peak: usize,
    holdings: BTreeMap<u64, Holding>,
    finisher: Option<u64>,
    waiting: BTreeSet<u64>,
    /// Holders that wait until there is less than the limit.
    waiting_to_begin: BTreeSet<u64>,
    /// Whether the last that was let in was the youngest.
    takes_youngest: bool,
}

impl Ledger {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            peak: 0,
            holdings: BTreeMap::new(),
            finisher: None,
            waiting: BTreeSet::new(),
            waiting_to_begin: BTreeSet::new(),
            takes_youngest: false,
        }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    pub(super) fn peak(&self) -> usize {
        self.peak
    }

    pub(super) fn is_spent(&self) -> bool {
        self.used >= self.limit
    }

    pub(super) fn any_waiting(&self) -> bool {
        !self.waiting.is_empty() || !self.waiting_to_begin.is_empty()
    }

    /// Replaces the reservation of a holder. A change counts as progress; shrinking ends its time as the
    /// finisher.
    pub(super) fn set(&mut self, id: u64, bytes: usize, now: u64) {
        let old = self.holdings.get(&id).copied().unwrap_or(Holding { bytes: 0, since: now });
        let before = old.bytes;
        let since = if bytes == before { old.since } else { now };
        self.used = self.used - before + bytes;
        self.peak = self.peak.max(self.used);
        match bytes {
            0 => self.holdings.remove(&id),
            _ => self.holdings.insert(id, Holding { bytes, since }),
        };
        if bytes < before && self.finisher == Some(id) {
            self.finisher = None;
        }
    }

    /// A holder's bytes move on, though others take their place.
    pub(super) fn progress(&mut self, id: u64, now: u64) {
        if let Some(holding) = self.holdings.get_mut(&id) {
            holding.since = now;
        }
    }

    /// Reserves `bytes` for a holder that has none, if that stays within the limit, or is all there is.
    pub(super) fn take(&mut self, id: u64, bytes: usize, now: u64) -> bool {
        let fits = self.used == 0 || self.used.saturating_add(bytes) <= self.limit;
        if fits {
            self.set(id, bytes, now);
        }
        fits
    }

    /// Whether a holder may grow. If not, it waits.
    pub(super) fn may_grow(&mut self, id: u64) -> bool {
        if self.is_spent() && *self.finisher.get_or_insert(id) != id {
            self.waiting.insert(id);
            return false;
        }
        true
    }

    /// Whether a holder of nothing may begin with more than all that is left: only below the limit, for as
    /// the finisher it would be beyond it by far. If not, it waits.
    pub(super) fn may_begin(&mut self, id: u64) -> bool {
        if self.is_spent() {
            self.waiting_to_begin.insert(id);
        }
        !self.is_spent()
    }

    /// The holders that shall ask again: as many as there is room for a step each, or one to be the finisher.
    /// Below the limit, also those that wait to begin. From `now` on it is theirs to move on.
    pub(super) fn next(&mut self, now: u64) -> Vec<u64> {
        let steps = (self.limit - self.limit / 4).saturating_sub(self.used).div_ceil(STEP_BYTES);
        let count = steps.max(usize::from(self.finisher.is_none())).min(self.waiting.len());
        let mut next = Vec::with_capacity(count);
        for _ in 0..count {
            self.takes_youngest = !self.takes_youngest;
            next.extend(match self.takes_youngest {
                true => self.waiting.pop_last(),
                false => self.waiting.pop_first(),
            });
        }
        if !self.is_spent() {
            next.extend(std::mem::take(&mut self.waiting_to_begin));
        }
        next.iter().for_each(|id| self.progress(*id, now));
        next
    }

    /// Forgets a holder.
    pub(super) fn remove(&mut self, id: u64, now: u64) {
        self.set(id, 0, now);
        self.waiting.remove(&id);
        self.waiting_to_begin.remove(&id);
        if self.finisher == Some(id) {
            self.finisher = None;
        }
    }

    /// Lets another be the finisher if the one there is reserves nothing: it does not need to be.
    pub(super) fn release_finisher(&mut self) {
        self.finisher = self.finisher.filter(|id| self.holdings.contains_key(id));
    }

    /// Bytes that those that wait want: a step each.
    pub(super) fn wanted(&self) -> usize {
        (self.waiting.len() + self.waiting_to_begin.len()).saturating_mul(STEP_BYTES)
    }

    /// Holders to be closed so that there is room for `wanted` bytes: the finisher first, then the ones with
    /// the most bytes for the longest, bytes times time; all of those that did not move on for `grace`
    /// milliseconds. Those that wait are not among them as long as others are: it is not their peers that
    /// keep them. `may_close` picks.
    pub(super) fn victims(
        &self,
        wanted: usize,
        now: u64,
        grace: u64,
        may_close: impl Fn(u64) -> bool,
    ) -> Vec<u64> {
        let mut missing = wanted.saturating_sub(self.limit.saturating_sub(self.used));
        let mut stalled: Vec<(bool, u128, u64, usize)> = self
            .holdings
            .iter()
            .map(|(id, holding)| (*id, holding.bytes, now.saturating_sub(holding.since)))
            .filter(|(id, _, age)| *age >= grace && may_close(*id))
            .map(|(id, bytes, age)| (self.finisher == Some(id), bytes as u128 * u128::from(age), id, bytes))
            .collect();
        if stalled.iter().any(|(_, _, id, _)| !self.waiting.contains(id)) {
            stalled.retain(|(_, _, id, _)| !self.waiting.contains(id));
        }
        stalled.sort_unstable_by(|a, b| (b.0, b.1).cmp(&(a.0, a.1)).then(a.2.cmp(&b.2)));
        let mut victims = Vec::new();
        for (_, _, id, bytes) in stalled {
            if missing == 0 {
                break;
            }
            missing = missing.saturating_sub(bytes);
            victims.push(id);
        }
        victims
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMIT: usize = 8 * STEP_BYTES;
    const GRACE: u64 = 10;

    #[derive(Clone, Debug)]
    enum Step {
        Set(u64, usize),
        Take(u64, usize),
        Grow(u64),
        Begin(u64),
        Progress(u64),
        Remove(u64),
        Next,
        Release,
        Pass(u64),
    }

    fn step() -> impl Strategy<Value = Step> {
        let id = || 0..6_u64;
        prop_oneof![
            4 => (id(), 0..5_usize).prop_map(|(id, steps)| Step::Set(id, steps * STEP_BYTES)),
            1 => (id(), 1..6_usize).prop_map(|(id, steps)| Step::Take(id, steps * STEP_BYTES)),
            4 => id().prop_map(Step::Grow),
            1 => id().prop_map(Step::Begin),
            1 => id().prop_map(Step::Progress),
            1 => id().prop_map(Step::Remove),
            2 => Just(Step::Next),
            1 => Just(Step::Release),
            2 => (0..20_u64).prop_map(Step::Pass),
        ]
    }

    /// A naive ledger: a list of holders with all that is known of each.
    #[derive(Clone, Debug, Default)]
    struct Naive {
        now: u64,
        bytes: [usize; 6],
        since: [u64; 6],
        waiting: Vec<u64>,
        waiting_to_begin: Vec<u64>,
        turns: usize,
        finisher: Option<u64>,
    }

    impl Naive {
        fn used(&self) -> usize {
            self.bytes.iter().sum()
        }

        fn set(&mut self, id: u64, bytes: usize) {
            let at = id as usize;
            if bytes != self.bytes[at] {
                self.since[at] = self.now;
            }
            if bytes < self.bytes[at] && self.finisher == Some(id) {
                self.finisher = None;
            }
            self.bytes[at] = bytes;
        }

        fn may_grow(&mut self, id: u64) -> bool {
            if self.used() < LIMIT {
                return true;
            }
            if self.finisher.is_none() {
                self.finisher = Some(id);
            }
            let may = self.finisher == Some(id);
            if !may && !self.waiting.contains(&id) {
                self.waiting.push(id);
                self.waiting.sort_unstable();
            }
            may
        }

        fn may_begin(&mut self, id: u64) -> bool {
            let may = self.used() < LIMIT;
            if !may && !self.waiting_to_begin.contains(&id) {
                self.waiting_to_begin.push(id);
                self.waiting_to_begin.sort_unstable();
            }
            may
        }

        fn next(&mut self) -> Vec<u64> {
            let mut room = (6 * STEP_BYTES).saturating_sub(self.used());
            let mut next = Vec::new();
            while room > 0 && !self.waiting.is_empty() {
                next.push(self.turn());
                room = room.saturating_sub(STEP_BYTES);
            }
            if next.is_empty() && self.finisher.is_none() && !self.waiting.is_empty() {
                next.push(self.turn());
            }
            if self.used() < LIMIT {
                self.waiting_to_begin.iter().for_each(|id| self.since[*id as usize] = self.now);
                next.append(&mut self.waiting_to_begin);
            }
            next
        }

        fn turn(&mut self) -> u64 {
            self.turns += 1;
            let at = if self.turns % 2 == 1 { self.waiting.len() - 1 } else { 0 };
            let id = self.waiting.remove(at);
            self.since[id as usize] = self.now;
            id
        }

        fn rent(&self, id: u64) -> (bool, u128) {
            let rent = self.bytes[id as usize] as u128 * u128::from(self.now - self.since[id as usize]);
            (self.finisher == Some(id), rent)
        }
    }

    proptest! {
        #[test]
        fn it_does_as_a_naive_model_does(steps in prop::collection::vec(step(), 1..200)) {
            let (mut ledger, mut model) = (Ledger::new(LIMIT), Naive::default());
            for step in steps {
                match step {
                    Step::Set(id, bytes) => {
                        ledger.set(id, bytes, model.now);
                        model.set(id, bytes);
                    }
                    Step::Take(id, bytes) if model.bytes[id as usize] == 0 => {
                        let fits = model.used() == 0 || model.used() + bytes <= LIMIT;
                        prop_assert_eq!(ledger.take(id, bytes, model.now), fits);
                        if fits {
                            model.set(id, bytes);
                        }
                    }
                    Step::Take(..) => {}
                    Step::Grow(id) => prop_assert_eq!(ledger.may_grow(id), model.may_grow(id)),
                    Step::Begin(id) => prop_assert_eq!(ledger.may_begin(id), model.may_begin(id)),
                    Step::Progress(id) => {
                        ledger.progress(id, model.now);
                        model.since[id as usize] = model.now;
                    }
                    Step::Remove(id) => {
                        ledger.remove(id, model.now);
                        model.set(id, 0);
                        model.waiting.retain(|waiting| *waiting != id);
                        model.waiting_to_begin.retain(|waiting| *waiting != id);
                        model.finisher = model.finisher.filter(|finisher| *finisher != id);
                    }
                    Step::Next => prop_assert_eq!(ledger.next(model.now), model.next()),
                    Step::Release => {
                        ledger.release_finisher();
                        model.finisher = model.finisher.filter(|id| model.bytes[*id as usize] > 0);
                    }
                    Step::Pass(time) => model.now += time,
                }
                prop_assert_eq!(ledger.used(), model.used());
                prop_assert_eq!(ledger.is_spent(), model.used() >= LIMIT);
                let waiting = model.waiting.len() + model.waiting_to_begin.len();
                prop_assert_eq!(ledger.any_waiting(), waiting > 0);
                let victims = ledger.victims(ledger.wanted(), model.now, GRACE, |id| id != 0);
                let is_stalled = |id: u64| {
                    id != 0 && model.bytes[id as usize] > 0 && model.now - model.since[id as usize] >= GRACE
                };
                let is_idle = |id: u64| !model.waiting.contains(&id);
                let any_idle = (0..6).any(|id| is_stalled(id) && is_idle(id));
                let may = |id: u64| is_stalled(id) && (is_idle(id) || !any_idle);
                prop_assert!(victims.iter().all(|id| may(*id)));
                // Who is left out has no more than the least of them.
                let least = victims.iter().map(|id| model.rent(*id)).min();
                let left_out = (0..6).filter(|id| may(*id) && !victims.contains(id));
                let most = left_out.map(|id| model.rent(id)).max();
                prop_assert!(least.is_none() || most.is_none_or(|most| Some(most) <= least));
                // They are enough, and without the last not enough.
                let freed = |ids: &[u64]| ids.iter().map(|id| model.bytes[*id as usize]).sum::<usize>();
                let room = LIMIT.saturating_sub(model.used());
                let wanted = (waiting * STEP_BYTES).saturating_sub(room);
                prop_assert!(freed(&victims) >= wanted || most.is_none());
                prop_assert!(victims.is_empty() || freed(&victims[..victims.len() - 1]) < wanted);
            }
        }
    }

    #[test]
    fn reservations_are_steps_beyond_what_is_free() {
        let wanted = [
            (0, 0),
            (FREE_BYTES, 0),
            (FREE_BYTES + 1, FIRST_STEP_BYTES),
            (FIRST_STEP_BYTES, FIRST_STEP_BYTES),
            (FIRST_STEP_BYTES + 1, FIRST_STEP_BYTES + STEP_BYTES),
            (FIRST_STEP_BYTES + STEP_BYTES, FIRST_STEP_BYTES + STEP_BYTES),
            (FIRST_STEP_BYTES + STEP_BYTES + 1, FIRST_STEP_BYTES + 2 * STEP_BYTES),
            (usize::MAX, usize::MAX),
        ];
        for (bytes, steps) in wanted {
            assert_eq!(reserved(bytes), steps, "{bytes}");
        }
    }

    #[test]
    fn at_the_limit_one_after_the_other_comes_to_its_end() {
        let mut ledger = Ledger::new(2 * STEP_BYTES);
        (0..4).for_each(|id| ledger.set(id, STEP_BYTES, 0));
        assert!(ledger.may_grow(9));
        assert!(!ledger.may_grow(0));
        ledger.release_finisher();
        assert!(ledger.may_grow(0), "the one before reserved nothing");
        assert!(!ledger.may_grow(1) && !ledger.may_grow(2) && !ledger.may_grow(1));
        ledger.release_finisher();
        ledger.set(0, 5 * STEP_BYTES, 0);
        ledger.set(0, 0, 0);
        assert_eq!(ledger.next(0), [2], "one more, since all is spent: the youngest");
        assert!(ledger.may_grow(2));
        ledger.remove(2, 0);
        ledger.remove(3, 0);
        assert_eq!(ledger.next(0), [0], "the oldest");
    }

    #[test]
    fn the_largest_and_longest_stalled_account_is_closed_first() {
        let mut ledger = Ledger::new(4 * STEP_BYTES);
        ledger.set(0, STEP_BYTES, 0);
        ledger.set(1, 2 * STEP_BYTES, 500);
        ledger.set(2, STEP_BYTES, 0);
        assert!(ledger.victims(ledger.wanted(), 1_000, 100, |_| true).is_empty(), "nobody waits");
        assert!(ledger.may_grow(8) && !ledger.may_grow(9));
        assert_eq!(
            ledger.victims(ledger.wanted(), 900, 100, |_| true),
            [0],
            "bytes times time: the lower number of equal ones"
        );
        assert_eq!(ledger.victims(ledger.wanted(), 1_200, 100, |_| true), [1]);
        ledger.progress(1, 1_150);
        assert_eq!(ledger.victims(ledger.wanted(), 1_200, 100, |_| true), [0]);
        assert_eq!(ledger.victims(ledger.wanted(), 1_200, 100, |id| id != 0), [2]);
    }
}
