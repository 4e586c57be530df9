//! Locks, atomics and threads: the standard library's, or loom's, which tries the orders in which threads can
//! run (`cargo xtask soak loom`).

#[cfg(not(mq_loom))]
pub(crate) use {
    libmq::sync::{Condvar, Mutex},
    std::sync::atomic::{AtomicBool, Ordering},
    std::thread,
};

#[cfg(mq_loom)]
pub(crate) use {
    loom::sync::atomic::{AtomicBool, Ordering},
    loom::thread,
    modelled::{Condvar, Mutex},
};

/// Loom's locks with the functions of `libmq::sync`.
#[cfg(mq_loom)]
mod modelled {
    use loom::sync::{self, MutexGuard};

    pub(crate) struct Mutex<T>(sync::Mutex<T>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            self.0.lock().expect("loom stops at a panic")
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().expect("loom stops at a panic")
        }
    }

    impl<T: Default> Default for Mutex<T> {
        fn default() -> Self {
            Self::new(T::default())
        }
    }

    pub(crate) struct Condvar(sync::Condvar);

    impl Condvar {
        pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
            self.0.wait(guard).expect("loom stops at a panic")
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }
    }

    impl Default for Condvar {
        fn default() -> Self {
            Self(sync::Condvar::new())
        }
    }
}
