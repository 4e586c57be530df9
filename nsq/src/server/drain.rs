//! Asking a broker to empty itself and stop, and what became of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Carries a drain from the HTTP API to whoever runs the broker, and its outcome back. Clones share it.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<State>>);

#[derive(Clone, Copy, Debug, Default)]
struct State {
    /// Time the broker may take to become empty, once it was asked to.
    asked: Option<Duration>,
    /// Messages left, once it is over.
    left: Option<u64>,
}

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(State::default())))
    }
}

impl Drain {
    /// Asks for it. The broker may take `timeout` to become empty; only the first call counts.
    pub fn ask(&self, timeout: Duration) {
        self.0.send_if_modified(|state| {
            let first = state.asked.is_none();
            state.asked.get_or_insert(timeout);
            first
        });
    }

    /// Whether it was asked for.
    pub fn is_asked(&self) -> bool {
        self.0.borrow().asked.is_some()
    }

    /// Resolves once it was asked for, with the time there is for it.
    pub async fn asked(&self) -> Duration {
        self.wait(|state| state.asked).await
    }

    /// Says that it is over, or does not begin any more, with `left` messages not finished: the broker stops
    /// now.
    pub fn end(&self, left: u64) {
        self.0.send_modify(|state| state.left = Some(left));
    }

    /// Messages left, if it is over.
    pub fn left(&self) -> Option<u64> {
        self.0.borrow().left
    }

    /// Resolves once it is over, with the number of messages left.
    pub async fn ended(&self) -> u64 {
        self.wait(|state| state.left).await
    }

    async fn wait<T>(&self, of: impl Fn(&State) -> Option<T>) -> T {
        let mut state = self.0.subscribe();
        loop {
            if let Some(found) = of(&state.borrow_and_update()) {
                return found;
            }
            // The sender lives as long as `self`.
            let _ = state.changed().await;
        }
    }
}
