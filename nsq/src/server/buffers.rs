//! Spare buffers, so that only connections with something under way own any: a thread's own, and large ones
//! for all.

use std::cell::RefCell;

use parking_lot::Mutex;

/// Bytes of one read: also about the size of one write of the log from a busy producer.
pub(super) const INPUT_BYTES: usize = 128 * 1024;

/// Room an output buffer starts with: what a session fills before it writes, and a message or two on top.
const OUTPUT_BYTES: usize = 72 * 1024;

/// Larger ones held a large message, and are for all threads.
const SPARE_BYTES_MAX: usize = 256 * 1024;

/// Larger ones go back to the system.
const LARGE_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Large buffers that are kept: enough for a few clients with large messages, little to keep for good.
const LARGE_MAX: usize = 8;

static LARGE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

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

/// Returns a buffer of [`take_input`] to this thread's spare.
pub(super) fn give_input(buf: Vec<u8>) {
    INPUT.with_borrow_mut(|spare| *spare = Some(buf));
}

/// An empty buffer to write from.
pub(super) fn take_output() -> Vec<u8> {
    OUTPUTS.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(OUTPUT_BYTES))
}

/// Makes room for `bytes` more, in a spare buffer if it is many.
pub(super) fn reserve(buf: &mut Vec<u8>, bytes: usize) {
    let needs = buf.len() + bytes;
    if needs <= buf.capacity() {
        return;
    }
    let spare = (needs > SPARE_BYTES_MAX).then(|| {
        let mut spares = LARGE.lock();
        let at = spares.iter().position(|spare| spare.capacity() >= needs)?;
        Some(spares.swap_remove(at))
    });
    match spare.flatten() {
        Some(mut spare) => {
            spare.extend_from_slice(buf);
            give(std::mem::replace(buf, spare));
        }
        None => buf.reserve(bytes),
    }
}

/// Gives back a buffer that is not needed any more.
pub(super) fn give(mut buf: Vec<u8>) {
    let bytes = buf.capacity();
    if !(OUTPUT_BYTES..=LARGE_BYTES_MAX).contains(&bytes) {
        return;
    }
    buf.clear();
    let keep = |spares: &mut Vec<Vec<u8>>, max| {
        if spares.len() < max {
            spares.push(buf);
        }
    };
    if bytes > SPARE_BYTES_MAX {
        keep(&mut LARGE.lock(), LARGE_MAX);
    } else {
        OUTPUTS.with_borrow_mut(|spares| keep(spares, SPARE_OUTPUTS_MAX));
    }
}
