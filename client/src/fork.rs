//! Children of `fork`. A child inherits handles, locks and folder descriptors, but no thread: whatever it did
//! with them would hang, or write what the parent writes.
//!
//! [`OwnProcess`] holds what only the process that made it may use or drop. The counter behind it is raised
//! in the child itself, so that looking at it costs one load and no system call.
#![allow(unsafe_code, reason = "fork has no other interface")]

use std::mem::ManuallyDrop;
use std::os::fd::RawFd;
use std::sync::Once;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Data folders of one process whose locks a child closes. A child keeps the locks of further ones.
const LOCKS_MAX: usize = 256;
const NONE: RawFd = -1;

/// Forks between the first process and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);
/// Descriptors that hold the locks of data folders open here. Atomics, because the child's handler may take
/// no lock.
static LOCKS: [AtomicI32; 2 * LOCKS_MAX] = [const { AtomicI32::new(NONE) }; 2 * LOCKS_MAX];

/// The number of forks between the first process that used this crate and this one.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// The number of this process among those that came from each other by forks, which are counted from the
/// first call on: for handles of other languages' packages.
pub fn process_generation() -> u64 {
    watch();
    generation()
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    for lock in &LOCKS {
        let descriptor = lock.swap(NONE, Ordering::Relaxed);
        if descriptor != NONE {
            // SAFETY: close is async-signal-safe. The descriptor is this process's copy of one that the
            // broker owns; the broker is leaked here (`OwnProcess`), so nothing closes or uses it
            // later.
            unsafe { libc::close(descriptor) };
        }
    }
}

/// Begins to count forks.
fn watch() {
    static WATCH: Once = Once::new();
    WATCH.call_once(|| {
        // SAFETY: the handler touches only atomics and calls close, as a handler after fork may. The library
        // that holds it is never unloaded while a handle exists, and bindings are linked to stay loaded.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        // ENOMEM at the start of a process: children could not be distinguished then.
        assert_eq!(failed, 0, "no memory to watch for forks");
    });
}

/// Locks of a data folder that a child closes, until this is dropped.
#[cfg(feature = "embedded")]
#[derive(Debug)]
pub(crate) struct ChildCloses(Vec<usize>);

#[cfg(feature = "embedded")]
impl ChildCloses {
    pub(crate) fn new(descriptors: &[RawFd]) -> Self {
        watch();
        let free = |descriptor: &RawFd| {
            LOCKS.iter().position(|lock| {
                lock.compare_exchange(NONE, *descriptor, Ordering::Relaxed, Ordering::Relaxed).is_ok()
            })
        };
        Self(descriptors.iter().filter_map(free).collect())
    }
}

#[cfg(feature = "embedded")]
impl Drop for ChildCloses {
    fn drop(&mut self) {
        self.0.iter().for_each(|&at| LOCKS[at].store(NONE, Ordering::Relaxed));
    }
}

/// A value that belongs to the process that made it: a child of `fork` can't reach it, and leaks it.
#[derive(Debug)]
pub(crate) struct OwnProcess<T> {
    value: ManuallyDrop<T>,
    generation: u64,
}

impl<T> OwnProcess<T> {
    pub(crate) fn new(value: T) -> Self {
        watch();
        Self { value: ManuallyDrop::new(value), generation: generation() }
    }

    /// The value, unless this is a child of the process that made it.
    pub(crate) fn get(&self) -> Result<&T> {
        if self.generation == generation() { Ok(&self.value) } else { Err(Error::Forked) }
    }
}

impl<T: Clone> Clone for OwnProcess<T> {
    fn clone(&self) -> Self {
        // Cloning a handle counts a reference, which harms nobody in a child.
        Self { value: self.value.clone(), generation: self.generation }
    }
}

impl<T> Drop for OwnProcess<T> {
    fn drop(&mut self) {
        if self.generation == generation() {
            // SAFETY: the value is dropped nowhere else, and not used after this.
            unsafe { ManuallyDrop::drop(&mut self.value) };
        }
    }
}

/// A value made once in each process, and never freed. Without a lock: one that another thread held at the
/// fork would stay held in the child.
pub(crate) struct OncePerProcess<T: 'static>(AtomicPtr<(u64, T)>);

impl<T: Sync> OncePerProcess<T> {
    pub(crate) const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// The value of this process. Where two threads make one at once, one of the two goes on.
    pub(crate) fn get_or_try_init<E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&'static T, E> {
        watch();
        let current = generation();
        let seen = self.0.load(Ordering::Acquire);
        // SAFETY: the pointer is null or from `Box::into_raw` below, and what it points at is never freed
        // once it was stored, nor changed.
        if let Some((generation, value)) = unsafe { seen.as_ref() }
            && *generation == current
        {
            return Ok(value);
        }
        let made = Box::into_raw(Box::new((current, make()?)));
        let kept = match self.0.compare_exchange(seen, made, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            // The one made here stays unused: dropping a runtime is not allowed everywhere.
            Err(other) => other,
        };
        // SAFETY: as above; a value stored by another thread meanwhile is of this process too.
        Ok(unsafe { &(*kept).1 })
    }
}
