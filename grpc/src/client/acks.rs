//! Acknowledgements on their way back: collected here by whoever is done with a message, and sent in batches.

use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::v1::{SubscribeRequeue, SubscribeUpdate};

/// Acknowledgements that one stream has to send.
#[derive(Debug, Default)]
pub(super) struct Acks {
    pending: Mutex<Pending>,
    any: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    finish: Vec<Bytes>,
    requeue: Vec<SubscribeRequeue>,
    release: Vec<Bytes>,
    touch: Vec<Bytes>,
}

impl Acks {
    pub(super) fn finish(&self, token: Bytes) {
        self.add(|pending| pending.finish.push(token));
    }

    pub(super) fn requeue(&self, token: Bytes, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.add(|pending| match pending.requeue.last_mut() {
            Some(last) if last.delay_ms == delay_ms => last.tokens.push(token),
            _ => pending.requeue.push(SubscribeRequeue { tokens: vec![token], delay_ms }),
        });
    }

    pub(super) fn release(&self, token: Bytes) {
        self.add(|pending| pending.release.push(token));
    }

    pub(super) fn touch(&self, token: Bytes) {
        self.add(|pending| pending.touch.push(token));
    }

    fn add(&self, add: impl FnOnce(&mut Pending)) {
        let mut pending = self.pending.lock();
        let was_empty = pending.is_empty();
        add(&mut pending);
        drop(pending);
        if was_empty {
            self.any.notify_one();
        }
    }

    /// Waits until there are any, and takes all.
    pub(super) async fn take(&self) -> SubscribeUpdate {
        loop {
            if let Some(update) = self.take_now() {
                return update;
            }
            self.any.notified().await;
        }
    }

    /// Takes all, if there are any.
    pub(super) fn take_now(&self) -> Option<SubscribeUpdate> {
        let pending = std::mem::take(&mut *self.pending.lock());
        if pending.is_empty() {
            return None;
        }
        let Pending { finish, requeue, release, touch } = pending;
        Some(SubscribeUpdate { finish, requeue, release, touch, ..SubscribeUpdate::default() })
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.finish.is_empty() && self.requeue.is_empty() && self.release.is_empty() && self.touch.is_empty()
    }
}
