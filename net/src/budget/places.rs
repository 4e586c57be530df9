//! Places for the state of gRPC streams and of codecs: half of the budget.

use std::sync::atomic::Ordering;

use super::Budget;
use super::budget::Shared;

/// Bytes that a gRPC stream takes for its state, half-read headers included.
pub const STREAM_BYTES: usize = 16 * 1024;

/// Bytes that deflate takes of a connection for as long as it lasts, busy or not.
pub const DEFLATE_BYTES: usize = 320 * 1024;

/// A connection with fewer streams has a place where others have none left.
pub(super) const FEW_STREAMS: usize = 4;

/// Places of streams that are reserved for at a time.
pub(super) const STREAM_RUN: usize = 16;

/// Id under which the ledger has the bytes of all streams and codecs.
const STREAMS_ID: u64 = u64::MAX;

impl Budget {
    /// A place for one more gRPC stream of a connection that has `others`. `None` once streams and codecs
    /// have half of the budget. The last quarter of that is for connections with few.
    pub fn stream(&self, others: usize) -> Option<StatePlace> {
        self.place(1, others < FEW_STREAMS)
    }

    /// A place for a connection's deflate. `None` once streams and codecs have three eighths of the budget:
    /// what is left of their half is for streams.
    pub fn deflate(&self) -> Option<StatePlace> {
        self.place(DEFLATE_BYTES.div_ceil(STREAM_BYTES), false)
    }

    /// A place as large as `streams` streams, of the last quarter too if it `may_take_last`.
    fn place(&self, streams: usize, may_take_last: bool) -> Option<StatePlace> {
        let all = self.0.limit / 2 / STREAM_BYTES;
        let max = if may_take_last { all } else { all - all / 4 };
        let taken = self.0.streams.try_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
            (taken + streams <= max).then_some(taken + streams)
        });
        let place = taken.is_ok().then(|| StatePlace { budget: self.clone(), streams })?;
        self.count_streams();
        Some(place)
    }

    /// Reserves what streams take, a run of streams at a time, and gives back what is two runs too many.
    fn count_streams(&self) {
        let wanted =
            |shared: &Shared| shared.streams.load(Ordering::Acquire).div_ceil(STREAM_RUN) * STREAM_RUN;
        let has_changed = |counted: usize, wanted: usize| wanted > counted || wanted + STREAM_RUN < counted;
        let counted = &self.0.counted_streams;
        if has_changed(counted.load(Ordering::Acquire), wanted(&self.0)) {
            self.change(|ledger, now| {
                let streams = wanted(&self.0);
                counted.store(streams, Ordering::Release);
                ledger.set(STREAMS_ID, streams * STREAM_BYTES, now);
            });
        }
    }
}

/// The place of a gRPC stream or a codec, given up when it is dropped.
#[derive(Debug)]
pub struct StatePlace {
    budget: Budget,
    /// Streams that would take as much.
    streams: usize,
}

impl Drop for StatePlace {
    fn drop(&mut self) {
        self.budget.0.streams.fetch_sub(self.streams, Ordering::AcqRel);
        self.budget.count_streams();
    }
}
