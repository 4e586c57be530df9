//! Subscriptions, and the three ways to wait for their messages: a call, a descriptor, a callback.

use std::ffi::{c_char, c_int};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use libmq::sync::Mutex;
use libmq::{Batch, Error, Start, SubscribeOptions, Subscription};

use crate::batch::mq_batch;
use crate::boundary::{
    self, Handle, give, guard, guard_or, handle, outside_callback, put, required, text, wait,
};
use crate::callback::CallbackThread;
use crate::client::mq_client;
use crate::driver::Driver;
use crate::fork::Generation;
use crate::log::{Feed, Log};
use crate::prefetch::Prefetch;
use crate::status::{Failure, Outcome, mq_status};
use crate::values::mq_subscribe_options;

/// A subscription to a channel. For all threads at once: each message goes to one of them.
pub struct mq_subscription {
    pub(crate) inner: Subscription,
    max_batch: usize,
    msg_timeout: Duration,
    /// There from the first use of the descriptor or of a poll on.
    prefetch: OnceLock<Arc<Prefetch>>,
    starting: Mutex<()>,
    driver: Arc<Driver>,
    callback: Option<CallbackThread>,
    /// Follows the connections, if the client has a log.
    feed: Option<Feed>,
    /// The client's, which may go before.
    log: Option<Arc<Log>>,
    generation: Generation,
}

impl Handle for mq_subscription {
    fn generation(&self) -> Generation {
        self.generation
    }
}

impl Drop for mq_subscription {
    fn drop(&mut self) {
        if let Some(prefetch) = self.prefetch.get() {
            prefetch.end();
        }
        // A callback's thread ends before the rest goes.
        drop(self.callback.take());
        Log::within(self.log.as_deref(), || self.inner.close(Duration::ZERO));
        drop(self.feed.take());
    }
}

impl mq_subscription {
    fn prefetch(&self) -> Outcome<&Prefetch> {
        if let Some(prefetch) = self.prefetch.get() {
            return Ok(prefetch);
        }
        let starting = self.starting.lock();
        let prefetch = match self.prefetch.get() {
            Some(prefetch) => prefetch,
            None => {
                let new = Prefetch::start(&self.inner, self.max_batch, self.msg_timeout, &self.driver)?;
                self.prefetch.get_or_init(|| new)
            }
        };
        drop(starting);
        Ok(prefetch)
    }

    fn without_callback(&self) -> Outcome {
        if self.callback.is_some() {
            let message = "the messages of this subscription go to its callback";
            return Err(Failure::new(mq_status::Unsupported, message));
        }
        Ok(())
    }

    fn next(&self, timeout: Duration) -> libmq::Result<Option<Batch>> {
        match self.prefetch.get() {
            Some(prefetch) => prefetch.take_until(Instant::now().checked_add(timeout)).transpose(),
            None => {
                let batch = self.inner.next_batch(self.max_batch, timeout)?;
                Ok(Some(batch).filter(|batch| !batch.is_empty()))
            }
        }
    }
}

impl mq_subscribe_options {
    fn read(&self) -> Outcome<(SubscribeOptions, usize)> {
        let mut options = SubscribeOptions::default();
        if self.max_in_flight != 0 {
            options.max_in_flight = self.max_in_flight;
        }
        // What is too large for the field is out of range too.
        options.sample_rate = u8::try_from(self.sample_rate).unwrap_or(u8::MAX);
        if self.msg_timeout_ms != 0 {
            options.msg_timeout = Duration::from_millis(self.msg_timeout_ms);
        }
        options.max_message_bytes = self.max_message_bytes;
        options.max_in_flight_bytes = self.max_in_flight_bytes;
        let max_batch = if self.max_batch == 0 { options.max_in_flight } else { self.max_batch };
        options.start = match self.start {
            0 => Start::Waiting,
            1 => Start::Earliest,
            2 => Start::Latest,
            3 => Start::Offset(self.start_at),
            4 => Start::Time(self.start_at),
            other => return Err(Failure::invalid(format!("start is {other}: one of mq_start"))),
        };
        Ok((options, usize::try_from(max_batch).unwrap_or(usize::MAX)))
    }
}

/// Subscribes to a channel, and creates it and its topic where they are missing. options may be NULL. What is
/// published after it returns comes to the channel: it waits for the first attempt at each broker, at most
/// 5 s. A broker that was not reached is tried again in the background: see mq_subscription_failures.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_subscribe(
    client: *mut mq_client,
    topic: *const c_char,
    channel: *const c_char,
    options: *const mq_subscribe_options,
    subscription: *mut *mut mq_subscription,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let client = unsafe { handle(client, "client") }?;
        // SAFETY: the header's conventions.
        let (topic, channel) = unsafe { (text(topic, "topic")?, text(channel, "channel")?) };
        required(subscription, "subscription")?;
        // SAFETY: the header's conventions.
        let wanted = unsafe { boundary::options(options) }?;
        let (settings, max_batch) = wanted.read()?;
        let inner = client.inner.subscribe(topic, channel, settings);
        let inner = inner.map_err(|error| Failure::named(&error, topic, Some(channel)))?;
        let follow = |log: &Arc<Log>| log.follow_subscription(&inner, &client.waits);
        let feed = client.log.as_ref().map(follow).transpose()?;
        let callback = CallbackThread::start(&inner, max_batch, &wanted)?;
        let made = mq_subscription {
            inner,
            max_batch,
            msg_timeout: settings.msg_timeout,
            prefetch: OnceLock::new(),
            starting: Mutex::new(()),
            driver: Arc::clone(&client.waits),
            callback,
            feed,
            log: client.log.clone(),
            generation: Generation::now(),
        };
        // SAFETY: not NULL, and a place for a pointer.
        unsafe { put(subscription, give(made)) };
        Ok(())
    })
}

