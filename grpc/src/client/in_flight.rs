//! Deliveries of one stream that have no answer so far: they are touched until they have one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;

use crate::v1::{AckFailure, ReceivedMessage};

/// Batches from which on those that are done with are looked for.
const BATCHES_MIN: usize = 64;

/// The batches of a stream. Those whose deliveries are all dropped are forgotten in time.
#[derive(Debug)]
pub(super) struct InFlight {
    batches: Vec<Weak<[Flight]>>,
    /// The number of batches at which those that are done with are removed: twice as many as were left last
    /// time, so that a look costs nothing for each batch.
    full: usize,
}

/// One delivery: its token, and whether it has no answer.
#[derive(Debug)]
struct Flight {
    token: Bytes,
    is_open: AtomicBool,
}

/// A delivery's part of its batch.
#[derive(Debug)]
pub(super) struct Place {
    batch: Arc<[Flight]>,
    at: usize,
}

impl Default for InFlight {
    fn default() -> Self {
        Self { batches: Vec::new(), full: BATCHES_MIN }
    }
}

impl InFlight {
    /// Adds a batch of deliveries. Returns a place for each.
    pub(super) fn add(&mut self, messages: &[ReceivedMessage]) -> impl Iterator<Item = Place> + use<> {
        if self.batches.len() >= self.full {
            self.batches.retain(|batch| batch.strong_count() > 0);
            self.full = BATCHES_MIN.max(2 * self.batches.len());
        }
        let flight =
            |one: &ReceivedMessage| Flight { token: one.token.clone(), is_open: AtomicBool::new(true) };
        let batch: Arc<[Flight]> = messages.iter().map(flight).collect();
        self.batches.push(Arc::downgrade(&batch));
        (0..batch.len()).map(move |at| Place { batch: Arc::clone(&batch), at })
    }

    /// Tokens of the deliveries without an answer.
    pub(super) fn tokens(&self) -> Vec<Bytes> {
        let mut tokens = Vec::new();
        self.each(|flight| tokens.push(flight.token.clone()));
        tokens
    }

    /// Closes deliveries whose timeout had passed when they were touched: they come again.
    pub(super) fn lose(&self, failures: &[AckFailure]) {
        self.each(|flight| {
            if failures.iter().any(|failure| failure.token == flight.token) {
                flight.is_open.store(false, Ordering::Relaxed);
            }
        });
    }

    /// Closes all: the stream is gone, and what is without an answer comes again.
    pub(super) fn lose_all(&self) {
        self.each(|flight| flight.is_open.store(false, Ordering::Relaxed));
    }

    fn each(&self, mut visit: impl FnMut(&Flight)) {
        for batch in self.batches.iter().filter_map(Weak::upgrade) {
            batch.iter().filter(|flight| flight.is_open.load(Ordering::Relaxed)).for_each(&mut visit);
        }
    }
}

impl Place {
    /// Whether the delivery has no answer, and has not come again.
    pub(super) fn is_open(&self) -> bool {
        self.batch[self.at].is_open.load(Ordering::Relaxed)
    }

    /// The delivery has its answer, or gets none.
    pub(super) fn close(&self) {
        self.batch[self.at].is_open.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(number: usize) -> Bytes {
        Bytes::from(number.to_string())
    }

    fn three() -> [ReceivedMessage; 3] {
        [0, 1, 2].map(|number| ReceivedMessage { token: token(number), ..ReceivedMessage::default() })
    }

    #[test]
    fn batches_that_are_dropped_are_forgotten() {
        let mut in_flight = InFlight::default();
        let kept: Vec<Place> = in_flight.add(&three()).collect();
        for _ in 0..10_000 {
            in_flight.add(&three()).for_each(drop);
        }
        assert!(in_flight.batches.len() <= BATCHES_MIN);
        kept[1].close();
        assert_eq!(in_flight.tokens(), [token(0), token(2)]);
    }

    #[test]
    fn of_what_is_lost_nothing_is_open() {
        let mut in_flight = InFlight::default();
        let places: Vec<Place> = in_flight.add(&three()).collect();
        in_flight.lose(&[AckFailure { token: token(1), ..AckFailure::default() }]);
        assert_eq!(places.iter().map(Place::is_open).collect::<Vec<_>>(), [true, false, true]);
        in_flight.lose_all();
        assert!(!places.iter().any(Place::is_open));
    }
}
