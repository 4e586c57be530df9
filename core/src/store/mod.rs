//! The broker log: one sequence of files that holds everything that must survive.

#[cfg(any(test, feature = "crash-disk"))]
pub mod crash_disk;
pub mod disk;
pub mod real_disk;
