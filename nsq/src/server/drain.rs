//! Asking a broker to empty itself and stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

/// Carries the wish from the HTTP API to whoever runs the broker. Clones share it.
#[derive(Clone, Debug)]
pub struct Drain(Arc<watch::Sender<Option<Duration>>>);

impl Default for Drain {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }
}

impl Drain {
    /// Asks for it. The broker may take `timeout` to become empty; only the first wish counts.
    pub fn ask(&self, timeout: Duration) {
        self.0.send_if_modified(|asked| {
            let first = asked.is_none();
            asked.get_or_insert(timeout);
            first
        });
    }

    /// Resolves once it was asked for, with the time there is for it.
    pub async fn asked(&self) -> Duration {
        let mut asked = self.0.subscribe();
        loop {
            if let Some(timeout) = *asked.borrow_and_update() {
                return timeout;
            }
            // The sender lives as long as `self`.
            let _ = asked.changed().await;
        }
    }
}
