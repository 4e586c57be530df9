//! Waits of event loops. An [`Operation`] is a future of the crate. The loop's thread polls it, and nothing
//! else does; the library's threads only note that it may go on, and make a descriptor readable that the loop
//! watches. So no thread of the library takes the GIL, and what an operation gives is taken by the coroutine
//! that waits for it, or by nobody.

use std::future::Future;
use std::os::fd::{AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use libmq::Result;
use libmq::sync::Mutex;
use pyo3::exceptions::{PyOSError, PyRuntimeError};
use pyo3::prelude::*;
use pyo3::types::PyInt;
#[cfg(target_os = "linux")]
use rustix::event::{EventfdFlags, eventfd};

use crate::errors::Raise;
use crate::log::Log;
use crate::message::{Batch, Message};
use crate::publish::receipts;

/// Operations of one event loop that may go on, and the descriptor that says so.
#[pyclass(module = "libmq", frozen)]
pub(crate) struct Wakeups {
    inner: Arc<Inner>,
}

struct Inner {
    descriptor: OwnedFd,
    /// The other end, where there are no eventfds.
    #[cfg(not(target_os = "linux"))]
    write: OwnedFd,
    /// Keys of the operations. The descriptor is readable while there are any.
    keys: Mutex<Vec<u64>>,
}

impl Inner {
    #[cfg(target_os = "linux")]
    fn new() -> std::io::Result<Self> {
        let descriptor = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { descriptor, keys: Mutex::default() })
    }

    #[cfg(not(target_os = "linux"))]
    fn new() -> std::io::Result<Self> {
        let (read, write) = std::os::unix::net::UnixStream::pair()?;
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Self { descriptor: read.into(), write: write.into(), keys: Mutex::default() })
    }

    fn wake(&self, key: u64) {
        let mut keys = self.keys.lock();
        keys.push(key);
        if keys.len() == 1 {
            // An eventfd takes a number of 8 bytes, here one that is the same in every byte order. This can't
            // fail for want of room: what was written before is read first.
            let _ = rustix::io::write(self.writer(), &[1; 8]);
        }
    }

    fn writer(&self) -> &OwnedFd {
        #[cfg(target_os = "linux")]
        return &self.descriptor;
        #[cfg(not(target_os = "linux"))]
        return &self.write;
    }
}

#[pymethods]
impl Wakeups {
    #[new]
    fn new() -> PyResult<Self> {
        let inner = Inner::new();
        let inner = inner.map_err(|error| PyOSError::new_err((error.raw_os_error(), error.to_string())))?;
        Ok(Self { inner: Arc::new(inner) })
    }

    fn fileno(&self) -> i32 {
        self.inner.descriptor.as_raw_fd()
    }

    /// The keys of the operations that may go on, each at least once.
    fn take(&self) -> Vec<u64> {
        let mut keys = self.inner.keys.lock();
        if !keys.is_empty() {
            let mut count = [0; 8];
            // It is readable: see above.
            let _ = rustix::io::read(&self.inner.descriptor, &mut count);
        }
        std::mem::take(&mut keys)
    }
}

struct Waiting {
    inner: Arc<Inner>,
    key: u64,
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.inner.wake(self.key);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.inner.wake(self.key);
    }
}

/// The value that an operation ends with.
pub(crate) enum Outcome {
    /// Whether they are many.
    Receipts(libmq::Stored, bool),
    Message(libmq::Message),
    Batch(libmq::Batch),
    Done,
}

type Running = Pin<Box<dyn Future<Output = Result<Outcome>> + Send>>;

/// A call that an event loop waits for.
#[pyclass(module = "libmq", frozen)]
pub(crate) struct Operation {
    /// `None` once it is over.
    running: Mutex<Option<Running>>,
    /// Whether the time for it is over.
    is_late: Arc<AtomicBool>,
    /// The client's.
    log: Arc<Log>,
}

impl Operation {
    pub(crate) fn new<F>(log: &Arc<Log>, future: F) -> Self
    where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        Self::with_end(log, |_| future)
    }

    /// The same with a future that is ready once the time is over: the loop polls then.
    pub(crate) fn with_end<F>(log: &Arc<Log>, start: impl FnOnce(End) -> F) -> Self
    where
        F: Future<Output = Result<Outcome>> + Send + 'static,
    {
        let is_late = Arc::new(AtomicBool::new(false));
        let running = Mutex::new(Some(Box::pin(start(End(Arc::clone(&is_late)))) as Running));
        Self { running, is_late, log: Arc::clone(log) }
    }
}

/// The end of the time for an operation.
pub(crate) struct End(Arc<AtomicBool>);

impl Future for End {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.load(Ordering::Relaxed) { Poll::Ready(()) } else { Poll::Pending }
    }
}

#[pymethods]
impl Operation {
    /// Goes on. Returns the outcome, or None if it has to wait: then `wakeups` has `key` later.
    fn poll<'py>(&self, py: Python<'py>, wakeups: &Wakeups, key: u64) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.log.emit(py);
        let mut slot = self.running.lock();
        let Some(running) = &mut *slot else {
            return Err(PyRuntimeError::new_err("the operation is over"));
        };
        let waker = Waker::from(Arc::new(Waiting { inner: Arc::clone(&wakeups.inner), key }));
        let Poll::Ready(result) = running.as_mut().poll(&mut Context::from_waker(&waker)) else {
            return Ok(None);
        };
        *slot = None;
        drop(slot);
        Ok(Some(match result.or_raise(py)? {
            Outcome::Receipts(stored, are_many) => receipts(py, &stored, are_many)?,
            Outcome::Message(message) => Bound::new(py, Message::new(message))?.into_any(),
            Outcome::Batch(batch) => Bound::new(py, Batch::new(batch))?.into_any(),
            Outcome::Done => PyInt::new(py, 0).into_any(),
        }))
    }

    /// Notes that the time for it is over: the next poll gives its outcome.
    fn end(&self) {
        self.is_late.store(true, Ordering::Relaxed);
    }

    /// Gives it up: a publish that was not sent is withdrawn.
    fn cancel(&self) {
        *self.running.lock() = None;
    }
}
