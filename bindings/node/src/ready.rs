//! Tasks to poll, and the one way in which other threads reach JavaScript: a wake-up without a payload.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use libmq::sync::Mutex;
use napi::{check_status, sys};

/// The thread-safe function of an environment.
struct WakeFunction(sys::napi_threadsafe_function);

// SAFETY: Node allows calls of a thread-safe function from every thread; the lock around it in `ReadyQueue`
// keeps the environment from deleting it during one.
unsafe impl Send for WakeFunction {}

/// Tasks to poll. Any thread adds to them; JavaScript takes all of them at once.
pub(crate) struct ReadyQueue {
    tasks: Mutex<Vec<u32>>,
    /// Whether JavaScript has been woken since it took tasks last: one wake-up serves all that follow.
    is_woken: AtomicBool,
    /// `None` once the environment ends.
    function: Mutex<Option<WakeFunction>>,
}

impl ReadyQueue {
    /// A queue whose wake-ups call `on_wake`. It does not keep the process alive.
    pub(crate) fn new(env: sys::napi_env, on_wake: sys::napi_value) -> napi::Result<Arc<Self>> {
        let name = c"libmq";
        let mut resource = ptr::null_mut();
        // SAFETY: `env` is JavaScript's environment on its thread; the string is static, its length in bytes.
        let status = unsafe { sys::napi_create_string_utf8(env, name.as_ptr(), 5, &raw mut resource) };
        check_status!(status)?;
        let mut function = ptr::null_mut();
        // SAFETY: as above; without a payload and context there is nothing to free.
        let status = unsafe {
            sys::napi_create_threadsafe_function(
                env,
                on_wake,
                ptr::null_mut(),
                resource,
                0,
                1,
                ptr::null_mut(),
                None,
                ptr::null_mut(),
                Some(call),
                &raw mut function,
            )
        };
        check_status!(status)?;
        // SAFETY: on JavaScript's thread, with the function just made.
        check_status!(unsafe { sys::napi_unref_threadsafe_function(env, function) })?;
        Ok(Arc::new(Self {
            tasks: Mutex::default(),
            is_woken: AtomicBool::new(false),
            function: Mutex::new(Some(WakeFunction(function))),
        }))
    }

    /// Adds a task, and wakes JavaScript unless that is under way.
    pub(crate) fn push(&self, task: u32) {
        self.tasks.lock().push(task);
        self.wake();
    }

    /// Wakes JavaScript unless that is under way.
    pub(crate) fn wake(&self) {
        if self.is_woken.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(WakeFunction(function)) = &*self.function.lock() {
            // SAFETY: the environment ends only after `close`, which waits for the lock held here. A call
            // that is not blocking fails in no way that matters: its queue has no bound.
            unsafe {
                sys::napi_call_threadsafe_function(
                    *function,
                    ptr::null_mut(),
                    sys::ThreadsafeFunctionCallMode::nonblocking,
                )
            };
        }
    }

    /// Takes all tasks.
    pub(crate) fn take(&self) -> Vec<u32> {
        // First, so that a task that is added from now on wakes again.
        self.is_woken.store(false, Ordering::Release);
        std::mem::take(&mut *self.tasks.lock())
    }

    /// Keeps the process alive, or no longer. On JavaScript's thread.
    pub(crate) fn keep_alive(&self, env: sys::napi_env, alive: bool) -> napi::Result<()> {
        let function = self.function.lock();
        let Some(WakeFunction(function)) = &*function else { return Ok(()) };
        // SAFETY: on JavaScript's thread, before the environment's end, as the lock shows.
        check_status!(unsafe {
            if alive {
                sys::napi_ref_threadsafe_function(env, *function)
            } else {
                sys::napi_unref_threadsafe_function(env, *function)
            }
        })
    }

    /// Ends all wake-ups: when it returns, no thread is in a call of the function nor will be.
    pub(crate) fn close(&self) {
        *self.function.lock() = None;
    }
}

/// Calls JavaScript's function without arguments.
unsafe extern "C" fn call(
    env: sys::napi_env,
    function: sys::napi_value,
    _context: *mut std::ffi::c_void,
    _payload: *mut std::ffi::c_void,
) {
    // Null while the environment ends.
    if env.is_null() || function.is_null() {
        return;
    }
    let mut this = ptr::null_mut();
    // SAFETY: Node calls this on JavaScript's thread, with an open scope and the function given at first. An
    // exception in it stays pending, and Node reports it as an uncaught one.
    unsafe {
        if sys::napi_get_undefined(env, &raw mut this) == sys::Status::napi_ok {
            sys::napi_call_function(env, this, function, 0, ptr::null(), ptr::null_mut());
        }
    }
}

/// The waker of a task, once in the queue however often it is woken.
pub(crate) struct TaskWaker {
    queue: Arc<ReadyQueue>,
    task: u32,
    is_queued: AtomicBool,
}

impl TaskWaker {
    pub(crate) fn new(queue: &Arc<ReadyQueue>, task: u32) -> Arc<Self> {
        Arc::new(Self { queue: Arc::clone(queue), task, is_queued: AtomicBool::new(false) })
    }

    /// The waker for a poll that begins now: what wakes from now on queues the task again.
    pub(crate) fn arm(self: &Arc<Self>) -> Waker {
        self.is_queued.store(false, Ordering::Release);
        Waker::from(Arc::clone(self))
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_queued.swap(true, Ordering::AcqRel) {
            self.queue.push(self.task);
        }
    }
}
