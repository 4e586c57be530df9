//! The history of one topic, channel or node.

use std::collections::VecDeque;

/// Steps that are kept of each kind: 10 minutes of 10 seconds, a day of minutes.
pub(super) const FINE_STEPS: usize = 60;
pub(super) const COARSE_STEPS: usize = 24 * 60;
/// Fine steps in a coarse one.
pub(super) const FINE_IN_COARSE: u64 = 6;
/// Fine steps that rates are computed over: a minute.
const RATE_STEPS: usize = 6;

/// The kind of steps that a curve is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Span {
    /// The last 10 minutes.
    Minutes,
    /// The last day.
    Day,
}

/// Numbers of a topic, a channel or a node at one moment. All but the first three only rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct Reading {
    /// Messages that wait.
    pub(in crate::server) depth: u64,
    /// Messages at consumers.
    pub(in crate::server) in_flight: u64,
    /// Publish time of the oldest unfinished message, in seconds since 1970; 0 without one.
    pub(in crate::server) oldest: u64,
    pub(in crate::server) published: u64,
    pub(in crate::server) finished: u64,
    pub(in crate::server) requeued: u64,
    pub(in crate::server) timed_out: u64,
}

/// Changes within a step, and the gauges at its end. Numbers beyond 32 bits are cut to what fits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) depth: u32,
    pub(super) in_flight: u32,
    pub(super) published: u32,
    pub(super) finished: u32,
    pub(super) requeued: u32,
    pub(super) timed_out: u32,
}

impl Step {
    fn between(before: &Reading, now: &Reading) -> Self {
        // A counter that fell belongs to a new topic or channel of the same name, and counts from 0.
        let rise = |before: u64, now: u64| cut(now.checked_sub(before).unwrap_or(now));
        Self {
            depth: cut(now.depth),
            in_flight: cut(now.in_flight),
            published: rise(before.published, now.published),
            finished: rise(before.finished, now.finished),
            requeued: rise(before.requeued, now.requeued),
            timed_out: rise(before.timed_out, now.timed_out),
        }
    }

    /// Joins the step and the `next` into one.
    pub(super) fn and(self, next: Self) -> Self {
        Self {
            depth: next.depth,
            in_flight: next.in_flight,
            published: self.published.saturating_add(next.published),
            finished: self.finished.saturating_add(next.finished),
            requeued: self.requeued.saturating_add(next.requeued),
            timed_out: self.timed_out.saturating_add(next.timed_out),
        }
    }

    fn changes(&self) -> u64 {
        [self.published, self.finished, self.requeued, self.timed_out].into_iter().map(u64::from).sum()
    }
}

fn cut(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Equal steps that follow each other.
#[derive(Clone, Copy, Debug)]
struct Run {
    step: Step,
    times: u32,
}

/// The newest steps of a series, as runs: a quiet series takes next to nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps {
    runs: VecDeque<Run>,
    len: usize,
}

impl Steps {
    fn push(&mut self, step: Step, max: usize) {
        match self.runs.back_mut().filter(|run| run.step == step) {
            Some(run) => run.times += 1,
            None => {
                if self.runs.len() == self.runs.capacity() {
                    // Doubling would waste half of a bound that is for all.
                    self.runs.reserve_exact((self.runs.len() / 4).max(4));
                }
                self.runs.push_back(Run { step, times: 1 });
            }
        }
        self.len += 1;
        if self.len > max
            && let Some(oldest) = self.runs.front_mut()
        {
            self.len -= 1;
            oldest.times -= 1;
            if oldest.times == 0 {
                self.runs.pop_front();
            }
        }
    }

    /// From the newest back.
    pub(super) fn newest(&self) -> impl Iterator<Item = Step> {
        self.runs.iter().rev().flat_map(|run| std::iter::repeat_n(run.step, run.times as usize))
    }

    fn bytes(&self) -> usize {
        self.runs.capacity() * size_of::<Run>()
    }
}

/// A series: its steps of both kinds.
#[derive(Clone, Debug)]
pub(super) struct Series {
    last: Reading,
    pub(super) fine: Steps,
    pub(super) coarse: Steps,
    /// The coarse step that is not complete.
    partial: Option<Step>,
    /// The last round of readings that had it.
    pub(super) seen: u64,
    /// The last round in which something happened.
    pub(super) active: u64,
    /// Messages that moved since the series began.
    pub(super) moved: u64,
}

/// Numbers of a series over the last minute.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lately {
    pub(super) reading: Reading,
    /// Changes over the last minute, or since the series began.
    pub(super) step: Step,
    /// Steps that these are of.
    pub(super) steps: usize,
    /// Depth before these steps; `None` while nobody knows.
    pub(super) depth_before: Option<u32>,
    /// Fine steps, and coarse ones before them, since which messages wait without a pause.
    pub(super) waiting: (usize, usize),
}

impl Series {
    /// A series whose first step counts from `before`.
    pub(super) fn new(before: Reading) -> Self {
        Self {
            last: before,
            fine: Steps::default(),
            coarse: Steps::default(),
            partial: None,
            seen: 0,
            active: 0,
            moved: 0,
        }
    }

    /// Takes in the reading of `round`, counted from 1.
    pub(super) fn push(&mut self, reading: Reading, round: u64) {
        let step = Step::between(&self.last, &reading);
        self.seen = round;
        if step.changes() > 0 || step.depth != cut(self.last.depth) {
            self.active = round;
            self.moved = self.moved.saturating_add(step.changes());
        }
        self.last = reading;
        self.fine.push(step, FINE_STEPS);
        let partial = self.partial.map_or(step, |partial| partial.and(step));
        self.partial = Some(partial);
        if round.is_multiple_of(FINE_IN_COARSE) {
            self.coarse.push(partial, COARSE_STEPS);
            self.partial = None;
        }
    }

    pub(super) fn steps(&self, span: Span) -> &Steps {
        match span {
            Span::Minutes => &self.fine,
            Span::Day => &self.coarse,
        }
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.fine.bytes() + self.coarse.bytes()
    }

    pub(super) fn lately(&self) -> Lately {
        let steps = self.fine.len.min(RATE_STEPS);
        let mut newest = self.fine.newest();
        let mut lately = Lately { reading: self.last, steps, ..Lately::default() };
        let sum = newest.by_ref().take(steps).reduce(|newer, older| older.and(newer));
        lately.step = sum.unwrap_or_default();
        lately.depth_before = newest.next().map(|step| step.depth);
        let waits = |step: &Step| step.depth > 0;
        let fine = self.fine.newest().take_while(waits).count();
        let older = match fine == self.fine.len {
            true => self.coarse.newest().take_while(waits).count(),
            false => 0,
        };
        lately.waiting = (fine, older);
        lately
    }
}
