//! Answers, brokers and lookup servers that failed behind a subscription.

use libmq::Failure as Failed;

use crate::boundary::{self, Handle, give, guard, guard_or, handle, put, required};
use crate::fork::Generation;
use crate::status::{Failure, mq_status};
use crate::subscription::mq_subscription;
use crate::values::{mq_failure, mq_span};

/// Failures of a subscription.
pub struct mq_failures {
    all: Vec<(Failed, String)>,
    generation: Generation,
}

impl Handle for mq_failures {
    fn generation(&self) -> Generation {
        self.generation
    }
}

/// Takes the failures since they were taken last, the newest 1,000: answers that came too late, were lost
/// with their connection or asked for too long a delay, and servers that can't be reached.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_subscription_failures(
    subscription: *mut mq_subscription,
    failures: *mut *mut mq_failures,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let subscription = unsafe { handle(subscription, "subscription") }?;
        required(failures, "failures")?;
        let all = subscription.inner.failures().into_iter().map(|failure| {
            let reason = failure.error.to_string();
            (failure, reason)
        });
        let made = mq_failures { all: all.collect(), generation: Generation::now() };
        // SAFETY: not NULL, and a place for a pointer.
        unsafe { put(failures, give(made)) };
        Ok(())
    })
}

/// The number of failures; 0 of NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_failures_len(failures: *const mq_failures) -> usize {
    // SAFETY: the header's conventions.
    guard_or(0, || Ok(unsafe { handle(failures, "failures") }?.all.len()))
}

/// Writes the failure at i, from 0 on.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_failures_get(
    failures: *const mq_failures,
    i: usize,
    failure: *mut mq_failure,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let all = &unsafe { handle(failures, "failures") }?.all;
        required(failure, "failure")?;
        let none = || Failure::invalid(format!("there is no failure {i}, but {}", all.len()));
        let (failed, reason) = all.get(i).ok_or_else(none)?;
        let made = mq_failure {
            status: Failure::from(&failed.error).status,
            has_message: failed.message.is_some(),
            message_id: failed.message.map_or(0, |id| id.0),
            broker: mq_span::of(failed.broker.as_bytes()),
            reason: mq_span::of(reason.as_bytes()),
        };
        // SAFETY: not NULL, and a place for a failure.
        unsafe { put(failure, made) };
        Ok(())
    })
}

/// Frees failures. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_failures_free(failures: *mut mq_failures) {
    // SAFETY: the header's conventions.
    unsafe { boundary::free(failures) };
}
