//! A thread's spare buffers, so that only connections with something under way own any.

use std::cell::RefCell;

/// What one read takes in: also about what one write of the log gets from a busy producer.
pub(super) const INPUT_BYTES: usize = 128 * 1024;

/// Room an output buffer starts with: what a session fills before it writes, and a message or two on top.
const OUTPUT_BYTES: usize = 72 * 1024;

/// Larger ones go back to the system: they held a large message.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// More than this many sessions of one thread at once with unsent output is rare.
const SPARE_OUTPUTS_MAX: usize = 16;

thread_local! {
    static INPUT: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
    static OUTPUTS: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// A buffer of [`INPUT_BYTES`] to read into. What it holds is of no meaning.
pub(super) fn take_input() -> Vec<u8> {
    INPUT.with_borrow_mut(Option::take).unwrap_or_else(|| vec![0; INPUT_BYTES])
}

/// Gives back what [`take_input`] gave.
pub(super) fn give_input(buf: Vec<u8>) {
    INPUT.with_borrow_mut(|spare| *spare = Some(buf));
}

/// An empty buffer to write from.
pub(super) fn take_output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES))
}

/// Gives back a buffer that is not needed any more.
pub(super) fn give_output(mut buf: Vec<u8>) {
    if (OUTPUT_BYTES..=SPARE_BYTES_MAX).contains(&buf.capacity()) {
        buf.clear();
        OUTPUTS.with_borrow_mut(|spares| {
            if spares.len() < SPARE_OUTPUTS_MAX {
                spares.push(buf);
            }
        });
    }
}