/// Waits up to timeout_ms for messages, for ever if negative, and gives those that are there then.
/// MQ_STATUS_TIMEOUT if none came; MQ_STATUS_CLOSED if the subscription is closed, or its channel deleted.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_subscription_next(
    subscription: *mut mq_subscription,
    timeout_ms: c_int,
    batch: *mut *mut mq_batch,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let subscription = unsafe { handle(subscription, "subscription") }?;
        required(batch, "batch")?;
        subscription.without_callback()?;
        let next = subscription.next(wait(timeout_ms))?;
        let next = next.ok_or_else(|| Failure::nothing(mq_status::Timeout))?;
        // SAFETY: not NULL, and a place for a pointer.
        unsafe { put(batch, give(mq_batch::new(next))) };
        Ok(())
    })
}

/// Gives messages that are there, without waiting. MQ_STATUS_EMPTY if there are none; else as
/// mq_subscription_next. From the first call on, the next batch is fetched before it is asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_subscription_poll(
    subscription: *mut mq_subscription,
    batch: *mut *mut mq_batch,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let subscription = unsafe { handle(subscription, "subscription") }?;
        required(batch, "batch")?;
        subscription.without_callback()?;
        let taken = subscription.prefetch()?.try_take();
        let next = taken.ok_or_else(|| Failure::nothing(mq_status::Empty))??;
        // SAFETY: not NULL, and a place for a pointer.
        unsafe { put(batch, give(mq_batch::new(next))) };
        Ok(())
    })
}

/// A descriptor for poll, epoll or any event loop, readable exactly while mq_subscription_poll would give
/// something other than MQ_STATUS_EMPTY. It is the library's to read and to close, and valid until the
/// subscription is freed. -1 on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_subscription_fd(subscription: *const mq_subscription) -> c_int {
    guard_or(-1, || {
        // SAFETY: the header's conventions.
        let subscription = unsafe { handle(subscription, "subscription") }?;
        subscription.without_callback()?;
        Ok(subscription.prefetch()?.fd())
    })
}

/// Waits up to timeout_ms, for ever if negative, until the answers given so far are in the log of their
/// broker; MQ_STATUS_TIMEOUT if that is not enough. MQ_STATUS_UNSUPPORTED of nsqd, which confirms nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_subscription_flush(
    subscription: *mut mq_subscription,
    timeout_ms: c_int,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let subscription = unsafe { handle(subscription, "subscription") }?;
        if !subscription.inner.flush(wait(timeout_ms))? {
            return Err(Error::Timeout("the answers are not in the broker's log yet".to_owned()).into());
        }
        Ok(())
    })
}

/// Ends a subscription: answers given before go out, and messages without one go back to the channel. Waits
/// for it up to timeout_ms, for ever if negative; MQ_STATUS_TIMEOUT if that is not enough.
/// MQ_STATUS_WOULD_DEADLOCK within a callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_subscription_close(
    subscription: *mut mq_subscription,
    timeout_ms: c_int,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let subscription = unsafe { handle(subscription, "subscription") }?;
        outside_callback("mq_subscription_close")?;
        if !subscription.inner.close(wait(timeout_ms)) {
            return Err(Error::Timeout("the subscription is not over yet".to_owned()).into());
        }
        Ok(())
    })
}

/// Frees a subscription, and ends it. NULL is nothing. Its callback is not called any more after this; one
/// that runs now is waited for. Within a callback it takes effect when the callback returns.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_subscription_free(subscription: *mut mq_subscription) {
    // SAFETY: the header's conventions.
    unsafe { boundary::free(subscription) };
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A setting that is not passed on has its default, which none of these is.
    #[test]
    fn every_setting_of_a_program_is_the_subscriptions() {
        // SAFETY: zeros are valid for options.
        let mut given: mq_subscribe_options = unsafe { std::mem::zeroed() };
        assert_eq!(given.read().unwrap(), (SubscribeOptions::default(), 200));
        given.max_in_flight = 50;
        assert_eq!(given.read().unwrap().1, 50);
        (given.max_batch, given.msg_timeout_ms, given.sample_rate, given.start_at) = (7, 1234, 5, 99);
        (given.max_message_bytes, given.max_in_flight_bytes) = (4096, 1 << 40);
        let starts = [Start::Waiting, Start::Earliest, Start::Latest, Start::Offset(99), Start::Time(99)];
        for (number, start) in (0..).zip(starts) {
            given.start = number;
            let msg_timeout = Duration::from_millis(1234);
            let wanted = SubscribeOptions {
                max_in_flight: 50,
                msg_timeout,
                sample_rate: 5,
                start,
                max_message_bytes: 4096,
                max_in_flight_bytes: 1 << 40,
            };
            assert_eq!(given.read().unwrap(), (wanted, 7));
        }
    }
}
