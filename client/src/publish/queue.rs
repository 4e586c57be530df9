//! Publications that wait for a connection.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use mq_core::sync::Mutex;

use super::{Buffer, Publication};
use crate::error::Error;
use crate::signal::Signal;

/// Publications, and bytes of them, that wake a connection which waits for answers: fewer wait for the next
/// answer, or a millisecond. Waking it costs as much as sending a hundred, so a program that sends one after
/// the other pays once for many.
const WORTH_WAKING: usize = 512;
const WORTH_WAKING_BYTES: usize = 128 << 10;

/// Withdrawn publications that may stay in a queue besides as many as there are others.
const WITHDRAWN_MAX: usize = 64;

/// Publications that wait to be sent, oldest first. Their bytes are bounded by the buffer; those withdrawn go
/// once there are more of them than others.
pub(crate) struct Queue {
    state: Mutex<Queued>,
    pub(crate) signal: Signal,
    /// The buffer of all that is queued here.
    pub(crate) buffer: Arc<Buffer>,
}

#[derive(Default)]
struct Queued {
    publications: VecDeque<Publication>,
    /// Bytes of those that were pushed since somebody looked.
    bytes_pushed: usize,
    /// Whether whoever sends looks again soon, without being woken.
    looks_soon: bool,
    closed: bool,
    /// Whether a connection is wanted although nothing waits.
    stays_due: bool,
    /// Whether nobody sends any more.
    #[cfg(feature = "embedded")]
    ended: bool,
}

/// The next step of whoever sends.
pub(crate) enum Next {
    Publication(Publication),
    Nothing,
    /// Nothing, and never again.
    Closed,
}

impl Queue {
    pub(crate) fn new(buffer: &Arc<Buffer>) -> Self {
        let (state, signal) = (Mutex::default(), Signal::default());
        Self { state, signal, buffer: Arc::clone(buffer) }
    }

    pub(crate) fn push(&self, publication: Publication) {
        let unfinished = self.buffer.unfinished();
        let mut state = self.state.lock();
        state.bytes_pushed += publication.messages.bytes();
        state.publications.push_back(publication);
        if state.publications.len() > 2 * unfinished + WITHDRAWN_MAX {
            state.publications.retain(|publication| !publication.slot.is_done());
        }
        let is_worth_it = !state.looks_soon
            || state.publications.len() >= WORTH_WAKING
            || state.bytes_pushed >= WORTH_WAKING_BYTES;
        if is_worth_it {
            state.bytes_pushed = 0;
        }
        drop(state);
        if is_worth_it {
            self.signal.notify();
        }
    }

    /// Notes whether whoever sends looks again soon, without being woken by a few publications. Returns
    /// whether there are any already.
    pub(crate) fn look_soon(&self, looks_soon: bool) -> bool {
        let mut state = self.state.lock();
        state.looks_soon = looks_soon;
        state.bytes_pushed = 0;
        !state.publications.is_empty()
    }

    /// Puts back what was taken, in its order, before everything else.
    pub(crate) fn put_back(&self, publications: VecDeque<Publication>) {
        let mut state = self.state.lock();
        for publication in publications.into_iter().rev() {
            state.publications.push_front(publication);
        }
    }

    pub(crate) fn pop(&self) -> Next {
        let mut state = self.state.lock();
        match state.publications.pop_front() {
            Some(publication) => Next::Publication(publication),
            None if state.closed => Next::Closed,
            None => Next::Nothing,
        }
    }

    /// Takes the publications that follow as long as they fit.
    pub(crate) fn pop_while(
        &self,
        mut fits: impl FnMut(&Publication) -> bool,
        mut take: impl FnMut(Publication),
    ) {
        let mut state = self.state.lock();
        while let Some(next) = state.publications.pop_front_if(|next| fits(next)) {
            take(next);
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().publications.is_empty()
    }

    /// Whether there is something to send, or nothing ever again, or a connection is wanted anyhow.
    pub(crate) fn is_due(&self) -> bool {
        let state = self.state.lock();
        state.closed || state.stays_due || !state.publications.is_empty()
    }

    /// Wants a connection from now on, also while nothing waits.
    pub(crate) fn stay_due(&self) {
        self.state.lock().stays_due = true;
        self.signal.notify();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.lock().closed
    }

    /// Takes no more.
    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.signal.notify();
    }

    /// Notes that nobody sends any more.
    #[cfg(feature = "embedded")]
    pub(crate) fn end(&self) {
        self.state.lock().ended = true;
        self.signal.notify();
    }

    /// Waits until nobody sends any more, or `deadline`. Returns whether that was enough.
    #[cfg(feature = "embedded")]
    pub(crate) fn wait_for_end(&self, deadline: Option<Instant>) -> bool {
        self.signal.block_until(deadline, || self.state.lock().ended.then_some(())).is_some()
    }

    /// Fails all that waits; of what was sent already nobody knows.
    pub(crate) fn fail(&self, error: &Error) {
        let publications = std::mem::take(&mut self.state.lock().publications);
        for Publication { slot, resend, .. } in publications {
            let error = match resend {
                Some(resend) => Error::Unknown { why: error.to_string(), broker: resend.broker.to_string() },
                None => error.clone(),
            };
            slot.settle(&self.buffer, Err(error));
        }
    }

    /// Gives up what its broker may not remember any more at `now`.
    pub(crate) fn expire(&self, now: Instant) {
        self.state.lock().publications.retain(|publication| !publication.is_forgotten(&self.buffer, || now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::publish::publication::publication;

    #[test]
    fn withdrawn_publications_do_not_pile_up() {
        let buffer = Buffer::new(1 << 20);
        let queue = Queue::new(&buffer);
        let first = publication(&buffer, "first");
        let slot = first.slot.clone();
        queue.push(first);
        for _ in 0..10 * WITHDRAWN_MAX {
            let withdrawn = publication(&buffer, "withdrawn");
            let slot = withdrawn.slot.clone();
            queue.push(withdrawn);
            slot.withdraw(&buffer, Error::Closed);
        }
        assert!(queue.state.lock().publications.len() <= WITHDRAWN_MAX + 4);
        assert_eq!(buffer.unfinished(), 1);
        let Next::Publication(first) = queue.pop() else { panic!("it waits") };
        assert!(std::ptr::eq(&*first.slot, &*slot));
    }
}
