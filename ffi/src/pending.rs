//! Publishes in the background, and the three ways to their outcome: a wait, a descriptor, a callback.

use std::ffi::{c_char, c_int, c_void};
use std::future::Future;
use std::pin::Pin;
use std::ptr;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};

use libmq::sync::Mutex;
use libmq::{Pending, PublishState, Stored};

use crate::boundary::{self, Handle, call_back, give, guard, guard_or, handle, put, text, wait};
use crate::client::{encode, mq_client, put_receipts};
use crate::driver::{Driver, Entry, Task};
use crate::fork::Generation;
use crate::readiness::Readiness;
use crate::status::{Failure, Outcome, mq_status, note};
use crate::values::{mq_publish_callback, mq_publish_options, mq_receipt, mq_span};

type Outcomes = libmq::Result<Stored>;

/// Stage of a publish.
#[repr(i32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum mq_publish_state {
    /// It waits in the client.
    Queued = 0,
    /// It was sent, and there is no answer yet.
    Sent = 1,
    /// It is stored.
    Stored = 2,
    /// It is stored, and was before.
    Duplicate = 3,
    /// It is not stored and will not be.
    Refused = 4,
    /// It was sent, and nobody knows whether it is stored.
    Unknown = 5,
    /// The handle is NULL or of before a fork.
    Invalid = 6,
}

/// Messages on their way. Freeing it changes nothing for them.
pub struct mq_pending {
    inner: Pending,
    /// There from the first use of the descriptor on.
    completion: OnceLock<Completion>,
    starting: Mutex<()>,
    driver: Arc<Driver>,
    generation: Generation,
}

impl Handle for mq_pending {
    fn generation(&self) -> Generation {
        self.generation
    }
}

/// The wait for an outcome on a driver, on behalf of a descriptor.
struct Completion {
    wait: Arc<Wait<Readiness>>,
    entry: Arc<Entry>,
}

impl Drop for mq_pending {
    fn drop(&mut self) {
        if let Some(completion) = self.completion.get() {
            // The wait has a waker, which has the wait.
            *completion.wait.future.lock() = None;
            completion.entry.end();
        }
    }
}

/// A wait for an outcome, and whom it is reported to.
struct Wait<T> {
    future: Mutex<Option<Pin<Box<dyn Future<Output = Outcomes> + Send>>>>,
    then: Mutex<T>,
    report: fn(&mut T, Outcomes),
}

impl<T: Send + 'static> Wait<T> {
    fn start(
        pending: &Pending,
        then: T,
        report: fn(&mut T, Outcomes),
        driver: &Driver,
    ) -> Outcome<(Arc<Self>, Arc<Entry>)> {
        let pending = pending.clone();
        let future = Box::pin(async move { pending.stored().await });
        let wait = Arc::new(Self { future: Mutex::new(Some(future)), then: Mutex::new(then), report });
        let entry = driver.spawn(Arc::<Self>::clone(&wait))?;
        Ok((wait, entry))
    }
}

impl<T: Send> Task for Wait<T> {
    fn run(&self, waker: &Waker) -> bool {
        let mut waiting = self.future.lock();
        let Some(future) = &mut *waiting else { return true };
        let Poll::Ready(outcomes) = future.as_mut().poll(&mut Context::from_waker(waker)) else {
            return false;
        };
        *waiting = None;
        drop(waiting);
        (self.report)(&mut self.then.lock(), outcomes);
        true
    }
}

/// A user's function and its pointer.
struct Callback(unsafe extern "C" fn(*mut c_void, mq_status, *const mq_receipt, usize), *mut c_void);

// SAFETY: the library does nothing with the pointer; the header says on which thread the callback gets it.
unsafe impl Send for Callback {}

impl Callback {
    fn call(&mut self, outcomes: Outcomes) {
        let (status, receipts) = match outcomes {
            Ok(stored) => (mq_status::Ok, stored.places().map(mq_receipt::from).collect()),
            Err(error) => (note(error.into()), Vec::new()),
        };
        let first = if receipts.is_empty() { ptr::null() } else { receipts.as_ptr() };
        // SAFETY: the user's function, called as the header says.
        call_back(|| unsafe { (self.0)(self.1, status, first, receipts.len()) });
    }
}

