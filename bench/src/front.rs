//! The terminal that a load runs on, as its owner provides it.

use std::sync::atomic::AtomicBool;

/// The unit that a [`Bar`] counts in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "named after what is counted")]
pub enum Unit {
    Messages,
    Topics,
    Connections,
    Seconds,
}

/// A progress bar: called with the part that is done and the whole, erased when dropped.
pub type Bar = Box<dyn FnMut(u64, u64)>;

/// The terminal that a load runs on.
#[derive(Clone, Copy)]
pub struct Front<'a> {
    /// Begins a progress bar.
    pub bar: &'a dyn Fn(Unit) -> Bar,
    /// Lays out rows of cells, the first of which is the head.
    pub table: &'a dyn Fn(&[Vec<String>]) -> String,
    /// Set by another thread: ends the load early, with the figures so far.
    pub stopped: &'a AtomicBool,
}
