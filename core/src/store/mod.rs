//! The broker log: one sequence of files that holds everything that must survive.
//!
//! - [`disk`]: the files as the store sees them; [`real_disk`] is the system's, `crash_disk` the crash tests'
//! - [`frame`], [`event`]: the bytes of the log; `file`, `file_index`, `manifest`, `checkpoint`: those of its files
//! - `batch`: messages being encoded; `chunk`: memory for frames, `free` and `fresh`: used before, and from the system
//! - `log`, `writer`: positions, rounds of writes, fsync
//! - `trouble`: what keeps the log from its work; `reserve`, `healing`: how it gets over a full disk and a failed fsync
//! - `catalog`: which file holds what; `reader` reads it back; `cleaner` keeps only what is pending
//! - [`ids`]: publishers' ids of messages, in frames and in checkpoints
//! - `replay`, `recovery`, `missing`: from files back to topics and channels; `ahead` reads them on several threads
//! - `folder`, `survey` read a whole folder for [`inspect`] and [`repair`]; [`damage`] is what they find, `salvage` what they take out
//!   of damaged frames, `clean_file` where repairs put it

mod ahead;
pub(crate) mod batch;
pub(crate) mod catalog;
pub(crate) mod checkpoint;
pub(crate) mod chunk;
pub(crate) mod clean_file;
pub(crate) mod cleaner;
#[cfg(any(test, feature = "crash-disk"))]
pub mod crash_disk;
pub mod damage;
pub mod disk;
pub mod event;
pub(crate) mod file;
pub(crate) mod file_index;
pub(crate) mod folder;
pub mod frame;
mod free;
mod fresh;
pub(crate) mod healing;
pub mod ids;
pub mod inspect;
pub(crate) mod log;
pub(crate) mod manifest;
pub(crate) mod missing;
pub(crate) mod range_set;
pub(crate) mod reader;
pub mod real_disk;
pub(crate) mod recovery;
pub mod repair;
pub(crate) mod replay;
pub(crate) mod reserve;
pub(crate) mod salvage;
pub(crate) mod survey;
pub(crate) mod trouble;
pub(crate) mod writer;