impl mq_pending {
    fn fd(&self) -> Outcome<c_int> {
        let starting = self.starting.lock();
        if self.completion.get().is_none() {
            let readiness = Readiness::new().map_err(|error| Failure {
                retry: true,
                ..Failure::new(mq_status::Refused, format!("the system gives no descriptor: {error}"))
            })?;
            let report = |readiness: &mut Readiness, _: Outcomes| readiness.set(true);
            let (wait, entry) = Wait::start(&self.inner, readiness, report, &self.driver)?;
            self.completion.get_or_init(|| Completion { wait, entry });
        }
        drop(starting);
        let completion = self.completion.get().ok_or_else(|| Failure::invalid("no descriptor"))?;
        Ok(completion.wait.then.lock().fd())
    }
}

/// Publishes n messages as one batch in the background, and returns once they are queued: nothing says yet
/// that they are stored. They wait for a broker as long as none is reached. MQ_STATUS_BUFFER_FULL if too much
/// waits already.
///
/// The outcome is in *pending, unless pending is NULL, and is passed to callback, once, unless callback is
/// NULL: that may be before the function returns, and after the client is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_publish_async(
    client: *mut mq_client,
    topic: *const c_char,
    bodies: *const mq_span,
    n: usize,
    options: *const mq_publish_options,
    callback: mq_publish_callback,
    user_data: *mut c_void,
    pending: *mut *mut mq_pending,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let (client, topic) = unsafe { (handle(client, "client")?, text(topic, "topic")?) };
        // SAFETY: the header's conventions.
        let given = unsafe { boundary::options(options) }?;
        if given.timeout_ms != 0 {
            let what =
                "timeout_ms is for mq_publish: mq_pending_wait has the time of a publish in the background";
            return Err(Failure::invalid(what));
        }
        // SAFETY: the header's conventions.
        let messages = unsafe { encode(bodies, n, &given) }?;
        let sent = client.inner.send_encoded(topic, Ok(messages));
        let inner = sent.map_err(|error| Failure::named(&error, topic, None))?;
        if let Some(callback) = callback {
            let callback = Callback(callback, user_data);
            Wait::start(&inner, callback, Callback::call, &client.outcomes)?;
        }
        if !pending.is_null() {
            let made = mq_pending {
                inner,
                completion: OnceLock::new(),
                starting: Mutex::new(()),
                driver: Arc::clone(&client.outcomes),
                generation: Generation::now(),
            };
            // SAFETY: not NULL, and a place for a pointer.
            unsafe { put(pending, give(made)) };
        }
        Ok(())
    })
}

/// The stage of messages on their way.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_pending_state(pending: *const mq_pending) -> mq_publish_state {
    guard_or(mq_publish_state::Invalid, || {
        // SAFETY: the header's conventions.
        let state = unsafe { handle(pending, "pending") }?.inner.state();
        Ok(match state {
            PublishState::Queued => mq_publish_state::Queued,
            PublishState::Sent => mq_publish_state::Sent,
            PublishState::Stored => mq_publish_state::Stored,
            PublishState::Duplicate => mq_publish_state::Duplicate,
            PublishState::Refused => mq_publish_state::Refused,
            PublishState::Unknown => mq_publish_state::Unknown,
        })
    })
}

/// Waits up to timeout_ms for the outcome, for ever if negative. Writes a receipt for each message, unless
/// receipts is NULL. MQ_STATUS_TIMEOUT if there is no outcome yet; else what keeps the messages from being
/// stored.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_pending_wait(
    pending: *const mq_pending,
    timeout_ms: c_int,
    receipts: *mut mq_receipt,
) -> mq_status {
    guard(|| {
        // SAFETY: the header's conventions.
        let pending = unsafe { handle(pending, "pending") }?;
        let stored = pending.inner.wait_stored(wait(timeout_ms))?;
        // SAFETY: the header's conventions.
        unsafe { put_receipts(receipts, &stored) };
        Ok(())
    })
}

/// A descriptor for poll, epoll or any event loop, readable once there is an outcome. It is the library's to
/// read and to close, and valid until the pending publish is freed. -1 on failure.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_pending_fd(pending: *const mq_pending) -> c_int {
    // SAFETY: the header's conventions.
    guard_or(-1, || unsafe { handle(pending, "pending") }?.fd())
}

/// Frees the handle of messages on their way, which go on. NULL is nothing.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mq_pending_free(pending: *mut mq_pending) {
    // SAFETY: the header's conventions.
    unsafe { boundary::free(pending) };
}
