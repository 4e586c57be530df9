//! The thread that gives a subscription's batches to a callback.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use libmq::Subscription;

use crate::batch::mq_batch;
use crate::boundary::{UserData, call_back, give};
use crate::status::{Failure, Outcome, mq_status, note};
use crate::values::mq_subscribe_options;

/// The thread of one subscription.
pub(crate) struct CallbackThread {
    /// Set when there is to be no further call.
    is_silent: Arc<AtomicBool>,
    subscription: Subscription,
    thread: Option<JoinHandle<()>>,
}

impl CallbackThread {
    /// Starts the thread, if the options have a callback.
    pub(crate) fn start(
        subscription: &Subscription,
        max_batch: usize,
        options: &mq_subscribe_options,
    ) -> Outcome<Option<Self>> {
        let Some(callback) = options.on_batch else { return Ok(None) };
        let is_silent = Arc::new(AtomicBool::new(false));
        let (source, silent, data) =
            (subscription.clone(), Arc::clone(&is_silent), UserData(options.user_data));
        let run = move || {
            let data = data;
            // SAFETY: the user's function, called as the header says.
            let call = |status, batch| call_back(|| unsafe { callback(data.0, status, batch) });
            run(&source, max_batch, &silent, &call);
        };
        let started = std::thread::Builder::new().name("libmq-callback".to_owned()).spawn(run);
        let thread = Some(started.map_err(Failure::no_thread)?);
        Ok(Some(Self { is_silent, subscription: subscription.clone(), thread }))
    }
}

impl Drop for CallbackThread {
    fn drop(&mut self) {
        self.is_silent.store(true, Ordering::Release);
        self.subscription.close(Duration::ZERO);
        let Some(thread) = self.thread.take() else { return };
        // Freed in its own callback, it ends by itself.
        if thread.thread().id() != std::thread::current().id() {
            let _ = thread.join();
        }
    }
}

fn run(
    subscription: &Subscription,
    max_batch: usize,
    is_silent: &AtomicBool,
    call: &dyn Fn(mq_status, *mut mq_batch),
) {
    loop {
        let next = subscription.next_batch(max_batch, Duration::MAX);
        if is_silent.load(Ordering::Acquire) {
            return;
        }
        match next {
            Ok(batch) if batch.is_empty() => {}
            Ok(batch) => call(mq_status::Ok, give(mq_batch::new(batch))),
            Err(error) => {
                call(note(error.into()), ptr::null_mut());
                return;
            }
        }
    }
}
