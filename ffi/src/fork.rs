//! Forks: a child process has the handles of its parent, without the threads behind them.

/// A process, distinct from its parents and children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Generation(u64);

impl Generation {
    /// This process. From the first call on, forks are counted.
    pub(crate) fn now() -> Self {
        Self(libmq::process_generation())
    }

    /// Whether this process is a child of that one.
    pub(crate) fn is_forked(self) -> bool {
        self != Self::now()
    }
}
