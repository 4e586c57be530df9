//! Waits of Python's threads: detached from the interpreter, in turns, so that a signal is seen soon.

use std::time::{Duration, Instant};

use pyo3::prelude::*;

use crate::log::Log;

/// Longest time until a signal is seen by a call that waits.
pub(crate) const TURN: Duration = Duration::from_millis(50);

/// Calls `wait` with turns of the time until `timeout` is over, until it gives something. Log lines that come
/// meanwhile are written.
///
/// # Errors
/// What a signal handler raised.
pub(crate) fn in_turns<T: Send>(
    py: Python<'_>,
    timeout: Duration,
    log: &Log,
    mut wait: impl FnMut(Duration) -> Option<T> + Send,
) -> PyResult<Option<T>> {
    let deadline = Instant::now().checked_add(timeout);
    loop {
        let left = deadline.map_or(TURN, |deadline| deadline.saturating_duration_since(Instant::now()));
        let result = py.detach(|| wait(left.min(TURN)));
        log.emit(py);
        if let Some(result) = result {
            // A signal that came too is seen by the interpreter next: what was taken must not be lost for it.
            return Ok(Some(result));
        }
        py.check_signals()?;
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Ok(None);
        }
    }
}
