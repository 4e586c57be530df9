//! The broker log: one sequence of files that holds everything that must survive.

pub mod disk;
pub mod event;
pub mod frame;
