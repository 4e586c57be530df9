//! Acknowledgements on their way back: collected here by whoever is done with a message, and sent in batches.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::v1::{SubscribeRequest, SubscribeRequeue};

/// What one stream has to say of its messages.
#[derive(Debug, Default)]
pub(super) struct Acks {
    pending: Mutex<Pending>,
    any: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    finish: Vec<u64>,
    requeue: Vec<SubscribeRequeue>,
    touch: Vec<u64>,
}

impl Acks {
    pub(super) fn finish(&self, id: u64) {
        self.add(|pending| pending.finish.push(id));
    }

    pub(super) fn requeue(&self, id: u64, delay: Duration) {
        let delay_ms = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        self.add(|pending| match pending.requeue.last_mut() {
            Some(last) if last.delay_ms == delay_ms => last.ids.push(id),
            _ => pending.requeue.push(SubscribeRequeue { ids: vec![id], delay_ms }),
        });
    }

    pub(super) fn touch(&self, id: u64) {
        self.add(|pending| pending.touch.push(id));
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
    pub(super) async fn take(&self) -> SubscribeRequest {
        loop {
            let Pending { finish, requeue, touch } = std::mem::take(&mut *self.pending.lock());
            if !(finish.is_empty() && requeue.is_empty() && touch.is_empty()) {
                return SubscribeRequest { finish, requeue, touch, ..SubscribeRequest::default() };
            }
            self.any.notified().await;
        }
    }
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.finish.is_empty() && self.requeue.is_empty() && self.touch.is_empty()
    }
}
