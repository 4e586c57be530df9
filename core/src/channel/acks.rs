//! Acknowledgements of a subscriber, in runs under one lock.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::sync::MutexGuard;

use crate::channel::channel::Inner;
use crate::channel::{AckError, SubId, Subscription};
use crate::clock::{Mono, nanos};
use crate::error::{Error, ErrorKind, Result};
use crate::message::{DeliveryToken, MessageId, Offset};

/// A run of acknowledgements. Only the subscriber that holds a message can acknowledge it; anything else is
/// an error that changes nothing.
///
/// ```
/// # use mq_core::{Broker, Options, Parker, SubscribeOptions, Wake};
/// # fn main() -> mq_core::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let broker = Broker::open(Options { data_path: folder.path().into(), ..Options::default() })?;
/// # use std::sync::Arc;
/// let (billing, _) = broker.topic(&"orders".parse()?)?.channel(&"billing".parse()?, None)?;
/// let wake: Arc<dyn Wake> = Arc::new(Parker::default());
/// let mut subscription = billing.subscribe(SubscribeOptions::default(), wake)?;
/// subscription.acks().set_credit(10);
/// broker.topic(&"orders".parse()?)?.publish_one(b"one pizza")?.wait(&broker)?;
///
/// let mut ids = Vec::new();
/// subscription.pull(1 << 20, &mut |message| ids.push(message.id));
/// let mut acks = subscription.acks();
/// for id in ids {
///     acks.finish(id)?;
/// }
/// // The lock is free from here on.
/// drop(acks);
/// assert_eq!(subscription.in_flight(), 0);
/// # drop(subscription);
/// # broker.close()
/// # }
/// ```
pub struct Acks<'a> {
    subscription: &'a Subscription,
    /// `None` only while it is dropped.
    inner: Option<MutexGuard<'a, Inner>>,
    now: Mono,
}

impl<'a> Acks<'a> {
    pub(super) fn new(subscription: &'a Subscription) -> Self {
        let now = subscription.channel.shared.clock.mono();
        Self { inner: Some(subscription.channel.inner.lock()), subscription, now }
    }

    /// Sets the number of messages that may be in flight here at once; 0 stops delivery.
    pub fn set_credit(&mut self, credit: u32) {
        if let Some(inner) = &mut self.inner {
            inner.state.set_credit(self.subscription.id, credit);
        }
    }

    /// Bounds the bytes of bodies that may be in flight here at once; 0, the default, for any number. One
    /// message that is larger is delivered when nothing else is in flight. What is in flight while there is
    /// no bound is not counted later.
    pub fn set_byte_credit(&mut self, bytes: u64) {
        if let Some(inner) = &mut self.inner {
            inner.state.set_byte_credit(self.subscription.id, bytes);
        }
    }

    /// The message of a delivery, if it is the one in flight here now.
    ///
    /// # Errors
    /// `NotInFlight` if that delivery is over: finished, requeued, timed out, or of another subscriber.
    pub fn delivered(&self, token: DeliveryToken) -> Result<MessageId> {
        let sub = self.subscription;
        let attempts = self.inner.as_ref().filter(|inner| !inner.closed);
        let attempts = attempts.and_then(|inner| inner.state.attempts(sub.id, token.id.offset()));
        let current = attempts.map(|attempts| {
            let node = sub.channel.shared.options.node_id;
            DeliveryToken::new(MessageId::new(node, token.id.offset()), sub.mark, attempts)
        });
        match current == Some(token) {
            true => Ok(token.id),
            false => Err(Error::new(ErrorKind::NotInFlight, "this delivery is not in flight any more")),
        }
    }

    /// The message was not looked at: it is delivered again at once, before others, and this delivery does
    /// not count.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn release(&mut self, id: MessageId) -> Result<()> {
        self.with(id, |inner, sub, offset, _| inner.state.release(sub, offset))
    }

    /// The message is done.
    ///
    /// # Errors
    /// `NotInFlight` if it is unknown, finished, timed out, emptied or its channel deleted; `NotOwner` if it
    /// is in flight elsewhere.
    pub fn finish(&mut self, id: MessageId) -> Result<()> {
        let shared = &self.subscription.channel.shared;
        self.with(id, |inner, sub, offset, now| {
            inner.state.finish(sub, offset)?;
            if let Some(published) = inner.samples.take(offset) {
                let took = shared.clock.wall().since(published);
                inner.latency.get_or_insert_default().add(took, now, &shared.measuring);
            }
            Ok(())
        })
    }

    /// The message is to be delivered again after `delay`, and after all that waits by then.
    ///
    /// # Errors
    /// The same as [`finish`](Self::finish).
    pub fn requeue(&mut self, id: MessageId, delay: Duration) -> Result<()> {
        let delay = nanos(delay);
        self.with(id, |inner, sub, offset, now| {
            let end = inner.end;
            inner.state.requeue(sub, offset, delay, now, end)
        })
    }

    /// The message's timeout starts anew, up to the longest the broker allows.
    ///
    /// # Errors
    /// The same as [`finish`](Self::finish).
    pub fn touch(&mut self, id: MessageId) -> Result<()> {
        let max = nanos(self.subscription.channel.shared.options.max_msg_timeout);
        self.with(id, |inner, sub, offset, now| inner.state.touch(sub, offset, now, max))
    }

    fn with(
        &mut self,
        id: MessageId,
        act: impl FnOnce(&mut Inner, SubId, Offset, Mono) -> Result<(), AckError>,
    ) -> Result<()> {
        let sub = self.subscription;
        let ours = id.node() == sub.channel.shared.options.node_id;
        let result = match &mut self.inner {
            // A deleted channel holds nothing.
            Some(inner) if ours && !inner.closed => act(inner, sub.id, id.offset(), self.now),
            _ => Err(AckError::NotInFlight),
        };
        result.map_err(|e| match e {
            AckError::NotInFlight => Error::new(ErrorKind::NotInFlight, "ID not in flight"),
            AckError::NotOwner => Error::new(ErrorKind::NotOwner, "client does not own message"),
        })
    }
}

impl Drop for Acks<'_> {
    fn drop(&mut self) {
        let Some(inner) = self.inner.take() else { return };
        let sub = self.subscription;
        sub.channel.notify_others_and_unlock(inner, &sub.wake);
        if sub.channel.floor.load(Ordering::Relaxed) > sub.topic.trim_at.load(Ordering::Relaxed) {
            sub.topic.trim();
        }
    }
}
